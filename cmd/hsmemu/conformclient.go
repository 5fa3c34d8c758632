package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"hsmemu/applet"
	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/conform"
	"hsmemu/emulator/control"
	"hsmemu/emulator/statedir"
	"hsmemu/emulator/view"
	"hsmemu/pinstate"
	"hsmemu/vsmartcard/pcscd"
)

// audition is a program on its way to be judged.
type audition struct {
	conformance // of which it has the report and the firmware
	situations  string
	limit       time.Duration
	args        []string
	// unstarted is why the program could not be started, and stop ends the run then.
	unstarted error
	stop      context.CancelFunc
}

func newConformClientCommand(a *app) *cobra.Command {
	c := audition{conformance: conformance{app: a}}
	cmd := &cobra.Command{
		Use:   "client [flags] -- PROGRAM [ARG]...",
		Short: "judge a program in situations of lockout",
		Long: "Runs a program once in each situation, with throw-away cards in a private PC/SC daemon, as `hsmemu exec` does,\n" +
			"and judges it by what the cards see of it, and by its exit code: whether it spends tries that it should not,\n" +
			"repeats a PIN that was refused, claims success, or hangs. The program should log in with the user PIN and do\n" +
			"something that takes a login, as to sign with the key 01 (secp256r1) that is on each card.\n\n" +
			"It finds in its environment: HSMEMU_PIN, the user PIN; HSMEMU_SO_PIN, the SO-PIN in hexadecimal digits;\n" +
			"HSMEMU_READER, the name of the reader with the card that they are meant for; HSMEMU_SITUATION, the name of the\n" +
			"situation. In some situations the PINs are wrong; each run has PINs of its own. It has no input and no terminal;\n" +
			"what it prints goes to standard error. Exit code 0 says that situations were judged, and nothing is broken, 127\n" +
			"that there is no such program, and 126 that it cannot be run.",
		Args: func(cmd *cobra.Command, args []string) error {
			if c.list && len(args) > 0 {
				return usageError{errors.New("--list plays no situation, so it takes no program")}
			}
			if c.list {
				return nil
			}
			return oneOrMore(cmd, args)
		},
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			c.args = args
			return c.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.StringVar(&c.situations, "situations", "", "play the situations whose names match this `REGEX`")
	f.BoolVar(&c.list, "list", false, "list the situations and play none")
	f.StringVar(&c.firmware, "firmware", "", "firmware of the cards: "+firmwareList())
	f.StringVar(&c.report, "report", "text", "form of the report: "+strings.Join(conform.Formats(), ", "))
	f.StringVar(&c.output, "output", "", "write the report into this `FILE`")
	f.DurationVar(&c.limit, "timeout", 30*time.Second, "how long the program may take in a situation, with all that it has started")
	return cmd
}

func (c *audition) run(ctx context.Context) error {
	all := conform.Situations()
	o := conform.Audition{Program: version(), Clock: c.outside.Clock}
	var err error
	switch {
	case !slices.Contains(conform.Formats(), c.report):
		return usageError{fmt.Errorf("--report %q: it is one of %s", c.report, strings.Join(conform.Formats(), ", "))}
	case c.limit <= 0:
		return usageError{errors.New("--timeout is more than no time")}
	case c.situations != "":
		if o.Only, err = regexp.Compile(c.situations); err != nil {
			return usageError{fmt.Errorf("--situations: %w", err)}
		}
		if !slices.ContainsFunc(all, func(s conform.Situation) bool { return o.Only.MatchString(s.ID) }) {
			return usageError{fmt.Errorf("--situations %s: none is called so", c.situations)}
		}
	}
	if c.list {
		for _, s := range all {
			if o.Only != nil && !o.Only.MatchString(s.ID) {
				continue
			}
			if _, err := fmt.Fprintf(c.out, "%-14s %s\n", s.ID, s.Says); err != nil {
				return err
			}
		}
		return nil
	}
	if err := needPCSCLite("conform client", runtime.GOOS); err != nil {
		return err
	}
	if _, err := exec.LookPath(c.args[0]); err != nil {
		return c.notStarted(c.args[0], err, "")
	}
	o.Target, o.Firmware = "program "+filepath.Base(c.args[0]), cmp.Or(c.firmware, applet.DefaultFirmware)
	if _, known := applet.ProfileOf(o.Firmware); !known {
		return usageError{fmt.Errorf("--firmware %q: it is one of %s", c.firmware, firmwareList())}
	}
	if err := c.writable(); err != nil {
		return err
	}
	ctx, c.stop = context.WithCancel(ctx)
	defer c.stop()
	report, err := conform.JudgeProgram(ctx, all, c.play, o)
	if c.unstarted != nil {
		return c.notStarted(c.args[0], c.unstarted, "")
	}
	return c.tell(report, err)
}

// manufactured is a throw-away card in the words of a situation, with a key unless it
// was never initialised.
func (c *audition) manufactured(ctx context.Context, name, words string, pin, soPIN pinstate.Value) (*statedir.Card, error) {
	like, _, err := view.ParseSituation(strings.Split(words, ","))
	if err != nil {
		return nil, err
	}
	like.UserPIN, like.SOPIN = pin, soPIN
	state, err := c.outside.Manufacture(chip.Order{Firmware: c.firmware, Like: &like})
	if err != nil {
		return nil, err
	}
	card, err := statedir.Unkept(name, state, c.outside)
	if err != nil || !like.Initialised {
		return card, err
	}
	now := state.Applet.PINs
	state.Applet.PINs = full(now)
	if card, err = statedir.Unkept(name, state, c.outside); err != nil {
		return nil, err
	}
	if err := conform.Furnish(ctx, card.Card, like.UserPIN); err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	state = card.Card.Snapshot().Durable()
	state.Applet.PINs = now
	return statedir.Unkept(name, state, c.outside)
}

// full is a card of which its owner has just changed the transport PIN, or presented
// both PINs.
func full(c pinstate.Card) pinstate.Card {
	c.User.Left, c.SO.Left, c.Transport = c.User.Max, c.SO.Max, false
	return c
}

// play runs the program in a situation.
func (c *audition) play(ctx context.Context, s conform.Situation) (run conform.Run, err error) {
	secrets, err := conform.DrawSecrets(c.outside.Rand)
	if err != nil {
		return run, fmt.Errorf("draw PINs: %w", err)
	}
	l, socket, remove, err := c.socketFor(socketFlags{})
	if err != nil {
		return run, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	type maker struct {
		name, words string
		pin, soPIN  pinstate.Value
	}
	makers := []maker{{"stranger", s.Stranger, secrets.Strangers, secrets.StrangersSO}, {"card", s.Card, secrets.PIN, secrets.SOPIN}}
	if s.StrangerLast {
		slices.Reverse(makers)
	}
	var places []control.Placement
	own := 0
	for _, one := range makers {
		if one.words == "" {
			continue
		}
		card, err := c.manufactured(ctx, one.name, one.words, one.pin, one.soPIN)
		if err != nil {
			return run, errors.Join(err, l.Close())
		}
		if one.name == "card" {
			own = len(places)
		}
		places = append(places, control.Placement{
			Name: one.name, Card: card.Card, Kept: card, Socket: filepath.Join(filepath.Dir(socket), one.name+".control"),
		})
	}
	d, err := control.Start(context.WithoutCancel(ctx), l, socket, places)
	if err != nil {
		return run, err
	}
	w := watch{own: d.Cards[own], happens: s.Happens, run: &run, start: c.outside.Clock()}
	w.begin(d.Cards)
	if s.Happens == conform.Removal {
		err = w.own.Faults.Set("remove", []string{"at=pin"})
	}
	if err == nil {
		env := with(os.Environ(), pcscd.EnvSocket, socket)
		pin, soPIN := secrets.Given(s)
		for name, value := range map[string]string{
			"HSMEMU_PIN": string(pin), "HSMEMU_SO_PIN": fmt.Sprintf("%X", []byte(soPIN)),
			"HSMEMU_READER": d.Names[own], "HSMEMU_SITUATION": s.ID,
		} {
			env = with(env, name, value)
		}
		fmt.Fprintf(c.err, "hsmemu: situation %s\n", s.ID) // what the program says comes behind it
		err = c.performed(ctx, env, &run)
	}
	w.end()
	return run, errors.Join(err, d.Close())
}

// performed runs the program, and waits for all that it has started, to the end or to
// that of the time they have.
func (c *audition) performed(ctx context.Context, env []string, run *conform.Run) error {
	limited, cancel := context.WithTimeout(ctx, c.limit)
	defer cancel()
	cmd := exec.CommandContext(limited, c.args[0], c.args[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, c.err, c.err
	ownSession(cmd)
	cmd.WaitDelay = time.Second // for what it has started and left behind
	started, err := adopt()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		c.unstarted = err
		c.stop()
		return err
	}
	err = exitOf(cmd.Wait())
	over := errors.Is(limited.Err(), context.DeadlineExceeded)
	run.Limit, run.Hung = c.limit, over && err != nil
	leader := cmd.Process.Pid
	for started.alive(leader) && limited.Err() == nil {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-limited.Done():
		}
	}
	if started.alive(leader) {
		run.Behind = !run.Hung && ctx.Err() == nil
		started.end(leader)
	}
	if ended := exitError(0); errors.As(err, &ended) {
		run.Exit, err = int(ended), nil
	}
	if run.Hung || errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	return err
}

// watch sees what a program does to cards.
type watch struct {
	own     *control.Card
	happens conform.Happening
	run     *conform.Run
	start   time.Time

	mu sync.Mutex // of the run
	// struck tells that the card is being reset, and reset that it was.
	struck, reset bool
	stops         []func()
	ended         sync.WaitGroup
}

// watchBuffer is how many events a watch may lag behind.
const watchBuffer = 1 << 14

// begin watches cards from here on.
func (w *watch) begin(cards []*control.Card) {
	for _, card := range cards {
		pins := card.Card.Snapshot().Durable().Applet.PINs
		counters := conform.Counters{
			UserPIN: counterFor(emulator.Counter{Left: pins.User.Left, Max: pins.User.Max}),
			SOPIN:   counterFor(emulator.Counter{Left: pins.SO.Left, Max: pins.SO.Max}),
		}
		if card == w.own {
			w.run.Card = counters
		} else {
			w.run.Stranger = counters
		}
		events, stop := card.Card.Watch(watchBuffer)
		w.stops = append(w.stops, stop)
		w.ended.Go(func() {
			for e := range events {
				w.see(card, e)
			}
		})
	}
}

// end returns when everything has been seen.
func (w *watch) end() {
	for _, stop := range w.stops {
		stop()
	}
	w.ended.Wait()
}

func counterFor(c emulator.Counter) conform.Counter {
	return conform.Counter{Known: c.Max > 0, Left: int(c.Left)}
}

func (w *watch) see(card *control.Card, e emulator.Event) {
	own := card == w.own
	w.mu.Lock()
	w.run.Missed += e.Missed
	if own && e.Kind == emulator.CutShort {
		w.run.Happened = w.run.Happened || w.happens == conform.Removal
	}
	w.reset = w.reset || own && w.struck && e.Kind == emulator.WasReset
	strike := false
	if e.Kind == emulator.Did {
		seen := conform.Observed{
			Stranger: !own, INS: e.Header[1], P1: e.Header[2], P2: e.Header[3], Data: e.Sent > 0 && !e.Query,
			Secure: e.Secure, SW: e.SW, Words: e.String(), At: e.At.Sub(w.start),
			Counters: conform.Counters{UserPIN: counterFor(e.UserPIN), SOPIN: counterFor(e.SOPIN)},
		}
		w.run.Events = append(w.run.Events, seen)
		w.run.Happened = w.run.Happened || own && w.reset
		strike = own && w.happens == conform.Reset && !w.struck && seen.LogsIn()
		w.struck = w.struck || strike
	}
	w.mu.Unlock()
	if strike {
		w.strike()
	}
}

// strike resets the card as another client does: when it is its turn. A program that
// has the card for itself is not disturbed.
func (w *watch) strike() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	turn, err := w.own.Reader.Turn(ctx)
	if err != nil {
		return
	}
	defer turn.End()
	if w.own.Card.Reset() == nil {
		turn.Tell()
	}
}
