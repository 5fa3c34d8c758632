//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestManual runs the commands that the documentation shows and compares their
// output with the output it shows. In a block marked console, a line that begins with "$ " is a
// command for the shell, lines that begin with ">" go on with it, and the lines
// up to the next command are all that it prints, on both its outputs. Three dots
// stand for any text in a line, and in a line of their own for any lines. A command
// may fail where the document shows its complaint as the last thing it says. What
// a command of ours prints with --json has to fit docs/hsmemu.schema.json.
//
// A document is played in one shell, from its first command to its last, or in several
// at the same time where a comment in it parts them; each is in an empty folder in which
// docs leads to the documentation. The address of vpcd in
// it is replaced by that of readers of our own, and ADDRESS by the repository's.
func TestManual(t *testing.T) {
	t.Parallel()
	docs, err := filepath.Abs("../../docs")
	require.NoError(t, err)
	pages, err := filepath.Glob(filepath.Join(docs, "*.md"))
	require.NoError(t, err)
	played, pictures := 0, 0
	for _, page := range append(pages, filepath.Join(docs, "..", "README.md"), filepath.Join(docs, "..", "CONTRIBUTING.md")) {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		above := 0 // lines
		for part := range strings.SplitSeq(string(text), anotherShell) {
			steps, err := readManual(strings.Repeat("\n", above) + part)
			require.NoError(t, err, page)
			above += strings.Count(part, "\n")
			if len(steps) == 0 || filepath.Base(page) == "portal.md" { // which TestPortalManual plays
				continue
			}
			played++
			end := func(*testing.T, string) {}
			if traced, whole := shareSequence.traced(steps); whole {
				pictures++
				steps, end = traced, func(t *testing.T, dir string) { shareSequence.compare(t, string(text), shareSequence.told(t, dir)) }
			}
			t.Run(fmt.Sprintf("%s:%d", filepath.Base(page), steps[0].line), func(t *testing.T) {
				t.Parallel()
				err := playManual(t, docs, steps, end)
				for again := 0; again < 3 && errors.Is(err, errZerosLost); again++ {
					t.Log("once more: ", err)
					err = playManual(t, docs, steps, end)
				}
				require.NoError(t, err)
			})
		}
	}
	require.GreaterOrEqual(t, played, 2)
	require.Equal(t, 1, pictures, "plays that "+shareSequence.file+" is drawn from")
}

// anotherShell parts a page where what follows needs nothing from before.
const anotherShell = "<!-- another shell -->"

// usualVPCD is where Debian's vpcd waits for a card.
const usualVPCD = "localhost:35963"

// errZerosLost is a defect of sc-hsm-tool up to 0.26: it forgets zeros at the
// beginning of a password that it puts together, which one in 128 has.
var errZerosLost = errors.New("sc-hsm-tool may have lost zeros of a password")

// instruction is a command of a document and what it prints.
type instruction struct {
	line    int
	command string
	prints  []string
}

var errManual = errors.New("manual")

func readManual(text string) ([]instruction, error) {
	var all []instruction
	inside, typing := false, false
	for i, line := range strings.Split(text, "\n") {
		last := len(all) - 1
		command, isCommand := strings.CutPrefix(line, "$ ")
		more, goesOn := strings.CutPrefix(line, ">")
		more = strings.TrimPrefix(more, " ")
		switch {
		case !inside:
			inside, typing = line == "```console", false
		case line == "```":
			inside = false
		case isCommand:
			all = append(all, instruction{line: i + 1, command: command})
			typing = true
		case last < 0:
			return nil, fmt.Errorf("%w: line %d: an answer before the first command", errManual, i+1)
		case typing && goesOn:
			all[last].command += "\n" + more
		default:
			all[last].prints = append(all[last].prints, line)
			typing = false
		}
	}
	return all, nil
}

// mayFail reports whether the document shows the command's complaint.
func (i instruction) mayFail() bool {
	return len(i.prints) > 0 && i.prints[len(i.prints)-1] != "..."
}

// pattern is what the command's output has to match.
func (i instruction) pattern() *regexp.Regexp {
	var b strings.Builder
	for _, line := range i.prints {
		if line == "..." {
			b.WriteString(`(?:.*\n)*?`)
			continue
		}
		b.WriteString(strings.ReplaceAll(regexp.QuoteMeta(strings.TrimRight(line, " ")), `\.\.\.`, `.*`) + `\n`)
	}
	return regexp.MustCompile(`^` + b.String() + `$`)
}

// check compares what the command has done with what the document says.
func (i instruction) check(said string, code int) error {
	var lines []string
	for _, line := range strings.Split(strings.TrimRight(said, "\n"), "\n") {
		lines = append(lines, strings.TrimRight(line, " \r"))
	}
	have := strings.Join(lines, "\n") + "\n"
	if have == "\n" {
		have = ""
	}
	if i.pattern().MatchString(have) && (code == 0 || i.mayFail()) {
		return nil
	}
	err := fmt.Errorf("%w: line %d: %s\nexit code %d, and it prints:\n%s\ninstead of:\n%s",
		errManual, i.line, i.command, code, have, strings.Join(i.prints, "\n"))
	if strings.Contains(i.command, "--pwd-shares-total") && strings.Contains(have, "Password correct ?") {
		err = errors.Join(errZerosLost, err)
	}
	return err
}

// playManual plays steps in a new shell, and calls end with its folder if all went well.
func playManual(t *testing.T, docs string, steps []instruction, end func(*testing.T, string)) (err error) {
	t.Helper()
	p, err := newPlay(t, docs, steps)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	for _, i := range steps {
		if err := p.play(i); err != nil {
			return err
		}
	}
	end(t, p.shell.cmd.Dir)
	return nil
}

// play is a document that is being played.
type play struct {
	shell  *shell
	shapes *outputs
	// typed is what the shell is given for what the document says, and shown the other way round.
	typed, shown []string
	readers      *readers
}

// newPlay starts the shell of a document. Further variables of its environment win.
func newPlay(t *testing.T, docs string, steps []instruction, further ...string) (p *play, err error) {
	t.Helper()
	dir := t.TempDir()
	// A socket in it is for other users, too.
	for _, folder := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(folder, 0o711); err != nil {
			return nil, err
		}
	}
	if err := os.Symlink(docs, filepath.Join(dir, "docs")); err != nil {
		return nil, err
	}
	p = &play{typed: []string{"git clone ADDRESS ", "git clone " + filepath.Dir(docs) + " "}}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	if p.shapes, err = readOutputs(); err != nil {
		return p, err
	}
	env := append(os.Environ(), "HSMEMU_STATE="+filepath.Join(dir, ".state"), "HOME="+dir, "GORACE=atexit_sleep_ms=10")
	// Modules and what is compiled are the user's: in a home of its own, go would
	// fetch and compile all anew, into folders that only root can remove.
	for _, name := range []string{"GOENV", "GOCACHE", "GOMODCACHE"} {
		value, err := exec.Command("go", "env", name).Output()
		if err != nil {
			return p, err
		}
		env = append(env, name+"="+strings.TrimSpace(string(value)))
	}
	// The repository may be another user's, as in a container.
	env = append(env, "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*")
	if slices.ContainsFunc(steps, func(i instruction) bool { return strings.Contains(i.command, usualVPCD) }) {
		if p.readers, err = newReaders(4, false); err != nil {
			return p, err
		}
		if err := p.readers.start(); err != nil {
			return p, err
		}
		env = append(env, p.readers.env()...)
		p.calls(usualVPCD, p.readers.address())
	}
	p.shell, err = newShell(dir, append(env, further...))
	return p, err
}

// calls has a document's address stand for another one.
func (p *play) calls(document, address string) {
	p.typed, p.shown = append(p.typed, document, address), append(p.shown, address, document)
}

func (p *play) close() (err error) {
	if p.shell != nil {
		err = p.shell.close()
	}
	if p.readers != nil {
		err = errors.Join(err, p.readers.close())
	}
	return err
}

// play plays a step.
func (p *play) play(i instruction) error {
	said, code, err := p.shell.run(strings.NewReplacer(p.typed...).Replace(i.command))
	if err != nil {
		return fmt.Errorf("line %d: %s: %w; it said: %s", i.line, i.command, err, said)
	}
	if err := i.check(strings.NewReplacer(p.shown...).Replace(said), code); err != nil {
		return err
	}
	if name := printsJSON(i.command); name != "" && !strings.Contains(i.command, " > ") {
		if err := p.shapes.check(definition(name), said); err != nil {
			return fmt.Errorf("line %d: %s: %w", i.line, i.command, err)
		}
	}
	return nil
}

// shell is a bash that is given commands one by one. They find nothing on their
// standard input.
type shell struct {
	cmd *exec.Cmd
	in  *os.File
	out *bufio.Reader
}

// shellMark is what the shell prints after a command; the output of none has it.
const shellMark = "\x01ended"

// shellPatience is for commands that open a share, on a loaded machine.
const shellPatience = 10 * patience

func newShell(dir string, env []string) (*shell, error) {
	script, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer script.Close()
	cmd := exec.Command("bash", "--noprofile", "--norc", "/dev/fd/3")
	cmd.Dir, cmd.Env, cmd.ExtraFiles = dir, env, []*os.File{script}
	// What the document leaves running goes with the shell.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, errors.Join(err, in.Close())
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, in.Close())
	}
	return &shell{cmd: cmd, in: in, out: bufio.NewReader(out)}, nil
}

func (s *shell) kill() { _ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) }

func (s *shell) close() error {
	err := s.in.Close()
	s.kill()
	_ = s.cmd.Wait() // killed
	return err
}

// run types a command and returns all that comes until it has ended.
func (s *shell) run(command string) (said string, code int, err error) {
	late := time.AfterFunc(shellPatience, s.kill)
	defer late.Stop()
	if _, err := fmt.Fprintf(s.in, "%s\nprintf '\\n\\001ended %%d\\n' $?\n", command); err != nil {
		return "", 0, err
	}
	var b strings.Builder
	for {
		line, err := s.out.ReadString('\n')
		if n, ok := strings.CutPrefix(line, shellMark); ok && err == nil {
			_, err = fmt.Sscan(n, &code)
			return b.String(), code, err
		}
		b.WriteString(line)
		if errors.Is(err, io.EOF) {
			return b.String(), 0, errPatience
		}
		if err != nil {
			return b.String(), 0, err
		}
	}
}

func TestManual_IsReadAsItIsMeant(t *testing.T) {
	t.Parallel()
	text := "Text.\n```console\n$ echo one\none\n$ cat <<.\n> two\n>\n> .\ntwo\n\n> two\n...\n```\n$ no command\n```\n$ neither\n```\n```console\n$ true\n```\n"
	all, err := readManual(text)
	require.NoError(t, err)
	require.Equal(t, []instruction{
		{3, "echo one", []string{"one"}},
		{5, "cat <<.\ntwo\n\n.", []string{"two", "", "> two", "..."}},
		{19, "true", nil},
	}, all)
	_, err = readManual("```console\none\n```\n")
	require.ErrorIs(t, err, errManual)
}

func TestManual_AcceptsWhatItShows(t *testing.T) {
	t.Parallel()
	lines := func(l ...string) []string { return l }
	for _, c := range []struct {
		prints []string
		said   string
		code   int
		ok     bool
	}{
		{nil, "", 0, true},
		{nil, "\n", 0, true},
		{nil, "x\n", 0, false},
		{lines("x"), "x\n", 0, true},
		{lines("x"), "x", 0, true},
		{lines("x "), "x  \r\n\n", 0, true},
		{lines("x"), "y\n", 0, false},
		{lines("x.y"), "x-y\n", 0, false},
		{lines("x ... z"), "x y z\n", 0, true},
		{lines("x ... z"), "x\nz\n", 0, false},
		{lines("..."), "", 0, true},
		{lines("..."), "a\nb\n", 0, true},
		{lines("...", "x"), "a\nb\nx\n", 0, true},
		{lines("...", "x"), "a\nb\nx\ny\n", 0, false},
		{lines("a", "...", "x"), "a\nx\n", 0, true},
		{lines("x"), "x\n", 1, true},
		{lines("x", "..."), "x\ny\n", 1, false},
		{nil, "", 1, false},
	} {
		err := instruction{prints: c.prints}.check(c.said, c.code)
		require.Equal(t, c.ok, err == nil, "%+v", c)
	}
	err := instruction{command: "sc-hsm-tool --pwd-shares-total 2", prints: lines("fine")}.check("Password correct ?\n", 1)
	require.ErrorIs(t, err, errZerosLost)
}

func TestManual_ShellGoesOn(t *testing.T) {
	t.Parallel()
	s, err := newShell(t.TempDir(), os.Environ())
	require.NoError(t, err)
	defer func() { require.NoError(t, s.close()) }()
	for _, c := range []struct {
		command, said string
		code          int
	}{
		{"x=1; echo $x >&2", "1\n\n", 0},
		{"printf %s $x; false", "1\n", 1},
		{"cat", "\n", 0},
		{"sleep 1000 & echo $((x + 1))", "2\n\n", 0},
		{"kill $!", "\n", 0},
		{"cat <<.\ntext\n.", "text\n\n", 0},
	} {
		said, code, err := s.run(c.command)
		require.NoError(t, err)
		require.Equal(t, c.said, said, c.command)
		require.Equal(t, c.code, code, c.command)
	}
	_, _, err = s.run("exit 3")
	require.ErrorIs(t, err, errPatience)
}
