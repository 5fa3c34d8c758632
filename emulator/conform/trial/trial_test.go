//go:build linux

package trial_test

import (
	"bytes"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/apdu"
	"hsmemu/applet/client"
	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/conform"
	"hsmemu/emulator/conform/trial"
	"hsmemu/emulator/program"
	"hsmemu/vsmartcard/pcscd"
)

// play runs a shell's script in a situation.
func play(t *testing.T, id string, args ...string) (conform.Run, string, error) {
	t.Helper()
	all := conform.Situations()
	i := slices.IndexFunc(all, func(s conform.Situation) bool { return s.ID == id })
	require.GreaterOrEqual(t, i, 0)
	l, socket, remove, err := pcscd.ListenIn(os.TempDir())
	require.NoError(t, err)
	defer func() { require.NoError(t, remove()) }()
	var out bytes.Buffer
	of := trial.Trial{World: emulator.System(), Limit: 20 * time.Second, Args: args, Env: os.Environ(), Out: &out}
	run, err := of.Play(t.Context(), all[i], l, socket)
	return run, out.String(), err
}

// What the cards see of a program, and how it ended, is in the run; the counters are
// those that the situation says.
func TestTrial_Play(t *testing.T) {
	run, out, err := play(t, "two-cards-last", "sh", "-c", `opensc-tool -l; opensc-tool -r "$HSMEMU_READER" -s 00:20:00:81; echo "$HSMEMU_SITUATION"; exit 3`)
	require.NoError(t, err)
	require.Contains(t, out, "two-cards-last\n")
	require.Contains(t, out, "(DENK99", "it has readers of its own")
	require.Equal(t, 3, run.Exit)
	require.False(t, run.Hung || run.Behind)
	require.Zero(t, run.Missed)
	require.NotEmpty(t, run.Events)
	require.True(t, run.Card.UserPIN.Known && run.Card.SOPIN.Known && run.Stranger.UserPIN.Known)
	require.True(t, slices.ContainsFunc(run.Events, func(o conform.Observed) bool { return !o.Stranger && o.INS == apdu.InsVerify }))
}

// While a card in a reader is judged nobody else gets a word in, not even after its
// power was cut.
func TestInserted_KeepsOthersOut(t *testing.T) {
	dir, err := os.MkdirTemp("", "t") //nolint:usetesting // a short path: the name of a socket has 107 characters at most
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	card, err := emulator.NewCard(chip.Order{}, emulator.System())
	require.NoError(t, err)
	daemon, err := pcscd.Start(dir, pcscd.Slot{Reader: pcscd.NitrokeyHSM(card.TokenSerial(), 0), Card: card})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, daemon.Close()) })
	name, socket, _ := bytes.Cut([]byte(daemon.Env), []byte("="))
	t.Setenv(string(name), string(socket))

	other, err := pcscd.ConnectTo(t.Context(), "", "Nitrokey")
	require.NoError(t, err)
	target, end, err := trial.Inserted(t.Context(), "Nitrokey")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() {
		_, err := other.Transmit(t.Context(), []byte{0, 0x20, 0, 0x81})
		done <- err
	}()
	for range 5 {
		require.NoError(t, target.Card.Reset())
		_, err := client.New(target.Card).Select(t.Context())
		require.NoError(t, err)
	}
	require.Empty(t, done, "it has to wait")
	end()
	require.ErrorIs(t, <-done, pcscd.ErrReset, "it is told when it is over")
	require.NoError(t, other.Close(t.Context(), pcscd.Leave))
	_, _, err = trial.Inserted(t.Context(), "no such")
	require.ErrorIs(t, err, pcscd.ErrUnknownReader)
	require.ErrorContains(t, err, `reader "no such": `)
}

// The key that is there to sign with is on the card, and the PIN opens it.
func TestTrial_Furnished(t *testing.T) {
	run, out, err := play(t, "usual", "sh", "-c", `printf 01234567890123456789012345678901 > "${TMPDIR:-/tmp}/$$" &&
		pkcs11-tool --login --pin "$HSMEMU_PIN" --sign --id 01 -m ECDSA -i "${TMPDIR:-/tmp}/$$" -o "${TMPDIR:-/tmp}/$$"; e=$?; rm "${TMPDIR:-/tmp}/$$"; exit $e`)
	require.NoError(t, err)
	require.Zero(t, run.Exit, out)
	require.True(t, slices.ContainsFunc(run.Events, conform.Observed.LogsIn))
}

// Each run draws PINs of its own, and a program that is not there is not run.
func TestTrial_Secrets(t *testing.T) {
	const tell = `echo "$HSMEMU_PIN $HSMEMU_SO_PIN"`
	_, first, err := play(t, "usual", "sh", "-c", tell)
	require.NoError(t, err)
	_, second, err := play(t, "usual", "sh", "-c", tell)
	require.NoError(t, err)
	require.Regexp(t, `^[0-9]{8} (3[0-9]){8}\n$`, first)
	require.NotEqual(t, first, second)
	_, _, err = play(t, "usual", "./nosuch")
	require.ErrorIs(t, err, conform.ErrUnstarted)
	require.ErrorAs(t, err, new(*program.StartError))
}
