package site_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/client"
)

// The forum's story: a card whose SO-PIN is blocked is brought back by its owner, who
// is logged in with another card.
func TestSite_BlockedCard(t *testing.T) {
	t.Parallel()
	p := open(t).person()
	require.Contains(t, p.get("/").text, "Log in with a card")
	p.register(card(t, "DENK0000001", "4.1"), "owner@example.org")
	require.Contains(t, p.get("/se/paas").text, "Update firmware")

	blocked := card(t, "DENK0000002", "4.1")
	k := client.New(blocked)
	for range 15 {
		require.Error(t, k.VerifyPIN(t.Context(), client.SOPIN, []byte("00000000")))
	}
	request := p.post("/se/requests", "type", "FirmwareUpdate")
	require.Contains(t, request.text, "Current token in reader")
	scheduled := p.post(request.path, "action", "Submit", "token", "0")
	require.Contains(t, scheduled.text, "Request scheduled (Submit)")
	said, err := p.connect(blocked, ramURL.FindString(scheduled.text))
	require.NoError(t, err)
	require.Equal(t, 100, said[len(said)-1].Number)
	require.Contains(t, p.get(request.path).text, "Completed")
}
