package emulator_test

import (
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/apdu"
	"hsmemu/applet/cvc"
	"hsmemu/applet/tlv"
	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/keystore/cmac"
	"hsmemu/keystore/curve"
)

// scale is a card in memory, initialised, with a key of each kind: 1 RSA-2048,
// 2 secp256r1, 3 brainpoolP256r1, 4 secp256k1, 5 AES-128.
type scale struct {
	b    *testing.B
	card *emulator.Card
}

func newScale(b *testing.B) scale {
	card, err := emulator.NewCard(chip.Order{}, emulator.System())
	require.NoError(b, err)
	t := scale{b, card}
	t.say(apdu.Command{INS: 0xA4, P1: 4, P2: 0x0C, Data: []byte(apdu.AID)})
	setup := tlv.Append(nil, 0x80, []byte{0, 1})
	setup = tlv.Append(setup, 0x81, []byte("648219"))
	setup = tlv.Append(setup, 0x82, []byte("57621880"))
	setup = tlv.Append(setup, 0x91, []byte{3})
	t.say(apdu.Command{CLA: 0x80, INS: 0x50, Data: setup})
	t.generate(1, cvc.RSATemplate(cvc.RSASHA256, 2048))
	for i, name := range []string{"secp256r1", "brainpoolP256r1", "secp256k1"} {
		c, _ := curve.ByName(name)
		t.generate(byte(2+i), cvc.ECTemplate(cvc.ECDSASHA256, c))
	}
	t.say(apdu.Command{INS: 0x48, P1: 5, P2: 0xB0, Data: tlv.Append(nil, 0x91, []byte{0x10, 0x11, 0x18})})
	return t
}

// oid begins a public key template with an algorithm of BSI TR-03110.
func (t scale) generate(id byte, template []byte) {
	t.say(apdu.Command{INS: 0x46, P1: id, Data: tlv.Append(template, 0x5F20, []byte("UTBENCH000001")), Ne: 65536, Extended: true})
}

func (t scale) say(c apdu.Command) {
	answer, err := t.card.Transmit(context.Background(), c.Bytes())
	require.NoError(t.b, err)
	require.Equal(t.b, []byte{0x90, 0x00}, answer[len(answer)-2:])
}

// run measures a command beside the operation it consists of.
func (t scale) run(name string, c apdu.Command, bare func()) {
	raw := c.Bytes()
	t.b.Run(name+"/card", func(b *testing.B) {
		for b.Loop() {
			answer, err := t.card.Transmit(context.Background(), raw)
			if err != nil || answer[len(answer)-2] != 0x90 {
				b.Fatalf("%X, %v", answer, err)
			}
		}
	})
	if bare != nil {
		t.b.Run(name+"/bare", func(b *testing.B) {
			for b.Loop() {
				bare()
			}
		})
	}
}

// BenchmarkCard measures what a card costs beside the bare operation: a command
// APDU in process, kept in memory.
func BenchmarkCard(b *testing.B) {
	t := newScale(b)
	digest := sha256.Sum256([]byte("measured"))

	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(b, err)
	bareRSA := func() { _, _ = rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:]) }
	block := make([]byte, 256) // what OpenSC sends: padded by the caller
	block[1] = 1
	info := append([]byte{0x30, 0x31, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}, digest[:]...)
	copy(block[256-len(info):], info)
	for i := 2; i < 255-len(info); i++ {
		block[i] = 0xFF
	}
	t.run("RSA-2048-raw", apdu.Command{CLA: 0x80, INS: 0x68, P1: 1, P2: 0x20, Data: block, Ne: 65536, Extended: true}, bareRSA)
	t.run("RSA-2048-SHA256", apdu.Command{CLA: 0x80, INS: 0x68, P1: 1, P2: 0x33, Data: digest[:], Ne: 256}, bareRSA)

	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(b, err)
	t.run("P-256", apdu.Command{CLA: 0x80, INS: 0x68, P1: 2, P2: 0x70, Data: digest[:], Ne: 256},
		func() { _, _ = ecdsa.SignASN1(rand.Reader, ec, digest[:]) })
	t.run("brainpoolP256r1", apdu.Command{CLA: 0x80, INS: 0x68, P1: 3, P2: 0x70, Data: digest[:], Ne: 256}, nil)
	t.run("secp256k1", apdu.Command{CLA: 0x80, INS: 0x68, P1: 4, P2: 0x70, Data: digest[:], Ne: 256}, nil)

	block2, err := aes.NewCipher(make([]byte, 16))
	require.NoError(b, err)
	data, out := make([]byte, 1024), make([]byte, 1024)
	t.run("AES-CBC-1KiB", apdu.Command{CLA: 0x80, INS: 0x78, P1: 5, P2: 0x10, Data: data, Ne: 65536, Extended: true},
		func() { cipher.NewCBCEncrypter(block2, make([]byte, 16)).CryptBlocks(out, data) })
	t.run("CMAC-1KiB", apdu.Command{CLA: 0x80, INS: 0x78, P1: 5, P2: 0x18, Data: data, Ne: 65536, Extended: true},
		func() { _, _ = cmac.Sum(make([]byte, 16), data) })
	t.run("status", apdu.Command{INS: 0x20, P2: 0x81}, nil)
}
