package conform_test

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator"
	"hsmemu/emulator/broken"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/conform"
	"hsmemu/keystore"
	"hsmemu/vsmartcard"
)

// brokenCards makes cards with a defect for one rule each.
func brokenCards(t testing.TB, defect string) conform.Target {
	t.Helper()
	w := emulator.System()
	w.RSA = keystore.PoolGenerator{Rand: w.Rand}
	d, err := w.Manufacture(chip.Order{Serial: "DENK9900001", Broken: defect})
	require.NoError(t, err)
	return conform.Target{Name: "a broken card", Make: func() (vsmartcard.Card, error) {
		c, err := emulator.NewTorn(d, w)
		return tornCard{c}, err
	}}
}

// judgeAlone is what becomes of one rule of a library.
func judgeAlone(t *testing.T, l conform.Library, target conform.Target, id string) conform.Result {
	t.Helper()
	o := options()
	o.Only = regexp.MustCompile("^" + id + "$")
	report, err := conform.Judge(t.Context(), l, target, o)
	require.NoError(t, err)
	for _, one := range report.Results {
		if one.ID == id {
			return one
		}
	}
	require.Fail(t, "no rule "+id)
	return conform.Result{}
}

// Each defect that cards can have on purpose is found by the rule that is about it.
func TestRules_FindEveryDefect(t *testing.T) {
	t.Parallel()
	l := library(t)
	for _, d := range broken.Defects() {
		t.Run(d.Name, func(t *testing.T) {
			t.Parallel()
			r := judgeAlone(t, l, brokenCards(t, d.Name), d.Rule)
			require.Equal(t, conform.Broken, r.Verdict, "%s %s: %s, where the card does this: %s", r.ID, r.Says, r.Why, d.Does)
		})
	}
}
