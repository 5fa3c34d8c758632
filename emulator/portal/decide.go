package portal

import (
	"fmt"

	"hsmemu/applet/cvc"
)

// Texts of the portal that users have seen (PORTAL-17 and UPDATE-8, and the
// life-cycle words of PORTAL-15).
const (
	// TextNotReady has the issuer's name in place of %s.
	TextNotReady = "Device Issuer CA %s not ready. Already logged in and licenses available ?"
	textKeys     = "SmartCard-HSM contains keys. Please remove keys first"
	textLatest   = "Firmware is already the latest available version (Edit)"
	// TextScheduled tells that an update is going to run.
	TextScheduled = "Request scheduled (Submit)"
	// TextFailed is told after any failure, also if nothing was changed.
	TextFailed = "Firmware update failed, possibly leaving the SmartCard-HSM in a corrupted state."
)

// Texts of this project, since those of the vendor's portal are not known.
const (
	textLimit      = "Limit of 5 firmware updates with blocked SO-PIN reached"
	textGeneration = "No firmware for this generation of SmartCard-HSM"
)

// mostBlocked is how often a chip can be updated because its SO-PIN is blocked.
const mostBlocked = 5

// Reason is why a card is not updated.
type Reason int

// The reasons, in the order in which they are looked for.
const (
	IssuerNotReady  Reason = iota + 1 // nothing on the card is changed unless its new device can be certified
	OtherGeneration                   // the firmware that there is runs on another chip
	Latest                            // there is nothing newer, and the SO-PIN is not blocked
	HasKeys                           // keys would be lost, and the SO-PIN is not blocked
	LimitReached                      // only the blocked SO-PIN would allow it, and has five times
)

// Refusal is an update that the rules do not allow. Nothing was changed.
type Refusal struct {
	Reason Reason
	// Text is what users are told.
	Text string
}

// Error is the text.
func (r *Refusal) Error() string { return r.Text }

// notReady is the refusal of an issuer that is not ready.
func notReady(issuer cvc.Name) *Refusal {
	return &Refusal{IssuerNotReady, fmt.Sprintf(TextNotReady, cvc.Name(issuer.Holder()))}
}

// Target is what a portal has for a card.
type Target struct {
	// Version is what would be loaded, the newest of a generation.
	Version Version
	// Issuer would certify the device, and IssuerReady reports whether it can.
	Issuer      cvc.Name
	IssuerReady bool
}

// Decision is what the rules say of an update.
type Decision struct {
	// Refusal is nil if the update is allowed.
	Refusal *Refusal
	// Blocked reports whether only the blocked SO-PIN allows it, which counts.
	Blocked bool
}

// facts are what the rules look at.
type facts struct {
	ready, generation         bool
	older, same               bool // the firmware on the card than the one to come
	keys, blocked, fiveBefore bool
}

// plain is an update that needs no blocked SO-PIN.
func (f facts) plain() bool { return !f.keys && f.older }

// rules are looked at in their order; the first whose condition holds refuses.
var rules = []struct {
	reason Reason
	text   string
	holds  func(facts) bool
}{
	{IssuerNotReady, TextNotReady, func(f facts) bool { return !f.ready }},
	{OtherGeneration, textGeneration, func(f facts) bool { return !f.generation }},
	{Latest, textLatest, func(f facts) bool { return !f.older && !f.same }},
	{Latest, textLatest, func(f facts) bool { return f.same && !f.blocked }},
	{HasKeys, textKeys, func(f facts) bool { return f.keys && !f.blocked }},
	{LimitReached, textLimit, func(f facts) bool { return !f.plain() && f.fiveBefore }},
}

// Decide says whether a device that was inspected may be updated: if it has no
// keys and an older firmware, or if its SO-PIN is blocked, five times for each
// chip (UPDATE-1 to UPDATE-4, UPDATE-6, UPDATE-9 and UPDATE-13). A blocked SO-PIN
// counts only where nothing else allows the update. The record is what is known of
// the chip.
func Decide(i Inspection, r Record, t Target) Decision {
	have := i.Version()
	f := facts{
		ready: t.IssuerReady, generation: have.Major == t.Version.Major,
		older: have.Compare(t.Version) < 0, same: have == t.Version,
		keys: len(i.Keys()) > 0, blocked: i.Blocked(), fiveBefore: r.Blocked >= mostBlocked,
	}
	for _, rule := range rules {
		switch {
		case !rule.holds(f):
		case rule.reason == IssuerNotReady:
			return Decision{Refusal: notReady(t.Issuer)}
		default:
			return Decision{Refusal: &Refusal{rule.reason, rule.text}}
		}
	}
	return Decision{Blocked: !f.plain()}
}
