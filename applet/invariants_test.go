package applet_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/chiptest"
	"hsmemu/emulator/conform"
	"hsmemu/pinstate"
)

// step is one command given to a card, and everything that came of it.
type step struct {
	card          string
	seed          string // of the randomness
	before, after chip.State
	command       []byte
	result        chip.Result
	form          string // of the state before
}

// inspection keeps the steps of a run and checks the invariants of each.
type inspection struct {
	t       require.TestingT
	steps   []step
	secrets *secrets
}

func newInspection(t require.TestingT) *inspection { return &inspection{t: t, secrets: newSecrets()} }

// take gives a command to a card and looks at everything that comes of it.
func (i *inspection) take(c *chiptest.Card, command []byte) []byte {
	s := step{card: c.Name, seed: fmt.Sprint("step ", len(i.steps)), before: c.State, command: command, form: stored(i.t, c.State.Durable())}
	deterministic := c.Env.Deterministic
	c.Env = chiptest.World(s.seed)
	c.Env.Deterministic = deterministic
	answer := c.Step(command)
	s.after, s.result = c.State, c.Result
	i.steps = append(i.steps, s)
	i.check(i.t, s)
	return answer
}

func (i *inspection) check(t require.TestingT, s step) {
	about := fmt.Sprintf("%X → %X (%s)", s.command, s.result.Response, s.result.Event)
	require.GreaterOrEqual(t, len(s.result.Response), 2, about) // I1
	sw := s.result.Event.SW
	require.Equal(t, sw, apdu.SW(s.result.Response[len(s.result.Response)-2])<<8|apdu.SW(s.result.Response[len(s.result.Response)-1]), about)
	require.Equal(t, len(s.result.Commits), s.result.Event.Commits, about)
	require.NoError(t, s.result.Event.Defect, about)

	// I6: what is not saved has not happened. So the state after a step is the
	// last one saved, and a refusal leaves it at the last barrier.
	last := s.form
	for n, d := range s.result.Commits {
		last = stored(t, d)
		checkLegal(t, d, about)
		checkCounters(t, s, n, about)
	}
	require.Equal(t, last, stored(t, s.after.Durable()), about)
	// The deletion of a key domain answers the state of its slot.
	if deletion := len(s.command) > 1 && s.command[1] == 0x52; refused(sw) && !deletion {
		for _, d := range s.result.Commits {
			checkBarrier(t, s.before.Durable(), d, about)
		}
	}
	i.secrets.check(t, s.before.Durable(), s.after.Durable(), s.result) // I8
}

// checkLegal is I7 and I9 for a saved state: it can be read back as it is, and
// a card that wakes up with it is a card.
func checkLegal(t require.TestingT, d chip.Durable, about string) {
	form := stored(t, d)
	var read chip.Durable
	require.NoError(t, json.Unmarshal([]byte(form), &read), about)
	require.Equal(t, form, stored(t, read), about)
	require.Equal(t, d.Applet.PINs, read.Applet.PINs, about)

	require.NoError(t, read.Check(), about)
	require.GreaterOrEqual(t, read.Applet.Free(), 0, about)

	env := chiptest.World("legal")
	state := chip.Boot(read)
	for _, command := range []string{"00A4040C0BE82B0601040181C31F0201", "00200081", "00200088", "80580000000000", "8052000000"} {
		var r chip.Result
		state, r = chip.Step(env, state, unhex(t, command))
		require.Empty(t, r.Commits, about)
		require.NotEqual(t, apdu.Internal, r.Event.SW, about)
		if command[:4] == "00A4" {
			require.Equal(t, apdu.OK, r.Event.SW, about)
		}
	}
	require.Equal(t, form, stored(t, state.Durable()), about)
}

// checkCounters is the other half of I7: a saved state has a counter above that
// of the state before only if a secret has matched, and then only the last
// state saved has.
func checkCounters(t require.TestingT, s step, i int, about string) {
	from, to := s.before.Durable().Applet.PINs, s.result.Commits[i].Applet.PINs
	matched := s.result.Event.SW == apdu.OK && i == len(s.result.Commits)-1
	if !matched {
		require.LessOrEqual(t, to.SO.Left, from.SO.Left, about)
		require.LessOrEqual(t, to.User.Left, from.User.Left, about)
	}
	for id, k := range s.result.Commits[i].Applet.Keys {
		old, existed := s.before.Durable().Applet.Keys[id]
		if existed && old.Uses.Limited && !matched {
			require.True(t, k.Uses.Limited, about)
			require.LessOrEqual(t, k.Uses.Left, old.Uses.Left, about)
		}
	}
}

// checkBarrier tells what may stand although the command was refused: a try
// less, or a use less.
func checkBarrier(t require.TestingT, before, saved chip.Durable, about string) {
	spent := 0
	count := func(was, is uint64) {
		require.LessOrEqual(t, is, was, about)
		spent += int(was - is)
	}
	count(uint64(before.Applet.PINs.User.Left), uint64(saved.Applet.PINs.User.Left))
	count(uint64(before.Applet.PINs.SO.Left), uint64(saved.Applet.PINs.SO.Left))
	saved.Applet.PINs.User.Left, saved.Applet.PINs.SO.Left = before.Applet.PINs.User.Left, before.Applet.PINs.SO.Left
	keys := maps.Clone(saved.Applet.Keys)
	for id, k := range keys {
		count(uint64(before.Applet.Keys[id].Uses.Left), uint64(k.Uses.Left))
		k.Uses = before.Applet.Keys[id].Uses
		keys[id] = k
	}
	saved.Applet.Keys = keys
	require.Equal(t, 1, spent, about)
	require.Equal(t, stored(t, before), stored(t, saved), about)
}

// again runs every step a second time from the states that were kept: the card
// has not touched them since (I2), and does the same once more (I3).
func (i *inspection) again(t require.TestingT) {
	for _, s := range i.steps {
		about := fmt.Sprintf("%X (%s)", s.command, s.result.Event)
		require.Equal(t, s.form, stored(t, s.before.Durable()), about)
		after, result := chip.Step(chiptest.World(s.seed), s.before, s.command)
		require.Equal(t, fmt.Sprintf("%X", s.result.Response), fmt.Sprintf("%X", result.Response), about)
		require.Equal(t, s.result.Event, result.Event, about)
		require.Equal(t, stored(t, s.result.Commits), stored(t, result.Commits), about)
		require.Equal(t, stored(t, s.after.Durable()), stored(t, after.Durable()), about)
		require.Equal(t, s.after.Applet.Login, after.Applet.Login, about)
		require.Equal(t, s.after.Applet.Current, after.Applet.Current, about)
		require.Equal(t, s.after.Applet.Challenge, after.Applet.Challenge, about)
		require.Equal(t, s.after.Selected, after.Selected, about)
	}
}

// vocabulary is what random runs say. KK is a key number. The right PIN comes
// often, since there is little to see without it.
var vocabulary = []string{
	verifyUser, verifyUser, verifyUser, verifyUser, verifyUser, verifyUser, verifyUser, verifyUser,
	selectApplication, wrongUser, verifySO, wrongSO, queryUser, querySO, changeUser, changeSO, badChange, badChangeSO,
	resetNew, resetOnly, resetNewSO, resetOnlySO, badReset, badResetNo, badInit, initialise("0001", "92(01)"), initialise("000D", "93(0302)", "97(03)"),
	withoutPIN("0001", "93(0101)"), initialise("0003"), `00 20 00 81 Lc("135790")`, `00 20 00 81 Lc("246870")`, "00 20 00 88 Lc(1122334455667788)",
	"00 20 01 81", `00 20 01 81 Lc("648219")`, "80 50 00 00 00", "80 5A 01 81 00",
	"00 A4 00 00 Lc(2F02) 00", "00 A4 00 00 Lc(CF00) 00", "00 A4 00 00 Lc(CCKK) 00", "00 B1 2F02 Lc(54(0000)) 00", "00 B1 CD00 Lc(54(0000)) 00",
	"00 B1 CFKK Lc(54(0002)) 04", "00 B1 0000 Lc(54(0000)) 00", `00 D7 CFKK Lc(54(0000) 53("note"))`, "00 D7 CFKK Lc(54(0002) 53({long}))", "00 D7 0000 Lc(54(0000) 53())",
	"00 D7 2F10 Lc(54(0000) 53({blob}))", "00 E4 02 00 Lc(CFKK)", "00 E4 02 00 Lc(CCKK)", "80 58 00 00 00 00 00", "00 84 00 00 08", "00 84 00 00 00",
	`00 46 KK 00 Lcx(42("UTCA00001") {secp256r1} 5F20("UTKEY00001")) le`, `00 46 KK 00 Lcx(42("UTCA00001") {brainpoolP256r1} 5F20("UTKEY00001") 90(02) 91(70 73 80 84 92 94 98) 92(00))`,
	`00 46 KK 01 Lc(42("UTCA00001") {rsa1024} 5F20("UTKEY00001") 45("UTOUTER00001")) 00`, "00 48 KK B0 Lc(90(03) 91(10 11 18 92 94 99))", "00 48 KK B2",
	"80 68 KK 73 Lc(00) 00", "80 68 KK 70 Lc(0011223344556677) 00", "80 68 KK 33 Lc(00) 00", "80 68 KK 43 Lc(00) 00", "80 68 KK 20 Lc({long|head 128}) 00",
	"80 62 KK 80 Lc({secp256r1|7F49.84}) 00", "80 62 KK 21 Lc({long|head 128}) 00", "80 62 KK 84 Lcx({exchangeb|value})", "80 62 KK 83 Lcx({exchangeb|value}) le",
	"80 78 KK 10 Lc({long|head 32}) 00", "80 78 KK 11 Lc({long|head 32}) 00", "80 78 KK 18 Lc(00) 00", "80 78 KK 99 Lc(00) 00", "80 76 KK 07 Lc(98 0102)", "80 76 KK 07 Lc(98 00)",
	`00 46 KK 00 Lcx(42("UTCA00001") {secp256r1} 5F20("UTKEY00001") 65(73(06(2A03) 80(01)))) le`, `00 46 KK 00 Lcx(42("UTCA00001") {brainpoolP256r1} 5F20("UTKEY00001") 91(84) 65(73(` + uidOID + ` 80({uid})))) le`,
	"80 72 KK 92 00 00 00", "80 74 KK 93 Lcx({blob})", "80 74 KK 93",
	"80 52 00 00 00", "80 52 00 01 Lc(" + shareOne + ") 00", "80 52 00 00 Lc(" + shareTwo + ") 00", "80 52 01 01 Lc(01) 00", "80 52 01 02 Lc(00) 00", "80 52 03 01", "80 52 03 00", "80 52 04 00 00", "80 52 04 01 00", "80 52 00 01 Lc(" + shareTwo + ") 00",
	"80 52 02 01 Lcx({requestg|value} 54({member|plain})) le",
	"80 54 00 00 00", "80 54 02 00 00", "80 54 00 00 Lcx({requestg|value}) le", "80 54 01 00 Lcx({requestg|value}) le",
	"00 22 81 B6 Lc(83({efb|7F21.7F4E.42}))", "00 22 81 B6 Lc(83({efb|7F21.7F4E.5F20}))", "00 2A 00 BE Lc({efb|value})", "00 22 81 A4 Lc(83(\"UTCUSTG00001\"))", "00 82 00 00 Lc({long|head 64})",
	"00 22 41 A4 Lc(80(04007F00070202030202))", "00 86 00 00 Lc(7C(80({brainpoolP256r1|7F49.84}))) 00",
	"0C 20 00 81 0D 97 01 00 8E 08 D5B19DF5B9E45799 00", "00 A4 04 00 Lc(A000000151000000) 00", "00 99 00 00", "00",
}

// drawCommand draws a command: one that makes sense, one with something
// changed, or just bytes.
func drawCommand(t *rapid.T, v conform.Vars) []byte {
	text := rapid.SampledFrom(vocabulary).Draw(t, "command")
	id := rapid.SampledFrom([]string{"01", "02", "03", "05", "00", "FF"}).Draw(t, "key")
	b, err := conform.Compile(strings.ReplaceAll(text, "KK", " "+id), v)
	require.NoError(t, err)
	switch rapid.IntRange(0, 9).Draw(t, "change") {
	case 6:
		b = slices.Clone(b)
		b[rapid.IntRange(0, len(b)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
	case 7:
		b = b[:rapid.IntRange(0, len(b)).Draw(t, "length")]
	case 8:
		b = append(slices.Clone(b), rapid.SliceOfN(rapid.Byte(), 1, 4).Draw(t, "more")...)
	case 9:
		b = rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "bytes")
	}
	return b
}

// starts are the cards that random runs begin with; all of them know the
// variables of the vocabulary.
var starts = []string{"shipped", "user", "stock", "domains", "pending", "session", "transport", "blocked", "group", "keys"}

// Random sessions keep the invariants I1 to I3 and I6 to I9.
func TestInvariants_RandomSessions(t *testing.T) {
	t.Parallel()
	known := after(t, "4.1", setups["group"]).Vars
	known["blob"] = unhex(t, realBlob)
	rapid.Check(t, func(t *rapid.T) {
		start := rapid.SampledFrom(starts).Draw(t, "start")
		firmware := "4.1"
		if slices.Contains([]string{"shipped", "user", "pending", "blocked"}, start) {
			firmware = rapid.SampledFrom([]string{"1.2", "2.6", "3.1", "3.5", "4.1"}).Draw(t, "firmware")
		}
		tb := after(t, firmware, setups[start])
		maps.Copy(tb.Vars, known)
		i := newInspection(t)
		tb.inspect(i)
		tb.run(t, "card A")
		for range rapid.IntRange(10, 40).Draw(t, "commands") {
			switch rapid.IntRange(0, 29).Draw(t, "event") {
			case 27:
				tb.run(t, "cut\n"+selectApplication)
			case 28:
				tb.run(t, "sm off")
			case 29:
				tb.run(t, "sm off\n"+selectApplication)
				if firmware != "1.2" {
					tb.run(t, "sm on aes128")
				}
			default:
				tb.send(t, drawCommand(t, tb.Vars))
			}
		}
		i.again(t)
		c := tb.current()
		checkPrinting(t, i.secrets, c.State, c.State.Durable(), c.Durable().Keys, c.Durable().Domains, c.Durable().PINs)
	})
}

// I4: the first state that a PIN command saves is the same for a right and a
// wrong guess, and has one try less.
func TestInvariants_FirstCommitTellsNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, setup  string
		right, wrong string
		spent        pinstate.Ref
	}{
		{"VERIFY user PIN", "public", verifyUser, wrongUser, pinstate.User},
		{"VERIFY user PIN, logged in", "user", verifyUser, wrongUser, pinstate.User},
		{"VERIFY user PIN and stay logged in", "public", `00 20 01 81 Lc("648219")`, `00 20 01 81 Lc("648210")`, pinstate.User},
		{"VERIFY user PIN, last try", "public+" + wrongUser + " => *\n" + wrongUser + " => *", verifyUser, wrongUser, pinstate.User},
		{"VERIFY user PIN in a channel", "public+" + channelOn, verifyUser, wrongUser, pinstate.User},
		{"VERIFY user PIN where keys are needed, too", "pinandkeys", verifyUser, wrongUser, pinstate.User},
		{"VERIFY session PIN", "session+" + lines(channelOn, verifyUser, "80 5A 01 81 00 => {pin:16} 9000", channelOff), "00 20 00 81 Lc({pin})", "00 20 00 81 Lc({pin|flip})", pinstate.User},
		{"VERIFY user PIN beside a session PIN", "session+" + lines(channelOn, verifyUser, "80 5A 01 81 00 => {pin:16} 9000", channelOff), verifyUser, wrongUser, pinstate.User},
		{"VERIFY SO-PIN", "public", verifySO, wrongSO, pinstate.SO},
		{"VERIFY SO-PIN, last try", "public+" + again(14, wrongSO+" => *"), verifySO, wrongSO, pinstate.SO},
		{"CHANGE REFERENCE DATA user PIN", "public", changeUser, badChange, pinstate.User},
		{"CHANGE REFERENCE DATA transport PIN", "transport", changeUser, badChange, pinstate.User},
		{"CHANGE REFERENCE DATA SO-PIN", "public", changeSO, badChangeSO, pinstate.SO},
		{"RESET RETRY COUNTER new PIN", "public", resetNew, badReset, pinstate.SO},
		{"RESET RETRY COUNTER new PIN, blocked", "blocked", resetNew, badReset, pinstate.SO},
		{"RESET RETRY COUNTER counter", "public", resetOnly, badResetNo, pinstate.SO},
		{"INITIALIZE DEVICE", "stock", initialise("0001"), badInit, pinstate.SO},
		{"INITIALIZE DEVICE with a random DKEK", "dkek", initialise("0001", "92(00)"), strings.Replace(badInit, "91(03)", "91(03) 92(00)", 1), pinstate.SO},
		{"INITIALIZE DEVICE with key domains", "domains", initialise("0001", "97(02)", "93(0302)"), strings.Replace(badInit, "91(03)", "91(03) 97(02) 93(0302)", 1), pinstate.SO},
		{"INITIALIZE DEVICE without PIN", "public", withoutPIN("0001", "93(0302)"), strings.Replace(withoutPIN("0001", "93(0302)"), "3537363231383830", "3537363231383831", 1), pinstate.SO},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			from, more, _ := strings.Cut(c.setup, "+")
			tb := after(t, "4.1", setups[from]+"\n"+more)
			before := tb.current().Durable()
			first := map[string]string{}
			for guess, command := range map[string]string{"right": c.right, "wrong": c.wrong} {
				twin := tb.copied()
				answer := twin.command(t, command)
				require.Equal(t, guess == "right", bytes.HasSuffix(answer, []byte{0x90, 0x00}), "%s: %X", guess, answer)
				require.NotEmpty(t, twin.current().Result.Commits, guess)
				first[guess] = stored(t, twin.current().Result.Commits[0])

				expected := before
				if c.spent == pinstate.User {
					expected.PINs.User.Left--
				} else {
					expected.PINs.SO.Left--
				}
				require.Equal(t, stored(t, expected), stored(t, twin.current().Result.Commits[0].Applet), guess)
			}
			require.Equal(t, first["right"], first["wrong"])
		})
	}
}

// Every row of the table that takes a secret is among those above; a new one
// has to be put there.
func TestInvariants_PINCommandsAreKnown(t *testing.T) {
	t.Parallel()
	tb := after(t, "4.1", setups["public"])
	var charging []string
	for _, row := range applet.Commands() {
		text := probes()[row.Name+" "+row.Header].command
		if row.Name == "VERIFY" {
			text = wrongUser // its probe is the query
		}
		text = strings.NewReplacer("648219", "000000", "3537363231383830", "0000000000000000").Replace(text)
		command, err := conform.Compile(text, tb.Vars)
		if err != nil {
			continue // needs what other cards have signed, so no PIN
		}
		twin := tb.copied()
		twin.send(t, command)
		before, after := tb.current().Durable().PINs, twin.current().Durable().PINs
		if before.User.Left != after.User.Left || before.SO.Left != after.SO.Left {
			charging = append(charging, row.Name)
		}
	}
	require.Equal(t, []string{"VERIFY", "CHANGE REFERENCE DATA", "RESET RETRY COUNTER", "INITIALIZE DEVICE"}, charging)
}
