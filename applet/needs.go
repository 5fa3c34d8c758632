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
	// about names what the command is about, for the event, before met is asked; nil
	// leaves that to the handler.
	about func(*tx, apdu.Command)
}

var (
	user = &requirement{words: "user", refusal: apdu.SecurityStatus, met: func(t *tx, _ apdu.Command) bool { return t.s.Login.User }}
	// channel: the command came through secure messaging.
	channel = &requirement{words: "secure channel", refusal: apdu.SecurityStatus, met: func(t *tx, _ apdu.Command) bool { return t.secure }}
	// fileRight is a matter of the file rules.
	fileRight = &requirement{words: "the file's right", refusal: apdu.SecurityStatus}

	// What is known about PINs refuses by itself, one transition after the other.
	initialised  = &requirement{words: "initialised", refusal: apdu.ReferenceNotFound}
	oldPIN       = &requirement{words: "old PIN in its data", refusal: apdu.TriesLeft(0)}
	soPIN        = &requirement{words: "SO-PIN in its data", refusal: apdu.TriesLeft(0)}
	soPINOnceSet = &requirement{words: "SO-PIN in its data, once set", refusal: apdu.TriesLeft(0)}
	soVerified   = &requirement{words: "SO-PIN verified", refusal: apdu.ConditionsNotSatisfied}
	resetOption  = &requirement{words: "option to reset with the SO-PIN", refusal: apdu.ConditionsNotSatisfied}

	sessionPINOption = &requirement{words: "option for session PINs", refusal: apdu.InstructionNotSupported, met: withOption(pinstate.OptionSessionPIN)}
	replaceOption    = &requirement{words: "option to replace public keys", refusal: apdu.ConditionsNotSatisfied, met: withOption(pinstate.OptionReplaceKeys)}

	// keyAuthentication: the card was initialised for public key authentication.
	keyAuthentication = &requirement{words: "set up for public key authentication", refusal: apdu.InstructionNotSupported, met: func(t *tx, _ apdu.Command) bool { return t.d.PINs.Keys.Total > 0 }}
	// keyDomainSlots: the card was initialised with key domains.
	keyDomainSlots = &requirement{
		words: "set up for key domains", refusal: apdu.InstructionNotSupported, met: wrapping.met,
		about: func(t *tx, c apdu.Command) { t.subject = fmt.Sprintf("key domain %d", c.P2) },
	}
	// wrapping is the same of a command that names a key.
	wrapping = &requirement{words: "set up for key domains", refusal: apdu.InstructionNotSupported, met: func(t *tx, _ apdu.Command) bool { return len(t.d.Domains) > 0 }}
	// userKey refuses the device key.
	userKey = &requirement{
		words: "not the device key", refusal: apdu.CommandNotAllowed, met: func(_ *tx, c apdu.Command) bool { return c.P1 != 0 },
		about: func(t *tx, c apdu.Command) { t.aboutKey(c.P1) },
	}

	// What other commands prepare.
	chosenProtocol = &requirement{words: "protocol chosen", refusal: apdu.ConditionsNotSatisfied, met: func(t *tx, _ apdu.Command) bool { return t.s.channel.suite != 0 }}
	verifier       = &requirement{words: "key chosen that verifies it", refusal: apdu.ConditionsNotSatisfied, met: func(t *tx, _ apdu.Command) bool { return t.s.trust.current != nil }}
	chosenKey      = &requirement{words: "public key chosen", refusal: apdu.ReferenceNotFound, met: func(t *tx, _ apdu.Command) bool {
		i := t.s.custodians.selected
		return i > 0 && i <= len(t.d.Custodians)
	}}
	challenge = &requirement{words: "challenge", refusal: apdu.ConditionsNotSatisfied, met: func(t *tx, _ apdu.Command) bool { return t.s.Challenge != nil }}
	// attestation comes after the slot that the command names.
	attestation = &requirement{words: "device chosen that vouches for its data", refusal: apdu.ConditionsNotSatisfied}
)

func withOption(o pinstate.Options) func(*tx, apdu.Command) bool {
	return func(t *tx, _ apdu.Command) bool { return t.d.PINs.Options.Has(o) }
}

// meets refuses a command that lacks something that its row asks for.
func (t *tx) meets(r *row, c apdu.Command) error {
	for _, n := range r.needs {
		if n.about != nil {
			n.about(t, c)
		}
		if n.met != nil && !n.met(t, c) {
			return n.refusal
		}
	}
	return nil
}
