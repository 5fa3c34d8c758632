package cvc

import (
	"bytes"
	"fmt"
	"io"
	"time"

	"hsmemu/keystore/curve"
)

// Issuer is a certificate and the private key that belongs to it.
type Issuer struct {
	Certificate Certificate
	Key         *curve.Private
}

// The private scalars of the emulator's PKI: a first byte, then 31 times the
// second (CVC-27).
var (
	emulatorRootScalar   = [2]byte{0x4A, 0x01}
	emulatorIssuerScalar = [2]byte{0x4B, 0x02}
)

// EmulatorIssuer returns UTDICAEM0100001, which signs the device certificates
// of emulated cards, with its private key.
//
// The key is public, here and in every copy of the program: the emulator's PKI
// can be forged by anyone, and that is its design. Anyone can make
// certificates below this root, so they prove nothing about where a key lives;
// in return every emulated card accepts every other one as a peer, without a
// shared secret to set up. Whoever needs certificates that mean something
// makes a root of his own with NewRoot.
func EmulatorIssuer() Issuer { return published(emulatorIssuer, emulatorIssuerScalar) }

// EmulatorRoot returns UTSRCAEM100001, the root above EmulatorIssuer, with its
// private key, which is as public.
func EmulatorRoot() Issuer { return published(emulatorRoot, emulatorRootScalar) }

// EmulatorIssuerCertificate is the certificate of EmulatorIssuer without the key, whose
// point would have to be computed.
func EmulatorIssuerCertificate() Certificate { return builtIn(emulatorIssuer) }

// EmulatorRootCertificate is the certificate of EmulatorRoot without the key.
func EmulatorRootCertificate() Certificate { return builtIn(emulatorRoot) }

func published(certificate string, scalar [2]byte) Issuer {
	c := builtIn(certificate)
	group := builtIn(emulatorRoot).Key.Curve
	d, err := group.Private(append([]byte{scalar[0]}, bytes.Repeat(scalar[1:], 31)...))
	if err != nil {
		panic(fmt.Sprintf("built-in key: %v", err))
	}
	return Issuer{Certificate: c, Key: d}
}

// How long certificates live, as the vendor's do: this many years less a day.
const (
	rootYears   = 20
	issuerYears = 8
	deviceYears = 5
)

// lastDay is the last of so many years that begin on day.
func lastDay(day time.Time, years int) time.Time { return midnight(day).AddDate(years, 0, -1) }

// NewRoot makes a self-signed root, valid for 20 years from the calendar day
// of day. The key must be on brainpoolP256r1, because readers assume that
// curve for devices. rand may be nil, see SignEC.
func NewRoot(key *curve.Private, chr Name, day time.Time, rand io.Reader) (Issuer, error) {
	if key.Curve() != builtIn(emulatorRoot).Key.Curve {
		return Issuer{}, fmt.Errorf("%w: a root on %s", ErrKey, key.Curve().Name())
	}
	b := CertificateBody{
		CAR: chr, CHR: chr, Key: NewEC(ECDSASHA256, key.Public()), Authorization: Authorize(RoleRoot),
		Effective: day, Expires: lastDay(day, rootYears),
	}
	c, err := b.Sign(ECDSASHA256, SignEC(key, rand))
	return Issuer{Certificate: c, Key: key}, err
}

// NewIssuer makes a device issuer below the root i, valid for 8 years from the
// calendar day of day, but not beyond the root.
func (i Issuer) NewIssuer(key *curve.Private, chr Name, day time.Time, rand io.Reader) (Issuer, error) {
	c, err := i.issue(key.Public(), chr, RoleIssuer, day, issuerYears, rand)
	return Issuer{Certificate: c, Key: key}, err
}

// IssueDevice certifies a device authentication key and returns the content of
// EF.C_DevAut: the new certificate and that of the issuer. It is valid from the
// calendar day of day for 5 years, but not beyond the issuer; an issuer that
// has expired still issues. rand may be nil, see SignEC.
func (i Issuer) IssueDevice(device *curve.Public, chr Name, day time.Time, rand io.Reader) (ef []byte, err error) {
	c, err := i.issue(device, chr, RoleDevice, day, deviceYears, rand)
	if err != nil {
		return nil, err
	}
	return Chain{Device: c, Issuer: i.Certificate}.Bytes(), nil
}

// issue certifies a key whose domain parameters are inherited from the root.
func (i Issuer) issue(
	key *curve.Public, chr Name, role Role, day time.Time, years int, rand io.Reader,
) (Certificate, error) {
	if key.Curve() != i.Key.Curve() {
		return Certificate{}, fmt.Errorf("%w: %s below %s", ErrKey, key.Curve().Name(), i.Key.Curve().Name())
	}
	b := CertificateBody{
		CAR: i.Certificate.CHR, CHR: chr, Key: NewEC(ECDSASHA256, key).WithoutDomain(),
		Authorization: Authorize(role), Effective: day, Expires: lastDay(day, years),
	}
	if end := i.Certificate.Expires; end.Before(b.Expires) {
		b.Expires = end
	}
	return b.Sign(i.Certificate.Key.Scheme, SignEC(i.Key, rand))
}
