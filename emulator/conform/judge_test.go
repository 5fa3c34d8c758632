package conform_test

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/conform"
	"hsmemu/keystore"
	"hsmemu/vsmartcard"
)

// tornCard is an emulated card as the judge wants it.
type tornCard struct{ *emulator.Torn }

func (c tornCard) CutAfter(saves int) (vsmartcard.Card, error) { return c.Torn.CutAfter(saves) }

// shipped makes cards of a firmware for one rule each.
func shipped(t testing.TB, firmware string) conform.Target {
	t.Helper()
	w := emulator.System()
	w.RSA = keystore.PoolGenerator{Rand: w.Rand}
	d, err := w.Manufacture(chip.Order{Firmware: firmware, Serial: "DENK9900001"})
	require.NoError(t, err)
	return conform.Target{Name: "a new card", Make: func() (vsmartcard.Card, error) {
		c, err := emulator.NewTorn(d, w)
		return tornCard{c}, err
	}}
}

func options() conform.Options {
	return conform.Options{
		Program: "test", Clock: func() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }, KeepSOTries: 5,
		Vars: conform.Vars{"pin": []byte("648219"), "so-pin": []byte("57621880")},
	}
}

// Every rule of the library holds on a card of ours, whatever its firmware, and costs
// no more than it says.
func TestJudge_LibraryHolds(t *testing.T) {
	t.Parallel()
	for _, firmware := range []string{"1.2", "2.6", "3.1", "3.6", "4.1"} {
		r, err := conform.Judge(t.Context(), library(t), shipped(t, firmware), options())
		require.NoError(t, err)
		require.True(t, r.Passed())
		for _, one := range r.Results {
			if one.Verdict != conform.Held && one.Why[:min(14, len(one.Why))] != "does not apply" {
				t.Errorf("firmware %s: %s is %s: %s", firmware, one.ID, one.Verdict, one.Why)
			}
		}
		if firmware == "4.1" {
			require.NoError(t, r.Write(os.Stderr, "text"))
		}
	}
}
