package vsmartcard

import (
	"encoding/binary"
	"io"
)

// A frame is a length word, 16 bits big-endian, and as many bytes. The reader
// sends a control byte or a command APDU, the card an ATR or a response APDU
// (PCSC-1).
const (
	lengthSize = 2
	frameMax   = 1<<16 - 1
)

// Control bytes: the payload of a frame of one byte.
const (
	controlOff   = 0x00
	controlOn    = 0x01
	controlReset = 0x02
	controlATR   = 0x04
)

// muteATR is what a mute card shows to the driver. The driver needs an answer
// to see that a card is there at all and has no word for a mute one; an
// answer one byte longer than any ATR can be makes it report a card that is
// present and cannot be powered.
var muteATR = make([]byte, 34)

// frames takes frames from a stream however they are cut into pieces.
type frames struct {
	from io.Reader
	// acknowledge is called whenever the other side may be holding back bytes
	// until it knows that the ones before have arrived (PCSC-5).
	acknowledge func()

	buf  []byte
	r, w int
}

// next returns the payload of the next frame, valid until the call after it.
// It returns [io.EOF] at the end between two frames and
// [io.ErrUnexpectedEOF] inside one.
func (f *frames) next() ([]byte, error) {
	for {
		need := lengthSize
		if f.w-f.r >= lengthSize {
			need += int(binary.BigEndian.Uint16(f.buf[f.r:]))
			if f.w-f.r >= need {
				payload := f.buf[f.r+lengthSize : f.r+need]
				f.r += need
				return payload, nil
			}
			f.acknowledge()
		}
		if err := f.fill(need); err != nil {
			return nil, err
		}
	}
}

// fill reads once, after making room for a frame of need bytes.
func (f *frames) fill(need int) error {
	if f.r > 0 {
		f.w = copy(f.buf, f.buf[f.r:f.w])
		f.r = 0
	}
	if need > len(f.buf) {
		grown := make([]byte, max(need, 512))
		copy(grown, f.buf[:f.w])
		f.buf = grown
	}
	n, err := f.from.Read(f.buf[f.w:])
	f.w += n
	if n > 0 {
		return nil
	}
	if err == io.EOF && f.w > 0 {
		return io.ErrUnexpectedEOF
	}
	return err
}

// frame puts the length word before payload. Length and payload go out in one
// write, for two of them would wait for each other (PCSC-5).
func frame(payload []byte) []byte {
	b := make([]byte, lengthSize, lengthSize+len(payload))
	binary.BigEndian.PutUint16(b, uint16(len(payload)))
	return append(b, payload...)
}
