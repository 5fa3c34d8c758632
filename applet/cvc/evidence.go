package cvc

import (
	"fmt"

	"hsmemu/applet/tlv"
)

// Evidence is what a device hands out about a key, as it comes together from
// files: the content of EF.C_DevAut, and the authenticated request for the key
// where there is one. It is what [Attest] and [Chain.Verify] judge.
type Evidence struct {
	Chain   []byte
	Request []byte
}

// HoldsRequest reports whether data begin as an authenticated request does, with
// the tag 67, which no other content of EF CExx begins with.
func HoldsRequest(data []byte) bool {
	return len(data) > 0 && tlv.Tag(data[0]) == tagAuthenticated
}

// Add takes up what data hold: certificates, a request, or a file for public key
// authentication, one behind the other. Error: ErrStructure.
func (e *Evidence) Add(data []byte) error {
	for len(data) > 0 {
		n, rest, err := tlv.Next(data)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrStructure, err)
		}
		switch second := e.Request != nil; {
		case second && n.Tag != tagCertificate, n.Tag == tagSequence && e.Chain != nil:
			return fmt.Errorf("%w: more than one key to judge", ErrStructure)
		case n.Tag == tagCertificate:
			e.Chain = append(e.Chain, n.Raw...)
		case n.Tag == tagAuthenticated:
			e.Request = n.Raw
		case n.Tag == tagSequence:
			f, err := ParsePKAFile(n.Raw)
			if err != nil {
				return err
			}
			e.Chain, e.Request = f.Chain.Bytes(), f.Request.Raw
		default:
			return fmt.Errorf("%w: object %s is neither a certificate nor a request", ErrStructure, n.Tag)
		}
		data = rest
	}
	return nil
}
