package pcscd_test

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/vsmartcard"
	"hsmemu/vsmartcard/pcscd"
)

// Random sequences of requests go to Debian's pcscd, whose virtual reader holds
// a card, and to this package's daemon with a card alike. All that three clients
// can see has to be equal: return codes, the replies byte by byte, what becomes
// of the reader, and the answers of the card, which tell how often it has been
// used since it last had no power. What is not equal is written down here.
//
// The ordinary run takes seconds. -sequences makes it longer, -seed another one.
var (
	sequences = flag.Int("sequences", 100, "how many random sequences are compared with pcscd's")
	seed      = flag.Uint64("seed", 1, "what the sequences follow from")
)

// atrs are those of other cards: T=0, both, either in specific mode, others, none
// of a mute card, and that of the token again.
var atrs = [][]byte{
	{0x3B, 0x00},
	{0x3B, 0x80, 0x80, 0x01, 0x01},
	{0x3B, 0x90, 0x11, 0x91, 0x00, 0x01, 0x91},
	{0x3B, 0x90, 0x11, 0x90, 0x01, 0x00, 0x80},
	{0x3B, 0x90, 0x11, 0x91, 0x0E, 0x00, 0x8E},
	{0x3B, 0x80, 0x8F, 0x01, 0x0E},
	{0x3F, 0x80, 0x0E},
	nil,
	atr,
}

// expected is what has to be met in any run, lest the sequences are about nothing.
var expected = []outcome{
	{opConnect, pcscd.OK},
	{opConnect, pcscd.ErrSharingViolation},
	{opConnect, pcscd.ErrProtocolMismatch},
	{opReconnect, pcscd.OK},
	{opReconnect, pcscd.ErrSharingViolation},
	{opReconnect, pcscd.ErrProtocolMismatch},
	{opDisconnect, pcscd.OK},
	{opBegin, pcscd.OK},
	{opBegin, pcscd.ErrReset},
	{opBegin, pcscd.ErrSharingViolation},
	{opEnd, pcscd.OK},
	{opEnd, pcscd.ErrReset},
	{opEnd, pcscd.ErrNotTransacted},
	{opEnd, pcscd.ErrUnsupportedFeature},
	{opStatus, pcscd.OK},
	{opStatus, pcscd.ErrReset},
	{opTransmit, pcscd.OK},
	{opTransmit, pcscd.ErrReset},
	{opTransmit, pcscd.ErrInsufficientBuffer},
	{opTransmit, pcscd.ErrProtocolMismatch},
	{opTransmit, pcscd.ErrSharingViolation},
	{opStatus, pcscd.ErrRemoved},
	{opConnect, pcscd.ErrNoSmartcard},
}

// tolerated are the fields of replies that differ, and why.
var tolerated = []struct {
	command, at, size int
	only              []pcscd.Code // pcscd's answers for which it holds, all if nil
	why               string
}{
	{transmitCommand, 16, 4, nil, "vpcd says that answers come by T=0; the CCID driver leaves the field alone, and so do we"},
	{getCommand, 272, 4, []pcscd.Code{pcscd.ErrUnsupportedFeature}, "vpcd writes a length of 0 where the CCID driver leaves the client's"},
	{cancelCommand, 4, 4, []pcscd.Code{pcscd.ErrInvalidHandle}, "pcscd before 2.0 does not know clients that do not wait; later ones answer 0, and so do we"},
}

// avoided are requests that are not made, and why.
var avoided = []struct {
	is  func(m *model, s act) bool
	why string
}{
	{
		func(m *model, s act) bool { return s.op == opConnect && m.owner != 0 && !m.exclusive },
		"waits for the end of the transaction: of one's own for good in pcscd, and ours refuses it",
	},
	{
		func(m *model, s act) bool { return s.op == opDisconnect && s.how != 0 && m.foreign(s) },
		"likewise",
	},
}

// requests whose replies are looked at.
const (
	transmitCommand = 0x09
	cancelCommand   = 0x0D
	getCommand      = 0x0F
)

// A daemon takes the power from a card that nobody uses: pcscd with vpcd after
// 0.4 seconds at the earliest, ours in this test never. A sequence that was held
// up for nearly as long while nobody used the card is played again.
const unusedMax = 300 * time.Millisecond

// act is a request of one of three clients with one of its handles.
type act struct {
	op             op
	client, handle int
	share          int
	protocols      int
	how            int
	room           int // for the answer to a command
	length         int // of that answer
	wrong          bool
}

type op int

const (
	opConnect op = iota
	opReconnect
	opDisconnect
	opBegin
	opEnd
	opStatus
	opTransmit
	opControl
	opGet
	opSet
	opCancel
	opWait
	opEstablish
	opRelease
	opLeave // the client goes, and another comes
	opMove  // somebody takes the card out, or puts it in
)

var opNames = []string{
	"connect", "reconnect", "disconnect", "begin", "end", "status", "transmit", "control", "get", "set",
	"cancel", "wait", "establish", "release", "leave", "move",
}

func (s act) String() string {
	return fmt.Sprintf("%s client=%d handle=%d share=%d protocols=%#x how=%d room=%d length=%d wrong=%v",
		opNames[s.op], s.client, s.handle, s.share, s.protocols, s.how, s.room, s.length, s.wrong)
}

// draw makes up a request, mostly one that has a chance. pcscd takes a while to
// see that a card has moved, so that not every sequence has such acts.
func draw(r *rand.Rand, moves bool) act {
	if moves && r.IntN(6) == 0 {
		return act{op: opMove}
	}
	return act{
		op: pick(r, slices.Concat(
			often(8, opConnect, opReconnect, opTransmit),
			often(5, opBegin, opEnd, opDisconnect, opStatus),
			often(1, opControl, opGet, opSet, opCancel, opWait, opEstablish, opRelease, opLeave),
		)),
		client:    r.IntN(3),
		handle:    r.IntN(4),
		share:     pick(r, []int{2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 3, 3, 3, 0, 9}),
		protocols: pick(r, []int{2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 2, 2, 1, 4, 6, 0, 8, 0x1000, 0x1002}),
		how:       pick(r, []int{0, 0, 0, 0, 1, 1, 2, 2, 3, 4}),
		room:      pick(r, []int{65548, 65548, 258, 258, 3, 2, 1, 0}),
		length:    pick(r, []int{2, 2, 2, 3, 258, 4096, 65535}),
		wrong:     r.IntN(8) == 0,
	}
}

// often repeats each of ops n times.
func often(n int, ops ...op) []op { return slices.Repeat(ops, n) }

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

// tally is a card whose answers begin with the number of commands since it last
// had no power. Bytes 2 and 3 of a command say how long the answer is.
type tally struct {
	mu    sync.Mutex
	atr   []byte
	count byte
	seen  [][]byte
}

func (c *tally) ATR() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.atr
}

func (c *tally) Reset() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count = 0
	return nil
}

func (c *tally) Transmit(_ context.Context, command []byte) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count++
	c.seen = append(c.seen, slices.Clone(command))
	answer := make([]byte, binary.BigEndian.Uint16(command[2:]))
	answer[0] = c.count
	return answer, nil
}

func (c *tally) commands() [][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen
}

// side is one of the two daemons, with three clients.
type side struct {
	name    string
	socket  string
	reader  string
	card    *tally
	eject   func() error
	insert  func() error
	clients [3]sideClient
	watcher wire
}

type sideClient struct {
	wire
	context int
	handles []int
}

// open makes a client where there is none.
func (s *side) open(t testing.TB, n int) {
	conn, err := net.Dial("unix", s.socket)
	require.NoError(t, err)
	c := &s.clients[n]
	*c = sideClient{wire: wire{t, conn}}
	c.context = c.establish(4)
}

// entry is what clients are told of the reader.
func (s *side) entry() []byte {
	s.watcher.send(0x12, nil, nil)
	for b := s.watcher.read(2944); len(b) > 0; b = b[184:] {
		if string(b[:len(s.reader)+1]) == s.reader+"\x00" {
			return b[:184]
		}
	}
	panic("no reader")
}

// shown is one field of that.
func (s *side) shown(at int) pcscd.Code { return codeAt(s.entry(), at) }

// state is all of it.
func (s *side) state() string {
	b := s.entry()
	return fmt.Sprintf("events %d state %02X sharing %d ATR %X protocol %d", codeAt(b, 128), uint32(codeAt(b, 132)),
		int32(codeAt(b, 136)), b[140:140+min(33, uint32(codeAt(b, 176)))], uint32(codeAt(b, 180)))
}

// await waits for something that a daemon does in its own time.
func (s *side) await(t testing.TB, is func() bool) {
	for ctx := soon(t); !is(); {
		require.NoError(t, ctx.Err(), "%s: %s", s.name, s.state())
		runtime.Gosched()
	}
}

// sharing waits until the reader has that many handles.
func (s *side) sharing(t testing.TB, want int32) {
	s.await(t, func() bool { return int32(s.shown(136)) == want })
}

// do makes the request and returns the reply without the numbers that are
// random.
func (s *side) do(t testing.TB, x act) []byte {
	c := &s.clients[x.client]
	h := 0
	if len(c.handles) > 0 {
		x.handle %= len(c.handles)
		h = c.handles[x.handle]
	}
	switch x.op {
	case opConnect:
		context, name := c.context, s.reader
		if x.wrong && x.how == 0 {
			context ^= 1
		} else if x.wrong {
			name = "nobody"
		}
		padded := make([]byte, 128)
		copy(padded, name)
		got := c.call(0x04, word(context), padded, word(x.share), word(x.protocols), word(99), word(98), word(97))
		if codeAt(got, 148) == pcscd.OK {
			c.handles = append(c.handles, int(codeAt(got, 140)))
		}
		if n := codeAt(got, 140); n != 0 {
			copy(got[140:], "HAND")
		}
		return got[132:]
	case opReconnect:
		return c.call(0x05, word(h), word(x.share), word(x.protocols), word(x.how), word(99), word(98))[4:]
	case opDisconnect:
		got := c.call(0x06, word(h), word(x.how), word(99))
		if codeAt(got, 8) == pcscd.OK {
			c.handles = slices.Delete(c.handles, x.handle, x.handle+1)
		}
		return got[4:]
	case opBegin:
		return c.call(0x07, word(h), word(99))[4:]
	case opEnd:
		return c.call(0x08, word(h), word(x.how), word(99))[4:]
	case opStatus:
		return c.call(0x0B, word(h), word(99))[4:]
	case opTransmit:
		command := binary.BigEndian.AppendUint16([]byte{0x80, 0x10}, uint16(x.length))
		c.send(0x09, join(word(h), word(x.protocols), word(16), word(len(command)), word(3), word(16), word(x.room), word(99)), command)
		got := c.read(32)
		if codeAt(got, 28) == pcscd.OK {
			got = append(got, c.read(int(codeAt(got, 24)))...)
		}
		return got[4:]
	case opControl:
		return c.call(0x0A, word(h), word(0x42001234), word(0), word(x.room), word(99), word(98))[4:]
	case opGet:
		return c.call(0x0F, word(h), word(0x00012345), make([]byte, 264), word(min(x.room, 264)), word(99))[4:]
	case opSet:
		return c.call(0x10, word(h), word(0x00090303), make([]byte, 264), word(min(x.room, 264)), word(99))[4:]
	case opCancel:
		other := s.clients[x.how%3].context
		if x.wrong {
			other = 0x12345678
		}
		return c.call(0x0D, word(other), word(99))[4:]
	case opWait:
		c.send(0x13, nil, nil)
		c.read(2944)
		c.send(0x14, nil, nil)
		return c.read(8)
	case opEstablish:
		scope := x.how
		got := c.call(0x01, word(scope), word(99), word(98))
		if codeAt(got, 8) != pcscd.OK {
			return got
		}
		c.context = int(codeAt(got, 4))
		return got[8:]
	case opRelease:
		context := c.context
		if x.wrong {
			context ^= 1
		}
		got := c.call(0x02, word(context), word(99))
		if codeAt(got, 4) == pcscd.OK {
			c.handles = nil
			c.context = c.establish(4)
		}
		return got[4:]
	case opMove:
		// Clients see it when the reader has counted it.
		before := s.shown(128)
		if s.shown(132) == pcscd.Code(pcscd.StateAbsent) {
			require.NoError(t, s.insert())
		} else {
			require.NoError(t, s.eject())
		}
		s.await(t, func() bool { return s.shown(128) != before })
		return nil
	case opLeave:
		require.NoError(t, c.conn.Close())
		s.open(t, x.client)
		return nil
	}
	panic("unknown act")
}

// model is what has to be known of the reader to keep out of requests that wait.
type model struct {
	handles     [3][]int // made up, from 1
	last        int
	owner       int
	locks       int
	exclusive   bool
	out         bool      // the card
	unused      time.Time // since when, zero while the card is in use or out
	began, done time.Time // of the last act, as far as pcscd does it
	met         map[outcome]int
}

// outcome is a request with pcscd's return code for it.
type outcome struct {
	op   op
	code pcscd.Code
}

func (m *model) handle(s act) int {
	if hs := m.handles[s.client]; len(hs) > 0 {
		return hs[s.handle%len(hs)]
	}
	return 0
}

func (m *model) foreign(s act) bool { return m.owner != 0 && m.owner != m.handle(s) }

// needs reports whether a act is one with a handle.
func (s act) needs() bool {
	switch s.op {
	case opConnect, opCancel, opWait, opEstablish, opRelease, opLeave, opMove:
		return false
	}
	return true
}

// count is how the reader tells of its handles.
func (m *model) count() int32 {
	if m.exclusive {
		return -1
	}
	n := 0
	for _, hs := range m.handles {
		n += len(hs)
	}
	return int32(n)
}

// drop takes one of the client's handles, or all of them, from the model.
func (m *model) drop(client, handle int) {
	m.handles[client] = slices.DeleteFunc(m.handles[client], func(h int) bool { return h == handle })
	if m.owner == handle {
		m.owner, m.locks = 0, 0
	}
	m.exclusive = false // if it was, it was the only one
	if m.count() == 0 && m.unused.IsZero() && !m.out {
		m.unused = m.began
	}
}

// after follows a act with pcscd's answer. It reports whether the handle has to
// go because pcscd keeps a lock on the card that nobody can know of: that of an
// exclusive handle that has become a shared one.
func (m *model) after(s act, code pcscd.Code) (phantom bool) {
	h := m.handle(s)
	switch {
	case s.op == opMove:
		m.out, m.owner, m.locks = !m.out, 0, 0
		m.unused = time.Time{}
		if !m.out {
			m.unused = m.done
		}
		return false
	case s.op == opRelease && code == pcscd.OK, s.op == opLeave:
		for _, h := range slices.Clone(m.handles[s.client]) {
			m.drop(s.client, h)
		}
		return false
	case s.op == opEnd && (code == pcscd.OK || s.how == 3 && code == pcscd.ErrUnsupportedFeature):
		if m.owner == h && (m.locks > 1 || !m.exclusive) {
			m.locks--
		}
		if m.locks == 0 {
			m.owner = 0
		}
		return false
	case code != pcscd.OK:
		return false
	}
	switch s.op {
	case opConnect:
		m.last++
		m.handles[s.client] = append(m.handles[s.client], m.last)
		if s.share == 1 {
			m.owner, m.locks, m.exclusive = m.last, 1, true
		}
		if s.share != 3 {
			m.unused = time.Time{}
		}
	case opReconnect:
		switch {
		case s.share == 1 && !m.exclusive:
			m.owner, m.exclusive = h, true
			m.locks++
		case s.share != 1 && m.exclusive:
			m.exclusive = false
			if m.locks == 1 {
				return true
			}
			m.locks = max(m.locks-1, 0)
		}
		if s.share != 3 && s.protocols&4 == 0 {
			m.unused = time.Time{}
		}
	case opDisconnect:
		m.drop(s.client, h)
	case opBegin:
		m.owner = h
		m.locks++
	}
	return false
}

var errHeldUp = errors.New("held up")

// perform has both do the acts to both and says where they differ.
func perform(t testing.TB, sides [2]*side, script []act, met map[outcome]int) error {
	for _, s := range sides {
		for n := range s.clients {
			s.open(t, n)
		}
	}
	defer func() {
		for _, s := range sides {
			if s.shown(132) == pcscd.Code(pcscd.StateAbsent) {
				s.do(t, act{op: opMove})
			}
			for _, c := range s.clients {
				require.NoError(t, c.conn.Close())
			}
			s.sharing(t, 0)
		}
	}()
	// The same beginning, whatever the last sequence left and however long ago.
	for _, s := range sides {
		for _, x := range []act{{op: opConnect, share: 3}, {op: opReconnect, share: 3, how: 1}, {op: opDisconnect}} {
			s.do(t, x)
		}
	}
	m := &model{met: met}
	begin := []act{{op: opConnect, share: 2, protocols: 3}, {op: opReconnect, share: 2, protocols: 3, how: 1}}
	for _, s := range append(begin, script...) {
		for n := 0; n < 2 && s.needs() && m.handle(s) == 0; n++ {
			s.client = (s.client + 1) % 3 // to one with a handle
		}
		if s.needs() && m.handle(s) == 0 || slices.ContainsFunc(avoided, func(a struct {
			is  func(m *model, s act) bool
			why string
		},
		) bool {
			return a.is(m, s)
		}) {
			continue
		}
		phantom, err := compare(t, sides, m, s)
		if err == nil && phantom {
			s.op = opDisconnect
			_, err = compare(t, sides, m, s)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// compare has both do one act.
func compare(t testing.TB, sides [2]*side, m *model, s act) (phantom bool, err error) {
	m.began = time.Now()
	real := sides[0].do(t, s)
	m.done = time.Now()
	ours := sides[1].do(t, s)
	code := pcscd.OK
	if at, ok := codesAt[s.op]; ok {
		code = codeAt(real, at)
	}
	m.met[outcome{s.op, code}]++
	phantom = m.after(s, code)
	if s.op == opRelease || s.op == opLeave {
		for _, side := range sides {
			side.sharing(t, m.count())
		}
	}
	states := [2]string{sides[0].state(), sides[1].state()}
	if !m.unused.IsZero() && time.Since(m.unused) > unusedMax {
		return false, errHeldUp
	}
	shown := slices.Clone(ours)
	for _, d := range tolerated {
		if d.command == commands[s.op] && (d.only == nil || slices.Contains(d.only, code)) {
			copy(shown[d.at-4:d.at-4+d.size], real[d.at-4:])
		}
	}
	if !slices.Equal(real, shown) {
		return false, fmt.Errorf("%v:\npcscd %X\nours  %X", s, real[:min(len(real), 300)], ours[:min(len(ours), 300)])
	}
	if states[0] != states[1] {
		return false, fmt.Errorf("%v: then\npcscd %s\nours  %s", s, states[0], states[1])
	}
	if a, b := sides[0].card.commands(), sides[1].card.commands(); !slices.EqualFunc(a, b, slices.Equal[[]byte]) {
		return false, fmt.Errorf("%v: the cards saw %d and %d commands", s, len(a), len(b))
	}
	return phantom, nil
}

// commands and codesAt tell of the requests that the acts are, and where the
// code is in what do returns.
var (
	commands = map[op]int{opTransmit: transmitCommand, opGet: getCommand, opCancel: cancelCommand}
	codesAt  = map[op]int{
		opConnect: 16, opReconnect: 16, opDisconnect: 4, opBegin: 0, opEnd: 4, opStatus: 0, opTransmit: 24,
		opControl: 16, opGet: 272, opSet: 272, opCancel: 0, opRelease: 0,
	}
)

// Shows PCSC-29, PCSC-30 and PCSC-35.
func TestDifferential_RandomSequencesAgainstPCSCD(t *testing.T) {
	real := &side{name: "pcscd", reader: vpcdName, card: &tally{atr: atr}}
	socket, bridge := systemDaemon(t, real.card)
	real.socket = socket
	real.eject = func() error { return bridge.Eject(soon(t)) }
	real.insert = func() error { return bridge.Insert(soon(t)) }
	ours := &side{name: "ours", reader: vpcdName, card: &tally{atr: atr}, socket: filepath.Join(t.TempDir(), "s")}
	server := &pcscd.Server{Grace: -1}
	r, err := server.Add(pcscd.Description{Name: vpcdName})
	require.NoError(t, err)
	require.NoError(t, r.Insert(ours.card))
	ours.eject, ours.insert = r.Eject, func() error { return r.Insert(ours.card) }
	l, err := pcscd.Listen(ours.socket)
	require.NoError(t, err)
	done := at(func() error { return server.Serve(l) })
	t.Cleanup(func() {
		require.NoError(t, server.Close())
		require.ErrorIs(t, <-done, pcscd.ErrClosed)
	})
	sides := [2]*side{real, ours}
	for _, s := range sides {
		conn, err := net.Dial("unix", s.socket)
		require.NoError(t, err)
		s.watcher = wire{t, conn}
	}
	met := make(map[outcome]int)
	differ := func(script []act) error {
		for range 20 {
			err := perform(t, sides, script, met)
			for _, s := range sides {
				s.card.forget()
			}
			if !errors.Is(err, errHeldUp) {
				return err
			}
		}
		return errHeldUp
	}
	// More handles than there can be, and cards of other sorts.
	require.NoError(t, differ(slices.Repeat([]act{{op: opConnect, share: 2, protocols: 2}}, 202)))
	for _, other := range atrs {
		for _, s := range sides {
			s.card.become(other)
		}
		require.NoError(t, differ([]act{
			{op: opConnect, share: 3, client: 1},
			{op: opReconnect, share: 2, protocols: 1, how: 1},
			{op: opReconnect, share: 2, protocols: 2, how: 1},
			{op: opReconnect, share: 2, protocols: 3, how: 2},
			{op: opReconnect, share: 2, protocols: 0x1000, how: 1},
			{op: opTransmit, protocols: 1, length: 2, room: 2},
			{op: opTransmit, protocols: 2, length: 2, room: 2},
			{op: opReconnect, share: 2, protocols: 3},
			{op: opConnect, share: 2, protocols: 3},
			{op: opBegin},
			{op: opEnd, how: 1},
			{op: opStatus},
			{op: opReconnect, share: 2, protocols: 3},
			{op: opDisconnect, how: 1},
			{op: opConnect, share: 2, protocols: 3},
		}), "ATR %X", other)
	}
	unjudged := 0
	for n := range *sequences {
		r := rand.New(rand.NewPCG(*seed, uint64(n)))
		script := make([]act, 1+r.IntN(40))
		for i := range script {
			script[i] = draw(r, n%25 == 9)
		}
		err := differ(script)
		switch {
		case errors.Is(err, errHeldUp):
			unjudged++
		case err != nil:
			script, err = shorten(script, err, differ)
			for _, s := range script {
				t.Logf("%v", s)
			}
			require.NoError(t, err, "-seed %d, sequence %d, without what does not matter", *seed, n)
		}
	}
	require.LessOrEqual(t, unjudged, *sequences/2, "held up again and again")
	for o, n := range met {
		t.Logf("%s %08X: %d", opNames[o.op], uint32(o.code), n)
	}
	for _, o := range expected {
		require.NotZero(t, met[o], "%s was never answered with %08X", opNames[o.op], uint32(o.code))
	}
}

// shorten leaves out requests as long as there is still a difference.
func shorten(script []act, err error, differ func([]act) error) ([]act, error) {
	for i := len(script) - 1; i >= 0; i-- {
		shorter := slices.Delete(slices.Clone(script), i, i+1)
		if still := differ(shorter); still != nil && !errors.Is(still, errHeldUp) {
			script, err = shorter, still
		}
	}
	return script, err
}

// become gives the card another ATR from its next reset on.
func (c *tally) become(atr []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.atr = atr
}

func (c *tally) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = nil
}

var _ vsmartcard.Card = (*tally)(nil)
