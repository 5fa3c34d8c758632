package client_test

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
	"hsmemu/applet/client"
	"hsmemu/applet/cvc"
	"hsmemu/applet/pkcs15"
	"hsmemu/applet/sm"
	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/keystore/curve"
)

// wire is the way to a card, on which somebody may answer in its place.
type wire struct {
	card    *emulator.Card
	sent    [][]byte
	instead func(command []byte) []byte
}

func (w *wire) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	w.sent = append(w.sent, slices.Clone(command))
	if w.instead != nil {
		if answer := w.instead(command); answer != nil {
			return answer, nil
		}
	}
	return w.card.Transmit(ctx, command)
}

// presented counts the VERIFY commands with data.
func (w *wire) presented() (n int) {
	for _, command := range w.sent {
		if command[1] == apdu.InsVerify && len(command) > 5 {
			n++
		}
	}
	return n
}

// Whoever stands between a program and its card ends the channel with one answer
// in the clear. The PIN must not follow.
func TestAsk_SendsNoPINBesideABrokenChannel(t *testing.T) {
	for _, word := range []apdu.SW{apdu.SecurityStatus, apdu.InstructionNotSupported, apdu.ClassNotSupported} {
		ctx := t.Context()
		card := initialised(t, "4.1", client.Setup{}).card
		w := &wire{card: card}
		c := client.New(w)
		_, err := c.Select(ctx)
		require.NoError(t, err)
		chain, err := c.Device(ctx)
		require.NoError(t, err)
		verified, err := chain.Verify(cvc.KnownRoots())
		require.NoError(t, err)
		device, err := verified.DeviceKey().EC()
		require.NoError(t, err)
		require.NoError(t, c.OpenChannel(ctx, sm.AES128, device, rand.Reader))
		require.NoError(t, c.Login(ctx, pin))
		w.sent = nil
		w.instead = func([]byte) []byte { return apdu.Response{SW: word}.Bytes() }
		require.Error(t, c.WriteFile(ctx, 0xCF01, []byte{1}))
		require.Len(t, w.sent, 1, "%v", word)
	}
}

// Nor is what is said beside a channel taken for the card's answer: that a PIN is
// blocked, that a list is at its end, or that there are no key domains.
func TestSend_DoesNotBelieveWhatIsSaidBesideAChannel(t *testing.T) {
	ctx := t.Context()
	w := &wire{card: initialised(t, "4.1", client.Setup{}).card}
	for _, word := range []apdu.SW{apdu.AuthenticationBlocked, 0x63C1, apdu.ReferenceNotFound, apdu.IncorrectP1P2, apdu.InstructionNotSupported, apdu.OK} {
		for name, ask := range map[string]func(*client.Client) error{
			"PIN":             func(c *client.Client) error { _, err := c.PINStatus(ctx, client.SOPIN); return err },
			"registered keys": func(c *client.Client) error { _, err := c.RegisteredKeys(ctx); return err },
			"key domain":      func(c *client.Client) error { _, err := c.KeyDomain(ctx, 0); return err },
		} {
			w.instead = nil
			c := client.New(w)
			_, err := c.Select(ctx)
			require.NoError(t, err)
			chain, err := c.Device(ctx)
			require.NoError(t, err)
			verified, err := chain.Verify(cvc.KnownRoots())
			require.NoError(t, err)
			device, err := verified.DeviceKey().EC()
			require.NoError(t, err)
			require.NoError(t, c.OpenChannel(ctx, sm.AES128, device, rand.Reader))
			w.instead = func([]byte) []byte { return apdu.Response{SW: word}.Bytes() }
			err = ask(c)
			require.ErrorIs(t, err, sm.ErrUnprotected, "%s %s", name, word)
			var sw apdu.SW
			require.False(t, errors.As(err, &sw), "%s %s", name, word)
			_, known := client.TriesLeft(err)
			require.False(t, known)
		}
	}
}

// An answer of one byte inside a channel ends it, and another can be opened.
func TestSend_EndsTheChannelWithAMalformedAnswer(t *testing.T) {
	ctx := t.Context()
	w := &wire{card: initialised(t, "4.1", client.Setup{}).card}
	c := client.New(w)
	chain, err := c.Device(ctx)
	require.NoError(t, err)
	verified, err := chain.Verify(cvc.KnownRoots())
	require.NoError(t, err)
	device, err := verified.DeviceKey().EC()
	require.NoError(t, err)
	require.NoError(t, c.OpenChannel(ctx, sm.AES128, device, rand.Reader))
	w.instead = func([]byte) []byte { return []byte{0x90} }
	_, err = c.Objects(ctx)
	require.ErrorIs(t, err, client.ErrAnswer)
	w.instead = nil
	require.NoError(t, c.OpenChannel(ctx, sm.AES128, device, rand.Reader))
}

// A PIN that somebody has changed meanwhile costs one try, and no PIN is sent to a
// card on which the user is logged in already.
func TestAsk_SpendsOneTryAtMost(t *testing.T) {
	ctx := t.Context()
	w := &wire{card: initialised(t, "4.1", client.Setup{}).card}
	c := client.New(w)
	require.NoError(t, c.Login(ctx, pin))
	w.sent = nil
	require.ErrorIs(t, c.Delete(ctx, pkcs15.FileDevice), apdu.SecurityStatus)
	require.Zero(t, w.presented(), "a refusal of a file is no lost login")

	other := client.New(w.card)
	require.NoError(t, other.ChangePIN(ctx, client.UserPIN, pin, []byte("121212")))
	require.NoError(t, w.card.Reset())
	for range 4 {
		require.Error(t, c.WriteFile(ctx, 0xCF01, []byte{1}))
	}
	s, err := c.PINStatus(ctx, client.UserPIN)
	require.NoError(t, err)
	require.Equal(t, client.PINStatus{State: client.Ready, Left: 2}, s)

	// What the client changes itself it knows.
	require.NoError(t, c.Login(ctx, []byte("121212")))
	require.NoError(t, c.ChangePIN(ctx, client.UserPIN, []byte("121212"), pin))
	require.NoError(t, w.card.Reset())
	require.NoError(t, c.WriteFile(ctx, 0xCF01, []byte{1}))
	// A selection ends a login for good.
	_, err = c.Select(ctx)
	require.NoError(t, err)
	require.ErrorIs(t, c.WriteFile(ctx, 0xCF01, []byte{1}), apdu.SecurityStatus)
}

func TestNothing_IsNoQuestion(t *testing.T) {
	ctx := t.Context()
	c := initialised(t, "4.1", client.Setup{DKEKShares: new(byte(1)), Custodians: 1, Required: 1})
	require.ErrorIs(t, c.VerifyPIN(ctx, client.UserPIN, nil), client.ErrNothing)
	require.ErrorIs(t, c.Login(ctx, []byte{}), client.ErrNothing)
	_, err := c.ImportShare(ctx, 0, nil)
	require.ErrorIs(t, err, client.ErrNothing)
	_, err = c.RegisterKey(ctx, cvc.Authenticated{})
	require.ErrorIs(t, err, client.ErrNothing)
	_, err = c.ReplaceKey(ctx, 0, cvc.Authenticated{})
	require.Error(t, err)
}

// A reference is given where nothing is, and evidence where it is.
func TestKeyReference_AndEvidence(t *testing.T) {
	ctx := t.Context()
	c := initialised(t, "4.1", client.Setup{})
	ref, err := c.KeyReference(ctx, 0)
	require.NoError(t, err)
	require.Equal(t, byte(1), ref)
	_, err = c.Evidence(ctx, 1)
	require.ErrorIs(t, err, cvc.ErrNoRequest)
	on, _ := curve.ByName("secp256r1")
	request, err := c.GenerateEC(ctx, 1, on, client.KeySpec{Holder: "UTKEY00001"})
	require.NoError(t, err)
	require.NoError(t, c.WriteFile(ctx, 0xCE01, request.Raw))
	e, err := c.Evidence(ctx, 1)
	require.NoError(t, err)
	require.Equal(t, request.Raw, e.Request)
	_, err = cvc.Attest(e.Request, e.Chain, cvc.KnownRoots())
	require.NoError(t, err)
	e, err = c.Evidence(ctx, 0)
	require.NoError(t, err)
	require.Nil(t, e.Request)

	_, err = c.KeyReference(ctx, 1)
	require.ErrorIs(t, err, client.ErrTaken)
	ref, err = c.KeyReference(ctx, 0)
	require.NoError(t, err)
	require.Equal(t, byte(2), ref)
	for ref := 2; ref <= 0xFF; ref++ {
		require.NoError(t, c.WriteFile(ctx, 0xCE00|uint16(ref), []byte{0}))
	}
	_, err = c.KeyReference(ctx, 0)
	require.ErrorIs(t, err, client.ErrNoneFree)
}

// Of a card whose keys can be seen, a request counts for the key in its place alone.
func TestDurable_Evidence(t *testing.T) {
	ctx := t.Context()
	card, err := emulator.NewCard(chip.Order{}, emulator.System())
	require.NoError(t, err)
	c := client.New(card)
	_, err = c.Select(ctx)
	require.NoError(t, err)
	require.NoError(t, c.Initialise(ctx, client.Setup{SOPIN: []byte("57621880"), PIN: []byte("648219"), Tries: 3}))
	on, _ := curve.ByName("secp256r1")
	request, err := c.GenerateEC(ctx, 1, on, client.KeySpec{Holder: "UTKEY00001"})
	require.NoError(t, err)
	_, err = c.GenerateEC(ctx, 2, on, client.KeySpec{Holder: "UTKEY00002"})
	require.NoError(t, err)
	of := func(ref byte) error {
		_, err := card.Snapshot().Applet.Durable.Evidence(ref)
		return err
	}
	require.NoError(t, of(0))
	require.ErrorIs(t, of(3), applet.ErrNoKey)
	require.ErrorIs(t, of(1), cvc.ErrNoRequest)
	require.NoError(t, c.WriteFile(ctx, 0xCE01, request.Raw))
	require.NoError(t, c.WriteFile(ctx, 0xCE02, request.Raw))
	require.NoError(t, of(1))
	require.ErrorIs(t, of(2), cvc.ErrOtherKey)
	require.NoError(t, c.WriteFile(ctx, 0xCE02, []byte{0x67, 0}))
	require.ErrorContains(t, of(2), "request: ")
	e, err := card.Snapshot().Applet.Durable.Evidence(1)
	require.NoError(t, err)
	_, err = cvc.Attest(e.Request, e.Chain, cvc.KnownRoots())
	require.NoError(t, err)
}

func TestKeyDomain_MadeOf(t *testing.T) {
	d := client.KeyDomain{Shares: 2, KCV: [8]byte{1}}
	require.NoError(t, d.MadeOf(2, [8]byte{1}))
	require.Equal(t, &client.KCVError{Has: [8]byte{1}, Given: [8]byte{2}, Of: 2, Shares: 3}, d.MadeOf(3, [8]byte{2}))
	require.EqualError(t, d.MadeOf(2, [8]byte{2}), "has key check value 0100000000000000, these shares have 0200000000000000")
}

func TestKeyDomain_TakesKeys(t *testing.T) {
	require.NoError(t, client.KeyDomain{Shares: 2}.TakesKeys())
	require.ErrorIs(t, client.KeyDomain{Empty: true}.TakesKeys(), client.ErrEmptyDomain)
	require.ErrorIs(t, client.KeyDomain{UID: []byte{}}.TakesKeys(), client.ErrXKEK)
	require.EqualError(t, client.KeyDomain{Shares: 3, Missing: 2}.TakesKeys(), "it is not complete: 2 of 3 shares are missing")
}

func TestGenerateEC_RefusesNoCurve(t *testing.T) {
	c := initialised(t, "4.1", client.Setup{})
	_, err := c.GenerateEC(t.Context(), 1, nil, client.KeySpec{Holder: "UTKEY00001"})
	require.EqualError(t, err, "generate key 1: no curve")
}

func TestWriteFile_RefusesWhatItsOffsetsDoNotReach(t *testing.T) {
	c := initialised(t, "4.1", client.Setup{})
	require.Error(t, c.WriteFile(t.Context(), 0xCF01, make([]byte, 1<<16+1)))
	list, err := c.Objects(t.Context())
	require.NoError(t, err)
	require.NotContains(t, list, uint16(0xCF01))
}

// What was on the card before stays, whatever fails.
func TestStore_LeavesWhatWasThere(t *testing.T) {
	ctx := t.Context()
	c := initialised(t, "4.1", client.Setup{DKEKShares: new(byte(0))})
	require.NoError(t, c.GenerateAES(ctx, 1, 128, client.KeySpec{}))
	blob, err := c.WrapKey(ctx, 1)
	require.NoError(t, err)
	require.NoError(t, c.WriteFile(ctx, 0xCE05, []byte("somebody's")))
	_, err = c.Store(ctx, client.Bundle{Ref: 5, Blob: blob, Certificate: make([]byte, 60000)})
	require.ErrorIs(t, err, apdu.AlreadyExists)
	content, err := c.ReadFile(ctx, 0xCE05)
	require.NoError(t, err)
	require.Equal(t, "somebody's", string(content))
}
