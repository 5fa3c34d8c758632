package lesson

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"hsmemu/emulator"
	"hsmemu/emulator/program"
	"hsmemu/emulator/statedir"
	"hsmemu/emulator/store"
	"hsmemu/keystore/seal"
	"hsmemu/vsmartcard/pcscd"
)

// EnvSession is the variable that names the folder of a session to what runs in it,
// and EnvEvents that of the folder with the events of its cards: a file NAME.jsonl
// for each, JSON of a view.Event in each line. EnvShell names one of several shells in a
// session, see Look.
const (
	EnvSession = "HSMEMU_LESSON"
	EnvEvents  = "HSMEMU_EVENTS"
	EnvShell   = "HSMEMU_LESSON_SHELL"
)

// DefaultLimit is how long a verify script may take; scripts that do the work may
// take ten times as long.
const DefaultLimit = 30 * time.Second

// Options are how a session is begun.
type Options struct {
	// Program is the path of hsmemu, which scripts find on their PATH.
	Program string
	// World is what the cards have around them.
	World emulator.World
	// Limit is how long a verify script may take; 0 is DefaultLimit.
	Limit time.Duration
	// Student and Report are who works through the lesson and the URL that results
	// are posted to; without a URL none are.
	Student, Report string
	// Announced is the folder in which is written down where the session is, so that Find finds
	// it from another terminal, and what is left of it where this process is killed; empty for
	// none.
	Announced string

	proof bool // it is Prove's, which nobody joins
}

// Check says whether results can be posted, so that nobody waits for a lesson to begin in
// order to read that. Errors: ErrStudent, ErrReport.
func (o Options) Check() error {
	if o.Report == "" {
		return nil
	}
	if u, err := url.Parse(o.Report); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return ErrReport
	}
	if !printable(o.Student, longestName) {
		return ErrStudent
	}
	return nil
}

// A Session is somebody's way through a lesson, kept in a folder of its own, in
// which several processes of the same user may act in turn.
type Session struct {
	// Lesson is what is being worked through.
	Lesson *Lesson

	dir      string
	cards    *statedir.Dir
	facts    facts
	progress progress
	kept     time.Time // when the progress was written that it has
	clock    func() time.Time
	shell    string // that acts, see actsAs
}

// facts are what stays as it is as long as a session goes on. They are in factsFile.
type facts struct {
	Socket  string // of the private daemon; empty without cards in readers
	Limit   time.Duration
	Student string
	Report  string
}

// progress is how far a session is. It is in progressFile.
type progress struct {
	Step   int    // from 0; as many as there are steps at the end
	Hints  int    // shown of this step
	Tries  int    // checks of this step
	Solved bool   // this step was found solved
	By     string // the shell that has made this step the present one; empty for none
}

// ErrNoSession says that a folder has no session.
var ErrNoSession = errors.New("no lesson is going on here")

// ErrProgress says that it cannot be read how far a session is; Reset mends that.
var ErrProgress = errors.New("how far it is cannot be read")

// Join takes up the session in a folder. Errors: ErrNoSession, also where the process that
// has its cards was killed, and ErrProgress, with a session for Reset alone.
func Join(dir string) (*Session, error) {
	s := &Session{dir: dir, clock: emulator.System().Clock}
	text, err := os.ReadFile(s.path(factsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoSession
	} else if err == nil {
		err = json.Unmarshal(text, &s.facts)
	}
	if err != nil {
		return nil, s.failed(err)
	}
	if s.over() {
		return nil, ErrNoSession
	}
	if s.Lesson, err = Load(os.DirFS(s.path("lesson"))); err != nil {
		return nil, s.failed(err)
	}
	if s.cards, err = statedir.Open(s.path("state"), unsealed()); err != nil {
		return nil, s.failed(err)
	}
	if err := s.readProgress(); err != nil {
		return s, err
	}
	return s, nil
}

// over reports whether the session has ended since it was joined, or the process that has its
// cards was killed.
func (s *Session) over() bool {
	_, err := os.Lstat(s.path(factsFile))
	return errors.Is(err, fs.ErrNotExist) || s.facts.Socket != "" && !answers(s.facts.Socket)
}

// failed says which session an error is about: there may be several.
func (s *Session) failed(err error) error { return fmt.Errorf("the lesson in %s: %w", s.dir, err) }

// answers reports whether a process listens at a socket.
func answers(socket string) bool {
	conn, err := net.DialTimeout("unix", socket, time.Second)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ECONNREFUSED)
	}
	_ = conn.Close() // nothing was said
	return true
}

// errIrregular says that a script has put something else in the place of a file.
var errIrregular = errors.New("it is no file any more")

// within does something in one of the folders that scripts write into. Links that they have
// put there do not lead out of it: whoever acts for them here is not confined as they are.
func (s *Session) within(folder string, do func(*os.Root) error) error {
	root, err := os.OpenRoot(s.path(folder))
	if err != nil {
		return err
	}
	return errors.Join(do(root), root.Close())
}

// read reads a file in one of the folders that scripts write into. Error: errIrregular.
func (s *Session) read(folder, name string) (text []byte, err error) {
	err = s.within(folder, func(root *os.Root) error {
		info, err := root.Lstat(name)
		if err == nil && !info.Mode().IsRegular() { // reading a pipe would wait
			err = &fs.PathError{Op: "read", Path: s.path(folder, name), Err: errIrregular}
		}
		if err != nil {
			return err
		}
		text, err = root.ReadFile(name)
		return err
	})
	return text, err
}

// write writes into a file in one of the folders that scripts write into, with flags of
// package os besides; what is there and is no file is removed.
func (s *Session) write(folder, name, text string, flags int) error {
	return s.within(folder, func(root *os.Root) error {
		if info, err := root.Lstat(name); err == nil && !info.Mode().IsRegular() {
			if err := root.RemoveAll(name); err != nil {
				return err
			}
		}
		f, err := root.OpenFile(name, os.O_CREATE|os.O_WRONLY|flags, 0o600)
		if err != nil {
			return err
		}
		_, err = f.WriteString(text)
		return errors.Join(err, f.Close())
	})
}

// readProgress reads the progress. Error: ErrProgress.
func (s *Session) readProgress() error {
	at := s.written()
	text, err := s.read(course, progressFile)
	var p progress
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	if err != nil {
		return s.failed(fmt.Errorf("%w: %w", ErrProgress, err))
	}
	p.Step, p.Hints = min(max(p.Step, 0), len(s.Lesson.Steps)), max(p.Hints, 0)
	s.progress, s.kept = p, at
	return nil
}

// turnPause is the time between two attempts to change the session while somebody else does.
const turnPause = 10 * time.Millisecond

// turn waits until nobody else changes the session, in this process or another one, and keeps
// the others from it until over is called.
func (s *Session) turn(ctx context.Context) (over func() error, err error) {
	again := time.NewTicker(turnPause)
	defer again.Stop()
	for {
		held, err := store.Lock(s.path(course, turnFile))
		if err == nil {
			return held.Close, nil
		} else if !errors.Is(err, store.ErrLocked) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-again.C:
		}
	}
}

// inTurn changes the session while nobody else does, if the present step is still that which it
// is about. Error: ErrGoneOn.
func (s *Session) inTurn(ctx context.Context, do func() error) (err error) {
	over, err := s.turn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, over()) }()
	step := s.progress.Step
	if err := s.readProgress(); err != nil {
		return err
	}
	if s.progress.Step != step {
		return ErrGoneOn
	}
	return do()
}

// written is when the progress was written last; zero if it is not there.
func (s *Session) written() time.Time {
	info, err := os.Lstat(s.path(course, progressFile))
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// Stale reports whether another process has gone on with the session since this one
// joined it.
func (s *Session) Stale() bool { return !s.written().Equal(s.kept) }

func unsealed() store.Options { return store.Options{Sealers: []seal.Sealer{seal.Insecure{}}} }

func (s *Session) path(name ...string) string {
	return filepath.Join(append([]string{s.dir}, name...)...)
}

// Dir is the session's folder, and Work the one that people and scripts work in.
func (s *Session) Dir() string { return s.dir }

// Work is the folder that people and scripts work in.
func (s *Session) Work() string { return s.path("work") }

// Number is that of the present step, from 1; one more than there are at the end.
func (s *Session) Number() int { return s.progress.Step + 1 }

// Step is the present step, and nil at the end.
func (s *Session) Step() *Step {
	if s.progress.Step >= len(s.Lesson.Steps) {
		return nil
	}
	return &s.Lesson.Steps[s.progress.Step]
}

// Shell are the variables for one more of people's shells: Variables, and EnvShell. It has
// been told of the present step.
func (s *Session) Shell() ([]string, error) {
	name := rand.Text()
	other := *s
	other.actsAs(name)
	_, err := other.Look()
	return append(s.Variables(), EnvShell+"="+name), err
}

// actsAs says which shell acts, by the value of its EnvShell; empty for none, as a page, which
// everybody sees.
func (s *Session) actsAs(shell string) {
	if filepath.IsLocal(shell) && filepath.Base(shell) == shell {
		s.shell = shell
	}
}

// Look notes that the shell which acts is told of the present step, and returns the number
// of the step that it was told of last, if another shell has gone on since; otherwise Number.
func (s *Session) Look() (before int, err error) {
	if s.shell == "" {
		return s.Number(), nil
	}
	file := "told-" + s.shell
	text, err := s.read(course, file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	before, err = strconv.Atoi(string(text))
	if by := s.progress.By; err != nil || by == "" || by == s.shell {
		before = s.Number()
	}
	return before, s.write(course, file, strconv.Itoa(s.Number()), os.O_TRUNC)
}

// Variables are what people's shells and scripts get besides their own.
func (s *Session) Variables() []string {
	vars := []string{
		"PATH=" + s.path("bin") + string(os.PathListSeparator) + os.Getenv("PATH"),
		"HSMEMU_STATE=" + s.path("state"), EnvSession + "=" + s.dir, EnvEvents + "=" + s.path("events"),
	}
	if s.facts.Socket != "" {
		vars = append(vars, pcscd.EnvSocket+"="+s.facts.Socket)
	}
	return vars
}

// run runs a script of the lesson, or commands as if they were one.
func (s *Session) run(ctx context.Context, path, commands string, limit time.Duration, lasting bool) (string, int, error) {
	text := commands
	if path != "" {
		path = s.path("lesson", filepath.FromSlash(path))
		b, err := os.ReadFile(path)
		if err != nil {
			return "", 0, err
		}
		text = string(b)
	} else {
		path = s.path("commands.sh")
		if err := os.WriteFile(path, []byte("set -e\n"+commands+"\n"), 0o600); err != nil {
			return "", 0, err
		}
	}
	out, code, group, err := s.start(ctx, path, text, rand.Text(), limit, lasting)
	if group != 0 {
		err = errors.Join(err, s.write(course, groups, fmt.Sprintln(group), os.O_APPEND))
	}
	// A shell names its script by the path; people know it by that in the lesson's folder.
	return strings.ReplaceAll(out, s.path("lesson")+string(filepath.Separator), ""), code, err
}

// start starts a script whose processes are marked with a name.
func (s *Session) start(ctx context.Context, path, text, name string, limit time.Duration, lasting bool) (out string, code, group int, err error) {
	one := script{
		shell: shellOf(text), path: path, dir: s.Work(), limit: limit, lasting: lasting, mark: markOf(s.dir) + name + ".",
		temporary: os.TempDir(), // as near to the root as can be: the paths of sockets are short
	}
	if program.Confines() {
		one.temporary = s.path(temporary)
	}
	one.env = append([]string{"HOME=" + s.Work(), "TMPDIR=" + one.temporary, "LC_ALL=C"}, s.Variables()...)
	for _, folder := range writable {
		one.writable = append(one.writable, s.path(folder))
	}
	return one.run(ctx)
}

// Folders of a session: writable are those that scripts write beneath, themselves or by the
// commands of this program that they use; the others are the lesson, and the programs that
// people's shells find.
const (
	temporary = "tmp"
	course    = "course"
)

var writable = []string{"work", "state", "events", "undo", temporary, course}

// factsFile has the facts of a session. It is in the session's folder, where scripts cannot
// write, as long as others can join it.
const factsFile = "session.json"

// Files of what goes on, in the folder course: groups has the process groups of what may be in
// the background, and serving that of what Lesson.Serve started last.
const (
	progressFile = "progress.json"
	turnFile     = "turn" // is locked by who changes the session
	groups       = "groups"
	serving      = "serving"
)

// served marks what Lesson.Serve has started.
const served = "serve"

// serve ends what runs beside the lesson, has between put files back, and starts it again.
func (s *Session) serve(ctx context.Context, between func() error) error {
	if s.Lesson.Serve == "" {
		return between()
	}
	text, err := s.read(course, serving)
	if group, bad := strconv.Atoi(string(text)); err == nil && bad == nil && group > 1 {
		endGroup(group)
		killMarked(markOf(s.dir) + served + ".") // what has left the group
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := between(); err != nil {
		return err
	}
	path := s.path("lesson", filepath.FromSlash(s.Lesson.Serve))
	if text, err = os.ReadFile(path); err != nil {
		return err
	}
	out, code, group, err := s.start(ctx, path, string(text), served, 10*s.facts.Limit, true)
	if err == nil && code != 0 {
		err = fmt.Errorf("%w: exit code %d: %s", ErrScript, code, out)
	}
	if err != nil {
		if group != 0 {
			killGroup(group)
		}
		return &Problem{File: s.Lesson.Serve, What: err.Error()}
	}
	return s.write(course, serving, strconv.Itoa(group), os.O_TRUNC)
}

// Solved reports whether the present step was found solved.
func (s *Session) Solved() bool { return s.progress.Solved }

// Result is how it stands with the present step, for Post.
func (s *Session) Result() Result {
	return Result{
		Schema: 1, Student: s.facts.Student, Lesson: s.Lesson.Title, Step: s.Number(), Steps: len(s.Lesson.Steps),
		Solved: s.progress.Solved, Hints: s.progress.Hints, Tries: s.progress.Tries,
	}
}

// Hint is the next hint for the present step and how many follow it; after the last
// one it comes again. It is empty where there are none. Error: ErrGoneOn.
func (s *Session) Hint(ctx context.Context) (hint string, more int, err error) {
	step := s.Step()
	if step == nil || len(step.Hints) == 0 {
		return "", 0, nil
	}
	err = s.inTurn(ctx, func() error {
		i := min(s.progress.Hints, len(step.Hints)-1)
		s.progress.Hints = i + 1
		hint, more = step.Hints[i], len(step.Hints)-i-1
		return s.keep()
	})
	return hint, more, err
}

// Shown are the hints of the present step that were asked for, and how many are left.
func (s *Session) Shown() (shown []string, more int) {
	step := s.Step()
	if step == nil {
		return nil, 0
	}
	n := min(max(s.progress.Hints, 0), len(step.Hints))
	return step.Hints[:n], len(step.Hints) - n
}

// Next goes on to the next step, whether this one is solved or not. Error: ErrGoneOn.
func (s *Session) Next(ctx context.Context) error {
	return s.inTurn(ctx, func() error {
		if s.Step() != nil {
			s.progress.Step++
		}
		return s.begin()
	})
}
