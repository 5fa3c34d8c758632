package ram_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"hsmemu/applet/apdu"
	"hsmemu/applet/client"
	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/ram"
	"hsmemu/vsmartcard"
)

// numbered is a card that answers with its number and the command, and counts
// resets.
type numbered struct {
	number, resets int
	fails          error
	answer         []byte
	during         func(context.Context)
}

func (c *numbered) ATR() []byte { return []byte{0x3B, byte(c.resets)} }

func (c *numbered) Reset() error {
	c.resets++
	return c.fails
}

func (c *numbered) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	if c.during != nil {
		c.during(ctx)
		return c.answer, ctx.Err()
	}
	if c.fails != nil {
		return nil, c.fails
	}
	if c.answer != nil {
		return c.answer, nil
	}
	return append(append(binary.BigEndian.AppendUint32(nil, uint32(c.number)), command...), 0x90, 0x00), nil
}

var errPulled = errors.New("card was removed")

// script is a server that answers with what it is told, and keeps what it gets. A
// step is a status, or a body with 200.
func script(t *testing.T, steps ...any) (at string, got *[]string) {
	t.Helper()
	got = new([]string)
	var mu sync.Mutex
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		b, _ := io.ReadAll(r.Body)
		i := len(*got)
		*got = append(*got, fmt.Sprintf("%X", b))
		if i >= len(steps) {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		switch step := steps[i].(type) {
		case int:
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(step)
		case string:
			_, _ = w.Write(unhex(t, step))
		}
	}))
	t.Cleanup(h.Close)
	return h.URL + "/rt/paas", got
}

func upper(s string) string { return strings.ToUpper(strings.ReplaceAll(s, " ", "")) }

// How ram-client ends in these situations was tried: PORTAL-1, PORTAL-2, PORTAL-5,
// PORTAL-6, PORTAL-7, PORTAL-8 and PORTAL-9.
func TestAgent_Codes(t *testing.T) {
	t.Parallel()
	const opening = "E804 C0023B00"
	const one = "AA06 2204 00200081"
	const done = "AB0F 230A 00000000 00200081 9000 800101"
	for _, c := range []struct {
		name  string
		fails error
		steps []any
		code  ram.Code // 0 for a good end
		words string
		got   []string
	}{
		{"the regular end", nil, []any{one, 204}, 0, "", []string{opening, done}},
		{"the end at once", nil, []any{204}, 0, "", []string{opening}},
		{"the example", nil, []any{theNotice, "AA02C000", 204}, 0, "", []string{opening, theNothing, "AB07 C0023B01 800100"}},
		{"nothing asked", nil, []any{"AA00", 204}, 0, "", []string{opening, theNothing}},
		{"several commands", nil, []any{"AA0C 2204 00200081 2204 00200081", 204}, 0, "", []string{opening, "AB1B 230A 00000000 00200081 9000 230A 00000000 00200081 9000 800102"}},
		{"more than the request", nil, []any{one + "FFFF", 204}, 0, "", []string{opening, done}},
		{"unknown service", nil, []any{404}, -10, "there is no service at this URL", []string{opening}},
		{"no command in time", nil, []any{504}, -7, "the server sent no request in its time", []string{opening}},
		{"gave up", nil, []any{one, 504}, -8, "the server gave up", []string{opening, done}},
		{"error", nil, []any{one, 500}, -12, "the server's answer has an unexpected status: 500 Internal Server Error", []string{opening, done}},
		{"redirected", nil, []any{302}, -12, "the server's answer has an unexpected status: 302 Found", []string{opening}},
		{"redirected as a POST", nil, []any{308}, -12, "the server's answer has an unexpected status: 308 Permanent Redirect", []string{opening}},
		{"unknown status", nil, []any{299}, -12, "the server's answer has an unexpected status: 299", []string{opening}},
		{"empty body", nil, []any{""}, -4, "the server's answer is no request", []string{opening}},
		{"a page", nil, []any{fmt.Sprintf("%X", "<html>")}, -4, "the server's answer is no request", []string{opening}},
		{"too long for its body", nil, []any{"AA0500"}, -4, "the server's answer is no request", []string{opening}},
		{"malformed", nil, []any{"AA08 2204 00200081 2205"}, -3, "the server's request is malformed", []string{opening}},
		{"unknown object", nil, []any{"AA08 2204 00200081 E100"}, 1, "the server asks for something that no client knows", []string{opening}},
		{"negative notice", nil, []any{"AA0F E007 0201FF 0C026E6F 2204 00200081"}, -1, "the server ended it with notice -1", []string{opening}},
		{"a notice that looks like another error", nil, []any{"AA09 E007 0201F6 0C026E6F"}, -10, "the server ended it with notice -10", []string{opening}},
		{"notice −6", nil, []any{"AA0F E007 0201FA 0C026E6F 2204 00200081", 204}, -6, "the server ended it with notice -6", []string{opening, theNothing}},
		{"notice −6, and more", nil, []any{"AA09 E007 0201FA 0C026E6F", "AA00", 204}, 0, "", []string{opening, theNothing, theNothing}},
		{"the card fails", errPulled, []any{"AA0C 2204 00200081 2204 00200081", 204}, -6, "the card failed: card was removed", []string{opening, "AB17 E112 0C10" + fmt.Sprintf("%X", "card was removed") + "800100"}},
		{"the card cannot be reset", errPulled, []any{"AA02C000", 204}, -6, "the card failed: card was removed", []string{opening, "AB17 E112 0C10" + fmt.Sprintf("%X", "card was removed") + "800100"}},
		{"the card fails, and the server goes on", errPulled, []any{one, "AA00", 204}, 0, "", []string{opening, "AB17 E112 0C10" + fmt.Sprintf("%X", "card was removed") + "800100", theNothing}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			at, got := script(t, c.steps...)
			err := (&ram.Agent{Card: &numbered{fails: c.fails}}).Run(soon(t), at)
			switch noticed := (ram.NoticeError{}); {
			case c.code == 0:
				require.NoError(t, err)
			case errors.As(err, &noticed):
				require.Equal(t, ram.NoticeError{Number: int(c.code), Text: "no"}, noticed)
				require.EqualError(t, err, c.words)
				require.NotErrorIs(t, err, c.code)
			default:
				require.ErrorIs(t, err, c.code)
				require.EqualError(t, err, c.words)
			}
			var want []string
			for _, w := range c.got {
				want = append(want, upper(w))
			}
			require.Equal(t, want, *got)
		})
	}
}

// Where a URL leads is told without what stands for somebody in it.
func TestHost(t *testing.T) {
	t.Parallel()
	host, err := ram.Host("https://user:secret@portal.example.org:8443/rt/paas/session?x")
	require.NoError(t, err)
	require.Equal(t, "portal.example.org:8443", host)
}

func TestAgent_NoServer(t *testing.T) {
	t.Parallel()
	at, got := script(t)
	u, err := url.Parse(at)
	require.NoError(t, err)
	holds, err := net.Dial("tcp", u.Host)
	require.NoError(t, err)
	defer holds.Close()
	nobody := "http://" + holds.LocalAddr().String() + "/rt/paas/secret" // a port that is taken, so that nobody listens there meanwhile
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	}))
	defer broken.Close()
	for at, code := range map[string]ram.Code{
		nobody: ram.CodeUnreachable,
		strings.Replace(at, "http:", "https:", 1): ram.CodeUnreachable, // no TLS there
		secure.URL + "/rt/secret":                 ram.CodeNetwork,     // a certificate of nobody, tried with ram-client
		broken.URL + "/rt/secret":                 ram.CodeNetwork,
		"http://host.invalid/secret":              ram.CodeHost,
		"":                                        ram.CodeURL,
		"localhost:8080/rt/secret":                ram.CodeURL,
		"ftp://localhost/secret":                  ram.CodeURL,
		"file:///etc/passwd":                      ram.CodeURL,
		"http:///secret":                          ram.CodeURL,
		"http://local host/secret":                ram.CodeURL,
		"http://localhost/%zz/secret":             ram.CodeURL,
	} {
		err := (&ram.Agent{Card: &numbered{}}).Run(soon(t), at)
		require.ErrorIs(t, err, code, "%s: %v", at, err)
		require.NotContains(t, err.Error(), "secret", "the URL names a session")
	}
	require.Empty(t, *got)
	require.ErrorIs(t, (&ram.Agent{Card: &mute{}}).Run(soon(t), at), ram.CodeCard)
}

type mute struct{ numbered }

func (*mute) ATR() []byte { return nil }

// The headers are those of ram-client, and no others.
func TestAgent_Headers(t *testing.T) {
	t.Parallel()
	var all []http.Header
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, http.MethodPost, r.Method)
		require.Equal(t, "/rt/paas/web?x=1", r.RequestURI)
		require.Positive(t, r.ContentLength)
		all = append(all, r.Header)
		if len(all) == 3 {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		http.SetCookie(w, &http.Cookie{Name: "JSESSIONID", Value: fmt.Sprint(len(all)), Path: "/"})
		_, _ = w.Write([]byte{0xAA, 0})
	}))
	defer h.Close()
	require.NoError(t, (&ram.Agent{Card: &numbered{}}).Run(soon(t), h.URL+"/rt/paas/web?x=1"))
	for i, cookie := range []string{"", "JSESSIONID=1", "JSESSIONID=2"} {
		require.Equal(t, cookie, all[i].Get("Cookie"))
		all[i].Del("Cookie")
		all[i].Del("Content-Length")
		require.Equal(t, http.Header{
			"Content-Type": {typeOfResult}, "Accept": {"*/*"}, "X-Admin-Protocol": {"openscdp-remote-admin/1.0"},
		}, all[i])
	}
}

// An answer without end, or one that is too long, is not read to its end; and a card's
// answers that do not fit are given up.
func TestAgent_Bounds(t *testing.T) {
	t.Parallel()
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte{0xAA, 0x83, 0xFF, 0xFF, 0xFF})
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	}))
	defer h.Close()
	require.ErrorIs(t, (&ram.Agent{Card: &numbered{}}).Run(soon(t), h.URL), ram.CodeRequest)

	two, err := ram.Request{{Tag: ram.TagCommand, Value: make([]byte, 4)}, {Tag: ram.TagCommand, Value: make([]byte, 4)}}.Bytes()
	require.NoError(t, err)
	at, got := script(t, fmt.Sprintf("%X", two), 204)
	err = (&ram.Agent{Card: &numbered{answer: make([]byte, 40000)}}).Run(soon(t), at)
	require.EqualError(t, err, "the card failed: its answers are too long for one result")
	r, err := ram.ParseResult(unhex(t, (*got)[1]))
	require.NoError(t, err)
	require.Equal(t, 1, r.Done)
	require.Len(t, r.Answers, 1)
	require.True(t, r.Closed)

	at, got = script(t, "AA0622040020 0081", 204)
	require.ErrorIs(t, (&ram.Agent{Card: &numbered{fails: errors.New(strings.Repeat("ä", 70000))}}).Run(soon(t), at), ram.CodeCard)
	require.Less(t, len((*got)[1])/2, 2000)
}

// A reset brings another answer to reset to the other end.
func TestSession_Reset(t *testing.T) {
	t.Parallel()
	s := serve(t, func(_ context.Context, card *ram.Session) error {
		before := card.ATR()
		err := card.Reset()
		if err == nil && (!bytes.Equal(before, []byte{0x3B, 0}) || !bytes.Equal(card.ATR(), []byte{0x3B, 1})) {
			err = fmt.Errorf("%X, and then %X", before, card.ATR())
		}
		return err
	})
	require.NoError(t, (&ram.Agent{Card: &numbered{}}).Run(soon(t), s.url+"/rt/paas"))
	require.NoError(t, s.end(t))
}

// TLS with a root that is trusted, and HTTP/2 over it.
func TestAgent_TLS(t *testing.T) {
	t.Parallel()
	s := &ram.Server{Services: map[string]ram.Service{"paas": hello}}
	h := httptest.NewUnstartedServer(s)
	h.EnableHTTP2 = true
	h.StartTLS()
	defer h.Close()
	defer func() { require.NoError(t, s.Close()) }()
	transport := h.Client().Transport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: h.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	var said []ram.Notice
	a := &ram.Agent{Card: &numbered{}, Transport: transport, Notice: func(n ram.Notice) { said = append(said, n) }}
	require.NoError(t, a.Run(soon(t), h.URL+"/rt/paas"))
	require.Equal(t, []ram.Notice{{Text: "Hi"}}, said)
}

// Through a server and an agent a card answers as it does beside it, whatever is
// said to it.
func TestRAM_ACardAnswersAsBeside(t *testing.T) {
	t.Parallel()
	commands := [][]byte{
		unhex(t, "00A4040C0BE82B0601040181C31F0201"), unhex(t, "00A404000BE82B0601040181C31F020100"), unhex(t, "00200081"), unhex(t, "0020008106313233343536"), unhex(t, "0020008106363438323139"),
		unhex(t, "00B12F0200000454020000 0000"), unhex(t, "80CA9F7F00"), unhex(t, "8050000000"), unhex(t, "00"),
		{},
		unhex(t, "00FF0000"), unhex(t, "80580000000000"),
		append(unhex(t, "00B12F02000FA0"), make([]byte, 4000)...),
	}
	source, err := emulator.NewCard(chip.Order{}, emulator.System())
	require.NoError(t, err)
	host := client.New(source)
	_, err = host.Select(soon(t))
	require.NoError(t, err)
	require.NoError(t, host.Initialise(soon(t), client.Setup{SOPIN: unhex(t, "3537363231383830"), PIN: []byte("648219"), Tries: 3}))
	d := source.Snapshot().Durable()
	card := func() *emulator.Card {
		c, err := emulator.New(d, forgetful{}, emulator.System())
		require.NoError(t, err)
		return c
	}
	jobs := make(chan chan func(ctx context.Context, there vsmartcard.Card) error, 1)
	results := make(chan error)
	s := serve(t, func(ctx context.Context, there *ram.Session) error {
		for step := range <-jobs {
			results <- step(ctx, there)
		}
		return nil
	})
	rapid.Check(t, func(t *rapid.T) {
		beside := card()
		var notices []ram.Notice
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		steps := make(chan func(context.Context, vsmartcard.Card) error)
		jobs <- steps
		over := make(chan error, 1)
		agent := &ram.Agent{Card: card(), Notice: func(n ram.Notice) { notices = append(notices, n) }}
		go func() { over <- agent.Run(ctx, s.url+"/rt/paas") }()
		said := 0
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			kind := rapid.IntRange(0, 9).Draw(t, "kind")
			var step func(ctx context.Context, there vsmartcard.Card) error
			switch kind {
			case 0:
				step = func(_ context.Context, there vsmartcard.Card) error {
					return errors.Join(there.Reset(), beside.Reset())
				}
			case 1:
				n := ram.Notice{Number: rapid.IntRange(0, 1<<31-1).Draw(t, "number"), Text: rapid.StringN(0, 300, 1200).Draw(t, "text")}
				said++
				step = func(ctx context.Context, there vsmartcard.Card) error { return there.(*ram.Session).Notify(ctx, n) }
			default:
				command := rapid.SampledFrom(commands).Draw(t, "command")
				step = func(ctx context.Context, there vsmartcard.Card) error {
					have, err := there.Transmit(ctx, bytes.Clone(command))
					if err != nil {
						return err
					}
					want, err := beside.Transmit(ctx, bytes.Clone(command))
					if err == nil && !bytes.Equal(have, want) {
						err = fmt.Errorf("%X: %X there, %X beside", command, have, want)
					}
					if err == nil && !bytes.Equal(there.ATR(), beside.ATR()) {
						err = errors.New("another answer to reset")
					}
					return err
				}
			}
			steps <- step
			require.NoError(t, <-results)
		}
		close(steps)
		require.NoError(t, <-over)
		require.NoError(t, <-s.ended)
		require.Len(t, notices, said)
	})
}

// forgetful keeps no state.
type forgetful struct{}

func (forgetful) Save(chip.Durable) error { return nil }
func (forgetful) Counts() bool            { return false }

// BenchmarkRoundTrip is a status query through a server and an agent on loopback,
// beside the same one at the card.
func BenchmarkRoundTrip(b *testing.B) {
	card, err := emulator.NewCard(chip.Order{}, emulator.System())
	require.NoError(b, err)
	query := apdu.Command{INS: apdu.InsVerify, P2: apdu.RefUserPIN}.Bytes()
	loop := func(b *testing.B, card vsmartcard.Card) error {
		for b.Loop() {
			if _, err := card.Transmit(b.Context(), query); err != nil {
				return err
			}
		}
		return nil
	}
	b.Run("direct", func(b *testing.B) { require.NoError(b, loop(b, card)) })
	b.Run("ram", func(b *testing.B) {
		s := serve(b, func(_ context.Context, there *ram.Session) error { return loop(b, there) })
		require.NoError(b, (&ram.Agent{Card: card}).Run(b.Context(), s.url+"/rt/paas"))
	})
	b.Run("http", func(b *testing.B) {
		h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(w, r.Body)
		}))
		defer h.Close()
		for b.Loop() {
			w, err := http.Post(h.URL, typeOfResult, bytes.NewReader(query))
			require.NoError(b, err)
			_, err = io.Copy(io.Discard, w.Body)
			require.NoError(b, err)
			require.NoError(b, w.Body.Close())
		}
	})
}
