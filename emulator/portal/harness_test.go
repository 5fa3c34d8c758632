package portal_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/apdu"
	"hsmemu/applet/client"
	"hsmemu/applet/cvc"
	"hsmemu/applet/pkcs15"
	"hsmemu/emulator/chiptest"
	"hsmemu/emulator/portal"
	"hsmemu/keystore/curve"
	"hsmemu/pinstate"
)

var day = time.Date(2026, time.November, 23, 12, 0, 0, 0, time.UTC)

var (
	userPIN = []byte("648219")
	soPIN   = []byte("57621880")
)

// books keep a portal's books as bytes, as a file would.
type books struct {
	saved []byte
	// fails is what the change of that number, from 1 on, fails with.
	fails   map[int]error
	changes int
}

var errDisk = errors.New("no room on the disk")

// shelf is the whole of them.
type shelf struct {
	Authority portal.Authority
	Chips     map[portal.ChipID]portal.Record `json:",omitempty"`
}

func (b *books) load(t require.TestingT) shelf {
	s, err := b.read()
	require.NoError(t, err)
	return s
}

func (b *books) read() (shelf, error) {
	s := shelf{Chips: map[portal.ChipID]portal.Record{}}
	return s, json.Unmarshal(b.saved, &s)
}

func (b *books) Load(chip portal.ChipID) (portal.Books, error) {
	s, err := b.read()
	p := portal.Books{Authority: s.Authority, Chip: s.Chips[chip]}
	for _, r := range s.Chips {
		p.Waiting = p.Waiting || r.Running != nil
	}
	p.Given = func(name cvc.Name) (bool, error) { return bytes.Contains(b.saved, []byte(name)), nil }
	return p, err
}

func (b *books) Change(chip portal.ChipID, f func(*portal.Books) error) error {
	b.changes++
	p, err := b.Load(chip)
	if err == nil {
		err = f(&p)
	}
	if err == nil {
		err = b.fails[b.changes]
	}
	if err != nil {
		return err
	}
	s, err := b.read()
	if err != nil {
		return err
	}
	if s.Authority = p.Authority; chip != "" {
		s.Chips[chip] = p.Chip
	}
	b.saved, err = json.Marshal(s)
	return err
}

func open(t require.TestingT) *books {
	a, err := portal.NewAuthority(chiptest.Seeded("an authority"), day)
	require.NoError(t, err)
	b := &books{}
	b.put(t, shelf{Authority: a})
	return b
}

func (b *books) put(t require.TestingT, s shelf) {
	var err error
	b.saved, err = json.Marshal(s)
	require.NoError(t, err)
}

// change changes the books, as an administrator does.
func (b *books) change(t require.TestingT, f func(*portal.Books)) {
	require.NoError(t, b.Change("", func(p *portal.Books) error { f(p); return nil }))
}

func (b *books) order() portal.Order {
	return portal.Order{Ledger: b, Rand: chiptest.Seeded("an order"), Now: day}
}

var errPulled = errors.New("the card was pulled")

// reader has a card in it, and counts what is sent to it.
type reader struct {
	*chiptest.Card
	sent int
	// at is the number of the command, from 1 on, that gets no answer: before
	// tells whether the card does not get it either.
	at     int
	before bool
	// swap, if it is there, is in the reader from command at on.
	swap *chiptest.Card
	// lie, if it is there, changes answers.
	lie func(command apdu.Command, answer []byte) []byte
	// around, if it is there, is called before and after each command.
	around func()
	// record, if it is there, is given each command, and nil for a reset.
	record func(command []byte)
}

func (r *reader) Reset() error {
	if r.record != nil {
		r.record(nil)
	}
	return r.Card.Reset()
}

func (r *reader) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	r.sent++
	if r.record != nil {
		r.record(bytes.Clone(command))
	}
	if r.around != nil {
		r.around()
		defer r.around()
	}
	switch {
	case r.sent != r.at:
	case r.swap != nil:
		r.Card = r.swap
		if err := r.Reset(); err != nil {
			return nil, err
		}
	case r.before:
		return nil, errPulled
	default:
		if _, err := r.Card.Transmit(ctx, command); err != nil {
			return nil, err
		}
		return nil, errPulled
	}
	answer, err := r.Card.Transmit(ctx, command)
	if err == nil && r.lie != nil {
		c, _ := apdu.Parse(command)
		answer = r.lie(c, answer)
	}
	return answer, err
}

// situation is what a card is in before an update.
type situation struct {
	firmware  string
	keys      bool
	so, user  int // wrong tries
	uninitial bool
	serial    string
}

func (s situation) card(t testing.TB) *chiptest.Card {
	t.Helper()
	card, err := chiptest.Manufacture(s.firmware, "A"+s.serial)
	require.NoError(t, err)
	if s.uninitial {
		return card
	}
	ctx := t.Context()
	c := client.New(card)
	_, err = c.Select(ctx)
	require.NoError(t, err)
	require.NoError(t, c.Initialise(ctx, client.Setup{Options: pinstate.OptionResetEnabled, SOPIN: soPIN, PIN: userPIN, Tries: 3}))
	require.NoError(t, c.WriteFile(ctx, 0xCD01, []byte("private data")))
	if s.keys {
		p256, _ := curve.ByName("secp256r1")
		require.NoError(t, c.Login(ctx, userPIN))
		_, err := c.GenerateEC(ctx, 1, p256, client.KeySpec{Holder: "DENK990000000001"})
		require.NoError(t, err)
	}
	for range s.so {
		require.Error(t, c.VerifyPIN(ctx, client.SOPIN, []byte("00000000")))
	}
	for range s.user {
		require.Error(t, c.VerifyPIN(ctx, client.UserPIN, []byte("000000")))
	}
	return card
}

// updated are the situations that lead to an update, and to which firmware.
var updated = map[string]struct {
	situation
	to      string
	blocked int
}{
	"2.5":                       {situation{firmware: "2.5"}, "2.6", 0},
	"3.1":                       {situation{firmware: "3.1", uninitial: true}, "3.6", 0},
	"3.5":                       {situation{firmware: "3.5", user: 3}, "3.6", 0},
	"4.0":                       {situation{firmware: "4.0", so: 15}, "4.1", 0},
	"4.1, keys, SO-PIN blocked": {situation{firmware: "4.1", keys: true, so: 15, user: 3}, "4.1", 1},
}

// requireUpdated checks a card and the books after an update, by commands and by
// what the card keeps: S14, S21 and S22.
func requireUpdated(t testing.TB, card *chiptest.Card, b *books, old cvc.Name, to string, blocked int) {
	t.Helper()
	ctx := t.Context()
	d := card.State.Durable()
	require.NoError(t, d.Check())
	require.Equal(t, to, d.Applet.Firmware)
	require.Empty(t, d.Manager.Stage)
	require.Empty(t, d.Applet.Keys)
	require.Len(t, d.Applet.Files, 1)
	require.False(t, d.Applet.PINs.Initialised)
	require.NoError(t, card.Reset())
	c := client.New(card)
	_, err := c.Select(ctx)
	require.NoError(t, err)
	_, err = c.Send(ctx, apdu.Command{INS: apdu.InsVerify, P2: 0x81})
	require.Equal(t, apdu.ReferenceNotFound, err)
	chain, err := c.Device(ctx)
	require.NoError(t, err)
	p := b.load(t)
	verified, err := chain.Verify(cvc.Roots{p.Authority.Root()})
	require.NoError(t, err)
	key, err := verified.DeviceKey().EC()
	require.NoError(t, err)
	require.NotEqual(t, old, chain.Device.CHR)
	require.NotEqual(t, cvc.EmulatorIssuer().Certificate.CHR, chain.Issuer.CHR, "UPDATE-7")
	require.Len(t, p.Chips, 1)
	for _, r := range p.Chips {
		require.Nil(t, r.Running)
		require.Equal(t, blocked, r.Blocked)
		require.GreaterOrEqual(t, len(r.Devices), 2)
		last := len(r.Devices) - 1
		for i, d := range r.Devices {
			require.Equal(t, i < last, d.Superseded)
		}
		require.Equal(t, old, r.Devices[last-1].Name)
		require.Equal(t, portal.Device{Name: chain.Device.CHR, Path: verified.Path(), Key: key.Bytes(), Firmware: r.Devices[last].Firmware}, r.Devices[last])
		require.Equal(t, to, r.Devices[last].Firmware.String())
	}
	require.Equal(t, []byte(nil), card.File(pkcs15.File(pkcs15.PrefixCertificate, 1)))
	// It can be taken into use.
	require.NoError(t, c.Initialise(ctx, client.Setup{Options: pinstate.OptionResetEnabled, SOPIN: soPIN, PIN: userPIN, Tries: 3}))
}
