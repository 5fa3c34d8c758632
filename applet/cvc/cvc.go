// Package cvc reads, makes and verifies card verifiable certificates and
// certification requests (BSI TR-03110 part 3, appendix C), as SmartCard-HSM
// devices use them for their identity and to attest the keys they generate.
//
// It verifies signatures, names, roles and the chain to a root. It does not
// decide whom to trust (the caller brings Roots), does not refuse expired
// certificates, and holds no private keys except those of the emulator's own
// issuers, which are public on purpose (see EmulatorIssuer).
//
//	a, err := cvc.Attest(request, deviceFile, cvc.KnownRoots())
//	if err != nil {
//		return err // says which signature, name or role is wrong
//	}
//	fmt.Println(a.Origin(), a.Request.Key)
package cvc

import (
	"errors"
	"fmt"
	"slices"

	"hsmemu/applet/tlv"
)

// Errors of reading and making.
var (
	// ErrStructure says that bytes are not the object they should be.
	ErrStructure = errors.New("malformed object")
	// ErrName says that a reference is missing, or that one to be certified
	// breaks the naming rules (see Name.Valid).
	ErrName = errors.New("invalid reference")
	// ErrDate says that a date is not six digits of a day of 2000 to 2099.
	ErrDate = errors.New("invalid date")
	// ErrScheme says that an algorithm identifier is none of TR-03110's.
	ErrScheme = errors.New("unknown signature algorithm")
	// ErrKey says that a public key is incomplete, contradicts its algorithm,
	// is not on its curve, or has no domain parameters when it needs them.
	ErrKey = errors.New("unusable public key")
	// ErrExtension says that extensions cannot be read, or that one of them is
	// stated twice.
	ErrExtension = errors.New("invalid extensions")
)

// Errors of verification. Each names one thing that can be wrong with an
// attestation; the first five concern the device's chain.
var (
	// ErrUnknownRoot says that the issuer names a root nobody handed in.
	ErrUnknownRoot = errors.New("unknown root")
	// ErrRootSignature says that a root's signature over itself is wrong.
	ErrRootSignature = errors.New("root certificate has a wrong signature")
	// ErrIssuerSignature says that the root did not sign the issuer.
	ErrIssuerSignature = errors.New("issuer certificate has a wrong signature")
	// ErrIssuerReference says that the device names another issuer.
	ErrIssuerReference = errors.New("device certificate names another issuer")
	// ErrDeviceSignature says that the issuer did not sign the device.
	ErrDeviceSignature = errors.New("device certificate has a wrong signature")
	// ErrRole says that a certificate does not have the role of its place.
	ErrRole = errors.New("certificate has a wrong role")
	// ErrOuterReference says that a request names another device.
	ErrOuterReference = errors.New("request was authenticated by another device")
	// ErrOuterSignature says that the device did not sign the request.
	ErrOuterSignature = errors.New("request has a wrong outer signature")
	// ErrInnerSignature says that the requested key did not sign.
	ErrInnerSignature = errors.New("request has a wrong inner signature")
	// ErrSignature is what a single verification returns; the errors above
	// wrap nothing and replace it where the place is known.
	ErrSignature = errors.New("wrong signature")
)

// Tags of TR-03110 part 3, table 19 and following (CVC-1).
const (
	tagAuthenticated = tlv.Tag(0x67)
	tagCertificate   = tlv.Tag(0x7F21)
	tagBody          = tlv.Tag(0x7F4E)
	tagProfile       = tlv.Tag(0x5F29)
	tagCAR           = tlv.Tag(0x42)
	tagKey           = tlv.Tag(0x7F49)
	tagCHR           = tlv.Tag(0x5F20)
	tagAuthorization = tlv.Tag(0x7F4C)
	tagEffective     = tlv.Tag(0x5F25)
	tagExpires       = tlv.Tag(0x5F24)
	tagExtensions    = tlv.Tag(0x65)
	tagExtension     = tlv.Tag(0x73)
	tagSignature     = tlv.Tag(0x5F37)
	tagOID           = tlv.Tag(0x06)
	tagDiscretionary = tlv.Tag(0x53)
)

// open reads an object that may come with its outer header or as the bare
// value, and returns its children, which must be exactly those wanted, and the
// object with its header. With a header, bytes behind the object are ignored,
// as every reader of card files does (CVC-3).
func open(b []byte, outer tlv.Tag, want ...tlv.Tag) (children tlv.List, raw []byte, err error) {
	b = slices.Clone(b)
	first, _, err := tlv.Next(b)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrStructure, err)
	}
	raw = first.Raw
	if first.Tag != outer {
		raw = tlv.Append(nil, outer, b)
		if first, _, err = tlv.Next(raw); err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrStructure, err)
		}
	}
	children, err = first.Children()
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrStructure, err)
	}
	if len(children) != len(want) {
		return nil, nil, fmt.Errorf("%w: %d objects in %s", ErrStructure, len(children), outer)
	}
	for i, t := range want {
		if children[i].Tag != t {
			return nil, nil, fmt.Errorf("%w: %s where %s belongs", ErrStructure, children[i].Tag, t)
		}
	}
	return children, raw, nil
}

// sequence takes objects from a body, whose order is fixed.
type sequence struct{ rest tlv.List }

func (s *sequence) optional(t tlv.Tag) ([]byte, bool) {
	if len(s.rest) == 0 || s.rest[0].Tag != t {
		return nil, false
	}
	v := s.rest[0].Value
	s.rest = s.rest[1:]
	return v, true
}

func (s *sequence) mandatory(t tlv.Tag) ([]byte, error) {
	v, ok := s.optional(t)
	if !ok {
		return nil, fmt.Errorf("%w: %s missing", ErrStructure, t)
	}
	return v, nil
}

// extensions reads those of a certificate or request, nil where there are none.
func (s *sequence) extensions() (Extensions, error) {
	e, ok := s.optional(tagExtensions)
	if !ok {
		return nil, nil
	}
	_, err := Extensions(e).once()
	return Extensions(e), err
}

func (s *sequence) end() error {
	if len(s.rest) != 0 {
		return fmt.Errorf("%w: unexpected %s", ErrStructure, s.rest[0].Tag)
	}
	return nil
}

// head reads what certificates and requests have in common, up to the
// reference of the holder.
func (s *sequence) head() (b RequestBody, err error) {
	profile, err := s.mandatory(tagProfile)
	if err != nil {
		return b, err
	}
	if !slices.Equal(profile, []byte{0}) {
		return b, fmt.Errorf("%w: unknown profile", ErrStructure)
	}
	if car, ok := s.optional(tagCAR); ok {
		if b.CAR, err = parseName(car); err != nil {
			return b, err
		}
	}
	key, err := s.mandatory(tagKey)
	if err != nil {
		return b, err
	}
	if b.Key, err = parseKey(key); err != nil {
		return b, err
	}
	chr, err := s.mandatory(tagCHR)
	if err != nil {
		return b, err
	}
	b.CHR, err = parseName(chr)
	return b, err
}

// appendHead is the inverse of head.
func appendHead(dst []byte, car Name, k PublicKey, chr Name) ([]byte, error) {
	key, err := k.Bytes()
	if err != nil {
		return nil, err
	}
	dst = tlv.Append(dst, tagProfile, []byte{0})
	if car != "" {
		dst = tlv.Append(dst, tagCAR, []byte(car))
	}
	dst = append(dst, key...)
	return tlv.Append(dst, tagCHR, []byte(chr)), nil
}
