package lesson_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator"
	"hsmemu/emulator/control"
	"hsmemu/emulator/lesson"
	"hsmemu/vsmartcard/pcscd"
)

// listing is what is in a folder: kinds and modes, where links lead and what files say.
func listing(t *testing.T, folder string) (lines []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := e.Info()
		require.NoError(t, err)
		name, err := filepath.Rel(folder, path)
		require.NoError(t, err)
		says := ""
		if info.Mode().IsRegular() {
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			says = string(text)
		} else if e.Type() == fs.ModeSymlink {
			says, err = os.Readlink(path)
			require.NoError(t, err)
		}
		lines = append(lines, fmt.Sprintf("%v %s %s", info.Mode(), name, says))
		return nil
	}))
	return lines
}

// Undo puts back whatever was in the folder when the step began, a card that was out of
// its reader out of it, and faults that were set; what it cannot make, a socket, it leaves and names.
func TestUndo_All(t *testing.T) {
	t.Parallel()
	said, err := built()
	require.NoError(t, err, "%s", said)
	l, err := lesson.Named(writeLesson(t, map[string]string{
		"index.json":  `{"title": "T", "details": {"intro": {"background": "setup.sh"}, "steps": [{"title": "A", "verify": "verify.sh"}, {"title": "B", "verify": "verify.sh"}]}}`,
		"lesson.json": `{"schema": 1, "cards": ["lab"], "steps": [{}, {}]}`,
	}))
	require.NoError(t, err)
	p, err := lesson.Begin(t.Context(), l, lesson.Options{Program: program, World: emulator.System()})
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	do := func(script string) {
		t.Helper()
		cmd := exec.Command("sh", "-ec", script)
		cmd.Dir, cmd.Env = p.Work(), append(os.Environ(), p.Variables()...)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s: %s", script, out)
	}
	do(`mkdir -p deep/er shut; echo a > plain; echo b > deep/er/program; echo c > shut/inside
chmod 644 plain; chmod 755 deep/er/program; chmod 751 deep; chmod 400 shut/inside; chmod 500 shut
ln -s deep/er/program link; ln -s /nowhere broken; mkfifo -m 620 pipe
hsmemu card eject lab
hsmemu card fault lab slow
hsmemu card fault lab remove after=3 at=pin`)
	socket := filepath.Join(p.Work(), "deep", "socket")
	listener, err := net.Listen("unix", socket)
	require.NoError(t, err)
	defer listener.Close()
	require.NoError(t, p.Next(t.Context()))
	then := listing(t, p.Work())
	unkept, err := p.Unkept()
	require.NoError(t, err)
	require.Equal(t, []string{"deep/socket"}, unkept)

	for _, mess := range []string{
		"hsmemu card fault lab mute; hsmemu card fault lab remove after=1; hsmemu card insert lab; chmod 700 shut; rm -rf plain deep/er shut link broken pipe; echo other > pipe; echo x > new; mkdir -p deep/new/er",
		"chmod 600 plain deep/er/program; chmod 700 deep shut; rm shut/inside link; ln -s plain link; hsmemu card insert lab",
		"hsmemu card fault lab --clear", "true", "chmod 0 .", `chmod 700 "$PWD"/shut && rm -rf "$PWD"/plain "$PWD"/shut && mv "$PWD/deep" "$HSMEMU_LESSON/aside" && rm -r "$PWD"; mkdir "$PWD"; mv "$HSMEMU_LESSON/aside" "$PWD/deep"`,
	} {
		do(mess)
		require.NoError(t, p.Undo(t.Context()))
		require.Equal(t, then, listing(t, p.Work()), mess)
		do("hsmemu lesson expect --card lab running.ejected=true")
		do(`hsmemu card fault lab --list > "$HSMEMU_LESSON/faults"; printf 'remove after=3 at=pin\nslow\n' | diff - "$HSMEMU_LESSON/faults"`)
		conn, err := net.DialTimeout("unix", socket, time.Minute)
		require.NoError(t, err)
		require.NoError(t, conn.Close())
	}
	do("hsmemu card insert lab")
	require.NoError(t, p.Reset(t.Context()))
	do("hsmemu lesson expect --card lab running.ejected=false")
	do(`test -z "$(hsmemu card fault lab --list)"`)
	unkept, err = p.Unkept()
	require.NoError(t, err)
	require.Empty(t, unkept)
	require.Len(t, listing(t, p.Work()), 1)
	do(`rmdir "$PWD"`)
	require.NoError(t, p.Undo(t.Context()))
	require.Len(t, listing(t, p.Work()), 1)
}

// A step that somebody else leaves while it is judged is not judged, and no step is left out.
func TestAdvance_GoneOn(t *testing.T) {
	t.Parallel()
	l, err := lesson.Named(writeLesson(t, map[string]string{
		"index.json":  `{"title": "T", "details": {"steps": [{"title": "A", "verify": "verify.sh"}, {"title": "B", "verify": "verify.sh"}]}}`,
		"lesson.json": `{"schema": 1, "steps": [{}, {}]}`,
		"verify.sh":   `sed -i 's/"Step":0/"Step":1/' "$HSMEMU_LESSON/course/progress.json"` + "\n",
	}))
	require.NoError(t, err)
	p, err := lesson.Begin(t.Context(), l, lesson.Options{Program: "hsmemu", World: emulator.System()})
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	_, err = p.Advance(t.Context())
	require.ErrorIs(t, err, lesson.ErrGoneOn)
	again, err := lesson.Join(p.Dir())
	require.NoError(t, err)
	require.Equal(t, 2, again.Number())
}

// What several shells and a page do to a session at once happens in turn, each to the step that
// it is about: nothing is half done, and no step is left out or comes again.
func TestSession_InTurn(t *testing.T) {
	t.Parallel()
	l, err := lesson.Named(writeLesson(t, map[string]string{
		"index.json":  `{"title": "T", "details": {"intro": {"background": "setup.sh"}, "steps": [{"title": "A", "verify": "verify.sh"}, {"title": "B", "verify": "verify.sh"}, {"title": "C", "verify": "verify.sh"}]}}`,
		"lesson.json": `{"schema": 1, "steps": [{"hints": "hints.md"}, {}, {}]}`,
		"setup.sh":    "for d in a b c d e f; do mkdir $d; for f in 1 2 3 4 5 6 7 8; do echo $f > $d/$f; done; done\n",
		"verify.sh":   "true\n",
	}))
	require.NoError(t, err)
	p, err := lesson.Begin(t.Context(), l, lesson.Options{Program: "hsmemu", World: emulator.System()})
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	then := listing(t, p.Work())
	at := func() *lesson.Session {
		s, err := lesson.Join(p.Dir())
		require.NoError(t, err)
		return s
	}
	together := func(do func(*lesson.Session) error) (gone int) {
		t.Helper()
		var all []*lesson.Session
		for range 8 { // before one of them changes anything
			all = append(all, at())
		}
		ended := make(chan error, len(all))
		for _, s := range all {
			go func() { ended <- do(s) }()
		}
		for range all {
			err := <-ended
			if errors.Is(err, lesson.ErrGoneOn) {
				gone++
				continue
			}
			require.NoError(t, err)
		}
		return gone
	}
	undo := func(s *lesson.Session) error { return s.Undo(t.Context()) }
	hint := func(s *lesson.Session) error { _, _, err := s.Hint(t.Context()); return err }
	next := func(s *lesson.Session) error { return s.Next(t.Context()) }
	require.Zero(t, together(hint))
	require.Equal(t, 3, at().Result().Hints)
	require.Zero(t, together(undo))
	require.Equal(t, then, listing(t, p.Work()))
	require.Equal(t, 7, together(next))
	require.Equal(t, 2, at().Number())
	require.Zero(t, together(undo))
	require.Equal(t, then, listing(t, p.Work()))
	require.Zero(t, together(func(s *lesson.Session) error { return s.Reset(t.Context()) }))
	require.Equal(t, 1, at().Number())
	require.Equal(t, then, listing(t, p.Work()))
	for _, do := range []func(*lesson.Session) error{undo, hint, next} {
		old := at()
		require.NoError(t, next(at()))
		require.ErrorIs(t, do(old), lesson.ErrGoneOn)
		require.NoError(t, at().Reset(t.Context()))
	}
}

// Undo of a lesson that is at its end makes the last step the present one, unsolved and with what
// was asked for, so that it can be done again.
func TestUndo_AtTheEnd(t *testing.T) {
	t.Parallel()
	l, err := lesson.Named(writeLesson(t, map[string]string{
		"index.json":  `{"title": "T", "details": {"steps": [{"title": "A", "verify": "verify.sh"}, {"title": "B", "verify": "verify.sh"}]}}`,
		"lesson.json": `{"schema": 1, "steps": [{}, {"hints": "hints.md"}]}`,
		"verify.sh":   "test -e done\n",
	}))
	require.NoError(t, err)
	p, err := lesson.Begin(t.Context(), l, lesson.Options{Program: "hsmemu", World: emulator.System()})
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	require.NoError(t, p.Next(t.Context()))
	done := filepath.Join(p.Work(), "done")
	for tries := range 2 {
		_, _, err = p.Hint(t.Context())
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(done, nil, 0o600))
		v, err := p.Advance(t.Context())
		require.NoError(t, err)
		require.True(t, v.Solved)
		require.Nil(t, p.Step())
		require.NoError(t, p.Undo(t.Context()))
		require.NoFileExists(t, done)
		at, err := lesson.Join(p.Dir())
		require.NoError(t, err)
		for _, s := range []*lesson.Session{p.Session, at} {
			require.Equal(t, 2, s.Number())
			require.Equal(t, lesson.Result{Schema: 1, Lesson: "T", Step: 2, Steps: 2, Hints: tries + 1, Tries: tries + 1}, s.Result())
		}
	}
	v, err := p.Check(t.Context())
	require.NoError(t, err)
	require.False(t, v.Solved)
}

// Reset keeps how the lesson began, whatever ends it before its time: here more than can be kept
// has come beside the lesson.
func TestReset_KeepsTheBeginning(t *testing.T) {
	t.Parallel()
	l, err := lesson.Named(writeLesson(t, map[string]string{
		"index.json":  `{"title": "T", "details": {"steps": [{"title": "A", "verify": "verify.sh"}, {"title": "B", "verify": "verify.sh"}]}}`,
		"lesson.json": `{"schema": 1, "serve": "serve.sh", "steps": [{}, {}]}`,
		"serve.sh":    `if test -e "$HSMEMU_LESSON/tmp/much"; then for i in $(seq 65); do truncate -s 1M big$i; done; fi` + "\n",
	}))
	require.NoError(t, err)
	p, err := lesson.Begin(t.Context(), l, lesson.Options{Program: "hsmemu", World: emulator.System()})
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	then := listing(t, p.Work())
	much := filepath.Join(p.Dir(), "tmp", "much")
	require.NoError(t, os.WriteFile(much, nil, 0o600))
	require.NoError(t, p.Reset(t.Context()))
	require.FileExists(t, filepath.Join(p.Work(), "big65"))
	require.NoError(t, os.Remove(much))
	require.NoError(t, p.Undo(t.Context()))
	require.Equal(t, then, listing(t, p.Work()))
	require.NoError(t, p.Reset(t.Context()))
}

// Where it is not kept any more how a step began, Undo says that and changes nothing, and Reset
// begins the lesson again as long as its own beginning is kept.
func TestUndo_Lost(t *testing.T) {
	t.Parallel()
	l, err := lesson.Named(writeLesson(t, map[string]string{
		"index.json":  `{"title": "T", "details": {"steps": [{"title": "A", "verify": "verify.sh"}, {"title": "B", "verify": "verify.sh"}]}}`,
		"lesson.json": `{"schema": 1, "steps": [{}, {}]}`,
	}))
	require.NoError(t, err)
	p, err := lesson.Begin(t.Context(), l, lesson.Options{Program: "hsmemu", World: emulator.System()})
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	mine := filepath.Join(p.Work(), "mine")
	for _, lost := range []string{"", "begun.json", "cards", "work"} {
		require.NoError(t, p.Next(t.Context()))
		require.NoError(t, os.WriteFile(mine, nil, 0o600))
		require.NoError(t, os.RemoveAll(filepath.Join(p.Dir(), "undo", "1", lost)))
		err := p.Undo(t.Context())
		require.ErrorIs(t, err, lesson.ErrLost)
		require.EqualError(t, err, "the beginning of step 2: how it was then is not kept any more")
		require.FileExists(t, mine)
		require.NoError(t, p.Reset(t.Context()))
		require.NoFileExists(t, mine)
	}
}

// Undo that is refused half-way, since a program has the second card for itself, says what it has
// put back, and undo again completes it.
func TestUndo_HalfWay(t *testing.T) {
	t.Parallel()
	said, err := built()
	require.NoError(t, err, "%s", said)
	l, err := lesson.Named(writeLesson(t, map[string]string{
		"lesson.json": `{"schema": 1, "cards": ["lab", "two"], "steps": [{}]}`,
		"setup.sh":    "hsmemu card new lab\nhsmemu card new two\n",
	}))
	require.NoError(t, err)
	p, err := lesson.Begin(t.Context(), l, lesson.Options{Program: program, World: emulator.System()})
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	mine := filepath.Join(p.Work(), "mine")
	require.NoError(t, os.WriteFile(mine, nil, 0o600))
	var socket string
	for _, v := range p.Variables() {
		if at, is := strings.CutPrefix(v, pcscd.EnvSocket+"="); is {
			socket = at
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	pc, err := pcscd.Dial(ctx, socket)
	require.NoError(t, err)
	readers, err := pc.Readers(ctx)
	require.NoError(t, err)
	defer pc.Close()
	require.Len(t, readers, 2)
	alone, err := pc.Connect(ctx, readers[1].Name, pcscd.Exclusive, pcscd.T1)
	require.NoError(t, err)
	err = p.Undo(ctx)
	require.ErrorIs(t, err, control.ErrInUse)
	require.Regexp(t, `^card "two": .*; put back so far: card "lab"; the same again puts back the rest$`, err.Error())
	require.FileExists(t, mine)
	require.NoError(t, alone.Disconnect(ctx, pcscd.Leave))
	require.NoError(t, p.Undo(ctx))
	require.NoFileExists(t, mine)
	alone, err = pc.Connect(ctx, readers[0].Name, pcscd.Exclusive, pcscd.T1)
	require.NoError(t, err)
	err = p.Undo(ctx)
	require.ErrorIs(t, err, control.ErrInUse)
	require.NotContains(t, err.Error(), "put back")
	require.NoError(t, alone.Disconnect(ctx, pcscd.Leave))
}
