//go:build linux

package lesson_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator"
	"hsmemu/emulator/lesson"
	"hsmemu/emulator/statedir"
	"hsmemu/emulator/store"
)

// Of several lessons in one home the one that was begun last is found, and when it
// has ended, or is gone without a word, the one before it, which goes on.
func TestFind_TheLastThatGoesOn(t *testing.T) {
	t.Parallel()
	files := folder()
	files["lesson.json"].Data = []byte(strings.Replace(folderText("lesson.json"), `"cards": ["lab"],`, "", 1))
	l, err := lesson.Load(files)
	require.NoError(t, err)
	home := t.TempDir()
	begin := func() (p *lesson.Player, withdraw func() error) {
		t.Helper()
		p, err := lesson.Begin(t.Context(), l, lesson.Options{Program: "hsmemu", World: emulator.System()})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, p.Close()) })
		withdraw, err = p.Announce(home)
		require.NoError(t, err)
		return p, withdraw
	}
	in := map[string]string{} // the shell that asks
	here := func() (*lesson.Session, error) {
		return lesson.Here(func(name string) string { return in[name] }, func() (*statedir.Dir, error) {
			return statedir.Open(home, store.Options{})
		})
	}
	found := func(want *lesson.Player) {
		t.Helper()
		s, err := here()
		require.NoError(t, err)
		require.Equal(t, want.Dir(), s.Dir())
	}
	first, firstEnds := begin()
	found(first)
	second, secondEnds := begin()
	found(second)
	in[lesson.EnvSession] = first.Dir()
	found(first)
	clear(in)
	third, _ := begin()
	found(third)
	require.NoError(t, third.Close()) // as if it had been killed
	found(second)
	require.NoError(t, secondEnds())
	found(first)
	require.NoError(t, firstEnds())
	_, err = here()
	require.ErrorIs(t, err, lesson.ErrNoSession)
	left, err := os.ReadDir(home)
	require.NoError(t, err)
	require.Empty(t, left)
}

// A name that a trainer's program would refuse is refused before the lesson begins.
func TestBegin_NameOfTheStudent(t *testing.T) {
	l, err := lesson.Own("first-steps")
	require.NoError(t, err)
	for _, name := range []string{"", "a\x1b[2Jb", "two\nlines", strings.Repeat("x", 65)} {
		_, err := lesson.Begin(t.Context(), l, lesson.Options{Student: name, Report: "http://localhost:1/", World: emulator.System()})
		require.ErrorIs(t, err, lesson.ErrStudent, "%q", name)
	}
}

// So is what is no URL of the web.
func TestBegin_URLOfTheTrainer(t *testing.T) {
	l, err := lesson.Own("first-steps")
	require.NoError(t, err)
	for _, at := range []string{"localhost:8080", "ftp://localhost/", "http://", "/class", "://", "http://a b/"} {
		_, err := lesson.Begin(t.Context(), l, lesson.Options{Student: "ann", Report: at, World: emulator.System()})
		require.ErrorIs(t, err, lesson.ErrReport, "%q", at)
	}
	require.NoError(t, lesson.Options{}.Check())
	require.NoError(t, lesson.Options{Student: "ann", Report: "https://trainer.example/class/x"}.Check())
}

// What is left of a session whose process was killed is no session, and is removed.
func TestFind_Killed(t *testing.T) {
	files := folder()
	files["lesson.json"].Data = []byte(strings.Replace(folderText("lesson.json"), `"cards": ["lab"],`, "", 1))
	l, err := lesson.Load(files)
	require.NoError(t, err)
	p, err := lesson.Begin(t.Context(), l, lesson.Options{Program: "hsmemu", World: emulator.System()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	home, left := t.TempDir(), filepath.Join(t.TempDir(), "hsmemu-lesson1")
	require.NoError(t, os.CopyFS(left, os.DirFS(p.Dir())))
	kept := filepath.Join(left, "course", "progress.json")
	text, err := os.ReadFile(kept)
	require.NoError(t, err)
	require.Contains(t, string(text), `"Socket":""`)
	require.NoError(t, os.WriteFile(kept, []byte(strings.Replace(string(text), `"Socket":""`, `"Socket":"/nobody/listens"`, 1)), 0o600))
	socket := filepath.Join(t.TempDir(), "hsmemu-1")
	require.NoError(t, os.Mkdir(socket, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(socket, "s"), nil, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(home, "1.lesson"), []byte(left+"\x00"+filepath.Join(socket, "s")), 0o600))
	_, err = lesson.Join(left)
	require.ErrorIs(t, err, lesson.ErrNoSession)
	_, err = lesson.Find(home)
	require.ErrorIs(t, err, lesson.ErrNoSession)
	require.NoDirExists(t, left)
	require.NoDirExists(t, socket)
	require.NoFileExists(t, filepath.Join(home, "1.lesson"))
}
