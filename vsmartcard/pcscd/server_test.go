package pcscd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/vsmartcard/pcscd"
)

// everyMinor runs a test with clients of each protocol version.
func everyMinor(t *testing.T, test func(t *testing.T, minor int)) {
	t.Helper()
	t.Parallel()
	for minor := 4; minor <= 6; minor++ {
		t.Run(fmt.Sprintf("4.%d", minor), func(t *testing.T) {
			t.Parallel()
			test(t, minor)
		})
	}
}

// Shows PCSC-11.
func TestVersion_IsTheClientsWithinFourToSix(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ asked, answered, code int }{
		{3, 4, 0}, {4, 4, 0}, {5, 5, 0}, {6, 6, 0}, {7, 6, 0}, {1 << 30, 6, 0}, {-1, 4, 0},
	} {
		s := newService(t)
		w := wire{t, s.raw()}
		got := w.call(0x11, word(4), word(c.asked), word(99))
		require.Equal(t, join(word(4), word(c.answered), word(c.code)), got, "4.%d", c.asked)
	}
	w := wire{t, newService(t).raw()}
	got := w.call(0x11, word(5), word(0), word(0))
	require.Equal(t, join(word(4), word(4), word(pcscd.ErrServiceStopped)), got)
}

// Shows PCSC-17.
func TestReaders_AreListedInOrder(t *testing.T) {
	everyMinor(t, func(t *testing.T, minor int) {
		s := newService(t)
		_, err := s.server.Add(pcscd.NitrokeyHSM("DENK0765432", 1))
		require.NoError(t, err)
		c := s.clientOf(minor)
		require.Equal(t, minor, c.Minor())
		readers, err := c.Readers(soon(t))
		require.NoError(t, err)
		require.Equal(t, []pcscd.ReaderState{
			{Name: name0, Events: 1, State: 0x34, ATR: atr},
			{Name: name1, State: 0x02},
		}, readers)
	})
}

func TestAdd_RefusesWhatClientsCannotSee(t *testing.T) {
	t.Parallel()
	var s pcscd.Server
	for _, name := range []string{"", strings.Repeat("x", 128), "a\nb", "a\x00"} {
		_, err := s.Add(pcscd.Description{Name: name})
		require.ErrorIs(t, err, pcscd.ErrReaderName, "%q", name)
	}
	for i := range pcscd.ReadersMax {
		name := fmt.Sprintf("%0127d", i)
		_, err := s.Add(pcscd.Description{Name: name})
		require.NoError(t, err)
		_, err = s.Add(pcscd.Description{Name: name})
		require.Error(t, err)
	}
	_, err := s.Add(pcscd.Description{Name: "one more"})
	require.ErrorIs(t, err, pcscd.ErrTooManyReaders)
	require.ErrorContains(t, err, fmt.Sprintf(" %d at most", pcscd.ReadersMax))
	require.NoError(t, s.Close())
	_, err = s.Add(pcscd.Description{Name: "late"})
	require.ErrorIs(t, err, pcscd.ErrClosed)
}

func TestTransmit_ReachesTheCard(t *testing.T) {
	everyMinor(t, func(t *testing.T, minor int) {
		s := newService(t)
		c := s.clientOf(minor)
		h := s.connect(c)
		require.Equal(t, pcscd.T1, h.Protocol())
		require.Equal(t, atr, h.ATR())
		require.Equal(t, pcscd.ReaderState{Name: name0, Events: 1, State: 0x34, Sharing: 1, ATR: atr, Protocol: pcscd.T1}, s.state(c))
		command := []byte{0x00, 0xA4, 0x04, 0x00, 0x00}
		got, err := h.Transmit(soon(t), command)
		require.NoError(t, err)
		require.Equal(t, answer(command), got)
		require.Equal(t, [][]byte{command}, s.card.seen())
		require.NoError(t, h.Status(soon(t)))
		require.NoError(t, h.Disconnect(soon(t), pcscd.Leave))
		require.Equal(t, pcscd.ReaderState{Name: name0, Events: 1, State: 0x34, ATR: atr, Protocol: pcscd.T1}, s.state(c))
	})
}

func TestTransmit_LongestAPDUs(t *testing.T) {
	t.Parallel()
	s := newService(t)
	long := bytes.Repeat([]byte{0xA5}, 65548)
	s.card.does(func(context.Context, []byte) ([]byte, error) { return long, nil })
	h := s.connect(s.client())
	got, err := h.Transmit(soon(t), long)
	require.NoError(t, err)
	require.True(t, bytes.Equal(long, got))
	require.True(t, bytes.Equal(long, s.card.seen()[0]))
}

// Shows PCSC-23.
func TestTransmit_RoomForTheAnswer(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.card.does(func(context.Context, []byte) ([]byte, error) { return []byte{1, 2, 3, 0x90, 0x00}, nil })
	w := wire{t, s.raw()}
	h := w.handle(name0)
	for _, c := range []struct {
		room, length int
		code         pcscd.Code
		data         []byte
	}{
		{0, 5, pcscd.ErrInsufficientBuffer, nil},
		{1, 5, pcscd.ErrInsufficientBuffer, nil},
		{2, 5, pcscd.ErrInsufficientBuffer, nil},
		{4, 5, pcscd.ErrInsufficientBuffer, nil},
		{5, 5, pcscd.OK, []byte{1, 2, 3, 0x90, 0x00}},
		{65548, 5, pcscd.OK, []byte{1, 2, 3, 0x90, 0x00}},
	} {
		w.send(0x09, join(word(h), word(2), word(16), word(4), word(3), word(16), word(c.room), word(77)), []byte{0, 0x84, 0, 0})
		got := w.read(32)
		require.Equal(t, word(c.length), got[24:28], "room %d", c.room)
		require.Equal(t, word(c.code), got[28:32], "room %d", c.room)
		require.Equal(t, join(word(h), word(2), word(16), word(4)), got[:16], "what was asked comes back")
		require.Equal(t, join(word(3), word(16)), got[16:24], "the driver leaves these alone")
		require.Equal(t, c.data, w.read(len(c.data)))
	}
	// Nothing else is on the way.
	require.Len(t, w.call(0x0B, word(h), word(0)), 8)
}

func TestTransmit_Protocol(t *testing.T) {
	t.Parallel()
	s := newService(t)
	w := wire{t, s.raw()}
	h := w.handle(name0)
	for protocol, code := range map[int]pcscd.Code{
		0: pcscd.ErrProtocolMismatch, 1: pcscd.ErrProtocolMismatch, 2: pcscd.OK, 3: pcscd.ErrProtocolMismatch,
		4: pcscd.ErrNotTransacted, 0x1000: pcscd.OK,
	} {
		w.send(0x09, join(word(h), word(protocol), word(16), word(4), word(3), word(16), word(258), word(0)), []byte{0, 0x84, 0, 0})
		got := w.read(32)
		require.Equal(t, word(code), got[28:], "protocol %d", protocol)
		if code == pcscd.OK {
			require.Equal(t, []byte{0x6A, 0x82}, w.read(2))
			continue
		}
		require.Equal(t, word(0), got[24:28], "a failed transmission has no length")
	}
}

func TestTransmit_CardThatFails(t *testing.T) {
	t.Parallel()
	s := newService(t)
	var response []byte
	var failure error
	s.card.does(func(context.Context, []byte) ([]byte, error) { return response, failure })
	h := s.connect(s.client())
	for _, c := range []struct {
		response []byte
		failure  error
		want     pcscd.Code
	}{
		{nil, errors.New("broken"), pcscd.ErrNotTransacted},
		{nil, fmt.Errorf("fault: %w", pcscd.ErrComm), pcscd.ErrComm},
		{nil, nil, pcscd.ErrNotTransacted},
		{[]byte{0x90}, nil, pcscd.ErrNotTransacted},
		{make([]byte, 65549), nil, pcscd.ErrNotTransacted},
	} {
		response, failure = c.response, c.failure
		_, err := h.Transmit(soon(t), []byte{0, 0x84, 0, 0})
		require.ErrorIs(t, err, c.want)
	}
	response, failure = []byte{0x90, 0x00}, nil
	_, err := h.Transmit(soon(t), []byte{0, 0x84, 0, 0})
	require.NoError(t, err, "and goes on")
}

// Shows PCSC-8.
func TestContext_IsTheConnections(t *testing.T) {
	t.Parallel()
	s := newService(t)
	w := wire{t, s.raw()}
	require.Equal(t, word(pcscd.ErrInvalidHandle), w.call(0x02, word(1), word(0))[4:], "none yet")
	got := w.call(0x04, w.connectBody(1, name0, 2, 2))
	require.Equal(t, pcscd.ErrInvalidHandle, codeAt(got, 148))
	number := w.establish(4)
	require.NotZero(t, number)
	require.Zero(t, uint32(number)>>31)
	got = w.call(0x01, word(4), word(0), word(0))
	require.Equal(t, join(word(0), word(pcscd.ErrInvalidValue)), got[4:], "no such scope")
	first := number
	number = w.establish(4)
	require.NotEqual(t, first, number, "the last one counts")
	require.Equal(t, word(pcscd.ErrInvalidValue), w.call(0x02, word(first), word(0))[4:])
	require.Equal(t, word(pcscd.ErrInvalidValue), w.call(0x02, word(number^1), word(0))[4:])
	require.Equal(t, word(0), w.call(0x02, word(number), word(0))[4:])
	require.Equal(t, word(pcscd.ErrInvalidHandle), w.call(0x02, word(number), word(0))[4:])
	require.Equal(t, word(0), w.call(0x01, word(2), word(0), word(0))[8:], "and once more")
}

func TestContext_ReleaseGivesUpItsHandles(t *testing.T) {
	t.Parallel()
	s := newService(t)
	w, c := wire{t, s.raw()}, s.client()
	number := w.establish(4)
	got := w.call(0x04, w.connectBody(number, name0, 2, 2))
	require.Equal(t, pcscd.OK, codeAt(got, 148))
	require.EqualValues(t, 1, s.state(c).Sharing)
	require.Equal(t, word(0), w.call(0x02, word(number), word(0))[4:])
	require.EqualValues(t, 0, s.state(c).Sharing)
}

func TestServer_NumbersComeFromItsSource(t *testing.T) {
	t.Parallel()
	// Zero, and the first context's number once more, are passed over.
	numbers := join([]byte{0x80, 0, 0, 0}, []byte{0x92, 0x34, 0x56, 0x78}, []byte{0x12, 0x34, 0x56, 0x78}, []byte{0, 0, 0, 9})
	s := &pcscd.Server{Random: bytes.NewReader(numbers)}
	path := filepath.Join(t.TempDir(), "s")
	l, err := pcscd.Listen(path)
	require.NoError(t, err)
	done := at(func() error { return s.Serve(l) })
	a, err := pcscd.Dial(soon(t), path)
	require.NoError(t, err)
	b, err := pcscd.Dial(soon(t), path)
	require.NoError(t, err)
	require.EqualValues(t, 0x12345678, a.Context())
	require.EqualValues(t, 9, b.Context())
	_, err = pcscd.Dial(soon(t), path)
	require.Error(t, err, "none left")
	require.NoError(t, s.Close())
	require.ErrorIs(t, <-done, pcscd.ErrClosed)
}

// Shows PCSC-27 and PCSC-32.
func TestControl_SaysHowLongAPDUsMayBe(t *testing.T) {
	t.Parallel()
	s := newService(t)
	_, err := s.server.Add(pcscd.Description{Name: "plain", MaxAPDU: 261})
	require.NoError(t, err)
	c := s.client()
	h := s.connect(c)
	got, err := h.Control(soon(t), pcscd.ControlFeatures, nil)
	require.NoError(t, err)
	require.Equal(t, []byte{0x12, 0x04, 0x42, 0x33, 0x00, 0x12}, got)
	got, err = h.Control(soon(t), pcscd.ControlProperties, nil)
	require.NoError(t, err)
	require.Equal(t, []byte{
		0x01, 2, 0, 0, 0x03, 1, 0, 0x09, 1, 0, // no display, one time-out, no pseudo-APDUs
		0x0B, 2, 0xA0, 0x20, 0x0C, 2, 0x30, 0x42,
		0x0A, 4, 0, 0, 1, 0,
	}, got, "IFDHControl of the CCID driver with the token's descriptors")
	for function, want := range map[uint32][]byte{
		0x00313520: {0x12, 0x04, 0x42, 0x33, 0x00, 0x12},
		0x4233000A: {0, 0, 7, 0},
	} {
		got, err = h.Control(soon(t), function, nil)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for function, want := range map[uint32]pcscd.Code{
		0x42000001: pcscd.ErrNotTransacted, // escape, off as the driver is delivered
		0x42330008: pcscd.ErrNotTransacted,
		0x42330006: pcscd.ErrUnsupportedFeature, // no keypad
		0x42330007: pcscd.ErrUnsupportedFeature,
		0x42000003: pcscd.ErrUnsupportedFeature,
	} {
		_, err = h.Control(soon(t), function, []byte("x"))
		require.ErrorIs(t, err, want, "%08X", function)
	}

	direct, err := c.Connect(soon(t), "plain", pcscd.Direct, 0)
	require.NoError(t, err, "a reader can be asked without a card")
	got, err = direct.Control(soon(t), pcscd.ControlProperties, nil)
	require.NoError(t, err)
	require.Equal(t, []byte{0x01, 2, 0, 0, 0x03, 1, 0, 0x09, 1, 0, 0x0A, 0x04, 5, 1, 0, 0}, got)

	w := wire{t, s.raw()}
	hw := w.handle(name0)
	short := w.call(0x0A, word(hw), word(0x42000D48), word(0), word(5), word(9), word(9))
	require.Equal(t, join(word(6), word(pcscd.ErrInsufficientBuffer)), short[16:])
}

// Shows PCSC-31, PCSC-33 and PCSC-34.
func TestAttrib_DescribesTheReader(t *testing.T) {
	t.Parallel()
	s := newService(t)
	_, err := s.server.Add(pcscd.Description{Name: "plain"})
	require.NoError(t, err)
	c := s.client()
	h := s.connect(c)
	for tag, want := range map[uint32][]byte{
		pcscd.AttribATR:          atr,
		pcscd.AttribVendorName:   []byte("Nitrokey\x00"),
		pcscd.AttribSerial:       []byte("DENK01234560000         \x00"),
		pcscd.AttribFriendlyName: []byte(name0 + "\x00"),
		pcscd.AttribSystemName:   []byte(name0 + "\x00"),
		pcscd.AttribChannel:      {2, 1, 0x20, 0},
		pcscd.AttribMaxInput:     {5, 1, 0, 0}, // 261
		pcscd.AttribVersion:      {0, 0, 0, 1},

		pcscd.AttribPresence:        {2},
		pcscd.AttribInterfaceStatus: {1},

		0x0303: atr, // what pcscd asks its driver by itself
		0x0FAC: {0},
		0x0FAD: {1},
		0x0FAE: {1},
		0x0FAF: {16},
		0x0FB1: {},
	} {
		got, err := h.Attrib(soon(t), tag)
		require.NoError(t, err, "%08X", tag)
		require.Equal(t, want, got, "%08X", tag)
	}
	_, err = h.Attrib(soon(t), 0x00010101)
	require.ErrorIs(t, err, pcscd.ErrUnsupportedFeature)

	plain, err := c.Connect(soon(t), "plain", pcscd.Direct, 0)
	require.NoError(t, err)
	for tag, want := range map[uint32][]byte{
		pcscd.AttribATR:             {},
		pcscd.AttribPresence:        {0},
		pcscd.AttribInterfaceStatus: {0},
	} {
		got, err := plain.Attrib(soon(t), tag)
		require.NoError(t, err, "%08X", tag)
		require.Equal(t, want, got, "%08X", tag)
	}
	for tag, want := range map[uint32]error{
		pcscd.AttribMaxInput:   pcscd.ErrUnsupportedFeature,
		pcscd.AttribVendorName: pcscd.ErrUnsupportedFeature,
		pcscd.AttribSerial:     pcscd.ErrUnsupportedFeature,
		pcscd.AttribVersion:    pcscd.ErrUnsupportedFeature,
	} {
		_, err := plain.Attrib(soon(t), tag)
		require.ErrorIs(t, err, want)
	}

	w := wire{t, s.raw()}
	hw := w.handle(name0)
	got := w.call(0x0F, word(hw), word(pcscd.AttribATR), make([]byte, 264), word(5), word(0))
	require.Equal(t, pcscd.ErrInsufficientBuffer, codeAt(got, 276))
	got = w.call(0x10, word(hw), word(pcscd.AttribATR), make([]byte, 264), word(5), word(0))
	require.Equal(t, pcscd.ErrNotTransacted, codeAt(got, 276), "nothing can be set")
}

// Shows APDU-3, APDU-4 and PCSC-26.
func TestNitrokeyHSM_NamesTheReaderAsPCSCLiteDoes(t *testing.T) {
	t.Parallel()
	require.Equal(t, name0, pcscd.NitrokeyHSM("DENK01234560000", 0).Name)
	require.Equal(t, name1, pcscd.NitrokeyHSM("DENK0765432", 1).Name)
	require.Contains(t, pcscd.NitrokeyHSM("DENK0765432", 15).Name, ") 0F 00")
}

// Shows PCSC-10.
func TestListen_IsForItsOwnerAlone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	l, err := pcscd.Listen(path)
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	_, err = pcscd.Listen(path)
	require.ErrorContains(t, err, "address already in use")
	require.NoError(t, l.Close())
	_, err = os.Stat(path)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestListen_LongPathIsSaidClearly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fits := filepath.Join(dir, strings.Repeat("x", pcscd.PathMax-len(dir)-1))
	l, err := pcscd.Listen(fits)
	require.NoError(t, err)
	require.NoError(t, l.Close())
	_, err = pcscd.Listen(fits + "y")
	require.ErrorIs(t, err, pcscd.ErrPath)
	require.ErrorContains(t, err, "108 bytes, at most 107 fit: "+fits)
	_, err = os.Stat(fits + "y")
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestDial_NoDaemonIsSaidClearly(t *testing.T) {
	t.Parallel()
	_, err := pcscd.Dial(soon(t), filepath.Join(t.TempDir(), "none"))
	require.ErrorIs(t, err, pcscd.ErrNoService)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestServe_EndsWhenItsListenerDoes(t *testing.T) {
	t.Parallel()
	var s pcscd.Server
	l, err := pcscd.Listen(filepath.Join(t.TempDir(), "s"))
	require.NoError(t, err)
	done := at(func() error { return s.Serve(l) })
	require.NoError(t, l.Close())
	require.ErrorIs(t, <-done, net.ErrClosed)
	require.NoError(t, s.Close())
	require.ErrorIs(t, s.Serve(l), pcscd.ErrClosed)
	require.NoError(t, s.Close())
}
