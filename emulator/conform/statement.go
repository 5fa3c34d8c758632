package conform

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"

	"hsmemu/applet/apdu"
	"hsmemu/applet/client"
	"hsmemu/keystore/curve"
	"hsmemu/pinstate"
	"hsmemu/vsmartcard"
)

// Statement is what a card says of itself: the conformance statement, from which it
// follows which rules can be judged.
type Statement struct {
	// Fresh reports whether each rule gets a card of its own that nobody misses.
	Fresh bool `json:"fresh"`
	// Serial is the serial number, as DENK0404144, and ATR the answer to reset in
	// hexadecimal digits.
	Serial string `json:"serial"`
	ATR    string `json:"atr"`
	// Firmware is the version, as 4.1.
	Firmware string `json:"firmware"`
	// State is what the card is found in.
	State State `json:"state"`
	// Options are those of the last INITIALIZE DEVICE.
	Options uint16 `json:"options"`
	// Counters are the tries left.
	Counters
	// Curves are the names of the curves that the firmware has, and RSA the lengths
	// of RSA keys in bits. A card does not tell them: they are those of its version.
	Curves []string `json:"curves"`
	RSA    []int    `json:"rsa"`
}

// ReadStatement asks a card what it is. It costs nothing, and ends with no
// application selected. Conflicts are answers of the card that contradict each other.
// Errors: those of the card, and an answer to SELECT that is none of a SmartCard-HSM.
func ReadStatement(ctx context.Context, card vsmartcard.Card) (s Statement, conflicts []string, err error) {
	if err := card.Reset(); err != nil {
		return s, nil, &GoneError{err}
	}
	c := client.New(card)
	info, err := c.Select(ctx)
	if err != nil {
		return s, nil, err
	}
	s.ATR = fmt.Sprintf("%X", card.ATR())
	s.Firmware, s.Options = fmt.Sprintf("%d.%d", info.Major, info.Minor), uint16(info.Options)
	if device, err := c.Device(ctx); err == nil {
		s.Serial = device.Device.CHR.Holder()
	}
	user, err := c.PINStatus(ctx, client.UserPIN)
	if err != nil {
		return s, nil, err
	}
	so, err := c.PINStatus(ctx, client.SOPIN)
	if err != nil {
		return s, nil, err
	}
	s.UserPIN, s.SOPIN = counterOf(user), counterOf(so)
	s.State = map[client.PINState]State{
		client.Unset: Shipped, client.Transport: Transport, client.Blocked: Blocked, client.KeysMissing: KeysAlone,
	}[user.State]
	switch {
	case s.State == "":
		s.State = Operational
	case info.Major < 2 && so.State == client.Unset: // firmware 1 says so of a new card (PIN-29)
		s.State = Shipped
	}
	most, rsa := 320, []int{1024, 1536, 2048}
	if info.Major >= 3 {
		most, rsa = 521, append(rsa, 3072, 4096)
	}
	s.RSA = rsa
	for _, one := range curve.All() {
		if one.Bits() <= most {
			s.Curves = append(s.Curves, one.Name())
		}
	}
	memory, err := c.Send(ctx, apdu.Command{CLA: apdu.ClassProprietary, INS: apdu.InsInitializeDevice, Ne: 256})
	if gone := (*GoneError)(nil); errors.As(err, &gone) {
		return s, nil, err
	}
	if d := memory.Data; err == nil && len(d) == 7 { // PIN-27
		if other := fmt.Sprintf("%d.%d", d[5], d[6]); other != s.Firmware {
			conflicts = append(conflicts, fmt.Sprintf("firmware: the card says %s to SELECT and %s to INITIALIZE DEVICE", s.Firmware, other))
		}
	}
	if s.State == Shipped && info.Options != pinstate.Options(0) {
		conflicts = append(conflicts, fmt.Sprintf("options: the card was never initialised and has options %04X", s.Options))
	}
	if err := card.Reset(); err != nil {
		return s, nil, &GoneError{err}
	}
	return s, conflicts, nil
}

func counterOf(p client.PINStatus) Counter {
	return Counter{Known: p.State == client.Ready || p.State == client.Blocked, Left: p.Left}
}

// Claim is a statement of somebody else about a card, as a maker's: members that are
// left out claim nothing.
type Claim map[string]json.RawMessage

// ParseClaim reads a claim: a JSON object with members of a [Statement].
func ParseClaim(text []byte) (Claim, error) {
	var c Claim
	d := json.NewDecoder(bytes.NewReader(text))
	err := d.Decode(&c)
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		return nil, fmt.Errorf("line %d: this is no JSON", 1+bytes.Count(text[:max(0, syntax.Offset-1)], []byte("\n")))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, errors.New("the JSON object has no end")
	case err != nil, c == nil: // null is taken for any type
		return nil, errors.New("it is no JSON object")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON object")
	}
	known := members(Statement{})
	for name := range c {
		if _, is := known[name]; !is {
			return nil, fmt.Errorf("a statement has no member %q", name)
		}
	}
	return c, nil
}

// against lists what a card says otherwise.
func (c Claim) against(s Statement) (conflicts []string) {
	said := members(s)
	for _, name := range slices.Sorted(maps.Keys(c)) {
		var claimed, real any
		if json.Unmarshal(c[name], &claimed) != nil || json.Unmarshal(said[name], &real) != nil || !reflect.DeepEqual(claimed, real) {
			conflicts = append(conflicts, fmt.Sprintf("%s: the statement says %s, the card %s", name, c[name], said[name]))
		}
	}
	return conflicts
}

func members(s Statement) Claim {
	var c Claim
	text, err := json.Marshal(s)
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil {
		panic(err) // a value of numbers and texts
	}
	return c
}
