package emulator_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/keystore"
)

// shelf is a store in memory that can fail.
type shelf struct {
	mu     sync.Mutex
	states []chip.Durable
	// failing is the number of saves that still succeed; negative is all.
	failing int
	counts  bool
}

var errFull = errors.New("no space left on device")

func (s *shelf) Save(d chip.Durable) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failing == 0 {
		return errFull
	}
	s.failing--
	s.states = append(s.states, d)
	return nil
}

func (s *shelf) Counts() bool { return s.counts }

func (s *shelf) failAfter(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failing = n
}

// tries are the user PIN's tries in the saved states, one after the other.
func (s *shelf) tries() (list []uint8) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.states {
		list = append(list, d.Applet.PINs.User.Left)
	}
	return list
}

// clock is a clock that ticks when it is read.
func clock() func() time.Time {
	var ticks atomic.Int64
	start := time.Date(2026, time.November, 23, 12, 0, 0, 0, time.UTC)
	return func() time.Time { return start.Add(time.Duration(ticks.Add(1)) * time.Millisecond) }
}

// bench is a card that was initialised with the application selected, its
// store, and what its log hears.
type bench struct {
	*emulator.Card
	t     *testing.T
	shelf *shelf
	log   *bytes.Buffer
}

// newBench makes a card; change may change the world around it.
func newBench(t *testing.T, change func(*emulator.World)) *bench {
	t.Helper()
	return newBenchOf(t, chip.Order{}, change)
}

func newBenchOf(t *testing.T, o chip.Order, change func(*emulator.World)) *bench {
	t.Helper()
	random := emulator.Seeded(1, [32]byte{})
	w := emulator.World{Rand: random, Deterministic: true, Clock: clock(), RSA: keystore.PoolGenerator{Rand: random}}
	d, err := w.Manufacture(o)
	require.NoError(t, err)
	b := &bench{t: t, shelf: &shelf{failing: -1}, log: &bytes.Buffer{}}
	w.Log = slog.New(slog.NewTextHandler(b.log, nil))
	setUp, err := emulator.New(d, b.shelf, w)
	require.NoError(t, err)
	for _, c := range []string{selectHSM, initialise} {
		answer, err := setUp.Transmit(t.Context(), command(t, c))
		require.NoError(t, err)
		require.Equal(t, []byte{0x90, 0x00}, answer)
	}
	if change != nil {
		change(&w)
	}
	b.Card, err = emulator.New(setUp.Snapshot().Durable(), b.shelf, w)
	require.NoError(t, err)
	b.shelf.states = nil
	require.Equal(t, "9000", b.say(selectHSM))
	return b
}

func (b *bench) say(text string) string {
	b.t.Helper()
	answer, err := b.Transmit(b.t.Context(), command(b.t, text))
	require.NoError(b.t, err)
	return fmt.Sprintf("%X", answer)
}

const (
	rightPIN  = "0020008106363438323139"
	challenge = "0084000008"
	writeCF   = "00D7CF%02X07540200005301AA"
)

// rsaKey is GENERATE ASYMMETRIC KEY PAIR for RSA-1024 without an answer.
const rsaKey = "0046010030" + "4209555443413030303031" + "7F4915060A04007F000702020201028203010001" + "02020400" + "5F200A55544B45593030303031"

// Everything that an answer relies on is saved before the answer is there, in
// the order of the core.
func TestTransmit_SavesInOrder(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	require.Equal(t, "63C2", b.say(wrongPIN))
	require.Equal(t, []uint8{2}, b.shelf.tries())
	require.Equal(t, "9000", b.say(rightPIN))
	require.Equal(t, []uint8{2, 1, 3}, b.shelf.tries())
	require.Equal(t, "9000", b.say(triesOfPIN))
	require.Len(t, b.shelf.states, 3)
	require.Equal(t, b.shelf.states[2], b.Snapshot().Durable())
}

// A state that cannot be saved has not happened: the card answers with a memory
// failure, is as it was last saved, and says nothing more until its reset.
func TestTransmit_SaveFails(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, command string
		good          int // saves that succeed before the one that fails
		tries         uint8
	}{
		{"the try of a wrong PIN", wrongPIN, 0, 3},
		{"the try of the right PIN", rightPIN, 0, 3},
		{"what follows the right PIN", rightPIN, 1, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, nil)
			events, stop := b.Watch(8)
			defer stop()
			before := b.Snapshot().Durable()
			b.shelf.failAfter(c.good)
			require.Equal(t, "6581", b.say(c.command))

			after := b.Snapshot()
			require.Equal(t, c.tries, after.Durable().Applet.PINs.User.Left)
			if c.good == 0 {
				require.Equal(t, before, after.Durable())
			}
			require.False(t, after.Selected)
			require.False(t, after.Applet.Login.User)
			require.Len(t, b.shelf.states, c.good)

			told := <-events
			require.Equal(t, apdu.MemoryFailure, told.SW)
			require.Equal(t, "VERIFY", told.Command)
			require.Equal(t, "state could not be saved", told.Meaning)
			require.Equal(t, c.good, told.Commits)
			require.Contains(t, b.log.String(), errFull.Error())
			require.NotContains(t, b.log.String(), "648219")

			for range 2 {
				_, err := b.Transmit(t.Context(), command(t, triesOfPIN))
				require.ErrorIs(t, err, emulator.ErrMute)
			}
			require.NotNil(t, b.ATR())

			b.shelf.failAfter(-1)
			require.NoError(t, b.Reset())
			require.Equal(t, "6D00", b.say(triesOfPIN))
			require.Equal(t, "9000", b.say(selectHSM))
			require.Equal(t, fmt.Sprintf("63C%d", c.tries), b.say(triesOfPIN))
			require.Equal(t, "9000", b.say(rightPIN))
		})
	}
}

// The data of an answer that is withheld is not counted as given.
func TestTransmit_SaveFailsAfterAnAnswerWasMade(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	require.Equal(t, "9000", b.say(rightPIN))
	events, stop := b.Watch(1)
	defer stop()
	b.shelf.failAfter(0)
	require.Equal(t, "6581", b.say(rsaKey+"00"))
	told := <-events
	require.Equal(t, 0, told.Received)
	require.Empty(t, b.Snapshot().Durable().Applet.Keys)
}

// explosive panics when it is read or asked for a key.
type explosive struct{ armed *atomic.Bool }

func (e explosive) Read(p []byte) (int, error) {
	if e.armed.Load() {
		panic("the randomness exploded")
	}
	return len(p), nil
}

func (e explosive) GenerateRSA(int, uint32) (keystore.Primes, error) { panic("the generator exploded") }

// A panic in the core is a defect of ours. The command is answered, somebody is
// told, and the card goes on where it was.
func TestTransmit_Panic(t *testing.T) {
	t.Parallel()
	armed := &atomic.Bool{}
	b := newBench(t, func(w *emulator.World) { w.Rand, w.RSA = explosive{armed}, explosive{armed} })
	require.Equal(t, "9000", b.say(rightPIN))
	for name, c := range map[string]string{"randomness": challenge, "generator": rsaKey} {
		armed.Store(true)
		before, saved := b.Snapshot(), len(b.shelf.states)
		require.Equal(t, "6F00", b.say(c), name)
		armed.Store(false)
		require.Equal(t, before.Durable(), b.Snapshot().Durable())
		require.Len(t, b.shelf.states, saved)
		require.Contains(t, b.log.String(), "the "+name+" exploded")
		require.Contains(t, b.log.String(), "applet.(*tx).dispatch", "no stack")
		require.NotContains(t, b.log.String(), "(0x", "arguments may be pieces of keys")
		require.Equal(t, "9000", b.say(triesOfPIN), "the login")
	}
	require.NotContains(t, b.log.String(), "648219")
}

// A world that fails with an error is told of, too, but not as a panic.
//
// Shows APDU-40.
func TestTransmit_Defect(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(w *emulator.World) { w.Rand = iotest.ErrReader(io.ErrClosedPipe) })
	events, stop := b.Watch(1)
	defer stop()
	require.Equal(t, "6F00", b.say(challenge))
	require.ErrorIs(t, (<-events).Defect, io.ErrClosedPipe)
	require.Contains(t, b.log.String(), io.ErrClosedPipe.Error())
	require.NotContains(t, b.log.String(), "panic")
	require.Equal(t, "63C3", b.say(triesOfPIN))
}

// Without a log the card keeps silent and works on.
func TestTransmit_WithoutLog(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(w *emulator.World) { w.Rand, w.Log = iotest.ErrReader(io.ErrClosedPipe), nil })
	require.Equal(t, "6F00", b.say(challenge))
}

// A command that nobody waits for any more does not start.
func TestTransmit_Cancelled(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	answer, err := b.Transmit(ctx, command(t, wrongPIN))
	require.ErrorIs(t, err, context.Canceled)
	require.Nil(t, answer)
	require.Empty(t, b.shelf.states)
	require.Equal(t, "63C3", b.say(triesOfPIN))
}

// A card does not start from a state that no card can be in.
func TestNew_ChecksTheState(t *testing.T) {
	t.Parallel()
	d := newBench(t, nil).Snapshot().Durable()
	d.Applet.PINs.User.Left = 255
	_, err := emulator.New(d, &shelf{}, emulator.System())
	require.ErrorIs(t, err, applet.ErrState)
}

// Reset ends the session and nothing else.
func TestReset(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	require.Equal(t, "63C2", b.say(wrongPIN))
	require.Equal(t, "9000", b.say(rightPIN))
	require.Equal(t, "63C2", b.say(wrongPIN))
	before, saved := b.Snapshot().Durable(), len(b.shelf.states)
	require.NoError(t, b.Reset())
	require.False(t, b.Snapshot().Selected)
	require.Equal(t, before, b.Snapshot().Durable())
	require.Len(t, b.shelf.states, saved)
	require.Equal(t, "6D00", b.say(triesOfPIN))
	require.Equal(t, "9000", b.say(selectHSM))
	require.Equal(t, "63C2", b.say(triesOfPIN))
}

// Replace saves first; a card that cannot be replaced stays.
func TestReplace(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	require.Equal(t, "9000", b.say(rightPIN))
	other := newBenchOf(t, chip.Order{Serial: "DENK9900001"}, nil)
	require.Equal(t, "63C2", other.say(wrongPIN))
	another := other.Snapshot().Durable()
	require.ErrorIs(t, replaced(b.Replace(another, false)), emulator.ErrForeign)
	older := b.Snapshot().Durable()
	require.Equal(t, "9000", b.say(selectHSM)) // ends the login
	require.Equal(t, "63C2", b.say(wrongPIN))
	require.Equal(t, "9000", b.say(rightPIN))

	b.shelf.failAfter(0)
	err := replaced(b.Replace(older, false))
	require.ErrorIs(t, err, errFull)
	require.True(t, strings.HasPrefix(err.Error(), "replace state: "), err.Error())
	require.Equal(t, "9000", b.say(triesOfPIN))

	b.shelf.failAfter(-1)
	require.ErrorIs(t, replaced(b.Replace(chip.Durable{}, true)), applet.ErrState)
	b.shelf.counts = true
	require.ErrorIs(t, replaced(b.Replace(older, false)), emulator.ErrCounted)
	require.Equal(t, "9000", b.say(triesOfPIN))
	require.NotEqual(t, another, b.Snapshot().Durable())

	undone, err := b.Replace(another, true)
	require.NoError(t, err)
	require.Equal(t, []string{"it is another device now, DENK9900001"}, undone)
	require.Equal(t, another, b.shelf.states[len(b.shelf.states)-1])
	require.Equal(t, another, b.Snapshot().Durable())
	require.Equal(t, "DENK99000010000", b.TokenSerial())
	require.Equal(t, "9000", b.say(selectHSM))
	require.Equal(t, "63C2", b.say(triesOfPIN))
}

// Events come in order, with the time of their command; what an observer does
// not take is counted and not waited for.
func TestWatch(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	quick, stopQuick := b.Watch(100)
	slow, stopSlow := b.Watch(2)
	none, stopNone := b.Watch(0)
	for range 5 {
		b.say(triesOfPIN)
	}
	b.say(wrongPIN)

	var last emulator.Event
	for i := range 6 {
		e := <-quick
		require.Zero(t, e.Missed)
		require.Equal(t, "VERIFY", e.Command)
		require.True(t, e.At.After(last.At), "event %d", i)
		require.Positive(t, e.Took)
		last = e
	}
	require.Equal(t, "VERIFY user PIN → 63C2, wrong, 2 tries left", last.String())
	require.Equal(t, 1, last.Commits)

	require.Zero(t, (<-slow).Missed)
	require.Zero(t, (<-slow).Missed)
	b.say(triesOfPIN)
	e := <-slow
	require.Equal(t, 4, e.Missed)
	require.Equal(t, "VERIFY user PIN → 63C2, not verified, 2 tries left", e.String())
	b.say(triesOfPIN)
	require.Zero(t, (<-slow).Missed)

	stopSlow()
	stopSlow()
	_, open := <-slow
	require.False(t, open)
	stopNone()
	_, open = <-none
	require.False(t, open)
	b.say(triesOfPIN)
	require.Len(t, quick, 3)
	stopQuick()
}

// blocked makes RSA keys once it is let go.
type blocked struct {
	keystore.Generator
	started, proceed chan struct{}
}

func (g blocked) GenerateRSA(bits int, exponent uint32) (keystore.Primes, error) {
	close(g.started)
	<-g.proceed
	return g.Generator.GenerateRSA(bits, exponent)
}

// Snapshot and ATR wait for no command.
func TestSnapshot_WhileBusy(t *testing.T) {
	t.Parallel()
	started, proceed := make(chan struct{}), make(chan struct{})
	b := newBench(t, func(w *emulator.World) { w.RSA = blocked{w.RSA, started, proceed} })
	require.Equal(t, "9000", b.say(rightPIN))
	atr := b.ATR()
	answer := make(chan string)
	go func() { answer <- b.say(rsaKey) }()
	<-started

	require.Empty(t, b.Snapshot().Durable().Applet.Keys)
	require.True(t, b.Snapshot().Applet.Login.User)
	require.Equal(t, atr, b.ATR())
	require.NotEmpty(t, b.TokenSerial())
	_, stop := b.Watch(1)
	stop()
	events, stop := b.Watch(1)
	defer stop()

	close(proceed)
	require.Equal(t, "9000", <-answer)
	require.Equal(t, "GENERATE ASYMMETRIC KEY PAIR → 9000, success", (<-events).String(), "few words for those who came late")
	require.Len(t, b.Snapshot().Durable().Applet.Keys, 1)
}

// Many users of one card do not disturb each other; run with -race.
func TestCard_ConcurrentUse(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	require.Equal(t, "9000", b.say(rightPIN))
	before := len(b.shelf.states)
	const users, files = 8, 10
	var wg sync.WaitGroup
	for u := range users {
		wg.Go(func() {
			for f := range files {
				answer, err := b.Transmit(t.Context(), command(t, fmt.Sprintf(writeCF, u*files+f)))
				if err != nil || !bytes.Equal(answer, []byte{0x90, 0x00}) {
					t.Errorf("user %d, file %d: %X, %v", u, f, answer, err)
				}
			}
		})
		wg.Go(func() {
			events, stop := b.Watch(u)
			defer stop()
			for range files {
				_ = b.Snapshot().Durable().Applet.Serial()
				_ = b.ATR()
				select {
				case <-events:
				default:
				}
			}
		})
	}
	wg.Wait()
	require.Len(t, b.Snapshot().Durable().Applet.Files, 1+users*files)
	require.Len(t, b.shelf.states, before+users*files)
	for i, d := range b.shelf.states[before:] {
		require.Len(t, d.Applet.Files, 2+i, "every state has one file more")
	}
	wg.Go(func() { require.NoError(t, b.Reset()) })
	wg.Go(func() { _, _ = b.Transmit(t.Context(), command(t, triesOfPIN)) })
	wg.Wait()
}

// The randomness of a seeded card depends on its seed and state, and repeats.
func TestSeeded(t *testing.T) {
	t.Parallel()
	read := func(seed uint64, state [32]byte) string {
		b := make([]byte, 1000)
		_, err := io.ReadFull(emulator.Seeded(seed, state), b)
		require.NoError(t, err)
		return string(b)
	}
	require.Equal(t, read(1, [32]byte{}), read(1, [32]byte{}))
	require.NotEqual(t, read(1, [32]byte{}), read(2, [32]byte{}))
	require.NotEqual(t, read(1, [32]byte{}), read(1, [32]byte{1}))
}

// A card without a store of its own, in the real world.
func TestNewCard(t *testing.T) {
	t.Parallel()
	one, err := emulator.NewCard(chip.Order{}, emulator.System())
	require.NoError(t, err)
	other, err := emulator.NewCard(chip.Order{Firmware: "3.2", Serial: "DENK0404144"}, emulator.System())
	require.NoError(t, err)
	require.NotEqual(t, one.Snapshot().Durable().Applet.Device.Name, other.Snapshot().Durable().Applet.Device.Name)
	require.Equal(t, "DENK04041440000", other.TokenSerial())
	p, known := applet.ProfileOf("3.2")
	require.True(t, known)
	require.Equal(t, p.ATR, other.ATR())
	_, err = emulator.NewCard(chip.Order{Firmware: "9"}, emulator.System())
	require.Error(t, err)

	// What it does, it keeps for as long as it lives.
	for _, c := range []string{selectHSM, initialise, wrongPIN} {
		_, err = one.Transmit(t.Context(), command(t, c))
		require.NoError(t, err)
	}
	require.NoError(t, one.Reset())
	require.Equal(t, uint8(2), one.Snapshot().Durable().Applet.PINs.User.Left)
}

func replaced(_ []string, err error) error { return err }

// What comes back that no card gives back is told, and nothing else.
func TestReplace_TellsWhatComesBack(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	whole := b.Snapshot().Durable()
	b.say(selectHSM)
	require.Equal(t, "63C2", b.say(wrongPIN))
	spent := b.Snapshot().Durable()
	require.Equal(t, "63CE", b.say("002C00810E"+"3030303030303030"+"363438323139"))
	for _, c := range []struct {
		then   chip.Durable
		undone []string
	}{
		{spent, []string{"SO-PIN tries that were spent came back"}},
		{whole, []string{"user PIN tries that were spent came back"}},
		{spent, nil},
	} {
		undone, err := b.Replace(c.then, false)
		require.NoError(t, err)
		require.Equal(t, c.undone, undone)
	}
}
