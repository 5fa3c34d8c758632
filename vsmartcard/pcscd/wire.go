package pcscd

import (
	"bytes"
	"encoding/binary"
)

// The protocol version spoken, and the oldest and newest minor of it.
const (
	versionMajor = 4
	minorOldest  = 4 // reader states as one table of 16
	minorEvents  = 5 // + commandReaderEvents
	minorNewest  = 6 // + a table of any size, fetched apart from the registration
)

// Command codes, in the header before every request (PCSC-12).
const (
	commandEstablish     = 0x01
	commandRelease       = 0x02
	commandConnect       = 0x04
	commandReconnect     = 0x05
	commandDisconnect    = 0x06
	commandBegin         = 0x07
	commandEnd           = 0x08
	commandTransmit      = 0x09
	commandControl       = 0x0A
	commandStatus        = 0x0B
	commandCancel        = 0x0D
	commandAttribGet     = 0x0F
	commandAttribSet     = 0x10
	commandVersion       = 0x11
	commandReaders       = 0x12
	commandWait          = 0x13
	commandStopWaiting   = 0x14
	commandReaderEvents  = 0x15
	commandReadersLength = 0x16
	commandReadersArray  = 0x17
)

// Offsets and sizes of the structures (PCSC-13). The same structure is the
// request and, with its results filled in, the reply. The last field of all
// but two is the return code.
const (
	headerSize = 8 // size of the structure, command

	versionMajorAt, versionMinorAt, versionCodeAt, versionSize    = 0, 4, 8, 12
	establishScopeAt, establishContextAt, establishCodeAt         = 0, 4, 8
	establishSize, scopeMax                                       = 12, 3
	releaseContextAt, releaseCodeAt, releaseSize                  = 0, 4, 8
	connectContextAt, connectReaderAt, connectShareAt             = 0, 4, 132
	connectProtocolsAt, connectHandleAt, connectActiveAt          = 136, 140, 144
	connectCodeAt, connectSize                                    = 148, 152
	reconnectHandleAt, reconnectShareAt, reconnectProtocolsAt     = 0, 4, 8
	reconnectInitAt, reconnectActiveAt, reconnectCodeAt           = 12, 16, 20
	reconnectSize                                                 = 24
	disconnectHandleAt, disconnectHowAt, disconnectCodeAt         = 0, 4, 8
	disconnectSize                                                = 12
	beginHandleAt, beginCodeAt, beginSize                         = 0, 4, 8
	endHandleAt, endHowAt, endCodeAt, endSize                     = 0, 4, 8, 12
	cancelContextAt, cancelCodeAt, cancelSize                     = 0, 4, 8
	statusHandleAt, statusCodeAt, statusSize                      = 0, 4, 8
	transmitHandleAt, transmitSendProtocolAt, transmitSendPCIAt   = 0, 4, 8
	transmitSendLengthAt, transmitReceiveProtocolAt               = 12, 16
	transmitReceivePCIAt, transmitReceiveLengthAt, transmitCodeAt = 20, 24, 28
	transmitSize                                                  = 32
	controlHandleAt, controlFunctionAt, controlSendLengthAt       = 0, 4, 8
	controlReceiveLengthAt, controlReturnedAt, controlCodeAt      = 12, 16, 20
	controlSize                                                   = 24
	attribHandleAt, attribTagAt, attribValueAt, attribLengthAt    = 0, 4, 8, 272
	attribCodeAt, attribSize, attribMax                           = 276, 280, 264
	waitCodeAt, waitSize                                          = 4, 8
	readerEventsAt, readerEventsCodeAt, readerEventsSize          = 0, 4, 8
	readersLengthSize                                             = 4
	stateNameAt, stateEventsAt, stateStateAt, stateSharingAt      = 0, 128, 132, 136
	stateATRAt, stateATRLengthAt, stateProtocolAt, stateSize      = 140, 176, 180, 184
	atrMax, nameMax, tableLength                                  = 33, 127, 16
	payloadMax                                                    = 4 + 3 + 1<<16 + 3 + 2 // of transmit and control
)

// structure is the body of a request or reply. The numbers in it are those of
// the machine, because both ends run on the same one.
type structure []byte

func (s structure) number(at int) uint32 { return binary.NativeEndian.Uint32(s[at:]) }

func (s structure) set(at int, n uint32) { binary.NativeEndian.PutUint32(s[at:], n) }

// text returns the zero-terminated string in the size bytes at at.
func (s structure) text(at, size int) string {
	field := s[at : at+size]
	if i := bytes.IndexByte(field, 0); i >= 0 {
		field = field[:i]
	}
	return string(field)
}

// ReaderState is one reader as the daemon's clients see it.
type ReaderState struct {
	// Name is the reader's name, up to 127 bytes.
	Name string
	// Events counts insertions and removals of cards, modulo 65536.
	Events uint32
	// State says whether there is a card and what it is up to.
	State State
	// Sharing is the number of handles, or -1 for an exclusive one.
	Sharing int32
	// ATR is the answer to reset of the card, nil if there is none.
	ATR []byte
	// Protocol is the one that was chosen for the card, or 0.
	Protocol Protocol
}

// put writes the reader into 184 bytes of zeros.
func (r ReaderState) put(b structure) {
	copy(b[stateNameAt:stateNameAt+nameMax], r.Name)
	b.set(stateEventsAt, r.Events)
	b.set(stateStateAt, uint32(r.State))
	b.set(stateSharingAt, uint32(r.Sharing))
	b.set(stateATRLengthAt, uint32(copy(b[stateATRAt:stateATRAt+atrMax], r.ATR)))
	b.set(stateProtocolAt, uint32(r.Protocol))
}

// readerState reads what put writes; a free place has no name.
func readerState(b structure) ReaderState {
	r := ReaderState{
		Name:     b.text(stateNameAt, nameMax+1),
		Events:   b.number(stateEventsAt),
		State:    State(b.number(stateStateAt)),
		Sharing:  int32(b.number(stateSharingAt)),
		Protocol: Protocol(b.number(stateProtocolAt)),
	}
	if n := min(int(b.number(stateATRLengthAt)), atrMax); n > 0 {
		r.ATR = bytes.Clone(b[stateATRAt : stateATRAt+n])
	}
	return r
}

// table writes readers into the fixed number of places that clients know.
func table(readers []ReaderState) structure {
	b := make(structure, tableLength*stateSize)
	for i, r := range readers {
		r.put(b[i*stateSize : (i+1)*stateSize])
	}
	return b
}

// readersOf reads a table and leaves out the free places.
func readersOf(b structure) []ReaderState {
	var readers []ReaderState
	for ; len(b) >= stateSize; b = b[stateSize:] {
		if r := readerState(b[:stateSize]); r.Name != "" {
			readers = append(readers, r)
		}
	}
	return readers
}
