//go:build linux

package lesson_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator"
	"hsmemu/emulator/lesson"
)

// program is where the tests of this package have hsmemu, which built builds.
var program string

var built = sync.OnceValues(func() ([]byte, error) {
	return exec.Command("go", "build", "-o", program, "../../cmd/hsmemu").CombinedOutput()
})

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "lesson")
	if err != nil {
		panic(err)
	}
	program = filepath.Join(dir, "hsmemu")
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// proves plays a lesson as those who write it do.
func proves(t *testing.T, l *lesson.Lesson, limit time.Duration) error {
	t.Helper()
	said, err := built()
	require.NoError(t, err, "%s", said)
	return lesson.Prove(t.Context(), l, lesson.Options{Program: program, World: emulator.System(), Limit: limit})
}

// writeLesson writes a lesson of one step with a card.
func writeLesson(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	all := map[string]string{
		"index.json":  `{"title": "T", "details": {"intro": {"background": "setup.sh"}, "steps": [{"title": "S", "text": "text.md", "verify": "verify.sh"}]}}`,
		"lesson.json": `{"schema": 1, "cards": ["lab"], "steps": [{"hints": "hints.md", "solution": "solution.sh"}]}`,
		"setup.sh":    "hsmemu card new lab\n", "text.md": "Text.\n", "hints.md": "## 1\n\n```\nsc-hsm-tool\n```\n\n## 2\n\nb\n\n## 3\n\nc\n",
		"verify.sh":   "hsmemu lesson expect --card lab state=operational\n",
		"solution.sh": "sc-hsm-tool --initialize --so-pin 3537363231383830 --pin 648219\n",
	}
	for name, text := range files {
		all[name] = text
	}
	for name, text := range all {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return dir
}

// Prove finds what a lesson is not to be, and says where.
func TestProve(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, file, text, want string }{
		{"solved at once", "verify.sh", "true\n", "verify.sh: step 1 is solved before anything was done"},
		{"solution fails", "solution.sh", "false\n", "solution.sh: exit code 1"},
		{"solution does not solve it", "solution.sh", "true\n", "verify.sh: the solution does not solve step 1: hsmemu: card \"lab\": state is uninitialised, and not operational"},
		{"hint fails", "hints.md", "## 1\n\n```\nfalse\n```\n\n## 2\n\nb\n\n## 3\n\nc\n", "hints.md:4: step 1, hint 1: false: exit code 1"},
		{"text fails", "text.md", "Type `exit 4`{{exec}}.\n", "text.md:1: step 1, text: exit 4: exit code 4"},
		{"verify does not work", "verify.sh", "nosuchprogram\n", "verify.sh: the script does not work: exit code 127: verify.sh: "},
		{"verify is about nothing", "verify.sh", "hsmemu lesson expect --card lab stat=operational\n", "verify.sh: the script does not work: exit code 2"},
		{"verify hangs", "verify.sh", "sleep 1000\n", "verify.sh: it did not end within its time, 2s"},
		{"verify leaves its folder", "verify.sh", "true\ncd ../.. && ls\n", "verify.sh:2: \"../..\" leads out of the lesson's folder"},
		{"setup fails", "setup.sh", "exit 9\n", "setup.sh: the script does not work: exit code 9"},
		{"a card that was not made", "setup.sh", "true\n", "lesson.json: card \"lab\": setup.sh makes none of that name"},
		{"verify prints without end", "verify.sh", "yes\n", "verify.sh: it printed more than 16 MB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l, err := lesson.Named(writeLesson(t, map[string]string{c.file: c.text}))
			if err == nil {
				limit := time.Minute // slow machines are none of its faults
				if c.name == "verify hangs" {
					limit = 2 * time.Second // of which its setup may take ten
				}
				err = proves(t, l, limit)
			}
			require.Error(t, err)
			var all []string
			for _, one := range lesson.Wrong(err) {
				require.ErrorAs(t, one, new(*lesson.Problem))
				all = append(all, one.Error())
			}
			require.Len(t, all, 1, "one mistake is told once")
			require.Contains(t, all[0], c.want)
		})
	}
}

// A lesson is proven also where it cannot be written down that it is; one that others are to find does not begin.
func TestProve_NowhereToAnnounce(t *testing.T) {
	t.Parallel()
	l, err := lesson.Named(writeLesson(t, map[string]string{
		"index.json":  `{"title": "T", "details": {"steps": [{"title": "S", "text": "text.md", "verify": "verify.sh"}]}}`,
		"lesson.json": `{"schema": 1, "steps": [{"hints": "hints.md", "solution": "solution.sh"}]}`,
		"hints.md":    "## 1\n\na\n\n## 2\n\nb\n\n## 3\n\nc\n", "verify.sh": "test -e done\n", "solution.sh": "touch done\n",
	}))
	require.NoError(t, err)
	o := lesson.Options{Program: "hsmemu", World: emulator.System(), Announced: filepath.Join(t.TempDir(), "none")}
	require.NoError(t, lesson.Prove(t.Context(), l, o))
	_, err = lesson.Begin(t.Context(), l, o)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// A lesson is one of ours by its name, or else the folder of that name.
func TestNamed(t *testing.T) {
	t.Parallel()
	l, err := lesson.Named("first-steps")
	require.NoError(t, err)
	require.NotEmpty(t, l.Steps)
	l, err = lesson.Named(writeLesson(t, nil))
	require.NoError(t, err)
	require.Equal(t, "T", l.Title)
	_, err = lesson.Named("first-step")
	require.ErrorIs(t, err, lesson.ErrNoLesson)
	require.EqualError(t, err, `lesson "first-step": there is no such lesson, and no such folder; did you mean "first-steps"?`)
	_, err = lesson.Named("/nowhere/at/all")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// Watching judges again when something happens to a card, and ends when the step is solved.
func TestWatch(t *testing.T) {
	t.Parallel()
	said, err := built()
	require.NoError(t, err, "%s", said)
	l, err := lesson.Named(writeLesson(t, nil))
	require.NoError(t, err)
	p, err := lesson.Begin(t.Context(), l, lesson.Options{Program: program, World: emulator.System()})
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var verdicts []bool
	require.NoError(t, p.Watch(ctx, func(v lesson.Verdict) {
		if verdicts = append(verdicts, v.Solved); len(verdicts) == 1 {
			initialise := exec.Command("sc-hsm-tool", "--initialize", "--so-pin", "3537363231383830", "--pin", "648219")
			initialise.Env = append(os.Environ(), p.Variables()...)
			go func() { _ = initialise.Run() }()
		}
	}))
	require.GreaterOrEqual(t, len(verdicts), 2)
	require.False(t, verdicts[0])
	require.True(t, verdicts[len(verdicts)-1])

	require.NoError(t, p.Reset(ctx))
	require.ErrorIs(t, p.Watch(ctx, func(lesson.Verdict) { cancel() }), context.Canceled)
}

// Watch ends with the session: when it is closed, when the process that has its cards is gone
// without a word, and when its files go while a script judges.
func TestWatch_SessionEnds(t *testing.T) {
	t.Parallel()
	said, err := built()
	require.NoError(t, err, "%s", said)
	l, err := lesson.Named(writeLesson(t, map[string]string{"verify.sh": `test ! -e "$HSMEMU_LESSON/tmp/missing" || exit 2; exit 1` + "\n"}))
	require.NoError(t, err)
	for name, end := range map[string]func(t *testing.T, p *lesson.Player){
		"closed": func(t *testing.T, p *lesson.Player) { require.NoError(t, p.Close()) },
		"killed": func(t *testing.T, p *lesson.Player) {
			for _, v := range p.Variables() {
				if socket, is := strings.CutPrefix(v, "PCSCLITE_CSOCK_NAME="); is {
					require.NoError(t, os.Remove(socket))
				}
			}
		},
		"about to end": func(t *testing.T, p *lesson.Player) {
			require.NoError(t, os.WriteFile(filepath.Join(p.Dir(), "tmp", "missing"), nil, 0o600))
			require.NoError(t, os.WriteFile(filepath.Join(p.Dir(), "events", "x"), nil, 0o600))
			require.NoError(t, os.Remove(filepath.Join(p.Dir(), "session.json")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := lesson.Begin(t.Context(), l, lesson.Options{Program: program, World: emulator.System()})
			require.NoError(t, err)
			s, err := lesson.Join(p.Dir())
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			ended := false
			require.ErrorIs(t, s.Watch(ctx, func(lesson.Verdict) {
				if !ended {
					end(t, p)
				}
				ended = true
			}), lesson.ErrNoSession)
			if name != "closed" {
				_ = p.Close() // what was removed cannot be removed again
			}
		})
	}
}

func TestFindings(t *testing.T) {
	t.Parallel()
	one, many := &lesson.Lesson{Steps: make([]lesson.Step, 1)}, &lesson.Lesson{Steps: make([]lesson.Step, 3)}
	wrong := errors.Join(&lesson.Problem{File: "a.sh", Line: 2, What: "exit code 1: no\nsuch\x1b[2J card\n"}, errors.New("no room"))
	for _, c := range []struct {
		name string
		of   *lesson.Lesson
		err  error
		want []string
	}{
		{"mine", one, nil, []string{"mine: 1 step holds"}},
		{"mine/", many, nil, []string{"mine/: 3 steps hold"}},
		{"mi\nne", one, nil, []string{`"mi\nne": 1 step holds`}},
		{"mine/", one, wrong, []string{"mine/a.sh:2: exit code 1: no", "  such\ufffd[2J card", "mine/: no room"}},
		{"gone", nil, errors.New("x"), []string{"gone: x"}},
	} {
		require.Equal(t, c.want, lesson.Findings(c.name, c.of, c.err))
	}
}
