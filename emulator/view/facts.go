package view

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"hsmemu/applet/cvc"
)

// Snapshot is what was kept of a card under a tag. Generation and Seal are nil if
// its file cannot be read; Refused says why.
type Snapshot struct {
	Schema     int      `json:"schema"`
	Tag        string   `json:"tag"`
	Generation *uint64  `json:"generation"`
	Seal       *string  `json:"seal"`
	Refused    *Refusal `json:"refused"`
}

// Words is the snapshot in one line for people.
func (s Snapshot) Words() string {
	if s.Refused != nil {
		return s.Tag + "  " + s.Refused.Text
	}
	return fmt.Sprintf("%s  generation %d, seal %s", s.Tag, known(s.Generation), known(s.Seal))
}

// PrintSnapshots prints a line for each.
func PrintSnapshots(all []Snapshot, w io.Writer) error {
	for _, s := range all {
		if _, err := fmt.Fprintln(w, s.Words()); err != nil {
			return err
		}
	}
	return nil
}

// Fault is a fault that is set on a running card.
type Fault struct {
	Schema   int      `json:"schema"`
	Name     string   `json:"name"`
	Settings []string `json:"settings"` // as they were given, "after=3"
}

// FaultOf is a fault said as a setting is, in words with blanks between them.
func FaultOf(said string) Fault {
	name, settings, _ := strings.Cut(said, " ")
	return Fault{Schema: Schema, Name: name, Settings: list(strings.Fields(settings))}
}

// Program is this program as it was built.
type Program struct {
	Schema   int    `json:"schema"`
	Version  string `json:"version"`
	Go       string `json:"go"`       // version of the language's tools, "go1.26.8"
	Platform string `json:"platform"` // "linux/amd64"
}

// Exchange is a command and its answer. Event is nil where the card did not see
// the command or failed in it. Expected is the pattern of the status word, nil if none was given.
type Exchange struct {
	Schema   int     `json:"schema"`
	Command  string  `json:"command"` // in hexadecimal, as are
	Data     string  `json:"data"`    // of the answer
	SW       *string `json:"sw"`      // and its status word; nil for an answer without one
	Expected *string `json:"expected"`
	Event    *Event  `json:"event"`
}

// statusLength is the length of a status word in bytes.
const statusLength = 2

// ExchangeOf is a command and its answer, as bytes.
func ExchangeOf(command, answer []byte, e *Event) Exchange {
	x := Exchange{Schema: Schema, Command: upper(command), Data: upper(answer), Event: e}
	if n := len(answer) - statusLength; n >= 0 {
		x.Data, x.SW = upper(answer[:n]), new(upper(answer[n:]))
	}
	return x
}

// Words is the exchange in three lines for people: what was sent, what came back,
// and what both mean.
func (x Exchange) Words() string {
	meaning := "no account of this command: the card did not see it, or failed in it"
	if x.Event != nil {
		meaning = x.Event.String()
	}
	return fmt.Sprintf("> %s\n< %s%s\n  %s\n", x.Command, x.Data, known(x.SW), meaning)
}

// IsExpected reports whether the status word is the expected one. An X in Expected
// stands for any digit.
func (x Exchange) IsExpected() bool {
	want, have := known(x.Expected), known(x.SW)
	if x.Expected == nil {
		return true
	}
	if len(want) != len(have) {
		return false
	}
	for i := range len(want) {
		if want[i] != 'X' && want[i] != have[i] {
			return false
		}
	}
	return true
}

// Pattern is the pattern of a status word in capitals, or an error that says what
// is wrong with it.
func Pattern(text string) (string, error) {
	p := strings.ToUpper(text)
	if len(p) != 2*statusLength || strings.Trim(p, "0123456789ABCDEFX") != "" {
		return "", fmt.Errorf("%q is no status word: four hexadecimal digits, or X for any, as in 63CX", text)
	}
	return p, nil
}

// Expectations are patterns of status words, as [Pattern] makes them: one for each
// command in their order, of which the last holds for those that follow.
type Expectations []string

// ParseExpectations reads patterns as people write them.
func ParseExpectations(texts []string) (e Expectations, err error) {
	for _, text := range texts {
		p, err := Pattern(text)
		if err != nil {
			return nil, err
		}
		e = append(e, p)
	}
	return e, nil
}

// Of is what the command with a number, from 1, is to be answered; nil is anything.
func (e Expectations) Of(number int) *string {
	if len(e) == 0 {
		return nil
	}
	return &e[min(number, len(e))-1]
}

// Told says that there were fewer commands than answers are expected.
func (e Expectations) Told(commands int) error {
	if commands < len(e) {
		return fmt.Errorf("%s expected, and only %s", count(len(e), "answer"), count(commands, "command"))
	}
	return nil
}

// Attestation is what certificates prove: whose device it is, and, with a request,
// that a key was generated in it.
type Attestation struct {
	Schema       int           `json:"schema"`
	Device       string        `json:"device"`
	Path         string        `json:"path"` // holders from root to device, each behind a slash
	Origin       Origin        `json:"origin"`
	Certificates []Certificate `json:"certificates"` // root, issuer, device
	Request      *Request      `json:"request"`      // nil if the chain alone was verified
}

// Origin is whose root a chain of certificates ends in.
type Origin string

// The origins of a device.
const (
	Vendor     Origin = "vendor"
	VendorTest Origin = "vendor-test"
	OtherRoot  Origin = "other"
	Emulator   Origin = "emulator" // proves nothing
)

var origins = map[cvc.Origin]Origin{cvc.OriginVendor: Vendor, cvc.OriginVendorTest: VendorTest, cvc.OriginEmulator: Emulator}

// Certificate is a card verifiable certificate.
type Certificate struct {
	Role       string `json:"role"` // in words
	Holder     string `json:"holder"`
	Issuer     string `json:"issuer"`
	From       string `json:"from"` // days, 2026-12-31
	To         string `json:"to"`
	Key        string `json:"key"` // in words
	ValidToday bool   `json:"valid_today"`
}

// Request is the request for a key's certificate that the device countersigned.
type Request struct {
	Name string `json:"name"` // of the key
	Key  string `json:"key"`  // in words
}

// AttestationOf describes a verified chain on a day, and the request that it
// carries; nil is none.
func AttestationOf(v cvc.Verified, r *cvc.Authenticated, day time.Time) Attestation {
	a := Attestation{Schema: Schema, Device: v.Device.CHR.Holder(), Path: v.Path(), Origin: cmp.Or(origins[v.Origin()], OtherRoot)}
	for _, c := range []cvc.Certificate{v.Root, v.Issuer, v.Device} {
		a.Certificates = append(a.Certificates, verifiable(c, day))
	}
	if r != nil {
		a.Request = &Request{Name: r.Request.CHR.String(), Key: r.Request.Key.String()}
	}
	return a
}

// verifiable describes a card verifiable certificate on a day.
func verifiable(c cvc.Certificate, day time.Time) Certificate {
	return Certificate{
		Role: c.Authorization.Role().String(), Holder: c.CHR.String(), Issuer: c.CAR.String(),
		From: c.Effective.Format(time.DateOnly), To: c.Expires.Format(time.DateOnly), Key: c.Key.String(), ValidToday: c.ValidOn(day),
	}
}
