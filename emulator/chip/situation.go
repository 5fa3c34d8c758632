package chip

import (
	"errors"
	"fmt"
	"slices"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
	"hsmemu/applet/tlv"
	"hsmemu/pinstate"
)

// ErrSituation says that no card can be in the situation asked for; the words
// around it say why.
var ErrSituation = errors.New("no card can be like that")

// Situation is what a card is in that somebody has used, as far as it can be
// brought about without knowing that card's secrets: its keys, its files and the
// public keys registered on it are left out. The zero Situation is a card as
// shipped.
type Situation struct {
	// Initialised tells that INITIALIZE DEVICE has succeeded once; everything
	// below is zero unless it has.
	Initialised bool
	// Options are the option bytes.
	Options pinstate.Options
	// SOPIN is the SO-PIN, 8 bytes, and SOTries how many of its 15 tries are
	// left.
	SOPIN   pinstate.Value
	SOTries int
	// UserPIN is the user PIN, 6 to 16 bytes, and UserTries how many of its
	// UserMax tries are left. A nil UserPIN is none: public keys alone log in.
	UserPIN            pinstate.Value
	UserTries, UserMax int
	// Transport tells that the user PIN is a transport PIN that nobody has
	// changed yet. With the option and without Transport somebody has.
	Transport bool
	// Keys is the policy for login by public keys; none of them is registered.
	Keys pinstate.KeyPolicy
	// Shares is the number of shares that the DKEK of the only key domain
	// awaits, 0 for a random DKEK; nil is no DKEK.
	Shares *int
	// Domains is the number of empty key domains.
	Domains int
}

// Usual is the situation after `sc-hsm-tool --initialize` with the numbers of the
// tool's manual: options 0001, SO-PIN 3537363231383830 (in hexadecimal), user PIN
// 648219 with 3 tries.
func Usual() Situation {
	return Situation{
		Initialised: true, Options: pinstate.OptionResetEnabled,
		SOPIN: pinstate.Value("57621880"), SOTries: pinstate.SOTries,
		UserPIN: pinstate.Value("648219"), UserTries: 3, UserMax: 3,
	}
}

// check says in words why no card of a firmware can be in the situation.
func (s Situation) check(p applet.Profile) error {
	if !s.Initialised {
		return nil
	}
	no := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrSituation}, args...)...)
	}
	n := len(s.UserPIN)
	most := int(pinstate.TriesAllowed(n))
	switch {
	case len(s.SOPIN) != pinstate.SOPINLength:
		return no("an SO-PIN has %d bytes, %d hexadecimal digits", pinstate.SOPINLength, 2*pinstate.SOPINLength)
	case s.SOTries < 0 || s.SOTries > pinstate.SOTries:
		return no("an SO-PIN has %d tries, not %d", pinstate.SOTries, s.SOTries)
	case s.UserPIN != nil && most == 0:
		return no("a user PIN has %d to %d bytes", pinstate.MinPIN, pinstate.MaxPIN)
	case s.UserPIN != nil && (s.UserMax < 1 || s.UserMax > most):
		return no("a user PIN of %d bytes has 1 to %d tries, not %d", n, most, s.UserMax)
	case s.UserPIN != nil && (s.UserTries < 0 || s.UserTries > s.UserMax):
		return no("a user PIN of %d tries has no %d left", s.UserMax, s.UserTries)
	case s.UserPIN == nil && s.Keys.Required == 0:
		return no("without a user PIN and without public keys nobody could log in")
	case s.Transport && (s.UserPIN == nil || !s.Options.Has(pinstate.OptionTransportPIN)):
		return no("a transport PIN takes option 0002 and a user PIN")
	case s.Keys.Required > s.Keys.Total || s.Keys.Total > pinstate.MaxKeys || s.Keys.Required == 0 && s.Keys.Total > 0:
		return no("a login takes 1 to %d public keys, and no more than there are, not %d of %d", pinstate.MaxKeys, s.Keys.Required, s.Keys.Total)
	case s.Shares != nil && s.Domains > 0:
		return no("a number of DKEK shares and one of key domains exclude each other")
	case s.Shares != nil && (*s.Shares < 0 || *s.Shares > 255), s.Domains < 0 || s.Domains > 255:
		return no("shares and key domains are 0 to 255")
	case s.Domains > 0 && !p.KeyDomains:
		return no("firmware %s has no key domains", p.Name)
	}
	return nil
}

// reach brings a card as shipped into the situation by the commands that would
// have brought a real one there: INITIALIZE DEVICE, a changed transport PIN, and
// wrong PINs. Error: ErrSituation.
func (s Situation) reach(env applet.Env, d Durable) (Durable, error) {
	if err := s.check(d.Applet.Profile()); err != nil {
		return Durable{}, err
	}
	if !s.Initialised {
		return d, nil
	}
	pin := s.UserPIN
	if s.changed() {
		pin = wrong(pin)
	}
	setUp := []apdu.Command{
		apdu.SelectApplication(),
		{CLA: apdu.ClassProprietary, INS: apdu.InsInitializeDevice, Data: s.setup(pin)},
	}
	if s.changed() {
		setUp = append(setUp, apdu.Command{INS: apdu.InsChangeReferenceData, P2: byte(pinstate.User), Data: slices.Concat(pin, s.UserPIN)})
	}
	state := Boot(d)
	for _, c := range setUp {
		var result Result
		if state, result = Step(env, state, c.Bytes()); result.Event.SW != apdu.OK {
			return Durable{}, fmt.Errorf("%w: firmware %s refuses it: %w", ErrSituation, d.Applet.Firmware, result.Event.SW)
		}
	}
	try := apdu.Command{INS: apdu.InsVerify, P2: byte(pinstate.User), Data: wrong(s.UserPIN)}
	if s.Transport { // VERIFY does not take one
		try = apdu.Command{INS: apdu.InsChangeReferenceData, P2: byte(pinstate.User), Data: slices.Concat(wrong(pin), pin)}
	}
	for range s.UserMax - s.UserTries {
		state, _ = Step(env, state, try.Bytes())
	}
	try = apdu.Command{INS: apdu.InsVerify, P2: byte(pinstate.SO), Data: wrong(s.SOPIN)}
	for range pinstate.SOTries - s.SOTries {
		state, _ = Step(env, state, try.Bytes())
	}
	made := state.Durable()
	if p := made.Applet.PINs; int(p.SO.Left) != s.SOTries || int(p.User.Left) != s.UserTries || p.Transport != s.Transport {
		return Durable{}, fmt.Errorf("%w: firmware %s comes to %d tries of the SO-PIN and %d of the user PIN", ErrSituation, d.Applet.Firmware, p.SO.Left, p.User.Left)
	}
	return made, nil
}

// changed reports whether there was a transport PIN that somebody has changed.
func (s Situation) changed() bool {
	return s.UserPIN != nil && s.Options.Has(pinstate.OptionTransportPIN) && !s.Transport
}

// setup is the data of INITIALIZE DEVICE.
func (s Situation) setup(pin []byte) []byte {
	data := tlv.Append(nil, apdu.InitOptions, []byte{byte(s.Options >> 8), byte(s.Options)})
	if pin != nil {
		data = tlv.Append(data, apdu.InitUserPIN, pin)
	}
	data = tlv.Append(data, apdu.InitSOPIN, s.SOPIN)
	if pin != nil {
		data = tlv.Append(data, apdu.InitTries, []byte{byte(s.UserMax)})
	}
	if s.Shares != nil {
		data = tlv.Append(data, apdu.InitShares, []byte{byte(*s.Shares)})
	}
	if s.Keys.Total > 0 {
		data = tlv.Append(data, apdu.InitCustodians, []byte{s.Keys.Total, s.Keys.Required})
	}
	if s.Domains > 0 {
		data = tlv.Append(data, apdu.InitDomains, []byte{byte(s.Domains)})
	}
	return data
}

// wrong is another PIN of the same length.
func wrong(pin []byte) []byte {
	other := slices.Clone(pin)
	if len(other) > 0 {
		other[0] ^= 1
	}
	return other
}
