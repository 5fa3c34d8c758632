package applet

import (
	"crypto/sha256"
	"math/bits"
	"slices"

	"hsmemu/applet/apdu"
	"hsmemu/applet/cvc"
	"hsmemu/keystore/curve"
)

// mostCustodians is how many a session has a bit for, more than a card takes.
const mostCustodians = 128

// custodianSession is how far public key authentication has come.
type custodianSession struct {
	selected int // index of the key plus one, 0 for none
	done     [mostCustodians / 64]uint64
}

func (s custodianSession) authenticated(i int) bool { return s.done[i/64]>>(i%64)&1 == 1 }

func (s custodianSession) with(i int) custodianSession {
	s.done[i/64] |= 1 << (i % 64)
	return s
}

// without is what the replacement of a key leaves: the new one has neither been
// selected nor authenticated.
func (s custodianSession) without(i int) custodianSession {
	s.done[i/64] &^= 1 << (i % 64)
	if s.selected == i+1 {
		s.selected = 0
	}
	return s
}

func (s custodianSession) count() int {
	return bits.OnesCount64(s.done[0]) + bits.OnesCount64(s.done[1])
}

// restarted is what a new challenge leaves: no key has answered it yet.
func (s custodianSession) restarted() custodianSession {
	return custodianSession{selected: s.selected}
}

// registered finds a custodian by name, -1 if there is none.
func (t *tx) registered(name string) int {
	return slices.IndexFunc(t.d.Custodians, func(c Custodian) bool { return name != "" && c.Name == name })
}

// describeCustodians is the status of public key authentication: total,
// missing, required, authenticated.
func (t *tx) describeCustodians() []byte {
	missing := byte(0)
	for _, c := range t.d.Custodians {
		if c.Name == "" {
			missing++
		}
	}
	return []byte{t.d.PINs.Keys.Total, missing, t.d.PINs.Keys.Required, byte(t.s.custodians.count())}
}

func custodianStatus(t *tx, _ apdu.Command) ([]byte, error) {
	for _, d := range t.d.Domains {
		if d.XKEK() && t.profile.StatusWithXKEK != apdu.OK {
			return nil, t.profile.StatusWithXKEK
		}
	}
	return t.describeCustodians(), nil
}

// registerCustodian stores the next key. It needs no login while keys are
// missing: the card is registered right after its initialisation.
func registerCustodian(t *tx, c apdu.Command) ([]byte, error) {
	custodian, err := t.custodian(c.Data)
	if err != nil {
		return nil, err
	}
	if t.registered(custodian.Name) >= 0 {
		return nil, apdu.WrongData
	}
	free := slices.IndexFunc(t.d.Custodians, func(c Custodian) bool { return c.Name == "" })
	if free < 0 {
		return nil, apdu.ConditionsNotSatisfied
	}
	t.setCustodian(free, custodian)
	return t.describeCustodians(), nil
}

// replaceCustodian puts another key into a slot.
func replaceCustodian(t *tx, c apdu.Command) ([]byte, error) {
	if int(c.P2) >= len(t.d.Custodians) {
		return nil, apdu.IncorrectP1P2
	}
	custodian, err := t.custodian(c.Data)
	if err != nil {
		return nil, err
	}
	if i := t.registered(custodian.Name); i >= 0 && i != int(c.P2) {
		return nil, apdu.WrongData
	}
	t.setCustodian(int(c.P2), custodian)
	t.s.custodians = t.s.custodians.without(int(c.P2))
	t.s.Login = t.d.PINs.Authenticated(t.s.Login, byte(t.s.custodians.count()))
	return t.describeCustodians(), nil
}

func (t *tx) setCustodian(i int, c Custodian) {
	d := t.change()
	d.Custodians = slices.Clone(d.Custodians)
	d.Custodians[i] = c
}

// custodian reads the key of an attested request. Only 256-bit keys of two
// curves can be registered.
func (t *tx) custodian(data []byte) (Custodian, error) {
	request, err := t.attested(data)
	if err != nil {
		return Custodian{}, err
	}
	key := request.Request.Key
	if !custodianCurve(key.Curve) {
		return Custodian{}, apdu.WrongData
	}
	return Custodian{Name: string(request.Request.CHR), Curve: key.Curve.Name(), Point: key.Point}, nil
}

// custodianCurve reports whether keys on a curve can be registered.
func custodianCurve(c *curve.Curve) bool {
	return c != nil && (c.Name() == "brainpoolP256r1" || c.Name() == "secp256r1")
}

// queryCustodian names the key in a slot and says whether it has
// authenticated.
func queryCustodian(t *tx, c apdu.Command) ([]byte, error) {
	i := int(c.P2)
	switch {
	case i >= len(t.d.Custodians):
		return nil, apdu.IncorrectP1P2
	case t.d.Custodians[i].Name == "":
		return nil, apdu.ReferenceNotFound
	case t.s.custodians.authenticated(i):
		t.success = apdu.KeyAuthenticated
	}
	return []byte(t.d.Custodians[i].Name), nil
}

// chooseCustodian selects the key that will answer the challenge.
func (t *tx) chooseCustodian(name string) error {
	t.subject = cvc.Name(name).String()
	i := t.registered(name)
	switch {
	case i < 0:
		return apdu.ReferenceNotFound
	case t.s.custodians.authenticated(i):
		return apdu.ConditionsNotSatisfied
	}
	t.s.custodians.selected = i + 1
	return nil
}

// externalAuthenticate is EXTERNAL AUTHENTICATE: the selected key has signed
// the name of this device and the challenge. No counter is involved; a wrong
// signature leaves the challenge standing.
func externalAuthenticate(t *tx, c apdu.Command) ([]byte, error) {
	i := t.s.custodians.selected - 1
	custodian := t.d.Custodians[i]
	t.subject = cvc.Name(custodian.Name).String()
	known, ok := curve.ByName(custodian.Curve)
	if !ok {
		return nil, apdu.ReferenceNotFound
	}
	key, err := known.Public(custodian.Point)
	if err != nil {
		return nil, err
	}
	signature, err := known.ParsePlain(c.Data)
	digest := sha256.Sum256(append([]byte(t.d.Device.Name), t.s.Challenge...))
	if err != nil || !key.Verify(digest[:], signature) {
		return nil, apdu.VerificationFailed
	}
	t.s.custodians = t.s.custodians.with(i)
	n := t.s.custodians.count()
	t.s.Login = t.d.PINs.Authenticated(t.s.Login, byte(n))
	if n >= int(t.d.PINs.Keys.Required) {
		t.s.Challenge = nil
		t.s.channel = t.s.channel.loggedIn(t.secure)
	}
	return nil, nil
}
