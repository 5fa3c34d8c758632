package service_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/chiptest"
	"hsmemu/emulator/portal/records"
	"hsmemu/emulator/portal/service"
	"hsmemu/emulator/ram"
)

var update = flag.Bool("update", false, "record the sessions of ram-client anew")

// Over RAM: a session gets what its user has submitted, or a log-in; a card without a
// session gets what waits for it.
func TestServe(t *testing.T) {
	t.Parallel()
	w := open(t)
	alice := w.person(t, "alice@example.org")
	w.sessions.users["alice"] = alice
	s := &ram.Server{
		Services: map[string]ram.Service{"paas": w.Serve},
		Known:    func(session string) bool { return session == "alice" || session == "nobody" || session == "broken" },
	}
	h := httptest.NewServer(s)
	defer h.Close()
	defer func() { require.NoError(t, s.Close()) }()
	connect := func(card *chiptest.Card, session string) ([]ram.Notice, error) {
		var said []ram.Notice
		err := (&ram.Agent{Card: card, Notice: func(n ram.Notice) { said = append(said, n) }}).Run(t.Context(), h.URL+"/rt/paas"+session)
		return said, err
	}
	card := situation{firmware: "4.0"}.card(t, "served")
	for _, session := range []string{"/alice", "/nobody"} {
		said, err := connect(card, session)
		require.NoError(t, err)
		require.Equal(t, []ram.Notice{{Text: "log-in"}}, said)
	}
	require.Equal(t, 2, w.sessions.logins)
	said, err := connect(card, "")
	require.NoError(t, err)
	require.Equal(t, []ram.Notice{{Text: "Nothing to do"}}, said)
	_, err = connect(card, "/stolen")
	require.ErrorIs(t, err, ram.CodeURL)
	said, err = connect(card, "/broken")
	require.Error(t, err)
	require.Equal(t, []ram.Notice{{Text: "The portal could not record it"}, {Number: -1, Text: "Log-in failed. Please connect the card again."}}, said)

	request := w.submitted(t, alice, service.FirmwareUpdate, service.Data{})
	said, err = connect(card, "/nobody")
	require.NoError(t, err)
	require.Equal(t, []ram.Notice{{Text: "log-in"}}, said, "it is not theirs")
	said, err = connect(card, "/alice")
	require.NoError(t, err)
	require.Equal(t, ram.Notice{Number: 0, Text: "looking at the card"}, said[0])
	require.Equal(t, ram.Notice{Number: 4, Text: "Request scheduled (Submit)"}, said[1])
	require.Equal(t, ram.Notice{Number: 100, Text: "Firmware update completed. New device id " + card.Durable().Serial()}, said[len(said)-1])
	w.get(t, alice, request.ID, service.Completed)
}

// switched is randomness that is the same in every run from when it is switched on;
// keys of the standard library come before.
type switched struct{ io.Reader }

// clientC says what ram-client of sc-hsm-embedded says, by the rules of its source: one
// URL, its headers, and a cookie from the first answer on.
type clientC struct {
	url, cookie string
	http        *http.Client
}

func (c *clientC) post(t *testing.T, body []byte) (int, []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url, bytes.NewReader(body))
	require.NoError(t, err)
	r.Header = http.Header{
		"Content-Type": {"application/org.openscdp-content-mgt-response;version=1.0"}, "Accept": {"*/*"},
		"X-Admin-Protocol": {"openscdp-remote-admin/1.0"}, "User-Agent": nil,
	}
	if c.cookie != "" {
		r.Header.Set("Cookie", c.cookie)
	}
	answer, err := c.http.Do(r)
	require.NoError(t, err)
	defer func() { require.NoError(t, answer.Body.Close()) }()
	for _, k := range answer.Cookies() {
		c.cookie = k.Name + "=" + k.Value
	}
	b, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	if answer.StatusCode == http.StatusOK {
		require.EqualValues(t, len(b), answer.ContentLength, "the Java client needs the length")
	}
	return answer.StatusCode, b
}

// carryOut is what ram-client answers to a request, nil if it says no more. The card
// fails at the command of that number, from 1 on.
func carryOut(t *testing.T, card *chiptest.Card, body []byte, count *int, fails int) []byte {
	t.Helper()
	request, err := ram.ParseRequest(body)
	require.NoError(t, err)
	var result ram.Result
	for _, o := range request {
		switch o.Tag {
		case ram.TagReset:
			require.NoError(t, card.Reset())
			result.Answers = append(result.Answers, ram.Object{Tag: ram.TagReset, Value: card.ATR()})
		case ram.TagNotice:
			n, err := ram.ParseNotice(o.Value)
			require.NoError(t, err)
			if n.Number < 0 {
				return nil
			}
		case ram.TagCommand:
			if *count++; *count == fails {
				result.Closed, result.Text = true, "Card was removed."
			} else {
				answer, err := card.Transmit(t.Context(), o.Value)
				require.NoError(t, err)
				result.Answers = append(result.Answers, ram.Object{Tag: ram.TagAnswer, Value: answer})
				result.Done++
			}
		}
	}
	b, err := result.Bytes()
	require.NoError(t, err)
	return b
}

// short is a body as it is recorded: long ones of the server by their hash value.
func short(b []byte) string {
	if len(b) <= 40 {
		return strings.ToUpper(hex.EncodeToString(b))
	}
	sum := sha256.Sum256(b)
	return fmt.Sprintf("%X… %d bytes, SHA-256 %X", b[:8], len(b), sum[:8])
}

// Sessions of ram-client, recorded by the rules of its source, are played again word
// for word: the portal asks for the same, and comes to the same end. A line with > is a
// body of the client's, one with < the answer's status and body, those of more than 40
// bytes by their hash value.
func TestRecordedSessions(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		card    situation
		waiting bool
		fails   int
		url     string
	}{
		"update":          {card: situation{firmware: "4.0"}, waiting: true, url: "/rt/paas"},
		"nothing":         {card: situation{firmware: "4.0"}, url: "/rt/paas"},
		"keys":            {card: situation{firmware: "4.0", keys: true}, waiting: true, url: "/rt/paas"},
		"latest":          {card: situation{firmware: "4.1"}, waiting: true, url: "/rt/paas"},
		"card-removed":    {card: situation{firmware: "4.0"}, waiting: true, fails: 90, url: "/rt/paas"},
		"unknown-session": {card: situation{firmware: "4.0"}, waiting: true, url: "/rt/paas/stolen"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			random := &switched{chiptest.Seeded("records " + name)}
			day := time.Date(2026, time.November, 23, 12, 0, 0, 0, time.UTC)
			store, err := records.Open(filepath.Join(t.TempDir(), "portal"), records.Options{Rand: random, Now: func() time.Time { return day }})
			require.NoError(t, err)
			defer func() { require.NoError(t, store.Close()) }()
			random.Reader = rand.Reader
			w := &world{store: store, sessions: sessions{users: map[string]service.Actor{}}}
			w.Service, err = service.Open(t.Context(), service.Config{Records: store, Sessions: &w.sessions})
			require.NoError(t, err)
			card := c.card.card(t, "recorded")
			if c.waiting {
				alice := w.person(t, "alice@example.org")
				w.submitted(t, alice, service.FirmwareUpdate, service.Data{Token: w.register(t, alice, card)})
			}
			random.Reader = chiptest.Seeded("session " + name)
			s := &ram.Server{Services: map[string]ram.Service{"paas": w.Serve}}
			h := httptest.NewServer(s)
			defer h.Close()
			defer func() { require.NoError(t, s.Close()) }()
			client := &clientC{url: h.URL + c.url, http: h.Client()}
			file := filepath.Join("testdata", "ram-client", name+".txt")
			if *update {
				var record strings.Builder
				body, count := ram.Opening(card.ATR()), 0
				for body != nil {
					fmt.Fprintf(&record, "> %X\n", body)
					status, answer := client.post(t, body)
					fmt.Fprintf(&record, "< %d %s\n", status, short(answer))
					if body = nil; status == http.StatusOK {
						body = carryOut(t, card, answer, &count, c.fails)
					}
				}
				require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
				require.NoError(t, os.WriteFile(file, []byte(strings.ReplaceAll(record.String(), " \n", "\n")), 0o600))
				return
			}
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			lines := strings.Split(strings.TrimSpace(string(text)), "\n")
			require.Zero(t, len(lines)%2)
			for n := 0; n < len(lines); n += 2 {
				body, err := hex.DecodeString(strings.TrimPrefix(lines[n], "> "))
				require.NoError(t, err)
				status, answer := client.post(t, body)
				require.Equal(t, lines[n+1], strings.TrimSpace(fmt.Sprintf("< %d %s", status, short(answer))), "line %d", n+2)
			}
			if name == "update" {
				require.Equal(t, 1, w.count(t, "SELECT COUNT(*) FROM requests WHERE state = 'Completed'"))
			}
		})
	}
}
