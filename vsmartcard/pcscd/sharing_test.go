package pcscd_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/vsmartcard/pcscd"
)

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
