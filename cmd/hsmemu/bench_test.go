//go:build linux

package main

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/apdu"
	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/control"
	"hsmemu/vsmartcard"
	"hsmemu/vsmartcard/pcscd"
)

// nothing is a card that answers every command with success at once: what is
// left is the cost of the bridge and of Debian's vpcd and pcscd.
type nothing struct{ atr []byte }

func (n nothing) ATR() []byte { return n.atr }

func (nothing) Reset() error { return nil }

func (nothing) Transmit(context.Context, []byte) ([]byte, error) { return []byte{0x90, 0x00}, nil }

// BenchmarkStatus measures the status query of a PC/SC client through Debian's
// pcscd and vpcd: a card that does nothing beside a real one, and
// that one while somebody follows it.
func BenchmarkStatus(b *testing.B) {
	card, err := emulator.NewCard(chip.Order{}, emulator.System())
	require.NoError(b, err)
	for _, c := range []struct {
		name string
		card vsmartcard.Card
	}{{"nothing", nothing{card.ATR()}}, {"card", card}, {"followed", card}} {
		b.Run(c.name, func(b *testing.B) {
			if c.name == "followed" {
				events, stop := card.Watch(1)
				defer stop()
				go func() {
					for e := range events {
						_ = control.EventOf(e)
					}
				}()
			}
			handle := inVPCD(b, c.card)
			_, err := handle.Transmit(b.Context(), apdu.Command{INS: 0xA4, P1: 4, P2: 0x0C, Data: []byte(apdu.AID)}.Bytes())
			require.NoError(b, err)
			query := apdu.Command{INS: 0x20, P2: 0x81}.Bytes()
			for b.Loop() {
				if _, err := handle.Transmit(b.Context(), query); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// inVPCD puts a card into a virtual reader of a daemon of its own, and gives a
// client's handle of it.
func inVPCD(b *testing.B, card vsmartcard.Card) *pcscd.Handle {
	r, err := newReaders(1, false)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, r.close()) })
	require.NoError(b, r.start())
	bridge, err := vsmartcard.Dial(b.Context(), r.address(), card)
	require.NoError(b, err)
	ctx, stop := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- bridge.Run(ctx) }()
	b.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			b.Log(err) // it was told to end
		}
	})
	require.NoError(b, bridge.Ready(ctx))
	require.NoError(b, r.cards(1))
	client, err := pcscd.Dial(ctx, r.socket())
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, client.Close()) })
	states, err := client.Readers(ctx)
	require.NoError(b, err)
	for _, s := range states {
		if s.State&pcscd.StatePresent == 0 {
			continue
		}
		handle, err := client.Connect(ctx, s.Name, pcscd.Shared, pcscd.T1)
		require.NoError(b, err)
		return handle
	}
	b.Fatal("no reader has the card")
	return nil
}

// BenchmarkTraceListener measures the status query of a client of `hsmemu run`: of
// a card that nobody follows, and in turn with it of one that `hsmemu trace`
// follows. "flood" has one command after the other, so that the listener competes
// for the processors; "paced" leaves it a millisecond after each. The ratio is that
// of the medians.
func BenchmarkTraceListener(b *testing.B) {
	dir := b.TempDir()
	program := dir + "/hsmemu"
	out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(b, err, string(out))
	command := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(b.Context(), program, args...)
		cmd.Env = append(os.Environ(), "HSMEMU_STATE="+dir+"/state")
		return cmd
	}
	names := []string{"alone", "followed"}
	for _, name := range names {
		out, err := command("card", "new", name).CombinedOutput()
		require.NoError(b, err, string(out))
	}
	// until it has said that it is ready.
	start := func(ready string, pipe func(*exec.Cmd) (io.ReadCloser, error), args ...string) {
		cmd := command(args...)
		said, err := pipe(cmd)
		require.NoError(b, err)
		require.NoError(b, cmd.Start())
		b.Cleanup(func() {
			_ = cmd.Process.Signal(os.Interrupt)
			_ = cmd.Wait()
		})
		lines := bufio.NewScanner(said)
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), ready) {
				return
			}
		}
		b.Fatalf("%v did not get ready", args)
	}
	start("ready", (*exec.Cmd).StdoutPipe, "run", "--socket", dir+"/s", "--card", names[0], "--card", names[1])
	start("following", (*exec.Cmd).StderrPipe, "trace", "--card", names[1])

	client, err := pcscd.Dial(b.Context(), dir+"/s")
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, client.Close()) })
	readers, err := client.Readers(b.Context())
	require.NoError(b, err)
	require.Len(b, readers, len(names))
	cards := make([]*pcscd.Handle, len(names))
	for i, r := range readers {
		cards[i], err = client.Connect(b.Context(), r.Name, pcscd.Shared, pcscd.T1)
		require.NoError(b, err)
		_, err = cards[i].Transmit(b.Context(), apdu.Command{INS: 0xA4, P1: 4, P2: 0x0C, Data: []byte(apdu.AID)}.Bytes())
		require.NoError(b, err)
	}
	query := apdu.Command{INS: 0x20, P2: 0x81}.Bytes()
	const rounds = 20
	for _, c := range []struct {
		name     string
		commands int // in a round, which is much longer than the time between two batches of events
		pause    time.Duration
	}{{"flood", 4000, 0}, {"paced", 200, time.Millisecond}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				var took [2][]time.Duration
				for round := range 2 * rounds {
					i := round % 2
					for range c.commands {
						begun := time.Now()
						if _, err := cards[i].Transmit(b.Context(), query); err != nil {
							b.Fatal(err)
						}
						took[i] = append(took[i], time.Since(begun))
						time.Sleep(c.pause)
					}
				}
				for _, t := range took {
					slices.Sort(t)
				}
				alone, followed := took[0][rounds*c.commands/2].Seconds(), took[1][rounds*c.commands/2].Seconds()
				b.ReportMetric(alone*1e6, "alone-µs")
				b.ReportMetric(followed*1e6, "followed-µs")
				b.ReportMetric(followed/alone, "ratio")
			}
		})
	}
}

// BenchmarkStart measures the program from its start to its end: an answer of a
// card, and a program run with a card of its own.
func BenchmarkStart(b *testing.B) {
	dir := b.TempDir()
	program := dir + "/hsmemu"
	out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(b, err, string(out))
	run := func(args ...string) {
		cmd := exec.Command(program, args...)
		cmd.Env = append(os.Environ(), "HSMEMU_STATE="+dir+"/state")
		out, err := cmd.CombinedOutput()
		require.NoError(b, err, string(out))
	}
	run("card", "new", "measured")
	for name, args := range map[string][]string{
		"apdu": {"apdu", "--card", "measured", "00A4040C0BE82B0601040181C31F0201"},
		"exec": {"exec", "--card", "measured", "--", "true"},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				run(args...)
			}
		})
	}
}
