package client_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/apdu"
	"hsmemu/applet/client"
	"hsmemu/applet/cvc"
	"hsmemu/applet/pkcs15"
	"hsmemu/applet/sm"
	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/keystore"
	"hsmemu/keystore/curve"
	"hsmemu/pinstate"
)

var (
	pin = []byte("648219")
	so  = []byte("57621880")
)

// token is a card and a client of it.
type token struct {
	*client.Client
	card *emulator.Card
}

// shipped is a card as shipped with its application selected.
func shipped(t testing.TB, firmware string) token {
	t.Helper()
	w := emulator.System()
	w.RSA = keystore.PoolGenerator{Rand: w.Rand}
	card, err := emulator.NewCard(chip.Order{Firmware: firmware}, w)
	require.NoError(t, err)
	c := client.New(card)
	_, err = c.Select(t.Context())
	require.NoError(t, err)
	return token{c, card}
}

// initialised is a card set up by the test and logged in to.
func initialised(t *testing.T, firmware string, setup client.Setup) token {
	t.Helper()
	c := shipped(t, firmware)
	setup.SOPIN, setup.PIN, setup.Tries = so, pin, 3
	require.NoError(t, c.Initialise(t.Context(), setup))
	require.NoError(t, c.Login(t.Context(), pin))
	return c
}

func named(t testing.TB, name string) *curve.Curve {
	t.Helper()
	c, ok := curve.ByName(name)
	require.True(t, ok)
	return c
}

func TestSelect_ReadsWhatTheCardSaysOfItself(t *testing.T) {
	for _, p := range []struct {
		firmware string
		want     client.Info
	}{
		{"1.2", client.Info{Major: 1, Minor: 2, Short: true}},
		{"3.2", client.Info{Major: 3, Minor: 2, Platform: 6, Options: pinstate.OptionResetEnabled}},
		{"4.1", client.Info{Major: 4, Minor: 1, Platform: 6, Options: pinstate.OptionResetEnabled}},
	} {
		c := initialised(t, p.firmware, client.Setup{Options: pinstate.OptionResetEnabled})
		got, err := c.Select(t.Context())
		require.NoError(t, err)
		require.Equal(t, p.want, got)
		_, err = c.WrapKey(t.Context(), 1)
		require.Error(t, err)
	}
}

func TestPINs(t *testing.T) {
	ctx := t.Context()
	c := shipped(t, "4.1")
	status := func(want client.PINStatus) {
		t.Helper()
		got, err := c.PINStatus(ctx, client.UserPIN)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	status(client.PINStatus{State: client.Unset})
	require.NoError(t, c.Initialise(ctx, client.Setup{Options: pinstate.OptionResetEnabled, SOPIN: so, PIN: pin, Tries: 3}))
	status(client.PINStatus{State: client.Verified})
	_, err := c.Select(ctx)
	require.NoError(t, err)
	status(client.PINStatus{State: client.Ready, Left: 3})

	left := func(err error, want int) {
		t.Helper()
		n, known := client.TriesLeft(err)
		require.True(t, known, "%v", err)
		require.Equal(t, want, n)
	}
	left(c.VerifyPIN(ctx, client.UserPIN, []byte("000000")), 2)
	left(c.ChangePIN(ctx, client.UserPIN, []byte("000000"), []byte("111111")), 1)
	left(c.VerifyPIN(ctx, client.UserPIN, []byte("000000")), 0)
	left(c.Login(ctx, pin), 0)
	status(client.PINStatus{State: client.Blocked})

	left(c.ResetUserPIN(ctx, []byte("00000000"), pin), 14)
	require.NoError(t, c.ResetUserPIN(ctx, so, []byte("121212")))
	require.NoError(t, c.Login(ctx, []byte("121212")))
	require.NoError(t, c.ChangePIN(ctx, client.UserPIN, []byte("121212"), pin))
	require.NoError(t, c.ResetUserPIN(ctx, so, nil))
	require.NoError(t, c.ChangePIN(ctx, client.SOPIN, so, []byte("87654321")))
	left(c.VerifyPIN(ctx, client.SOPIN, so), 14)

	_, known := client.TriesLeft(errors.New("another"))
	require.False(t, known)
	_, known = client.TriesLeft(apdu.WrongLength)
	require.False(t, known)

	require.NoError(t, c.Initialise(ctx, client.Setup{Options: pinstate.OptionTransportPIN, SOPIN: []byte("87654321"), PIN: pin, Tries: 3}))
	_, err = c.Select(ctx)
	require.NoError(t, err)
	status(client.PINStatus{State: client.Transport})
}

// foreign is a card that has another application, and keeps what it is sent.
type foreign struct{ seen [][]byte }

func (f *foreign) Transmit(_ context.Context, command []byte) ([]byte, error) {
	f.seen = append(f.seen, bytes.Clone(command))
	return []byte{0x6A, 0x82}, nil
}

// A card is unlocked for others, and a PIN goes to no other application than the one it
// is for.
func TestUnlock(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := initialised(t, "4.1", client.Setup{})
	require.NoError(t, c.card.Reset())
	require.NoError(t, c.Unlock(ctx, pin))
	s, err := client.New(c.card).PINStatus(ctx, client.UserPIN)
	require.NoError(t, err)
	require.Equal(t, client.Verified, s.State)
	err = c.Unlock(ctx, []byte("000000"))
	left, known := client.TriesLeft(err)
	require.True(t, known, err)
	require.Equal(t, 2, left)
	s, err = client.New(c.card).PINStatus(ctx, client.UserPIN)
	require.NoError(t, err)
	require.Equal(t, client.Ready, s.State, "the login before has ended")

	err = shipped(t, "4.1").Unlock(ctx, pin)
	require.ErrorIs(t, err, client.ErrNoPIN)
	require.EqualError(t, err, "verify the user PIN: there is none: referenced data not found (6A88)")
	other := &foreign{}
	require.ErrorIs(t, client.New(other).Unlock(ctx, pin), client.ErrNoApplication)
	require.Len(t, other.seen, 1)
	require.NotContains(t, string(other.seen[0]), string(pin))
}

func TestFiles(t *testing.T) {
	ctx := t.Context()
	c := initialised(t, "3.5", client.Setup{})
	content := bytes.Repeat([]byte("0123456789"), 300)
	id := pkcs15.File(pkcs15.PrefixPublicData, 1)
	require.NoError(t, c.WriteFile(ctx, id, content))
	got, err := c.ReadFile(ctx, id)
	require.NoError(t, err)
	require.Equal(t, content, got)
	list, err := c.Objects(ctx)
	require.NoError(t, err)
	require.Equal(t, []uint16{pkcs15.FileDevice, id, pkcs15.File(pkcs15.PrefixKey, 0)}, list)

	free, err := c.FreeKey(ctx)
	require.NoError(t, err)
	require.Equal(t, byte(1), free)
	require.NoError(t, c.WriteFile(ctx, pkcs15.File(pkcs15.PrefixCertificate, 1), []byte{1}))
	free, err = c.FreeKey(ctx)
	require.NoError(t, err)
	require.Equal(t, byte(2), free)
	taken, err := c.KeyTaken(ctx, 1)
	require.NoError(t, err)
	require.True(t, taken)

	require.NoError(t, c.Delete(ctx, id))
	require.NoError(t, c.Delete(ctx, id), "what is not there is no error")
	got, err = c.ReadFile(ctx, id)
	require.NoError(t, err)
	require.Nil(t, got)
	require.ErrorIs(t, c.Delete(ctx, pkcs15.FileDevice), apdu.SecurityStatus)
}

func TestKeys(t *testing.T) {
	ctx := t.Context()
	c := initialised(t, "4.1", client.Setup{DKEKShares: new(byte(0))})
	device, err := c.Device(ctx)
	require.NoError(t, err)
	message := []byte("message")
	digest := sha256.Sum256(message)

	uses := uint32(2)
	ec, err := c.GenerateEC(ctx, 1, named(t, "brainpoolP384r1"), client.KeySpec{Holder: "DENK990000100001", Uses: &uses})
	require.NoError(t, err)
	_, err = cvc.Attest(ec.Raw, device.Bytes(), cvc.KnownRoots())
	require.NoError(t, err)
	signature, err := c.Sign(ctx, 1, keystore.ECDSASHA256, message)
	require.NoError(t, err)
	public, err := ec.Request.Key.EC()
	require.NoError(t, err)
	parsed, err := public.Curve().ParseDER(signature)
	require.NoError(t, err)
	require.True(t, public.Verify(digest[:], parsed))
	_, err = c.Sign(ctx, 1, keystore.ECDSASHA256, message)
	require.NoError(t, err)
	_, err = c.Sign(ctx, 1, keystore.ECDSASHA256, message)
	require.Error(t, err, "both uses are spent")

	rsa, err := c.GenerateRSA(ctx, 2, 1024, client.KeySpec{Holder: "DENK990000100002"})
	require.NoError(t, err)
	signature, err = c.Sign(ctx, 2, keystore.RSASignSHA256, message)
	require.NoError(t, err)
	require.NoError(t, rsa.Request.Key.Verify(message, signature))

	require.NoError(t, c.GenerateAES(ctx, 3, 256, client.KeySpec{Algorithms: []keystore.Algorithm{keystore.AESCBCEncrypt, keystore.AESCBCDecrypt, keystore.Wrap}}))
	require.Error(t, c.GenerateAES(ctx, 4, 100, client.KeySpec{}))
	block := []byte("0123456789abcdef")
	encrypted, err := c.Cipher(ctx, 3, keystore.AESCBCEncrypt, block)
	require.NoError(t, err)
	require.NotEqual(t, block, encrypted)

	blob, err := c.WrapKey(ctx, 3)
	require.NoError(t, err)
	require.NoError(t, c.Delete(ctx, pkcs15.File(pkcs15.PrefixKey, 3)))
	require.NoError(t, c.UnwrapKey(ctx, 5, blob))
	decrypted, err := c.Cipher(ctx, 5, keystore.AESCBCDecrypt, encrypted)
	require.NoError(t, err)
	require.Equal(t, block, decrypted)

	_, err = c.GenerateEC(ctx, 6, named(t, "secp256r1"), client.KeySpec{
		Holder: "DENK990000100006", Algorithms: []keystore.Algorithm{keystore.ECDH, keystore.DeriveEC},
	})
	require.NoError(t, err)
	require.NoError(t, c.DeriveEC(ctx, 6, 7, bytes.Repeat([]byte{7}, 32)))
	peer, err := named(t, "secp256r1").Generate(rand.Reader)
	require.NoError(t, err)
	shared, err := c.Decipher(ctx, 6, keystore.ECDH, peer.Public().Bytes())
	require.NoError(t, err)
	require.Len(t, shared, 65)

	require.NoError(t, c.WriteFile(ctx, pkcs15.File(pkcs15.PrefixCertificate, 2), rsa.Raw))
	request, err := c.Attestation(ctx, 2)
	require.NoError(t, err)
	require.Equal(t, rsa.Raw, request)
	request, err = c.Attestation(ctx, 3)
	require.NoError(t, err)
	require.Nil(t, request)
}

// The longest wrapped key fits the shortest command of any firmware, in a secure
// channel, too.
func TestUnwrapKey_FitsOneCommand(t *testing.T) {
	ctx := t.Context()
	c := initialised(t, "3.5", client.Setup{DKEKShares: new(byte(0))})
	_, err := c.GenerateRSA(ctx, 1, 4096, client.KeySpec{Holder: "DENK990000100001"})
	require.NoError(t, err)
	blob, err := c.WrapKey(ctx, 1)
	require.NoError(t, err)
	require.Len(t, blob, 1099)
	require.NoError(t, c.UnwrapKey(ctx, 2, blob))
}

func TestKeyDomains(t *testing.T) {
	ctx := t.Context()
	c := initialised(t, "4.1", client.Setup{})
	_, err := c.KeyDomain(ctx, 0)
	require.ErrorIs(t, err, client.ErrNoKeyDomains)
	require.ErrorIs(t, err, apdu.InstructionNotSupported)

	c = initialised(t, "4.1", client.Setup{KeyDomains: 2})
	_, err = c.KeyDomain(ctx, 2)
	require.ErrorIs(t, err, client.ErrNoSlot)
	d, err := c.KeyDomain(ctx, 1)
	require.NoError(t, err)
	require.Equal(t, client.KeyDomain{Empty: true}, d)
	d, err = c.CreateKeyDomain(ctx, 1, 2)
	require.NoError(t, err)
	require.Equal(t, client.KeyDomain{Shares: 2, Missing: 2}, d)
	d, err = c.ImportShare(ctx, 1, make([]byte, 32))
	require.NoError(t, err)
	require.Equal(t, 1, d.Missing)
	d, err = c.ImportShare(ctx, 1, bytes.Repeat([]byte{1}, 32))
	require.NoError(t, err)
	require.Zero(t, d.Missing)
	require.NotZero(t, d.KCV)
	d, err = c.DeleteKEK(ctx, 1)
	require.NoError(t, err)
	require.Zero(t, d.KCV)
	require.NoError(t, c.DeleteKeyDomain(ctx, 1))
	d, err = c.KeyDomain(ctx, 1)
	require.NoError(t, err)
	require.True(t, d.Empty)
	_, err = c.JoinKeyDomain(ctx, 1, []byte{1})
	require.Error(t, err)
}

func TestStore_WritesAKeyWithItsCertificates(t *testing.T) {
	ctx := t.Context()
	c := initialised(t, "4.1", client.Setup{DKEKShares: new(byte(1))})
	share := bytes.Repeat([]byte{9}, 32)
	_, err := c.ImportShare(ctx, 0, share)
	require.NoError(t, err)
	domain, err := keystore.NewDKEK(1).Import(share)
	require.NoError(t, err)
	private, err := named(t, "secp256r1").Generate(rand.Reader)
	require.NoError(t, err)
	blob, err := domain.Wrap(rand.Reader, keystore.NewEC(private))
	require.NoError(t, err)

	root, sub := client.Issuer{Label: "root", DER: []byte("root"), PublicKey: []byte("1")}, client.Issuer{Label: "sub", DER: []byte("sub"), PublicKey: []byte("2")}
	bundle := client.Bundle{
		Ref: 1, Blob: blob, Certificate: []byte("own"), Issuers: []client.Issuer{sub, root},
		Description: pkcs15.Key{Kind: pkcs15.EC, Label: "imported", ID: []byte{1}, Usage: pkcs15.UsageEC, Bits: 256},
	}
	added, err := c.Store(ctx, bundle)
	require.NoError(t, err)
	require.Len(t, added, 2)
	description, err := c.ReadFile(ctx, 0xC401)
	require.NoError(t, err)
	k, err := pkcs15.ParseKey(description)
	require.NoError(t, err)
	require.Equal(t, "imported", k.Label)
	described := func(file uint16, label string, publicKey []byte) {
		content, err := c.ReadFile(ctx, 0xC800|file)
		require.NoError(t, err)
		id := sha1.Sum(publicKey)
		require.Equal(t, pkcs15.Certificate{Label: label, ID: id[:], File: 0xCA00 | file}.Bytes(), content)
	}
	described(0, "sub", sub.PublicKey)
	described(1, "root", root.PublicKey)

	bundle.Ref = 2
	added, err = c.Store(ctx, bundle)
	require.NoError(t, err)
	require.Empty(t, added, "both are there already")

	// A third one does not fit: what was written of it is gone again.
	before, err := c.Objects(ctx)
	require.NoError(t, err)
	bundle.Ref, bundle.Certificate = 3, make([]byte, 60000)
	_, err = c.Store(ctx, bundle)
	require.NoError(t, err)
	bundle.Ref = 4
	_, err = c.Store(ctx, bundle)
	require.ErrorIs(t, err, apdu.NotEnoughMemory)
	after, err := c.Objects(ctx)
	require.NoError(t, err)
	require.ElementsMatch(t, append(before, 0xC403, 0xCC03, 0xCE03), after)
}

func TestKeyAuthentication(t *testing.T) {
	ctx := t.Context()
	vault := initialised(t, "4.1", client.Setup{})
	_, err := vault.KeyAuthentication(ctx)
	require.ErrorIs(t, err, client.ErrNoKeyAuthentication)
	require.NoError(t, vault.Initialise(ctx, client.Setup{SOPIN: so, Custodians: 2, Required: 1}))

	custodian := initialised(t, "4.1", client.Setup{})
	request, err := custodian.GenerateEC(ctx, 3, named(t, "brainpoolP256r1"), client.KeySpec{Holder: "UTCUSTB00001"})
	require.NoError(t, err)
	require.NoError(t, custodian.WriteFile(ctx, pkcs15.File(pkcs15.PrefixCertificate, 3), request.Raw))
	chain, err := custodian.Device(ctx)
	require.NoError(t, err)
	require.NoError(t, vault.Trust(ctx, chain))
	state, err := vault.RegisterKey(ctx, request)
	require.NoError(t, err)
	require.Equal(t, client.KeyAuthentication{Total: 2, Missing: 1, Required: 1}, state)

	_, err = vault.Select(ctx)
	require.NoError(t, err)
	_, err = vault.KeyDomain(ctx, 0)
	require.Error(t, err)
	keys, err := vault.RegisteredKeys(ctx)
	require.NoError(t, err)
	require.Equal(t, []client.RegisteredKey{{Name: "UTCUSTB00001"}, {}}, keys)

	challenge, err := vault.Challenge(ctx, 8)
	require.NoError(t, err)
	device, err := vault.Device(ctx)
	require.NoError(t, err)
	ref, found, err := custodian.FindRequest(ctx, 1, 255, func(r cvc.Request) bool { return r.CHR == keys[0].Name })
	require.NoError(t, err)
	require.Equal(t, byte(3), ref)
	answer, err := custodian.AnswerChallenge(ctx, ref, device.Device.CHR, challenge)
	require.NoError(t, err)
	require.ErrorIs(t, vault.Authenticate(ctx, "UTNOBODY00001", answer), apdu.ReferenceNotFound)
	require.NoError(t, vault.Authenticate(ctx, found.CHR, answer))
	require.ErrorIs(t, vault.Authenticate(ctx, found.CHR, answer), apdu.ConditionsNotSatisfied, "it has already")
	state, err = vault.KeyAuthentication(ctx)
	require.NoError(t, err)
	require.Equal(t, 1, state.Authenticated)
	require.NoError(t, vault.GenerateAES(ctx, 1, 128, client.KeySpec{}), "the vault is open")

	// The same in one go, and what is missing before it.
	_, err = vault.Select(ctx)
	require.NoError(t, err)
	opening, err := vault.BeginOpening(ctx)
	require.NoError(t, err)
	require.False(t, opening.Served())
	_, err = opening.Conclude(ctx)
	require.Equal(t, &client.ClosedError{Missing: 1}, err)
	require.EqualError(t, err, "1 more needed")
	ref, found.CHR, err = opening.Answer(ctx, custodian.Client, 0, pin)
	require.NoError(t, err)
	require.Equal(t, byte(3), ref)
	require.Equal(t, client.KeyAuthentication{Total: 2, Missing: 1, Required: 1, Authenticated: 1}, opening.State())
	require.True(t, opening.Served())
	needsPIN, err := opening.Conclude(ctx)
	require.NoError(t, err)
	require.False(t, needsPIN)

	require.NoError(t, vault.card.Reset())
	require.ErrorIs(t, vault.Authenticate(ctx, found.CHR, answer), client.ErrPowerLost)

	// The power goes when the key has authenticated: it counts no more.
	w := &wire{card: vault.card}
	opening, err = client.New(w).BeginOpening(ctx)
	require.NoError(t, err)
	w.instead = func(command []byte) []byte {
		if command[1] == apdu.InsManagePublicKeyAuthentication {
			w.instead = nil
			require.NoError(t, vault.card.Reset())
		}
		return nil
	}
	_, _, err = opening.Answer(ctx, custodian.Client, 0, pin)
	require.ErrorIs(t, err, client.ErrPowerLost)
}

func TestOpenChannel(t *testing.T) {
	ctx := t.Context()
	c := initialised(t, "4.1", client.Setup{Options: pinstate.OptionSessionPIN})
	chain, err := c.Device(ctx)
	require.NoError(t, err)
	verified, err := chain.Verify(cvc.KnownRoots())
	require.NoError(t, err)
	device, err := verified.Device.Key.Inherit(verified.Issuer.Key.Inherit(verified.Root.Key)).EC()
	require.NoError(t, err)

	_, err = c.Select(ctx)
	require.NoError(t, err)
	require.NoError(t, c.OpenChannel(ctx, sm.AES128, device, rand.Reader))
	require.NoError(t, c.VerifyPIN(ctx, client.UserPIN, pin))
	require.NoError(t, c.KeepLogin(ctx))
	session, err := c.SessionPIN(ctx)
	require.NoError(t, err)
	require.Len(t, session, 16)
	require.NoError(t, c.WriteFile(ctx, 0xCF01, bytes.Repeat([]byte("secret"), 200)))
	got, err := c.ReadFile(ctx, 0xCF01)
	require.NoError(t, err)
	require.Len(t, got, 1200)

	other, err := named(t, "brainpoolP256r1").Generate(rand.Reader)
	require.NoError(t, err)
	require.ErrorIs(t, c.OpenChannel(ctx, sm.AES128, other.Public(), rand.Reader), sm.ErrToken)
}

// PC/SC takes the power away from a card that no program is connected to.
func TestLogin_ComesBackAfterALossOfPower(t *testing.T) {
	ctx := t.Context()
	c := initialised(t, "4.1", client.Setup{})
	require.NoError(t, c.card.Reset())
	require.NoError(t, c.WriteFile(ctx, 0xCF01, []byte("written")))
	require.NoError(t, c.Leave(ctx))
	require.ErrorIs(t, c.WriteFile(ctx, 0xCF01, nil), apdu.SecurityStatus)
	require.NoError(t, c.card.Reset())
	_, err := c.ReadFile(ctx, 0xCF01)
	require.NoError(t, err, "reading takes a selection alone")
}

// The power goes before any one of the commands of what a program does, and the program
// does not notice.
func TestClient_ComesBackAfterALossOfPowerAtAnyCommand(t *testing.T) {
	ctx := t.Context()
	own := initialised(t, "4.1", client.Setup{})
	request, err := own.GenerateEC(ctx, 3, named(t, "brainpoolP256r1"), client.KeySpec{Holder: "UTCUSTB00001"})
	require.NoError(t, err)
	require.NoError(t, own.WriteFile(ctx, pkcs15.File(pkcs15.PrefixCertificate, 3), request.Raw))
	vault := shipped(t, "4.1")
	require.NoError(t, vault.Initialise(ctx, client.Setup{SOPIN: so, Custodians: 2, Required: 1}))

	for name, does := range map[string]struct {
		card *emulator.Card
		do   func(*client.Client) error
	}{
		"login": {own.card, func(c *client.Client) error {
			return errors.Join(c.Login(ctx, pin), c.WriteFile(ctx, 0xCF01, []byte("written")))
		}},
		"unlock": {own.card, func(c *client.Client) error { return c.Unlock(ctx, pin) }},
		"answer of a custodian": {own.card, func(c *client.Client) error {
			if err := c.Login(ctx, pin); err != nil {
				return err
			}
			_, err := c.AnswerChallenge(ctx, 3, "DETEST00001", []byte("challenge"))
			return err
		}},
		"opening": {vault.card, func(c *client.Client) error {
			_, err := c.BeginOpening(ctx)
			return err
		}},
		"evidence": {own.card, func(c *client.Client) error {
			_, err := c.Evidence(ctx, 3)
			return err
		}},
		"reference for an import": {own.card, func(c *client.Client) error {
			_, err := c.KeyReference(ctx, 7)
			return err
		}},
		"state and change of the PIN": {own.card, func(c *client.Client) error {
			_, err := c.PINStatus(ctx, client.UserPIN)
			return errors.Join(err, c.ChangePIN(ctx, client.UserPIN, pin, pin))
		}},
		"initialisation": {vault.card, func(c *client.Client) error {
			return c.Initialise(ctx, client.Setup{SOPIN: so, Custodians: 2, Required: 1})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			commands, reached := 0, true
			for at := 0; reached; at++ {
				require.NoError(t, does.card.Reset())
				reached = false
				w := &wire{card: does.card}
				w.instead = func([]byte) []byte {
					if len(w.sent) == at+1 {
						reached = true
						require.NoError(t, does.card.Reset())
					}
					return nil
				}
				require.NoError(t, does.do(client.New(w)), "power lost before command %d", at)
				commands = at
			}
			require.Greater(t, commands, 1)
		})
	}
}

// Leave leaves a login alone that was there before.
func TestLeave(t *testing.T) {
	ctx := t.Context()
	c := initialised(t, "4.1", client.Setup{})
	second := client.New(c.card)
	require.NoError(t, second.Login(ctx, pin))
	require.NoError(t, second.Leave(ctx))
	require.NoError(t, c.GenerateAES(ctx, 1, 128, client.KeySpec{}))
	ended, cancel := context.WithCancel(ctx)
	cancel()
	require.NoError(t, c.Leave(ended))
}
