package site_test

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/client"
	"hsmemu/emulator/chiptest"
	"hsmemu/emulator/portal/records"
	"hsmemu/emulator/portal/service"
	"hsmemu/emulator/ram"
)

// reader has something happen before a command, counted from 1 on.
type reader struct {
	*chiptest.Card
	at, n int
	then  func()
	once  sync.Once
}

func (r *reader) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	if r.n++; r.n == r.at {
		r.once.Do(r.then)
	}
	return r.Card.Transmit(ctx, command)
}

// awaiting is a person with a submitted update for a card whose SO-PIN is blocked.
func awaiting(t *testing.T, n int) (v *person, request, at string, card *chiptest.Card) {
	v = open(t).registered(n)
	card = made(t, "4.1", 90000+n)
	k := client.New(card)
	for range 15 {
		require.Error(t, k.VerifyPIN(t.Context(), client.SOPIN, []byte("00000000")))
	}
	request = v.post("/se/requests", "type", string(service.FirmwareUpdate)).path
	at = ramURL.FindString(v.post(request, "action", "Submit", "token", "0").text)
	require.NotEmpty(t, at)
	return v, request, at, card
}

// count counts rows.
func (p *portal) count(query string) (n int) {
	require.NoError(p.t, p.Records.Read(p.t.Context(), func(tx *records.Tx) error { return tx.QueryRow(query).Scan(&n) }))
	return n
}

// Who logs out in the middle of an update has it come to its end.
func TestUpdate_LoggedOutInTheMiddle(t *testing.T) {
	t.Parallel()
	v, _, at, card := awaiting(t, 1)
	r := &reader{Card: card, at: 60, then: func() { require.Equal(t, 200, v.post("/se/logout").status) }}
	require.NoError(t, (&ram.Agent{Card: r}).Run(t.Context(), at))
	require.Greater(t, r.n, 200)
	require.Equal(t, 1, v.count("SELECT COUNT(*) FROM requests WHERE state = 'Completed'"))
	require.Equal(t, 1, v.count("SELECT blocked_updates FROM chips"))
	require.ErrorIs(t, (&ram.Agent{Card: card}).Run(t.Context(), at), ram.CodeURL, "nobody connects in the session any more")
}

// Whoever has seen the address that a card connects at connects another card there in the
// middle of an update: that one gets nothing, and the update is finished when its card
// comes back, and counted once.
func TestUpdate_AddressStolenInTheMiddle(t *testing.T) {
	t.Parallel()
	v, request, at, card := awaiting(t, 2)
	lie := made(t, "4.0", 90100)
	before := lie.Durable().Serial()
	var said string
	var failed error
	r := &reader{Card: card, at: 60, then: func() {
		failed = (&ram.Agent{Card: lie, Notice: func(n ram.Notice) { said += n.Text + "\n" }}).Run(t.Context(), at)
	}}
	require.Error(t, (&ram.Agent{Card: r}).Run(t.Context(), at), "it was replaced")
	require.Error(t, failed)
	require.Contains(t, said, service.ErrOtherCard.Error())
	require.Equal(t, before, lie.Durable().Serial())
	require.Equal(t, "4.0", lie.Durable().Firmware)
	require.NoError(t, (&ram.Agent{Card: card}).Run(t.Context(), at))
	require.Contains(t, v.get(request).text, "Completed")
	require.Equal(t, 1, v.count("SELECT SUM(blocked_updates) FROM chips"))
	require.Equal(t, 999, v.count("SELECT licences FROM issuers"))
}

// A client that is killed in the middle says nothing. Its card goes on at another address of
// the portal as soon as that is noticed, long before the portal stops waiting for the client.
func TestUpdate_KilledClient(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir(), false)
	defer s.close()
	p := s.person()
	p.register(card(t, "DENK0000001", "4.1"), "a@example.org")
	request := p.post("/se/requests", "type", "FirmwareUpdate")
	at := ramURL.FindString(p.post(request.path, "action", "Submit", "token", "0").text)
	c := blockedCard(t, "DENK0000002")
	w := &waiting{Card: c, at: 30, reached: make(chan struct{})}
	ctx, end := context.WithCancel(t.Context())
	transport, ended := &http.Transport{}, make(chan error, 1)
	go func() { ended <- (&ram.Agent{Card: w, Transport: transport}).Run(ctx, at) }()
	<-w.reached
	transport.CloseIdleConnections() // as its system does for a process that is killed
	var said string
	require.Eventually(t, func() bool {
		said = ""
		err := (&ram.Agent{Card: c, Notice: func(n ram.Notice) { said += n.Text + "\n" }}).Run(t.Context(), s.at+"/rt/paas")
		return err == nil
	}, ram.IdleTime*2/3, time.Millisecond)
	require.Contains(t, said, "Firmware update completed")
	require.Contains(t, p.get(request.path).text, "Completed")
	require.Equal(t, 1, p.count("SELECT SUM(blocked_updates) FROM chips"))
	end()
	require.Error(t, <-ended)
}

// A card is taken out in the middle, and one with another chip put in its place: that one
// is not changed, and the right one is finished.
func TestUpdate_OtherChipHalfWay(t *testing.T) {
	t.Parallel()
	v, request, at, card := awaiting(t, 3)
	lie := made(t, "4.0", 90200)
	// Who is not to be trusted sends the request back to its form.
	again := func() {
		if v.count("SELECT COUNT(*) FROM requests WHERE state = 'Edit'") == 1 {
			v.post(request, "action", "Submit", "token", "0")
		}
	}
	for _, moment := range []int{5, 30, 60, 150} {
		again()
		before := lie.Durable().Serial()
		r := &reader{Card: card.Copy(), at: moment}
		right := r.Card
		r.then = func() { r.Card = lie.Copy(); _ = r.Reset() }
		err := (&ram.Agent{Card: r}).Run(t.Context(), at)
		require.Error(t, err, "at command %d", moment)
		require.Equal(t, before, r.Durable().Serial(), "at command %d", moment)
		card = right
	}
	again()
	require.NoError(t, (&ram.Agent{Card: card}).Run(t.Context(), at))
	require.Contains(t, v.get(request).text, "Completed")
	require.Equal(t, 1, v.count("SELECT SUM(blocked_updates) FROM chips"))
	require.Equal(t, 999, v.count("SELECT licences FROM issuers"))
}
