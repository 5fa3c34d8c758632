package console

import (
	"context"
	"slices"
	"sync"
	"time"

	"hsmemu/emulator/view"
)

// holding is which commands are held back before the card sees them.
type holding string

const (
	holdNothing holding = ""
	holdPINs    holding = "pin" // those that can cost a try
	holdAll     holding = "all" // all but those that only read
)

// holds reports whether a command is one of them.
func (h holding) holds(e view.Event) bool {
	return h == holdAll && !e.Reads() || h == holdPINs && e.AboutPIN()
}

// holdTime is how long a command is held at most, unless Options say otherwise. Programs wait longer for a card that
// makes an RSA key, so they do not give up.
const holdTime = 15 * time.Second

// gate holds commands back until somebody lets them go.
type gate struct {
	changed func() // is called when something waits or waits no more; not under the lock
	clock   func() time.Time
	limit   time.Duration

	mu      sync.Mutex
	what    holding
	waiting []*waiter // the first one is shown
	open    bool      // for good: the console ends
}

// waiter is a command that waits.
type waiter struct {
	Event view.Event
	Until time.Time
	goes  chan struct{}
}

// Comes holds a command back, if it is one of those that are held.
func (g *gate) Comes(ctx context.Context, coming func() view.Event) {
	g.mu.Lock()
	if g.open || g.what == holdNothing {
		g.mu.Unlock()
		return
	}
	e := coming()
	if !g.what.holds(e) {
		g.mu.Unlock()
		return
	}
	w := &waiter{e, g.clock().Add(g.limit), make(chan struct{})}
	g.waiting = append(g.waiting, w)
	g.mu.Unlock()
	g.changed()
	limit := time.NewTimer(g.limit)
	defer limit.Stop()
	select {
	case <-w.goes:
	case <-limit.C:
	case <-ctx.Done():
	}
	g.mu.Lock()
	g.letGo(func(one *waiter) bool { return one == w })
	g.mu.Unlock()
	g.changed()
}

// letGo lets those go that are meant, under the lock: from then on they do not wait.
func (g *gate) letGo(meant func(*waiter) bool) {
	g.waiting = slices.DeleteFunc(g.waiting, func(w *waiter) bool {
		if !meant(w) {
			return false
		}
		close(w.goes)
		return true
	})
}

// Holds reports whether a command waits.
func (g *gate) Holds() bool {
	_, waits := g.now()
	return waits != nil
}

// hold says what is held from now on. What waits and is not held any more goes.
func (g *gate) hold(what holding) {
	g.mu.Lock()
	g.what = what
	g.letGo(func(w *waiter) bool { return !what.holds(w.Event) })
	g.mu.Unlock()
	g.changed()
}

// release lets the first command go that waits, and reports whether there was one.
func (g *gate) release() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiting) == 0 {
		return false
	}
	first := g.waiting[0]
	g.letGo(func(w *waiter) bool { return w == first })
	return true
}

// end lets everything go, and holds nothing any more. It reports whether something waited.
func (g *gate) end() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = true
	waited := len(g.waiting) > 0
	g.letGo(func(*waiter) bool { return true })
	return waited
}

// now is what is held, and the command that waits; nil for none.
func (g *gate) now() (holding, *waiter) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiting) == 0 {
		return g.what, nil
	}
	return g.what, g.waiting[0]
}

// questions are what a class is asked before a command is let go, by the header of the
// command with X for any digit. The first that fits is taken.
var questions = []struct{ header, asks string }{
	{"XX20XX81", "What will the counter of the user PIN show?"},
	{"XX20XX88", "What will the counter of the SO-PIN show?"},
	{"XX2CXX81", "What will the counter of the SO-PIN show, and what that of the user PIN?"},
	{"XX50XXXX", "What will the counter of the SO-PIN show, and what will be left on the card?"},
	{"XX24XXXX", "Who will be logged in afterwards?"},
	{"XX46XXXX", "What will be on the card afterwards that is not there now?"},
	{"XXE4XXXX", "What will be gone, and what will stay?"},
	{"XX72XXXX", "What is needed to bring this key to another card?"},
	{"XX74XXXX", "Which key encryption key does the card need for this?"},
	{"XXXXXXXX", "What will the card answer?"},
}

// question is what a class is asked about a command.
func question(e view.Event) string {
	for _, q := range questions {
		if meant(e, q.header) {
			return q.asks
		}
	}
	return questions[len(questions)-1].asks
}
