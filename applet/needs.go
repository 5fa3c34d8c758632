package applet

import (
	"fmt"

	"hsmemu/applet/apdu"
	"hsmemu/pinstate"
)

// requirement is one thing that a command asks of the card or the session
// before it does anything.
type requirement struct {
	// words name it in documentation, "secure channel".
	words string
	// refusal answers a command without it. For a secret it is the family of
	// words that tells the tries left.
	refusal apdu.SW
	// met reports whether the card has it. It is asked once, before the command
	// runs, in the order of the row. Nil where the right answer depends on what
	// stands before it in the data: then the handler, the file rules or package
	// pinstate refuse.
	met func(*tx, apdu.Command) bool
}

var (
	user = &requirement{"user", apdu.SecurityStatus, func(t *tx, _ apdu.Command) bool { return t.s.Login.User }}
	// channel: the command came through secure messaging.
	channel = &requirement{"secure channel", apdu.SecurityStatus, func(t *tx, _ apdu.Command) bool { return t.secure }}
	// fileRight is a matter of the file rules.
	fileRight = &requirement{words: "the file's right", refusal: apdu.SecurityStatus}

	// What is known about PINs refuses by itself, one transition after the other.
	initialised  = &requirement{words: "initialised", refusal: apdu.ReferenceNotFound}
	oldPIN       = &requirement{words: "old PIN in its data", refusal: apdu.TriesLeft(0)}
	soPIN        = &requirement{words: "SO-PIN in its data", refusal: apdu.TriesLeft(0)}
	soPINOnceSet = &requirement{words: "SO-PIN in its data, once set", refusal: apdu.TriesLeft(0)}
	soVerified   = &requirement{words: "SO-PIN verified", refusal: apdu.ConditionsNotSatisfied}
	resetOption  = &requirement{words: "option to reset with the SO-PIN", refusal: apdu.ConditionsNotSatisfied}

	sessionPINOption = &requirement{"option for session PINs", apdu.InstructionNotSupported, withOption(pinstate.OptionSessionPIN)}
	replaceOption    = &requirement{"option to replace public keys", apdu.ConditionsNotSatisfied, withOption(pinstate.OptionReplaceKeys)}

	// keyAuthentication: the card was initialised for public key authentication.
	keyAuthentication = &requirement{"set up for public key authentication", apdu.InstructionNotSupported, func(t *tx, _ apdu.Command) bool { return t.d.PINs.Keys.Total > 0 }}
	// keyDomainSlots: the card was initialised with key domains.
	keyDomainSlots = &requirement{"set up for key domains", apdu.InstructionNotSupported, func(t *tx, c apdu.Command) bool {
		t.subject = fmt.Sprintf("key domain %d", c.P2)
		return len(t.d.Domains) > 0
	}}
	// wrapping is the same of a command that names a key.
	wrapping = &requirement{"set up for key domains", apdu.InstructionNotSupported, func(t *tx, _ apdu.Command) bool { return len(t.d.Domains) > 0 }}
	// userKey refuses the device key.
	userKey = &requirement{"not the device key", apdu.CommandNotAllowed, func(t *tx, c apdu.Command) bool {
		t.aboutKey(c.P1)
		return c.P1 != 0
	}}

	// What other commands prepare.
	chosenProtocol = &requirement{"protocol chosen", apdu.ConditionsNotSatisfied, func(t *tx, _ apdu.Command) bool { return t.s.channel.suite != 0 }}
	verifier       = &requirement{"key chosen that verifies it", apdu.ConditionsNotSatisfied, func(t *tx, _ apdu.Command) bool { return t.s.trust.current != nil }}
	chosenKey      = &requirement{"public key chosen", apdu.ReferenceNotFound, func(t *tx, _ apdu.Command) bool {
		i := t.s.custodians.selected
		return i > 0 && i <= len(t.d.Custodians)
	}}
	challenge = &requirement{"challenge", apdu.ConditionsNotSatisfied, func(t *tx, _ apdu.Command) bool { return t.s.Challenge != nil }}
	// attestation comes after the slot that the command names.
	attestation = &requirement{words: "device chosen that vouches for its data", refusal: apdu.ConditionsNotSatisfied}
)

func withOption(o pinstate.Options) func(*tx, apdu.Command) bool {
	return func(t *tx, _ apdu.Command) bool { return t.d.PINs.Options.Has(o) }
}

// meets refuses a command that lacks something that its row asks for.
func (t *tx) meets(r *row, c apdu.Command) error {
	for _, n := range r.needs {
		if n.met != nil && !n.met(t, c) {
			return n.refusal
		}
	}
	return nil
}
