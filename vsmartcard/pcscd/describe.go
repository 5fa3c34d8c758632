package pcscd

import (
	"encoding/binary"
	"fmt"
)

// Description is what a reader tells of itself. Only the name is required;
// what else is zero, clients are told is not supported.
type Description struct {
	// Name is the reader's name, 1 to 127 bytes, of its own in its server.
	Name string
	// Vendor is the manufacturer ([AttribVendorName]).
	Vendor string
	// Serial is the serial number ([AttribSerial]).
	Serial string
	// Version is the version, 0xMMmmbbbb for major, minor and build
	// ([AttribVersion]).
	Version uint32
	// USBVendor and USBProduct are the numbers by which USB knows it.
	USBVendor, USBProduct uint16
	// MaxAPDU is how many bytes of data an APDU may carry. Zero stands for
	// 65536; OpenSC uses extended APDUs from 257 on.
	MaxAPDU uint32
	// MaxInput is how many bytes of a command one message to the reader carries
	// ([AttribMaxInput]).
	MaxInput uint32
	// NoRaw says that commands go to the card by T=0 or T=1 only.
	NoRaw bool
}

// NitrokeyHSM describes the reader in a Nitrokey HSM whose token has this serial
// number, such as DENK01234560000. The index tells readers of one daemon apart,
// from 0.
//
// The numbers are those of the token's USB descriptors (readers/Nitrokey_HSM.txt
// of the CCID project), as the CCID driver passes them on to clients.
func NitrokeyHSM(serial string, index int) Description {
	// pcsc-lite puts the serial number of USB into the name; the token's has
	// 24 characters (PCSC-26).
	serial = fmt.Sprintf("%-24s", serial)
	return Description{
		Name:       fmt.Sprintf("Nitrokey Nitrokey HSM (%s) %02X 00", serial, index),
		Vendor:     "Nitrokey",
		Serial:     serial,
		Version:    0x01000000, // bcdDevice 1.00
		USBVendor:  0x20A0,
		USBProduct: 0x4230,
		MaxInput:   271 - 10, // dwMaxCCIDMessageLength without the header
		NoRaw:      true,     // TPDU level, of which the driver knows T=0 and T=1
	}
}

func (d Description) maxAPDU() uint32 {
	if d.MaxAPDU == 0 {
		return 1 << 16
	}
	return d.MaxAPDU
}

// Tags of PC/SC part 10 (version 2.02.09, §2.2 and §2.6.14).
const (
	featureTLVProperties = 0x12
	propertyLCDLayout    = 0x01
	propertyTimeOut2     = 0x03
	propertyPPDU         = 0x09
	propertyMaxAPDU      = 0x0A
	propertyUSBVendor    = 0x0B
	propertyUSBProduct   = 0x0C
)

// control answers what the CCID driver does for a reader without keypad and
// display. A keypad must not be announced, because clients would wait for it.
func (h *handle) control(function uint32) ([]byte, Code) {
	r := h.reader
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		return nil, ErrInvalidValue
	case r.foreign(h):
		return nil, ErrSharingViolation
	}
	switch function {
	case ControlFeatures, controlFeaturesWindows:
		return binary.BigEndian.AppendUint32([]byte{featureTLVProperties, 4}, ControlProperties), OK
	case ControlProperties:
		return r.about.properties(), OK
	case controlPIN:
		// Not announced, but answered: no display, any end of entry, one time-out.
		return []byte{0, 0, 0x07, 0}, OK
	case controlEscape, controlMCT:
		return nil, ErrNotTransacted // the driver does not let them pass
	}
	return nil, ErrUnsupportedFeature
}

// properties lists the properties in the driver's order.
func (d Description) properties() []byte {
	b := []byte{
		propertyLCDLayout, 2, 0, 0,
		propertyTimeOut2, 1, 0,
		propertyPPDU, 1, 0,
	}
	if d.USBVendor != 0 {
		b = binary.LittleEndian.AppendUint16(append(b, propertyUSBVendor, 2), d.USBVendor)
		b = binary.LittleEndian.AppendUint16(append(b, propertyUSBProduct, 2), d.USBProduct)
	}
	return binary.LittleEndian.AppendUint32(append(b, propertyMaxAPDU, 4), d.maxAPDU())
}

// attrib returns an attribute as the CCID driver does. Texts end in a zero byte.
// Two of the driver's own are left out: they are addresses in the daemon.
func (h *handle) attrib(tag uint32) ([]byte, Code) {
	r := h.reader
	r.mu.Lock()
	defer r.mu.Unlock()
	if code := r.check(h); code != OK {
		return nil, code
	}
	d := r.about
	switch tag {
	case AttribATR, driverATR:
		if r.in == nil || !r.in.powered || r.state.State&StatePowered == 0 {
			return nil, OK // the driver forgets it with the power
		}
		return r.state.ATR, OK
	case AttribPresence:
		return r.ifPresent(2), OK
	case AttribInterfaceStatus:
		return r.ifPresent(1), OK
	case AttribChannel:
		// 0x20 is USB (PC/SC part 3, §3.1.3), then come bus and device; the bus
		// itself is its device 1.
		return number(0x20<<16 | 1<<8 | uint32(r.place+2)), OK
	case AttribMaxInput:
		return numberIf(d.MaxInput)
	case AttribVersion:
		return numberIf(d.Version)
	case AttribFriendlyName, AttribSystemName:
		return text(d.Name)
	case AttribVendorName:
		return text(d.Vendor)
	case AttribSerial:
		return text(d.Serial)
	case driverSlotThreads:
		return []byte{0}, OK
	case driverThreads, driverSlots:
		return []byte{1}, OK
	case driverReaders:
		return []byte{ReadersMax}, OK
	case driverPollingKillable:
		return nil, OK
	}
	return nil, ErrUnsupportedFeature
}

// ifPresent is n while there is a card, with power or without.
func (r *Reader) ifPresent(n byte) []byte {
	if !r.present() {
		n = 0
	}
	return []byte{n}
}

func number(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }

// numberIf is a number that is told of, unless it is zero.
func numberIf(n uint32) ([]byte, Code) {
	if n == 0 {
		return nil, ErrUnsupportedFeature
	}
	return number(n), OK
}

// text is a text that is told of, unless it is empty.
func text(s string) ([]byte, Code) {
	if s == "" {
		return nil, ErrUnsupportedFeature
	}
	return append([]byte(s), 0), OK
}
