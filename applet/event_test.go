package applet_test

import (
	"fmt"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
)

// Every row of the table names itself in the event, and keeps its data out of
// traces if they are secret.
func TestEvent_EveryRow(t *testing.T) {
	t.Parallel()
	expected := probes()
	for _, row := range applet.Commands() {
		t.Run(row.Name+" "+row.Header, func(t *testing.T) {
			t.Parallel()
			tb := visit(t, sessions()["user by PIN"])
			p := expected[row.Name+" "+row.Header]
			tb.run(t, p.before)
			answer := tb.command(t, p.command)
			e := tb.current().Result.Event
			require.Equal(t, row.Name, e.Command)
			require.Equal(t, row.Quiet, e.Quiet)
			require.Equal(t, [4]byte(tb.current().Sent), e.Header)
			require.Equal(t, len(answer)-2, e.Received)
			command, err := apdu.Parse(tb.current().Sent)
			require.NoError(t, err)
			require.Equal(t, len(command.Data), e.Sent)
			require.Equal(t, len(tb.current().Result.Commits), e.Commits)
			require.NotEmpty(t, e.Meaning)
			require.False(t, e.Secure)
		})
	}
}

// These rows carry PINs, shares of keys, user data or the randomness that shares
// are made of; all others may be traced.
func TestEvent_QuietRows(t *testing.T) {
	t.Parallel()
	var quiet []string
	for _, row := range applet.Commands() {
		if row.Quiet {
			quiet = append(quiet, row.Name)
		}
	}
	require.Equal(t, []string{
		"UPDATE BINARY", "GET CHALLENGE", "VERIFY", "CHANGE REFERENCE DATA", "RESET RETRY COUNTER", "RESET RETRY COUNTER", "INITIALIZE DEVICE", "DECIPHER",
		"SYMMETRIC CIPHER", "DERIVE EC KEY", "MANAGE KEY DOMAIN (import share)", "GENERATE SESSION PIN",
	}, quiet)
}

// What a trainee reads.
func TestEvent_Words(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ setup, command, words string }{
		{"public", wrongUser, "VERIFY user PIN → 63C2, wrong, 2 tries left"},
		{"public", wrongUser + " => *\n" + wrongUser, "VERIFY user PIN → 63C1, wrong, 1 try left"},
		{"public", again(2, wrongUser+" => *") + wrongUser, "VERIFY user PIN → 6983, wrong, blocked now"},
		{"public", queryUser, "VERIFY user PIN → 63C3, not verified, 3 tries left"},
		{"user", queryUser, "VERIFY user PIN → 9000, verified"},
		{"public", verifyUser, "VERIFY user PIN → 9000, done"},
		{"public", channelOn + "\n" + queryUser, "VERIFY user PIN (secure messaging) → 63C3, not verified, 3 tries left"},
		{"public", channelOn + "\n" + wrongUser, "VERIFY user PIN (secure messaging) → 63C2, wrong, 2 tries left"},
		{"public", wrongSO, "VERIFY SO-PIN → 63CE, wrong, 14 tries left"},
		{"public", badInit, "INITIALIZE DEVICE SO-PIN → 63CE, wrong, 14 tries left"},
		{"transport", badChange, "CHANGE REFERENCE DATA transport PIN → 63C2, wrong, 2 tries left"},
		{"stock", `80 68 01 73 Lc("m") 00`, "SIGN key 1, secp256r1, ECDSA SHA-256 → 9000, done, 70 bytes"},
		{"stock", "80 68 02 33 Lc(00) 00", "SIGN key 2, RSA-1024, RSA PKCS#1 v1.5 SHA-256 → 9000, done, 128 bytes"},
		{"stock", "80 78 03 18 Lc(00) 00", "SYMMETRIC CIPHER key 3, AES-128, AES-CMAC → 9000, done, 16 bytes"},
		{"stock", "80 68 07 73 Lc(00) 00", "SIGN key 7, ECDSA SHA-256 → 6A88, referenced data not found"},
		{"stock", "00 B1 CF 00 Lc(54(0000)) 00", "READ BINARY EF CF00 (public data) → 9000, done, 11 bytes"},
		{"stock", "00 A4 00 00 Lc(CC01)", "SELECT key 1 → 9000, done"},
		{"public", "00 A4 00 00 Lc(1234)", "SELECT EF 1234 → 6A82, file, key or application not found"},
		{"public", "00 99 00 00", "INS 99 → 6D00, instruction not supported"},
		{"public", "00 20 05 81", "VERIFY → 6A86, incorrect P1 or P2"},
		{"public", "01 20 00 81", "VERIFY → 6881, logical channel not supported"},
		{"public", "cut\n" + wrongUser, "(no application selected) → 6D00, instruction not supported"},
		{"public", "00", "(not an APDU) → 6700, wrong length"},
		{"user", "00 A4 04 00 00", "SELECT card manager → 9000, done"},
		{"user", "00 A4 04 00 Lc(A000000063)", "SELECT another application → 6A82, file, key or application not found"},
	} {
		tb := after(t, "4.1", setups[c.setup])
		tb.run(t, c.command+" => *")
		require.Equal(t, c.words, tb.current().Result.Event.String())
	}
}

// A command that no row takes may carry a secret all the same.
func TestEvent_RefusedFormsAreQuiet(t *testing.T) {
	t.Parallel()
	tb := after(t, "4.1", setups["public"])
	for _, command := range []string{`00 20 05 81 Lc("648219")`, `00 2C 07 81 Lc("135790")`, `0C 20 00 81 Lc("648219")`, `00 20 00 81 06 "64821"`} {
		tb.run(t, command+" => *")
		require.True(t, tb.current().Result.Event.Quiet, command)
	}
}

// Only a failure of ours is reported as one: an answer 6F00 that a firmware is
// known for is not.
func TestEvent_Defect(t *testing.T) {
	t.Parallel()
	tb := after(t, "3.1", lines(setups["dkek"], generate("01", "secp256r1", "91(70 92)"), "80 72 01 92 00 00 00 => {blob:*} 9000"))
	tb.run(t, "80 74 02 93 Lcx({blob}) => 6F00")
	require.NoError(t, tb.current().Result.Event.Defect)
	tb.current().Env.Rand = iotest.ErrReader(iotest.ErrTimeout)
	tb.run(t, "00 84 00 00 08 => 6F00")
	require.ErrorIs(t, tb.current().Result.Event.Defect, iotest.ErrTimeout)
	require.NotContains(t, fmt.Sprint(tb.current().Result.Event), "timeout")
}

// Shows CVC-20.
func TestDurable_Serial(t *testing.T) {
	t.Parallel()
	for name, serial := range map[string]string{"DENK040414400000": "DENK0404144", "123456": "1", "12345": "12345", "": ""} {
		require.Equal(t, serial, applet.Durable{Device: applet.Device{Name: name}}.Serial())
	}
}

func TestFile_Holds(t *testing.T) {
	t.Parallel()
	for id, holds := range map[uint16]string{
		0x2F02: "device certificate", 0x2F03: "token information", 0xC401: "key description", 0xCC01: "key", 0xCC00: "device key",
		0xCD05: "private data", 0xCFFF: "public data", 0x1234: "", 0xD000: "",
	} {
		require.Equal(t, holds, applet.File{ID: id}.Holds(), "%04X", id)
	}
}
