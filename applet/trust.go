package applet

import (
	"errors"
	"slices"

	"hsmemu/applet/apdu"
	"hsmemu/applet/cvc"
	"hsmemu/applet/pkcs15"
	"hsmemu/applet/tlv"
)

// Templates of MANAGE SECURITY ENVIRONMENT (ISO 7816-4 §10.3.3) and the objects
// in them.
const (
	templateAuthentication = 0xA4
	templateSignature      = 0xB6

	tagMechanism tlv.Tag = 0x80
	tagKeyName   tlv.Tag = 0x83
)

// trust is what the card believes for the length of a session: certificates it
// has verified, and the one that verifies the next.
type trust struct {
	verified []trusted
	current  *trusted
}

// trusted is a public key that the card knows to belong to a name.
type trusted struct {
	name cvc.Name
	key  cvc.PublicKey
	role cvc.Role
}

// anchors are the keys that the card knows from its production: its root, its
// issuer and itself.
func (t *tx) anchors() []trusted {
	root := cvc.EmulatorRootCertificate()
	list := []trusted{{root.CHR, root.Key, cvc.RoleRoot}}
	f, _ := t.file(pkcs15.FileDevice)
	chain, err := cvc.ParseChain(f.Data)
	if err != nil {
		return list
	}
	issuer := chain.Issuer.Key.Inherit(root.Key)
	return append(list,
		trusted{chain.Issuer.CHR, issuer, cvc.RoleIssuer},
		trusted{chain.Device.CHR, chain.Device.Key.Inherit(issuer), cvc.RoleDevice})
}

// manageEnvironment is MANAGE SECURITY ENVIRONMENT: it names the key for the
// next step of chip authentication, public key authentication or certificate
// verification.
func manageEnvironment(t *tx, c apdu.Command) ([]byte, error) {
	list, err := tlv.ParseBER(c.Data)
	if err != nil {
		return nil, apdu.WrongData
	}
	name, named := list.Find(tagKeyName)
	_, isMechanism := list.Find(tagMechanism)
	switch {
	case c.P2 == templateAuthentication && isMechanism:
		return nil, t.chooseSuite(c.Data)
	case c.P2 == templateAuthentication && named:
		return nil, t.chooseCustodian(string(name.Value))
	case c.P2 == templateSignature && named && len(name.Value) > 0:
		return nil, t.chooseVerifier(cvc.Name(name.Value))
	case c.P2 == templateAuthentication || c.P2 == templateSignature:
		return nil, apdu.WrongData
	}
	return nil, nil
}

// chooseVerifier selects the key that verifies the next certificate.
func (t *tx) chooseVerifier(name cvc.Name) error {
	t.subject = name.String()
	known := slices.Concat(t.anchors(), t.s.trust.verified)
	i := slices.IndexFunc(known, func(k trusted) bool { return k.name == name })
	if i < 0 {
		return apdu.ReferenceNotFound
	}
	t.s.trust.current = &known[i]
	return nil
}

// verifyCertificate is PSO VERIFY CERTIFICATE: it adds a certificate to what
// this session trusts. Its domain parameters are those of its issuer.
func verifyCertificate(t *tx, c apdu.Command) ([]byte, error) {
	by := t.s.trust.current
	certificate, err := cvc.ParseCertificate(c.Data)
	if err != nil {
		return nil, apdu.WrongData
	}
	t.subject = certificate.CHR.String()
	switch {
	case certificate.CAR != by.name:
		return nil, apdu.WrongData
	case by.role != cvc.RoleRoot && by.role != cvc.RoleIssuer:
		// A device vouches for keys, never for other devices.
		return nil, apdu.VerificationFailed
	}
	if err := certificate.Verify(by.key); err != nil {
		return nil, verification(err)
	}
	t.s.trust.verified = append(slices.Clone(t.s.trust.verified),
		trusted{certificate.CHR, certificate.Key.Inherit(by.key), certificate.Authorization.Role()})
	return nil, nil
}

// verification is the answer to a signature that does not hold, and to data
// that are none.
func verification(err error) error {
	if errors.Is(err, cvc.ErrSignature) {
		return apdu.VerificationFailed
	}
	return apdu.WrongData
}

// attested reads an authenticated request and checks that the device whose
// certificate was selected vouches for it.
func (t *tx) attested(data []byte) (cvc.Authenticated, error) {
	by := t.s.trust.current
	if by == nil {
		return cvc.Authenticated{}, apdu.ConditionsNotSatisfied
	}
	request, err := cvc.ParseAuthenticated(data)
	if err != nil || request.CAR != by.name {
		return cvc.Authenticated{}, apdu.WrongData
	}
	t.subject = request.Request.CHR.String()
	if by.role != cvc.RoleDevice {
		return cvc.Authenticated{}, apdu.VerificationFailed
	}
	if err := request.VerifyOuter(by.key); err != nil {
		return cvc.Authenticated{}, verification(err)
	}
	if err := request.Request.Verify(); err != nil {
		return cvc.Authenticated{}, verification(err)
	}
	return request, nil
}

// authenticatedPoint is the public point of an attested key.
func (t *tx) authenticatedPoint(data []byte) ([]byte, error) {
	request, err := t.attested(data)
	if err != nil {
		return nil, err
	}
	if !request.Request.Key.Scheme.EC() {
		return nil, apdu.WrongData
	}
	return request.Request.Key.Point, nil
}
