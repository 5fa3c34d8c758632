package pcscd_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/vsmartcard/pcscd"
)

// Shows PCSC-14.
func TestWait_SeesCardsComeAndGo(t *testing.T) {
	everyMinor(t, func(t *testing.T, minor int) {
		s := newService(t)
		c := s.clientOf(minor)
		for n := uint32(1); n < 5; n += 2 {
			gone := at(func() pcscd.ReaderState { return s.until(c, has(pcscd.StateAbsent)) })
			require.NoError(t, s.reader.Eject())
			require.Equal(t, pcscd.ReaderState{Name: name0, Events: n + 1, State: 0x02}, <-gone)

			back := at(func() pcscd.ReaderState { return s.until(c, has(pcscd.StatePresent)) })
			require.NoError(t, s.reader.Insert(s.card))
			require.Equal(t, pcscd.ReaderState{Name: name0, Events: n + 2, State: 0x34, ATR: atr}, <-back)
		}
	})
}

func TestWait_SeesReadersComeAndGo(t *testing.T) {
	everyMinor(t, func(t *testing.T, minor int) {
		s := newService(t)
		c := s.clientOf(minor)
		count := func(n int) func() error {
			return func() error {
				_, err := c.Wait(soon(t), func(readers []pcscd.ReaderState) bool { return len(readers) == n })
				return err
			}
		}
		two := at(count(2))
		r, err := s.server.Add(pcscd.NitrokeyHSM("DENK0765432", 1))
		require.NoError(t, err)
		require.NoError(t, <-two)
		if minor >= 5 {
			events, err := c.ReaderEvents(soon(t))
			require.NoError(t, err)
			require.EqualValues(t, 2, events)
		}
		one := at(count(1))
		r.Close()
		require.NoError(t, <-one)
		if minor >= 5 {
			events, err := c.ReaderEvents(soon(t))
			require.NoError(t, err)
			require.EqualValues(t, 3, events, "readers count, cards do not")
		}
		// Its place is the next one's.
		_, err = s.server.Add(pcscd.Description{Name: "other"})
		require.NoError(t, err)
		require.NoError(t, <-at(count(2)))
	})
}

func TestWait_SeesOthersShare(t *testing.T) {
	everyMinor(t, func(t *testing.T, minor int) {
		s := newService(t)
		c, other := s.clientOf(minor), s.client()
		one := at(func() pcscd.ReaderState { return s.until(c, sharing(1)) })
		h := s.connect(other)
		<-one
		none := at(func() pcscd.ReaderState { return s.until(c, sharing(0)) })
		require.NoError(t, h.Disconnect(soon(t), pcscd.Leave))
		<-none
	})
}

func TestWait_CancelledByAnother(t *testing.T) {
	t.Parallel()
	s := newService(t)
	c, err := pcscd.Dial(soon(t), s.path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	first := make(chan struct{}, 1)
	waited := at(func() error {
		_, err := c.Wait(soon(t), func([]pcscd.ReaderState) bool {
			select {
			case first <- struct{}{}:
			default:
			}
			return false
		})
		return err
	})
	<-first // registered, because that comes with the table
	require.NoError(t, c.Cancel(soon(t)))
	require.ErrorIs(t, <-waited, pcscd.ErrCancelled)
	require.NoError(t, c.Cancel(soon(t)), "nobody waits: nothing to do")
	s.state(c)
	require.NoError(t, c.Close())
	unknown := wire{t, s.raw()}
	require.Equal(t, word(pcscd.ErrInvalidHandle), unknown.call(0x0D, word(12345), word(0))[4:])
}

// registration is a client that waits, of either form, with nothing left to
// read but its event.
func registration(t *testing.T, s *service, minor int) (w wire, context int) {
	t.Helper()
	w = wire{t, s.raw()}
	context = w.establish(minor)
	w.send(0x13, nil, nil)
	if minor < 6 {
		w.read(2944)
		return w, context
	}
	w.send(0x16, nil, nil)
	require.Equal(t, word(16), w.read(4))
	w.send(0x17, nil, nil)
	w.read(2944)
	return w, context
}

// Shows PCSC-15.
func TestEvent_ComesOnce(t *testing.T) {
	everyMinor(t, func(t *testing.T, minor int) {
		s := newService(t)
		_, err := s.server.Add(pcscd.Description{Name: "empty"})
		require.NoError(t, err)
		other := s.client()
		for _, change := range []func(){
			func() { require.NoError(t, s.reader.Eject()) },
			func() { require.NoError(t, s.reader.Insert(s.card)) },
			func() { require.NoError(t, s.reader.Reset()) },
			func() { s.connect(other) },
			func() {
				r, err := s.server.Add(pcscd.Description{Name: "more"})
				require.NoError(t, err)
				t.Cleanup(r.Close)
			},
		} {
			w, _ := registration(t, s, minor)
			change()
			require.Equal(t, make([]byte, 8), w.read(8))
			r, err := s.server.Add(pcscd.Description{Name: "again"})
			require.NoError(t, err)
			r.Close()
			w.silent() // the registration is gone
			w.send(0x14, nil, nil)
			w.silent() // and the event was the answer to this
		}
	})
}

func TestEvent_StopWaitingIsAnsweredOnce(t *testing.T) {
	everyMinor(t, func(t *testing.T, minor int) {
		s := newService(t)
		w, _ := registration(t, s, minor)
		w.send(0x14, nil, nil)
		require.Equal(t, make([]byte, 8), w.read(8))
		w.send(0x14, nil, nil)
		w.silent()
		require.NoError(t, s.reader.Eject())
		w.silent()
	})
}

func TestEvent_Cancelled(t *testing.T) {
	everyMinor(t, func(t *testing.T, minor int) {
		s := newService(t)
		w, context := registration(t, s, minor)
		canceller := wire{t, s.raw()}
		require.Equal(t, word(0), canceller.call(0x0D, word(context), word(0))[4:])
		require.Equal(t, join(word(0), word(pcscd.ErrCancelled)), w.read(8))
		require.Equal(t, word(0), canceller.call(0x0D, word(context), word(0))[4:])
		require.NoError(t, s.reader.Eject())
		w.silent()
	})
}

// Version 4.6 has no reply to the registration; what came between it and the
// table would be taken for the table's length (PCSC-16).
func TestEvent_WaitsForTheTable(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		happen func(s *service, context int)
		code   pcscd.Code
	}{
		"change": {func(s *service, _ int) { require.NoError(t, s.reader.Eject()) }, pcscd.OK},
		"cancel": {func(s *service, context int) {
			w := wire{t, s.raw()}
			require.Equal(t, word(0), w.call(0x0D, word(context), word(0))[4:])
		}, pcscd.ErrCancelled},
		"cancel after change": {func(s *service, context int) {
			require.NoError(t, s.reader.Eject())
			w := wire{t, s.raw()}
			require.Equal(t, word(0), w.call(0x0D, word(context), word(0))[4:])
			require.NoError(t, s.reader.Insert(s.card))
		}, pcscd.ErrCancelled},
	} {
		for between := range 2 {
			s := newService(t)
			w := wire{t, s.raw()}
			context := w.establish(6)
			w.send(0x13, nil, nil)
			w.silent() // the daemon has it
			if between == 0 {
				c.happen(s, context)
			}
			w.send(0x16, nil, nil)
			require.Equal(t, word(16), w.read(4), name)
			if between == 1 {
				c.happen(s, context)
			}
			w.send(0x17, nil, nil)
			require.Contains(t, string(w.read(2944)), name0, name)
			require.Equal(t, join(word(0), word(c.code)), w.read(8), name)
			w.send(0x14, nil, nil)
			w.silent()
		}
	}
}

func TestEvent_HeldBackAndThenNotWanted(t *testing.T) {
	t.Parallel()
	s := newService(t)
	w := wire{t, s.raw()}
	w.establish(6)
	w.send(0x13, nil, nil)
	w.silent()
	require.NoError(t, s.reader.Eject())
	w.send(0x14, nil, nil)
	require.Equal(t, make([]byte, 8), w.read(8))
	w.send(0x17, nil, nil)
	w.read(2944)
	w.silent()
	// A new registration owes nothing of the old one.
	w.send(0x13, nil, nil)
	w.send(0x17, nil, nil)
	w.read(2944)
	w.silent()
}

func TestEvent_IsNotLostBesideTheTable(t *testing.T) {
	t.Parallel()
	for minor := 4; minor <= 6; minor += 2 {
		s := newService(t)
		c := s.clientOf(minor)
		const rounds = 200
		flipping := at(func() error {
			for range rounds {
				if err := s.reader.Eject(); err != nil {
					return err
				}
				if err := s.reader.Insert(s.card); err != nil {
					return err
				}
			}
			return nil
		})
		// Whatever it misses in between, it sees how it ends.
		s.until(c, func(r pcscd.ReaderState) bool { return r.Events == 1+2*rounds })
		require.NoError(t, <-flipping)
	}
}

func TestEvent_ClientThatDoesNotReadHoldsUpNobody(t *testing.T) {
	t.Parallel()
	s := newService(t)
	w, _ := registration(t, s, 4)
	// It asks on and on without reading, until no more can be written to it.
	stuck := at(func() error {
		for {
			if _, err := w.conn.Write(join(word(0), word(0x12), word(0), word(0x13))); err != nil {
				return err
			}
		}
	})
	c := s.client()
	for range 50 {
		require.NoError(t, s.reader.Eject())
		require.NoError(t, s.reader.Insert(s.card))
		s.state(c)
	}
	require.NoError(t, w.conn.Close())
	require.Error(t, <-stuck)
}
