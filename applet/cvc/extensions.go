package cvc

import (
	"bytes"

	"hsmemu/applet/tlv"
)

// Extensions is the value of the extensions object 65: a sequence of 73 with
// an object identifier and context-specific values. nil means the object is
// absent; empty but not nil means it is present and empty, which real issuer
// certificates have.
type Extensions []byte

// KeyDomainUID is the content of the object identifier
// 1.3.6.1.4.1.24991.3.2.2: a request with this extension is for an exchange
// key of the key domain whose identifier it carries.
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
		c, err := n.Children()
		if err == nil && len(c) > 0 && c[0].Tag == tagOID && string(c[0].Value) == oid {
			return c[1:], true
		}
	}
	return nil, false
}

func appendExtensions(dst []byte, e Extensions) []byte {
	if e == nil {
		return dst
	}
	return tlv.Append(dst, tagExtensions, e)
}
