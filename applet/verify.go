package applet

import (
	"errors"

	"hsmemu/applet/apdu"
	"hsmemu/pinstate"
)

// References of VERIFY beside the two PINs: the templates of a biometric
// application that this card does not have.
const (
	template1 = 0x85
	template2 = 0x86
)

// stayLoggedIn is P1 of the VERIFY that unbinds the login from the secure
// channel it was made in.
const stayLoggedIn = 0x01

// aboutPIN names a PIN as the subject of the event.
func (t *tx) aboutPIN(r pinstate.Ref) {
	switch r {
	case pinstate.User:
		t.subject = "user PIN"
		if t.d.PINs.Transport {
			t.subject = "transport PIN"
		}
	case pinstate.SO:
		t.subject = "SO-PIN"
	case template1, template2:
		t.subject = "biometric template"
	}
}

// verify is VERIFY: the status of a PIN, or its presentation.
func verify(t *tx, c apdu.Command) ([]byte, error) {
	ref := pinstate.Ref(c.P2)
	t.aboutPIN(ref)
	switch {
	case c.P1 == stayLoggedIn && (ref != pinstate.User || !t.profile.NoBind):
		return nil, apdu.IncorrectP1P2
	case c.P2 == template1 || c.P2 == template2:
		return nil, t.profile.NoTemplate
	case len(c.Data) == 0:
		return nil, t.pinStatus(ref, c.P1 == stayLoggedIn)
	}
	if err := t.attempt(t.d.PINs.Verify(t.s.Login, ref, c.Data)); err != nil {
		return nil, err
	}
	if ref == pinstate.User {
		t.s.channel = t.s.channel.loggedIn(t.secure)
		if c.P1 == stayLoggedIn {
			t.s.channel = t.s.channel.release()
		}
	}
	return nil, nil
}

// pinStatus answers the query form. It changes no counter.
func (t *tx) pinStatus(ref pinstate.Ref, stay bool) error {
	err := t.d.PINs.Status(t.s.Login, ref)
	if errors.Is(err, pinstate.ErrUnset) && !t.d.PINs.Initialised && ref == pinstate.User {
		return t.profile.NeverInitialised
	}
	if err == nil && stay {
		t.s.channel = t.s.channel.release()
	}
	return err
}

// changeReferenceData is CHANGE REFERENCE DATA: the old and the new PIN
// without anything between them.
func changeReferenceData(t *tx, c apdu.Command) ([]byte, error) {
	ref := pinstate.Ref(c.P2)
	t.aboutPIN(ref)
	if pin := t.d.PINs.User; t.profile.FixedPINLength && ref == pinstate.User &&
		pin.Left > 0 && len(c.Data) != 2*len(pin.Value) {
		return nil, apdu.WrongData
	}
	if err := t.attempt(t.d.PINs.Change(t.s.Login, ref, c.Data)); err != nil {
		return nil, err
	}
	if ref == pinstate.User {
		t.s.channel = t.s.channel.loggedIn(t.secure)
	}
	return nil, nil
}

// resetRetryCounter is RESET RETRY COUNTER for the user PIN, with the SO-PIN.
func resetRetryCounter(t *tx, c apdu.Command) ([]byte, error) {
	t.subject = "user PIN"
	return nil, t.attempt(t.d.PINs.Reset(t.s.Login, pinstate.ResetMode(c.P1), c.Data))
}
