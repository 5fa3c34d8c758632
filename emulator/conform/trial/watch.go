package trial

import (
	"context"
	"sync"
	"time"

	"hsmemu/emulator"
	"hsmemu/emulator/conform"
	"hsmemu/emulator/control"
)

// watch sees what a program does to cards.
type watch struct {
	own     *control.Card
	happens conform.Happening
	run     *conform.Run
	start   time.Time

	mu sync.Mutex // of the run
	// struck tells that the card is being reset, and reset that it was.
	struck, reset bool
	// over tells that the program has ended, and with it what is done to the card.
	over  context.CancelFunc
	stops []func()
	ended sync.WaitGroup
}

// watchBuffer is how many events a watch may lag behind.
const watchBuffer = 1 << 14

// begin watches cards from here on.
func (w *watch) begin(cards []*control.Card) {
	var playing context.Context
	playing, w.over = context.WithCancel(context.Background())
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
				w.see(playing, card, e)
			}
		})
	}
}

// end returns when everything has been seen. The program has ended.
func (w *watch) end() {
	w.over()
	for _, stop := range w.stops {
		stop()
	}
	w.ended.Wait()
}

func counterFor(c emulator.Counter) conform.Counter {
	return conform.Counter{Known: c.Max > 0, Left: int(c.Left)}
}

func (w *watch) see(playing context.Context, card *control.Card, e emulator.Event) {
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
		w.strike(playing)
	}
}

// strike resets the card as another client does: when it is its turn, however long that
// takes. A program that has the card for itself to its end is not disturbed.
func (w *watch) strike(playing context.Context) {
	turn, err := w.own.Reader.Turn(playing)
	if err != nil {
		return
	}
	defer turn.End()
	if w.own.Card.Reset() == nil {
		turn.Tell()
	}
}
