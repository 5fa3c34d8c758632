package pcscd_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/vsmartcard/pcscd"
)

// Shows PCSC-18.
func TestConnect_ChecksInOrder(t *testing.T) {
	t.Parallel()
	s := newService(t)
	_, err := s.server.Add(pcscd.Description{Name: "empty"})
	require.NoError(t, err)
	c := s.client()
	for _, x := range []struct {
		name      string
		reader    string
		share     pcscd.Share
		protocols pcscd.Protocol
		want      pcscd.Code
	}{
		{"no protocol", "none", 9, 0, pcscd.ErrProtocolMismatch},
		{"no such sharing", "none", 9, pcscd.T1, pcscd.ErrInvalidValue},
		{"no such sharing at all", "none", 0, pcscd.T1, pcscd.ErrInvalidValue},
		{"no such reader", "none", pcscd.Shared, pcscd.T1, pcscd.ErrUnknownReader},
		{"no card", "empty", pcscd.Shared, pcscd.T1, pcscd.ErrNoSmartcard},
		{"not its protocol", name0, pcscd.Shared, pcscd.T0, pcscd.ErrProtocolMismatch},
		{"either protocol", name0, pcscd.Shared, pcscd.T0 | pcscd.T1, pcscd.OK},
		{"any protocol, as it was called, when one is chosen", name0, pcscd.Shared, 0x1000, pcscd.ErrProtocolMismatch},
		{"direct, no protocol", "empty", pcscd.Direct, 0, pcscd.OK},
	} {
		t.Run(x.name, func(t *testing.T) {
			h, err := c.Connect(soon(t), x.reader, x.share, x.protocols)
			if x.want != pcscd.OK {
				require.ErrorIs(t, err, x.want)
				return
			}
			require.NoError(t, err)
			require.NoError(t, h.Disconnect(soon(t), pcscd.Leave))
		})
	}
}

func TestConnect_RawStaysRaw(t *testing.T) {
	t.Parallel()
	s := newService(t)
	c := s.client()
	h, err := c.Connect(soon(t), name0, pcscd.Shared, pcscd.Raw)
	require.NoError(t, err)
	require.Equal(t, pcscd.Raw, h.Protocol())
	_, err = h.Transmit(soon(t), []byte{0, 0x84, 0, 0})
	require.ErrorIs(t, err, pcscd.ErrNotTransacted, "the token's reader has T=0 and T=1 only")
	require.Empty(t, s.card.seen())
	_, err = c.Connect(soon(t), name0, pcscd.Shared, pcscd.T1)
	require.ErrorIs(t, err, pcscd.ErrProtocolMismatch)
	require.NoError(t, h.Reconnect(soon(t), pcscd.Reset))
}

func TestConnect_ExclusiveIsExclusive(t *testing.T) {
	t.Parallel()
	s := newService(t)
	a, b := s.client(), s.client()
	h, err := a.Connect(soon(t), name0, pcscd.Exclusive, pcscd.T1)
	require.NoError(t, err)
	require.EqualValues(t, -1, s.state(b).Sharing)
	for _, share := range []pcscd.Share{pcscd.Shared, pcscd.Exclusive, pcscd.Direct} {
		_, err = b.Connect(soon(t), name0, share, pcscd.T1)
		require.ErrorIs(t, err, pcscd.ErrSharingViolation)
	}
	require.ErrorIs(t, h.End(soon(t), pcscd.Leave), pcscd.ErrNotTransacted)
	require.NoError(t, h.Begin(soon(t)))
	require.NoError(t, h.End(soon(t), pcscd.Leave))
	_, err = b.Connect(soon(t), name0, pcscd.Shared, pcscd.T1)
	require.ErrorIs(t, err, pcscd.ErrSharingViolation, "a transaction's end does not end it")
	require.NoError(t, h.Disconnect(soon(t), pcscd.Leave))

	h2, err := b.Connect(soon(t), name0, pcscd.Shared, pcscd.T1)
	require.NoError(t, err)
	require.EqualValues(t, 1, s.state(b).Sharing)
	_, err = a.Connect(soon(t), name0, pcscd.Exclusive, pcscd.T1)
	require.ErrorIs(t, err, pcscd.ErrSharingViolation)
	require.NoError(t, h2.Disconnect(soon(t), pcscd.Leave))
}

func TestReconnect_ChangesTheSharing(t *testing.T) {
	t.Parallel()
	s := newService(t)
	w, c := wire{t, s.raw()}, s.client()
	h := w.handle(name0)
	reconnect := func(share, protocols, how int) pcscd.Code {
		got := w.call(0x05, word(h), word(share), word(protocols), word(how), word(0), word(0))
		return codeAt(got, 20)
	}
	require.Equal(t, pcscd.OK, reconnect(1, 2, 0))
	require.EqualValues(t, -1, s.state(c).Sharing)
	_, err := c.Connect(soon(t), name0, pcscd.Shared, pcscd.T1)
	require.ErrorIs(t, err, pcscd.ErrSharingViolation)
	require.Equal(t, pcscd.OK, reconnect(2, 3, 0))
	require.EqualValues(t, 1, s.state(c).Sharing)
	s.connect(c)
	require.Equal(t, pcscd.ErrSharingViolation, reconnect(1, 2, 0), "not alone")
	require.Equal(t, pcscd.ErrInvalidValue, reconnect(2, 2, 3))
	require.Equal(t, pcscd.ErrInvalidValue, reconnect(7, 2, 0))
	require.Equal(t, pcscd.ErrProtocolMismatch, reconnect(2, 0, 0))
	require.Equal(t, pcscd.ErrProtocolMismatch, reconnect(2, 1, 0), "T=1 has been chosen")
	require.Equal(t, pcscd.OK, reconnect(2, 2, 0))
}

// Shows PCSC-19.
func TestReset_IsSeenByTheOthers(t *testing.T) {
	t.Parallel()
	for _, how := range []pcscd.Disposition{pcscd.Reset, pcscd.Unpower} {
		s := newService(t)
		a, b := s.client(), s.client()
		ha, hb := s.connect(a), s.connect(b)
		before := s.card.resetCount()
		require.NoError(t, ha.Reconnect(soon(t), how))
		require.Equal(t, before+1, s.card.resetCount())
		require.NoError(t, ha.Status(soon(t)), "who did it knows")
		_, err := hb.Transmit(soon(t), []byte{0, 0x84, 0, 0})
		require.ErrorIs(t, err, pcscd.ErrReset)
		require.ErrorIs(t, hb.Status(soon(t)), pcscd.ErrReset)
		require.ErrorIs(t, hb.Begin(soon(t)), pcscd.ErrReset)
		require.ErrorIs(t, hb.End(soon(t), pcscd.Leave), pcscd.ErrReset)
		_, err = hb.Attrib(soon(t), pcscd.AttribATR)
		require.ErrorIs(t, err, pcscd.ErrReset)
		require.NoError(t, hb.Reconnect(soon(t), pcscd.Leave))
		_, err = hb.Transmit(soon(t), []byte{0, 0x84, 0, 0})
		require.NoError(t, err)
		require.Equal(t, before+1, s.card.resetCount())
		require.Len(t, s.card.seen(), 1)
	}
}

// Shows PCSC-20.
func TestDisconnect_Dispositions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		how      pcscd.Disposition
		resets   int
		state    pcscd.State
		protocol pcscd.Protocol
		other    error
	}{
		{pcscd.Leave, 0, 0x34, pcscd.T1, nil},
		{pcscd.Reset, 1, 0x34, 0, pcscd.ErrReset},
		{pcscd.Unpower, 1, 0x04, 0, pcscd.ErrReset},
		{pcscd.Eject, 0, 0x34, pcscd.T1, nil}, // no reader of ours moves cards
	} {
		s := newService(t)
		a, b := s.client(), s.client()
		ha, hb := s.connect(a), s.connect(b)
		before := s.card.resetCount()
		require.NoError(t, ha.Disconnect(soon(t), c.how))
		require.Equal(t, before+c.resets, s.card.resetCount())
		state := s.state(b)
		require.Equal(t, c.state, state.State)
		require.Equal(t, c.protocol, state.Protocol)
		require.EqualValues(t, 1, state.Sharing)
		require.Equal(t, atr, state.ATR)
		if c.other == nil {
			require.NoError(t, hb.Status(soon(t)))
			continue
		}
		require.ErrorIs(t, hb.Status(soon(t)), c.other)
		require.NoError(t, hb.Reconnect(soon(t), pcscd.Leave))
		require.Equal(t, c.state, s.state(b).State, "to leave the card is not to give it power")
		_, err := hb.Transmit(soon(t), []byte{0, 0x84, 0, 0})
		require.NoError(t, err)
	}
	s := newService(t)
	h := s.connect(s.client())
	require.ErrorIs(t, h.Disconnect(soon(t), 4), pcscd.ErrInvalidValue)
	require.NoError(t, h.Status(soon(t)))
}

// Shows PCSC-21.
func TestTransaction_KeepsOthersOut(t *testing.T) {
	t.Parallel()
	s := newService(t)
	ha := s.connect(s.client())
	w := wire{t, s.raw()} // a client that nobody makes patient
	hw := w.handle(name0)
	require.NoError(t, ha.Begin(soon(t)))
	require.NoError(t, ha.Begin(soon(t)), "transactions nest")

	violated := word(pcscd.ErrSharingViolation)
	require.Equal(t, violated, w.call(0x07, word(hw), word(0))[4:], "begin")
	require.Equal(t, violated, w.call(0x08, word(hw), word(0), word(0))[8:], "end")
	require.Equal(t, violated, w.call(0x0B, word(hw), word(0))[4:], "status")
	require.Equal(t, violated, w.call(0x05, word(hw), word(2), word(2), word(0), word(0), word(0))[20:], "reconnect")
	require.Equal(t, violated, w.call(0x0A, word(hw), word(0x42000D48), word(0), word(100), word(0), word(0))[20:], "control")
	require.Equal(t, violated, w.call(0x0F, word(hw), word(0x90303), make([]byte, 264), word(264), word(0))[276:], "attribute")
	w.send(0x09, join(word(hw), word(2), word(16), word(4), word(3), word(16), word(258), word(0)), []byte{0, 0x84, 0, 0})
	require.Equal(t, violated, w.read(32)[28:], "transmit")
	require.Empty(t, s.card.seen())

	_, err := ha.Transmit(soon(t), []byte{0, 0x84, 0, 1})
	require.NoError(t, err)
	require.NoError(t, ha.End(soon(t), pcscd.Leave))
	require.Equal(t, violated, w.call(0x0B, word(hw), word(0))[4:], "one is still open")
	require.NoError(t, ha.End(soon(t), pcscd.Leave))
	require.ErrorIs(t, ha.End(soon(t), pcscd.Leave), pcscd.ErrNotTransacted)
	require.Equal(t, word(0), w.call(0x07, word(hw), word(0))[4:])
	require.Equal(t, word(0), w.call(0x08, word(hw), word(0), word(0))[8:])
}

func TestTransaction_OthersComeNext(t *testing.T) {
	t.Parallel()
	s := newService(t)
	ha, hb := s.connect(s.client()), s.connect(s.client())
	c := s.client()
	require.NoError(t, ha.Begin(soon(t)))
	begun := at(func() error { return hb.Begin(soon(t)) })
	connected := at(func() error {
		_, err := c.Connect(soon(t), name0, pcscd.Shared, pcscd.T1)
		return err
	})
	for i := range 100 {
		_, err := ha.Transmit(soon(t), []byte{0, 0x84, 0, byte(i)})
		require.NoError(t, err)
	}
	require.Empty(t, begun, "began within another's transaction")
	require.Empty(t, connected, "connected within another's transaction")
	require.NoError(t, ha.End(soon(t), pcscd.Leave))
	require.NoError(t, <-begun)
	require.NoError(t, hb.End(soon(t), pcscd.Leave))
	require.NoError(t, <-connected)
}

func TestTransaction_EndWithReset(t *testing.T) {
	t.Parallel()
	s := newService(t)
	ha, hb := s.connect(s.client()), s.connect(s.client())
	before := s.card.resetCount()
	require.NoError(t, ha.Begin(soon(t)))
	require.NoError(t, ha.End(soon(t), pcscd.Reset))
	require.Equal(t, before+1, s.card.resetCount())
	require.ErrorIs(t, ha.Begin(soon(t)), pcscd.ErrReset, "who did it is told too")
	require.ErrorIs(t, hb.Status(soon(t)), pcscd.ErrReset)
	require.NoError(t, hb.Reconnect(soon(t), pcscd.Leave))
	require.NoError(t, hb.Begin(soon(t)))
	require.NoError(t, hb.End(soon(t), pcscd.Leave))
}

// Shows PCSC-24.
func TestTransaction_DoesNotOutliveItsClient(t *testing.T) {
	everyMinor(t, func(t *testing.T, minor int) {
		s := newService(t)
		a, b := s.clientOf(minor), s.clientOf(minor)
		ha, hb := s.connect(a), s.connect(b)
		before := s.card.resetCount()
		require.NoError(t, ha.Begin(soon(t)))
		require.NoError(t, a.Close())
		require.ErrorIs(t, hb.Begin(soon(t)), pcscd.ErrReset, "the card is in an unknown state")
		require.Equal(t, before+1, s.card.resetCount())
		require.NoError(t, hb.Reconnect(soon(t), pcscd.Leave))
		require.NoError(t, hb.Begin(soon(t)))
		require.EqualValues(t, 1, s.until(b, sharing(1)).Sharing)
	})
}

func TestTransaction_ClientThatDiesWhileItWaits(t *testing.T) {
	t.Parallel()
	s := newService(t)
	ha := s.connect(s.client())
	require.NoError(t, ha.Begin(soon(t)))
	w := wire{t, s.raw()}
	w.send(0x04, w.connectBody(w.establish(4), name0, 2, 2), nil)
	require.NoError(t, w.conn.Close())
	for range 3 { // it is gone before the transaction is over
		_, err := ha.Transmit(soon(t), []byte{0, 0x84, 0, 0})
		require.NoError(t, err)
	}
	before := s.card.resetCount()
	require.NoError(t, ha.End(soon(t), pcscd.Leave))
	s.until(s.client(), sharing(1))
	require.Equal(t, before, s.card.resetCount())
}

func TestHandle_OfAClientThatDiesIsGivenUp(t *testing.T) {
	t.Parallel()
	s := newService(t)
	a, b := s.client(), s.client()
	s.connect(a)
	s.connect(b)
	before := s.card.resetCount()
	require.NoError(t, a.Close())
	s.until(b, sharing(1))
	require.Equal(t, before, s.card.resetCount())
}

func TestTransaction_EndsEvenIfTheCardWasReset(t *testing.T) {
	t.Parallel()
	s := newService(t)
	ha, hb := s.connect(s.client()), s.connect(s.client())
	require.NoError(t, ha.Begin(soon(t)))
	require.NoError(t, s.reader.Reset())
	require.ErrorIs(t, ha.End(soon(t), pcscd.Leave), pcscd.ErrReset)
	require.NoError(t, hb.Reconnect(soon(t), pcscd.Leave))
	require.NoError(t, hb.Begin(soon(t)), "nobody holds it any more")
}

// The tests below name what differed from pcscd 1.9.9 once; the sequences that
// are compared with it find all of it again.

func TestReconnect_ExclusiveBesideOthersResetsFirst(t *testing.T) {
	t.Parallel()
	for _, how := range []int{1, 2} {
		s := newService(t)
		w := wire{t, s.raw()}
		h := w.handle(name0)
		other := s.connect(s.client())
		before := s.card.resetCount()
		got := w.call(0x05, word(h), word(1), word(2), word(how), word(9), word(9))
		require.Equal(t, join(word(2), word(pcscd.ErrSharingViolation)), got[16:], "the protocol is chosen by then")
		require.Equal(t, before+1, s.card.resetCount())
		require.ErrorIs(t, other.Status(soon(t)), pcscd.ErrReset)
		require.Equal(t, word(pcscd.ErrReset), w.call(0x0B, word(h), word(0))[4:], "its own mark stays")
	}
}

func TestReconnect_DirectWithRaw(t *testing.T) {
	t.Parallel()
	s := newService(t)
	w := wire{t, s.raw()}
	h := w.handle(name0)
	require.Equal(t, join(word(4), word(0)), w.call(0x05, word(h), word(3), word(7), word(0), word(9), word(9))[16:])
	require.Equal(t, pcscd.Raw, s.state(s.client()).Protocol)
	require.Equal(t, join(word(4), word(0)), w.call(0x05, word(h), word(3), word(3), word(0), word(9), word(9))[16:], "and without, as it is")
}

func TestReconnect_ChecksInOrder(t *testing.T) {
	t.Parallel()
	s := newService(t)
	w := wire{t, s.raw()}
	h := w.handle(name0)
	reconnect := func(share, protocols, how int) []byte {
		return w.call(0x05, word(h), word(share), word(protocols), word(how), word(9), word(9))[16:]
	}
	require.Equal(t, join(word(0), word(pcscd.ErrInvalidValue)), reconnect(2, 0, 3))
	require.Equal(t, join(word(0), word(pcscd.ErrInvalidValue)), reconnect(9, 0, 0), "the sharing comes before the protocols")
	require.Equal(t, join(word(0), word(pcscd.ErrProtocolMismatch)), reconnect(2, 0, 0))
	require.Equal(t, join(word(0), word(pcscd.ErrProtocolMismatch)), reconnect(2, 0x1000, 0), "any, but one is chosen")
	require.Equal(t, join(word(2), word(0)), reconnect(2, 0x1000, 1), "any, of a card that was reset")
}

func TestConnect_ProtocolComesBeforeSharing(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.connect(s.client())
	w := wire{t, s.raw()}
	number := w.establish(4)
	got := w.call(0x04, w.connectBody(number, name0, 1, 1))
	require.Equal(t, pcscd.ErrProtocolMismatch, codeAt(got, 148))
	got = w.call(0x04, w.connectBody(number, name0, 1, 2))
	require.Equal(t, join(word(0), word(2), word(pcscd.ErrSharingViolation)), got[140:], "no handle, but a protocol")
}

func TestConnect_ContextIsLookedAtLast(t *testing.T) {
	t.Parallel()
	s := newService(t)
	w := wire{t, s.raw()}
	number := w.establish(4)
	require.Equal(t, pcscd.ErrUnknownReader, codeAt(w.call(0x04, w.connectBody(number^1, "nobody", 2, 2)), 148))
	require.Equal(t, pcscd.ErrInvalidValue, codeAt(w.call(0x04, w.connectBody(number^1, name0, 2, 2)), 148))
	state := s.state(s.client())
	require.Equal(t, pcscd.T1, state.Protocol, "the card has been taken up")
	require.Zero(t, state.Sharing, "and given back")
}

// Shows PCSC-28.
func TestTransaction_EndWithUnpowerPowersAgain(t *testing.T) {
	t.Parallel()
	s := newService(t)
	c := s.client()
	h := s.connect(c)
	before := s.card.resetCount()
	require.NoError(t, h.Begin(soon(t)))
	require.NoError(t, h.End(soon(t), pcscd.Unpower))
	require.Equal(t, before+1, s.card.resetCount())
	state := s.state(c)
	require.EqualValues(t, 0x34, state.State)
	require.Zero(t, state.Protocol)
}

func TestTransaction_EndWithEjectEndsIt(t *testing.T) {
	t.Parallel()
	s := newService(t)
	h := s.connect(s.client())
	require.NoError(t, h.Begin(soon(t)))
	require.ErrorIs(t, h.End(soon(t), pcscd.Eject), pcscd.ErrUnsupportedFeature)
	require.ErrorIs(t, h.End(soon(t), pcscd.Leave), pcscd.ErrNotTransacted)
}

func TestTransaction_OfAMarkedHandleStaysOpen(t *testing.T) {
	t.Parallel()
	s := newService(t)
	ha := s.connect(s.client())
	w := wire{t, s.raw()}
	hw := w.handle(name0)
	require.NoError(t, ha.Begin(soon(t)))
	require.NoError(t, ha.Begin(soon(t)))
	require.NoError(t, ha.End(soon(t), pcscd.Reset))
	require.ErrorIs(t, ha.End(soon(t), pcscd.Leave), pcscd.ErrReset)
	require.Equal(t, word(pcscd.ErrSharingViolation), w.call(0x0B, word(hw), word(0))[4:])
	require.NoError(t, ha.Reconnect(soon(t), pcscd.Leave))
	require.NoError(t, ha.End(soon(t), pcscd.Leave))
	require.Equal(t, word(pcscd.ErrReset), w.call(0x0B, word(hw), word(0))[4:])
}

// pcscd keeps the lock of an exclusive handle that becomes a shared one, and
// others who connect then wait for good; we do not. A transaction stays.
func TestReconnect_FromExclusiveLeavesTransactions(t *testing.T) {
	t.Parallel()
	s := newService(t)
	w := wire{t, s.raw()}
	number := w.establish(4)
	h := int(codeAt(w.call(0x04, w.connectBody(number, name0, 1, 2)), 140))
	shared := func() pcscd.Code {
		return codeAt(w.call(0x05, word(h), word(2), word(2), word(0), word(0), word(0)), 20)
	}
	require.Equal(t, pcscd.OK, shared())
	other := s.connect(s.client())
	require.NoError(t, other.Status(soon(t)))
	require.NoError(t, other.Disconnect(soon(t), pcscd.Leave))

	require.Equal(t, pcscd.OK, codeAt(w.call(0x05, word(h), word(1), word(2), word(0), word(0), word(0)), 20))
	require.Equal(t, word(0), w.call(0x07, word(h), word(0))[4:])
	require.Equal(t, pcscd.OK, shared())
	connected := at(func() error {
		_, err := s.client().Connect(soon(t), name0, pcscd.Shared, pcscd.T1)
		return err
	})
	require.Equal(t, word(0), w.call(0x0B, word(h), word(0))[4:])
	require.Empty(t, connected)
	require.Equal(t, word(0), w.call(0x08, word(h), word(0), word(0))[8:])
	require.NoError(t, <-connected)
}

// In pcscd it waits for itself, for good.
func TestConnect_InOnesOwnTransactionIsRefused(t *testing.T) {
	t.Parallel()
	s := newService(t)
	c := s.client()
	h := s.connect(c)
	require.NoError(t, h.Begin(soon(t)))
	_, err := c.Connect(soon(t), name0, pcscd.Shared, pcscd.T1)
	require.ErrorIs(t, err, pcscd.ErrSharingViolation)
}

func TestConnect_CardWithoutPowerThatIsInUse(t *testing.T) {
	t.Parallel()
	s := newService(t)
	a, b := s.client(), s.client()
	ha, hb := s.connect(a), s.connect(b)
	require.NoError(t, ha.Disconnect(soon(t), pcscd.Unpower))
	require.NoError(t, hb.Reconnect(soon(t), pcscd.Leave))
	_, err := a.Connect(soon(t), name0, pcscd.Shared, pcscd.T1)
	require.ErrorIs(t, err, pcscd.ErrUnpowered)
	require.NoError(t, hb.Reconnect(soon(t), pcscd.Reset))
	s.connect(a)
}

func TestConnect_TwoHundredHandlesOnAReader(t *testing.T) {
	t.Parallel()
	s := newService(t)
	_, err := s.server.Add(pcscd.Description{Name: "other"})
	require.NoError(t, err)
	c := s.client()
	var last *pcscd.Handle
	for range 200 {
		last = s.connect(c)
	}
	_, err = s.client().Connect(soon(t), name0, pcscd.Shared, pcscd.T1)
	require.ErrorIs(t, err, pcscd.ErrInternal)
	_, err = c.Connect(soon(t), "other", pcscd.Direct, 0)
	require.ErrorIs(t, err, pcscd.ErrNoMemory, "nor for a client")
	require.EqualValues(t, 200, s.state(c).Sharing)
	require.NoError(t, last.Disconnect(soon(t), pcscd.Leave))
	s.connect(c)
}
