//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/client"
	"hsmemu/applet/cvc"
	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/chiptest"
	"hsmemu/emulator/portal"
	"hsmemu/emulator/portal/records"
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

// The issuer of a new card is that of the portal that is named, if it does not run.
func TestPortal_CertifiesNewCards(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	folder := filepath.Join(state, "portal")
	run := func(args ...string) (code int, said string) {
		a := newApp(t, state)
		var text bytes.Buffer
		a.err = &text
		code = a.run(soon(t), args)
		return code, text.String()
	}
	code, said := run("card", "new", "early", "--portal", folder)
	require.Equal(t, exitFailed, code)
	require.Equal(t, "hsmemu: make card \"early\": no portal has its records in "+folder+"\nhint: hsmemu portal serve --data "+folder+" begins them\n", said)
	p, err := records.Open(folder, records.Options{Now: time.Now})
	require.NoError(t, err)
	code, said = run("card", "new", "early", "--portal", folder)
	require.Equal(t, exitFailed, code)
	require.Contains(t, said, "end the portal, or make a chip with --blank and have it produce the device")
	require.NoError(t, p.Close())
	code, said = run("card", "new", "lab", "--portal", folder, "--like", "so=3", "--firmware", "3.5")
	require.Equal(t, exitDone, code, said)
	code, said = run("card", "new", "lab", "--portal", folder)
	require.Equal(t, exitFailed, code)
	require.Contains(t, said, "exists")
	code, said = run("card", "new", "other", "--portal", folder, "--seed", "1")
	require.Equal(t, exitUsage, code, said)
	code, said = run("card", "new", "plain")
	require.Equal(t, exitDone, code, said)

	p, err = records.Open(folder, records.Options{Now: time.Now})
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	books, err := p.Ledger().Load("")
	require.NoError(t, err)
	require.Equal(t, 999, books.Authority.Issuers[0].Licences, "one for the one that was made")
	d, err := newApp(t, state).cards()
	require.NoError(t, err)
	for name, issuer := range map[string]string{"lab": "UTDICAEM02", "plain": "UTDICAEM01"} {
		made, _, err := d.Read(name)
		require.NoError(t, err)
		chain, err := cvc.ParseChain(made.Applet.Files[0].Data)
		require.NoError(t, err)
		require.Equal(t, issuer, chain.Issuer.CHR.Holder(), name)
		require.Equal(t, made.Applet.Serial(), chain.Device.CHR.Holder())
		_, err = chain.Verify(cvc.EmulatorRoots())
		require.NoError(t, err)
	}
}

// A card that a production gave keys of its own has them wherever it is moved to, and is
// updated there; a blank one has the transport keys, and is produced there.
func TestPortal_ProducedCardIsMoved(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	run := func(args ...string) {
		t.Helper()
		a := newApp(t, state)
		var text bytes.Buffer
		a.err = &text
		require.Equal(t, exitDone, a.run(soon(t), args), "%s: %s", args, &text)
	}
	kept, err := records.Open(filepath.Join(t.TempDir(), "portal"), records.Options{Now: time.Now})
	require.NoError(t, err)
	defer func() { require.NoError(t, kept.Close()) }()
	order := portal.Order{Ledger: kept.Ledger(), Rand: kept.Rand(), Now: kept.Now()}
	var became portal.Done
	at := serveRAMServices(t, map[string]ram.Service{
		"produce": func(ctx context.Context, card *ram.Session) (err error) {
			became, err = portal.Produce(ctx, card, portal.Version{Major: 4, Minor: 1}, order)
			return err
		},
		"update": func(ctx context.Context, card *ram.Session) (err error) {
			became, err = portal.Update(ctx, card, order)
			return err
		},
		"block": func(ctx context.Context, card *ram.Session) error {
			k := client.New(card)
			_, err := k.Select(ctx)
			err = errors.Join(err, k.Initialise(ctx, client.Setup{Options: 1, SOPIN: []byte("57621880"), PIN: []byte(userPIN), Tries: 3}))
			for range 15 {
				if k.VerifyPIN(ctx, client.SOPIN, []byte("00000000")) == nil {
					err = errors.Join(err, errors.New("a wrong SO-PIN was right"))
				}
			}
			return err
		},
	}) + "/rt/"
	connect := func(card, service string) {
		t.Helper()
		became = portal.Done{}
		run("ram", "--card", card, at+service)
	}
	phrase, file := filepath.Join(t.TempDir(), "phrase"), filepath.Join(t.TempDir(), "moved")
	require.NoError(t, os.WriteFile(phrase, []byte("correct horse battery staple\n"), 0o600))

	run("card", "new", "made", "--blank", "--firmware", "4.1")
	run("card", "snapshot", "made", "blank")
	connect("made", "produce")
	require.Empty(t, became.Old.Name)
	connect("made", "block")
	run("card", "snapshot", "made", "blocked")
	run("card", "export", "made", file, "--file-passphrase-file", phrase)
	run("card", "import", file, "imported", "--file-passphrase-file", phrase)
	run("card", "copy", "made", "copied")
	for _, card := range []string{"imported", "copied", "made"} {
		connect(card, "update")
		require.NotEmpty(t, became.Old.Name, card)
	}
	run("card", "restore", "made", "blocked", "--force") // another device by now
	connect("made", "update")
	require.NotEmpty(t, became.Old.Name)
	run("card", "restore", "made", "blank", "--force")
	connect("made", "produce")
	require.Empty(t, became.Old.Name)
}

// A portal with TLS prints where its root is, and where programs sign. Nothing of it is
// for other machines unless told.
func TestPortal_TLS(t *testing.T) {
	t.Parallel()
	a := newApp(t, t.TempDir())
	serve := newPortalServeCommand(a)
	require.Equal(t, "127.0.0.1:8080", serve.Flag("listen").DefValue, "this machine alone")
	require.Empty(t, serve.Flag("hsm-listen").DefValue)
	out, in := io.Pipe()
	a.out = in
	ctx, cancel := context.WithCancel(soon(t))
	code := make(chan int, 1)
	go func() {
		code <- a.run(ctx, []string{
			"portal", "serve", "--tls", "--name", "portal.example.org", "--listen", "127.0.0.1:0", "--hsm-listen", "127.0.0.1:0",
		})
	}()
	lines := bufio.NewScanner(out)
	said := map[string]string{}
	for lines.Scan() && lines.Text() != "ready" {
		first, rest, _ := strings.Cut(lines.Text(), " ")
		said[first] = rest
		if strings.HasSuffix(first, "/se/paas") {
			said["page"] = first
		}
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	page, err := url.Parse(said["page"])
	require.NoError(t, err)
	require.Equal(t, "https", page.Scheme)
	require.Equal(t, "portal.example.org", page.Hostname())
	root, fingerprint, _ := strings.Cut(said["root"], " SHA-256 ")
	require.Equal(t, "https://"+page.Host+"/se/devnet.pem", root)

	require.Regexp(t, `^[0-9A-F]{64}$`, fingerprint)
	require.Regexp(t, `^https://portal\.example\.org:\d+/se/api/$`, said["hsm"])
	cancel()
	require.Equal(t, exitDone, <-code)

	for _, args := range [][]string{
		{"--hsm-listen", "127.0.0.1:0"},
		{"--tls", "--hsm-clients", "x.pem"},
		{"--tls-cert", "x.pem"},
	} {
		require.Equal(t, exitUsage, newApp(t, t.TempDir()).run(soon(t), append([]string{"portal", "serve"}, args...)), args)
	}
	require.Equal(t, exitFailed, newApp(t, t.TempDir()).run(soon(t), []string{
		"portal", "serve", "--tls", "--listen", "127.0.0.1:0", "--hsm-listen", "127.0.0.1:0", "--hsm-clients", filepath.Join(t.TempDir(), "none.pem"),
	}))
}

// A portal that other machines reach shows nobody's mail on a page: without a mail
// server it prints it, as the vendor's does.
func TestPortal_PrintsMail(t *testing.T) {
	t.Parallel()
	a := newApp(t, t.TempDir())
	out, in := io.Pipe()
	a.out = in
	ctx, cancel := context.WithCancel(soon(t))
	code := make(chan int, 1)
	go func() { code <- a.run(ctx, []string{"portal", "serve", "--listen", "0.0.0.0:0"}) }()
	lines := bufio.NewScanner(out)
	require.True(t, lines.Scan())
	at, err := url.Parse(lines.Text())
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1", at.Hostname(), "an address that can be opened")
	base := "http://" + at.Host
	for lines.Scan() && lines.Text() != "ready" {
	}
	call := func(method, path, session string, in string) (int, string) {
		r, err := http.NewRequestWithContext(ctx, method, base+path, strings.NewReader(in))
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+session)
		answer, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		return answer.StatusCode, string(text)
	}
	var begun struct{ SessionID, RAMURL string }
	_, text := call("POST", "/api/sessions", "", "")
	require.NoError(t, json.Unmarshal([]byte(text), &begun))
	card, err := emulator.NewCard(chip.Order{}, emulator.System())
	require.NoError(t, err)
	c := client.New(card)
	_, err = c.Select(ctx)
	require.NoError(t, err)
	require.NoError(t, c.Initialise(ctx, client.Setup{Options: 1, SOPIN: []byte("57621880"), PIN: []byte("648219"), Tries: 3}))
	require.NoError(t, c.VerifyPIN(ctx, client.UserPIN, []byte("648219")))
	require.NoError(t, (&ram.Agent{Card: card}).Run(ctx, begun.RAMURL))
	status, text := call("POST", "/api/sessions/current/enroll", begun.SessionID, `{"email": "a@example.org"}`)
	require.Equal(t, http.StatusOK, status, text)
	require.True(t, lines.Scan())
	require.Regexp(t, `^mail to a@example\.org: .*\b\d{6}\b`, lines.Text())
	status, _ = call("GET", "/api/admin/outbox", "", "")
	require.Equal(t, http.StatusUnauthorized, status)
	cancel()
	require.Equal(t, exitDone, <-code)
}
