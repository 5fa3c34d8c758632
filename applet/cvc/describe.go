package cvc

import (
	"fmt"
	"math/big"
	"strings"
	"time"
)

// String describes the key: kind, size or curve, and scheme.
func (k PublicKey) String() string {
	switch {
	case k.Scheme.RSA():
		return fmt.Sprintf("RSA %d bits, %s", new(big.Int).SetBytes(k.Modulus).BitLen(), k.Scheme)
	case !k.Scheme.EC():
		return "no key"
	case k.Curve == nil:
		return fmt.Sprintf("EC on the issuer's curve, %s", k.Scheme)
	}
	return fmt.Sprintf("EC %s, %s", k.Curve.Name(), k.Scheme)
}

// String describes the certificate in one line: role, holder, issuer, dates
// and key.
func (c Certificate) String() string {
	return fmt.Sprintf("%s %s, issued by %s, valid %s to %s, %s",
		c.Authorization.Role(), c.CHR, c.CAR, c.Effective.Format(time.DateOnly), c.Expires.Format(time.DateOnly), c.Key)
}

// String describes the request in one line: the key's name, the authority
// asked, and the key.
func (r Request) String() string {
	asked := "no authority"
	if r.CAR != "" {
		asked = r.CAR.String()
	}
	return fmt.Sprintf("request %s to %s, %s", r.CHR, asked, r.Key)
}

// String describes the request and who countersigned it.
func (a Authenticated) String() string {
	return fmt.Sprintf("%s, authenticated by %s", a.Request, a.CAR)
}

// String describes the chain in lines without a final line feed: the origin,
// then root, issuer and device.
func (v Verified) String() string {
	return strings.Join([]string{v.Origin().String(), v.Root.String(), v.Issuer.String(), v.Device.String()}, "\n")
}

// String describes the chain as Verified does, and in a last line the request.
func (a Attestation) String() string { return a.Verified.String() + "\n" + a.Request.String() }
