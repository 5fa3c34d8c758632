package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"hsmemu/emulator"
	"hsmemu/vsmartcard"
	"hsmemu/vsmartcard/pcscd"
)

// Placement is a card on its way into a reader.
type Placement struct {
	// Name is the card's name, and Kept what keeps its states.
	Name string
	Card *emulator.Card
	Kept Kept
	// Reader is what a private reader is called; empty for what hardware with
	// this card is called.
	Reader string
	// Socket is the path of the card's control socket.
	Socket string
	// Start are the files of the start state that the card was made with by this
	// process, see package start; empty for others.
	Start []string
	// Release gives the card back when it is out of its reader; nil for nothing.
	Release func() error
}

// card is the card that is about to be put into a reader.
func (p Placement) card() *Card {
	c := New(p.Name, p.Card, p.Kept)
	c.start = p.Start
	return c
}

// Places are cards on their way into readers, in the order of these.
type Places []Placement

// Release gives all of them back.
func (p Places) Release() error {
	var err error
	for _, place := range p {
		if place.Release != nil {
			err = errors.Join(err, place.Release())
		}
	}
	return err
}

// Private is a private PC/SC daemon with running cards in its readers.
type Private struct {
	// Cards are the cards in the order of the readers, which are called Names.
	Cards []*Card
	Names []string

	daemon *pcscd.Daemon
	places Places
	cancel context.CancelFunc
	waits  []func()
}

// Start serves a private daemon at a listener with cards in its readers and their
// control sockets open. It owns the listener and the cards, also where it fails. at is
// where the listener is, for people.
func Start(ctx context.Context, l net.Listener, at string, places Places) (*Private, error) {
	ctx, cancel := context.WithCancel(ctx)
	p := &Private{daemon: pcscd.Run(l), places: places, cancel: cancel}
	for i, place := range places {
		if err := p.put(ctx, at, i, place); err != nil {
			return nil, errors.Join(fmt.Errorf("run card %q: %w", place.Name, err), p.Close())
		}
	}
	return p, nil
}

func (p *Private) put(ctx context.Context, at string, i int, place Placement) error {
	c := place.card()
	about := pcscd.NitrokeyHSM(c.Card.TokenSerial(), i)
	if place.Reader != "" {
		about.Name = place.Reader
	}
	reader, err := p.daemon.Add(about)
	if err != nil {
		return err
	}
	c.Reader = &privateReader{reader, port{c}, at}
	if err := reader.Insert(port{c}); err != nil {
		return err
	}
	wait, err := c.Serve(ctx, place.Socket)
	if err != nil {
		return err
	}
	p.waits = append(p.waits, wait)
	p.Cards, p.Names = append(p.Cards, c), append(p.Names, about.Name)
	return nil
}

// SetFaults sets faults on cards, each a name and its settings with blanks between them,
// as in "remove after=3". Error: emulator.ErrFault.
func SetFaults(cards []*Card, faults []string) error {
	for _, c := range cards {
		for _, text := range faults {
			name, settings := "", strings.Fields(text)
			if len(settings) > 0 {
				name, settings = settings[0], settings[1:]
			}
			if err := c.Faults.Set(name, settings); err != nil {
				return err
			}
		}
	}
	return nil
}

// Close ends the daemon, which takes the cards out, and the control sockets, and gives
// the cards back.
func (p *Private) Close() error {
	p.cancel()
	err := p.daemon.Close()
	for _, wait := range p.waits {
		wait()
	}
	return errors.Join(err, p.places.Release())
}

// privateReader is a reader of a private daemon.
type privateReader struct {
	reader *pcscd.Reader
	card   vsmartcard.Card
	at     string
}

// Eject takes the card out, if it is in.
func (r *privateReader) Eject(context.Context) error { return unless(r.reader.Eject(), pcscd.ErrEmpty) }

// Insert puts the card in, if it is out.
func (r *privateReader) Insert(context.Context) error {
	return unless(r.reader.Insert(r.card), pcscd.ErrOccupied)
}

// unless is the error if it is not that one.
func unless(err, that error) error {
	if errors.Is(err, that) {
		return nil
	}
	return err
}

// Reset resets the card, as its clients are told.
func (r *privateReader) Reset() error { return r.reader.Reset() }

// Name is what clients call it.
func (r *privateReader) Name() string { return r.reader.Name() }

// Place says where the card is.
func (r *privateReader) Place() string { return "private daemon " + r.at }

// Turn keeps the reader's clients from the card.
func (r *privateReader) Turn(ctx context.Context) (Turn, error) { return r.reader.Turn(ctx) }

// Bridged is a running card in a virtual reader of the system's PC/SC daemon.
type Bridged struct {
	*Card
	bridge *vsmartcard.Bridge
	at     string
	wait   func()
}

// Connect is how a bridge finds its reader: vsmartcard.Dial or vsmartcard.Listen.
type Connect func(ctx context.Context, address string, card vsmartcard.Card) (*vsmartcard.Bridge, error)

// Slots are the addresses of the first n slots of a vpcd, of which base is the first
// one's. Errors: those of [vsmartcard.Slot].
func Slots(base string, n int) (list []string, err error) {
	for i := range n {
		address, err := vsmartcard.Slot(base, i)
		if err != nil {
			return nil, err
		}
		list = append(list, address)
	}
	return list, nil
}

// StartBridged connects a card to the virtual reader at an address, and opens
// its control socket.
func StartBridged(ctx context.Context, connect Connect, address string, place Placement) (*Bridged, error) {
	b := &Bridged{Card: place.card(), at: address}
	var err error
	if b.bridge, err = connect(ctx, address, port{b.Card}); err != nil {
		return nil, fmt.Errorf("run card %q: %w", place.Name, err)
	}
	b.Reader = bridgedReader{b}
	if b.wait, err = b.Serve(ctx, place.Socket); err != nil {
		return nil, errors.Join(fmt.Errorf("run card %q: %w", place.Name, err), b.bridge.Close())
	}
	return b, nil
}

// Run keeps the card in its reader until the context ends.
func (b *Bridged) Run(ctx context.Context) error { return b.bridge.Run(ctx) }

// Ready waits until the reader has taken the card.
func (b *Bridged) Ready(ctx context.Context) error { return b.bridge.Ready(ctx) }

// Close takes the card out for good, after the end of the context that it was
// started with.
func (b *Bridged) Close() error {
	b.wait()
	return b.bridge.Close()
}

type bridgedReader struct{ *Bridged }

// Eject takes the card out.
func (r bridgedReader) Eject(ctx context.Context) error { return r.bridge.Eject(ctx) }

// Insert puts the card in.
func (r bridgedReader) Insert(ctx context.Context) error { return r.bridge.Insert(ctx) }

// Reset resets the card; clients notice at their next command.
func (r bridgedReader) Reset() error { return r.Card.Card.Reset() }

// Name is not known: the system's daemon made it up.
func (bridgedReader) Name() string { return "" }

// Place says where the card is.
func (r bridgedReader) Place() string { return "vpcd " + r.at }

// Turn waits for nobody: whose turn it is, the system's daemon knows and does
// not tell.
func (bridgedReader) Turn(context.Context) (Turn, error) { return nobodys{}, nil }

// nobodys is a turn that keeps nobody from the card.
type nobodys struct{}

// Power leaves the card as it is: the system's daemon sees to its power.
func (nobodys) Power() error { return nil }

// Tell has nobody to tell.
func (nobodys) Tell() {}

// End ends nothing.
func (nobodys) End() {}
