package cvc

import (
	"fmt"

	"hsmemu/applet/tlv"
)

// RequestBody is what a certification request states.
type RequestBody struct {
	// CAR names the authority that is asked, empty if none is named.
	CAR Name
	// Key is the key to be certified, with domain parameters.
	Key PublicKey
	// CHR names the key.
	CHR Name
	// Extensions come last and may be absent.
	Extensions Extensions
}

// Request is a certification request 7F21, signed by the key it is for.
type Request struct {
	RequestBody
	// Raw is the whole object, Body the part that is signed (7F4E).
	Raw, Body []byte
	Signature []byte
}

// Sign makes the request; sign must use the private key of b.Key, whose scheme
// it is given. Names are taken as they are, because a device certifies what
// its user calls a key; only CHR must not be empty.
func (b RequestBody) Sign(sign Signer) (Request, error) {
	if b.CHR == "" {
		return Request{}, fmt.Errorf("%w: no holder", ErrName)
	}
	v, err := appendHead(nil, b.CAR, b.Key, b.CHR)
	if err != nil {
		return Request{}, err
	}
	r := Request{RequestBody: b, Body: tlv.Append(nil, tagBody, appendExtensions(v, b.Extensions))}
	if r.Signature, err = sign(b.Key.Scheme, r.Body); err != nil {
		return Request{}, err
	}
	r.Raw = tlv.Append(nil, tagCertificate, r.Body, tlv.Append(nil, tagSignature, r.Signature))
	return r, nil
}

// ParseRequest reads a request with or without its 7F21 header. Bytes behind
// the object are ignored if the header is there. The result shares no memory
// with b.
func ParseRequest(b []byte) (Request, error) {
	c, raw, err := open(b, tagCertificate, tagBody, tagSignature)
	if err != nil {
		return Request{}, err
	}
	l, err := c[0].Children()
	if err != nil {
		return Request{}, fmt.Errorf("%w: %w", ErrStructure, err)
	}
	s := sequence{l}
	r := Request{Raw: raw, Body: c[0].Raw, Signature: c[1].Value}
	if r.RequestBody, err = s.head(); err != nil {
		return Request{}, err
	}
	if r.Extensions, err = s.extensions(); err != nil {
		return Request{}, err
	}
	return r, s.end()
}

// Verify checks that the request is signed by its own key: ErrSignature, or
// ErrKey if the key cannot be used.
func (r Request) Verify() error { return r.Key.Verify(r.Body, r.Signature) }

// Authenticated is a request 67 countersigned by another key, usually that of
// the device which generated the requested one: an attestation of the key.
type Authenticated struct {
	Request Request
	// CAR is the outer reference, the name of the countersigning key.
	CAR Name
	// Raw is the whole object.
	Raw       []byte
	Signature []byte
}

// Countersign makes an authenticated request. by names the signing key, s is
// its scheme.
func (r Request) Countersign(by Name, s Scheme, sign Signer) (Authenticated, error) {
	if by == "" {
		return Authenticated{}, fmt.Errorf("%w: no outer reference", ErrName)
	}
	a := Authenticated{Request: r, CAR: by}
	signed := a.signed()
	var err error
	if a.Signature, err = sign(s, signed); err != nil {
		return Authenticated{}, err
	}
	a.Raw = tlv.Append(nil, tagAuthenticated, signed, tlv.Append(nil, tagSignature, a.Signature))
	return a, nil
}

// signed is what the outer signature covers: 7F21 and 42, not the header 67.
func (a Authenticated) signed() []byte {
	return tlv.Append(append([]byte(nil), a.Request.Raw...), tagCAR, []byte(a.CAR))
}

// ParseAuthenticated reads an authenticated request with or without its 67
// header. Bytes behind the object are ignored if the header is there. The
// result shares no memory with b.
func ParseAuthenticated(b []byte) (Authenticated, error) {
	c, raw, err := open(b, tagAuthenticated, tagCertificate, tagCAR, tagSignature)
	if err != nil {
		return Authenticated{}, err
	}
	a := Authenticated{Raw: raw, Signature: c[2].Value}
	if a.CAR, err = parseName(c[1].Value); err != nil {
		return Authenticated{}, err
	}
	a.Request, err = ParseRequest(c[0].Raw)
	return a, err
}

// VerifyOuter checks the countersignature, and only that: ErrSignature, or
// ErrKey if the key cannot be used.
func (a Authenticated) VerifyOuter(by PublicKey) error {
	return by.Verify(a.signed(), a.Signature)
}
