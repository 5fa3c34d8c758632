package pcscd

import "fmt"

// Code is a return code of the PC/SC API, and an error unless it is [OK].
type Code uint32

// The return codes in use (pcsclite.h).
const (
	OK                    Code = 0
	ErrInternal           Code = 0x80100001
	ErrCancelled          Code = 0x80100002
	ErrInvalidHandle      Code = 0x80100003
	ErrInvalidParameter   Code = 0x80100004
	ErrNoMemory           Code = 0x80100006
	ErrInsufficientBuffer Code = 0x80100008
	ErrUnknownReader      Code = 0x80100009
	ErrTimeout            Code = 0x8010000A
	ErrSharingViolation   Code = 0x8010000B
	ErrNoSmartcard        Code = 0x8010000C
	ErrProtocolMismatch   Code = 0x8010000F
	ErrInvalidValue       Code = 0x80100011
	ErrComm               Code = 0x80100013
	ErrNotTransacted      Code = 0x80100016
	ErrReaderUnavailable  Code = 0x80100017
	ErrNoService          Code = 0x8010001D
	ErrServiceStopped     Code = 0x8010001E
	ErrUnsupportedFeature Code = 0x8010001F
	ErrNoReaders          Code = 0x8010002E
	ErrUnresponsive       Code = 0x80100066
	ErrUnpowered          Code = 0x80100067
	ErrReset              Code = 0x80100068
	ErrRemoved            Code = 0x80100069
	ErrSecurityViolation  Code = 0x8010006A
)

// Error says the code in words.
func (c Code) Error() string {
	if s := c.words(); s != "" {
		return s
	}
	return fmt.Sprintf("return code %08X", uint32(c))
}

func (c Code) words() string {
	switch c {
	case OK:
		return "no error"
	case ErrInternal:
		return "too many handles on the reader"
	case ErrCancelled:
		return "cancelled"
	case ErrInvalidHandle:
		return "invalid handle"
	case ErrInvalidParameter:
		return "invalid parameter"
	case ErrNoMemory:
		return "too many handles"
	case ErrInsufficientBuffer:
		return "answer longer than the room for it"
	case ErrUnknownReader:
		return "unknown reader"
	case ErrTimeout:
		return "time is up"
	case ErrSharingViolation:
		return "another client holds the card"
	case ErrNoSmartcard:
		return "no card in the reader"
	case ErrProtocolMismatch:
		return "protocol not available"
	case ErrInvalidValue:
		return "invalid value"
	case ErrComm:
		return "communication with the card failed"
	case ErrNotTransacted:
		return "command not carried out"
	case ErrReaderUnavailable:
		return "reader not available"
	case ErrNoService:
		return "no daemon"
	case ErrServiceStopped:
		return "daemon refuses this protocol version"
	case ErrUnsupportedFeature:
		return "not supported"
	case ErrNoReaders:
		return "no reader"
	case ErrUnresponsive:
		return "card does not answer"
	case ErrUnpowered:
		return "card has no power"
	case ErrReset:
		return "card was reset"
	case ErrRemoved:
		return "card was removed"
	case ErrSecurityViolation:
		return "access denied"
	}
	return ""
}

// State is a set of properties of a reader.
type State uint32

// The properties of a reader that occur.
const (
	StateUnknown    State = 0x01
	StateAbsent     State = 0x02
	StatePresent    State = 0x04
	StateMute       State = 0x08 // a card that gave no ATR
	StatePowered    State = 0x10
	StateNegotiable State = 0x20
)

// Share says who else may use a card at the same time.
type Share uint32

// The ways to share a card.
const (
	Exclusive Share = 1
	Shared    Share = 2
	Direct    Share = 3 // the reader rather than the card, which may be missing
)

// Protocol is a set of transmission protocols (ISO 7816-3), or one of them.
type Protocol uint32

// The transmission protocols.
const (
	T0  Protocol = 1
	T1  Protocol = 2
	Raw Protocol = 4

	anyOld Protocol = 0x1000 // what early clients mean by "any"
)

// Disposition says what becomes of a card when a client leaves it or takes it
// up again.
type Disposition uint32

// The dispositions.
const (
	Leave   Disposition = 0
	Reset   Disposition = 1
	Unpower Disposition = 2
	Eject   Disposition = 3
)

// Control functions and attributes that are answered (PC/SC part 10, reader.h
// and ifdhandler.h of pcsc-lite).
const (
	ControlFeatures   uint32 = 0x42000D48 // which features the reader has
	ControlProperties uint32 = 0x42330012 // its properties, a list of tag, length, value

	controlFeaturesWindows uint32 = 0x00313520 // ControlFeatures as Windows numbers it
	controlEscape          uint32 = 0x42000001
	controlMCT             uint32 = 0x42330008
	controlPIN             uint32 = 0x4233000A // what its keypad is like

	AttribVendorName      uint32 = 0x00010100
	AttribVersion         uint32 = 0x00010102
	AttribSerial          uint32 = 0x00010103
	AttribChannel         uint32 = 0x00020110
	AttribPresence        uint32 = 0x00090300 // 2 with a card, else 0
	AttribInterfaceStatus uint32 = 0x00090301 // 1 with a card, else 0
	AttribATR             uint32 = 0x00090303
	AttribMaxInput        uint32 = 0x0007A007
	AttribFriendlyName    uint32 = 0x7FFF0003
	AttribSystemName      uint32 = 0x7FFF0004

	// What the daemon asks its driver; clients can, too.
	driverATR             uint32 = 0x0303
	driverSlotThreads     uint32 = 0x0FAC // whether slots can be used at the same time
	driverThreads         uint32 = 0x0FAD // and readers
	driverSlots           uint32 = 0x0FAE
	driverReaders         uint32 = 0x0FAF
	driverPollingKillable uint32 = 0x0FB1
)
