// Package conform plays scenarios on cards and judges what they answer. A card
// is anything that takes command APDUs: an emulated one in the same process, or
// one in any reader.
//
//	script, err := conform.Parse(text)
//	player := conform.NewPlayer(func(name, firmware string) (vsmartcard.Card, error) { … })
//	err = player.Play(ctx, script) // *conform.Mismatch where the card does something else
//
// A scenario is a text of lines:
//
//	# comment
//	card A 4.1                     from here on the card A, of firmware 4.1 where
//	                               that is said
//	cut                            its power goes and comes back
//	select                         the application is selected
//	> 00 20 00 81 Lc("000000")     a command, see [Compile]
//	< 63C2                         its answer, see [Match]; 9000 where it is
//	                               left out. Any of several: < 6700 | 6A80. One that
//	                               is not asked for, but known from hardware:
//	                               < 6700 | 6A80 (differs: seen on 1.2)
//	= VERIFY user PIN → 63C2, …    the event that an observer of the card gets
//	! user PIN 3 → 2               a state that the card saves: what changes in it
//	~ user                         who is logged in then, if that changes
//	sm on aes128                   a secure channel for what follows: 3des, aes128,
//	                               aes192, aes256; < = ! ~ may follow
//	sm off                         no secure channel any more
//	let half = {ef|head 8}         a variable
//	differ one other               two variables are not equal
//	holds U=2/3 S=15 nobody        what the card knows of its users, see [Seen]
//	COMMAND => ANSWER !2           a command, its answer, and how many states it
//	                               saves; => ANSWER may be left out, and !2
//
// The lines that begin with = ! ~ and holds say what only an emulated card can
// tell. They are judged if the card is a [Witness], all of those behind a command
// or none; a card that is not is judged by its answers. How many states a command
// saves is judged of a [Torn] as well. Where nothing is said of that, both are asked
// all the same: a command that is refused must save nothing, unless it spends a try
// or any answer will do.
//
// There are variables from the start: the public key template of each curve by
// the curve's name, as secp256r1; rsa1024 to rsa4096; and long, 1000 bytes that
// every firmware takes in one command.
package conform

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"hsmemu/applet/apdu"
	"hsmemu/applet/cvc"
	"hsmemu/applet/sm"
	"hsmemu/keystore/curve"
	"hsmemu/vsmartcard"
)

// Witness is a card that tells more than it answers.
type Witness interface {
	vsmartcard.Card
	// Seen is what can be seen of the last command.
	Seen() Seen
}

// Seen is what can be seen of a command from outside of the card's interface.
type Seen struct {
	// Event is the command and its outcome in words.
	Event string
	// Saved says for each state that the command has saved, in their order, what
	// is new in it.
	Saved []string
	// Login says who is logged in now.
	Login string
	// Users is what the card knows of its users: tries left of the user PIN and
	// most tries, tries left of the SO-PIN, and who is logged in:
	// U=2/3 S=15 user.
	Users string
}

// Make gives a card of a name, as it is shipped with a firmware. An empty
// firmware is any.
type Make func(name, firmware string) (vsmartcard.Card, error)

// Player plays scripts on cards. It is not safe for use by several goroutines.
type Player struct {
	// Hosts are the cards that scripts have named, and Current is the one that
	// commands go to. A script finds cards here before it has new ones made.
	Hosts   map[string]*Host
	Current *Host
	// Vars are the variables.
	Vars Vars
	// Rand is the randomness of a host that opens a secure channel.
	Rand io.Reader
	// Differences are the answers that were known to be given by hardware, though
	// the scripts ask for others.
	Differences []Difference

	make  Make
	guard *guard // sees every command and its answer; nil for none
}

// NewPlayer is a player without cards, with the variables there are from the
// start and the system's randomness.
func NewPlayer(m Make) *Player {
	p := &Player{Hosts: map[string]*Host{}, Vars: Vars{}, Rand: rand.Reader, make: m}
	for _, c := range curve.All() {
		p.Vars[c.Name()] = cvc.ECTemplate(cvc.ECDSASHA256, c)
	}
	for _, bits := range []int{1024, 1536, 2048, 3072, 4096} {
		p.Vars[fmt.Sprintf("rsa%d", bits)] = cvc.RSATemplate(cvc.RSASHA256, bits)
	}
	p.Vars["long"] = bytes.Repeat([]byte{0x5A}, 1000)
	return p
}

// Difference is an answer that is not what a script asks for, but one that it knows
// hardware to give.
type Difference struct {
	// File is the file of the line, empty if it is the script's own.
	File string
	// Line is the line of the script, from 1, and Text the command there without its
	// data, in which secrets may be.
	Line int
	Text string
	// Want is what the script asks for, and Got what the card answered, without what may
	// be secret.
	Want, Got string
	// Seen is where that was seen.
	Seen string
}

// Mismatch says that a card does something else than a script wants.
type Mismatch struct {
	// File is the file of the line, empty if it is the script's own.
	File string
	// Line is the line of the script, from 1, and Text what is written there: the
	// directive, or the command without its data, in which secrets may be.
	Line int
	Text string
	// Want and Got are what the script wants and what the card does, without what may be
	// secret.
	Want, Got string
	// Event is the command in the words of the card's witness, empty without one.
	Event string
}

// Error is the line, what was wanted, and what came. There is no secret in it.
func (m *Mismatch) Error() string {
	text := fmt.Sprintf("line %d: %s\nwant %s\ngot  %s", m.Line, m.Text, m.Want, m.Got)
	if m.Event != "" {
		text += "\n" + m.Event
	}
	return text
}

// Play plays a script up to the first thing that a card does in another way.
// Errors: *Mismatch for that; behind the line that they are about, what cards and
// their maker fail with, and texts that have no value, as for want of a variable.
func (p *Player) Play(ctx context.Context, s Script) error {
	for _, one := range s.steps {
		r, err := p.step(ctx, one)
		if err == nil {
			err = one.compare(r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// tidy plays every line of a script, whatever becomes of the others, and returns what
// was not as it says. A card that is gone ends it.
func (p *Player) tidy(ctx context.Context, s Script) (all []error) {
	for _, one := range s.steps {
		r, err := p.step(ctx, one)
		if err == nil {
			err = one.compare(r)
		}
		if err != nil {
			all = append(all, err)
		}
		if away := (*GoneError)(nil); errors.As(err, &away) {
			break
		}
	}
	return all
}

// Record plays a script and returns its text with the lines that begin with
// < = ! ~ as they are now. An answer that still fits its pattern keeps it, and
// what there is no witness for is kept, too. Everything else is judged, with the
// errors of Play.
func (p *Player) Record(ctx context.Context, s Script) (string, error) {
	played := Script{}
	for _, one := range s.steps {
		r, err := p.step(ctx, one)
		if err != nil {
			return "", err
		}
		if r.witness || one.suite == 0 {
			one.record(r)
		}
		played.steps = append(played.steps, one)
	}
	return played.String(), nil
}

func (s *step) record(r record) {
	kept := s.seen
	s.seen = nil
	for _, l := range r.lines {
		s.seen = append(s.seen, l.text)
	}
	for _, l := range kept {
		if !r.witness && l[0] != '<' {
			s.seen = append(s.seen, l)
		}
	}
}

// record is what was seen of a step.
type record struct {
	lines   []sight
	witness bool  // there was one
	saved   error // what is wrong with the number of states saved, as far as it is not written
}

// sight is a line that says what was seen, and the event that it was seen at. Of an
// answer quoted is what messages say of it, and want what they say that was wanted.
type sight struct{ text, event, quoted, want string }

// compare compares what was seen of a step with the lines behind it.
func (s step) compare(r record) error {
	want, got := s.seen, r.lines
	answers := func(l string) bool { return l[0] == '<' }
	brief := !r.witness || !slices.ContainsFunc(want, func(l string) bool { return !answers(l) })
	if brief {
		want = slices.DeleteFunc(slices.Clone(want), func(l string) bool { return !answers(l) })
		got = slices.DeleteFunc(slices.Clone(got), func(l sight) bool { return !answers(l.text) })
	}
	if s.oneLine || s.suite != 0 && len(want) == 0 {
		return nil // judged already, or not to be judged
	}
	first := s.line + 1
	if s.verb == "send" && (len(want) == 0 || !answers(want[0])) {
		want, first = append([]string{"< " + s.wanted}, want...), s.line // not a line of its own
	}
	for i := range max(len(want), len(got)) {
		m := Mismatch{File: s.file, Line: min(first+i, s.line+len(s.seen)), Text: s.quoted(), Want: "nothing more", Got: "nothing more"}
		wanted, had := "", ""
		if i < len(want) {
			wanted, m.Want = want[i], quotedSight(want[i])
		}
		if i < len(got) {
			had, m.Got, m.Event = got[i].text, got[i].quoted, got[i].event
			if i == 0 && s.verb == "send" {
				m.Want = got[i].want
			}
		}
		if wanted != had {
			return &m
		}
	}
	if brief {
		return r.saved
	}
	return nil
}

// step does what a line of a script says.
func (p *Player) step(ctx context.Context, s step) (r record, err error) {
	if p.Current == nil && slices.Contains([]string{"cut", "sm", "holds", "send"}, s.verb) {
		err = errors.New("there is no card yet")
	} else {
		err = p.do(ctx, s, &r)
	}
	if m := (*Mismatch)(nil); err != nil && !errors.As(err, &m) {
		err = fmt.Errorf("line %d: %s: %w", s.line, s.quoted(), err)
	}
	return r, err
}

func (p *Player) do(ctx context.Context, s step, r *record) (err error) {
	switch s.verb {
	case "card":
		return p.take(s.args)
	case "cut":
		p.guard.powered()
		return p.Current.cut()
	case "sm":
		if s.suite == 0 {
			p.Current.Channel = sm.Host{}
			return nil
		}
		return p.Current.openChannel(ctx, s.suite, p.Rand, func(command []byte) ([]byte, error) {
			return p.send(ctx, step{want: []alternative{{want: pattern{{length: -1}}}}, wanted: "*"}, command, r)
		})
	case "let":
		p.Vars[s.args[0]], err = s.command.bytes(p.Vars)
	case "differ":
		for _, name := range s.args {
			if _, kept := p.Vars[name]; !kept {
				return s.mismatch("a variable "+named(name), "none of that name", "")
			}
		}
		if one := p.Vars[s.args[0]]; bytes.Equal(one, p.Vars[s.args[1]]) {
			return s.mismatch("two values", fmt.Sprintf("the same %d bytes twice", len(one)), "")
		}
	case "holds":
		if w, ok := p.Current.Card.(Witness); ok && w.Seen().Users != s.args[0] {
			return s.mismatch(quotedSight(s.args[0]), w.Seen().Users, w.Seen().Event)
		}
	case "send":
		var command []byte
		if command, err = s.command.bytes(p.Vars); err == nil {
			_, err = p.send(ctx, s, command, r)
		}
	}
	return err
}

func (s step) mismatch(want, got, event string) *Mismatch {
	return &Mismatch{File: s.file, Line: s.line, Text: s.quoted(), Want: want, Got: got, Event: event}
}

// take goes on with a card, by its name and its firmware.
func (p *Player) take(words []string) error {
	name, firmware := words[0], append(words, "")[1]
	if p.Hosts[name] == nil {
		card, err := p.make(name, firmware)
		if err != nil {
			return err
		}
		p.Hosts[name] = &Host{Card: card, firmware: firmware}
	}
	p.Current = p.Hosts[name]
	if had := p.Current.firmware; firmware != "" && had != "" && firmware != had {
		return errors.New("the card of this name was made with another firmware")
	}
	return nil
}

// send gives the current card a command and adds to a record what can be seen of
// it.
func (p *Player) send(ctx context.Context, s step, command []byte, r *record) ([]byte, error) {
	w, witness := p.Current.Card.(Witness)
	login := ""
	if witness {
		login = w.Seen().Login
	}
	if err := p.guard.before(ctx, command); err != nil {
		return nil, err
	}
	answer, err := p.Current.Send(ctx, command)
	if err != nil {
		return nil, err
	}
	seen, saves := sightOf(p.Current.Card) // before anything else is sent
	if err := p.guard.after(ctx, s, answer); err != nil {
		return nil, err
	}
	if len(answer) < 2 {
		return nil, fmt.Errorf("an answer of %d bytes", len(answer))
	}
	r.witness = r.witness || witness
	taken, fits, err := fit(s.want, answer, p.Vars)
	if err != nil {
		return nil, err
	}
	want, got := s.wanted, s.wanted
	if !fits || taken.differs != "" {
		want, got = s.quotedWant(p.Vars, command), p.Vars.quotedAnswer(command, answer)
	}
	if taken.differs != "" {
		p.Differences = append(p.Differences, Difference{File: s.file, Line: s.line, Text: s.quoted(), Want: want, Got: got, Seen: taken.differs})
	}
	switch {
	case s.oneLine && !fits:
		return nil, s.mismatch(want, got, seen.Event)
	case s.oneLine:
	case fits:
		r.lines = append(r.lines, sight{"< " + s.wanted, seen.Event, "< " + s.wanted, "< " + s.wanted})
	default:
		r.lines = append(r.lines, sight{"< " + written(answer), seen.Event, "< " + got, "< " + want})
	}
	if saves >= 0 {
		r.saved = s.judgeSaved(answer, saves, seen.Event)
	}
	if s.oneLine || !witness {
		return answer, r.saved
	}
	r.add("= "+seen.Event, seen)
	for _, change := range seen.Saved {
		r.add("! "+change, seen)
	}
	if seen.Login != login {
		r.add("~ "+seen.Login, seen)
	}
	return answer, nil
}

func (r *record) add(line string, seen Seen) {
	r.lines = append(r.lines, sight{line, seen.Event, line, ""})
}

// sightOf is what a card tells of its last command beside the answer, and how many
// states the command has saved; -1 of a card that tells nothing.
func sightOf(card vsmartcard.Card) (Seen, int) {
	if w, is := card.(Witness); is {
		seen := w.Seen()
		return seen, len(seen.Saved)
	}
	if t := torn(card); t != nil {
		return Seen{}, t.Saves()
	}
	return Seen{}, -1
}

// judgeSaved compares how many states a command has saved with what the script
// says of it, or with what holds where it says nothing.
func (s step) judgeSaved(answer []byte, saves int, event string) error {
	saved := strconv.Itoa(saves)
	sw := apdu.SW(answer[len(answer)-2])<<8 | apdu.SW(answer[len(answer)-1])
	_, tries := sw.Tries()
	success := sw == apdu.OK || sw == apdu.EndOfFile || sw == apdu.KeyAuthenticated
	switch {
	case s.saves != "" && s.saves != saved:
		return s.mismatch("!"+s.saves, "!"+saved, event)
	case s.saves == "" && s.wanted != "*" && !tries && !success && saved != "0":
		return s.mismatch("!0 of a command that is refused", "!"+saved, event)
	}
	return nil
}
