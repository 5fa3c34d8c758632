//go:build linux

package lesson_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
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
	begin := func() *lesson.Player {
		t.Helper()
		p, err := lesson.Begin(t.Context(), l, lesson.Options{Program: "hsmemu", World: emulator.System(), Announced: home})
		require.NoError(t, err)
		return p
	}
	in := map[string]string{} // the shell that asks
	here := func() (*lesson.Session, error) {
		return lesson.Here(func(name string) string { return in[name] }, func() (*statedir.Dir, error) {
			return statedir.Open(home, store.Options{})
		})
	}
	alone := func() (*lesson.Session, error) {
		return lesson.HereAlone(func(name string) string { return in[name] }, func() (*statedir.Dir, error) {
			return statedir.Open(home, store.Options{})
		})
	}
	_, err = alone()
	require.ErrorIs(t, err, lesson.ErrNoSession)
	found := func(want *lesson.Player) {
		t.Helper()
		s, err := here()
		require.NoError(t, err)
		require.Equal(t, want.Dir(), s.Dir())
	}
	first := begin()
	found(first)
	only, err := alone()
	require.NoError(t, err)
	require.Equal(t, first.Dir(), only.Dir())
	second := begin()
	found(second)
	_, err = alone()
	require.ErrorIs(t, err, lesson.ErrSeveral)
	require.EqualError(t, err, fmt.Sprintf(`several lessons go on: "One" in %s, "One" in %s`, second.Dir(), first.Dir()))
	in[lesson.EnvSession] = first.Dir()
	found(first)
	only, err = alone()
	require.NoError(t, err)
	require.Equal(t, first.Dir(), only.Dir())
	clear(in)
	third := begin()
	found(third)
	require.NoError(t, os.Remove(filepath.Join(third.Dir(), "session.json"))) // it is about to end
	found(second)
	require.NoError(t, second.Close())
	found(first)
	require.NoError(t, errors.Join(first.Close(), third.Close()))
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

// killed is what a process that was killed leaves in a folder of cards.
func killed(t *testing.T, home, ending, says string) (file string) {
	t.Helper()
	file = filepath.Join(home, rand.Text()+ending)
	require.NoError(t, os.WriteFile(file+".lock", nil, 0o600))
	require.NoError(t, os.WriteFile(file, []byte(says), 0o600))
	return file
}

// What is left of a session whose process was killed is no session, and is removed, whenever that
// was: before its folder was there, while it was filled, and when others could join it.
func TestFind_Killed(t *testing.T) {
	files := folder()
	files["lesson.json"].Data = []byte(strings.Replace(folderText("lesson.json"), `"cards": ["lab"],`, "", 1))
	l, err := lesson.Load(files)
	require.NoError(t, err)
	home := t.TempDir()
	other, err := lesson.Begin(t.Context(), l, lesson.Options{Program: "hsmemu", World: emulator.System(), Announced: home})
	require.NoError(t, err)
	defer func() { require.NoError(t, other.Close()) }()
	clears := map[string]func(){
		"Find": func() {
			s, err := lesson.Find(home)
			require.NoError(t, err)
			require.Equal(t, other.Dir(), s.Dir())
		},
		"Begin": func() {
			p, err := lesson.Begin(t.Context(), l, lesson.Options{Program: "hsmemu", World: emulator.System(), Announced: home})
			require.NoError(t, err)
			require.NoError(t, p.Close())
		},
	}
	for name, clear := range clears {
		var all []string
		for _, ending := range []string{".lesson", ".proof"} {
			begun, filled, socket := filepath.Join(t.TempDir(), "hsmemu-lesson1"), filepath.Join(t.TempDir(), "hsmemu-lesson2"), filepath.Join(t.TempDir(), "hsmemu-1")
			require.NoError(t, os.CopyFS(begun, os.DirFS(other.Dir())))
			require.NoError(t, os.Mkdir(filled, 0o700))
			require.NoError(t, os.Mkdir(socket, 0o700))
			require.NoError(t, os.WriteFile(filepath.Join(socket, "s"), nil, 0o600))
			all = append(all, begun, filled, socket,
				killed(t, home, ending, ""), killed(t, home, ending, begun+"\x00"+filepath.Join(socket, "s")), killed(t, home, ending, filled+"\x00"),
				killed(t, home, ending, filepath.Join(t.TempDir(), "hsmemu-lesson3")+"\x00"))
		}
		alone := filepath.Join(home, "x.lesson.lock")
		require.NoError(t, os.WriteFile(alone, nil, 0o600))
		elsewhere := t.TempDir() // not a session's folder
		strange := killed(t, home, ".lesson", elsewhere+"\x00")
		clear()
		require.DirExists(t, elsewhere)
		for _, left := range append(all, alone, strange) {
			_, err := os.Lstat(left)
			require.ErrorIs(t, err, fs.ErrNotExist, "%s: %s", name, left)
			require.NoFileExists(t, left+".lock")
		}
	}
}

// A session whose process lives and answers nobody any more is none.
func TestJoin_Unanswered(t *testing.T) {
	left := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(left, "session.json"), []byte(`{"Socket":"/nobody/listens"}`), 0o600))
	_, err := lesson.Join(left)
	require.ErrorIs(t, err, lesson.ErrNoSession)
}

// How far a session is may be unreadable, and is mended by Reset; who asks is told which it is.
func TestReset_Unreadable(t *testing.T) {
	files := folder()
	files["lesson.json"].Data = []byte(strings.Replace(folderText("lesson.json"), `"cards": ["lab"],`, "", 1))
	l, err := lesson.Load(files)
	require.NoError(t, err)
	home := t.TempDir()
	p, err := lesson.Begin(t.Context(), l, lesson.Options{Program: "hsmemu", World: emulator.System(), Announced: home, Student: "ann", Report: "http://localhost:1/"})
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	course := filepath.Join(p.Dir(), "course")
	file := filepath.Join(course, "progress.json")
	for _, spoil := range []func() error{
		func() error { return os.Truncate(file, 0) },
		func() error { return os.Truncate(file, 9) },
		func() error { return os.WriteFile(file, []byte("[]"), 0o600) },
		func() error { return os.Remove(file) },
		func() error { return errors.Join(os.Remove(file), os.MkdirAll(filepath.Join(file, "x"), 0o700)) },
		func() error { return os.RemoveAll(course) },
	} {
		s, err := lesson.Join(p.Dir())
		require.NoError(t, err)
		require.NoError(t, s.Next(t.Context()))
		require.NoError(t, os.WriteFile(filepath.Join(p.Work(), "mess"), nil, 0o600))
		require.NoError(t, spoil())
		s, err = lesson.Find(home)
		require.ErrorIs(t, err, lesson.ErrProgress)
		require.ErrorContains(t, err, p.Dir())
		require.NoError(t, s.Reset(t.Context()))
		require.NoFileExists(t, filepath.Join(p.Work(), "mess"))
		s, err = lesson.Find(home)
		require.NoError(t, err)
		require.Equal(t, 1, s.Number())
		require.Equal(t, "ann", s.Result().Student)
	}
	left, err := os.ReadDir(course)
	require.NoError(t, err)
	require.Len(t, left, 2) // it, and its lock
}
