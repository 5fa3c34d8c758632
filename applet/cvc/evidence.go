package cvc

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"unicode"

	"hsmemu/applet/tlv"
)

// Errors of those who take evidence from a card.
var (
	// ErrNoRequest says that there is nothing to judge about a key: its request is in
	// EF CExx from generation until a certificate replaces it.
	ErrNoRequest = errors.New("there is no request for it")
	// ErrOtherKey says that the request in a key's place is for another key.
	ErrOtherKey = errors.New("the request is for another key than this one")
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

// Add takes up what a file holds, in binary or in hexadecimal digits: certificates,
// a request, or a file for public key authentication, one behind the other. Error:
// ErrStructure.
func (e *Evidence) Add(file []byte) error {
	data := binary(file)
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

// Judged is evidence that holds: the chain of the device and, where there was a request,
// the key that this is about.
type Judged struct {
	Verified
	// Request is nil where the chain alone was judged.
	Request *Authenticated
}

// Proven is in one line what the evidence proves.
func (j Judged) Proven() string {
	if j.Request == nil {
		return fmt.Sprintf("device %s is certified under %s", j.Device.CHR.Holder(), j.Root.CHR)
	}
	return fmt.Sprintf("key %s was generated in device %s, certified under %s", j.Request.Request.CHR, j.Device.CHR.Holder(), j.Root.CHR)
}

// String is the chain, with the key above it if there is one.
func (j Judged) String() string {
	if j.Request == nil {
		return j.Verified.String()
	}
	return Attestation{j.Verified, *j.Request}.String()
}

// Judge verifies the request of the evidence, as [Attest] does, or the chain alone
// where there is none. Errors: those of Attest.
func (e Evidence) Judge(roots Roots) (Judged, error) {
	if e.Request != nil {
		a, err := Attest(e.Request, e.Chain, roots)
		if err != nil {
			return Judged{}, fmt.Errorf("verify the attestation: %w", err)
		}
		return Judged{a.Verified, &a.Request}, nil
	}
	c, err := ParseChain(e.Chain)
	if err != nil {
		return Judged{}, fmt.Errorf("read the certificates: %w", err)
	}
	v, err := c.Verify(roots)
	if err != nil {
		return Judged{}, fmt.Errorf("verify the chain: %w", err)
	}
	return Judged{Verified: v}, nil
}

// binary is a file as bytes: what hexadecimal digits with white space between them
// stand for, or the file as it is.
func binary(file []byte) []byte {
	digits := bytes.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, file)
	if decoded, err := hex.DecodeString(string(digits)); err == nil && len(decoded) > 0 {
		return decoded
	}
	return file
}
