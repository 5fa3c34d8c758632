//go:build linux

package control_test

import (
	"context"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/control"
	"hsmemu/emulator/view"
	"hsmemu/vsmartcard/pcscd"
)

// words are the parts of a command or an answer.
func words(parts []view.Part) string {
	var all []string
	for _, p := range parts {
		all = append(all, p.Hex+" "+p.Words)
	}
	return strings.Join(all, "\n")
}

// A card is put into a situation that is said with blanks or commas.
func TestMomentLike(t *testing.T) {
	t.Parallel()
	p, _ := newPrivate(t, "alice")
	card := p.Cards[0]
	for _, said := range []string{"so=7 user=2 firmware=3.4", "so=7,user=2,\tfirmware=3.4"} {
		m, err := control.MomentLike(emulator.System(), said)
		require.NoError(t, err)
		_, err = card.Return(soon(t), m)
		require.NoError(t, err)
		v := card.Show()
		require.Equal(t, []any{7, 2, "3.4"}, []any{*v.SOPIN.TriesLeft, *v.UserPIN.TriesLeft, *v.Firmware})
	}
	for _, said := range []string{"so=99", "so", "domains=2 firmware=2.6"} {
		_, err := control.MomentLike(emulator.System(), said)
		require.Error(t, err, said)
	}
}

// A tap has commands and answers byte by byte, without a PIN, and the states that they
// left; and a card goes back to one of those.
func TestTap_SeesWhatHappens(t *testing.T) {
	t.Parallel()
	p, path := newPrivate(t, "alice")
	card := p.Cards[0]
	usual, err := emulator.System().Manufacture(chip.Order{Like: new(chip.Usual())})
	require.NoError(t, err)
	_, err = card.Return(soon(t), control.MomentOf(usual))
	require.NoError(t, err)
	before := card.Moment()
	tap, err := card.Tap(nil)
	require.NoError(t, err)
	_, err = card.Tap(nil)
	require.ErrorIs(t, err, control.ErrBusy)
	h := takeUp(t, path, "alice")
	send := func(command ...byte) {
		t.Helper()
		_, err := h.Transmit(soon(t), command)
		require.NoError(t, err)
	}
	send(0x00, 0xA4, 0x04, 0x0C, 0x0B, 0xE8, 0x2B, 0x06, 0x01, 0x04, 0x01, 0x81, 0xC3, 0x1F, 0x02, 0x01)
	send(0x00, 0x20, 0x00, 0x81)
	send(0x00, 0x20, 0x00, 0x81, 0x06, '1', '3', '5', '7', '9', '2')
	var seen []control.Seen
	for _, one := range tap.Next() {
		if one.Kind == view.Command {
			seen = append(seen, one)
		}
	}
	require.Len(t, seen, 3)
	query, try := seen[1], seen[2]
	require.Equal(t, []byte{0x00, 0x20, 0x00, 0x81}, query.Command)
	require.Nil(t, query.After, "a question changes nothing")
	require.Contains(t, words(query.AnsweredParts), "63 C3 ")
	require.Nil(t, try.Command, "a PIN is in it")
	require.NotContains(t, words(try.SentParts), "31 33 35 37 39 32")
	require.Contains(t, words(try.SentParts), "INS: VERIFY")
	require.Contains(t, words(try.AnsweredParts), "63 C2 ")
	require.NotNil(t, try.After)
	require.Equal(t, 2, *card.Show().UserPIN.TriesLeft)
	require.Empty(t, tap.Next(), "everything is told once")
	for range 2 {
		send(0x00, 0x20, 0x00, 0x81, 0x06, '1', '3', '5', '7', '9', '2')
	}
	later := tap.Next()
	require.Len(t, later, 2)
	_, err = card.Return(soon(t), *later[0].After)
	require.NoError(t, err)
	require.Equal(t, 1, *card.Show().UserPIN.TriesLeft, "as it was between the two")

	undone, err := card.Return(soon(t), before)
	require.NoError(t, err)
	require.NotEmpty(t, undone)
	require.Equal(t, 3, *card.Show().UserPIN.TriesLeft)
	tap.Close()
	again, err := card.Tap(nil)
	require.NoError(t, err, "the next one may")
	require.Empty(t, again.Next())
	again.Close()
}

// gate holds commands back as comes does.
type gate struct {
	comes func(ctx context.Context, coming func() view.Event)
	holds atomic.Bool
	late  atomic.Int32 // how often it says that it does not hold yet
}

func (g *gate) Comes(ctx context.Context, coming func() view.Event) { g.comes(ctx, coming) }
func (g *gate) Holds() bool                                         { return g.late.Add(-1) < 0 && g.holds.Load() }

// A command that is held back has not been seen by the card, and goes when it is let go, or when
// whoever holds it gives up.
func TestTap_HoldsCommandsBack(t *testing.T) {
	t.Parallel()
	p, path := newPrivate(t, "alice")
	card := p.Cards[0]
	usual, err := emulator.System().Manufacture(chip.Order{Like: new(chip.Usual())})
	require.NoError(t, err)
	_, err = card.Return(soon(t), control.MomentOf(usual))
	require.NoError(t, err)
	held, goes := make(chan view.Event, 1), make(chan struct{})
	g := &gate{comes: func(ctx context.Context, coming func() view.Event) {
		c := coming()
		if !c.AboutPIN() {
			return
		}
		held <- c
		select {
		case <-goes:
		case <-ctx.Done():
		}
	}}
	tap, err := card.Tap(g)
	require.NoError(t, err)
	defer tap.Close()
	h := takeUp(t, path, "alice")
	answered := make(chan []byte, 1)
	go func() {
		_, _ = h.Transmit(t.Context(), []byte{0x00, 0xA4, 0x04, 0x0C, 0x0B, 0xE8, 0x2B, 0x06, 0x01, 0x04, 0x01, 0x81, 0xC3, 0x1F, 0x02, 0x01})
		answer, _ := h.Transmit(t.Context(), []byte{0x00, 0x20, 0x00, 0x81, 0x06, '1', '3', '5', '7', '9', '2'})
		answered <- answer
	}()
	var c view.Event
	select {
	case c = <-held:
	case <-time.After(patience):
		t.Fatal("nothing was held")
	}
	require.Nil(t, c.SW)
	require.Equal(t, 3, *card.Show().UserPIN.TriesLeft)
	require.Empty(t, answered)
	close(goes)
	require.Equal(t, []byte{0x63, 0xC2}, <-answered)
	require.Equal(t, 2, *card.Show().UserPIN.TriesLeft)

	// When the reader goes, and nobody is there for the answer any more, the card does not
	// see the command.
	goes = make(chan struct{})
	go func() {
		answer, _ := h.Transmit(t.Context(), []byte{0x00, 0x20, 0x00, 0x81, 0x06, '1', '3', '5', '7', '9', '2'})
		answered <- answer
	}()
	<-held
	require.NoError(t, p.Close())
	require.Empty(t, <-answered)
	require.Equal(t, 2, *card.Show().UserPIN.TriesLeft)
}

// Nothing takes a card out, resets it or changes it under a command that is held back, and
// nobody waits for one: whoever holds it may be waiting for the answer. Forced, it is done.
func TestTap_NothingWaitsForWhatIsHeld(t *testing.T) {
	t.Parallel()
	p, path := newPrivate(t, "alice")
	card := p.Cards[0]
	held, goes := make(chan struct{}, 1), make(chan struct{})
	g := &gate{}
	g.comes = func(ctx context.Context, _ func() view.Event) {
		g.holds.Store(true)
		defer g.holds.Store(false)
		held <- struct{}{}
		select {
		case <-goes:
		case <-ctx.Done():
		}
	}
	tap, err := card.Tap(g)
	require.NoError(t, err)
	defer tap.Close()
	h := takeUp(t, path, "alice")
	require.NoError(t, h.Begin(soon(t)))
	answered := make(chan error, 1)
	go func() {
		_, err := h.Transmit(t.Context(), []byte{0x00, 0x20, 0x00, 0x81})
		answered <- err
	}()
	select {
	case <-held:
	case <-time.After(patience):
		t.Fatal("nothing was held")
	}
	// A context that has ended waits for no turn.
	ended, end := context.WithCancel(t.Context())
	end()
	require.ErrorIs(t, card.Eject(ended), control.ErrHeld)
	require.ErrorIs(t, card.Reset(ended), control.ErrHeld)
	_, err = card.Return(ended, card.Moment())
	require.ErrorIs(t, err, control.ErrHeld)
	one, err := control.Dial(soon(t), filepath.Join(filepath.Dir(path), "alice.sock"))
	require.NoError(t, err)
	defer func() { require.NoError(t, one.Close()) }()
	require.ErrorIs(t, one.Eject(soon(t), false), control.ErrHeld)
	require.ErrorIs(t, one.Reset(soon(t), false), control.ErrHeld)

	// One that came to be held during a wait is the reason why the wait was in vain.
	g.late.Store(1)
	require.ErrorIs(t, card.Eject(ended), control.ErrHeld)
	close(goes)
	require.NoError(t, <-answered)
	require.NoError(t, h.End(soon(t), pcscd.Leave))
	require.NoError(t, card.Eject(soon(t)))
}

// slow is a store that takes its time, until the test ends at most.
type slow struct {
	saving, goes chan struct{}
	ends         <-chan struct{}
}

func (s slow) Save(chip.Durable) error {
	for _, c := range []chan struct{}{s.saving, s.goes} {
		select {
		case c <- struct{}{}:
		case <-s.ends:
		}
	}
	return nil
}

func (slow) Counts() bool { return false }

// Each command has its own bytes, also beside others that did not come through the reader, whose
// bytes nobody has; and those before one that the card takes long for are told meanwhile.
func TestTap_GivesEachCommandItsBytes(t *testing.T) {
	t.Parallel()
	usual, err := emulator.System().Manufacture(chip.Order{Like: new(chip.Usual())})
	require.NoError(t, err)
	store := slow{make(chan struct{}), make(chan struct{}), t.Context().Done()}
	made, err := emulator.New(usual, store, emulator.System())
	require.NoError(t, err)
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	l, err := pcscd.Listen(path)
	require.NoError(t, err)
	p, err := control.Start(context.Background(), l, path, []control.Placement{{Name: "alice", Card: made, Kept: kept{}, Reader: "Reader of alice", Socket: filepath.Join(dir, "alice.sock")}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Close() })
	tap, err := p.Cards[0].Tap(nil)
	require.NoError(t, err)
	defer tap.Close()
	h := takeUp(t, path, "alice")
	named := []byte{0x00, 0xA4, 0x04, 0x0C, 0x0B, 0xE8, 0x2B, 0x06, 0x01, 0x04, 0x01, 0x81, 0xC3, 0x1F, 0x02, 0x01}
	_, err = h.Transmit(soon(t), named)
	require.NoError(t, err)
	for _, direct := range []bool{true, false, true} {
		if direct {
			_, err = made.Transmit(soon(t), []byte{0x00, 0x20, 0x00, 0x81})
		} else {
			_, err = h.Transmit(soon(t), []byte{0x00, 0x20, 0x00, 0x81})
		}
		require.NoError(t, err)
	}
	answered := make(chan error, 1)
	go func() {
		_, err := h.Transmit(t.Context(), []byte{0x00, 0x20, 0x00, 0x81, 0x06, '1', '3', '5', '7', '9', '2'})
		answered <- err
	}()
	<-store.saving
	known := func() (list []bool) {
		for _, one := range tap.Next() {
			if one.Kind == view.Command {
				list = append(list, len(one.SentParts) > 0)
			}
		}
		return list
	}
	require.Equal(t, []bool{true, false, true, false}, known())
	require.Empty(t, known(), "the card is at work")
	<-store.goes
	require.NoError(t, <-answered)
	require.Equal(t, []bool{true}, known())
}
