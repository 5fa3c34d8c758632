// Package console is a live page about the cards that this process runs, for
// trainers and their classes: what state a card is in and what comes next, its
// counters, its keys, and every command byte by byte. A trainer can take a card out,
// let it fail, bring it back to the start or one of many moments since, and hold a command back before
// the card sees it. A class sees the same and can change nothing.
//
//	c, err := console.New(running, console.Options{Rand: rand.Reader, Clock: time.Now})
//	l, err := web.Listen(ctx, "localhost:0", web.ThisMachine)
//	fmt.Println(c.Address(l), c.ClassAddress(l))
//	err = c.Serve(ctx, l)
//
// It knows a card through packages control and view alone: no file and no key, and
// of commands only what is no secret. A lesson that goes on beside the cards is shown and judged
// as in its shell.
package console

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hsmemu/emulator/control"
	"hsmemu/emulator/lesson"
	"hsmemu/emulator/web"
)

// Options are what a console needs. Rand and Clock are needed.
type Options struct {
	// Rand is where tokens come from, and Clock the time.
	Rand  io.Reader
	Clock func() time.Time
	// Make makes a card in a stated situation, as in "so=7 user=2"; nil makes none.
	Make func(situation string) (control.Moment, error)
	// Lesson is the folder of a lesson's session that goes on beside the cards; empty for none.
	Lesson string
	// Results are those of a class, which students' lessons post to ReportAddress and trainers
	// see on a page; nil takes none.
	Results *lesson.Class
	// Kept are tags of snapshots of a card that are kept in files, and Read reads one; nil
	// for none.
	Kept func(card string) ([]string, error)
	Read func(card, tag string) (control.Moment, error)
	// Log hears when browsers are turned away; nil keeps silent.
	Log *slog.Logger
	// Hold is how long a command is held back at most; 0 for the 15 seconds that the page tells.
	Hold time.Duration
	// Names are names of this machine besides localhost, see web.Guard.
	Names []string
}

// Console is the page about some cards.
type Console struct {
	options        Options
	cards          []*card
	staff, class   web.Feed
	shown          atomic.Int64 // when a page was, in nanoseconds since 1970
	trainer, pupil token
	results        token // for posting results
	rules          *rules
	templates      *template.Template
	wake           chan struct{} // something changed that is no event
	desk           *desk         // nil without a lesson
}

// Intervals.
const (
	// tellTime is how often listeners are told what happened.
	tellTime = 20 * time.Millisecond
	// drawTime is how often what a card is like is drawn again at most.
	drawTime = 80 * time.Millisecond
	// resultsTime is how often the results of a class are told at most.
	resultsTime = 500 * time.Millisecond
	// aboutToListen is how long a browser may take from a page to its events.
	aboutToListen = 30 * time.Second
)

// New is a console for cards that run, which follows them from here on, until Serve
// ends. Errors: Rand's, control.ErrBusy for a card that has a console.
func New(cards []*control.Card, o Options) (*Console, error) {
	c := &Console{options: o, wake: make(chan struct{}, 1)}
	var err error
	if c.rules, err = readRules(); err != nil {
		return nil, err
	}
	if c.templates, err = parse(c.rules.link); err != nil {
		return nil, fmt.Errorf("read the pages: %w", err)
	}
	for _, t := range []*token{&c.trainer, &c.pupil, &c.results} {
		if *t, err = newToken(o.Rand); err != nil {
			return nil, fmt.Errorf("make a token: %w", err)
		}
	}
	if o.Lesson != "" {
		if c.desk, err = c.at(o.Lesson); err != nil {
			return nil, err
		}
	}
	for _, running := range cards {
		one, err := c.follow(running)
		if err != nil {
			c.end()
			return nil, fmt.Errorf("follow card %q: %w", running.Name, err)
		}
		c.cards = append(c.cards, one)
	}
	return c, nil
}

// end lets every command go and the cards alone.
func (c *Console) end() {
	for _, one := range c.cards {
		one.gate.end()
		one.tap.Close()
	}
}

// LetGo lets every command go that is held back, holds nothing any more, and waits until the
// programs that had sent one have ended their transactions, so that they have its answer; as
// long as the context at most. It is for the time before readers end that know transactions.
func (c *Console) LetGo(ctx context.Context) {
	var waited []*card
	for _, one := range c.cards {
		if one.gate.end() {
			waited = append(waited, one)
		}
	}
	for _, one := range waited {
		_ = one.running.Settle(ctx) // a program that goes on is not waited for
	}
}

// Address is what a trainer opens, and ClassAddress what students do. Whoever has the
// first can do everything.
func (c *Console) Address(l net.Listener) string { return address(l, c.trainer) }

// ClassAddress is the address for those who may look and not touch.
func (c *Console) ClassAddress(l net.Listener) string { return address(l, c.pupil) }

// ReportAddress is where students' lessons post their results, which it is good for alone.
func (c *Console) ReportAddress(l net.Listener) string {
	at, _ := web.At(l)
	return "http://" + at + reportPath + string(c.results)
}

func address(l net.Listener, t token) string {
	at, _ := web.At(l)
	return "http://" + at + "/?token=" + string(t)
}

// Serve serves the page at a listener, which it owns, until the context ends. When it
// ends, commands that are held back go.
func (c *Console) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var telling sync.WaitGroup
	telling.Go(func() { c.tell(ctx) })
	if c.options.Results != nil {
		telling.Go(func() { c.tellResults(ctx) })
	}
	if c.desk != nil {
		telling.Go(func() { c.desk.follow(ctx) })
	}
	defer telling.Wait()
	defer cancel()
	// Held commands go before the page does.
	defer c.end()
	stop := context.AfterFunc(ctx, func() {
		for _, one := range c.cards {
			one.gate.end()
		}
	})
	defer stop()
	return web.Server{Handler: c.Handler(), Log: c.options.Log}.Serve(ctx, l)
}

// Handler is the pages of the console.
func (c *Console) Handler() http.Handler {
	return web.Guard{Names: c.options.Names}.Around(c.signedIn(c.pages()))
}

// tell tells listeners what happens, until the context ends.
func (c *Console) tell(ctx context.Context) {
	tick := time.NewTicker(tellTime)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-c.wake:
		case <-ctx.Done():
			return
		}
		for _, one := range c.cards {
			one.update()
		}
	}
}

// changed has the cards drawn again.
func (c *Console) changed() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// heard reports whether somebody listens, or has a page and is about to.
func (c *Console) heard() bool {
	return c.staff.Listeners()+c.class.Listeners() > 0 || c.options.Clock().Sub(time.Unix(0, c.shown.Load())) < aboutToListen
}

// card finds a card by its name.
func (c *Console) card(name string) (*card, bool) {
	i := slices.IndexFunc(c.cards, func(one *card) bool { return one.running.Name == name })
	if i < 0 {
		return nil, false
	}
	return c.cards[i], true
}

// token is a secret that stands in an address, 32 hexadecimal digits.
type token string

func newToken(rand io.Reader) (token, error) {
	var b [16]byte
	if _, err := io.ReadFull(rand, b[:]); err != nil {
		return "", err
	}
	return token(hex.EncodeToString(b[:])), nil
}

// is reports whether somebody has it, in a time that tells nothing about it.
func (t token) is(said string) bool {
	a, b := sha256.Sum256([]byte(t)), sha256.Sum256([]byte(said))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// role is who asks.
type role int

const (
	nobody role = iota
	student
	trainer
)

type roleKey struct{}

func roleOf(r *http.Request) role {
	who, _ := r.Context().Value(roleKey{}).(role)
	return who
}

func (c *Console) roleBy(said string) role {
	is, may := c.trainer.is(said), c.pupil.is(said)
	switch {
	case is:
		return trainer
	case may:
		return student
	}
	return nobody
}

// cookie is the name of the cookie. Browsers keep those of all ports of a machine
// together, so it has the port.
func cookie(r *http.Request) string {
	if _, port, err := net.SplitHostPort(r.Host); err == nil {
		return "hsmemu-console-" + port
	}
	return "hsmemu-console"
}

var (
	errNoToken = errors.New("open the address that the program printed at its start: it has a token in it")
	errLooking = errors.New("this browser has opened the address for the class, which is for looking only; open the trainer's again to change something")
)

// reportPath is where results are posted, with their token behind it.
const reportPath = "/report/"

// signedIn lets those in who have a token: with the address at first, from which it is moved into a
// cookie, so that it is in no link and no page. The browser's history has the address all the same.
func (c *Console) signedIn(pages http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/style.css" || r.URL.Path == "/console.css" || strings.HasPrefix(r.URL.Path, reportPath) {
			pages.ServeHTTP(w, r)
			return
		}
		if said := r.URL.Query().Get("token"); said != "" && r.Method == http.MethodGet {
			if c.roleBy(said) == nobody {
				c.fail(w, r, http.StatusForbidden, errNoToken)
				return
			}
			http.SetCookie(w, &http.Cookie{Name: cookie(r), Value: said, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
			// No redirect: after a link on another site the browser would not send the cookie.
			c.show(w, r, "enter", http.StatusOK, nil)
			return
		}
		who := nobody
		if k, err := r.Cookie(cookie(r)); err == nil {
			who = c.roleBy(k.Value)
		}
		switch {
		case who == nobody:
			c.fail(w, r, http.StatusUnauthorized, errNoToken)
		case who == student && r.Method != http.MethodGet && r.Method != http.MethodHead:
			c.fail(w, r, http.StatusForbidden, errLooking)
		default:
			pages.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), roleKey{}, who)))
		}
	})
}
