package lesson

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator"
)

// leave is a script that leaves a process in a session of its own.
const leave = "setsid sleep 1000 > other 2>&1 & echo $!\n"

// A process in a session of its own ends with a verify script that has started it, and
// when a script is stopped.
func TestScript_LeavesItsGroup(t *testing.T) {
	s := newScript(t, leave+"sleep 0.2\n")
	s.mark = markOf(s.dir) + "1."
	out, _, _, err := s.run(t.Context())
	require.NoError(t, err)
	gone(t, strings.TrimSpace(out))

	s = newScript(t, leave+"sleep 1000\n")
	s.mark = markOf(s.dir) + "1."
	began := time.Now()
	out = ""
	for s.limit = 500 * time.Millisecond; out == ""; s.limit *= 2 { // it has to come so far, however busy the machine is
		out, _, _, err = s.run(t.Context())
		require.ErrorIs(t, err, ErrTooLong)
		require.Less(t, time.Since(began), 5*time.Minute)
	}
	gone(t, strings.TrimSpace(out))
}

// What a solution leaves in a session of its own goes on until the lesson ends; what
// somebody has started in a shell of the lesson, and other scripts, are not touched by the
// end of a script.
func TestSession_EndsWhatItsScriptsLeft(t *testing.T) {
	l, err := Load(os.DirFS("ours/first-steps"))
	require.NoError(t, err)
	dir := t.TempDir()
	for _, folder := range writable {
		require.NoError(t, os.Mkdir(filepath.Join(dir, folder), 0o700))
	}
	p := &Player{Session: &Session{Lesson: l, dir: dir}, end: func() {}, remove: func() error { return nil }}
	out, _, err := p.run(t.Context(), "", leave+"sleep 0.2", time.Minute, true)
	require.NoError(t, err)
	shell := exec.Command("sleep", "1000") //nolint:noctx // ended below
	shell.Env = append(os.Environ(), p.Variables()...)
	require.NoError(t, shell.Start())
	defer func() { require.Error(t, shell.Wait()) }()
	defer func() { require.NoError(t, shell.Process.Kill()) }()
	_, _, err = p.run(t.Context(), "", "true", time.Minute, false)
	require.NoError(t, err)
	require.Len(t, marked(markOf(dir)), 1)
	require.NoError(t, p.Close())
	gone(t, strings.TrimSpace(out))
	require.Len(t, marked(EnvSession+"="+dir), 1)
}

// Undo ends what runs beside the lesson also in a session of its own, and starts it again,
// once; what another script has left goes on.
func TestUndo_ServedInASessionOfItsOwn(t *testing.T) {
	files := fstest.MapFS{}
	for name, text := range map[string]string{
		"index.json":  `{"title": "T", "details": {"intro": {"background": "setup.sh"}, "steps": [{"title": "S", "verify": "verify.sh"}]}}`,
		"lesson.json": `{"schema": 1, "serve": "serve.sh", "steps": [{}]}`,
		"setup.sh":    "echo here > made\n" + leave, "serve.sh": "setsid sleep 1000 > /dev/null 2>&1 & echo $! > served\nsleep 0.2\n", "verify.sh": "true\n",
	} {
		files[name] = &fstest.MapFile{Data: []byte(text)}
	}
	l, err := Load(files)
	require.NoError(t, err)
	p, err := Begin(t.Context(), l, Options{Program: "hsmemu", World: emulator.System(), Limit: time.Minute})
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	served := func() string {
		t.Helper()
		pid, err := os.ReadFile(filepath.Join(p.Work(), "served"))
		require.NoError(t, err)
		return strings.TrimSpace(string(pid))
	}
	first := served()
	require.Len(t, marked(markOf(p.Dir())), 2)
	require.NoError(t, p.Undo(t.Context()))
	gone(t, first)
	require.NotEqual(t, first, served())
	require.Len(t, marked(markOf(p.Dir())), 2)
}
