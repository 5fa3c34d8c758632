package keystore_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/keystore"
)

// holder hides a value in an unexported field, where package fmt calls no
// method.
type holder struct {
	key    keystore.Key
	domain keystore.Domain
}

type shown struct {
	Key    keystore.Key
	Domain keystore.Domain
	Secret keystore.Secret
}

// TestSecrets_AreNeverPrinted prints keys, domains and secrets in every way
// there is and looks for the secret bytes in every spelling there is.
func TestSecrets_AreNeverPrinted(t *testing.T) {
	t.Parallel()
	secret := []byte("\x5Anever seen in print, never ever")
	require.Len(t, secret, 32)
	p, q := pooledPrimes(t, 1024)
	numbers := bigKeyOf(p, q, 65537)
	r, err := keystore.NewRSA(numbers.parts())
	require.NoError(t, err)
	a, err := keystore.NewAES(secret)
	require.NoError(t, err)
	private, err := curveNamed(t, "brainpoolP256r1").Private(secret)
	require.NoError(t, err)
	secrets := [][]byte{
		secret, numbers.d.Bytes(), p.Bytes(), q.Bytes(), numbers.dp.Bytes(), numbers.dq.Bytes(), numbers.qinv.Bytes(),
	}
	full := domainOf(t, secret)
	half, err := keystore.NewDKEK(2).Import(secret)
	require.NoError(t, err)
	xkek, err := keystore.NewXKEK([]byte("group")).Agree(secret)
	require.NoError(t, err)
	agreed := sha256.Sum256(append(bytes.Clone(secret), "group"...))
	secrets = append(secrets, agreed[:])

	var unprepared keystore.Key
	require.NoError(t, unprepared.UnmarshalJSON([]byte(stored(t, r))))
	ec := keystore.NewEC(private)
	for _, c := range []struct {
		v    any
		want string // what must be seen instead
		// bytes: holds a Secret, which is a byte slice. With %w for something
		// that is no error, fmt ignores all methods; vet refuses that verb.
		bytes bool
	}{
		{v: r, want: "RSA 1024"},
		{v: unprepared, want: "RSA 1024"},
		{v: a, want: "AES 256"},
		{v: ec, want: "EC brainpoolP256r1"},
		{v: full, want: "DKEK "},
		{v: half, want: "DKEK not ready"},
		{v: xkek, want: "XKEK "},
		{v: []any{r, a, ec, full, half, xkek}},
		{v: holder{key: r, domain: half}},
		{v: holder{key: unprepared, domain: half}},
		{v: holder{key: a, domain: full}},
		{v: holder{key: ec, domain: xkek}},
		{v: map[string]holder{"a": {key: ec, domain: xkek}}},
		{v: keystore.Secret(secret), want: "•••", bytes: true},
		{v: shown{Key: a, Domain: full, Secret: secret}, bytes: true},
		{v: map[string]keystore.Secret{"a": secret}, bytes: true},
		{v: keystore.Primes{P: p.Bytes(), Q: q.Bytes()}, bytes: true},
		{v: numbers.parts(), bytes: true},
	} {
		pointer := reflect.New(reflect.TypeOf(c.v))
		pointer.Elem().Set(reflect.ValueOf(c.v))
		for _, v := range []any{c.v, pointer.Interface()} {
			for _, out := range everyPrint(v, c.bytes) {
				if !strings.Contains(out, "%!w(") {
					require.Contains(t, out, c.want, "%T", v)
				}
				require.Empty(t, leak(out, secrets), "%T: %s", v, out)
			}
		}
	}
}

// everyPrint formats v with every verb and flag, and logs it.
func everyPrint(v any, bytesInside bool) []string {
	var out []string
	for verb := rune('A'); verb <= 'z'; verb++ {
		if verb == 'T' || verb == 'p' || (verb > 'Z' && verb < 'a') || (verb == 'w' && bytesInside) {
			continue // the type and the address are no secrets
		}
		for _, flags := range []string{"", "+", "#", "-", " ", "0", "60", ".70", "# ", "+#"} {
			out = append(out, fmt.Sprintf("%"+flags+string(verb), v))
		}
	}
	out = append(out, fmt.Sprint(v), fmt.Sprintln(v))
	switch reflect.Indirect(reflect.ValueOf(v)).Interface().(type) {
	case keystore.Key, keystore.Domain, keystore.Secret:
		// Directly as attributes; inside other values, the JSON handler of
		// slog asks for the stored form like everybody else.
		for _, make := range []func(*bytes.Buffer) slog.Handler{
			func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
			func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
		} {
			var b bytes.Buffer
			slog.New(make(&b)).Info("x", "value", v, slog.Group("g", "value", v))
			out = append(out, b.String())
		}
	}
	return out
}

// badVerb is how fmt spells a byte under a verb that does not fit.
var badVerb = regexp.MustCompile(`%!.\(uint8=(\d+)\)`)

// leak returns a spelling of a secret that occurs in out.
func leak(out string, secrets [][]byte) string {
	out = badVerb.ReplaceAllString(out, "$1")
	for _, s := range secrets {
		s = s[1:17] // any part of it would be too much
		words := strings.Trim(fmt.Sprint(s), "[]")
		for _, spelling := range []string{
			string(s), hex.EncodeToString(s), strings.ToUpper(hex.EncodeToString(s)),
			base64.StdEncoding.EncodeToString(s[2:14]), words, strings.ReplaceAll(words, " ", ", "),
			strings.Trim(fmt.Sprintf("%#v", s[:8]), "[]byte{}"), fmt.Sprintf("% x", s), fmt.Sprintf("% X", s),
			strings.Trim(fmt.Sprintf("%b", s), "[]"), strings.Trim(fmt.Sprintf("%o", s), "[]"),
		} {
			if strings.Contains(out, spelling) {
				return spelling
			}
		}
	}
	return ""
}

// The search finds something where there is something.
func TestSecrets_TheSearchSees(t *testing.T) {
	t.Parallel()
	secrets := [][]byte{[]byte("\x5Anever seen in print, never ever")}
	open := struct{ b []byte }{secrets[0]}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X", "%b", "%o", "%z", "% x"} {
		require.NotEmpty(t, leak(fmt.Sprintf(format, open), secrets), format)
	}
	require.NotEmpty(t, leak(base64.StdEncoding.EncodeToString(secrets[0]), secrets))
	require.Empty(t, leak("nothing of it", secrets))
}
