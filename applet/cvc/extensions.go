package cvc

import (
	"bytes"
	"fmt"

	"hsmemu/applet/tlv"
)

// Extensions is the value of the extensions object 65: a sequence of 73 with
// an object identifier and context-specific values. nil means the object is
// absent; empty but not nil means it is present and empty, which real issuer
// certificates have.
type Extensions []byte

// KeyDomainUID is the content of the object identifier
// 1.3.6.1.4.1.24991.3.2.2: a request with this extension is for an exchange
// key of the key domain whose identifier it carries. It is a statement of the
// device: whoever countersigns for a client must not take it from there.
const KeyDomainUID = "\x2B\x06\x01\x04\x01\x81\xC3\x1F\x03\x02\x02"

// With returns the extensions and one more behind them: values get the tags
// 80, 81 and so on. oid is the content of an object identifier.
func (e Extensions) With(oid string, values ...[]byte) Extensions {
	v := tlv.Append(nil, tagOID, []byte(oid))
	for i, x := range values {
		v = tlv.Append(v, 0x80+tlv.Tag(i), x)
	}
	return tlv.Append(bytes.Clone(e), tagExtension, v)
}

// Find returns the values of the first extension with the object identifier,
// without the identifier itself.
func (e Extensions) Find(oid string) (tlv.List, bool) {
	l, err := tlv.Parse(e)
	if err != nil {
		return nil, false
	}
	for _, n := range l {
		if stated, ok := identifier(n); ok && stated == oid {
			c, _ := n.Children()
			return c[1:], true
		}
	}
	return nil, false
}

// Check refuses, with ErrExtension, what a device must not vouch for because
// two readers could see different things in it: anything but templates 73 that
// begin with an object identifier in its only encoding (X.690 §8.19.2), and an
// identifier that is stated twice.
func (e Extensions) Check() error {
	l, err := e.once()
	if err != nil {
		return err
	}
	for _, n := range l {
		if oid, ok := identifier(n); n.Tag != tagExtension || !ok || !minimal(oid) {
			return fmt.Errorf("%w: %s is none", ErrExtension, n.Tag)
		}
	}
	return nil
}

// once reads the elements and refuses an identifier that is stated twice, of
// which every reader might take another one.
func (e Extensions) once() (tlv.List, error) {
	l, err := tlv.Parse(e)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrExtension, err)
	}
	stated := map[string]bool{}
	for _, n := range l {
		oid, ok := identifier(n)
		if ok && stated[oid] {
			return nil, fmt.Errorf("%w: %X stated twice", ErrExtension, oid)
		}
		stated[oid] = ok
	}
	return l, nil
}

// identifier is the object identifier that an element begins with.
func identifier(n tlv.Node) (string, bool) {
	c, err := n.Children()
	if err != nil || len(c) == 0 || c[0].Tag != tagOID {
		return "", false
	}
	return string(c[0].Value), true
}

// minimal reports whether an object identifier is whole and none of its
// numbers begins with a zero digit, 80.
func minimal(oid string) bool {
	first := true
	for i := range len(oid) {
		if first && oid[i] == 0x80 {
			return false
		}
		first = oid[i] < 0x80
	}
	return first && oid != ""
}

func appendExtensions(dst []byte, e Extensions) []byte {
	if e == nil {
		return dst
	}
	return tlv.Append(dst, tagExtensions, e)
}
