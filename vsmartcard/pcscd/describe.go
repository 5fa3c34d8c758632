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
}

// NitrokeyHSM describes the reader in a Nitrokey HSM whose token has this serial
// number, such as DENK01234560000. The index tells readers of one daemon apart,
// from 0.
func NitrokeyHSM(serial string, index int) Description {
	// pcsc-lite puts the serial number of USB into the name; the token's has
	// 24 characters (spec 08 C7).
	return Description{
		Name:       fmt.Sprintf("Nitrokey Nitrokey HSM (%-24s) %02X 00", serial, index),
		Vendor:     "Nitrokey",
		Serial:     serial,
		Version:    0x01000000,
		USBVendor:  0x20A0,
		USBProduct: 0x4230,
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
	propertyMaxAPDU      = 0x0A
	propertyUSBVendor    = 0x0B
	propertyUSBProduct   = 0x0C
)

// control answers what PC/SC part 10 has for readers without a keypad. A
// keypad must not be announced, because clients would wait for it.
func (h *handle) control(function uint32) ([]byte, Code) {
	r := h.reader
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		return nil, ErrReaderUnavailable
	case r.foreign(h):
		return nil, ErrSharingViolation
	}
	switch function {
	case ControlFeatures:
		return binary.BigEndian.AppendUint32([]byte{featureTLVProperties, 4}, ControlProperties), OK
	case ControlProperties:
		b := binary.LittleEndian.AppendUint32([]byte{propertyMaxAPDU, 4}, r.about.maxAPDU())
		if r.about.USBVendor != 0 {
			b = binary.LittleEndian.AppendUint16(append(b, propertyUSBVendor, 2), r.about.USBVendor)
			b = binary.LittleEndian.AppendUint16(append(b, propertyUSBProduct, 2), r.about.USBProduct)
		}
		return b, OK
	}
	return nil, ErrUnsupportedFeature
}

// attrib returns an attribute. Texts end in a zero byte.
func (h *handle) attrib(tag uint32) ([]byte, Code) {
	r := h.reader
	r.mu.Lock()
	defer r.mu.Unlock()
	if code := r.check(h); code != OK {
		return nil, code
	}
	var text string
	switch tag {
	case AttribATR:
		if r.state.ATR == nil {
			return nil, ErrNoSmartcard
		}
		return r.state.ATR, OK
	case AttribChannel:
		// 0x20 is USB (PC/SC part 3, §3.1.3); the place stands for the device.
		return number(0x20<<16 | uint32(r.place+1)), OK
	case AttribMaxInput:
		return number(r.about.maxAPDU()), OK
	case AttribVersion:
		if r.about.Version == 0 {
			return nil, ErrUnsupportedFeature
		}
		return number(r.about.Version), OK
	case AttribFriendlyName, AttribSystemName:
		text = r.about.Name
	case AttribVendorName:
		text = r.about.Vendor
	case AttribSerial:
		text = r.about.Serial
	}
	if text == "" {
		return nil, ErrUnsupportedFeature
	}
	return append([]byte(text), 0), OK
}

func number(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }
