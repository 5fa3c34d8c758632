//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/client"
	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/control"
	"hsmemu/emulator/portal/records"
	"hsmemu/emulator/portal/site"
	"hsmemu/emulator/ram"
	"hsmemu/keystore/curve"
)

var (
	loginSequence = sequence{
		file: "sequence-login.svg", title: "Somebody logs in to the portal with a card, and registers it",
		desc: "The person gets an address. At it the card answers the portal: that its user PIN was verified, its certificate, proof of its key, " +
			"and once more, in the secure channel, that the PIN was verified. Then the person enters an e-mail address and the code that was sent there.",
		people: []string{"person", "portal"}, cards: []string{"spare"}, column: 330,
	}
	updateSequence = sequence{
		file: "sequence-update.svg", title: "The portal updates a card whose SO-PIN is blocked",
		desc: "The person submits a request and connects the card. The portal looks at it: its SO-PIN is blocked. It opens a channel to the card manager, " +
			"deletes the application, loads the firmware, installs it, has the card make a device key, certifies it and ends production. Then the card is a new device.",
		people: []string{"person", "portal"}, cards: []string{"lab"}, column: 330,
	}
)

// TestPortalSequences records two RAM sessions with a portal, and compares them with the
// pictures of docs/portal.md.
func TestPortalSequences(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/portal.md")
	require.NoError(t, err)
	r := openRecording(t)
	spare := r.card("spare", "4.1", false)
	require.NoError(t, client.New(spare).VerifyPIN(t.Context(), client.UserPIN, []byte(shownPIN)))
	lab := r.card("lab", "3.5", true)

	var began struct{ SessionID, RAMURL string }
	r.asks("begins to log in", "an address for the card", "/api/sessions", nil, &began)
	r.session = began.SessionID
	r.connect(began.RAMURL, "spare", spare)
	r.asks("an e-mail address", "a code was sent there", "/api/sessions/current/enroll", map[string]any{"email": "you@example.org"}, nil)
	var mails []struct{ Body string }
	r.call(http.MethodGet, "/api/admin/outbox", nil, &mails)
	code := regexp.MustCompile(`\b\d{6}\b`).FindString(mails[0].Body)
	var state struct{ State string }
	r.asks("the code", "logged in", "/api/sessions/current/activate", map[string]any{"code": code}, &state)
	require.Equal(t, "logged-in", state.State)
	loginSequence.compare(t, string(page), r.told)

	r.told = nil
	var request struct{ State string }
	r.asks("a request to update firmware", "in Edit", "/api/servicerequests", map[string]any{"type": "FirmwareUpdate"}, &request)
	r.asks("submits it", "in Submit", "/api/servicerequests/1/submit", nil, &request)
	require.Equal(t, "Submit", request.State)
	r.connect(began.RAMURL, "lab", lab)
	r.call(http.MethodGet, "/api/servicerequests/1", nil, &request)
	require.Equal(t, "Completed", request.State)
	updateSequence.compare(t, string(page), r.told)
}

// shownPIN is the user PIN of the documentation.
const shownPIN = "648219"

// recording is a portal, what was said to it and what it says.
type recording struct {
	t            *testing.T
	url, session string
	told         []message
}

func openRecording(t *testing.T) *recording {
	t.Helper()
	var handler http.Handler
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	t.Cleanup(h.Close)
	p, err := site.Open(t.Context(), t.TempDir(), site.Options{Records: records.Options{Now: time.Now}, Reach: site.Reach{URL: h.URL}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	handler = p.Handler()
	return &recording{t: t, url: h.URL}
}

// card makes an initialised card, which for the update has a key and a blocked SO-PIN.
func (r *recording) card(name, firmware string, blocked bool) *emulator.Card {
	r.t.Helper()
	ctx := r.t.Context()
	card, err := emulator.NewCard(chip.Order{Serial: "DENK040417" + map[string]string{"spare": "1", "lab": "2"}[name], Firmware: firmware}, emulator.System())
	require.NoError(r.t, err)
	c := client.New(card)
	_, err = c.Select(ctx)
	require.NoError(r.t, err)
	require.NoError(r.t, c.Initialise(ctx, client.Setup{Options: 1, SOPIN: []byte("57621880"), PIN: []byte(shownPIN), Tries: 3}))
	if !blocked {
		return card
	}
	p256, _ := curve.ByName("secp256r1")
	require.NoError(r.t, c.Login(ctx, []byte(shownPIN)))
	_, err = c.GenerateEC(ctx, 1, p256, client.KeySpec{Holder: "DENK040417200000"})
	require.NoError(r.t, err)
	for range 15 {
		require.Error(r.t, c.VerifyPIN(ctx, client.SOPIN, []byte("00000000")))
	}
	return card
}

// tell adds a message, unless it is one of the last two: firmware is loaded in many
// parts, with a notice for each.
func (r *recording) tell(m message) {
	if !slices.Contains(r.told[max(0, len(r.told)-2):], m) {
		r.told = append(r.told, m)
	}
}

// asks has the person ask the portal for something.
func (r *recording) asks(says, answer, path string, in, out any) {
	r.t.Helper()
	r.call(http.MethodPost, path, in, out)
	r.tell(message{who: "person", card: "portal", says: says, answer: answer})
}

func (r *recording) call(method, path string, in, out any) {
	r.t.Helper()
	var body bytes.Buffer
	if in != nil {
		require.NoError(r.t, json.NewEncoder(&body).Encode(in))
	}
	q, err := http.NewRequestWithContext(r.t.Context(), method, r.url+path, &body)
	require.NoError(r.t, err)
	q.Header.Set("Content-Type", "application/json")
	q.Header.Set("Authorization", "Bearer "+r.session)
	a, err := http.DefaultClient.Do(q)
	require.NoError(r.t, err)
	defer a.Body.Close()
	require.Less(r.t, a.StatusCode, 300, path)
	if out != nil {
		require.NoError(r.t, json.NewDecoder(a.Body).Decode(out))
	}
}

// leads are commands that choose what the next ones are for, which the pictures leave out.
var leads = regexp.MustCompile(`^(SELECT|GET DATA|MANAGE SECURITY ENVIRONMENT)\b`)

// own are names of devices, which differ from run to run.
var own = regexp.MustCompile(`DENK99\d{5}`)

// connect connects a card, and keeps what it is told.
func (r *recording) connect(at, name string, card *emulator.Card) {
	r.t.Helper()
	events, stop := card.Watch(1)
	defer stop()
	agent := &ram.Agent{Card: watched{card, func() {
		e := control.EventOf(<-events)
		if e.Command == nil || leads.MatchString(*e.Command) { // or a reset
			return
		}
		m := message{who: "portal", card: name, says: *e.Command, answer: lengths.ReplaceAllString(e.Meaning, "")}
		if m.answer == "done" {
			m.answer = ""
		}
		if e.Subject != nil {
			m.says += " " + own.ReplaceAllString(*e.Subject, "DENK99...")
		}
		r.tell(m)
	}}, Notice: func(n ram.Notice) {
		r.tell(message{who: "portal", card: "person", says: strings.Join(folded(own.ReplaceAllString(n.Text, "DENK99..."), 48), "\n")})
	}}
	require.NoError(r.t, agent.Run(r.t.Context(), at))
}

// watched is a card, and what is done after each command.
type watched struct {
	*emulator.Card
	after func()
}

func (w watched) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	answer, err := w.Card.Transmit(ctx, command)
	w.after()
	return answer, err
}

func (w watched) Reset() error {
	err := w.Card.Reset()
	w.after()
	return err
}
