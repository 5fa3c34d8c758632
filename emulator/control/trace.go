package control

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"io"
	"iter"
	"sync"
	"time"

	"hsmemu/emulator/view"
)

// Trace writes what happens to cards from here on, until end is called, which returns
// when everything is written that had happened by then. What could not be written is
// an error of end and does not disturb the cards.
func Trace(out io.Writer, writer func(io.Writer) view.Writer, cards ...*Card) (end func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	batches := Follow(ctx, cards...)
	ended := make(chan error, 1)
	go func() { ended <- write(batches, len(cards) > 1, writer, out) }()
	return func() error {
		cancel()
		return <-ended
	}
}

// Trace writes what happens to the card from here on, as [Client.Watch] has it, until
// the context or the process that runs the card ends. writer is called when the card is
// followed. It ends, too, when something could not be written. Errors: ErrBusy, those of
// writer, and what could not be written.
func (c *Client) Trace(ctx context.Context, w io.Writer, writer func(io.Writer) (view.Writer, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events, err := c.Watch(ctx)
	if err != nil {
		return err
	}
	out := Gather(w, cancel)
	to, err := writer(out)
	if err != nil {
		return err
	}
	for e, failed := range events {
		if err = failed; err == nil {
			err = to.Event("", e)
		}
		if err != nil {
			break
		}
	}
	for _, failed := range []error{to.End(), out.Flush()} {
		switch {
		case err == nil:
			err = failed
		case !errors.Is(err, failed): // a writer that has failed says so again at each call
			err = errors.Join(err, failed)
		}
	}
	return err
}

// write writes events in batches. It goes through all of them, whatever becomes of
// what it writes.
func write(batches iter.Seq[[]Told], named bool, writer func(io.Writer) view.Writer, w io.Writer) error {
	out := bufio.NewWriter(w)
	to := writer(out)
	var failed error
	for batch := range batches {
		for _, e := range batch {
			if !named {
				e.Card = ""
			}
			failed = cmp.Or(failed, to.Event(e.Card, e.Event))
		}
		failed = cmp.Or(failed, out.Flush())
	}
	return cmp.Or(failed, to.End(), out.Flush())
}

// gatherTime is how long a Gathering waits for more.
const gatherTime = 5 * time.Millisecond

// Gathering writes what comes within a moment at once: the events of [Client.Watch]
// come in batches, and one call of the system for each would take as much time as a
// command.
type Gathering struct {
	mu    sync.Mutex
	out   *bufio.Writer
	armed bool // Flush will be called
	lost  func()
}

// Gather is a Gathering for a writer. lost is called when something could not be written
// while nobody waited for it: the next Write and Flush have the error.
func Gather(w io.Writer, lost func()) *Gathering {
	return &Gathering{out: bufio.NewWriter(w), lost: lost}
}

// Write takes a part. The error is that of an earlier one.
func (g *Gathering) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.armed {
		g.armed = true
		time.AfterFunc(gatherTime, func() {
			if g.Flush() != nil {
				g.lost()
			}
		})
	}
	return g.out.Write(p)
}

// Flush writes all that is left.
func (g *Gathering) Flush() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.armed = false
	return g.out.Flush()
}
