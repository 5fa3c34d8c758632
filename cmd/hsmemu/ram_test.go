//go:build linux

package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/client"
	"hsmemu/emulator/ram"
)

// serveRAMServices is a server of RAM over HTTP on loopback with some services.
func serveRAMServices(t *testing.T, services map[string]ram.Service) string {
	t.Helper()
	s := &ram.Server{Services: services, Known: func(id string) bool { return id == "secret" }}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	h := ram.NewHTTPServer(s)
	go func() { _ = h.Serve(l) }()
	t.Cleanup(func() {
		require.NoError(t, s.Close())
		require.NoError(t, h.Close())
	})
	return "http://" + l.Addr().String()
}

// status is a service that asks for the state of the user PIN, and tells it.
func status(ctx context.Context, card *ram.Session) error {
	c := client.New(card)
	if err := c.Enter(ctx); err != nil {
		return err
	}
	s, err := c.PINStatus(ctx, client.UserPIN)
	if err != nil {
		return err
	}
	words := map[bool]string{true: "logged in", false: "not logged in"}[s.State == client.Verified]
	return errors.Join(card.Notify(ctx, ram.Notice{Text: words}), card.Notify(ctx, ram.Notice{Number: 100, Text: "done\x1b[31m\nat last"}))
}

func TestRAM_Command(t *testing.T) {
	t.Parallel()
	at := serveRAMServices(t, map[string]ram.Service{
		"status": status,
		"fails": func(ctx context.Context, card *ram.Session) error {
			return card.Notify(ctx, ram.Notice{Number: -1, Text: "Failure talking to card. Is this a SmartCard-HSM ?"})
		},
		"aborts": func(ctx context.Context, card *ram.Session) error {
			return errors.Join(card.Notify(ctx, ram.Notice{Text: "one moment"}), errors.New("out of licences"))
		},
	})
	host := strings.TrimPrefix(at, "http://")
	h := newHome(t)
	h.run("card", "new", "lab", "--like", "so=15,user=3")
	pin, wrong := filepath.Join(h.dir, "pin"), filepath.Join(h.dir, "wrong")
	require.NoError(t, os.WriteFile(pin, []byte("648219\n"), 0o600))
	require.NoError(t, os.WriteFile(wrong, []byte("000000\n"), 0o600))
	for _, c := range []struct {
		name      string
		args      []string
		code      int
		out, said string
	}{
		{"done", []string{"--card", "lab", at + "/rt/status"}, 0, "(0) not logged in\n(100) done\uFFFD[31m\n(100) at last\n", ""},
		{"with a PIN", []string{"--card", "lab", "--pin-file", pin, at + "/rt/status/secret"}, 0, "(0) logged in\n(100) done\uFFFD[31m\n(100) at last\n", ""},
		{"with a wrong PIN", []string{"--card", "lab", "--pin-file", wrong, at + "/rt/status"}, exitFailed, "", "hsmemu: card \"lab\": verify the user PIN: verification failed, 2 tries left (63C2)\n"},
		{"without the file", []string{"--card", "lab", "--pin-file", "nowhere", at + "/rt/status"}, exitFailed, "", "hsmemu: card \"lab\": read the user PIN in nowhere: no such file or directory\n"},
		{"a last notice", []string{"--card", "lab", at + "/rt/fails"}, exitFailed, "(-1) Failure talking to card. Is this a SmartCard-HSM ?\n", "hsmemu: connect card \"lab\" to " + host + ": the server ended it with notice -1\nhint: a portal says so at /rt/hsm of a card that is not registered there: log in with it at the portal's page first\n"},
		{"given up", []string{"--card", "lab", at + "/rt/aborts"}, exitFailed, "(0) one moment\n", "hsmemu: connect card \"lab\" to " + host + ": the server gave up\nhint: its log may have the reason\n"},
		{"no such service", []string{"--card", "lab", at + "/rt/other"}, exitFailed, "", "hsmemu: connect card \"lab\" to " + host + ": there is no service at this URL\nhint: a portal's services have URLs as http://localhost:8080/rt/paas\n"},
		{"no such session", []string{"--card", "lab", at + "/rt/status/stolen"}, exitFailed, "", "hsmemu: connect card \"lab\" to " + host + ": there is no service at this URL\nhint: a portal's services have URLs as http://localhost:8080/rt/paas\n"},
		{"no such card", []string{"--card", "nobody", at + "/rt/status"}, exitFailed, "", "hsmemu: open card \"nobody\": there is no such card\nhint: there are lab; hsmemu card new nobody makes another\n"},
		{"no URL", []string{"--card", "lab", "localhost:8080/rt/status"}, exitUsage, "", "hsmemu: there is no service at this URL: a URL of http or https with a host is needed\nusage: hsmemu ram [--card NAME | --reader NAME] URL [flags]\nhint: a portal's services have URLs as http://localhost:8080/rt/paas\n"},
		{"two cards", []string{"--card", "lab", "--reader", "Nitrokey", at}, exitUsage, "", "hsmemu: name a card or a reader: one of them\nusage: hsmemu ram [--card NAME | --reader NAME] URL [flags]\n"},
	} {
		cmd := h.command(append([]string{"ram"}, c.args...)...)
		said := &said{}
		cmd.Stderr = said
		out, err := cmd.Output()
		require.Equal(t, c.out, string(out), c.name)
		require.Equal(t, c.said, said.String(), c.name)
		require.Equal(t, c.code, cmd.ProcessState.ExitCode(), "%s: %v", c.name, err)
	}

	// The card in a reader, in turn with other programs, loses its login at the end.
	cmd := h.command("exec", "--card", "lab", "--", "sh", "-ec",
		"hsmemu ram --reader Nitrokey --pin-file "+pin+" "+at+"/rt/status; hsmemu ram --reader Nitrokey "+at+"/rt/status; hsmemu ram --card lab "+at+"/rt/status")
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Regexp(t, `^\(0\) logged in\n\(100\).*\n\(100\).*\n\(0\) not logged in\n\(100\).*\n\(100\).*\nhsmemu: card "lab" is in use by process \d+\n$`, string(out))
}

// A signal ends a connection that waits.
func TestRAM_IsInterrupted(t *testing.T) {
	t.Parallel()
	begun := make(chan struct{})
	at := serveRAMServices(t, map[string]ram.Service{"waits": func(ctx context.Context, _ *ram.Session) error {
		close(begun)
		<-ctx.Done()
		return nil
	}})
	h := newHome(t)
	cmd := h.command("ram", at+"/rt/waits")
	said := &said{}
	cmd.Stderr = said
	require.NoError(t, cmd.Start())
	late := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	<-begun
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.Error(t, cmd.Wait())
	require.Equal(t, exitInterrupted, cmd.ProcessState.ExitCode())
	require.Regexp(t, `^hsmemu: made card "default" in .*\nhsmemu: interrupted\n$`, said.String())
}

// Cards that are kept connected are commanded again, can be taken out and put in,
// and end cleanly.
func TestRAM_Run(t *testing.T) {
	t.Parallel()
	calls := make(chan *ram.Session)
	over := make(chan error, 10)
	at := serveRAMServices(t, map[string]ram.Service{"paas": func(ctx context.Context, card *ram.Session) error {
		if err := card.Notify(ctx, ram.Notice{Text: "Hi"}); err != nil {
			return err
		}
		select {
		case calls <- card:
		case <-ctx.Done():
		}
		err := status(ctx, card)
		if err == nil {
			<-ctx.Done()
			err = context.Cause(ctx)
		}
		over <- err
		return err
	}})
	h := newHome(t)
	h.run("card", "new", "lab", "--like", "so=15,user=3")
	p := &runner{cmd: h.command("run", "--card", "lab", "--ram", at+"/rt/paas"), said: &said{}}
	out := &said{}
	p.cmd.Stdout, p.cmd.Stderr = out, p.said
	require.NoError(t, p.cmd.Start())
	prints := func(want string) {
		t.Helper()
		require.Eventually(t, func() bool { return strings.Contains(out.String(), want) }, patience, interval, "%s: %s %s", want, out, p.said)
	}
	prints("\nready\n")
	prints("card lab: (0) Hi\n")
	<-calls
	prints("card lab: (0) not logged in\ncard lab: (100) done\uFFFD[31m\ncard lab: (100) at last\n")
	shown, err := h.command("card", "show", "lab").Output()
	require.NoError(t, err)
	require.Contains(t, string(shown), "RAM "+strings.TrimPrefix(at, "http://"))
	h.run("card", "eject", "lab")
	require.ErrorIs(t, <-over, ram.ErrLost)
	h.run("card", "insert", "lab")
	<-calls
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	late := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	require.NoError(t, p.cmd.Wait(), p.said.String())
	require.Empty(t, p.said.String())

	// A server that is not there from the beginning is an error, as a reader is.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	cmd := h.command("run", "--card", "lab", "--ram", "http://"+l.Addr().String()+"/rt/paas")
	both, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Equal(t, exitFailed, cmd.ProcessState.ExitCode())
	require.Contains(t, string(both), `hsmemu: run card "lab": connect to `+l.Addr().String()+": the server cannot be reached")
	cmd = h.command("run", "--ram", "http://localhost/", "--vpcd", "localhost")
	both, err = cmd.CombinedOutput()
	require.Error(t, err)
	require.Equal(t, exitUsage, cmd.ProcessState.ExitCode())
	require.Contains(t, string(both), "--ram excludes")
}
