package conform_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/conform"
	"hsmemu/keystore"
	"hsmemu/vsmartcard"
	"hsmemu/vsmartcard/pcscd"
)

// emulated makes cards in the same process.
func emulated(_, firmware string) (vsmartcard.Card, error) {
	w := emulator.System()
	w.RSA = keystore.PoolGenerator{Rand: w.Rand}
	return emulator.NewCard(chip.Order{Firmware: firmware}, w)
}

// inReader makes cards that are reached as any program reaches them: by PC/SC,
// each in the reader of a private daemon.
func inReader(t *testing.T) conform.Make {
	return func(name, firmware string) (vsmartcard.Card, error) {
		card, err := emulated(name, firmware)
		require.NoError(t, err)
		dir, err := shortFolder()
		require.NoError(t, err)
		about := pcscd.NitrokeyHSM(card.(*emulator.Card).TokenSerial(), 0)
		daemon, err := pcscd.Start(dir, pcscd.Slot{Reader: about, Card: card})
		require.NoError(t, err)
		_, socket, _ := strings.Cut(daemon.Env, "=")
		client, err := pcscd.Dial(t.Context(), socket)
		require.NoError(t, err)
		t.Cleanup(func() {
			require.NoError(t, client.Close())
			require.NoError(t, daemon.Close())
			require.NoError(t, os.RemoveAll(dir))
		})
		return client.Connect(t.Context(), about.Name, pcscd.Exclusive, pcscd.T1)
	}
}

// shortFolder is a new folder whose name is short enough for that of a socket.
func shortFolder() (string, error) { return os.MkdirTemp("", "hsmemu") }

// sessions are the scenarios of package applet, where they are played under the
// eyes of a witness.
func sessions(t testing.TB) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", "applet", "testdata", "scenario", "*.txt"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	all := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		all[strings.TrimSuffix(filepath.Base(file), ".txt")] = string(text)
	}
	return all
}

func parse(t testing.TB, text string) conform.Script {
	t.Helper()
	s, err := conform.Parse(text)
	require.NoError(t, err)
	return s
}

func soon(t testing.TB) context.Context {
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(stop)
	return ctx
}

// A card answers the same in the process of its judge and in a reader.
func TestPlay_Sessions(t *testing.T) {
	t.Parallel()
	for name, text := range sessions(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			script := parse(t, text)
			require.NoError(t, conform.NewPlayer(emulated).Play(soon(t), script), "in the same process")
			require.NoError(t, conform.NewPlayer(inReader(t)).Play(soon(t), script), "by PC/SC")
		})
	}
}

// The loss of power ends a channel on both sides, and sm off on the host's.
func TestPlay_EndOfChannel(t *testing.T) {
	t.Parallel()
	const selection = "00 A4 04 0C Lc(E82B0601040181C31F0201)\n"
	for _, maker := range []conform.Make{emulated, inReader(t)} {
		require.NoError(t, conform.NewPlayer(maker).Play(soon(t), parse(t, "card A 4.1\n"+selection+"sm on aes256\ncut\n"+selection+
			"sm on 3des\n00 20 00 88 => 6A88\nsm off\n00 20 00 88 => 6A88\n0C 20 00 88 Lc(97(00) 8E(0000000000000000)) 00 => 6985")))
	}
}
