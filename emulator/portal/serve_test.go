package portal_test

import (
	"crypto/rand"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/client"
	"hsmemu/emulator/portal"
	"hsmemu/emulator/ram"
)

// The story of a blocked card, as the forum tells it, by RAM over HTTP: S11, S12,
// S14, S16, UPDATE-8.
func TestUpdater(t *testing.T) {
	t.Parallel()
	f := open(t)
	var updates []portal.Done
	s := &ram.Server{Services: map[string]ram.Service{
		"paas": (&portal.Updater{Ledger: f, Rand: rand.Reader, Now: time.Now, Updated: func(d portal.Done) { updates = append(updates, d) }}).Serve,
	}}
	h := httptest.NewServer(s)
	defer h.Close()
	defer func() { require.NoError(t, s.Close()) }()
	connect := func(r *reader) ([]ram.Notice, error) {
		var said []ram.Notice
		err := (&ram.Agent{Card: r, Notice: func(n ram.Notice) { said = append(said, n) }}).Run(t.Context(), h.URL+"/rt/paas")
		return said, err
	}
	failed := ram.Notice{Number: -1, Text: "Firmware update failed, possibly leaving the SmartCard-HSM in a corrupted state.\nPlease connect the card again: an update that has begun goes on."}

	card := situation{firmware: "4.1", keys: true}.card(t)
	said, err := connect(&reader{Card: card})
	require.NoError(t, err)
	require.Equal(t, []ram.Notice{{Text: "looking at the card"}, {Text: "Firmware is already the latest available version (Edit)"}}, said)

	c := client.New(card)
	_, err = c.Select(t.Context())
	require.NoError(t, err)
	for range 15 {
		require.Error(t, c.VerifyPIN(t.Context(), client.SOPIN, []byte("00000000")))
	}
	before := card.Durable().Device.Name
	_, err = connect(&reader{Card: card, at: 120}) // and its reader is pulled
	require.ErrorIs(t, err, ram.CodeCard)
	f.fails = map[int]error{f.changes + 1: errDisk}
	said, err = connect(&reader{Card: card})
	require.Error(t, err, "the books are full")
	require.Equal(t, failed, said[len(said)-1])
	said, err = connect(&reader{Card: card})
	require.NoError(t, err)
	require.Len(t, updates, 1)
	require.True(t, updates[0].Resumed)
	require.Equal(t, ram.Notice{Number: 100, Text: "Firmware update completed. New device id " + updates[0].New.Name.Holder()}, said[len(said)-1])
	require.Equal(t, before, string(updates[0].Old.Name))
	require.False(t, card.Durable().PINs.Initialised)

	said, err = connect(&reader{Card: situation{firmware: "4.0", keys: true}.card(t)})
	require.EqualError(t, err, "the server ended it with notice -1")
	require.Equal(t, []ram.Notice{{Text: "looking at the card"}, {Text: "SmartCard-HSM contains keys. Please remove keys first"}, failed}, said)
}
