package applet_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/chiptest"
)

// told is a card that was told what to answer where sources disagree.
func told(t *testing.T, name, word string) *table {
	t.Helper()
	answers, err := applet.Answers{}.With(name, word)
	require.NoError(t, err)
	require.Equal(t, []string{name + "=" + word}, answers.Chosen())
	env := chiptest.World("told")
	d, err := chip.Manufacture(env, chip.Order{Serial: "DENK9900001", Answers: answers})
	require.NoError(t, err)

	var again chip.Durable
	require.NoError(t, json.Unmarshal([]byte(stored(t, d)), &again))
	require.Equal(t, answers, again.Applet.Answers)
	tb := newTable()
	tb.put(&chiptest.Card{Name: "A", Env: env, State: chip.Boot(again)})
	return tb
}

// Both words of every answer, and INITIALIZE DEVICE changes none of them.
func TestAnswers(t *testing.T) {
	t.Parallel()
	scripts := map[string]string{
		"not-selected": "00 20 00 81 => %[1]s\n" + lines(selectApplication, initialise("0001"), "cut") + "\n00 20 00 81 => %[1]s\n00 A4 00 00 Lc(2F02) => 6A82",
		"domain-deleted": lines(selectApplication, initialise("0001", "97(02)"), "80 52 01 01 Lc(01) => *") +
			"\n80 52 03 01 => %s !1\n80 52 00 01 00 => 6A88",
		"last-try": lines(selectApplication, initialise("0001"), "cut", selectApplication, wrongUser+" => 63C2", badChange+" => 63C1") + "\n" +
			wrongUser + " => %[1]s !1\n" + wrongUser + " => 6983\n" + again(14, wrongSO+" => *") + badReset + " => %[1]s !1\n" + querySO + " => 6983",
		"no-matching-domain": lines(selectApplication, initialise("0001", "92(00)"), generate("01", "secp256r1"), "80 72 01 92 00 00 00 => {blob:363} 9000",
			initialise("0001", "92(00)")) + "\n80 74 02 93 Lcx({blob}) => %s",
		"too-long": strings.Repeat("00", 1455) + " => %[1]s !0\n" + lines(selectApplication, initialise("0001"), verifyUser) +
			"\n00 D7 CF 00 Lc(54(0000) 53(" + strings.Repeat("5A", 1440) + ")) => %[1]s !0\n00 20 00 81 => 9000",
		"bad-blob": lines(selectApplication, initialise("0001", "92(00)"), generate("01", "secp256r1"), "80 72 01 92 00 00 00 => {blob:363} 9000") +
			"\n80 74 02 93 Lcx({blob|flip}) => %[1]s\n80 74 02 93 Lcx({blob|-1}) => %[1]s\n80 74 02 93 Lc({blob|head 8}) => %[1]s",
	}
	for _, a := range applet.AnswerChoices() {
		require.Contains(t, scripts, a.Name)
		require.Len(t, a.Words, 2, a.Name)
		for _, sw := range a.Words {
			t.Run(a.Name+"="+sw.String(), func(t *testing.T) {
				t.Parallel()
				tb := told(t, a.Name, sw.String())
				tb.run(t, fmt.Sprintf(scripts[a.Name], sw.String()))
				require.NoError(t, tb.current().Result.Event.Defect)
			})
		}
	}
}

// The first word of each is that of the newest firmware, which a card that was
// told nothing gives.
func TestAnswers_Untold(t *testing.T) {
	t.Parallel()
	p, ok := applet.ProfileOf(applet.DefaultFirmware)
	require.True(t, ok)
	require.Equal(t, p, applet.Durable{Firmware: applet.DefaultFirmware}.Profile())
	require.Empty(t, applet.Answers{}.Chosen())
	for _, a := range applet.AnswerChoices() {
		chosen, err := applet.Answers{}.With(a.Name, a.Words[0].String())
		require.NoError(t, err)
		require.Equal(t, p, applet.Durable{Firmware: applet.DefaultFirmware, Answers: chosen}.Profile(), a.Name)
	}
	require.NotContains(t, stored(t, applet.Durable{}), "answers")
}

func TestAnswers_OthersAreRefused(t *testing.T) {
	t.Parallel()
	for _, c := range [][2]string{
		{"not-selected", "9000"},
		{"not-selected", "6D"},
		{"not-selected", ""},
		{"domain-deleted", "6E00"},
		{"no-matching-domain", "6F00"},
		{"", "6E00"},
		{"Not-Selected", "6E00"},
		{"wrong-pin", "63C2"},
	} {
		before := applet.Answers{DomainDeleted: 0x9000}
		got, err := before.With(c[0], c[1])
		require.ErrorIs(t, err, applet.ErrAnswer, "%v", c)
		require.Equal(t, before, got)
	}
	lower, err := applet.Answers{}.With("not-selected", "6e00")
	require.NoError(t, err)
	require.Equal(t, []string{"not-selected=6E00"}, lower.Chosen())
}

func TestParseAnswers(t *testing.T) {
	for _, word := range applet.AnswerWords() {
		a, err := applet.ParseAnswers([]string{word})
		require.NoError(t, err)
		require.NotZero(t, a, word)
	}
	a, err := applet.ParseAnswers([]string{"not-selected=6D00", "bad-blob=6A80", "not-selected=6E00"})
	require.NoError(t, err)
	require.Equal(t, applet.Answers{NotSelected: apdu.ClassNotSupported, BadBlob: apdu.WrongData}, a, "the last one counts")
	for _, word := range []string{"", "not-selected", "not-selected=9000", "nothing=6D00"} {
		a, err := applet.ParseAnswers([]string{"bad-blob=6A80", word})
		require.ErrorIs(t, err, applet.ErrAnswer)
		require.ErrorContains(t, err, fmt.Sprintf("answer %q: one of not-selected=6D00, not-selected=6E00, ", word))
		require.Zero(t, a)
	}
}
