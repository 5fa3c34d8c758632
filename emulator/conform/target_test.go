package conform_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/client"
	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/conform"
	"hsmemu/keystore"
	"hsmemu/vsmartcard"
	"hsmemu/vsmartcard/pcscd"
)

const rules = `
setup operational
  select
  80 50 00 00 Lc(80(0001) 81({pin}) 82({so-pin}) 91(03))
  cut
  select
`

// rule is a rule of a test: its name, what it costs and its steps.
func rule(id, costs, steps string, more ...string) string {
	return "rule " + id + " v1\n says s\n clause PIN-1\n evidence seen on hardware: https://example.org\n costs " + costs + "\n" + strings.Join(more, "\n") +
		"\nsteps\n " + strings.ReplaceAll(steps, "\n", "\n ") + "\n"
}

func ruleLibrary(t testing.TB, texts ...string) conform.Library {
	t.Helper()
	l, err := conform.ParseRules("f.txt", rules+strings.Join(texts, ""))
	require.NoError(t, err)
	return l
}

// somebodys is a card in use that is not gone with a rule, as one in a reader, and
// sent is what it has got.
type somebodys struct {
	vsmartcard.Card
	sent   []string
	answer func(sent string) []byte // in place of the card's own; nil leaves it
	err    func() error
}

func (s *somebodys) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	s.sent = append(s.sent, strings.ToUpper(hexOf(command)))
	if s.err != nil {
		if err := s.err(); err != nil {
			return nil, err
		}
	}
	if s.answer != nil {
		if a := s.answer(s.sent[len(s.sent)-1]); a != nil {
			return a, nil
		}
	}
	return s.Card.Transmit(ctx, command)
}

func hexOf(b []byte) string {
	const digits = "0123456789ABCDEF"
	var out strings.Builder
	for _, one := range b {
		out.WriteByte(digits[one>>4])
		out.WriteByte(digits[one&15])
	}
	return out.String()
}

// presented is how often a PIN was sent to the card, right or wrong.
func (s *somebodys) presented() (n int) {
	for _, one := range s.sent {
		if regexp.MustCompile(`^(0020008[18]0|0024|002C|80500000[0-9A-F]{4})`).MatchString(one) {
			n++
		}
	}
	return n
}

func initialised(t testing.TB) *somebodys {
	t.Helper()
	w := emulator.System()
	w.RSA = keystore.PoolGenerator{Rand: w.Rand}
	card, err := emulator.NewCard(chip.Order{Serial: "DENK9900001"}, w)
	require.NoError(t, err)
	c := client.New(card)
	_, err = c.Select(t.Context())
	require.NoError(t, err)
	require.NoError(t, c.Initialise(t.Context(), client.Setup{Options: 1, SOPIN: []byte("57621880"), PIN: []byte("648219"), Tries: 3}))
	return &somebodys{Card: card}
}

func (s *somebodys) target() conform.Target { return conform.Target{Name: "a reader", Card: s} }

func verdicts(r conform.Report) (all []conform.Verdict) {
	for _, one := range r.Results {
		all = append(all, one.Verdict)
	}
	return all
}

func yes(s conform.Statement, _ conform.Plan, _ conform.Costs) (string, error) { return s.Serial, nil }

// On somebody's card nothing is played that costs anything, unless that is allowed
// and confirmed; and never what blocks the SO-PIN or comes too near to it.
func TestJudge_SpendsNothingUnasked(t *testing.T) {
	t.Parallel()
	l := ruleLibrary(
		t, rule("X-R1", "nothing", "select\n00 20 00 81 => 63C3"), rule("X-R2", "1 user try", "select\n00 20 00 81 Lc({pin|flip}) => 63C2\n00 20 00 81 Lc({pin})"),
		rule("X-R3", "an SO lockout", "select"), rule("X-R4", "11 SO tries", "select"), rule("X-R5", "1 user try, all data", "00 20 00 81 Lc({pin|flip}) => 63C2", " setup operational"),
	)
	card := initialised(t)
	r, err := conform.Judge(t.Context(), l, card.target(), options())
	require.NoError(t, err)
	require.True(t, r.Passed())
	require.Equal(t, []conform.Verdict{conform.Held, conform.NotJudged, conform.NotJudged, conform.NotJudged, conform.NotJudged}, verdicts(r))
	require.Equal(t, "costs 1 user try", r.Results[1].Why)
	require.Zero(t, card.presented(), card.sent)

	o := options()
	o.Destructive = true
	_, err = conform.Judge(t.Context(), l, card.target(), o)
	require.ErrorContains(t, err, "nobody was asked")
	refused := errors.New("no")
	var spends string
	o.Confirm = func(s conform.Statement, _ conform.Plan, most conform.Costs) (string, error) {
		spends = most.Spends(s)
		return s.Serial, refused
	}
	_, err = conform.Judge(t.Context(), l, card.target(), o)
	require.ErrorIs(t, err, refused)
	require.Equal(t, "spends up to 2 of 3 user PIN tries, spends up to 1 of 15 SO-PIN tries, erases all keys, certificates and files", spends)
	for _, named := range []string{"", "DENK9999999"} { // another card, or none
		o.Confirm = func(conform.Statement, conform.Plan, conform.Costs) (string, error) { return named, nil }
		_, err = conform.Judge(t.Context(), l, card.target(), o)
		var other *conform.SerialError
		require.ErrorAs(t, err, &other)
		require.Equal(t, named, other.Named)
		require.EqualError(t, err, fmt.Sprintf("judge %s: the card is %q, not %q", card.target().Name, other.Is, named))
	}
	require.Zero(t, card.presented(), card.sent)

	o.Confirm = yes
	r, err = conform.Judge(t.Context(), l, card.target(), o)
	require.NoError(t, err)
	require.Equal(t, []conform.Verdict{conform.Held, conform.Held, conform.NotJudged, conform.NotJudged, conform.Held}, verdicts(r))
	require.Equal(t, "blocks the SO-PIN, which nothing undoes", r.Results[2].Why)
	require.Equal(t, "costs 11 SO tries, and of 15 tries of the SO-PIN 5 are to be kept", r.Results[3].Why)
	require.Equal(t, conform.Counter{Known: true, Left: 3}, r.After.UserPIN, "a card that was erased is in use again")
}

// What a rule says that it costs is the most that it may spend: what would go beyond
// it is not sent, and the rule is not judged.
func TestJudge_HoldsRulesToTheirCosts(t *testing.T) {
	t.Parallel()
	for steps, want := range map[string]string{
		"select\n00 20 00 81 Lc({pin|flip}) => 63C2":                                   "f.txt: would spend another try of the user PIN",
		"select\n00 20 00 81 Lc(\"12345\") => 6700":                                    "would spend another try of the user PIN",
		"select\n00 20 00 88 Lc({so-pin|flip}) => 63CE":                                "would spend another try of the SO-PIN",
		"select\n00 24 00 81 Lc({pin|flip} {pin}) => 63C2":                             "would spend another try of the user PIN",
		"select\n00 2C 00 81 Lc({so-pin|flip} {pin}) => 63CE":                          "would spend another try of the SO-PIN",
		"select\n00 24 00 81 Lc({pin} {pin})":                                          "changes the card for good",
		"select\n80 50 00 00 Lc(80(0001) 81({pin}) 82({so-pin}) 91(03))":               "changes the card for good",
		"select\n80 50 00 00 Lc(80(0001) 81({pin}) 82({so-pin|flip}) 91(03)) => 63CE":  "would spend another try of the SO-PIN",
		"select\n00 20 00 81 Lc({pin})\n00 D7 CF 00 Lc(54(0000) 53(\"x\"))":            "changes what the card holds",
		"select\n0C 20 00 81 Lc(87(01 0000000000000000) 8E(0000000000000000)) 00 => *": "would spend another try of the user PIN",
		"sm on aes128\n00 20 00 81 Lc({pin|flip}) => 63C2":                             "would spend another try of the user PIN",
	} {
		steps = strings.Replace(steps, "sm on", "select\nsm on", 1)
		card, o := initialised(t), options()
		o.Confirm = yes
		r, err := conform.Judge(t.Context(), ruleLibrary(t, rule("X-R1", "nothing", steps)), card.target(), o)
		require.NoError(t, err)
		require.Equal(t, conform.NotJudged, r.Results[0].Verdict, "%s: %+v", steps, r.Results[0])
		require.Contains(t, r.Results[0].Why, strings.TrimPrefix(want, "f.txt: "), steps)
		require.Equal(t, conform.Counter{Known: true, Left: 3}, r.After.UserPIN)
		require.Equal(t, conform.Counter{Known: true, Left: 15}, r.After.SOPIN)
	}
}

// A counter that is not where it has to be ends the run at once.
func TestJudge_StopsAtACounterThatJumps(t *testing.T) {
	t.Parallel()
	l := ruleLibrary(t, rule("X-R1", "2 user tries", "select\n00 20 00 81 Lc({pin|flip}) => *\n00 20 00 81 Lc({pin|flip}) => *"), rule("X-R2", "nothing", "select"))
	card := initialised(t)
	o := options()
	o.Destructive, o.Confirm = true, yes
	card.answer = func(sent string) []byte {
		if strings.HasPrefix(sent, "0020008106") {
			return []byte{0x63, 0xC1}
		}
		return nil
	}
	r, err := conform.Judge(t.Context(), l, card.target(), o)
	require.NoError(t, err)
	require.Equal(t, []conform.Verdict{conform.NotJudged, conform.NotJudged}, verdicts(r))
	require.Equal(t, "the user PIN has 1 tries left, and should have 2", r.Stopped)
	require.Equal(t, 1, card.presented(), "the second try is not sent")
	require.False(t, r.Passed())
}

// A PIN of the owner that is wrong costs one try and no more.
func TestJudge_StopsAtAWrongPIN(t *testing.T) {
	t.Parallel()
	login := "select\n00 20 00 81 Lc({pin})"
	card := initialised(t)
	o := options()
	o.Vars["pin"], o.Confirm = []byte("111111"), yes
	r, err := conform.Judge(t.Context(), ruleLibrary(t, rule("X-R1", "nothing", login), rule("X-R2", "nothing", login)), card.target(), o)
	require.NoError(t, err)
	require.Equal(t, "the user PIN that was given is refused; it has 2 tries left", r.Stopped)
	require.Equal(t, 1, card.presented())
	require.Equal(t, []conform.Verdict{conform.NotJudged, conform.NotJudged}, verdicts(r), "it tells nothing of the card")
}

// A card that is gone in the middle is not judged, and never held.
func TestJudge_CardThatIsGone(t *testing.T) {
	t.Parallel()
	l := ruleLibrary(t, rule("X-R1", "nothing", "select"), rule("X-R2", "nothing", "select\n00 20 00 81 => 63C3"), rule("X-R3", "nothing", "select"))
	whole := initialised(t)
	_, err := conform.Judge(t.Context(), l, whole.target(), options())
	require.NoError(t, err)
	judged := 0
	for after := range whole.sent {
		card, left := initialised(t), after
		card.err = func() error {
			if left--; left < 0 {
				return pcscd.ErrRemoved
			}
			return nil
		}
		r, err := conform.Judge(t.Context(), l, card.target(), options())
		if r.Results == nil {
			require.ErrorIs(t, err, pcscd.ErrRemoved)
			continue
		}
		judged++
		require.NoError(t, err)
		require.Equal(t, conform.NotJudged, r.Results[2].Verdict)
		require.Contains(t, r.Stopped, "the card does not answer")
		require.False(t, r.Passed())
		require.NotContains(t, verdicts(r), conform.Broken)
	}
	require.Greater(t, judged, 10)
}

// What ends the run leaves a report of what was judged, and tidies up the rule that
// was being played.
func TestJudge_Interrupted(t *testing.T) {
	t.Parallel()
	l := ruleLibrary(
		t, rule("X-R1", "nothing", "select"),
		rule("X-R2", "1 user try", "select\n00 20 00 81 Lc({pin|flip}) => 63C2\n00 20 00 81 => 63C2")+"after\n 00 20 00 81 Lc({pin})\n", rule("X-R3", "nothing", "select"),
	)
	card := initialised(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	card.answer = func(sent string) []byte {
		if strings.HasPrefix(sent, "0020008106") {
			stop()
		}
		return nil
	}
	o := options()
	o.Destructive, o.Confirm = true, yes
	r, err := conform.Judge(ctx, l, card.target(), o)
	require.ErrorIs(t, err, context.Canceled)
	require.True(t, r.Interrupted)
	require.Equal(t, []conform.Verdict{conform.Held, conform.NotJudged, conform.NotJudged}, verdicts(r))
	require.Equal(t, conform.Counter{Known: true, Left: 3}, r.After.UserPIN, "the right PIN was given behind it")
}

// An inferred rule that does not hold of somebody's card is to be looked at; of an
// emulated one it is broken.
func TestJudge_Verdicts(t *testing.T) {
	t.Parallel()
	ours := strings.Replace(rule("X-R1", "nothing", "select\n00 20 00 81 => 63C7"), "seen on hardware: https://example.org", "ours", 1)
	l := ruleLibrary(t, ours, rule("X-R2", "nothing", "select\n00 20 00 81 => 63C7"), rule("X-R3", "nothing", "select\n00 20 00 81 => 63C7 | 63C3 (differs: on 3.1)"),
		rule("X-R4", "nothing", "select", "before\n  00 20 00 81 => 63C7"), rule("X-R5", "nothing", "select", " withdrawn was wrong"), rule("X-R6", "nothing", "select", " applies firmware < 3.0"))
	r, err := conform.Judge(t.Context(), l, initialised(t).target(), options())
	require.NoError(t, err)
	require.Equal(t, []conform.Verdict{conform.Review, conform.Broken, conform.Differs, conform.NotJudged, conform.NotJudged, conform.NotJudged}, verdicts(r))
	require.Equal(t, []conform.Failure{{File: "f.txt", Line: 24, Text: "00200081", Want: "63C7", Got: "63C3"}}, r.Results[1].Failures)
	require.Equal(t, "on 3.1", r.Results[2].Failures[0].Seen)
	require.Contains(t, r.Results[3].Why, "the card could not be prepared: ")
	require.Equal(t, "withdrawn: was wrong", r.Results[4].Why)
	require.False(t, r.Passed())

	r, err = conform.Judge(t.Context(), l, shipped(t, "4.1"), options())
	require.NoError(t, err)
	require.Equal(t, conform.Broken, r.Results[0].Verdict)
	require.Equal(t, conform.Broken, r.Results[3].Verdict, "all there was before is known of a card made for the rule")
}

// What is known to be broken does not fail; a line that is not true any more does.
func TestJudge_Expectations(t *testing.T) {
	t.Parallel()
	l := ruleLibrary(t, rule("X-R1", "nothing", "select\n00 20 00 81 => 63C7"), rule("X-R2", "nothing", "select"), rule("X-R3", "nothing", "select"))
	judge := func(text string) conform.Report {
		o := options()
		var err error
		o.Expected, err = conform.ParseExpectations("known.txt", text)
		require.NoError(t, err)
		r, err := conform.Judge(t.Context(), l, shipped(t, "4.1"), o)
		require.NoError(t, err)
		return r
	}
	r := judge("# comment\n\nbroken X-R1 # the vendor knows\nskip X-R2 # takes long\n")
	require.True(t, r.Passed(), r.Remarks())
	require.Equal(t, "the vendor knows", r.Results[0].Expected)
	require.Equal(t, "to be skipped: takes long", r.Results[1].Why)
	r = judge("broken X-R1 # the vendor knows\nbroken X-R3 # as well\nskip X-R9 # no\n")
	require.False(t, r.Passed())
	require.Equal(t, []string{"line 2: X-R3 is not broken: held", "line 3: X-R9 is no rule of the library"}, r.Stale)
	_, err := conform.ParseExpectations("known.txt", "broken X-R1\nwhat X # y\nskip X-R1 # a\nskip X-R1 # b\n")
	require.EqualError(t, err, "known.txt:1: X-R1 has no reason behind #\nknown.txt:2: broken RULE # REASON, or skip RULE # REASON\nknown.txt:4: X-R1 stands there already")
}

// A card that contradicts what is said of it, or itself, does not conform.
func TestJudge_Claims(t *testing.T) {
	t.Parallel()
	l := ruleLibrary(t, rule("X-R1", "nothing", "select"))
	o := options()
	var err error
	o.Claim, err = conform.ParseClaim([]byte(`{"firmware": "3.5", "serial": "DENK9900001", "rsa": [1024, 1536, 2048, 3072, 4096]}`))
	require.NoError(t, err)
	card := initialised(t)
	r, err := conform.Judge(t.Context(), l, card.target(), o)
	require.NoError(t, err)
	require.Equal(t, []string{`firmware: the statement says "3.5", the card "4.1"`}, r.Conflicts)
	require.False(t, r.Passed())
	for text, want := range map[string]string{
		"": "the JSON object has no end", "{\n": "the JSON object has no end", `{"firmware": "4`: "the JSON object has no end", "[]": "it is no JSON object", "4": "it is no JSON object", "null": "it is no JSON object",
		"{\n\n'firmware'": "line 3: this is no JSON", "{} {}": "something follows the JSON object", "{}}": "something follows the JSON object",
	} {
		_, err := conform.ParseClaim([]byte(text))
		require.EqualError(t, err, want, text)
	}
	_, err = conform.ParseClaim([]byte(`{"colour": 1}`))
	require.EqualError(t, err, `a statement has no member "colour"`)

	card.answer = func(sent string) []byte { // it says that it is 4.2 to one command
		if sent == "8050000000" {
			return []byte{0, 0, 0x10, 0, 6, 4, 2, 0x90, 0}
		}
		return nil
	}
	r, err = conform.Judge(t.Context(), l, card.target(), options())
	require.NoError(t, err)
	require.Equal(t, []string{"firmware: the card says 4.1 to SELECT and 4.2 to INITIALIZE DEVICE"}, r.Conflicts)

	card.answer = func(string) []byte { return []byte{0x6A, 0x82} } // a card of another kind
	_, err = conform.Judge(t.Context(), l, card.target(), options())
	require.EqualError(t, err, "judge a reader: select the application: file, key or application not found (6A82)")
}

// Wherever the power is cut, no try is given back. A card that compares before it
// counts is found out.
func TestJudge_Cuts(t *testing.T) {
	t.Parallel()
	l := ruleLibrary(t, rule("X-R1", "3 user tries, 1 SO try, all data", `00 20 00 81 Lc({pin|flip}) => 63C2
00 20 00 81 Lc({pin})
00 20 00 88 Lc({so-pin|flip}) => *
00 20 00 88 Lc({so-pin}) => *
00 24 00 81 Lc({pin} {pin|flip})
00 2C 00 81 Lc({so-pin} {pin})`, " setup operational", " power at every save"))
	honest := shipped(t, "4.1")
	r, err := conform.Judge(t.Context(), l, honest, options())
	require.NoError(t, err)
	require.True(t, r.Passed(), r.Results[0].Why)
	cuts := r.Results[0].Cuts
	require.GreaterOrEqual(t, len(cuts), 6*2)
	require.Equal(t, "VERIFY, user PIN", cuts[0].Command)
	require.Equal(t, conform.Counters{UserPIN: conform.Counter{Known: true, Left: 3}, SOPIN: conform.Counter{Known: true, Left: 15}}, cuts[0].Found)
	require.Equal(t, conform.Counter{Known: true, Left: 2}, cuts[1].Found.UserPIN)

	r, err = conform.Judge(t.Context(), l, conform.Target{Make: func() (vsmartcard.Card, error) {
		card, err := honest.Make()
		return hasty{card.(*emulator.Torn)}, err
	}}, options())
	require.NoError(t, err)
	require.Equal(t, conform.Broken, r.Results[0].Verdict)
	require.NotEmpty(t, r.Results[0].Failures)

	card := initialised(t)
	r, err = conform.Judge(t.Context(), l, card.target(), options())
	require.NoError(t, err)
	require.Equal(t, "the power of this card cannot be cut at a save", r.Results[0].Why)
}

// hasty is a card that saves nothing before the end of a command.
type hasty struct{ *emulator.Torn }

func (h hasty) Saves() int { return min(1, h.Torn.Saves()) }

func (h hasty) CutAfter(saves int) (vsmartcard.Card, error) {
	if saves > 0 {
		saves = h.Torn.Saves()
	}
	return h.Torn.CutAfter(saves)
}

// The same seed makes the same report, byte for byte, in every form.
func TestReport_IsTheSameForASeed(t *testing.T) {
	t.Parallel()
	o := options()
	o.Seed = new(uint64(7))
	l := library(t)
	var texts []map[string]string
	for range 3 {
		r, err := conform.Judge(t.Context(), l, shipped(t, "4.1"), o)
		require.NoError(t, err)
		forms := map[string]string{}
		for _, format := range conform.Formats() {
			var b bytes.Buffer
			require.NoError(t, r.Write(&b, format))
			forms[format] = b.String()
		}
		texts = append(texts, forms)
	}
	require.NotEmpty(t, texts[0])
	require.Equal(t, texts[0], texts[1])
	require.Equal(t, texts[0], texts[2])
}

// What a card or a rule has said cannot become a part of the report's form.
func TestReport_Forms(t *testing.T) {
	t.Parallel()
	odd := `<script>"#&`
	l, err := conform.LoadRules(fstest.MapFS{"f.txt": {Data: []byte(rules + strings.Replace(rule("X-R1", "nothing", "select\n00 20 00 81 => \"<b>\""), "says s", "says "+odd, 1) + rule("X-R2", "nothing", "select"))}})
	require.NoError(t, err)
	r, err := conform.Judge(t.Context(), l, shipped(t, "4.1"), options())
	require.NoError(t, err)
	r.Target += "\x1b\u202e"
	write := func(format string) string {
		var b bytes.Buffer
		require.NoError(t, r.Write(&b, format))
		return b.String()
	}
	page := write("html")
	require.NotContains(t, page, "<script>")
	require.NotContains(t, page, "<b>")
	require.NotRegexp(t, `src=|url\(|@import|<link`, page, "the page loads nothing")
	tap := write("tap")
	require.Contains(t, tap, "1..2\nnot ok 1 - X-R1 ")
	require.Contains(t, tap, "\nok 2 - X-R2 s\n")
	var suites struct {
		Suites []struct {
			Tests    int `xml:"tests,attr"`
			Failures int `xml:"failures,attr"`
		} `xml:"testsuite"`
	}
	require.NoError(t, xml.Unmarshal([]byte(write("junit")), &suites))
	require.Equal(t, 2, suites.Suites[0].Tests)
	require.Equal(t, 1, suites.Suites[0].Failures)
	require.True(t, json.Valid([]byte(write("json"))))
	require.False(t, slices.Contains([]byte(write("text")), 0x1b), "nothing that a terminal obeys")
	require.NotContains(t, write("text"), "\u202e")
	require.Error(t, r.Write(&bytes.Buffer{}, "pdf"))
}

// Not even a right SO-PIN is presented where a wrong one would leave too few tries.
func TestJudge_KeepsTriesOfTheSOPIN(t *testing.T) {
	t.Parallel()
	l := ruleLibrary(t, rule("X-R1", "nothing", "select\n00 20 00 88 Lc({so-pin})"))
	for tries, want := range map[int]conform.Verdict{6: conform.Held, 5: conform.NotJudged} {
		card := initialised(t)
		_, err := client.New(card).Select(t.Context())
		require.NoError(t, err)
		for range 15 - tries {
			require.Error(t, client.New(card).VerifyPIN(t.Context(), client.SOPIN, []byte("00000000")))
		}
		before, o := card.presented(), options()
		o.Confirm = yes
		r, err := conform.Judge(t.Context(), l, card.target(), o)
		require.NoError(t, err)
		require.Equal(t, want, r.Results[0].Verdict, "%d tries: %s", tries, r.Results[0].Why)
		if want == conform.NotJudged {
			require.Equal(t, "line 15: 00200088 Lc({so-pin}): the SO-PIN has 5 tries left, and 5 have to be kept", r.Results[0].Why)
			require.Equal(t, before, card.presented())
		}
	}
}

// late is a card that spends the try of a right PIN with the second save alone.
type late struct{ *emulator.Torn }

func (l late) CutAfter(saves int) (vsmartcard.Card, error) {
	if saves == 1 {
		saves = 0
	}
	return l.Torn.CutAfter(saves)
}

func TestJudge_TryIsSpentFirst(t *testing.T) {
	t.Parallel()
	l := ruleLibrary(t, rule("X-R1", "all data", "00 20 00 81 Lc({pin})", " setup operational", " power at every save"))
	healthy := shipped(t, "4.1")
	r, err := conform.Judge(t.Context(), l, conform.Target{Make: func() (vsmartcard.Card, error) {
		card, err := healthy.Make()
		return late{card.(*emulator.Torn)}, err
	}}, options())
	require.NoError(t, err)
	require.Equal(t, conform.Broken, r.Results[0].Verdict)
	require.Equal(t, "the try was not spent first", r.Results[0].Cuts[1].Wrong)
}
