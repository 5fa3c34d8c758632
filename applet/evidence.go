package applet

import (
	"bytes"
	"errors"
	"fmt"

	"hsmemu/applet/cvc"
	"hsmemu/applet/pkcs15"
	"hsmemu/keystore"
)

// ErrNoKey says that a card has no key of that reference.
var ErrNoKey = errors.New("there is no such key")

// Evidence is what the card holds about a key, 1 to 255: the device's certificates
// and the request for the key, which is compared with the key in that place. For
// key 0 it is the certificates alone. Errors: ErrNoKey, cvc.ErrNoRequest,
// cvc.ErrOtherKey, and those of a malformed request.
func (d Durable) Evidence(ref byte) (cvc.Evidence, error) {
	device, _ := d.File(pkcs15.FileDevice)
	e := cvc.Evidence{Chain: device.Data}
	if ref == 0 {
		return e, nil
	}
	k, exists := d.Keys[ref]
	if !exists {
		return cvc.Evidence{}, ErrNoKey
	}
	attested, _ := d.File(pkcs15.File(pkcs15.PrefixCertificate, ref))
	if !cvc.HoldsRequest(attested.Data) {
		return cvc.Evidence{}, cvc.ErrNoRequest
	}
	about, err := cvc.ParseAuthenticated(attested.Data)
	switch {
	case err != nil:
		return cvc.Evidence{}, fmt.Errorf("request: %w", err)
	case !speaksOf(about.Request.Key, k):
		return cvc.Evidence{}, cvc.ErrOtherKey
	}
	e.Request = attested.Data
	return e, nil
}

// speaksOf reports whether a certified public key is that of a key.
func speaksOf(public cvc.PublicKey, k keystore.Key) bool {
	switch k.Kind() {
	case keystore.EC:
		return public.Curve == k.Curve() && bytes.Equal(public.Point, k.ECPublic().Bytes())
	case keystore.RSA:
		n, e := k.RSAPublic()
		return bytes.Equal(public.Modulus, n) && bytes.Equal(public.Exponent, e)
	}
	return false
}
