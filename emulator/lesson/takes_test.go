package lesson_test

import (
	"os"
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

// withLab is a folder with the card lab, in the usual situation.
func withLab(t *testing.T) *statedir.Dir {
	t.Helper()
	plain := store.Options{Sealers: []seal.Sealer{seal.Insecure{}}}
	d, err := statedir.Open(filepath.Join(t.TempDir(), "state"), plain)
	require.NoError(t, err)
	usual := chip.Usual()
	require.NoError(t, d.Make("lab", statedir.Order{Order: chip.Order{Like: &usual}}, plain, emulator.System()))
	return d
}

// Which PIN a card takes is found out on a copy: no try is spent, a wrong one of
// either kind is told of by its name, and what cannot be understood is no wrong PIN.
func TestExpectAll_Takes(t *testing.T) {
	t.Parallel()
	d := withLab(t)
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

// An event after another one is seen in that order alone, and what cannot be mended by going
// on is told together with what mends it.
func TestExpectAll_AfterAndKept(t *testing.T) {
	t.Parallel()
	d := withLab(t)
	events := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(events, "lab.jsonl"), []byte(`{"at":"2026-01-02T03:04:05Z","sw":"9000"}
{"at":"2026-01-02T03:04:06Z","sw":"6985"}
`), 0o600))
	expect := func(w lesson.Wanted) (string, error) {
		w.Env = func(name string) string { return map[string]string{lesson.EnvEvents: events}[name] }
		return lesson.ExpectAll(t.Context(), d, "lab", w)
	}
	for _, c := range []struct {
		w   lesson.Wanted
		why string
	}{
		{lesson.Wanted{After: []string{"sw=9000"}, Seen: []string{"sw=6985"}}, ""},
		{lesson.Wanted{After: []string{"sw=6985"}, Seen: []string{"sw=9000"}}, "it has not happened after sw=6985: sw=9000"},
		{lesson.Wanted{After: []string{"sw=6A82"}, Seen: []string{"sw=9000"}}, "it has not happened in this step: sw=6A82"},
		{lesson.Wanted{Kept: []string{"state=operational"}}, ""},
		{lesson.Wanted{Kept: []string{"keys.count=1"}}, "keys.count is 0, and not 1; `hsmemu lesson undo` takes that back"},
	} {
		why, err := expect(c.w)
		require.NoError(t, err)
		require.Equal(t, c.why, why)
	}
	_, err := expect(lesson.Wanted{After: []string{"sw=9000"}})
	require.ErrorIs(t, err, lesson.ErrExpectation)
	_, err = expect(lesson.Wanted{Kept: []string{"stat=x"}})
	require.ErrorIs(t, err, lesson.ErrExpectation)
}
