package client_test

import (
	"context"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/client"
	"hsmemu/applet/cvc"
	"hsmemu/applet/pkcs15"
	"hsmemu/applet/sm"
	"hsmemu/keystore"
)

// replayed is a card that says what it was given, each answer behind its length
// in two bytes, whatever it is asked.
type replayed struct{ answers []byte }

func (r *replayed) Transmit(context.Context, []byte) ([]byte, error) {
	if len(r.answers) < 2 {
		return nil, io.ErrUnexpectedEOF
	}
	n := min(int(r.answers[0])<<8|int(r.answers[1]), len(r.answers)-2)
	answer := r.answers[2 : 2+n]
	r.answers = r.answers[2+n:]
	return answer, nil
}

// recorded is a card whose answers are kept in that form.
type recorded struct {
	client.Card
	answers []byte
}

func (r *recorded) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	answer, err := r.Card.Transmit(ctx, command)
	r.answers = append(append(r.answers, byte(len(answer)>>8), byte(len(answer))), answer...)
	return answer, err
}

// converse asks a card everything that has an answer to be read.
func converse(t testing.TB, card client.Card) {
	t.Helper()
	ctx := t.Context()
	c := client.New(card)
	_, _ = c.Select(ctx)
	_, _ = c.PINStatus(ctx, client.SOPIN)
	_ = c.Login(ctx, pin)
	_, _ = c.KeyAuthentication(ctx)
	_, _ = c.RegisteredKeys(ctx)
	_, _ = c.CreateKeyDomain(ctx, 0, 1)
	_, _ = c.ImportShare(ctx, 0, make([]byte, keystore.ShareLen))
	_, _ = c.KeyDomain(ctx, 0)
	_, _ = c.Objects(ctx)
	device, err := c.Device(ctx)
	if err != nil {
		device = cvc.Chain{}
	}
	spec := client.KeySpec{Holder: "UTKEY00001"}
	request, _ := c.GenerateEC(ctx, 1, named(t, "secp256r1"), spec)
	_ = c.WriteFile(ctx, pkcs15.File(pkcs15.PrefixCertificate, 1), request.Raw)
	_, _ = c.GenerateRSA(ctx, 2, 1024, spec)
	_ = c.GenerateAES(ctx, 3, 128, spec)
	_, _ = c.Attestation(ctx, 1)
	_, _ = c.FreeKey(ctx)
	_, _ = c.AnswerChallenge(ctx, 1, "DENK990000100000", make([]byte, 8))
	_, _, _ = c.FindRequest(ctx, 1, 3, func(r cvc.Request) bool { return r.String() == "" })
	_, _ = c.WrapKey(ctx, 1)
	if public, err := device.Device.Key.Inherit(cvc.PublicKey{Scheme: cvc.ECDSASHA256, Curve: named(t, "brainpoolP256r1")}).EC(); err == nil {
		_ = c.OpenChannel(ctx, sm.AES128, public, rand.NewChaCha8([32]byte{}))
	}
	_, _ = c.SessionPIN(ctx)
	_, _ = c.PINStatus(ctx, client.UserPIN)
	_ = c.Leave(ctx)
}

// FuzzAnswers talks to a card that answers with any bytes: every call ends with
// an error or a value.
func FuzzAnswers(f *testing.F) {
	for _, firmware := range []string{"1.2", "4.1"} {
		card := &recorded{Card: shipped(f, firmware).card}
		require.NoError(f, client.New(card).Initialise(f.Context(), client.Setup{SOPIN: so, PIN: pin, Tries: 3, DKEKShares: new(byte(1))}))
		card.answers = nil
		converse(f, card)
		f.Add(card.answers)
	}
	f.Fuzz(func(t *testing.T, answers []byte) {
		converse(t, &replayed{answers})
	})
}
