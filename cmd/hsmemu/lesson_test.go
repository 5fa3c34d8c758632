//go:build linux

package main

import (
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/lesson"
)

// inLesson types commands in the shell of a lesson.
func (h *home) inLesson(typed string, args ...string) string {
	h.t.Helper()
	cmd := h.command(append([]string{"lesson"}, args...)...)
	cmd.Env = append(cmd.Env, "SHELL=/bin/sh")
	cmd.Stdin = strings.NewReader(typed)
	out, err := cmd.CombinedOutput()
	require.NoError(h.t, err, "%s", out)
	return string(out)
}

func TestLesson_WorkedThrough(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	s := httptest.NewServer(lesson.NewClass(1, time.Now))
	defer s.Close()
	out := h.inLesson(`exec 2>&1
lesson next
lesson hint
for try in 1 2; do pkcs11-tool --login --pin 000000 -O > said 2>&1; done
lesson undo
ls said
hsmemu lesson expect --card lab user_pin.tries_left=3 && echo undone
for try in 1 2 3; do pkcs11-tool --login --pin 000000 -O > said 2>&1; done
lesson check
lesson next
pkcs11-tool --login --pin 648219 -O > /dev/null 2>&1
lesson next
pkcs11-tool --login --login-type so --so-pin 3537363231383830 --init-pin --new-pin 648219 > /dev/null 2>&1
lesson check --watch
lesson next
lesson
for c in check hint next ''; do lesson $c > /dev/full || echo "unwritten $c $?"; done
lesson reset
ls said
hsmemu lesson expect --card lab user_pin.tries_left=3 && echo reset
for c in undo reset; do lesson $c > /dev/full || echo "unwritten $c $?"; done
hsmemu lesson first-steps > /dev/full || echo "unwritten at all $?"
`, "blocked-pin", "--report", s.URL, "--student", "alice")
	const full = "no space left on device\n"
	for _, want := range []string{
		"Step 1 of 3: Block it", `card "lab": user_pin.state is ready, and not blocked`, "step 1 of 3, Block it: it is not solved yet", "(2 more)",
		"step 1 begins again", "cannot access 'said'", "undone\n", "step 1 of 3, Block it: solved; `lesson next` goes on", "step 1 of 3, Block it: solved\n", "Step 2 of 3", "Step 3 of 3",
		"All steps are done.", "What this would have cost on hardware:", " 1. Block it: the user PIN",
		full + "unwritten check 1\n", full + "unwritten hint 1\n", full + "unwritten next 1\n", full + "unwritten  1\n", "reset\n",
		full + "unwritten undo 1\n", full + "unwritten reset 1\n", full + "unwritten at all 1\n",
	} {
		i := strings.Index(out, want)
		require.GreaterOrEqual(t, i, 0, "%q in order in\n%s", want, out)
		out = out[i+len(want):]
	}
	require.NotContains(t, out, "the trainer was not told")
	q, err := s.Client().Get(s.URL)
	require.NoError(t, err)
	page, err := io.ReadAll(q.Body)
	require.NoError(t, err)
	require.NoError(t, q.Body.Close())
	require.Contains(t, string(page), `alice</th><td>A user PIN blocked, and unblocked</td><td><span class="solved">solved</span> (1 hint) · <span class="solved">solved</span> · <span class="solved">solved</span>`)
	left, err := filepath.Glob(filepath.Join(h.dir, "*"))
	require.NoError(t, err)
	require.Empty(t, left, "nothing of a lesson is left in the state folder")
}

// A trainer sees who has begun, who asks for hints and who has gone on, before anything is judged;
// whoever has begun sees at once that the trainer's address is wrong.
func TestLesson_Told(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	class := lesson.NewClass(2, time.Now)
	s := httptest.NewServer(class)
	defer s.Close()
	require.NotContains(t, h.inLesson("lesson hint > /dev/null\n", "blocked-pin", "--report", s.URL, "--student", "ann"), "not told")
	h.inLesson("for try in 1 2 3; do pkcs11-tool --login --pin 000000 -O > said 2>&1; done\nlesson next > /dev/null\n", "blocked-pin", "--report", s.URL, "--student", "bob")
	steps := func(of lesson.Standing) (steps []lesson.Result) {
		for _, r := range of.Steps {
			steps = append(steps, lesson.Result{Step: r.Step, Solved: r.Solved, Hints: r.Hints, Tries: r.Tries})
		}
		return steps
	}
	all := class.Standings()
	require.Len(t, all, 2)
	require.Equal(t, []lesson.Result{{Step: 1, Hints: 1}, {}, {}}, steps(all[0]))
	require.Equal(t, []lesson.Result{{Step: 1, Solved: true, Tries: 1}, {Step: 2}, {}}, steps(all[1]))
	require.Contains(t, h.inLesson("", "blocked-pin", "--report", s.URL+"/", "--student", "carol"), "the trainer was not told: 507")
}

// firstSteps begins the lesson of that name in a terminal, types a line and waits for what it
// says. What the terminal has said so far is in out.
func (h *home) firstSteps(line, says string) (terminal *exec.Cmd, keys io.WriteCloser, out *said) {
	h.t.Helper()
	terminal, out = h.command("lesson", "first-steps"), new(said)
	terminal.Env = append(terminal.Env, "SHELL=/bin/sh")
	keys, err := terminal.StdinPipe()
	require.NoError(h.t, err)
	terminal.Stdout, terminal.Stderr = out, out
	require.NoError(h.t, terminal.Start())
	_, err = io.WriteString(keys, line+"\n")
	require.NoError(h.t, err)
	require.Eventually(h.t, func() bool { return strings.Contains(out.String(), says) }, patience, 20*time.Millisecond)
	return terminal, keys, out
}

// A second terminal joins the lesson of the first, and watching notices what is done
// there.
func TestLesson_TwoTerminals(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	first, keys, out := h.firstSteps("lesson check --watch", "it has not happened")
	second := h.inLesson("sc-hsm-tool\npwd\n", "join")
	require.Contains(t, second, "never been initialized")
	require.Eventually(t, func() bool { return strings.Contains(out.String(), "solved; ") }, patience, 20*time.Millisecond)
	require.NoError(t, keys.Close())
	require.NoError(t, first.Wait(), "%s", out)
	gone, err := h.command("lesson", "check").CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(gone), "no lesson is going on here")
}

// What changes a lesson does not choose between two for a shell that is in none.
func TestLesson_TwoLessons(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	for range 2 {
		terminal, keys, out := h.firstSteps("echo begun", "\nbegun\n")
		defer func() {
			require.NoError(t, keys.Close())
			require.NoError(t, terminal.Wait(), "%s", out)
		}()
	}
	for _, what := range []string{"undo", "reset", "next", "hint"} {
		said, err := h.command("lesson", what).CombinedOutput()
		require.Error(t, err, what)
		require.Contains(t, string(said), "hsmemu: several lessons go on: ", what)
	}
	h.inLesson("lesson undo", "join")
}

// What a second person has finished is not judged again, and neither is what comes next
// without the first one knowing.
func TestLesson_TwoPeople(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	first, keys, out := h.firstSteps("echo begun", "\nbegun\n")
	second := h.inLesson("sc-hsm-tool > /dev/null\nlesson next\n", "join")
	require.Contains(t, second, "step 1 of 4, ")
	require.Contains(t, second, "Step 2 of 4: ")
	// Step 2 is solved at once: it would be gone on from, unread.
	_, err := keys.Write([]byte("exec 2>&1\nsc-hsm-tool --initialize --so-pin 3537363231383830 --pin 648219 > /dev/null\nlesson next; echo one\nlesson next; echo two\nlesson next; echo three\n"))
	require.NoError(t, err)
	require.NoError(t, keys.Close())
	require.NoError(t, first.Wait(), "%s", out)
	_, text, _ := strings.Cut(out.String(), "\nbegun\n")
	one, text, _ := strings.Cut(text, "one\n")
	require.Contains(t, one, "Somebody else has left step 1 meanwhile, so nothing was judged.\n\nStep 2 of 4: ")
	two, three, _ := strings.Cut(text, "two\n")
	require.Contains(t, two, "step 2 of 4, ")
	require.Contains(t, two, ": solved\n\nStep 3 of 4: ")
	require.Contains(t, three, "step 3 of 4, ")
	require.Contains(t, three, ": it is not solved yet")
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

// lesson check says which lessons hold, and of the others what is wrong, and where.
func TestLesson_Prove(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, file, text, want string }{
		{"it holds", "text.md", "Text.\n", ": 1 step holds"},
		{"a script says much", "verify.sh", "echo one; echo two; exit 2\n", "/verify.sh: the script does not work: exit code 2: one\n  two\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			out, err := newHome(t).command("lesson", "check", "--limit", "60s", writeLesson(t, map[string]string{c.file: c.text})).CombinedOutput()
			require.Contains(t, string(out), c.want)
			require.Equal(t, c.name != "it holds", err != nil, "%s", out)
		})
	}
}

// A folder's name is on one line, whatever is in it.
func TestLesson_ProveOddName(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	odd := filepath.Join(t.TempDir(), "one\ntwo\x1b")
	require.NoError(t, os.CopyFS(odd, os.DirFS(writeLesson(t, map[string]string{"setup.sh": "exit 1\n"}))))
	absent := filepath.Join(filepath.Dir(odd), "three\nfour")
	out, err := h.command("lesson", "check", odd, absent).CombinedOutput()
	require.Error(t, err)
	lines := strings.Split(string(out), "\n")
	require.Contains(t, lines[0], `/one\ntwo\x1b"/setup.sh: the script does not work`)
	require.Contains(t, string(out), `/three\nfour": `)
	require.NotContains(t, string(out), "\x1b")
	for _, line := range lines {
		require.False(t, strings.HasPrefix(line, "two") || strings.HasPrefix(line, "four"), "%s", out)
	}
}

// Whoever plays a lesson of others is told where nothing confines its scripts.
func TestLesson_Unconfined(t *testing.T) {
	var said strings.Builder
	a := app{err: &said}
	a.tellUnconfined(true)
	require.Empty(t, said.String())
	a.tellUnconfined(false)
	require.Equal(t, "hsmemu: nothing confines the lesson's scripts to its folder on this system, as Linux from 5.19 on does\n", said.String())
}

func TestLesson_Mistyped(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	for _, c := range []struct {
		args, want string
		code       int
	}{
		{"lesson first-step", `did you mean "first-steps"?`, exitUsage},
		{"lesson a b", "lesson takes one name", exitUsage},
		{"lesson first-steps --dir x", "one of them", exitUsage},
		{"lesson first-steps --report ftp://x", "--report: the URL of a trainer's console, as http", exitUsage},
		{"lesson check first-step", `first-step: lesson "first-step": there is no such lesson, and no such folder; did you mean "first-steps"?`, exitFailed},
		{"lesson --dir nowhere", "open the lesson", exitFailed},
		{"lesson hint", "no lesson is going on here", exitFailed},
		{"lesson expect --card lab state=x", "no such card", exitFailed},
	} {
		cmd := h.command(strings.Fields(c.args)...)
		out, err := cmd.CombinedOutput()
		require.Error(t, err)
		require.Equal(t, c.code, cmd.ProcessState.ExitCode(), "%s", out)
		require.Contains(t, string(out), c.want)
	}
}
