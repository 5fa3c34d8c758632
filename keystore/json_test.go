package keystore_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"hsmemu/keystore"
)

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// storedRSA writes the stored form of an RSA key by hand.
func storedRSA(p, q *big.Int, e int64) string {
	return fmt.Sprintf(`{"kind":"rsa","e":%d,"p":"%s","q":"%s","qInverse":"%s"}`,
		e, b64(p.Bytes()), b64(q.Bytes()), b64(new(big.Int).ModInverse(q, p).Bytes()))
}

// The stored form is part of every card that was ever saved: it must not
// change under the same names.
func TestKeyJSON_Form(t *testing.T) {
	t.Parallel()
	a, err := keystore.NewAES([]byte("0123456789abcdef"))
	require.NoError(t, err)
	require.Equal(t, `{"kind":"aes","key":"MDEyMzQ1Njc4OWFiY2RlZg=="}`, stored(t, a))
	a.Uses = keystore.Uses{Limited: true}
	a.Algorithms = []keystore.Algorithm{keystore.AESCMAC, keystore.Wrap}
	a.Domain = 1
	require.Equal(t, `{"kind":"aes","usesLeft":0,"algorithms":"1892","domain":1,"key":"MDEyMzQ1Njc4OWFiY2RlZg=="}`, stored(t, a))
	a.Algorithms = []keystore.Algorithm{}
	require.Contains(t, stored(t, a), `"algorithms":""`)

	d, err := curveNamed(t, "secp256r1").Private([]byte{1})
	require.NoError(t, err)
	require.Equal(t, `{"kind":"ec","d":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE=","curve":"secp256r1",`+
		`"point":"`+b64(curveNamed(t, "secp256r1").Parameters().G)+`"}`, stored(t, keystore.NewEC(d)))

	p, q := pooledPrimes(t, 1024)
	r, err := keystore.NewRSA(keystore.RSAParts{E: f4, P: p.Bytes(), Q: q.Bytes()})
	require.NoError(t, err)
	require.JSONEq(t, storedRSA(p, q, 65537), stored(t, r))
	r, err = keystore.NewRSA(bigKeyOf(p, q, 65537).parts())
	require.NoError(t, err)
	require.Contains(t, stored(t, r), `"d":"`+b64(bigKeyOf(p, q, 65537).d.Bytes())+`"`)

	require.Equal(t, "null", stored(t, keystore.Key{}))
}

func TestKeyJSON_RoundTrip(t *testing.T) {
	t.Parallel()
	keys := append(allKinds(t), keystore.Key{})
	rapid.Check(t, func(rt *rapid.T) {
		k := rapid.SampledFrom(keys).Draw(rt, "key")
		if !k.IsZero() {
			k.Domain = rapid.Byte().Draw(rt, "domain")
			if rapid.Bool().Draw(rt, "limited") {
				k.Uses = keystore.Uses{Limited: true, Left: rapid.Uint32().Draw(rt, "left")}
			}
			if rapid.Bool().Draw(rt, "list") {
				k.Algorithms = []keystore.Algorithm{}
				for _, b := range rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(rt, "ids") {
					k.Algorithms = append(k.Algorithms, keystore.Algorithm(b))
				}
			}
		}
		text, err := json.Marshal(map[string]keystore.Key{"k": k})
		require.NoError(t, err)
		var back map[string]keystore.Key
		require.NoError(t, json.Unmarshal(text, &back))
		got := back["k"]
		require.Equal(t, k.Uses, got.Uses)
		require.Equal(t, k.Algorithms, got.Algorithms)
		require.Equal(t, k.Domain, got.Domain)
		require.Equal(t, k.String(), got.String())
		require.Equal(t, stored(t, k), stored(t, got))
	})
}

func TestKeyJSON_RefusesNonsense(t *testing.T) {
	t.Parallel()
	p, q := pooledPrimes(t, 1024)
	rsaText, inverse := storedRSA(p, q, 65537), new(big.Int).ModInverse(q, p)
	ecText := stored(t, ecKey(t, "secp256r1"))
	aesText := stored(t, aesKey(t, 128))
	c := curveNamed(t, "secp256r1").Parameters()
	ecWith := func(scalar []byte) string {
		return fmt.Sprintf(`{"kind":"ec","curve":"secp256r1","d":"%s","point":"%s"}`, b64(scalar), b64(c.G))
	}
	edit := func(text, old, with string) string {
		require.Contains(t, text, old)
		return strings.Replace(text, old, with, 1)
	}
	minusOne := new(big.Int).Sub(new(big.Int).SetBytes(c.N), big.NewInt(1)).Bytes()
	require.NoError(t, new(keystore.Key).UnmarshalJSON([]byte(ecWith(minusOne))), "the largest scalar")

	for name, text := range map[string]string{
		"nothing":            ``,
		"not JSON":           `{`,
		"number":             `7`,
		"list":               `[]`,
		"empty":              `{}`,
		"two values":         aesText + aesText,
		"unknown name":       edit(aesText, `{`, `{"colour":"red",`),
		"unknown kind":       edit(aesText, `"aes"`, `"des"`),
		"no kind":            edit(aesText, `"kind":"aes",`, ``),
		"AES of 15 bytes":    `{"kind":"aes","key":"` + b64(make([]byte, 15)) + `"}`,
		"AES without key":    `{"kind":"aes"}`,
		"AES with scalar":    edit(aesText, `{`, `{"d":"AQ==",`),
		"AES with curve":     edit(aesText, `{`, `{"curve":"secp256r1",`),
		"AES with e":         edit(aesText, `{`, `{"e":3,`),
		"EC with key":        edit(ecText, `{`, `{"key":"AQ==",`),
		"EC with prime":      edit(ecText, `{`, `{"p":"AQ==",`),
		"unknown curve":      edit(ecText, `secp256r1`, `secp256r2`),
		"other curve":        edit(ecText, `secp256r1`, `secp256k1`),
		"scalar 0":           ecWith(make([]byte, 32)),
		"scalar n":           ecWith(c.N),
		"scalar short":       ecWith([]byte{1}),
		"scalar long":        ecWith(append([]byte{0}, minusOne...)),
		"no scalar":          ecWith(nil),
		"point off curve":    `{"kind":"ec","curve":"secp256r1","d":"` + b64(minusOne) + `","point":"` + b64(append([]byte{4}, make([]byte, 64)...)) + `"}`,
		"no point":           `{"kind":"ec","curve":"secp256r1","d":"` + b64(minusOne) + `"}`,
		"RSA with key":       edit(rsaText, `{`, `{"key":"AQ==",`),
		"RSA with curve":     edit(rsaText, `{`, `{"curve":"secp256r1",`),
		"RSA e = 1":          edit(rsaText, `65537`, `1`),
		"RSA e even":         edit(rsaText, `65537`, `65536`),
		"RSA e too large":    edit(rsaText, `65537`, `2147483649`),
		"RSA e negative":     edit(rsaText, `65537`, `-3`),
		"RSA no prime":       edit(rsaText, `"p"`, `"d"`),
		"RSA bad d":          edit(rsaText, `{`, `{"d":"AQ==",`),
		"RSA small":          storedRSA(big.NewInt(101), big.NewInt(103), 7),
		"RSA p even":         storedRSA(new(big.Int).Add(p, big.NewInt(1)), q, 65537),
		"RSA bad inverse":    edit(rsaText, `"qInverse":"`, `"qInverse":"AAEC`),
		"RSA other inverse":  strings.Replace(rsaText, b64(inverse.Bytes()), b64(new(big.Int).Sub(inverse, big.NewInt(1)).Bytes()), 1),
		"RSA primes unequal": storedRSA(bigPrime(t), big.NewInt(101), 65537),
		"list not hex":       edit(aesText, `{`, `{"algorithms":"1",`),
		"uses too many":      edit(aesText, `{`, `{"usesLeft":4294967296,`),
		"domain too high":    edit(aesText, `{`, `{"domain":256,`),
	} {
		k := aesKey(t, 256)
		err := k.UnmarshalJSON([]byte(text))
		require.ErrorIs(t, err, keystore.ErrFormat, name)
		require.Equal(t, stored(t, aesKey(t, 256)), stored(t, k), "%s: the receiver is left alone", name)
	}
}

func TestKeyJSON_ErrorsDoNotQuote(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`{"kind":"aes","key":"SECRET!"}`, `{"kind":"aes","SECRET":1}`, `{"kind":"aes","e":"SECRET"}`, `SECRET`,
		`{"kind":"ec","curve":"SECRET"}`,
	} {
		err := new(keystore.Key).UnmarshalJSON([]byte(text))
		require.Error(t, err)
		require.NotContains(t, err.Error(), "SECRET")
	}
}

func TestDomainJSON_Form(t *testing.T) {
	t.Parallel()
	write := func(d keystore.Domain) string {
		b, err := json.Marshal(d)
		require.NoError(t, err)
		return string(b)
	}
	d := keystore.NewDKEK(2)
	require.Equal(t, `{"kind":"dkek","total":2,"outstanding":2}`, write(d))
	d, err := d.Import(kek)
	require.NoError(t, err)
	require.Equal(t, `{"kind":"dkek","total":2,"outstanding":1,"kek":"`+b64(kek)+`"}`, write(d))
	require.Equal(t, `{"kind":"dkek"}`, write(keystore.NewDKEK(0)))
	require.Equal(t, `{"kind":"xkek","uid":"Z3JvdXA="}`, write(keystore.NewXKEK([]byte("group"))))
	x, err := keystore.NewXKEK([]byte("group")).Agree(kek)
	require.NoError(t, err)
	agreed := sha256.Sum256(append(bytes.Clone(kek), "group"...))
	require.Equal(t, `{"kind":"xkek","uid":"Z3JvdXA=","kek":"`+b64(agreed[:])+`"}`, write(x))
	require.Equal(t, `null`, write(keystore.Domain{}))
}

func TestDomainJSON_RoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		var d keystore.Domain
		switch rapid.IntRange(0, 2).Draw(rt, "kind") {
		case 1:
			d = keystore.NewDKEK(rapid.IntRange(0, 255).Draw(rt, "total"))
			for range rapid.IntRange(0, d.Total()).Draw(rt, "imports") {
				var err error
				d, err = d.Import(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(rt, "share"))
				require.NoError(t, err)
			}
		case 2:
			d = keystore.NewXKEK(rapid.SliceOf(rapid.Byte()).Draw(rt, "uid"))
			if rapid.Bool().Draw(rt, "agreed") {
				var err error
				d, err = d.Agree([]byte("secret"))
				require.NoError(t, err)
			}
		}
		text, err := json.Marshal(d)
		require.NoError(t, err)
		var back keystore.Domain
		require.NoError(t, json.Unmarshal(text, &back))
		require.Equal(t, d, back)
		require.Equal(t, d.KCV(), back.KCV())
	})
}

func TestDomainJSON_RefusesNonsense(t *testing.T) {
	t.Parallel()
	share := `"kek":"` + b64(kek) + `"`
	for _, text := range []string{
		``, `{}`, `[]`, `{"kind":"dek"}`, `{"kind":"dkek","total":1,"outstanding":2}`,
		`{"kind":"dkek","total":256,"outstanding":256}`, `{"kind":"dkek","total":-1}`,
		`{"kind":"dkek","total":2,"outstanding":1}`,               // a share came, but none is there
		`{"kind":"dkek","total":2,"outstanding":2,` + share + `}`, // none came, but one is there
		`{"kind":"dkek","total":1}`, `{"kind":"dkek",` + share + `}`,
		`{"kind":"dkek","total":1,"outstanding":1,"bound":"AA=="}`,                                    // no fingerprint
		`{"kind":"dkek","total":1,` + share + `,"bound":` + strings.TrimPrefix(share, `"kek":`) + `}`, // complete, so bound to nothing
		`{"kind":"xkek","bound":` + strings.TrimPrefix(share, `"kek":`) + `}`,
		`{"kind":"dkek","uid":"AA=="}`, `{"kind":"dkek","total":1,"kek":"AA=="}`,
		`{"kind":"xkek","total":1}`, `{"kind":"xkek","total":1,"outstanding":1}`, `{"kind":"xkek","kek":"AA=="}`,
		`{"kind":"xkek","group":"AA=="}`, `{"kind":"xkek"}{}`,
	} {
		d := keystore.NewXKEK([]byte("kept"))
		require.ErrorIs(t, d.UnmarshalJSON([]byte(text)), keystore.ErrFormat, text)
		require.Equal(t, "kept", string(d.UID()))
	}
}
