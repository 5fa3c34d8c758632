package conform_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet"
	"hsmemu/applet/client"
	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/conform"
	"hsmemu/keystore"
	"hsmemu/vsmartcard"
)

// shipped makes cards of a firmware for one rule each.
func shipped(t testing.TB, firmware string) conform.Target {
	t.Helper()
	w := emulator.System()
	w.RSA = keystore.PoolGenerator{Rand: w.Rand}
	d, err := w.Manufacture(chip.Order{Firmware: firmware, Serial: "DENK9900001"})
	require.NoError(t, err)
	return conform.Target{Name: "a new card", Make: func() (vsmartcard.Card, error) {
		c, err := emulator.NewTorn(d, w)
		return c, err
	}}
}

func options() conform.Options {
	return conform.Options{
		Program: "test", Clock: func() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }, KeepSOTries: 5,
		Vars: conform.Vars{"pin": []byte("648219"), "so-pin": []byte("57621880")},
	}
}

// The power is cut where cards are found out that lose a try with it.
func TestJudge_FindsWhatOnlyACutShows(t *testing.T) {
	t.Parallel()
	l := ruleLibrary(t, rule("X-R1", "1 user try, 1 SO try, all data", "00 20 00 81 Lc({pin|flip}) => *\n00 20 00 81 Lc({pin}) => *\n00 20 00 88 Lc({so-pin|flip}) => *", " setup operational", " power at every save"))
	for _, defect := range []string{"compares-before-it-charges", "forgets-charge-on-power-cut", "so-counter-refills-on-power-on", "user-counter-refills-on-power-on", ""} {
		w := emulator.System()
		d, err := w.Manufacture(chip.Order{})
		require.NoError(t, err)
		d.Broken = defect
		r, err := conform.Judge(t.Context(), l, conform.Target{Make: func() (vsmartcard.Card, error) {
			c, err := emulator.NewTorn(d, w)
			return c, err
		}}, options())
		require.NoError(t, err)
		want := conform.Broken
		if defect == "" {
			want = conform.Held
		}
		require.Equal(t, want, r.Results[0].Verdict, "%s: %+v", defect, r.Results[0].Cuts)
	}
}

// chatty is a card that saves a state more than it has to in some commands.
type chatty struct {
	*emulator.Torn
	more *bool
}

func (c chatty) Saves() int {
	if *c.more {
		return c.Torn.Saves() + 1
	}
	return c.Torn.Saves()
}

func (c chatty) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	answer, err := c.Torn.Transmit(ctx, command)
	*c.more = bytes.Equal(answer, []byte{0x69, 0x82})
	return answer, err
}

// How many states a command saves is judged of a card that tells it: what a rule says
// of it, and that a command which is refused saves none.
func TestJudge_CountsSaves(t *testing.T) {
	t.Parallel()
	write := "select\n00 D7 CF 00 Lc(54(0000) 53(\"other\")) => 6982"
	healthy := shipped(t, "4.1")
	spoiled := conform.Target{Make: func() (vsmartcard.Card, error) {
		card, err := healthy.Make()
		return chatty{card.(*emulator.Torn), new(bool)}, err
	}}
	for _, one := range []struct {
		steps  string
		target conform.Target
		want   conform.Verdict
		got    string
	}{
		{write, healthy, conform.Held, ""},
		{write + " !0", healthy, conform.Held, ""},
		{write + " !7", healthy, conform.Broken, "!0"},
		{write, spoiled, conform.Broken, "!1"},
		{write + " !0", spoiled, conform.Broken, "!1"},
		{write + " !7", initialised(t).target(), conform.Held, ""}, // it does not tell
	} {
		l := ruleLibrary(t, rule("X-R1", "own objects", one.steps, " applies state initialised"))
		o := options()
		o.Destructive, o.Confirm = true, yes
		r, err := conform.Judge(t.Context(), l, one.target, o)
		require.NoError(t, err)
		require.Equal(t, one.want, r.Results[0].Verdict, "%s: %+v", one.steps, r.Results[0])
		if one.got != "" {
			require.Equal(t, one.got, r.Results[0].Failures[0].Got)
		}
	}
}

// reader is a card of a firmware that is not gone with a rule: as shipped, or in use.
func reader(t *testing.T, firmware string, pin string) conform.Target {
	t.Helper()
	w := emulator.System()
	w.RSA = keystore.PoolGenerator{Rand: w.Rand}
	card, err := emulator.NewCard(chip.Order{Serial: "DENK9900001", Firmware: firmware}, w)
	require.NoError(t, err)
	if pin != "" {
		c := client.New(card)
		_, err = c.Select(t.Context())
		require.NoError(t, err)
		require.NoError(t, c.Initialise(t.Context(), client.Setup{Options: 1, SOPIN: []byte("57621880"), PIN: []byte(pin), Tries: 3}))
	}
	return conform.Target{Name: "a reader", Card: card}
}

// On one card, rule after rule, the whole library comes to the verdicts of cards made
// for each rule, and the card is left in use with all its tries.
func TestJudge_WholeLibraryOnOneCard(t *testing.T) {
	t.Parallel()
	never := regexp.MustCompile(`^(does not apply: (fresh|state shipped|firmware .*)|blocks the SO-PIN, which nothing undoes|the power of this card cannot be cut at a save)$`)
	for _, p := range applet.Profiles() {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			o := options()
			o.Destructive, o.Confirm = true, yes
			r, err := conform.Judge(t.Context(), library(t), reader(t, p.Name, "648219"), o)
			require.NoError(t, err)
			for _, one := range r.Results {
				if one.Verdict != conform.Held && !(one.Verdict == conform.NotJudged && never.MatchString(one.Why)) && !strings.HasPrefix(one.Why, "withdrawn: ") {
					t.Errorf("%s is %s: %s", one.ID, one.Verdict, one.Why)
				}
			}
			require.True(t, r.Passed(), r.Remarks())
			require.Equal(t, r.Before, r.After)
			require.Greater(t, r.Counts[conform.Held], 300)
		})
	}
	for name, target := range map[string]conform.Target{"another user PIN": reader(t, "4.1", "999999"), "shipped": reader(t, "4.1", "")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options()
			o.Destructive, o.Confirm, o.PINIsNew = true, yes, true
			r, err := conform.Judge(t.Context(), library(t), target, o)
			require.NoError(t, err)
			for _, one := range r.Results {
				if one.Verdict != conform.Held && one.Verdict != conform.NotJudged {
					t.Errorf("%s is %s: %s", one.ID, one.Verdict, one.Why)
				}
			}
			require.True(t, r.Passed(), r.Remarks())
			require.Equal(t, "3/15", r.After.String())
			require.Greater(t, r.Counts[conform.Held], 300)
			if name == "shipped" {
				for _, id := range []string{"SM-R3", "APDU-R3", "FILE-R24"} {
					i := slices.IndexFunc(r.Results, func(r conform.Result) bool { return r.ID == id })
					require.Equal(t, conform.Held, r.Results[i].Verdict, r.Results[i].Why)
				}
			}
		})
	}
}

// A rule is judged on the card as it is by then: one that no longer is what the rule
// applies to is set up again if it was erased before, and else the rule is left out.
func TestJudge_LooksAtTheCardAgain(t *testing.T) {
	t.Parallel()
	blocks := rule("X-R1", "a user lockout", "select\n"+strings.Repeat("00 20 00 81 Lc({pin|flip}) => *\n", 3)+"00 20 00 81 => 6983")
	erases := rule("X-R1", "all data", "select\n80 50 00 00 Lc(80(0003) 81({pin}) 82({so-pin}) 91(03))")
	full := rule("X-R2", "1 user try", "select\n00 20 00 81 => 63C3", " applies state operational, option not transport")
	last := rule("X-R2", "all data", "select\n00 20 00 81 => 63C3", " applies state operational, option not transport")
	for _, one := range []struct {
		first, second string
		want          conform.Verdict
		why           string
	}{
		{blocks, full, conform.NotJudged, "not as it was found, after the rules before: does not apply: state operational"},
		{erases, last, conform.Held, ""},
	} {
		o := options()
		o.Destructive, o.Confirm = true, yes
		r, err := conform.Judge(t.Context(), ruleLibrary(t, one.first, one.second), reader(t, "4.1", "648219"), o)
		require.NoError(t, err)
		require.Equal(t, conform.Held, r.Results[0].Verdict, r.Results[0].Why)
		require.Equal(t, one.want, r.Results[1].Verdict, r.Results[1].Why)
		require.Equal(t, one.why, r.Results[1].Why)
	}
}

// dies is a card that answers 6F00 to all after a cut.
type dies struct{ *emulator.Torn }

func (d dies) CutAfter(saves int) (vsmartcard.Card, error) {
	card, err := d.Torn.CutAfter(saves)
	return &somebodys{Card: card, answer: func(string) []byte { return []byte{0x6F, 0x00} }}, err
}

// A card that cannot be used any more after a cut has not kept the rule.
func TestJudge_DeadAfterACut(t *testing.T) {
	t.Parallel()
	l := ruleLibrary(t, rule("X-R1", "1 user try, all data", "00 20 00 81 Lc({pin|flip}) => 63C2", " setup operational", " power at every save"))
	healthy := shipped(t, "4.1")
	r, err := conform.Judge(t.Context(), l, conform.Target{Make: func() (vsmartcard.Card, error) {
		card, err := healthy.Make()
		return dies{card.(*emulator.Torn)}, err
	}}, options())
	require.NoError(t, err)
	require.Equal(t, conform.Broken, r.Results[0].Verdict)
	require.Equal(t, "the application cannot be selected: 6F00", r.Results[0].Cuts[0].Wrong)
}

// Every line behind the steps is played, and what went otherwise is told.
func TestJudge_TidiesUp(t *testing.T) {
	t.Parallel()
	l := ruleLibrary(t, rule("X-R1", "own objects", "select\n00 20 00 81 Lc({pin})\n00 D7 CF 00 Lc(54(0000) 53(\"x\"))")+"after\n  00 E4 02 00 Lc(CF05)\n  00 E4 02 00 Lc(CF00)\n")
	card := initialised(t)
	o := options()
	o.Destructive, o.Confirm = true, yes
	r, err := conform.Judge(t.Context(), l, card.target(), o)
	require.NoError(t, err)
	require.Contains(t, card.sent, "00E4020002CF00")
	require.Equal(t, conform.Held, r.Results[0].Verdict)
	require.Len(t, r.Results[0].Left, 1)
	require.Contains(t, r.Results[0].Left[0], "CF05")
	require.False(t, r.Passed())
	var tap strings.Builder
	require.NoError(t, r.Write(&tap, "tap"))
	require.Contains(t, tap.String(), "1..2\n")
	require.Contains(t, tap.String(), "\nnot ok 2 - X-R1 may have left something: ")
}

// A counter that the card does not tell is not one of a blocked PIN.
func TestJudge_UnknownIsNotBlocked(t *testing.T) {
	t.Parallel()
	card := initialised(t)
	card.answer = func(sent string) []byte {
		if sent == "00200088" {
			return []byte{0x6A, 0x88}
		}
		return nil
	}
	r, err := conform.Judge(t.Context(), ruleLibrary(t, rule("X-R1", "nothing", "select", " applies state so-blocked")), card.target(), options())
	require.NoError(t, err)
	require.Equal(t, "does not apply: state so-blocked", r.Results[0].Why)
}

// What differs in the preparation is nothing that the rule is about.
func TestJudge_DifferenceOfThePreparation(t *testing.T) {
	t.Parallel()
	l := ruleLibrary(t, rule("X-R1", "nothing", "select", "before\n  select\n  00 20 00 81 => 63C9 | 63C3 (differs: somewhere)"))
	r, err := conform.Judge(t.Context(), l, initialised(t).target(), options())
	require.NoError(t, err)
	require.Equal(t, conform.Held, r.Results[0].Verdict)
	require.Empty(t, r.Results[0].Failures)
}

// One file of expectations serves a reader, where a guess is to be reviewed, and
// cards made for a rule, where it is broken.
func TestJudge_ExpectsAReview(t *testing.T) {
	t.Parallel()
	ours := strings.Replace(rule("X-R1", "nothing", "select\n00 20 00 81 => 63C7"), "seen on hardware: https://example.org", "ours", 1)
	o := options()
	var err error
	o.Expected, err = conform.ParseExpectations("known", "broken X-R1 # known")
	require.NoError(t, err)
	for want, target := range map[conform.Verdict]conform.Target{conform.Review: initialised(t).target(), conform.Broken: shipped(t, "4.1")} {
		r, err := conform.Judge(t.Context(), ruleLibrary(t, ours), target, o)
		require.NoError(t, err)
		require.Equal(t, want, r.Results[0].Verdict)
		require.True(t, r.Passed(), r.Stale)
	}
}

// The hash of the plan is that of its JSON in the report, and knows what is played.
func TestReport_PlanHash(t *testing.T) {
	t.Parallel()
	hashes := map[string]bool{}
	for _, steps := range []string{"select", "select\n00 20 00 81 => 63C3"} {
		r, err := conform.Judge(t.Context(), ruleLibrary(t, rule("X-R1", "nothing", steps, " applies firmware < 9.0"), rule("X-R2", "nothing", "select", " applies firmware < 2.0")), initialised(t).target(), options())
		require.NoError(t, err)
		hashes[r.PlanSHA256] = true
		var report bytes.Buffer
		require.NoError(t, r.Write(&report, "json"))
		var read struct{ Plan json.RawMessage }
		require.NoError(t, json.Unmarshal(report.Bytes(), &read))
		require.Contains(t, string(read.Plan), "<")
		var compact bytes.Buffer
		require.NoError(t, json.Compact(&compact, read.Plan))
		h := sha256.Sum256(compact.Bytes())
		require.Equal(t, hex.EncodeToString(h[:]), r.PlanSHA256)
	}
	require.Len(t, hashes, 2)
}
