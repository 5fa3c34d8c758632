package applet

import (
	"bytes"

	"hsmemu/applet/apdu"
	"hsmemu/applet/cvc"
	"hsmemu/applet/tlv"
	"hsmemu/keystore"
)

// tagMembership signs a device into a key domain: the group signer's signature
// over this tag and the x coordinate of the device key.
const tagMembership tlv.Tag = 0x54

// tagUID is the identifier of a group in the extension of a request.
const tagUID tlv.Tag = 0x80

// associateDomain is MANAGE KEY DOMAIN with a key domain membership: the slot
// becomes a domain of the group whose signer is attested by a device that this
// session trusts, if that signer has let this device in.
func associateDomain(t *tx, c apdu.Command) ([]byte, error) {
	if err := t.vacant(c.P2); err != nil {
		return nil, err
	}
	// An exchange key that was there before the group could have told by ECDH
	// what it would agree on.
	for _, k := range t.d.Keys {
		if k.Domain == c.P2 && k.Allows(keystore.ECDHExchange) {
			return nil, apdu.AlreadyExists
		}
	}
	list, err := tlv.ParseBER(c.Data)
	if err != nil || len(list) < 2 || list[len(list)-1].Tag != tagMembership {
		return nil, apdu.WrongData
	}
	membership := list[len(list)-1]
	request, err := t.attested(bytes.TrimSuffix(c.Data, membership.Raw))
	if err != nil {
		return nil, err
	}
	signer := request.Request.Key
	if !signer.Scheme.EC() {
		return nil, apdu.WrongData
	}
	signer.Scheme = cvc.ECDSASHA256
	point := t.d.Device.Key.ECPublic().Bytes()
	member := append([]byte{byte(tagMembership)}, xCoordinate(point)...)
	if signer.Verify(member, membership.Value) != nil {
		return nil, apdu.ConditionsNotSatisfied
	}
	domain := keystore.NewXKEK(signer.Point[1:])
	t.setDomain(c.P2, domain)
	return describeDomain(domain), nil
}

// xCoordinate is x of an uncompressed point 04 || x || y.
func xCoordinate(point []byte) []byte { return point[1 : 1+len(point)/2] }

// agreeDomainKey is DECIPHER with an exchange key: the key encryption key of
// its domain follows from it and an exchange key of another member, attested by
// that member's device.
func agreeDomainKey(t *tx, c apdu.Command) ([]byte, error) {
	request, err := t.attested(c.Data)
	if err != nil {
		return nil, err
	}
	stored, exists := t.d.Keys[c.P1]
	if !exists {
		t.aboutKey(c.P1)
		return nil, apdu.ReferenceNotFound
	}
	slot := stored.Domain
	domain := t.domain(slot)
	if !domain.XKEK() || !memberOf(request.Request, domain) {
		return nil, apdu.ConditionsNotSatisfied
	}
	peer := request.Request.Key
	if !peer.Scheme.EC() || peer.Curve != stored.Curve() {
		return nil, apdu.WrongData
	}
	k, err := t.use(c.P1, keystore.ECDHExchange)
	if err != nil {
		return nil, err
	}
	shared, err := k.Decipher(keystore.ECDH, peer.Point)
	if err != nil {
		return nil, err
	}
	next, err := domain.Agree(xCoordinate(shared))
	if err != nil {
		return nil, err
	}
	t.setDomain(slot, next)
	return nil, nil
}

// memberOf reports whether a request says that its key belongs to a group, and
// to no other.
func memberOf(r cvc.Request, d keystore.Domain) bool {
	found, ok := r.Extensions.Find(cvc.KeyDomainUID)
	return ok && len(found) == 1 && found[0].Tag == tagUID && bytes.Equal(found[0].Value, d.UID())
}
