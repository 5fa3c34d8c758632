//go:build linux

package main

import (
	"bufio"
	"context"
	"io"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/chiptest"
	"hsmemu/emulator/ram"
)

// A portal updates the card that connects, keeps what it knows on disk, and ends
// when it is told to.
func TestPortal_Serve(t *testing.T) {
	t.Parallel()
	a := newApp(t, t.TempDir())
	out, in := io.Pipe()
	a.out = in
	serve := func() (lines *bufio.Scanner, end func() int) {
		ctx, cancel := context.WithCancel(soon(t))
		code := make(chan int, 1)
		go func() {
			code <- a.run(ctx, []string{"portal", "serve", "--update-any", "--listen", "127.0.0.1:0"})
		}()
		return bufio.NewScanner(out), func() int { cancel(); return <-code }
	}
	lines, end := serve()
	require.True(t, lines.Scan())
	at := lines.Text()
	require.Regexp(t, `^http://127\.0\.0\.1:\d+/rt/paas$`, at)
	require.True(t, lines.Scan())
	require.Regexp(t, `^http://127\.0\.0\.1:\d+/se/paas$`, lines.Text())
	require.True(t, lines.Scan())
	require.Equal(t, "ready", lines.Text())
	card, err := chiptest.Manufacture("4.0", "A")
	require.NoError(t, err)
	said := make(chan string, 1)
	go func() {
		lines.Scan()
		said <- lines.Text()
	}()
	require.NoError(t, (&ram.Agent{Card: card}).Run(soon(t), at))
	require.Regexp(t, `^chip [0-9A-F]{12}: firmware 4\.0 of /UTSRCAEM1/UTDICAEM01/DENK\d{7} became 4\.1 of /UTSRCAEM1/UTDICAEM02/DENK99\d{5}$`, <-said)
	require.FileExists(t, filepath.Join(a.env("HSMEMU_STATE"), "portal", "records.db"))
	// The records have one reader at a time.
	second := newApp(t, a.env("HSMEMU_STATE"))
	require.Equal(t, exitFailed, second.run(soon(t), []string{"portal", "serve", "--listen", "127.0.0.1:0"}))
	require.Equal(t, exitDone, end())
	require.Equal(t, "4.1", card.Durable().Firmware)
}
