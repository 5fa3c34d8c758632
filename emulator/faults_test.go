package emulator_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/vsmartcard"
)

const (
	selectHSM  = "00A4040C0BE82B0601040181C31F0201"
	triesOfPIN = "00200081"
	initialise = "80500000198002000181063634383231398208" + "3537363231383830" + "910103"
	queryOnly  = "80500000"
	queryLe    = "8050000000"
	wrongPIN   = "0020008106313131313131"
	readDevice = "00B12F0200000454020000" + "0000"
	readData   = "00B1CF0100000454020000" + "0000"
)

// rehearsal is a card behind its faults.
type rehearsal struct {
	*emulator.Faults
	t    *testing.T
	card *emulator.Card
}

func newRehearsal(t *testing.T) *rehearsal {
	t.Helper()
	card, err := emulator.NewCard(chip.Order{}, emulator.System())
	require.NoError(t, err)
	return &rehearsal{Faults: emulator.NewFaults(card), t: t, card: card}
}

func command(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	require.NoError(t, err)
	return b
}

// say sends a command and returns the answer in hexadecimal.
func (r *rehearsal) say(text string) string {
	r.t.Helper()
	answer, err := r.Transmit(r.t.Context(), command(r.t, text))
	require.NoError(r.t, err)
	return strings.ToUpper(hex.EncodeToString(answer))
}

func (r *rehearsal) fails(text string) error {
	r.t.Helper()
	answer, err := r.Transmit(r.t.Context(), command(r.t, text))
	require.Error(r.t, err)
	require.Empty(r.t, answer)
	return err
}

// fault sets a fault as the command line has it: its name, then settings.
func (r *rehearsal) fault(words ...string) {
	r.t.Helper()
	require.NoError(r.t, r.Set(words[0], words[1:]))
}

// tries asks the card itself how many tries its user PIN has left.
func (r *rehearsal) tries() uint8 {
	return r.card.Snapshot().Durable().Applet.PINs.User.Left
}

func TestFaults_NoneIsTheCardItself(t *testing.T) {
	r := newRehearsal(t)
	require.Empty(t, r.List())
	require.Equal(t, r.card.ATR(), r.ATR())
	require.Equal(t, "9000", r.say(selectHSM))
	require.Equal(t, "9000", r.say(initialise))
	require.Equal(t, "9000", r.say(triesOfPIN), "logged in")
	require.NoError(t, r.Reset())
	require.Equal(t, "9000", r.say(selectHSM))
	require.Equal(t, "63C3", r.say(triesOfPIN))
}

func TestFaults_ContextReachesTheCard(t *testing.T) {
	r := newRehearsal(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := r.Transmit(ctx, command(t, selectHSM))
	require.ErrorIs(t, err, context.Canceled)
}

func TestFaults_RemoveEndsTheCommandWithTheReader(t *testing.T) {
	r := newRehearsal(t)
	r.say(selectHSM)
	r.say(initialise)
	r.fault("remove", "after=1")
	require.Equal(t, "63C2", r.say(wrongPIN), "this one passes")

	ctx, out := context.WithCancel(t.Context()) // the card's stay in the reader
	removed := make(chan struct{})
	r.Remove = func() { close(removed); out() }
	answer, err := r.Transmit(ctx, command(t, wrongPIN))
	require.ErrorIs(t, err, context.Canceled)
	require.Nil(t, answer)
	<-removed
	require.EqualValues(t, 2, r.tries(), "the card has not seen it")
	require.Empty(t, r.List(), "it strikes once")
	require.Equal(t, "63C2", r.say(triesOfPIN))
}

func TestFaults_RemoveWithoutAReaderFailsTheCommand(t *testing.T) {
	r := newRehearsal(t)
	r.fault("remove")
	_ = r.fails(selectHSM)
	require.Equal(t, "9000", r.say(selectHSM))
}

func TestFaults_TransmitFailsOnceAndCostsNothing(t *testing.T) {
	r := newRehearsal(t)
	r.say(selectHSM)
	r.say(initialise)
	r.fault("transmit", "after=2")
	require.Equal(t, []string{"transmit after=2"}, r.List())
	require.Equal(t, "63C2", r.say(wrongPIN))
	require.Equal(t, "63C2", r.say(triesOfPIN))
	_ = r.fails(wrongPIN)
	require.EqualValues(t, 2, r.tries())
	require.Empty(t, r.List())
	require.Equal(t, "63C1", r.say(wrongPIN))
}

func TestFaults_TransmitFailsAtACommandOfItsClass(t *testing.T) {
	r := newRehearsal(t)
	r.fault("transmit", "at=pin", "after=1")
	require.Equal(t, "9000", r.say(selectHSM))
	require.Equal(t, "9000", r.say(initialise))
	require.Equal(t, "9000", r.say(triesOfPIN), "no PIN in it")
	require.Equal(t, "63C2", r.say(wrongPIN))
	require.Equal(t, "63C2", r.say(triesOfPIN))
	_ = r.fails(wrongPIN)
	require.EqualValues(t, 2, r.tries())
	require.Equal(t, "63C1", r.say(wrongPIN))
}

func TestFaults_MuteLastsThroughAReset(t *testing.T) {
	r := newRehearsal(t)
	r.fault("mute", "after=1")
	require.Equal(t, r.card.ATR(), r.ATR(), "not yet")
	require.Equal(t, "9000", r.say(selectHSM))
	require.Nil(t, r.ATR(), "no command passes any more")
	for range 3 {
		require.ErrorIs(t, r.fails(triesOfPIN), emulator.ErrMute)
		require.NoError(t, r.Reset())
	}
	r.Clear()
	require.Empty(t, r.List())
	require.Equal(t, r.card.ATR(), r.ATR())
	require.Equal(t, "9000", r.say(selectHSM))
}

func TestFaults_CutShortensAnswers(t *testing.T) {
	r := newRehearsal(t)
	r.say(selectHSM)
	r.say(initialise)
	require.Equal(t, "9000", r.say("00D7CF01"+"0004B8"+"54020000"+"538204B0"+strings.Repeat("5A", 1200)))
	whole := strings.Repeat("5A", 1200) + "9000"
	require.Equal(t, whole, r.say(readData))
	r.fault("cut", "bytes=200")
	require.Equal(t, whole[:2*200], r.say(readData))
	require.Equal(t, "9000", r.say(selectHSM), "short ones pass whole")
	r.fault("cut")
	require.Equal(t, whole[:2*1014], r.say(readData))
}

func TestFaults_ATRIsCut(t *testing.T) {
	r := newRehearsal(t)
	r.fault("atr")
	require.Equal(t, r.card.ATR()[:3], r.ATR())
	require.Equal(t, "9000", r.say(selectHSM), "the contacts for commands are fine")
	r.Clear()
	require.Equal(t, r.card.ATR(), r.ATR())
}

func TestFaults_InitializeFailsOnce(t *testing.T) {
	r := newRehearsal(t)
	r.say(selectHSM)
	r.fault("initialize")
	for _, query := range []string{queryOnly, queryLe} {
		require.NotEqual(t, "6A84", r.say(query))
	}
	require.Equal(t, []string{"initialize"}, r.List(), "a query is none")
	require.Equal(t, "6A84", r.say(initialise))
	require.False(t, r.card.Snapshot().Durable().Applet.PINs.Initialised)
	require.Empty(t, r.List())
	require.Equal(t, "9000", r.say(initialise))
	require.True(t, r.card.Snapshot().Durable().Applet.PINs.Initialised)
}

// What the vendor said of devices after a firmware update: a garbage collection
// is due, and the generation of a key is what runs it (UPDATE-10, UPDATE-12).
func TestFaults_UnwrapFailsUntilAKeyIsGenerated(t *testing.T) {
	const (
		verify   = "0020008106363438323139"
		wrap     = "80720192000000"
		generate = "004801B003910192"
		withDKEK = "805000001C8002000181063634383231398208353736323138383091010392" + "0100"
	)
	for name, makesKey := range map[string]string{
		"symmetric": "004803B003910192",
		"key pair":  "0046030024" + "7F4915" + "060A04007F00070202020102" + "8203010001" + "02020400" + "5F200955544B455930303031",
	} {
		t.Run(name, func(t *testing.T) {
			r := newRehearsal(t)
			r.say(selectHSM)
			r.say(withDKEK)
			r.say(verify)
			require.Equal(t, "9000", r.say(generate))
			blob := strings.TrimSuffix(r.say(wrap), "9000")
			unwrap := fmt.Sprintf("80740293%02X%s", len(blob)/2, blob)
			r.fault("unwrap")
			before := r.card.Snapshot().Durable()
			for range 2 {
				require.Equal(t, "6A84", r.say(unwrap))
				require.Equal(t, "9000", r.say(triesOfPIN), "only UNWRAP fails")
			}
			require.Equal(t, "6A88", r.say("80720992000000"))
			require.NotEqual(t, "9000", r.say("004803B1029201"), "makes none")
			require.Equal(t, "6A84", r.say(unwrap), "a refused generation collects nothing")
			require.Equal(t, before, r.card.Snapshot().Durable())
			require.Equal(t, []string{"unwrap"}, r.List())

			require.Equal(t, "9000", r.say(makesKey))
			require.Empty(t, r.List())
			require.Equal(t, "9000", r.say(unwrap))
		})
	}
}

func TestFaults_OneAfterTheOther(t *testing.T) {
	r := newRehearsal(t)
	r.say(selectHSM)
	r.fault("initialize")
	r.fault("transmit")
	_ = r.fails(initialise)
	require.Equal(t, []string{"initialize"}, r.List(), "it has not struck")
	require.Equal(t, "6A84", r.say(initialise))
	require.Equal(t, "9000", r.say(initialise))
}

func TestFaults_SettingAgainReplaces(t *testing.T) {
	r := newRehearsal(t)
	r.fault("transmit", "after=9")
	r.fault("transmit")
	r.fault("slow", "pin=1ms")
	require.Equal(t, []string{"slow pin=1ms", "transmit"}, r.List())
	_ = r.fails(selectHSM)
	require.Equal(t, []string{"slow pin=1ms"}, r.List())
}

func TestFaults_RefusesWhatMakesNoSense(t *testing.T) {
	for _, words := range [][]string{
		{""},
		{"fire"},
		{"Remove"},
		{"remove", "before=3"},
		{"remove", "after"},
		{"remove", "after="},
		{"remove", "after=-1"},
		{"remove", "after=1.5"},
		{"transmit", "bytes=3"},
		{"transmit", "at="},
		{"transmit", "at=realistic"},
		{"remove", "at=noon"},
		{"cut", "bytes=1"},
		{"cut", "bytes=all"},
		{"atr", "bytes=3"},
		{"initialize", "after=1"},
		{"unwrap", "after=1"},
		{"slow", "sign"},
		{"slow", "sign=800"},
		{"slow", "sign=-1s"},
		{"slow", "song=1s"},
		{"slow", "realistic=1s"},
		{"remove", "after=1", "after=x"},
	} {
		r := newRehearsal(t)
		require.ErrorIs(t, r.Set(words[0], words[1:]), emulator.ErrFault, "%q", words)
		require.Empty(t, r.List(), "%q", words)
	}
	require.ErrorContains(t, newRehearsal(t).Set("slow", []string{"sign=-1s"}), "sign=-1s is less than no time")
	require.ErrorContains(t, newRehearsal(t).Set("slow", []string{"sign=800"}), "sign=800 is no duration: a number with its unit, as in 800ms")
}

// takes is how long a command takes by the clock of the bubble.
func (r *rehearsal) takes(text string) time.Duration {
	start := time.Now()
	r.say(text)
	return time.Since(start)
}

// Shows APDU-43.
func TestFaults_SlowIsLikeHardware(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRehearsal(t)
		require.Zero(t, r.takes(selectHSM))
		r.fault("slow")
		const ms = time.Millisecond
		for text, want := range map[string]time.Duration{
			selectHSM:                               25 * ms,
			readDevice:                              25 * ms,
			"00580000000000":                        25 * ms,
			"00D72F0305" + "5402000053":             60 * ms,
			initialise:                              60 * ms,
			wrongPIN:                                80 * ms,
			"8068012020" + strings.Repeat("00", 32): 1200 * ms,
			"8068014020" + strings.Repeat("00", 32): 1200 * ms,
			"8062012120" + strings.Repeat("00", 32): 1200 * ms,
			"8068017020" + strings.Repeat("00", 32): 300 * ms,
			"8062018020" + strings.Repeat("00", 32): 300 * ms,
			"8078011010" + strings.Repeat("00", 16): 300 * ms,
			"80720192000000":                        250 * ms,
			"00480100":                              1500 * ms,
			"004601000F" + "7F490C060A" + "04007F00070202020203": 1500 * ms,
			"004601000F" + "7F490C060A" + "04007F00070202020102": 12 * time.Second,
			triesOfPIN:                              20 * ms,
			"B068017020" + strings.Repeat("00", 32): 20 * ms,
			"0084000008":                            20 * ms,
			"00":                                    20 * ms,
		} {
			require.Equal(t, want, r.takes(text), text)
		}
	})
}

func TestFaults_SlowAsSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRehearsal(t)
		r.fault("slow", "pin=3s")
		require.Equal(t, 3*time.Second, r.takes(wrongPIN))
		require.Zero(t, r.takes(selectHSM), "the others are as fast as ever")
		for _, words := range [][]string{{"slow", "realistic", "pin=3s"}, {"slow", "pin=3s", "realistic"}} {
			r.fault(words...)
			require.Equal(t, 3*time.Second, r.takes(wrongPIN))
			require.Equal(t, 25*time.Millisecond, r.takes(selectHSM))
		}
		r.fault("slow", "realistic", "pin=0s")
		require.Zero(t, r.takes(wrongPIN))
	})
}

func TestFaults_SlowCardCanBeTakenOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRehearsal(t)
		r.say(selectHSM)
		r.say(initialise)
		r.fault("slow", "pin=1h")
		ctx, out := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, out)
		start := time.Now()
		_, err := r.Transmit(ctx, command(t, wrongPIN))
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, time.Second, time.Since(start))
		require.EqualValues(t, 3, r.tries(), "the card has not seen it")
	})
}

func TestFaults_FromManyGoroutines(t *testing.T) {
	r := newRehearsal(t)
	var all sync.WaitGroup
	failed := make([]int, 8)
	for i := range failed {
		all.Go(func() {
			for range 50 {
				_ = r.Set("transmit", nil)
				_ = r.ATR()
				_ = r.List()
				if _, err := r.Transmit(t.Context(), []byte{0x00, 0x20, 0x00, 0x81}); err != nil {
					failed[i]++
				}
			}
		})
	}
	all.Wait()
	sum := 0
	for _, n := range failed {
		sum += n
	}
	require.Positive(t, sum)
	require.LessOrEqual(t, sum, 8*50, "at most once for each time it was set")
}

func TestFaults_HelpNamesWhatCanBeSet(t *testing.T) {
	r := newRehearsal(t)
	require.Equal(t, "remove [after=…] [at=…]", emulator.FaultKinds()[0].String())
	for _, k := range emulator.FaultKinds() {
		name := k.Name
		r.fault(name)
		for _, s := range k.Settings {
			switch {
			case strings.HasPrefix(s, "after="):
				r.fault(name, "after=1")
			case strings.HasPrefix(s, "at="):
				r.fault(name, "at=sign")
			case strings.HasPrefix(s, "bytes="):
				r.fault(name, "bytes=100")
			case strings.HasSuffix(s, "="):
				r.fault(name, s+"1ms")
			default:
				r.fault(name, s)
			}
		}
		require.NotEmpty(t, k.Help)
	}
}

// A card that is taken out while it works does what it was told, and observers see
// that nobody heard of it.
func TestFaults_TellOfAnAnswerThatNobodyHeard(t *testing.T) {
	world := emulator.System()
	clock := world.Clock
	ctx, pull := context.WithCancel(t.Context())
	working := false
	world.Clock = func() time.Time {
		if working {
			pull()
		}
		return clock()
	}
	card, err := emulator.NewCard(chip.Order{}, world)
	require.NoError(t, err)
	events, stop := card.Watch(10)
	working = true
	_, err = emulator.NewFaults(card).Transmit(vsmartcard.WithClient(ctx, func() vsmartcard.Client { return vsmartcard.Client{Process: 7} }), []byte{0x00, 0x84, 0x00, 0x00, 0x08})
	stop()
	var kinds []emulator.Kind
	for e := range events {
		kinds = append(kinds, e.Kind)
		require.Equal(t, 7, e.Client.Process)
	}
	require.Equal(t, []emulator.Kind{emulator.Did, emulator.CutShort}, kinds)
	require.NoError(t, err)
}
