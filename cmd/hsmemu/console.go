package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/spf13/cobra"

	"hsmemu/cmd/hsmemu/commandline"
	"hsmemu/emulator/console"
	"hsmemu/emulator/control"
	"hsmemu/emulator/lesson"
	"hsmemu/emulator/statedir"
	"hsmemu/emulator/web"
)

// consoleFlags say whether the cards are shown on a page, and to whom.
type consoleFlags struct {
	at   string
	open bool

	results bool // of a class are taken
}

// usualConsole is where the page is if nothing else is said: any free port.
const usualConsole = "localhost:0"

func (f *consoleFlags) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.at, "console", "", "show the cards live on a page for a browser, or with =`HOST:PORT` there; its address is printed")
	cmd.Flags().Lookup("console").NoOptDefVal = usualConsole
	cmd.Flags().BoolVar(&f.open, "console-open", false, "let other machines reach the console, too; whoever sees its traffic can use it")
}

// live is the page about running cards; nil is none.
type live struct {
	app      *app
	out      io.Writer // where its addresses go
	listener net.Listener
	options  console.Options // what else is on the page
	page     *console.Console
	end      context.CancelFunc
	ended    chan error // has what Serve returns; nil before
}

// listenForBrowsers is web.Listen for a command that has a flag for its exposure.
func listenForBrowsers(ctx context.Context, at string, e web.Exposure, flag string) (net.Listener, error) {
	l, err := web.Listen(ctx, at, e)
	if errors.Is(err, web.ErrExposed) {
		err = commandline.Hint(err, "--"+flag+" lets other machines reach it, and their users read what crosses the network")
	}
	return l, err
}

// byAddress is how other machines reach what listens at every address of this one.
const byAddress = "open the same with an address of this one in its place"

// elsewhere tells that what is printed for a listener is for this machine.
func (a *app) elsewhere(way string) {
	fmt.Fprintf(a.err, "hsmemu: 127.0.0.1 is this machine itself; from other machines %s\n", way)
}

// openConsole listens for browsers, if that is asked for. Who is shown follows later. Error:
// also web.ErrExposed.
func (a *app) openConsole(ctx context.Context, f consoleFlags, out io.Writer) (*live, error) {
	if f.at == "" {
		if f.open || f.results {
			return nil, commandline.Usage(errors.New("--console-open and --console-results go with --console"))
		}
		return nil, nil
	}
	exposure := web.ThisMachine
	if f.open {
		exposure = web.Anybody
	}
	l, err := listenForBrowsers(ctx, f.at, exposure, "console-open")
	if err != nil {
		return nil, err
	}
	shown := &live{app: a, out: out, listener: l}
	if f.results {
		shown.options.Results = lesson.NewClass(classSize, a.outside.Clock)
	}
	return shown, nil
}

// beside has a lesson's session on the page, before it is shown.
func (l *live) beside(session string) *live {
	if l != nil {
		l.options.Lesson = session
	}
	return l
}

// files has snapshots of the state folder on the page, before it is shown.
func (l *live) files() *live {
	if l != nil {
		l.options.Kept, l.options.Read = l.app.tags, l.app.keptMoment
	}
	return l
}

// tags are those of the readable snapshots of a card in the state folder.
func (a *app) tags(card string) ([]string, error) {
	d, err := a.cards()
	if err != nil {
		return nil, err
	}
	return d.Tags(card)
}

// keptMoment is the state of a snapshot. Nobody is asked for a passphrase: a browser waits.
func (a *app) keptMoment(card, tag string) (control.Moment, error) {
	d, err := a.cards()
	if err != nil {
		return control.Moment{}, err
	}
	state, err := d.ReadSnapshotUnasked(card, tag, a.options())
	if errors.Is(err, statedir.ErrSealedOtherwise) {
		err = fmt.Errorf("%w: hsmemu card restore %s %s", err, card, tag)
	}
	return control.MomentOf(state), err
}

// show serves the page about cards from here on, and prints its addresses.
func (l *live) show(ctx context.Context, cards []*control.Card) error {
	if l == nil {
		return nil
	}
	world := l.app.outside
	o := l.options
	o.Log = slog.New(voice{out: l.app.err})
	o.Rand, o.Clock = rand.Reader, world.Clock
	o.Make = func(situation string) (control.Moment, error) { return control.MomentLike(world, situation) }
	page, err := console.New(cards, o)
	if err != nil {
		return err
	}
	l.page = page
	// The page ends with Close, after the readers: what it holds back then does not reach
	// a card that can answer nobody.
	ctx, l.end = context.WithCancel(context.WithoutCancel(ctx))
	l.ended = make(chan error, 1)
	go func() { l.ended <- page.Serve(ctx, l.listener) }()
	fmt.Fprintf(l.out, "console %s\nclass %s\n", page.Address(l.listener), page.ClassAddress(l.listener))
	if l.options.Results != nil {
		fmt.Fprintf(l.out, "report %s\n", page.ReportAddress(l.listener))
	}
	if _, elsewhere := web.At(l.listener); elsewhere {
		l.app.elsewhere(byAddress)
	}
	return nil
}

// letGoTime is how long the end of the cards waits for programs whose commands were held.
const letGoTime = 5 * time.Second

// letGo lets commands go that are held back, before their readers end.
func (l *live) letGo(ctx context.Context) {
	if l == nil || l.page == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), letGoTime)
	defer cancel()
	l.page.LetGo(ctx)
}

// Close ends the page.
func (l *live) Close() error {
	switch {
	case l == nil:
		return nil
	case l.ended == nil:
		return l.listener.Close()
	}
	l.end()
	return <-l.ended
}
