package applet_test

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rsa"
	_ "crypto/sha1"
	"crypto/sha256"
	_ "crypto/sha512"
	"encoding/asn1"
	"fmt"
	"math/big"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
	"hsmemu/applet/cvc"
	"hsmemu/applet/tlv"
	"hsmemu/emulator/chiptest"
	"hsmemu/keystore"
	"hsmemu/keystore/cmac"
	"hsmemu/keystore/curve"
)

// made is a card with one new key 1, whose request has been verified as an
// attestation.
func made(t *testing.T, firmware, template string) (*table, cvc.PublicKey) {
	t.Helper()
	tb := after(t, firmware, setups["user"])
	tb.run(t, `00 46 01 00 Lcx(5F29(00) 42("UTCA00001") {`+template+`} 5F20("DENK990000100001")) le => {request:*} 9000`)
	a, err := cvc.Attest(tb.Vars["request"], tb.current().File(0x2F02), cvc.KnownRoots())
	require.NoError(t, err)
	require.Equal(t, cvc.OriginEmulator, a.Origin())
	return tb, a.Request.Request.Key
}

var hashes = []crypto.Hash{crypto.SHA1, crypto.SHA224, crypto.SHA256, crypto.SHA384, crypto.SHA512}

func digest(h crypto.Hash, message []byte) []byte {
	state := h.New()
	state.Write(message)
	return state.Sum(nil)
}

// Every RSA algorithm on every size, against crypto/rsa: KEY-1,
// KEY-35 and KEY-43.
func TestProtocol_RSA(t *testing.T) {
	t.Parallel()
	message := []byte("a message to be signed")
	for _, bits := range []int{1024, 1536, 2048, 3072, 4096} {
		t.Run(fmt.Sprint(bits), func(t *testing.T) {
			t.Parallel()
			tb, key := made(t, "4.1", fmt.Sprintf("rsa%d", bits))
			pub := &rsa.PublicKey{N: new(big.Int).SetBytes(key.Modulus), E: 65537}
			require.Equal(t, bits, pub.N.BitLen())
			use := func(ins, algorithm byte, data []byte) []byte {
				tb.Vars["data"] = data
				tb.run(t, fmt.Sprintf("80 %02X 01 %02X Lcx({data}) le => {out:*} 9000", ins, algorithm))
				return tb.Vars["out"]
			}

			sum := sha256.Sum256(message)
			info := append(unhex(t, "3031300D060960864801650304020105000420"), sum[:]...)
			require.NoError(t, rsa.VerifyPKCS1v15(pub, crypto.SHA256, sum[:], use(0x68, 0x30, info)))
			block := bytes.Repeat([]byte{0xFF}, bits/8)
			copy(block, []byte{0, 1})
			copy(block[bits/8-len(info)-1:], append([]byte{0}, info...))
			require.NoError(t, rsa.VerifyPKCS1v15(pub, crypto.SHA256, sum[:], use(0x68, 0x20, block)))
			for i, h := range hashes {
				require.NoError(t, rsa.VerifyPKCS1v15(pub, h, digest(h, message), use(0x68, 0x31+byte(i), message)), "%02X", 0x31+i)
				if bits/8 < 2*h.Size()+2 {
					tb.run(t, fmt.Sprintf("80 68 01 %02X Lc({data}) 00 => 6A81", 0x41+i))
					continue
				}
				salted := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}
				require.NoError(t, rsa.VerifyPSS(pub, h, digest(h, message), use(0x68, 0x40, digest(h, message)), salted), "40 %v", h)
				require.NoError(t, rsa.VerifyPSS(pub, h, digest(h, message), use(0x68, 0x41+byte(i), message), salted), "%02X", 0x41+i)
			}

			secret := []byte("0123456789ABCDEF")
			//lint:ignore SA1019 the card still decrypts what was encrypted so
			encrypted, err := rsa.EncryptPKCS1v15(chiptest.Seeded("pad"), pub, secret)
			require.NoError(t, err)
			require.Equal(t, secret, use(0x62, 0x22, encrypted))
			padded := use(0x62, 0x21, encrypted)
			require.Len(t, padded, bits/8)
			require.Equal(t, []byte{0, 2}, padded[:2])
			require.True(t, bytes.HasSuffix(padded, append([]byte{0}, secret...)))
			encrypted, err = rsa.EncryptOAEP(sha256.New(), chiptest.Seeded("pad"), pub, secret, nil)
			require.NoError(t, err)
			require.Equal(t, secret, use(0x62, 0x23, encrypted))
		})
	}
}

// KEY-42 and KEY-58: up to 3.x the numbers of a signature on P-521 have
// a fixed length. What they are is what OpenSSL takes, though not as it stands.
func TestProtocol_P521OfTheThirdGeneration(t *testing.T) {
	t.Parallel()
	tb, key := made(t, "3.6", "secp521r1")
	short, strict := 0, 0
	for i := range 24 {
		message := fmt.Appendf(nil, "message %d", i)
		tb.Vars["data"] = message
		tb.run(t, "80 68 01 73 Lc({data}) 00 => {out:139} 9000")
		var numbers struct{ R, S asn1.RawValue }
		_, err := asn1.Unmarshal(tb.Vars["out"], &numbers)
		require.NoError(t, err)
		padded := false
		for _, n := range [][]byte{numbers.R.Bytes, numbers.S.Bytes} {
			require.Len(t, n, 66)
			if n[0] == 0 && n[1] < 0x80 {
				short++
				padded = true
			}
		}
		if _, err := key.Curve.ParseDER(tb.Vars["out"]); padded {
			require.Error(t, err, "a number with leading zeros is no DER")
		} else {
			require.NoError(t, err)
			strict++
		}
		if i < 4 {
			require.True(t, openssl(t, key, message, append(numbers.R.Bytes, numbers.S.Bytes...)))
		}
	}
	require.NotZero(t, short, "a quarter of all numbers need padding")
	require.NotZero(t, strict)
}

// Every ECDSA algorithm and ECDH on every curve: KEY-36, KEY-37
// and KEY-45.
//
// Shows KEY-17, KEY-18 and KEY-59.
func TestProtocol_EC(t *testing.T) {
	t.Parallel()
	message := []byte("a message to be signed")
	for _, c := range curve.All() {
		t.Run(c.Name(), func(t *testing.T) {
			t.Parallel()
			tb, key := made(t, "4.1", c.Name())
			pub, err := key.EC()
			require.NoError(t, err)
			require.Equal(t, c, pub.Curve())
			sign := func(algorithm byte, data []byte) curve.Signature {
				tb.Vars["data"] = data
				tb.run(t, fmt.Sprintf("80 68 01 %02X Lc({data}) 00 => {out:*} 9000", algorithm))
				var numbers struct{ R, S *big.Int }
				rest, err := asn1.Unmarshal(tb.Vars["out"], &numbers) // refuses what is not DER
				require.NoError(t, err)
				require.Empty(t, rest)
				s, err := c.ParseDER(tb.Vars["out"])
				require.NoError(t, err)
				return s
			}
			for i, h := range hashes {
				require.True(t, pub.Verify(digest(h, message), sign(0x71+byte(i), message)), "%02X", 0x71+i)
				require.True(t, pub.Verify(digest(h, message), sign(0x70, digest(h, message))), "70 %v", h)
			}
			for _, n := range []int{1, 19, 65, 200} { // hash values that no hash function gives
				data := bytes.Repeat([]byte{0xA7}, n)
				require.True(t, pub.Verify(data, sign(0x70, data)), "%d bytes", n)
			}
			require.False(t, pub.Verify(digest(crypto.SHA256, message), sign(0x73, []byte("another message"))))

			peer, err := c.Generate(chiptest.Seeded("peer"))
			require.NoError(t, err)
			tb.Vars["peer"] = peer.Public().Bytes()
			tb.run(t, "80 62 01 80 Lc({peer}) 00 => {out:*} 9000")
			shared, err := peer.Shared(pub)
			require.NoError(t, err)
			require.Equal(t, shared, tb.Vars["out"])
		})
	}
}

// AES in every size, against the standard library: KEY-48 and KEY-49.
func TestProtocol_AES(t *testing.T) {
	t.Parallel()
	data := bytes.Repeat([]byte("0123456789ABCDEF"), 5)
	for p2, bits := range map[byte]int{0xB0: 128, 0xB1: 192, 0xB2: 256} {
		t.Run(fmt.Sprint(bits), func(t *testing.T) {
			t.Parallel()
			tb := after(t, "4.1", setups["user"])
			tb.Vars["data"] = data
			tb.run(t, fmt.Sprintf("00 48 01 %02X Lc(91(10 11 18 99))", p2))
			key := secretOf(t, tb.current().Durable().Keys[1], "key")
			require.Len(t, key, bits/8)
			block, err := aes.NewCipher(key)
			require.NoError(t, err)
			encrypted := make([]byte, len(data))
			cipher.NewCBCEncrypter(block, make([]byte, 16)).CryptBlocks(encrypted, data)
			tb.Vars["encrypted"] = encrypted
			sum, err := cmac.Sum(key, data)
			require.NoError(t, err)
			tb.Vars["sum"] = sum
			derived := sha256.Sum256(bytes.Join([][]byte{{0, 0, 0, 1}, key, data}, nil))
			tb.Vars["derived"] = derived[:]
			tb.run(t, `80 78 01 10 Lc({data}) 00 => {encrypted} 9000
				80 78 01 11 Lc({encrypted}) 00 => {data} 9000
				80 78 01 18 Lc({data}) 00 => {sum} 9000
				80 78 01 99 Lc({data}) 00 => {derived} 9000`)
		})
	}
}

// The request of a key is an attestation: it verifies for every kind of key and
// scheme, and only for the card that made it.
func TestProtocol_Attestation(t *testing.T) {
	t.Parallel()
	templates := map[string][]byte{}
	for s := cvc.RSASHA1; s <= cvc.ECDSASHA512; s++ {
		if s.RSA() {
			templates[s.String()] = cvc.RSATemplate(s, 2048)
		} else {
			templates[s.String()] = cvc.ECTemplate(s, named(t, "brainpoolP384r1"))
		}
	}
	for _, c := range curve.All() {
		templates[c.Name()] = cvc.ECTemplate(cvc.ECDSASHA256, c)
	}
	for _, bits := range []int{1024, 1536, 2048, 3072, 4096} {
		templates[fmt.Sprint(bits)] = cvc.RSATemplate(cvc.RSASHA256, bits)
	}
	require.Len(t, templates, 11+19+5)
	other, err := chiptest.Manufacture("4.1", "other")
	require.NoError(t, err)
	for name, template := range templates {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tb := after(t, "4.1", setups["user"])
			tb.Vars["template"] = template
			tb.run(t, `00 46 01 00 Lcx(42("UTCA00001") {template} 5F20("UTKEY00001")) le => {request:*} 9000`)
			request, ef := tb.Vars["request"], tb.current().File(0x2F02)
			a, err := cvc.Attest(request, ef, cvc.KnownRoots())
			require.NoError(t, err)
			require.Equal(t, cvc.Name("UTKEY00001"), a.Request.Request.CHR)
			require.Equal(t, cvc.Name("UTCA00001"), a.Request.Request.CAR)
			require.Equal(t, tb.current().Durable().Device.Name, string(a.Request.CAR))

			// Both signatures hold for a program that is not ours, too.
			inner := a.Request.Request
			require.True(t, openssl(t, inner.Key, inner.Body, inner.Signature))
			require.False(t, openssl(t, inner.Key, inner.Raw, inner.Signature))
			device := cvc.PublicKey{Scheme: cvc.ECDSASHA256, Curve: named(t, "brainpoolP256r1")}
			device.Point = tb.current().Durable().Device.Key.ECPublic().Bytes()
			outer := tlv.Append(bytes.Clone(inner.Raw), 0x42, []byte(a.Request.CAR))
			require.True(t, openssl(t, device, outer, a.Request.Signature))

			_, err = cvc.Attest(request, other.File(0x2F02), cvc.KnownRoots())
			require.ErrorIs(t, err, cvc.ErrOuterReference)
			for i := 4; i < len(request); i += 1 + len(request)/12 {
				changed := bytes.Clone(request)
				changed[i] ^= 0x01
				_, err = cvc.Attest(changed, ef, cvc.KnownRoots())
				require.Error(t, err, "byte %d", i)
			}

			// Without Le the card keeps the request, which is one as well.
			tb.run(t, `00 46 02 00 Lcx(42("UTCA00001") {template} 5F20("UTKEY00001"))
				00 B1 CE 02 Lcx(54(0000)) le => {stored:*} 9000`)
			_, err = cvc.Attest(tb.Vars["stored"], ef, cvc.KnownRoots())
			require.NoError(t, err)
			require.NotEqual(t, request, tb.Vars["stored"])
		})
	}
}

// Requests are laid out as on hardware, to the byte: CVC-29.
func TestProtocol_RequestLayout(t *testing.T) {
	t.Parallel()
	tb, _ := made(t, "4.1", "secp256k1")
	p := named(t, "secp256k1").Parameters()
	for name, v := range map[string][]byte{"p": p.P, "a": p.A, "b": p.B, "g": p.G, "n": p.N} {
		tb.Vars[name] = v
	}
	require.Len(t, tb.Vars["request"], 490)
	tb.run(t, `let request = {request}
		00 D7 CF 00 Lcx(54(0000) 53({request}))
		00 B1 CF 00 Lcx(54(0000)) le => 67 8201E6 7F21 82018C 7F4E 820144 5F29 01 00 42 09 "UTCA00001" 7F49 82011D 06 0A 04007F00070202020203 8120 {p} 8220 {a} 8320 {b} 8441 {g} 8520 {n} 8641 {point:65} 87 01 01 5F20 10 "DENK990000100001" 5F37 40 {inner:64} 42 10 {car:16} 5F37 40 {outer:64} 9000`)
	require.Equal(t, tb.current().Durable().Device.Name, string(tb.Vars["car"]))

	tb, _ = made(t, "4.1", "rsa2048")
	require.Len(t, tb.Vars["request"], 676)
	tb.run(t, `00 D7 CF 00 Lcx(54(0000) 53({request}))
		00 B1 CF 00 Lcx(54(0000)) le => 67 8202A0 7F21 820246 7F4E 82013C 5F29 01 00 42 09 "UTCA00001" 7F49 820115 06 0A 04007F00070202020102 81 820100 {modulus:256} 82 03 010001 5F20 10 * 5F37 820100 {inner:256} 42 10 {car:16} 5F37 40 {outer:64} 9000`)
}

// The outer signature of a key other than the device key.
func TestProtocol_Countersignature(t *testing.T) {
	t.Parallel()
	for _, signer := range []string{"secp256r1", "brainpoolP512r1", "rsa2048"} {
		tb, key := made(t, "4.1", signer)
		tb.run(t, `00 46 02 01 Lcx(42("UTCA00001") {rsa1024} 5F20("UTKEY00001") 45("UTOUTER00001")) le => {second:*} 9000`)
		a, err := cvc.ParseAuthenticated(tb.Vars["second"])
		require.NoError(t, err)
		require.Equal(t, cvc.Name("UTOUTER00001"), a.CAR)
		require.NoError(t, a.Request.Verify())
		require.NoError(t, a.VerifyOuter(key))
		_, err = cvc.Attest(tb.Vars["second"], tb.current().File(0x2F02), cvc.KnownRoots())
		require.ErrorIs(t, err, cvc.ErrOuterReference)
	}
}

// Use counters are counted durably before the key is used: whatever happens
// then, the use is gone.
func TestKeyUse_IsCountedBeforeTheKeyIsUsed(t *testing.T) {
	t.Parallel()
	tb := after(t, "4.1", setups["user"])
	tb.run(t, generate("01", "rsa1024", "90(03)")+"\n"+generate("02", "secp256r1", "90(03)", "91(73 80 98)")+"\n00 48 03 B0 Lc(90(03) 91(10))")
	tb.Vars["point"] = named(t, "secp256r1").Parameters().G
	for _, c := range []struct {
		id      byte
		command string
	}{
		{1, "80 68 01 33 Lc(00) 00"},
		{1, "80 68 01 43 Lc(00) 00"},
		{1, "80 62 01 21 Lc({long|head 128}) 00"},
		{1, "80 68 01 20 Lc(00) 00"},
		{2, "80 68 02 73 Lc(00) 00"},
		{2, "80 62 02 80 Lc({point}) 00"},
		{2, "80 62 02 80 Lc(00) 00"},
		{2, "80 76 02 05 Lc(98 01)"},
		{2, `00 46 06 02 Lcx(42("UTCA00001") {secp256r1} 5F20("UTKEY00001") 45("UTOUTER00001")) le`},
		{3, "80 78 03 10 Lc({long|head 16}) 00"},
		{3, "80 78 03 10 Lc({long|head 15}) 00"},
	} {
		for _, random := range []string{"works", "fails"} {
			twin := tb.copied()
			if random == "fails" {
				twin.current().Env.Rand = iotest.ErrReader(iotest.ErrTimeout)
				twin.current().Env.Deterministic = false
			}
			before := stored(t, twin.current().Durable())
			twin.command(t, c.command)
			first := twin.current().Result.Commits[0].Applet
			require.Equal(t, uint32(2), first.Keys[c.id].Uses.Left, c.command)
			// The first commit changes nothing but the counter.
			k := first.Keys[c.id]
			k.Uses.Left = 3
			first.Keys = map[byte]keystore.Key{1: first.Keys[1], 2: first.Keys[2], 3: first.Keys[3], c.id: k}
			require.Equal(t, before, stored(t, first), c.command)
			require.Equal(t, uint32(2), twin.current().Durable().Keys[c.id].Uses.Left, c.command)
		}
	}
}

// Without a seed signatures are random, as on hardware; with one they repeat.
func TestSign_RandomOrNot(t *testing.T) {
	t.Parallel()
	tb := after(t, "4.1", setups["stock"])
	const twice = "80 68 01 73 Lc(00) 00 => {s:*} 9000\n80 68 01 73 Lc(00) 00 => {other:*} 9000\n"
	tb.run(t, twice+`80 68 01 73 Lc(00) 00 => {s} 9000`)
	tb.current().Env.Deterministic = false
	tb.run(t, twice+"differ s other")
}

// A world that fails is our failure: the answer is an internal error that is
// reported, and the card is as it was.
func TestStep_WithoutRandomness(t *testing.T) {
	t.Parallel()
	for _, command := range []string{
		"00 84 00 00 08", "00 48 09 B0", `00 46 09 00 Lcx(42("UTCA00001") {secp256r1} 5F20("UTKEY00001")) le`,
		`00 46 09 00 Lcx(42("UTCA00001") {rsa1024} 5F20("UTKEY00001")) le`, "80 72 01 92 00 00 00", initialise("0001", "92(00)"),
		"80 68 04 73 Lc(00) 00", "80 68 02 43 Lc(00) 00", "00 86 00 00 Lc(7C(80({brainpoolP256r1|7F49.84}))) 00",
	} {
		tb := after(t, "4.1", setups["stock"]+"\n"+generate("04", "brainpoolP256r1")+"\n00 22 41 A4 Lc(80(04007F00070202030202))")
		tb.current().Env = applet.Env{
			Rand: iotest.ErrReader(iotest.ErrTimeout), RSA: keystore.PoolGenerator{Rand: iotest.ErrReader(iotest.ErrTimeout)},
		}
		before := stored(t, tb.current().Durable())
		tb.run(t, command+" => 6F00")
		require.ErrorIs(t, tb.current().Result.Event.Defect, iotest.ErrTimeout, command)
		require.Equal(t, before, stored(t, tb.current().Durable()), command)
		require.Equal(t, apdu.Internal, tb.current().Result.Event.SW)
	}
}
