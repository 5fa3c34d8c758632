//go:build linux

package main

import (
	"bytes"
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"hsmemu/cmd/hsmemu/commandline"
	"hsmemu/emulator/ram"
)

// printNothing are the commands that print nothing, or nothing where their work was done.
var printNothing = []string{
	"card", "card accept", "card copy", "card eject", "card export", "card import", "card insert", "card new", "card rename", "card reseal",
	"card reset", "card restore", "card rm", "card snapshot", "lesson expect", "portal",
	"exec", // what its program prints is that program's
	"lesson join",
}

// Whatever prints fails where that cannot be written, be it the first thing it prints or a later one.
func TestOutput_ThatCannotBeWrittenIsAFailure(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	a := newApp(t, state)
	for _, line := range []string{"card new lab", "card snapshot lab kept"} {
		require.Zero(t, a.run(soon(t), strings.Fields(line)), line)
	}

	running := newHome(t)
	running.run("card", "new", "vault")
	served := newApp(t, running.dir)
	p := running.start("vault")
	p.ready(t)
	defer p.kill()
	require.Zero(t, served.run(soon(t), strings.Fields("card fault vault slow sign=1ms")))

	at := serveRAMServices(t, map[string]ram.Service{"talks": func(ctx context.Context, card *ram.Session) error {
		return card.Notify(ctx, ram.Notice{Text: "one moment"})
	}})

	shown := map[string]bool{
		"card authenticate": true, // testdata/script/pka
		"card import-key":   true, // TestImportKey_TellsWhatCame
		"lesson check":      true, // TestLesson_WorkedThrough, as all that is typed in one
		"lesson hint":       true,
		"lesson next":       true,
		"lesson undo":       true,
		"lesson reset":      true,
		"trace":             true, // TestTrace_ThatCannotBeWritten
		"conform client":    true, // testdata/private/conform_client: it ends all that its program has left, so every child of this process
	}
	for _, c := range []struct {
		app   *app
		lines []string
	}{
		{a, []string{
			"", "help card", "card new --help", "completion bash", "completion zsh", "man card new", "version", "version --json", "capabilities", "capabilities --json",
			"card list", "card list --json", "card show lab", "card show lab --json", "card snapshots lab",
			"apdu --card lab 00A4040C0BE82B0601040181C31F0201", "attest --card lab", "status --card lab --json", "ram --card lab " + at + "/rt/talks",
			"conform --list", "conform --rules ^ACCESS-R1$",
			"lesson", "lesson list", "lesson class",
			"run --card lab --socket " + filepath.Join(running.dir, "other"),
			"portal serve --listen 127.0.0.1:0",
		}},
		{served, []string{"status --card vault", "card fault vault --list"}},
	} {
		for _, line := range c.lines {
			for _, room := range []int32{0, 1} {
				out, said := new(full), bytes.Buffer{}
				out.room.Store(room)
				c.app.out, c.app.err = out, &said
				code := c.app.run(soon(t), strings.Fields(line))
				if out.room.Load() >= 0 && room > 0 {
					continue // it prints once
				}
				require.Equal(t, exitFailed, code, "hsmemu %s: %s", line, &said)
				require.Contains(t, said.String(), "no space left on device", "hsmemu %s", line)
			}
			cmd, _, err := rootCommand(a).Find(strings.Fields(line))
			require.NoError(t, err)
			shown[commandline.Name(cmd)] = true
		}
	}
	everyCommand(rootCommand(a), func(c *cobra.Command) {
		name := commandline.Name(c)
		require.True(t, shown[name] || slices.Contains(printNothing, name), "hsmemu %s", name)
	})
}

// A trace ends with its first line that cannot be written.
func TestTrace_ThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.run("card", "new", "vault")
	p := h.start("vault")
	p.ready(t)
	defer p.kill()
	ctx := soon(t)
	a := newApp(t, h.dir)
	var said bytes.Buffer
	a.out, a.err = new(full), &said
	ended := make(chan int)
	go func() { ended <- a.run(ctx, []string{"trace", "--card", "vault"}) }()
	for {
		require.Zero(t, newApp(t, h.dir).run(ctx, []string{"apdu", "--card", "vault", "00200081"}))
		select {
		case code := <-ended:
			require.Equal(t, exitFailed, code)
			require.Contains(t, said.String(), "no space left on device")
			return
		default:
		}
	}
}
