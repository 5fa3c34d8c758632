package pcscd_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/vsmartcard/pcscd"
)

func TestEject_InvalidatesHandlesUntilTheyReconnect(t *testing.T) {
	t.Parallel()
	s := newService(t)
	h := s.connect(s.client())
	before := s.card.resetCount()
	require.NoError(t, s.reader.Eject())
	require.Equal(t, before+1, s.card.resetCount(), "a card out of its reader has no power")
	_, err := h.Transmit(soon(t), []byte{0, 0x84, 0, 0})
	require.ErrorIs(t, err, pcscd.ErrRemoved)
	require.ErrorIs(t, h.Status(soon(t)), pcscd.ErrRemoved)
	require.ErrorIs(t, h.Begin(soon(t)), pcscd.ErrRemoved)
	require.ErrorIs(t, h.Reconnect(soon(t), pcscd.Leave), pcscd.ErrNoSmartcard)
	require.ErrorIs(t, h.Reconnect(soon(t), pcscd.Reset), pcscd.ErrNoSmartcard)

	require.NoError(t, s.reader.Insert(s.card))
	_, err = h.Transmit(soon(t), []byte{0, 0x84, 0, 0})
	require.ErrorIs(t, err, pcscd.ErrReset, "still, but the attempt to reset it was noted last")
	require.NoError(t, h.Reconnect(soon(t), pcscd.Leave))
	_, err = h.Transmit(soon(t), []byte{0, 0x84, 0, 0})
	require.NoError(t, err)
	require.Len(t, s.card.seen(), 1)
}

func TestEject_FreesTransactions(t *testing.T) {
	t.Parallel()
	s := newService(t)
	ha, hb := s.connect(s.client()), s.connect(s.client())
	require.NoError(t, ha.Begin(soon(t)))
	begun := at(func() error { return hb.Begin(soon(t)) })
	require.NoError(t, s.reader.Eject())
	require.ErrorIs(t, <-begun, pcscd.ErrRemoved)
	require.NoError(t, s.reader.Insert(s.card))
	require.NoError(t, hb.Reconnect(soon(t), pcscd.Leave))
	require.NoError(t, hb.Begin(soon(t)))
	require.ErrorIs(t, ha.End(soon(t), pcscd.Leave), pcscd.ErrRemoved)
	require.NoError(t, hb.End(soon(t), pcscd.Leave))
}

// pcscd has one mark for a handle, and the last one stays.
func TestEject_IsForgottenOverAReset(t *testing.T) {
	t.Parallel()
	s := newService(t)
	ha, hb := s.connect(s.client()), s.connect(s.client())
	require.NoError(t, s.reader.Eject())
	require.NoError(t, s.reader.Insert(s.card))
	require.NoError(t, hb.Reconnect(soon(t), pcscd.Reset))
	require.ErrorIs(t, ha.Status(soon(t)), pcscd.ErrReset)
}

func TestInsert_OneAtATime(t *testing.T) {
	t.Parallel()
	s := newService(t)
	require.ErrorIs(t, s.reader.Insert(newFake()), pcscd.ErrOccupied)
	require.NoError(t, s.reader.Eject())
	require.ErrorIs(t, s.reader.Eject(), pcscd.ErrEmpty)
	require.ErrorIs(t, s.reader.Reset(), pcscd.ErrEmpty)
	s.reader.Close()
	s.reader.Close()
	require.ErrorIs(t, s.reader.Insert(newFake()), pcscd.ErrClosed)
	require.Equal(t, name0, s.reader.Name())
}

// stuck is a card that works on one command until it is let go, whatever
// anybody says.
func stuck(s *service) (started <-chan struct{}, release func()) {
	begin, end := make(chan struct{}, 1), make(chan struct{})
	s.card.does(func(ctx context.Context, _ []byte) ([]byte, error) {
		begin <- struct{}{}
		<-end
		return []byte{0x90, 0x00}, nil
	})
	return begin, func() { close(end) }
}

// A removal ends the lock of an exclusive handle, but not that it is one.
func TestEject_ExclusiveHandleCanBeSharedAfterwards(t *testing.T) {
	t.Parallel()
	s := newService(t)
	w := wire{t, s.raw()}
	number := w.establish(4)
	h := int(codeAt(w.call(0x04, w.connectBody(number, name0, 1, 2)), 140))
	require.NoError(t, s.reader.Eject())
	require.NoError(t, s.reader.Insert(s.card))
	require.EqualValues(t, -1, s.state(s.client()).Sharing)
	require.Equal(t, pcscd.OK, codeAt(w.call(0x05, word(h), word(2), word(2), word(0), word(0), word(0)), 20))
	require.Equal(t, word(0), w.call(0x07, word(h), word(0))[4:])
	require.Equal(t, word(0), w.call(0x08, word(h), word(0), word(0))[8:])
	require.NoError(t, s.connect(s.client()).Begin(soon(t)))
}

// Shows PCSC-36.
func TestEject_InTheMiddleOfACommand(t *testing.T) {
	everyMinor(t, func(t *testing.T, minor int) {
		s := newService(t)
		started, release := stuck(s)
		c := s.clientOf(minor)
		h := s.connect(c)
		second := s.connect(s.clientOf(minor))
		transmitted := at(func() error {
			_, err := h.Transmit(soon(t), []byte{0, 0x68, 0, 0x20})
			return err
		})
		<-started
		waiting := at(func() error {
			_, err := second.Transmit(soon(t), []byte{0, 0x84, 0, 0})
			return err
		})
		require.NoError(t, s.reader.Eject())
		require.ErrorIs(t, <-transmitted, pcscd.ErrNotTransacted)
		require.ErrorIs(t, <-waiting, pcscd.ErrRemoved)

		// The client and the reader go on while the card is still at it.
		require.EqualValues(t, pcscd.StateAbsent, s.state(c).State)
		require.ErrorIs(t, h.Status(soon(t)), pcscd.ErrRemoved)
		fresh := newFake()
		require.NoError(t, s.reader.Insert(fresh))
		require.NoError(t, h.Reconnect(soon(t), pcscd.Leave))
		_, err := h.Transmit(soon(t), []byte{0, 0x84, 0, 0})
		require.NoError(t, err)
		require.Len(t, fresh.seen(), 1)

		release()
		_, err = h.Transmit(soon(t), []byte{0, 0x84, 0, 0})
		require.NoError(t, err, "its answer goes nowhere")
		require.NoError(t, c.Close())
	})
}

func TestEject_EndsTheCommandsContext(t *testing.T) {
	t.Parallel()
	s := newService(t)
	started := make(chan struct{})
	ended := make(chan error, 1)
	s.card.does(func(ctx context.Context, _ []byte) ([]byte, error) {
		close(started)
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	})
	h := s.connect(s.client())
	transmitted := at(func() error {
		_, err := h.Transmit(soon(t), []byte{0, 0x68, 0, 0x20})
		return err
	})
	<-started
	require.NoError(t, s.reader.Eject())
	require.ErrorIs(t, <-transmitted, pcscd.ErrNotTransacted)
	require.ErrorIs(t, <-ended, context.Canceled)
}

func TestEject_TakesItsClientsConnectionAlongWhenThatIsGone(t *testing.T) {
	t.Parallel()
	s := newService(t)
	started, release := stuck(s)
	w, c := wire{t, s.raw()}, s.client()
	h := w.handle(name0)
	w.send(0x09, join(word(h), word(2), word(16), word(4), word(3), word(16), word(258), word(0)), []byte{0, 0x84, 0, 0})
	<-started
	require.NoError(t, w.conn.Close())
	require.NoError(t, s.reader.Eject())
	s.until(c, sharing(0))
	release()
}

// Shows PCSC-36.
func TestReader_CloseInTheMiddleOfACommand(t *testing.T) {
	t.Parallel()
	s := newService(t)
	started, release := stuck(s)
	c := s.client()
	h := s.connect(c)
	transmitted := at(func() error {
		_, err := h.Transmit(soon(t), []byte{0, 0x68, 0, 0x20})
		return err
	})
	<-started
	s.reader.Close()
	require.ErrorIs(t, <-transmitted, pcscd.ErrReaderUnavailable)
	readers, err := c.Readers(soon(t))
	require.NoError(t, err)
	require.Empty(t, readers)
	require.ErrorIs(t, h.Status(soon(t)), pcscd.ErrInvalidValue)
	require.ErrorIs(t, h.Reconnect(soon(t), pcscd.Leave), pcscd.ErrInvalidValue)
	require.ErrorIs(t, h.Begin(soon(t)), pcscd.ErrInvalidValue)
	require.ErrorIs(t, h.End(soon(t), pcscd.Leave), pcscd.ErrInvalidValue)
	_, err = h.Control(soon(t), pcscd.ControlFeatures, nil)
	require.ErrorIs(t, err, pcscd.ErrInvalidValue)
	require.NoError(t, h.Disconnect(soon(t), pcscd.Reset))
	release()
}

func TestReset_OfTheReaderWaitsForTheCard(t *testing.T) {
	t.Parallel()
	s := newService(t)
	started, release := stuck(s)
	h := s.connect(s.client())
	transmitted := at(func() error {
		_, err := h.Transmit(soon(t), []byte{0, 0x68, 0, 0x20})
		return err
	})
	<-started
	before := s.card.resetCount()
	reset := at(s.reader.Reset)
	require.Equal(t, before, s.card.resetCount())
	release()
	require.NoError(t, <-transmitted)
	require.NoError(t, <-reset)
	require.Equal(t, before+1, s.card.resetCount())
	require.ErrorIs(t, h.Status(soon(t)), pcscd.ErrReset)
}

// Who reconnects before the card has come to its reset is told of it, too.
func TestReset_OfTheReaderIsToldToAll(t *testing.T) {
	t.Parallel()
	s := newService(t)
	started, release := stuck(s)
	h, other := s.connect(s.client()), s.connect(s.client())
	transmitted := at(func() error {
		_, err := h.Transmit(soon(t), []byte{0, 0x68, 0, 0x20})
		return err
	})
	<-started
	reset := at(s.reader.Reset)
	require.Eventually(t, func() bool { return errors.Is(other.Status(soon(t)), pcscd.ErrReset) }, patience, time.Millisecond)
	require.NoError(t, other.Reconnect(soon(t), pcscd.Leave))
	release()
	require.NoError(t, <-transmitted)
	require.NoError(t, <-reset)
	require.ErrorIs(t, other.Status(soon(t)), pcscd.ErrReset)
}

func TestMute_CardIsSeenAndCannotBeUsed(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*fake){
		"no ATR":       func(f *fake) { f.setATR(nil) },
		"long ATR":     func(f *fake) { f.setATR(make([]byte, 34)) },
		"failed reset": func(f *fake) { f.resetsWith(func() error { return errors.New("broken") }) },
	} {
		s := newService(t)
		c := s.client()
		require.NoError(t, s.reader.Eject())
		card := newFake()
		spoil(card)
		require.NoError(t, s.reader.Insert(card))
		require.Equal(t, pcscd.ReaderState{Name: name0, Events: 3, State: 0x0C}, s.state(c), name)
		_, err := c.Connect(soon(t), name0, pcscd.Shared, pcscd.T1)
		require.ErrorIs(t, err, pcscd.ErrUnpowered, name)
		direct, err := c.Connect(soon(t), name0, pcscd.Direct, pcscd.T1)
		require.NoError(t, err, name)
		require.ErrorIs(t, direct.Reconnect(soon(t), pcscd.Reset), pcscd.ErrUnresponsive, name)

		// It comes to itself.
		card.setATR(atr)
		card.resetsWith(nil)
		require.NoError(t, direct.Reconnect(soon(t), pcscd.Reset), name)
		require.EqualValues(t, 0x34, s.state(c).State, name)
	}
}

func TestATR_CutShortLeavesNoProtocol(t *testing.T) {
	t.Parallel()
	s := newService(t)
	c := s.client()
	s.card.setATR(atr[:3])
	require.NoError(t, s.reader.Reset())
	require.Equal(t, pcscd.ReaderState{Name: name0, Events: 1, State: 0x34, ATR: atr[:3]}, s.state(c))
	_, err := c.Connect(soon(t), name0, pcscd.Shared, pcscd.T0|pcscd.T1)
	require.ErrorIs(t, err, pcscd.ErrProtocolMismatch)
}

func TestATR_Protocols(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		atr       []byte
		protocols pcscd.Protocol
		want      pcscd.Protocol // 0: none fits
	}{
		{atr, pcscd.T0 | pcscd.T1, pcscd.T1},
		{atr, pcscd.T0, 0},
		{[]byte{0x3B, 0x00}, pcscd.T0 | pcscd.T1, pcscd.T0},
		{[]byte{0x3B, 0x00}, pcscd.T1, 0},
		{[]byte{0x3F, 0x02, 0xAA, 0xBB}, pcscd.T0, pcscd.T0},
		{[]byte{0x3B, 0x80, 0x80, 0x01, 0x01}, pcscd.T0 | pcscd.T1, pcscd.T1},             // both
		{[]byte{0x3B, 0x80, 0x80, 0x01, 0x01}, pcscd.T0, pcscd.T0},                        // both
		{[]byte{0x3B, 0x90, 0x11, 0x81, 0x1F, 0x00}, pcscd.T0 | pcscd.T1, pcscd.T1},       // TA1, TD1; TD2 of T=15 with TA3
		{[]byte{0x3B, 0x02, 0xAA}, pcscd.T0, 0},                                           // a historical byte is missing
		{[]byte{0x3B, 0x10}, pcscd.T0, 0},                                                 // TA1 is missing
		{[]byte{0x3B, 0x80}, pcscd.T0 | pcscd.T1, 0},                                      // TD1 is missing
		{[]byte{0x3B, 0x90, 0x11, 0x91, 0x00, 0x01, 0x91}, pcscd.T0 | pcscd.T1, pcscd.T0}, // TA2: T=0 and nothing else
		{[]byte{0x3B, 0x80, 0x8F, 0x01, 0x0E}, pcscd.T0 | pcscd.T1, 0},                    // T=15 first
		{[]byte{0x3B, 0x80, 0x0E}, pcscd.T0 | pcscd.T1, 0},                                // T=14
		{[]byte{0x3B}, pcscd.T0 | pcscd.T1, 0},
		{[]byte{0x00, 0x00}, pcscd.T0 | pcscd.T1, 0},
	} {
		s := newService(t)
		s.card.setATR(c.atr)
		require.NoError(t, s.reader.Reset())
		h, err := s.client().Connect(soon(t), name0, pcscd.Shared, c.protocols)
		if c.want == 0 {
			require.ErrorIs(t, err, pcscd.ErrProtocolMismatch, "%X", c.atr)
			continue
		}
		require.NoError(t, err, "%X", c.atr)
		require.Equal(t, c.want, h.Protocol(), "%X", c.atr)
	}
}
