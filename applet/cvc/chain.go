package cvc

import (
	"errors"
	"fmt"
	"time"

	"hsmemu/applet/tlv"
)

// Chain is the content of EF.C_DevAut (2F02): the certificate of a device and
// that of its issuer. The root is not part of it.
type Chain struct{ Device, Issuer Certificate }

// ParseChain reads the two certificates, device first. Bytes behind the second
// are ignored. Devices with a single certificate, as made before applet
// version 0.17, are refused with ErrStructure.
func ParseChain(ef []byte) (Chain, error) {
	var c Chain
	for _, part := range []struct {
		name string
		into *Certificate
	}{{"device certificate", &c.Device}, {"issuer certificate", &c.Issuer}} {
		n, rest, err := tlv.Next(ef)
		if err != nil {
			return Chain{}, fmt.Errorf("%s: %w: %w", part.name, ErrStructure, err)
		}
		if *part.into, err = ParseCertificate(n.Raw); err != nil {
			return Chain{}, fmt.Errorf("%s: %w", part.name, err)
		}
		ef = rest
	}
	return c, nil
}

// Bytes is the content of EF.C_DevAut.
func (c Chain) Bytes() []byte {
	return append(append([]byte(nil), c.Device.Raw...), c.Issuer.Raw...)
}

// Verified is a chain whose every signature holds, and the root it ends in.
type Verified struct {
	Chain
	Root Certificate
}

// Verify checks the chain up to one of the roots: names, signatures and roles.
// Dates are not judged, because devices outlive their certificates and no
// reader of the vendor refuses them; ask Outside.
//
// The error is one of the ErrX of this package and says what is wrong:
// ErrUnknownRoot, ErrRootSignature, ErrIssuerSignature, ErrIssuerReference,
// ErrDeviceSignature, ErrRole, or ErrKey for a key that cannot verify.
func (c Chain) Verify(roots Roots) (Verified, error) {
	root, err := roots.issuerOf(c.Issuer)
	if err != nil {
		return Verified{}, err
	}
	if c.Device.CAR != c.Issuer.CHR {
		return Verified{}, fmt.Errorf("%w: %s instead of %s", ErrIssuerReference, c.Device.CAR, c.Issuer.CHR)
	}
	v := Verified{Chain: c, Root: root}
	if err := blame(c.Device.Verify(v.issuerKey()), ErrDeviceSignature); err != nil {
		return Verified{}, err
	}
	for _, place := range []struct {
		c    Certificate
		want Role
	}{{root, RoleRoot}, {c.Issuer, RoleIssuer}, {c.Device, RoleDevice}} {
		if got := place.c.Authorization.Role(); got != place.want {
			return Verified{}, fmt.Errorf("%w: %s is %s, not %s", ErrRole, place.c.CHR, got, place.want)
		}
	}
	return v, nil
}

// blame replaces ErrSignature by the sentinel that says whose it is.
func blame(err, whose error) error {
	if errors.Is(err, ErrSignature) {
		return whose
	}
	return err
}

func (v Verified) issuerKey() PublicKey { return v.Issuer.Key.Inherit(v.Root.Key) }

// DeviceKey is the device authentication key with its domain parameters.
func (v Verified) DeviceKey() PublicKey { return v.Device.Key.Inherit(v.issuerKey()) }

// Path names the device within its PKI: the holders of root, issuer and
// device, each behind a slash, as in /DESRCACC1/DEDINK04/DENK0404144.
func (v Verified) Path() string {
	return "/" + v.Root.CHR.Holder() + "/" + v.Issuer.CHR.Holder() + "/" + v.Device.CHR.Holder()
}

// Outside returns the certificates that are not valid on the calendar day of
// t, root first; none if all are valid.
func (v Verified) Outside(t time.Time) []Certificate {
	var out []Certificate
	for _, c := range []Certificate{v.Root, v.Issuer, v.Device} {
		if !c.ValidOn(t) {
			out = append(out, c)
		}
	}
	return out
}

// Roots is a set of trusted root certificates. Two may have the same name.
type Roots []Certificate

// ParseRoots reads a concatenation of certificates.
func ParseRoots(file []byte) (Roots, error) {
	var r Roots
	for b := binary(file); len(b) > 0; {
		n, rest, err := tlv.Next(b)
		if err != nil {
			return nil, fmt.Errorf("root: %w: %w", ErrStructure, err)
		}
		c, err := ParseCertificate(n.Raw)
		if err != nil {
			return nil, fmt.Errorf("root: %w", err)
		}
		r, b = append(r, c), rest
	}
	return r, nil
}

// issuerOf finds the root that the certificate names and that signed it.
func (r Roots) issuerOf(c Certificate) (Certificate, error) {
	err := fmt.Errorf("%w: %s", ErrUnknownRoot, c.CAR)
	for _, root := range r {
		if root.CHR != c.CAR {
			continue
		}
		if err = blame(root.Verify(root.Key), ErrRootSignature); err != nil {
			continue
		}
		if err = blame(c.Verify(root.Key), ErrIssuerSignature); err == nil {
			return root, nil
		}
	}
	return Certificate{}, err
}

// Attestation is what a verified request proves: that the device of the chain
// generated the key of the request and holds it.
type Attestation struct {
	Verified
	Request Authenticated
}

// Attest verifies an authenticated request, as the card returns it from
// GENERATE ASYMMETRIC KEY PAIR, against the EF.C_DevAut of the device that made
// it (CVC-33). Errors are those of the parsers, of Chain.Verify, and
// ErrOuterReference, ErrOuterSignature, ErrInnerSignature.
func Attest(request, ef []byte, roots Roots) (Attestation, error) {
	c, err := ParseChain(ef)
	if err != nil {
		return Attestation{}, err
	}
	v, err := c.Verify(roots)
	if err != nil {
		return Attestation{}, err
	}
	r, err := ParseAuthenticated(request)
	if err != nil {
		return Attestation{}, fmt.Errorf("request: %w", err)
	}
	return v.Attest(r)
}

// Attest verifies a request against a chain that has been verified already.
// Errors as for the function of the same name, from ErrOuterReference on.
func (v Verified) Attest(r Authenticated) (Attestation, error) {
	if r.CAR != v.Device.CHR {
		return Attestation{}, fmt.Errorf("%w: %s instead of %s", ErrOuterReference, r.CAR, v.Device.CHR)
	}
	if err := blame(r.VerifyOuter(v.DeviceKey()), ErrOuterSignature); err != nil {
		return Attestation{}, err
	}
	if err := blame(r.Request.Verify(), ErrInnerSignature); err != nil {
		return Attestation{}, err
	}
	return Attestation{Verified: v, Request: r}, nil
}
