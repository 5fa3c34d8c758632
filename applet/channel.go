package applet

import (
	"errors"
	"io"

	"hsmemu/applet/apdu"
	"hsmemu/applet/sm"
)

// channelSession is the secure channel of a session and what hangs on it.
type channelSession struct {
	// suite is what MANAGE SECURITY ENVIRONMENT chose for the next channel.
	suite   sm.Suite
	channel sm.Channel
	// bound: the login was made in the channel and ends with it,
	bound bool
	// unless it was released from it (the vendor's "NoBindSM").
	released bool
}

// InChannel reports whether a secure channel is open.
func (s Session) InChannel() bool { return s.channel.channel.Active() }

// loggedIn notes how a login was made. A new one is bound to the channel it
// came through.
func (s channelSession) loggedIn(secure bool) channelSession {
	s.bound, s.released = secure, false
	return s
}

// release lets the login outlive the channel; outside a channel nothing needs
// to be released.
func (s channelSession) release() channelSession {
	s.released = s.channel.Active()
	return s
}

// open takes a command out of secure messaging.
func (t *tx) open(c apdu.Command) (apdu.Command, error) {
	switch c.CLA & apdu.ClassSecure {
	case 0:
		return c, nil
	case apdu.ClassSecure:
	default:
		return c, apdu.ClassNotSupported
	}
	plain, channel, err := t.s.channel.channel.Open(c)
	if err != nil {
		t.endChannel()
		return c, channelStatus(err)
	}
	t.secure, t.reply = true, channel
	t.s.channel.channel = channel
	return plain, nil
}

func channelStatus(err error) apdu.SW {
	switch {
	case errors.Is(err, sm.ErrMissing):
		return apdu.MissingSMObject
	case errors.Is(err, sm.ErrWrong):
		return apdu.WrongSMObject
	}
	return apdu.ConditionsNotSatisfied
}

// endChannel closes the channel. A login that was made in it ends, unless it
// was released.
func (t *tx) endChannel() {
	if !t.s.channel.channel.Active() {
		return
	}
	if t.s.channel.bound && !t.s.channel.released {
		t.s.Login.User, t.s.Login.PIN, t.s.Login.Keys = false, false, 0
		t.s.custodians = custodianSession{}
	}
	t.s.channel = channelSession{}
}

// seal protects the answer under the keys that its command came with. A
// channel that the command opened or closed is not touched by that.
func (t *tx) seal(ins byte, r apdu.Response) apdu.Response {
	if !t.secure {
		return r
	}
	protected, channel, err := t.reply.Seal(ins, r)
	if err != nil {
		t.endChannel()
		return apdu.Response{SW: channelStatus(err)}
	}
	if t.s.channel.channel == t.reply {
		t.s.channel.channel = channel
	}
	return protected
}

// chooseSuite names the protocol of the channel to come.
func (t *tx) chooseSuite(data []byte) error {
	if !channels(t.profile) {
		return apdu.WrongData
	}
	suite, err := sm.ParseSelection(data)
	if err != nil {
		return apdu.WrongData
	}
	t.subject = suite.String()
	t.s.channel.suite = suite
	return nil
}

// generalAuthenticate is GENERAL AUTHENTICATE: chip authentication with the
// device key (BSI TR-03110, version 2), which opens a secure channel.
func generalAuthenticate(t *tx, c apdu.Command) ([]byte, error) {
	t.subject = t.s.channel.suite.String()
	var nonce sm.Nonce
	if _, err := io.ReadFull(t.env.Rand, nonce[:]); err != nil {
		return nil, err
	}
	channel, answer, err := t.s.channel.suite.Authenticate(t.d.Device.Key.EC(), nonce, c.Data)
	if err != nil {
		return nil, apdu.WrongData
	}
	t.s.channel.channel, t.s.channel.suite = channel, 0
	return answer, nil
}

// SessionPINLength is the number of digits of a session PIN (SM-40).
const SessionPINLength = 16

// generateSessionPIN is GENERATE SESSION PIN: a PIN that replaces the user's
// until the next reset. It is only given to the other end of a secure channel.
func generateSessionPIN(t *tx, _ apdu.Command) ([]byte, error) {
	digits := make([]byte, 0, SessionPINLength)
	for len(digits) < SessionPINLength {
		var b [1]byte
		if _, err := io.ReadFull(t.env.Rand, b[:]); err != nil {
			return nil, err
		}
		if b[0] < 250 {
			digits = append(digits, '0'+b[0]%10)
		}
	}
	t.s.Login.Session = digits
	return digits, nil
}
