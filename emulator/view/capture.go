package view

import (
	"encoding/binary"
	"encoding/hex"
	"slices"
)

// CaptureStart is the beginning of a capture file in the form pcapng
// (draft-ietf-opsawg-pcapng): a section and one interface of link type USER0,
// whose packets have times in nanoseconds. What is in a packet, [Event.Packet] says.
func CaptureStart() []byte {
	const (
		section, description = 0x0A0D0D0A, 1
		byteOrder            = 0x1A2B3C4D
		user0                = 147
		timeResolution       = 9 // option, and its value 10⁻⁹ s
	)
	b := block(section, slices.Concat(words(byteOrder, 1 /* version 1.0 */), []byte{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}))
	return append(b, block(description, slices.Concat(words(user0, 0 /* no limit */), option(timeResolution, []byte{timeResolution}), option(0, nil)))...)
}

// packetKinds are the numbers of kinds in packets; 0 is one without a number.
var packetKinds = map[Kind]byte{Command: 1, Reset: 2, Eject: 3, Insert: 4, Restore: 5, FaultSet: 6, Struck: 7, CutShort: 8}

// Packet is the event as a block of a capture file, with its words as a comment.
// The packet has 16 bytes, numbers with the most significant byte first: version 1,
// kind, CLA INS P1 P2, status word, length of the command's data, and length of
// the answer's. It has no data, PINs and keys among them. What there is not is 0.
func (e Event) Packet() []byte {
	p := []byte{1, packetKinds[e.Kind]}
	for _, part := range []struct {
		digits *string
		length int
	}{{e.Header, 4}, {e.SW, 2}} {
		b, _ := hex.DecodeString(known(part.digits)) // our own writing
		p = append(p, append(b, make([]byte, part.length)...)[:part.length]...)
	}
	p = binary.BigEndian.AppendUint32(p, uint32(e.Sent))
	p = binary.BigEndian.AppendUint32(p, uint32(e.Received))
	const enhanced, comment = 6, 1
	at := uint64(e.At.UnixNano())
	n := uint32(len(p))
	return block(enhanced, slices.Concat(words(0, uint32(at>>32), uint32(at), n, n), p, option(comment, []byte(e.String())), option(0, nil)))
}

func words(all ...uint32) (b []byte) {
	for _, w := range all {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	return b
}

// padded is bytes up to the next multiple of four.
func padded(b []byte) []byte { return append(b, make([]byte, -len(b)&3)...) }

func option(code uint16, value []byte) []byte {
	b := binary.LittleEndian.AppendUint16(nil, code)
	return padded(append(binary.LittleEndian.AppendUint16(b, uint16(len(value))), value...))
}

func block(kind uint32, body []byte) []byte {
	const around = 12 // kind, and the length twice
	n := uint32(len(body) + around)
	return slices.Concat(words(kind, n), body, words(n))
}
