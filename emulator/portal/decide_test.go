package portal_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/client"
	"hsmemu/emulator/portal"
)

// question is what Decide is asked.
type question struct {
	keys, so, user bool // keys, SO-PIN blocked, user PIN blocked
	have           portal.Version
	unready        bool
	before         int // updates that began with a blocked SO-PIN
}

var (
	older  = portal.Version{Major: 4, Minor: 0}
	same   = portal.Version{Major: 4, Minor: 1}
	newer  = portal.Version{Major: 4, Minor: 2}
	across = portal.Version{Major: 3, Minor: 6}
)

func (q question) String() string {
	return fmt.Sprintf("keys %t, SO-PIN blocked %t, user PIN blocked %t, firmware %s, unready %t, %d before", q.keys, q.so, q.user, q.have, q.unready, q.before)
}

func (q question) ask() portal.Decision {
	ready := client.PINStatus{State: client.Ready, Left: 3}
	i := portal.Inspection{
		Info: client.Info{Major: q.have.Major, Minor: q.have.Minor}, SOPIN: ready, UserPIN: ready,
		Objects: []uint16{0x2F02, 0xCC00, 0xCD01, 0xCE01}, // the device key is nobody's, and certificates are no keys
	}
	if q.keys {
		i.Objects = append(i.Objects, 0xCC01)
	}
	if q.so {
		i.SOPIN = client.PINStatus{State: client.Blocked}
	}
	if q.user {
		i.UserPIN = client.PINStatus{State: client.Blocked}
	}
	return portal.Decide(i, portal.Record{Blocked: q.before}, portal.Target{Version: same, Issuer: "UTDICAEM0200001", IssuerReady: !q.unready})
}

// Every combination of what the rules look at, against the rule as the vendor
// words it: without keys or with a blocked SO-PIN; the latter five times, and the
// only one for the same version (UPDATE-1 to UPDATE-4, UPDATE-9 and UPDATE-13).
func TestDecide_EveryCombination(t *testing.T) {
	t.Parallel()
	no := false
	all, allowed := 0, 0
	for _, keys := range []bool{no, true} {
		for _, so := range []bool{no, true} {
			for _, user := range []bool{no, true} {
				for _, have := range []portal.Version{older, same, newer, across} {
					for _, unready := range []bool{no, true} {
						for before := range 6 {
							q := question{keys, so, user, have, unready, before}
							d := q.ask()
							all++
							noKeys := !keys && have == older
							blockedSO := so && before < 5 && (have == older || have == same)
							if unready || !noKeys && !blockedSO {
								require.NotNil(t, d.Refusal, q)
								require.NotEmpty(t, d.Refusal.Text, q)
								require.False(t, d.Blocked, q)
								continue
							}
							allowed++
							require.Nil(t, d.Refusal, q)
							require.Equal(t, !noKeys, d.Blocked, q)
						}
					}
				}
			}
		}
	}
	require.Equal(t, 2*2*2*4*2*6, all)
	// Without keys and older: 6 counts, SO-PIN blocked or not, PIN blocked or
	// not; the other three ways with a blocked SO-PIN: 5 counts, PIN blocked or not.
	require.Equal(t, 6*2*2+5*2*3, allowed)
}

// The claims that users and the vendor make in the forum, S1 to S26 in their order,
// and the texts that users have seen: UPDATE-8, PORTAL-17.
func TestDecide_Claims(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		q       question
		reason  portal.Reason
		text    string
		blocked bool
	}{
		"S4 a blocked SO-PIN hinders no plain update":    {q: question{have: older, so: true}},
		"S11 a lost SO-PIN, no keys":                     {q: question{have: older}},
		"S12 SO-PIN blocked, the same version":           {q: question{have: same, so: true}, blocked: true},
		"S12 SO-PIN blocked, keys, the same version":     {q: question{have: same, so: true, keys: true}, blocked: true},
		"S12 SO-PIN blocked, keys":                       {q: question{have: older, so: true, keys: true}, blocked: true},
		"S13 no record of the device":                    {q: question{have: older}},
		"S14 SO-PIN blocked on purpose":                  {q: question{have: same, so: true}, blocked: true},
		"S20 user PIN blocked, no keys":                  {q: question{have: older, user: true}},
		"S20 user PIN blocked, keys":                     {question{have: older, user: true, keys: true}, portal.HasKeys, "SmartCard-HSM contains keys. Please remove keys first", false},
		"S23 both PINs blocked, keys":                    {q: question{have: older, so: true, user: true, keys: true}, blocked: true},
		"S23 both PINs blocked, no keys":                 {q: question{have: older, so: true, user: true}},
		"S24 the fifth time":                             {q: question{have: same, so: true, before: 4}, blocked: true},
		"S24 the sixth time":                             {question{have: same, so: true, before: 5}, portal.LimitReached, "Limit of 5 firmware updates with blocked SO-PIN reached", false},
		"S24 the sixth time, with keys":                  {question{have: older, so: true, keys: true, before: 5}, portal.LimitReached, "Limit of 5 firmware updates with blocked SO-PIN reached", false},
		"S24 does not concern an older one without keys": {q: question{have: older, so: true, before: 5}},
		"UPDATE-3 the same version":                      {question{have: same}, portal.Latest, "Firmware is already the latest available version (Edit)", false},
		"UPDATE-3 the same version, and keys to keep":    {question{have: same, keys: true}, portal.Latest, "Firmware is already the latest available version (Edit)", false},
		"UPDATE-6 the issuer first":                      {question{have: older, keys: true, unready: true}, portal.IssuerNotReady, "Device Issuer CA UTDICAEM02 not ready. Already logged in and licenses available ?", false},
		"UPDATE-8 keys":                                  {question{have: older, keys: true}, portal.HasKeys, "SmartCard-HSM contains keys. Please remove keys first", false},
		"UPDATE-9 never across generations":              {question{have: across}, portal.OtherGeneration, "No firmware for this generation of SmartCard-HSM", false},
		"UPDATE-9 nor with a blocked SO-PIN":             {question{have: across, so: true}, portal.OtherGeneration, "No firmware for this generation of SmartCard-HSM", false},
		"nor back to an older one":                       {question{have: newer, so: true}, portal.Latest, "Firmware is already the latest available version (Edit)", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := c.q.ask()
			require.Equal(t, c.blocked, d.Blocked)
			if c.reason == 0 {
				require.Nil(t, d.Refusal)
				return
			}
			require.Equal(t, &portal.Refusal{Reason: c.reason, Text: c.text}, d.Refusal)
			require.EqualError(t, d.Refusal, c.text)
		})
	}
}

// 63C0 is a blocked SO-PIN as 6983 is; one try left, or no SO-PIN at all, is not.
func TestInspection_Blocked(t *testing.T) {
	t.Parallel()
	for status, blocked := range map[client.PINStatus]bool{
		{State: client.Blocked}:         true,
		{State: client.Ready, Left: 0}:  true,
		{State: client.Ready, Left: 1}:  false,
		{State: client.Ready, Left: 15}: false,
		{State: client.Unset}:           false,
		{State: client.Verified}:        false,
	} {
		require.Equal(t, blocked, portal.Inspection{SOPIN: status}.Blocked(), status)
	}
}
