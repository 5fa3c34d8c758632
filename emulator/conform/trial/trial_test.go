//go:build linux

package trial_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
	"hsmemu/applet/client"
	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/conform"
	"hsmemu/emulator/conform/trial"
	"hsmemu/emulator/program"
	"hsmemu/emulator/statedir"
	"hsmemu/emulator/store"
	"hsmemu/keystore/seal"
	"hsmemu/vsmartcard/pcscd"
)

// play runs a shell's script in a situation.
func play(t *testing.T, id string, args ...string) (conform.Run, string, error) {
	t.Helper()
	all := conform.Situations()
	i := slices.IndexFunc(all, func(s conform.Situation) bool { return s.ID == id })
	require.GreaterOrEqual(t, i, 0)
	var out bytes.Buffer
	of := trialOf(args...)
	of.Out = &out
	run, err := of.Play(t.Context(), all[i])
	return run, out.String(), err
}

func trialOf(args ...string) trial.Trial {
	return trial.Trial{
		World: emulator.System(), Limit: time.Minute, Args: args, Env: os.Environ(), Out: io.Discard,
		Folders: []string{"", os.TempDir()}, Begin: func(conform.Situation) {},
	}
}

// The report names the program and the firmware of its cards, and has the situations that
// were asked for; of the socket's folder nothing is left.
func TestTrial_Judge(t *testing.T) {
	folder, err := os.MkdirTemp("", "t") //nolint:usetesting // a short path: the name of a socket has 107 characters at most
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(folder)) })
	of := trialOf("/bin/true")
	of.Firmware, of.Folders = "3.4", []string{folder}
	var begun []string
	of.Begin = func(s conform.Situation) { begun = append(begun, s.ID) }
	r, err := of.Judge(t.Context(), conform.Situations(), conform.Audition{Program: "v0", Only: regexp.MustCompile("^(usual|one-try)$")})
	require.NoError(t, err)
	require.Equal(t, []string{"usual", "one-try"}, begun)
	require.Equal(t, "program true", r.Target)
	require.Equal(t, "3.4", r.Statement.Firmware)
	require.EqualError(t, r.Err(), "program true was not judged: no situation was judged; 16 situations: 16 not judged")
	left, err := os.ReadDir(folder)
	require.NoError(t, err)
	require.Empty(t, left)

	of.Firmware, of.Args = "", []string{"./nosuch"}
	r, err = of.Judge(t.Context(), conform.Situations(), conform.Audition{})
	require.ErrorIs(t, err, conform.ErrUnstarted)
	require.Equal(t, applet.DefaultFirmware, r.Statement.Firmware)
	of.Folders = []string{folder + "/absent"}
	r, err = of.Judge(t.Context(), conform.Situations()[:1], conform.Audition{})
	require.NoError(t, err)
	require.Contains(t, r.Results[0].Why, "make the private socket: ")
}

// New cards are those of a seed, and copies leave the card alone that they are of.
func TestCopies(t *testing.T) {
	t.Parallel()
	transmit := func(target conform.Target) string {
		card, err := target.Make()
		require.NoError(t, err)
		_, err = client.New(card).Select(t.Context())
		require.NoError(t, err)
		answer, err := card.Transmit(t.Context(), []byte{0, 0x84, 0, 0, 8})
		require.NoError(t, err)
		return string(answer)
	}
	seeded := func(n uint64) conform.Target {
		target, err := trial.Made("4.1", &n, emulator.System())
		require.NoError(t, err)
		require.Equal(t, "a new card", target.Name)
		return target
	}
	require.Equal(t, transmit(seeded(5)), transmit(seeded(5)))
	require.NotEqual(t, transmit(seeded(5)), transmit(seeded(6)))
	_, err := trial.Made("9.9", nil, emulator.System())
	require.Error(t, err)

	plain := store.Options{Sealers: []seal.Sealer{seal.Insecure{}}}
	d, err := statedir.Open(filepath.Join(t.TempDir(), "state"), plain)
	require.NoError(t, err)
	require.NoError(t, d.Make("lab", statedir.Order{Order: chip.Order{Serial: "DENK9900091"}}, plain, emulator.System()))
	before, _, err := d.Read("lab")
	require.NoError(t, err)
	target, err := trial.Copies(d, "lab", emulator.System())
	require.NoError(t, err)
	require.Equal(t, `copies of card "lab"`, target.Name)
	card, err := target.Make()
	require.NoError(t, err)
	s, _, err := conform.ReadStatement(t.Context(), card)
	require.NoError(t, err)
	require.Equal(t, "DENK9900091", s.Serial)
	after, _, err := d.Read("lab")
	require.NoError(t, err)
	require.Equal(t, before, after)
	_, err = trial.Copies(d, "nobody", emulator.System())
	require.ErrorIs(t, err, statedir.ErrNoCard)
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
