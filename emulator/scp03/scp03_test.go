package scp03_test

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"hsmemu/applet/apdu"
	"hsmemu/emulator/scp03"
	"hsmemu/keystore/cmac"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// What the vectors start from. They were computed by another implementation of
// the same definition; the answers of the card are to a counter of 1.
var (
	master    = [16]byte(unhex("404142434445464748494A4B4C4D4E4F"))
	diversity = scp03.Diversification(unhex("0000554D00000001C0DE"))
	challenge = scp03.Challenge(unhex("0102030405060708"))
	domain    = unhex("A000000003000000")
)

const version = 0x30

func command(t require.TestingT, text string) apdu.Command {
	c, err := apdu.Parse(unhex(text))
	require.NoError(t, err)
	return c
}

func response(t require.TestingT, text string) apdu.Response {
	r, err := apdu.ParseResponse(unhex(text))
	require.NoError(t, err)
	return r
}

func hexed(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }

// authenticating is both ends before EXTERNAL AUTHENTICATE.
func authenticating(t require.TestingT, counter uint32) (scp03.Card, scp03.Host) {
	keys := scp03.Derive(master, diversity)
	card, data, err := keys.Begin(diversity, version, counter, domain, challenge)
	require.NoError(t, err)
	a, err := scp03.ParseAnswer(data)
	require.NoError(t, err)
	require.Equal(t, counter, a.Counter)
	require.Equal(t, byte(version), a.Version)
	host, err := scp03.Derive(master, a.Diversification).Open(challenge, a)
	require.NoError(t, err)
	return card, host
}

// open is both ends of a channel.
func open(t require.TestingT, l scp03.Level) (scp03.Card, scp03.Host) {
	card, host := authenticating(t, 1)
	c, host, err := host.Authenticate(l)
	require.NoError(t, err)
	card, err = card.Authenticate(c)
	require.NoError(t, err)
	return card, host
}

var levels = []scp03.Level{scp03.Plain, scp03.MAC, scp03.Encrypted, scp03.BothMAC, scp03.AnswerMAC, scp03.All}

// The exchange of the vectors: both ends, byte for byte.
func TestVectors(t *testing.T) {
	t.Parallel()
	require.Equal(t, "8050300008010203040506070800", hexed(scp03.Begin(version, challenge).Bytes()))
	keys := scp03.Derive(master, diversity)
	card, data, err := keys.Begin(diversity, version, 1, domain, challenge)
	require.NoError(t, err)
	require.Equal(t, "0000554D00000001C0DE3003702673B7167AC0F81961557B422DDDD2A0000001", hexed(data))
	a, err := scp03.ParseAnswer(data)
	require.NoError(t, err)
	host, err := keys.Open(challenge, a)
	require.NoError(t, err)
	c, host, err := host.Authenticate(scp03.All)
	require.NoError(t, err)
	require.Equal(t, "84823300108B7B459EA4070046E61F99828AA2A4CD", hexed(c.Bytes()))
	card, err = card.Authenticate(c)
	require.NoError(t, err)
	require.Equal(t, scp03.All, card.Level())
	for _, step := range []struct{ plain, sent, answer string }{
		{"80E400800C4F0AE82B0601040181C31F0200", "84E4008018340595763AF72CEAEB2D76F51292D8529AC311F2DD74F8CE00", "21789643192144B8A501B5ABD86BCEF75459950FAFEEFA199000"},
		{
			"80E60200170AE82B0601040181C31F0208A00000000300000000000000",
			"84E6020028CEFA5FC7D6A74AADB15A5ED4587182C3F42ED63C5EEDDC7BEAC2B29E491AD57E309A8A0F4B484BD100", "AE7EC5F743BC7975F07517C8519DC3386CDE52DECF75E73E9000",
		},
	} {
		var sent apdu.Command
		sent, host, err = host.Wrap(command(t, step.plain))
		require.NoError(t, err)
		require.Equal(t, step.sent, hexed(sent.Bytes()))
		var plain apdu.Command
		plain, card, err = card.Unwrap(sent)
		require.NoError(t, err)
		require.Equal(t, step.plain, hexed(plain.Bytes()))
		var answer apdu.Response
		answer, card, err = card.Wrap(response(t, "009000"))
		require.NoError(t, err)
		require.Equal(t, step.answer, hexed(answer.Bytes()))
		answer, host, err = host.Unwrap(answer)
		require.NoError(t, err)
		require.Equal(t, "009000", hexed(answer.Bytes()))
	}
}

// Whatever is said at whatever level arrives as it was said.
func TestEnds_AgreeAtEveryLevel(t *testing.T) {
	t.Parallel()
	words := []apdu.SW{apdu.OK, apdu.EndOfFile, apdu.VerificationFailed, 0x63C5, apdu.SecurityStatus, apdu.WrongData, apdu.Internal}
	rapid.Check(t, func(t *rapid.T) {
		card, host := open(t, rapid.SampledFrom(levels).Draw(t, "level"))
		for n := range rapid.IntRange(1, 8).Draw(t, "commands") {
			said := apdu.Command{
				CLA: rapid.SampledFrom([]byte{0x00, 0x80}).Draw(t, "class"), INS: rapid.Byte().Draw(t, "ins"),
				P1: rapid.Byte().Draw(t, "p1"), P2: byte(n),
				Data: rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "data"), Ne: rapid.SampledFrom([]int{0, 1, 256, 65536}).Draw(t, "ne"),
			}
			sent, next, err := host.Wrap(said)
			require.NoError(t, err)
			heard, err := apdu.Parse(sent.Bytes())
			require.NoError(t, err)
			plain, nextCard, err := card.Unwrap(heard)
			require.NoError(t, err)
			require.Equal(t, said.Bytes(), plain.Bytes())
			answer := apdu.Response{Data: rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "answer"), SW: rapid.SampledFrom(words).Draw(t, "sw")}
			out, nextCard, err := nextCard.Wrap(answer)
			require.NoError(t, err)
			back, err := apdu.ParseResponse(out.Bytes())
			require.NoError(t, err)
			got, next, err := next.Unwrap(back)
			require.NoError(t, err)
			if answer.SW>>12 != 9 && answer.SW>>8 != 0x62 && answer.SW>>8 != 0x63 {
				answer.Data = nil // an error says nothing else
			}
			require.Equal(t, answer.Bytes(), got.Bytes())
			card, host = nextCard, next
		}
	})
}

// flips is a message with each of its bits wrong in turn, cut short and made
// longer.
func flips(b []byte) [][]byte {
	var out [][]byte
	for i := range 8 * len(b) {
		f := append([]byte{}, b...)
		f[i/8] ^= 1 << (i % 8)
		out = append(out, f)
	}
	for n := range b {
		out = append(out, b[:n])
	}
	return append(out, append(append([]byte{}, b...), 0))
}

// Every byte of every message counts: one that is wrong ends the channel.
func TestEnds_RefuseEveryWrongByte(t *testing.T) {
	t.Parallel()
	for _, l := range levels {
		t.Run(fmt.Sprintf("%02X", byte(l)), func(t *testing.T) {
			t.Parallel()
			card, host := authenticating(t, 1)
			c, host, err := host.Authenticate(l)
			require.NoError(t, err)
			for _, wrong := range flips(c.Data) {
				bad := c
				bad.Data = wrong
				after, err := card.Authenticate(bad)
				require.Error(t, err, "%X", wrong)
				require.False(t, after.Active())
				require.Equal(t, scp03.Card{}, after)
			}
			for i := range 8 {
				bad := c
				bad.P1 ^= 1 << i
				_, err := card.Authenticate(bad)
				require.Error(t, err)
				bad = c
				bad.P2 ^= 1 << i
				_, err = card.Authenticate(bad)
				require.ErrorIs(t, err, scp03.ErrMAC)
			}
			card, err = card.Authenticate(c)
			require.NoError(t, err)
			if l == scp03.Plain {
				_, _, err = card.Unwrap(apdu.Command{CLA: 0x84, INS: 0xE4, Data: make([]byte, 8)})
				require.ErrorIs(t, err, scp03.ErrMAC)
				return
			}
			sent, host, err := host.Wrap(apdu.Command{CLA: 0x80, INS: 0xE4, P2: 0x80, Data: []byte("what is to be deleted"), Ne: 256})
			require.NoError(t, err)
			for _, wrong := range flips(sent.Data) {
				bad := sent
				bad.Data = wrong
				_, after, err := card.Unwrap(bad)
				require.ErrorIs(t, err, scp03.ErrMAC, "%X", wrong)
				require.Equal(t, scp03.Card{}, after)
			}
			for i := range 8 {
				for at := range 4 {
					bad := sent
					*[]*byte{&bad.CLA, &bad.INS, &bad.P1, &bad.P2}[at] ^= 1 << i
					_, _, err := card.Unwrap(bad)
					require.ErrorIs(t, err, scp03.ErrMAC)
				}
			}
			_, card, err = card.Unwrap(sent)
			require.NoError(t, err)
			// The same command again is another one.
			_, again, err := card.Wrap(apdu.Response{SW: apdu.OK})
			require.NoError(t, err)
			_, _, err = again.Unwrap(sent)
			require.ErrorIs(t, err, scp03.ErrMAC)

			answer, _, err := card.Wrap(apdu.Response{Data: []byte("an answer"), SW: apdu.OK})
			require.NoError(t, err)
			if l&scp03.BothMAC != scp03.BothMAC {
				return // nothing protects it
			}
			for _, wrong := range flips(answer.Bytes()) {
				r, err := apdu.ParseResponse(wrong)
				if err != nil || len(wrong) == 2 {
					continue // a bare error word needs no code
				}
				_, after, err := host.Unwrap(r)
				require.Error(t, err, "%X", wrong)
				require.Equal(t, scp03.Host{}, after)
			}
			_, _, err = host.Unwrap(answer)
			require.NoError(t, err)
		})
	}
}

// Whoever does not have the card's keys is known at once, on either side.
func TestEnds_KnowEachOther(t *testing.T) {
	t.Parallel()
	other := master
	other[15] ^= 1
	keys, wrong := scp03.Derive(master, diversity), scp03.Derive(other, diversity)
	card, data, err := keys.Begin(diversity, version, 1, domain, challenge)
	require.NoError(t, err)
	a, err := scp03.ParseAnswer(data)
	require.NoError(t, err)
	_, err = wrong.Open(challenge, a)
	require.ErrorIs(t, err, scp03.ErrCryptogram)
	for _, bad := range flips(data) {
		a, err := scp03.ParseAnswer(bad)
		if err == nil && (a.Challenge != scp03.Challenge(data[13:]) || a.Cryptogram != scp03.Challenge(data[21:])) {
			_, err = keys.Open(challenge, a)
			require.ErrorIs(t, err, scp03.ErrCryptogram)
		}
	}
	// A host that answers another card's challenge.
	_, elsewhere := authenticating(t, 2)
	c, _, err := elsewhere.Authenticate(scp03.All)
	require.NoError(t, err)
	_, err = card.Authenticate(c)
	require.ErrorIs(t, err, scp03.ErrMAC)
	// No two sessions are alike.
	_, next, err := keys.Begin(diversity, version, 2, domain, challenge)
	require.NoError(t, err)
	require.NotEqual(t, data[13:29], next[13:29])
	_, _, err = keys.Begin(diversity, version, scp03.MaxCounter+1, domain, challenge)
	require.ErrorIs(t, err, scp03.ErrLength)
	_, _, err = keys.Begin(diversity, version, scp03.MaxCounter, domain, challenge)
	require.NoError(t, err)
}

// Who has the session keys and breaks the rules all the same is refused, too: a
// right code around a wrong cryptogram, and a right code around wrong padding.
func TestCard_RefusesWhatIsWrongUnderARightCode(t *testing.T) {
	t.Parallel()
	var (
		encryption = unhex("96CBC63324DF1219324E3154D5FC1444")
		code       = unhex("91795966A95A02951545105FE8083B95")
	)
	sign := func(c apdu.Command, chain, data []byte) (apdu.Command, []byte) {
		message := append(append([]byte{}, chain...), c.CLA, c.INS, c.P1, c.P2, byte(len(data)+8))
		full, err := cmac.Sum(code, append(message, data...))
		require.NoError(t, err)
		c.Data = append(append([]byte{}, data...), full[:8]...)
		return c, full
	}
	card, _ := authenticating(t, 1)
	authenticate := apdu.Command{CLA: 0x84, INS: 0x82, P1: 0x33}
	wrong, _ := sign(authenticate, make([]byte, 16), unhex("8B7B459EA4070047"))
	_, err := card.Authenticate(wrong)
	require.ErrorIs(t, err, scp03.ErrCryptogram)

	right, chain := sign(authenticate, make([]byte, 16), unhex("8B7B459EA4070046"))
	card, err = card.Authenticate(right)
	require.NoError(t, err)
	block, err := aes.NewCipher(encryption)
	require.NoError(t, err)
	iv := make([]byte, 16)
	iv[15] = 1
	block.Encrypt(iv, iv)
	for text, opens := range map[string]bool{
		"41800000000000000000000000000000": true, "4142434445464748494A4B4C4D4E4F80": true,
		"80000000000000000000000000000000": false, "00000000000000000000000000000000": false,
		"41424344454647484950515253545556": false, "41800000000000000000000000000001": false,
		"4180000000000000000000000000000000000000000000000000000000000000": false,
	} {
		data := unhex(text)
		cipher.NewCBCEncrypter(block, iv).CryptBlocks(data, data)
		c, _ := sign(apdu.Command{CLA: 0x84, INS: 0xE4}, chain, data)
		_, _, err := card.Unwrap(c)
		if opens {
			require.NoError(t, err, text)
		} else {
			require.ErrorIs(t, err, scp03.ErrMAC, text)
		}
	}
	c, _ := sign(apdu.Command{CLA: 0x84, INS: 0xE4}, chain, make([]byte, 15))
	_, _, err = card.Unwrap(c)
	require.ErrorIs(t, err, scp03.ErrMAC, "not of whole blocks")
}

// Methods are called in turn, and an end that is closed stays so.
func TestEnds_TakeTurns(t *testing.T) {
	t.Parallel()
	c := apdu.Command{CLA: 0x80, INS: 0xF2}
	r := apdu.Response{SW: apdu.OK}
	card, host := authenticating(t, 1)
	_, _, err := host.Wrap(c)
	require.ErrorIs(t, err, scp03.ErrTurn)
	_, _, err = card.Unwrap(c)
	require.ErrorIs(t, err, scp03.ErrTurn)
	_, _, err = host.Authenticate(0x02)
	require.ErrorIs(t, err, scp03.ErrLevel)
	_, err = card.Authenticate(apdu.Command{CLA: 0x84, INS: 0x82, P1: 0x30, Data: make([]byte, 16)})
	require.ErrorIs(t, err, scp03.ErrLevel)

	card, host = open(t, scp03.All)
	_, _, err = host.Unwrap(r)
	require.ErrorIs(t, err, scp03.ErrTurn)
	_, _, err = card.Wrap(r)
	require.ErrorIs(t, err, scp03.ErrTurn)
	_, _, err = host.Authenticate(scp03.All)
	require.ErrorIs(t, err, scp03.ErrTurn)
	_, err = card.Authenticate(c)
	require.ErrorIs(t, err, scp03.ErrTurn)
	_, _, err = host.Wrap(apdu.Command{CLA: 0x84})
	require.ErrorIs(t, err, scp03.ErrMAC)
	_, same, err := host.Wrap(apdu.Command{CLA: 0x80, Data: make([]byte, 65520)})
	require.ErrorIs(t, err, scp03.ErrLength)
	require.Equal(t, host, same)
	sent, host, err := host.Wrap(c)
	require.NoError(t, err)
	_, _, err = host.Wrap(c)
	require.ErrorIs(t, err, scp03.ErrTurn)
	_, card, err = card.Unwrap(sent)
	require.NoError(t, err)
	_, _, err = card.Unwrap(sent)
	require.ErrorIs(t, err, scp03.ErrTurn)

	for _, err := range []error{
		func() error { _, err := scp03.Card{}.Authenticate(c); return err }(),
		func() error { _, _, err := scp03.Card{}.Unwrap(c); return err }(),
		func() error { _, _, err := scp03.Card{}.Wrap(r); return err }(),
		func() error { _, _, err := scp03.Host{}.Authenticate(0); return err }(),
		func() error { _, _, err := scp03.Host{}.Wrap(c); return err }(),
		func() error { _, _, err := scp03.Host{}.Unwrap(r); return err }(),
	} {
		require.ErrorIs(t, err, scp03.ErrClosed)
	}
}

// No verb shows a key.
func TestEnds_PrintNoKeys(t *testing.T) {
	t.Parallel()
	secrets := []string{
		"404142434445464748494A4B4C4D4E4F", "7B75A059F5A7404AA1B68413F94EDE41", "0A2D5E8B07A133D9E2F34F562775BB63",
		"96CBC63324DF1219324E3154D5FC1444", "91795966A95A02951545105FE8083B95", "1952A551F5E9CD7AAB0A3E8FABE3E414",
		"3F677349CC13A1FCEDF6B8E56E137999",
	}
	card, host := open(t, scp03.All)
	for _, v := range []any{scp03.Derive(master, diversity), card, host, &card, &host, struct{ c scp03.Card }{card}, []scp03.Host{host}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%d"} {
			text := fmt.Sprintf(verb, v)
			for _, s := range secrets {
				require.NotContains(t, strings.ToUpper(text), s)
				require.NotContains(t, text, strings.Trim(fmt.Sprint(unhex(s)), "[]"))
			}
		}
	}
	require.Equal(t, "card channel, level 33, command 0", card.String())
	require.Equal(t, "host channel, closed", scp03.Host{}.String())
}

// FuzzUnwrap gives both ends any bytes after EXTERNAL AUTHENTICATE. Nobody who
// does not have the keys finds a code, so an end that accepts something was
// given what the other end said, or protects nothing.
func FuzzUnwrap(f *testing.F) {
	for i, l := range levels {
		card, host := open(f, l)
		sent, _, err := host.Wrap(apdu.Command{CLA: 0x80, INS: 0xE4, P2: 0x80, Data: []byte("data"), Ne: 256})
		require.NoError(f, err)
		_, card, err = card.Unwrap(sent)
		require.NoError(f, err)
		answer, _, err := card.Wrap(apdu.Response{Data: []byte{0}, SW: apdu.OK})
		require.NoError(f, err)
		f.Add(byte(i), sent.Bytes(), answer.Bytes())
		f.Add(byte(i), []byte{0x84, 0xE4, 0, 0x80, 8, 0, 0, 0, 0, 0, 0, 0, 0}, []byte{0x6A, 0x80})
	}
	cards, hosts := make([]scp03.Card, len(levels)), make([]scp03.Host, len(levels))
	for i, l := range levels {
		cards[i], hosts[i] = open(f, l)
	}
	f.Fuzz(func(t *testing.T, which byte, b, back []byte) {
		n := int(which) % len(levels)
		l, card, host := levels[n], cards[n], hosts[n]
		said := apdu.Command{CLA: 0x80, INS: 0xE4, P2: 0x80, Data: []byte("data"), Ne: 256}
		sent, host, err := host.Wrap(said)
		require.NoError(t, err)
		if received, err := apdu.Parse(b); err == nil {
			plain, after, err := card.Unwrap(received)
			require.Equal(t, err == nil, after.Active())
			switch {
			case err != nil:
				require.Equal(t, apdu.Command{}, plain)
			case l != scp03.Plain:
				require.Equal(t, sent.Data, received.Data)
				require.Equal(t, said.Data, plain.Data)
			}
		}
		if received, err := apdu.ParseResponse(back); err == nil {
			_, honest, err := card.Unwrap(sent)
			require.NoError(t, err)
			plain, after, err := host.Unwrap(received)
			require.Equal(t, err == nil, after.Active())
			if err == nil && l&scp03.BothMAC == scp03.BothMAC && len(received.Data) > 0 {
				answer, _, err := honest.Wrap(plain)
				require.NoError(t, err)
				require.Equal(t, received.Bytes(), answer.Bytes())
			}
		}
	})
}

// FuzzAuthenticate gives both ends any bytes before that.
func FuzzAuthenticate(f *testing.F) {
	_, data, err := scp03.Derive(master, diversity).Begin(diversity, version, 1, domain, challenge)
	require.NoError(f, err)
	_, host := authenticating(f, 1)
	c, _, err := host.Authenticate(scp03.All)
	require.NoError(f, err)
	f.Add(data, c.Bytes())
	f.Fuzz(func(t *testing.T, answer, b []byte) {
		if a, err := scp03.ParseAnswer(answer); err == nil {
			if _, err := scp03.Derive(master, diversity).Open(challenge, a); err == nil {
				require.Equal(t, data[13:29], answer[13:29])
			}
		}
		card, host := authenticating(t, 1)
		received, err := apdu.Parse(b)
		if err != nil {
			return
		}
		if card, err = card.Authenticate(received); err == nil {
			honest, _, err := host.Authenticate(card.Level())
			require.NoError(t, err)
			require.Equal(t, honest.Data, received.Data)
		}
	})
}

func BenchmarkExchange(b *testing.B) {
	for _, l := range levels {
		b.Run(fmt.Sprintf("%02X", byte(l)), func(b *testing.B) {
			card, host := open(b, l)
			sent, _, err := host.Wrap(apdu.Command{CLA: 0x80, INS: 0xE8, Data: make([]byte, 230)})
			require.NoError(b, err)
			b.ReportAllocs()
			for b.Loop() {
				_, next, err := card.Unwrap(sent)
				if err != nil {
					b.Fatal(err)
				}
				if _, _, err = next.Wrap(apdu.Response{Data: []byte{0}, SW: apdu.OK}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
