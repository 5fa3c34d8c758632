package keystore

import (
	"encoding/asn1"
	"fmt"
)

// KeyFile is a wrapped key file (".wrap", ".wky"): a key blob and what
// sc-hsm-tool or the Key Manager stored beside it.
type KeyFile struct {
	Blob        []byte // for Domain.Unwrap
	Description []byte // PKCS #15 private key description, complete TLV; nil if absent
	Certificate []byte // certificate or certificate request, complete TLV; nil if absent
}

// ParseKeyFile reads the DER form of a wrapped key file, SEQUENCE { OCTET
// STRING blob, description, certificate }, the last two as they are and
// optional from the end. Blob and TLVs are not looked into. ParseKeyFile
// returns ErrKeyFile for anything else.
func ParseKeyFile(file []byte) (KeyFile, error) {
	outer, rest, err := cutTLV(file)
	if err != nil {
		return KeyFile{}, err
	}
	if len(rest) != 0 || outer.Class != asn1.ClassUniversal || outer.Tag != asn1.TagSequence || !outer.IsCompound {
		return KeyFile{}, fmt.Errorf("%w: not one sequence", ErrKeyFile)
	}
	blob, rest, err := cutTLV(outer.Bytes)
	if err != nil {
		return KeyFile{}, err
	}
	if blob.Class != asn1.ClassUniversal || blob.Tag != asn1.TagOctetString || blob.IsCompound {
		return KeyFile{}, fmt.Errorf("%w: no key blob", ErrKeyFile)
	}
	f := KeyFile{Blob: blob.Bytes}
	for _, into := range []*[]byte{&f.Description, &f.Certificate} {
		if len(rest) == 0 {
			return f, nil
		}
		var part asn1.RawValue
		if part, rest, err = cutTLV(rest); err != nil {
			return KeyFile{}, err
		}
		*into = part.FullBytes
	}
	if len(rest) != 0 {
		return KeyFile{}, fmt.Errorf("%w: something after the certificate", ErrKeyFile)
	}
	return f, nil
}

func cutTLV(b []byte) (v asn1.RawValue, rest []byte, err error) {
	if rest, err = asn1.Unmarshal(b, &v); err != nil {
		return v, nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	return v, rest, nil
}
