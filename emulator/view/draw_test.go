package view_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/view"
)

// did is a command, at a quarter past one.
func did(header, name, subject, sw, meaning string) view.Event {
	e := view.Event{
		Kind: view.Command, At: time.Date(2026, 11, 28, 13, 15, 0, 0, time.UTC), Header: &header, Command: &name, Meaning: meaning, SW: &sw,
		SOPIN: &view.Counter{TriesLeft: 7, Tries: 15}, UserPIN: &view.Counter{TriesLeft: 2, Tries: 3},
	}
	if subject != "" {
		e.Subject = &subject
	}
	return e
}

// drawn is what is on the screen after some events.
func drawn(d view.Drawing, events ...view.Event) string {
	var b strings.Builder
	for _, e := range events {
		b.WriteString(d.Next(e))
	}
	return b.String() + d.Rest()
}

func TestDrawing_FoldsReads(t *testing.T) {
	read := did("00B12F02", "READ BINARY", "EF 2F02", "9000", "done, 466 bytes")
	biometric := did("00200085", "VERIFY", "biometric template", "6A88", "not found")
	biometric.Query = true // pkcs11-tool asks for two of them, every time
	require.Equal(t, "13:15:00    2 reads\n", drawn(view.Drawing{Whole: true}, read, biometric))
	sign := did("00680170", "SIGN", "key 1, ECDSA", "9000", "done, 71 bytes")
	require.Equal(t, "\r13:15:00    1 read\r13:15:00    2 reads\n13:15:00    SIGN key 1, ECDSA: done, 71 bytes\n\r13:15:00    1 read\n",
		drawn(view.Drawing{}, read, read, sign, read))
}

func TestDrawing_PINsStandOut(t *testing.T) {
	beneath := strings.Repeat(" ", 52)
	ask := did("00200081", "VERIFY", "user PIN", "63C2", "not verified, 2 tries left")
	ask.Query = true
	for _, c := range []struct {
		event view.Event
		want  string
	}{
		{ask, "? status of user PIN: not verified, 2 tries left (63C2)\n" + beneath + "user PIN ██· 2/3"},
		{did("00200081", "VERIFY", "user PIN", "63C2", "wrong, 2 tries left"), "● VERIFY user PIN: wrong, 2 tries left (63C2)\n" + beneath + "user PIN ██· 2/3"},
		{did("00500000", "INITIALIZE DEVICE", "SO-PIN", "63C7", "wrong, 7 tries left"), "● INITIALIZE DEVICE SO-PIN: wrong, 7 tries left (63C7)\n" + beneath + "SO-PIN ███████········ 7/15"},
		{did("002C0081", "RESET RETRY COUNTER", "user PIN", "9000", "done"), "✓ RESET RETRY COUNTER user PIN: done      SO-PIN ███████········ 7/15\n" + beneath + "user PIN ██· 2/3"},
		{did("00200085", "VERIFY", "biometric template", "6A88", "not found"), "● VERIFY biometric template: not found (6A88)"},
		{did("00200088", "VERIFY", "SO-PIN", "9000", "done"), "✓ VERIFY SO-PIN: done                     SO-PIN ███████········ 7/15"},
	} {
		got := drawn(view.Drawing{}, c.event)
		require.Equal(t, "13:15:00  "+c.want+"\n", got)
		for line := range strings.Lines(got) {
			require.LessOrEqual(t, utf8.RuneCountInString(strings.TrimSuffix(line, "\n")), 80, line)
			if at := strings.IndexAny(line, "█"); at >= 0 {
				before := strings.TrimSuffix(strings.TrimSuffix(line[:at], "SO-PIN "), "user PIN ")
				require.Equal(t, len(beneath), utf8.RuneCountInString(before), "counters stand in one column")
			}
		}
	}
	coloured := drawn(view.Drawing{Colour: true}, ask, did("00200081", "VERIFY", "user PIN", "63C2", "wrong, 2 tries left"), did("00200081", "VERIFY", "user PIN", "9000", "done"))
	require.Contains(t, coloured, "\x1b[36m? status of user PIN")
	require.Contains(t, coloured, "\x1b[1;31m● VERIFY user PIN")
	require.Contains(t, coloured, "\x1b[1;32m✓ VERIFY user PIN")
}

func TestDrawing_ShowsWhatHappensAround(t *testing.T) {
	at := time.Date(2026, 11, 28, 13, 15, 0, 0, time.UTC)
	require.Equal(t, "13:15:00  ▲ card taken out: vpcd\n          (3 events left out)\n13:15:00  ✗ cut short: remove\n", drawn(view.Drawing{},
		view.Event{Kind: view.Eject, At: at, Meaning: "vpcd"}, view.Event{Kind: view.CutShort, At: at, Missed: 3, Meaning: "remove"}))
	sign := "00680170"
	require.Equal(t, "13:15:00  ▲ card reset\n13:15:00  ▲ card restored\n13:15:00  ▲ fault set: remove\n13:15:00  ✗ cut short in SIGN: remove\n13:15:00  ✗ fault struck in SIGN: cut\n", drawn(view.Drawing{},
		view.Event{Kind: view.Reset, At: at, Meaning: "reset"}, view.Event{Kind: view.Restore, At: at, Meaning: "another state"},
		view.Event{Kind: view.FaultSet, At: at, Meaning: "fault set: remove"}, view.Event{Kind: view.CutShort, At: at, Header: &sign, Meaning: "remove"},
		view.Event{Kind: view.Struck, At: at, Header: &sign, Meaning: "cut"}))
}

// What one connection says stands together under its program's name; what happens
// to the card belongs to no program.
func TestDrawing_GroupsByConnection(t *testing.T) {
	by := func(e view.Event, connection int) view.Event {
		e.Client = &view.Client{Connection: connection, Process: 4711, Program: "pkcs11-tool"}
		return e
	}
	read := did("00B12F02", "READ BINARY", "EF 2F02", "9000", "done, 466 bytes")
	reset := view.Event{Kind: view.Reset, At: read.At, Meaning: "reset"}
	sign := did("00680170", "SIGN", "key 1, ECDSA", "9000", "done, 71 bytes")
	events := []view.Event{by(read, 1), by(sign, 1), reset, by(sign, 1), by(read, 1), by(read, 2), sign, by(sign, 2)}
	require.Equal(t, `── pkcs11-tool, process 4711, connection 1
13:15:00    1 read
13:15:00    SIGN key 1, ECDSA: done, 71 bytes
13:15:00  ▲ card reset
13:15:00    SIGN key 1, ECDSA: done, 71 bytes
13:15:00    1 read
── pkcs11-tool, process 4711, connection 2
13:15:00    1 read
13:15:00    SIGN key 1, ECDSA: done, 71 bytes
13:15:00    SIGN key 1, ECDSA: done, 71 bytes
`, drawn(view.Drawing{Whole: true}, events...))
	require.Contains(t, drawn(view.Drawing{Colour: true}, by(sign, 1)), "\x1b[1m── pkcs11-tool")

	var several view.Drawing
	require.Equal(t, "── alice: pkcs11-tool, process 4711, connection 1\n13:15:00    SIGN key 1, ECDSA: done, 71 bytes\n", several.Of("alice", by(sign, 1)))
	require.Equal(t, "13:15:00  ▲ card reset\n", several.Of("alice", reset))
	require.Equal(t, "── bob\n13:15:00  ▲ card reset\n", several.Of("bob", reset))
	require.Equal(t, "a program, connection 1", view.Client{Connection: 1}.String())
	require.Equal(t, "hsmemu, process 3", view.Client{Process: 3, Program: "hsmemu"}.String())
}

// An event comes from another process, which may be of another version.
func TestDrawing_TakesAnyEvent(t *testing.T) {
	short, pin := "00", "00200081"
	for _, e := range []view.Event{
		{},
		{Kind: "later"},
		{Kind: view.Command},
		{Kind: view.Command, Header: &short},
		{Kind: view.Command, Header: &pin, UserPIN: &view.Counter{TriesLeft: 300, Tries: 2}},
		{Kind: view.Command, Header: &pin, UserPIN: &view.Counter{TriesLeft: -1, Tries: -1}},
	} {
		require.NotEmpty(t, drawn(view.Drawing{Colour: true}, e))
	}
}

// What another process says of its card is not obeyed by a terminal: no escape
// sequence (ECMA-48), no control character of either set, no further line.
func TestWords_AreNothingATerminalObeys(t *testing.T) {
	const evil = "a\x1b[2J\x9b31m\u009b\r\nb\x7f"
	e := view.Event{Kind: view.Command, Header: new(evil), Command: new(evil), Subject: new(evil), SW: new(evil), Meaning: evil}
	another := view.Event{Kind: evil, Meaning: evil}
	card := view.Card{
		Name: evil, State: new(view.State(evil)), Serial: new(evil), Firmware: new(evil), Reader: new(evil), Answers: []string{evil},
		Files: []view.File{{ID: evil, Holds: evil}}, Seal: new(evil), Running: &view.Running{Place: evil, Session: view.Session(evil)},
	}
	var printed, listed strings.Builder
	require.NoError(t, card.Print(&printed))
	require.NoError(t, view.PrintList([]view.Card{card}, &listed))
	for _, said := range []string{
		e.String(), e.Line(), drawn(view.Drawing{}, e), another.String(), another.Line(), drawn(view.Drawing{}, another),
		view.ExchangeOf(nil, nil, &e).Words(), printed.String(), listed.String(),
	} {
		for line := range strings.SplitSeq(said, "\n") {
			require.Equal(t, view.Printable(line), line, "%q", said)
			require.False(t, strings.HasPrefix(line, "b"), "%q", said)
		}
	}
}

func TestEvent_HasAClass(t *testing.T) {
	for header, want := range map[string]string{
		"00200081": "pin", "80500000": "pin", "00680170": "key", "00E40200": "file", "00B12F02": "file", "00840000": "other", "00460100": "key",
	} {
		class := did(header, "", "", "9000", "").Class()
		require.Equal(t, want, class, header)
		require.Contains(t, view.Classes(), class)
	}
	require.Equal(t, "key", did("00E40200", "DELETE FILE", "key 1", "9000", "").Class())
	require.Equal(t, "life", view.Event{Kind: view.Reset}.Class())
}
