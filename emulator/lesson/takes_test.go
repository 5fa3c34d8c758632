package lesson_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/lesson"
	"hsmemu/emulator/statedir"
	"hsmemu/emulator/store"
	"hsmemu/keystore/seal"
)

// Which PIN a card takes is found out on a copy: no try is spent, a wrong one of
// either kind is told of by its name, and what cannot be understood is no wrong PIN.
func TestExpectAll_Takes(t *testing.T) {
	t.Parallel()
	plain := store.Options{Sealers: []seal.Sealer{seal.Insecure{}}}
	d, err := statedir.Open(filepath.Join(t.TempDir(), "state"), plain)
	require.NoError(t, err)
	usual := chip.Usual()
	require.NoError(t, d.Make("lab", statedir.Order{Order: chip.Order{Like: &usual}}, plain, emulator.System()))
	before, _, err := d.Read("lab")
	require.NoError(t, err)
	for _, c := range []struct{ takes, pin, so, why, mistake string }{
		{takes: "user-pin", pin: "648219"},
		{takes: "user-pin", pin: "648218", why: "it does not take that user PIN"},
		{takes: "user-pin", pin: "1", why: "it does not take that user PIN"},
		{takes: "so-pin", so: "3537363231383830"},
		{takes: "so-pin", so: "3537363231383831", why: "it does not take that SO-PIN"},
		{takes: "so-pin", so: "57621880", mistake: "read $HSMEMU_SO_PIN: it is 16 hexadecimal digits"},
		{takes: "so-pin", pin: "648219", mistake: "--takes so-pin wants it in $HSMEMU_SO_PIN"},
		{takes: "user-pin", so: "3537363231383830", mistake: "--takes user-pin wants it in $HSMEMU_PIN"},
		{takes: "pin", pin: "648219", mistake: "--takes is user-pin or so-pin"},
	} {
		env := map[string]string{"HSMEMU_PIN": c.pin, "HSMEMU_SO_PIN": c.so, lesson.EnvEvents: t.TempDir()}
		why, err := lesson.ExpectAll(t.Context(), d, "lab", lesson.Wanted{Takes: c.takes, Env: func(name string) string { return env[name] }})
		if c.mistake != "" {
			require.ErrorIs(t, err, lesson.ErrExpectation)
			require.EqualError(t, err, c.mistake)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, c.why, why, "%+v", c)
	}
	after, _, err := d.Read("lab")
	require.NoError(t, err)
	require.Equal(t, before, after)
}
