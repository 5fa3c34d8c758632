package conform_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/apdu"
	"hsmemu/emulator/conform"
	"hsmemu/pinstate"
)

func situation(t testing.TB, id string) conform.Situation {
	t.Helper()
	all := conform.Situations()
	i := slices.IndexFunc(all, func(s conform.Situation) bool { return s.ID == id })
	require.GreaterOrEqual(t, i, 0, id)
	return all[i]
}

// left is a pair of counters.
func left(user, so int) conform.Counters {
	return conform.Counters{UserPIN: conform.Counter{Known: true, Left: user}, SOPIN: conform.Counter{Known: true, Left: so}}
}

// Commands that a card has seen, with its counters after them.
func sent(ins, p1, p2 byte, sw apdu.SW, after conform.Counters) conform.Observed {
	return conform.Observed{INS: ins, P1: p1, P2: p2, Data: true, SW: sw, Words: "→ " + sw.String(), Counters: after}
}

func verify(sw apdu.SW, after conform.Counters) conform.Observed {
	return sent(apdu.InsVerify, 0, apdu.RefUserPIN, sw, after)
}

func asked(sw apdu.SW, after conform.Counters) conform.Observed {
	o := verify(sw, after)
	o.Data = false
	return o
}

func onStranger(o conform.Observed) conform.Observed { o.Stranger = true; return o }

func at(ms int, o conform.Observed) conform.Observed {
	o.At = time.Duration(ms) * time.Millisecond
	return o
}

func secure(o conform.Observed) conform.Observed { o.Secure = true; return o }

func unblock(sw apdu.SW, after conform.Counters) conform.Observed {
	return sent(apdu.InsResetRetryCounter, 0, apdu.RefUserPIN, sw, after)
}

// What the card sees decides, in every situation, and each kind of finding is found
// and is not found.
func TestSituation_Judge(t *testing.T) {
	t.Parallel()
	const (
		steps   = "no try is spent that the situation does not allow"
		repeats = "a PIN that was refused is not presented again"
		told    = "no PIN is presented when the card has told that none will do"
		channel = "PINs are sent in the secure channel"
		claims  = "exit code 0 says that the work is done"
		works   = "it does its work where it can"
		ends    = "it ends"
		others  = "no PIN is presented but those that the program was given"
		erases  = "nothing is erased or initialised"
	)
	full, blocked, none := left(3, 15), left(0, 15), conform.Counters{}
	selected := sent(apdu.InsSelect, 4, 0, apdu.OK, full)
	opened := sent(apdu.InsGeneralAuthenticate, 0, 0, apdu.OK, full)
	for _, c := range []struct {
		name, situation string
		card            conform.Counters
		events          []conform.Observed
		exit            int
		hung, happened  bool
		missed          int
		want            conform.Verdict
		found           []string
	}{
		{"does its work", "usual", full, []conform.Observed{asked(0x63C3, full), verify(apdu.OK, full)}, 0, false, false, 0, conform.Held, nil},
		{"does not", "usual", full, []conform.Observed{verify(apdu.OK, full)}, 1, false, false, 0, conform.Broken, []string{works}},
		{"speaks to no card", "usual", full, nil, 1, false, false, 0, conform.NotJudged, nil},
		{"events are missed", "usual", full, []conform.Observed{verify(apdu.OK, full)}, 0, false, false, 5, conform.NotJudged, nil},
		{"hangs without a command", "usual", full, nil, 137, true, false, 0, conform.NotJudged, nil},
		{"is slow", "usual", full, []conform.Observed{at(990, verify(0x63C3, full))}, 137, true, false, 0, conform.Review, []string{ends}},
		{"hangs", "wrong-pin", full, []conform.Observed{verify(0x63C2, left(2, 15))}, 137, true, false, 0, conform.Review, []string{ends}},
		{"is slow to fail", "wrong-pin", full, []conform.Observed{at(510, verify(0x63C2, left(2, 15))), at(990, selected)}, 137, true, false, 0, conform.Review, []string{ends}},
		{"goes on to ask", "wrong-pin", full, []conform.Observed{verify(0x63C2, left(2, 15)), at(990, selected)}, 137, true, false, 0, conform.Broken, []string{ends}},
		{"waits for the card", "removed", full, []conform.Observed{at(490, selected)}, 137, true, true, 0, conform.Broken, []string{ends}},
		{"is slow to see it gone", "removed", full, []conform.Observed{at(510, selected)}, 137, true, true, 0, conform.Review, []string{ends}},
		{"never logs in", "usual", full, []conform.Observed{selected}, 0, false, false, 0, conform.Broken, []string{claims}},
		{"only asks", "one-try", left(1, 15), []conform.Observed{asked(0x63C1, left(1, 15))}, 0, false, false, 0, conform.Broken, []string{claims}},
		{"never logs in", "so-blocked", left(3, 0), []conform.Observed{selected}, 0, false, false, 0, conform.Broken, []string{claims}},
		{"never logs in", "two-cards", full, []conform.Observed{selected}, 0, false, false, 0, conform.Broken, []string{claims}},
		{"refuses unasked", "one-try", left(1, 15), []conform.Observed{asked(0x63C1, left(1, 15))}, 3, false, false, 0, conform.Held, nil},
		{"logs in and fails", "one-try", left(1, 15), []conform.Observed{verify(apdu.OK, full)}, 3, false, false, 0, conform.Broken, []string{works}},
		{"a PIN of its own", "one-try", left(1, 15), []conform.Observed{verify(apdu.AuthenticationBlocked, blocked)}, 3, false, false, 0, conform.Broken, []string{steps, works}},
		{"knows the PIN", "wrong-pin", full, []conform.Observed{verify(apdu.OK, full)}, 0, false, false, 0, conform.Broken, []string{others}},
		{"knows the PIN and changes it", "wrong-length", full, []conform.Observed{sent(apdu.InsChangeReferenceData, 0, apdu.RefUserPIN, apdu.OK, full)}, 0, false, false, 0, conform.Broken, []string{others}},
		{"sets a PIN and uses it", "wrong-pin", full, []conform.Observed{verify(0x63C2, left(2, 15)), unblock(apdu.OK, full), asked(0x63C3, full)}, 1, false, false, 0, conform.Held, nil},
		{"sets a PIN and logs in", "last-try", left(1, 15), []conform.Observed{unblock(apdu.OK, full), verify(apdu.OK, full)}, 0, false, false, 0, conform.Held, nil},
		{"gives tries back and knows the PIN", "last-try", left(1, 15), []conform.Observed{sent(apdu.InsResetRetryCounter, 1, apdu.RefUserPIN, apdu.OK, full), verify(apdu.OK, full)}, 0, false, false, 0, conform.Broken, []string{others}},
		{"knows the SO-PIN", "so-last-try", left(0, 1), []conform.Observed{unblock(apdu.OK, full), verify(apdu.OK, full)}, 0, false, false, 0, conform.Broken, []string{others}},
		{"knows the other card's PIN", "two-cards", full, []conform.Observed{onStranger(verify(apdu.OK, full)), verify(apdu.OK, full)}, 0, false, false, 0, conform.Broken, []string{others}},
		{"unblocks, and no more", "user-blocked", blocked, []conform.Observed{unblock(apdu.OK, full)}, 0, false, false, 0, conform.Held, nil},
		{"fails to unblock, and claims", "user-blocked", blocked, []conform.Observed{unblock(apdu.WrongLength, blocked)}, 0, false, false, 0, conform.Broken, []string{claims}},
		{"gives tries back, and claims", "wrong-pin", full, []conform.Observed{unblock(apdu.OK, full)}, 0, false, false, 0, conform.Broken, []string{claims}},
		{"tries once", "wrong-pin", full, []conform.Observed{verify(0x63C2, left(2, 15))}, 1, false, false, 0, conform.Held, nil},
		{"tries twice", "wrong-pin", full, []conform.Observed{verify(0x63C2, left(2, 15)), verify(0x63C1, left(1, 15))}, 1, false, false, 0, conform.Broken, []string{steps, repeats}},
		{"claims", "wrong-pin", full, []conform.Observed{verify(0x63C2, left(2, 15))}, 0, false, false, 0, conform.Broken, []string{claims}},
		{"another PIN first", "wrong-pin", full, []conform.Observed{verify(0x63C2, left(2, 15)), verify(apdu.OK, full)}, 0, false, false, 0, conform.Broken, []string{others, repeats}},
		{"length", "wrong-length", full, []conform.Observed{verify(apdu.WrongLength, full)}, 1, false, false, 0, conform.Held, nil},
		{"length again", "wrong-length", full, []conform.Observed{verify(apdu.WrongLength, full), verify(apdu.WrongLength, full)}, 1, false, false, 0, conform.Broken, []string{repeats}},
		{"padded", "wrong-length", full, []conform.Observed{verify(0x63C2, left(2, 15))}, 1, false, false, 0, conform.Broken, []string{steps}},
		{"spends the last", "last-try", left(1, 15), []conform.Observed{asked(0x63C1, left(1, 15)), verify(apdu.AuthenticationBlocked, blocked)}, 1, false, false, 0, conform.Review, []string{steps}},
		{"keeps the last", "last-try", left(1, 15), []conform.Observed{asked(0x63C1, left(1, 15))}, 1, false, false, 0, conform.Held, nil},
		{"uses the last", "one-try", left(1, 15), []conform.Observed{verify(apdu.OK, full)}, 0, false, false, 0, conform.Held, nil},
		{"stops", "user-blocked", blocked, []conform.Observed{asked(apdu.AuthenticationBlocked, blocked)}, 1, false, false, 0, conform.Held, nil},
		{"was not told", "user-blocked", blocked, []conform.Observed{verify(apdu.AuthenticationBlocked, blocked)}, 1, false, false, 0, conform.Held, nil},
		{"asked and presents", "user-blocked", blocked, []conform.Observed{asked(apdu.AuthenticationBlocked, blocked), verify(apdu.AuthenticationBlocked, blocked)}, 1, false, false, 0, conform.Review, []string{told}},
		{"goes on", "user-blocked", blocked, []conform.Observed{verify(apdu.AuthenticationBlocked, blocked), verify(apdu.AuthenticationBlocked, blocked)}, 1, false, false, 0, conform.Broken, []string{told}},
		{"unblocks", "user-blocked", blocked, []conform.Observed{asked(apdu.AuthenticationBlocked, blocked), unblock(apdu.OK, full), verify(apdu.OK, full)}, 0, false, false, 0, conform.Held, nil},
		{"blocks again", "user-blocked", blocked, []conform.Observed{asked(apdu.AuthenticationBlocked, blocked), unblock(apdu.OK, left(1, 15)), verify(apdu.AuthenticationBlocked, blocked)}, 1, false, false, 0, conform.Broken, []string{steps}},
		{"blocks again and goes on", "user-blocked", blocked, []conform.Observed{verify(apdu.AuthenticationBlocked, blocked), unblock(apdu.OK, full), asked(apdu.AuthenticationBlocked, blocked), verify(apdu.AuthenticationBlocked, blocked)}, 1, false, false, 0, conform.Review, []string{told}},
		{"SO-PIN stays blocked", "so-blocked", left(3, 0), []conform.Observed{unblock(apdu.AuthenticationBlocked, left(3, 0)), verify(apdu.OK, left(3, 0)), unblock(apdu.AuthenticationBlocked, left(3, 0))}, 0, false, false, 0, conform.Broken, []string{told}},
		{"wrong SO-PIN", "user-blocked", blocked, []conform.Observed{unblock(0x63CE, left(0, 14))}, 1, false, false, 0, conform.Broken, []string{steps}},
		{"may not unblock", "no-unblock", blocked, []conform.Observed{unblock(apdu.ConditionsNotSatisfied, blocked)}, 1, false, false, 0, conform.Held, nil},
		{"erases", "no-unblock", blocked, []conform.Observed{sent(apdu.InsInitializeDevice, 0, 0, apdu.OK, full), verify(apdu.OK, full)}, 0, false, false, 0, conform.Broken, []string{erases}},
		{"transport again", "transport-pin", full, []conform.Observed{verify(apdu.ReferenceDataNotUsable, full), verify(apdu.ReferenceDataNotUsable, full)}, 1, false, false, 0, conform.Broken, []string{told}},
		{"transport changed", "transport-pin", full, []conform.Observed{verify(apdu.ReferenceDataNotUsable, full), sent(apdu.InsChangeReferenceData, 0, apdu.RefUserPIN, apdu.OK, full)}, 0, false, false, 0, conform.Held, nil},
		{"loses the card", "so-last-try", left(0, 1), []conform.Observed{unblock(apdu.AuthenticationBlocked, left(0, 0))}, 1, false, false, 0, conform.Broken, []string{steps}},
		{"SO-PIN again", "so-last-try", left(0, 1), []conform.Observed{unblock(apdu.AuthenticationBlocked, left(0, 0)), unblock(apdu.AuthenticationBlocked, left(0, 0))}, 1, false, false, 0, conform.Broken, []string{steps, told}},
		{"user PIN alone", "so-blocked", left(3, 0), []conform.Observed{verify(apdu.OK, left(3, 0))}, 0, false, false, 0, conform.Held, nil},
		{"gives up", "so-blocked", left(3, 0), []conform.Observed{asked(0x63C3, left(3, 0))}, 2, false, false, 0, conform.Broken, []string{works}},
		{"no PIN", "uninitialised", none, []conform.Observed{verify(apdu.ReferenceNotFound, none)}, 1, false, false, 0, conform.Held, nil},
		{"initialises", "uninitialised", none, []conform.Observed{sent(apdu.InsInitializeDevice, 0, 0, apdu.OK, full)}, 0, false, false, 0, conform.Broken, []string{erases, claims}},
		{"card gone", "removed", full, []conform.Observed{selected}, 1, false, true, 0, conform.Held, nil},
		{"gone, and claims", "removed", full, []conform.Observed{selected}, 0, false, true, 0, conform.Broken, []string{claims}},
		{"not gone", "removed", full, []conform.Observed{selected}, 1, false, false, 0, conform.NotJudged, nil},
		{"not reset", "reset", full, []conform.Observed{verify(apdu.OK, full)}, 0, false, false, 0, conform.NotJudged, nil},
		{"logs in again", "reset", full, []conform.Observed{verify(apdu.OK, full), selected, verify(apdu.OK, full)}, 0, false, true, 0, conform.Held, nil},
		{"spends after it", "reset", full, []conform.Observed{verify(apdu.OK, full), selected, verify(0x63C2, left(2, 15))}, 1, false, true, 0, conform.Broken, []string{steps}},
		{"in the clear", "session-pin", full, []conform.Observed{verify(apdu.OK, full)}, 0, false, false, 0, conform.Review, []string{channel}},
		{"in a channel", "session-pin", full, []conform.Observed{opened, secure(verify(apdu.OK, full))}, 0, false, false, 0, conform.Held, nil},
		{"beside the channel", "usual", full, []conform.Observed{opened, verify(apdu.OK, full)}, 0, false, false, 0, conform.Broken, []string{channel}},
		{"after the channel", "usual", full, []conform.Observed{opened, selected, verify(apdu.OK, full)}, 0, false, false, 0, conform.Held, nil},
		{"the other card", "two-cards", full, []conform.Observed{onStranger(verify(0x63C2, left(2, 15)))}, 1, false, false, 0, conform.Broken, []string{steps}},
		{"its card", "two-cards", full, []conform.Observed{onStranger(selected), verify(apdu.OK, full)}, 0, false, false, 0, conform.Held, nil},
	} {
		t.Run(c.situation+", "+c.name, func(t *testing.T) {
			t.Parallel()
			r := situation(t, c.situation).Judge(conform.Run{
				Card: c.card, Stranger: full, Events: c.events, Exit: c.exit, Hung: c.hung, Happened: c.happened, Missed: c.missed, Limit: time.Second,
			})
			var found []string
			for _, f := range r.Failures {
				found = append(found, f.Text)
				require.NotEmpty(t, f.Got)
			}
			require.Equal(t, c.found, found)
			require.Equal(t, c.want, r.Verdict, r.Why)
			require.Equal(t, c.want == conform.Held, r.Why == "")
			require.NotEmpty(t, r.Breaks)
		})
	}
}

// What a program leaves behind is judged as the program is, and named.
func TestSituation_JudgesWhatIsLeftBehind(t *testing.T) {
	t.Parallel()
	full := left(3, 15)
	run := conform.Run{Card: full, Events: []conform.Observed{at(200, verify(apdu.OK, full))}, Behind: true, Limit: time.Second}
	r := situation(t, "usual").Judge(run)
	require.Equal(t, conform.Review, r.Verdict)
	require.Equal(t, "what it has started was still running after 1s, and was ended; the last command came after 200ms: → 9000", r.Failures[0].Got)
	run.Hung, run.Behind, run.Events = true, false, nil
	require.Equal(t, "the program sent no command to a card within 1s, and was ended", situation(t, "usual").Judge(run).Why)
}

// Each run has PINs of its own, of the lengths that situations speak of, no two the
// same, and none that examples use.
func TestDrawSecrets(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	// The first digits drawn are those of an SO-PIN in examples; 250 and more are left out.
	random := io.MultiReader(bytes.NewReader([]byte{5, 7, 255, 6, 2, 1, 8, 8, 0}), rand.Reader)
	for range 20 {
		s, err := conform.DrawSecrets(random)
		require.NoError(t, err)
		for _, one := range []struct {
			pin    pinstate.Value
			length int
		}{{s.PIN, 8}, {s.WrongPIN, 8}, {s.ShortPIN, 4}, {s.Strangers, 8}, {s.SOPIN, 8}, {s.WrongSOPIN, 8}, {s.StrangersSO, 8}} {
			require.Regexp(t, fmt.Sprintf("^[0-9]{%d}$", one.length), string(one.pin))
			require.False(t, seen[string(one.pin)] && one.length > 4)
			seen[string(one.pin)] = true
		}
		for _, in := range conform.Situations() {
			pin, soPIN := s.Given(in)
			require.Equal(t, in.PIN == conform.Right, string(pin) == string(s.PIN), in.ID)
			require.Equal(t, in.SOPIN == conform.Right, string(soPIN) == string(s.SOPIN), in.ID)
			require.NotEmpty(t, soPIN)
		}
	}
	require.False(t, seen["57621880"])
	_, err := conform.DrawSecrets(iotest.ErrReader(io.ErrClosedPipe))
	require.ErrorIs(t, err, io.ErrClosedPipe)
}

// Situations have names of their own, and say everything.
func TestSituations_AreWhole(t *testing.T) {
	t.Parallel()
	ids := map[string]bool{}
	for _, s := range conform.Situations() {
		require.False(t, ids[s.ID], s.ID)
		ids[s.ID] = true
		require.NotEmpty(t, s.Says)
		require.NotEmpty(t, s.Breaks)
		require.NotEmpty(t, s.Clauses)
		require.NotEmpty(t, s.Card)
		require.False(t, s.MayRefuse && !s.Works, s.ID)
		require.False(t, s.Works && s.PIN != conform.Right, s.ID)
	}
}

// A report says what was judged, in every form, and what was not: for want of a
// program, or since somebody interrupted it.
func TestJudgeProgram(t *testing.T) {
	t.Parallel()
	full := left(3, 15)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	perform := func(_ context.Context, s conform.Situation) (conform.Run, error) {
		run := conform.Run{Card: full, Events: []conform.Observed{verify(0x63C2, left(2, 15)), verify(0x63C1, left(1, 15))}, Exit: 1}
		switch s.ID {
		case "usual":
			return conform.Run{Card: full, Events: []conform.Observed{verify(apdu.OK, full)}}, nil
		case "one-try":
			return conform.Run{}, errors.New("no room")
		case "user-blocked":
			stop()
			return run, ctx.Err()
		}
		return run, nil
	}
	o := conform.Audition{Program: "test", Target: "program x", Firmware: "4.1", Clock: options().Clock, Only: regexp.MustCompile("^(usual|wrong-pin|one-try|user-blocked|reset)$")}
	r, err := conform.JudgeProgram(ctx, conform.Situations(), perform, o)
	require.ErrorIs(t, err, context.Canceled)
	require.True(t, r.Interrupted)
	require.False(t, r.Passed())
	var text bytes.Buffer
	require.NoError(t, r.Write(&text, "text"))
	require.Equal(t, `program x: on cards of firmware 4.1
held       usual: A card in use, and the right PIN: the program does its work and loses no try.
broken     wrong-pin: The PIN is wrong, three tries are left: the program presents it once and fails.
           no try is spent that the situation does not allow
           want no more tries lost than the situation allows
           got  2 tries of the user PIN spent, 1 allowed: → 63C1
           a PIN that was refused is not presented again
           want no second time
           got  the user PIN was presented again after it was refused, once
           so   A PIN mistyped once blocks the card.
not judged one-try: no room
not judged user-blocked: interrupted
not judged reset: interrupted
interrupted: this is what was judged so far
16 situations: 1 held, 1 broken, 14 not judged
`, text.String())
	for _, format := range conform.Formats() {
		var b bytes.Buffer
		require.NoError(t, r.Write(&b, format))
		require.Contains(t, b.String(), "no try is spent that the situation does not allow", format)
		require.NotContains(t, b.String(), ":0:", format)
	}
	o.Only = regexp.MustCompile("^usual$")
	r, err = conform.JudgeProgram(t.Context(), conform.Situations(), perform, o)
	require.NoError(t, err)
	require.True(t, r.Passed())
}

// A program that was done before another client could reset its card is run again,
// but not for ever, and not one that never logged in.
func TestJudgeProgram_PlaysAgainWhatCameTooLate(t *testing.T) {
	t.Parallel()
	full := left(3, 15)
	for _, c := range []struct {
		happens int // in this run
		answer  apdu.SW
		runs    int
		want    conform.Verdict
	}{{1, apdu.OK, 1, conform.Held}, {3, apdu.OK, 3, conform.Held}, {100, apdu.OK, 5, conform.NotJudged}, {100, apdu.ReferenceNotFound, 1, conform.Broken}} {
		runs := 0
		r, err := conform.JudgeProgram(t.Context(), []conform.Situation{situation(t, "reset")}, func(context.Context, conform.Situation) (conform.Run, error) {
			runs++
			return conform.Run{Card: full, Events: []conform.Observed{verify(c.answer, full)}, Happened: runs == c.happens}, nil
		}, conform.Audition{Clock: options().Clock})
		require.NoError(t, err)
		require.Equal(t, c.runs, runs)
		require.Equal(t, c.want, r.Results[0].Verdict)
	}
}
