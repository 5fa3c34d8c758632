package cvc_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/cvc"
	"hsmemu/applet/tlv"
)

// object is a data object in the making: parts are taken apart, changed and
// put together again.
type object struct {
	tag   tlv.Tag
	value []byte
}

func split(t testing.TB, b []byte) []object {
	t.Helper()
	l, err := tlv.Parse(b)
	require.NoError(t, err)
	var o []object
	for _, n := range l {
		o = append(o, object{n.Tag, n.Value})
	}
	return o
}

func join(list []object) (b []byte) {
	for _, o := range list {
		b = tlv.Append(b, o.tag, o.value)
	}
	return b
}

// edit rebuilds a certificate or request with another body.
func edit(t testing.TB, raw []byte, change func([]object) []object) []byte {
	t.Helper()
	outer := split(t, split(t, raw)[0].value)
	outer[0].value = join(change(split(t, outer[0].value)))
	return tlv.Append(nil, 0x7F21, join(outer))
}

func drop(i int) func([]object) []object {
	return func(l []object) []object { return append(l[:i:i], l[i+1:]...) }
}

func swap(i, j int) func([]object) []object {
	return func(l []object) []object {
		l[i], l[j] = l[j], l[i]
		return l
	}
}

func set(i int, tag tlv.Tag, value ...byte) func([]object) []object {
	return func(l []object) []object {
		l[i] = object{tag, value}
		return l
	}
}

func add(tag tlv.Tag, value ...byte) func([]object) []object {
	return func(l []object) []object { return append(l, object{tag, value}) }
}

// inKey applies a change inside the public key template, third in every body.
func inKey(t testing.TB, change func([]object) []object) func([]object) []object {
	return func(l []object) []object {
		l[2].value = join(change(split(t, l[2].value)))
		return l
	}
}

// CVC-2. The body is 5F29, 42, 7F49, 5F20, 7F4C, 5F25, 5F24.
func TestParseCertificate_Refuses(t *testing.T) {
	t.Parallel()
	chain, err := cvc.ParseChain(emulatorDeviceFile(t))
	require.NoError(t, err)
	for _, c := range []struct {
		name   string
		change func([]object) []object
		want   error
	}{
		{"no profile", drop(0), cvc.ErrStructure},
		{"no issuer", drop(1), cvc.ErrName},
		{"no key", drop(2), cvc.ErrStructure},
		{"no holder", drop(3), cvc.ErrStructure},
		{"no role", drop(4), cvc.ErrStructure},
		{"no effective date", drop(5), cvc.ErrStructure},
		{"no expiration date", drop(6), cvc.ErrStructure},
		{"issuer after key", swap(1, 2), cvc.ErrStructure},
		{"dates reversed", swap(5, 6), cvc.ErrStructure},
		{"unknown object behind", add(0x99), cvc.ErrStructure},
		{"extensions twice", func(l []object) []object { return add(0x65)(add(0x65)(l)) }, cvc.ErrStructure},
		{"profile 1", set(0, 0x5F29, 1), cvc.ErrStructure},
		{"profile of no byte", set(0, 0x5F29), cvc.ErrStructure},
		{"empty issuer", set(1, 0x42), cvc.ErrName},
		{"empty holder", set(3, 0x5F20), cvc.ErrName},
		{"role is no TLV", set(4, 0x7F4C, 0x06), cvc.ErrStructure},
		{"role without kind", set(4, 0x7F4C, 0x53, 1, 0), cvc.ErrStructure},
		{"role without rights", set(4, 0x7F4C, 0x06, 1, 0), cvc.ErrStructure},
		{"role with more", set(4, 0x7F4C, 0x06, 1, 0, 0x53, 1, 0, 0x53, 0), cvc.ErrStructure},
		{"five digits", set(5, 0x5F25, 2, 4, 0, 1, 0), cvc.ErrDate},
		{"digit A", set(5, 0x5F25, 2, 4, 0, 1, 0, 10), cvc.ErrDate},
		{"month 13", set(6, 0x5F24, 2, 4, 1, 3, 0, 1), cvc.ErrDate},
		{"month 0", set(6, 0x5F24, 2, 4, 0, 0, 0, 1), cvc.ErrDate},
		{"30 February", set(6, 0x5F24, 2, 4, 0, 2, 3, 0), cvc.ErrDate},
		{"day 0", set(6, 0x5F24, 2, 4, 0, 2, 0, 0), cvc.ErrDate},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := cvc.ParseCertificate(edit(t, chain.Device.Raw, c.change))
			require.ErrorIs(t, err, c.want)
		})
	}
}

// CVC-6.
func TestParseRequest_RefusesKeys(t *testing.T) {
	t.Parallel()
	a, err := cvc.ParseAuthenticated(emulatorRequest(t))
	require.NoError(t, err)
	_, err = cvc.ParseRequest(edit(t, a.Request.Raw, set(2, 0x7F49, 0x06)))
	require.ErrorIs(t, err, cvc.ErrStructure)
	point := a.Request.Key.Point
	off := bytes.Clone(point)
	off[64] ^= 1
	otherG := bytes.Clone(point)
	for _, c := range []struct {
		name   string
		change func([]object) []object
		want   error
	}{
		{"no algorithm", drop(0), cvc.ErrScheme},
		{"unknown algorithm", set(0, 0x06, 4, 0, 0x7F), cvc.ErrScheme},
		{"no prime", drop(1), cvc.ErrKey},
		{"no order", drop(5), cvc.ErrKey},
		{"empty coefficient", set(2, 0x82), cvc.ErrKey},
		{"unknown prime", set(1, 0x81, 0x17), cvc.ErrKey},
		{"another generator", set(4, 0x84, otherG...), cvc.ErrKey},
		{"no point", drop(6), cvc.ErrKey},
		{"point off the curve", set(6, 0x86, off...), cvc.ErrKey},
		{"compressed point", set(6, 0x86, append([]byte{2}, point[1:33]...)...), cvc.ErrKey},
		{"cofactor 2", set(7, 0x87, 2), cvc.ErrKey},
		{"empty cofactor", set(7, 0x87), cvc.ErrKey},
		{"only a cofactor", func(l []object) []object { return []object{l[0], l[6], l[7]} }, cvc.ErrKey},
		{"unknown object", add(0x88, 1), cvc.ErrKey},
		{"point twice", add(0x86, point...), cvc.ErrStructure},
		{"key is no TLV", func([]object) []object { return []object{{0x30, bytes.Repeat([]byte{0x81}, 3)}} }, cvc.ErrScheme},
		{"curve called RSA", set(0, 0x06, cvc.RSASHA256.OID()...), cvc.ErrKey},
		{"RSA without exponent", func([]object) []object {
			return []object{{0x06, cvc.RSASHA256.OID()}, {0x81, []byte{0xC1}}}
		}, cvc.ErrKey},
		{"RSA with empty exponent", func([]object) []object {
			return []object{{0x06, cvc.RSASHA256.OID()}, {0x81, []byte{0xC1}}, {0x82, nil}}
		}, cvc.ErrKey},
		{"RSA with a third part", func([]object) []object {
			return []object{{0x06, cvc.RSASHA256.OID()}, {0x81, []byte{0xC1}}, {0x82, []byte{3}}, {0x83, nil}}
		}, cvc.ErrKey},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := cvc.ParseRequest(edit(t, a.Request.Raw, inKey(t, c.change)))
			require.ErrorIs(t, err, c.want)
		})
	}
}

// What writers do differently without saying anything different.
func TestParseRequest_Tolerates(t *testing.T) {
	t.Parallel()
	a, err := cvc.ParseAuthenticated(emulatorRequest(t))
	require.NoError(t, err)
	rsaKey := func(l []object) []object {
		return set(2, 0x7F49, join([]object{
			{0x06, cvc.RSASHA256.OID()},
			{0x82, []byte{1, 0, 1}},
			{0x02, []byte{4, 0}},
			{0x81, bytes.Repeat([]byte{0xC1}, 128)},
		})...)(l)
	}
	for name, c := range map[string]struct {
		change func([]object) []object
		check  func(*testing.T, cvc.Request)
	}{
		"no authority": {drop(1), func(t *testing.T, r cvc.Request) {
			require.Empty(t, r.CAR)
			require.Equal(t, a.Request.CHR, r.CHR)
		}},
		"empty extensions": {add(0x65), func(t *testing.T, r cvc.Request) {
			require.NotNil(t, r.Extensions)
			require.Empty(t, r.Extensions)
		}},
		"no cofactor":            {inKey(t, drop(7)), func(t *testing.T, r cvc.Request) { require.Equal(t, a.Request.Key, r.Key) }},
		"point before the prime": {inKey(t, swap(1, 6)), func(t *testing.T, r cvc.Request) { require.Equal(t, a.Request.Key, r.Key) }},
		"no domain":              {inKey(t, func(l []object) []object { return []object{l[0], l[6]} }), func(t *testing.T, r cvc.Request) { require.Nil(t, r.Key.Curve) }},
		"RSA with size in bits": {rsaKey, func(t *testing.T, r cvc.Request) {
			require.Len(t, r.Key.Modulus, 128)
			require.Equal(t, []byte{1, 0, 1}, r.Key.Exponent)
		}},
		"odd names": {set(3, 0x5F20, 'x'), func(t *testing.T, r cvc.Request) { require.Equal(t, cvc.Name("x"), r.CHR) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			raw := edit(t, a.Request.Raw, c.change)
			r, err := cvc.ParseRequest(raw)
			require.NoError(t, err)
			require.Equal(t, raw, r.Raw, "the bytes that are signed stay")
			c.check(t, r)
		})
	}
}

func TestParse_TellsCertificateFromRequest(t *testing.T) {
	t.Parallel()
	a, err := cvc.ParseAuthenticated(emulatorRequest(t))
	require.NoError(t, err)
	_, err = cvc.ParseCertificate(a.Request.Raw)
	require.ErrorIs(t, err, cvc.ErrStructure)
	_, err = cvc.ParseRequest(cvc.EmulatorRoot().Certificate.Raw)
	require.ErrorIs(t, err, cvc.ErrStructure)
	_, err = cvc.ParseRequest(a.Raw)
	require.ErrorIs(t, err, cvc.ErrStructure)
	_, err = cvc.ParseAuthenticated(a.Request.Raw)
	require.ErrorIs(t, err, cvc.ErrStructure)
}

// PKA-39: objects arrive with and without their header.
func TestParse_WithAndWithoutHeader(t *testing.T) {
	t.Parallel()
	a, err := cvc.ParseAuthenticated(emulatorRequest(t))
	require.NoError(t, err)
	bare, err := cvc.ParseAuthenticated(split(t, a.Raw)[0].value)
	require.NoError(t, err)
	require.Equal(t, a, bare)

	r, err := cvc.ParseRequest(split(t, a.Request.Raw)[0].value)
	require.NoError(t, err)
	require.Equal(t, a.Request, r)

	root := cvc.EmulatorRoot().Certificate
	c, err := cvc.ParseCertificate(split(t, root.Raw)[0].value)
	require.NoError(t, err)
	require.Equal(t, root, c)
}

// CVC-3: an EF may be longer than what it holds. Without a header there
// is no telling where the object ends, so nothing may follow.
func TestParse_IgnoresWhatFollowsAHeader(t *testing.T) {
	t.Parallel()
	a, err := cvc.ParseAuthenticated(emulatorRequest(t))
	require.NoError(t, err)
	for _, tail := range [][]byte{{0}, {0xFF, 0xFF}, {0x54, 0}} {
		long, err := cvc.ParseAuthenticated(append(bytes.Clone(a.Raw), tail...))
		require.NoError(t, err)
		require.Equal(t, a, long)
		_, err = cvc.ParseAuthenticated(append(bytes.Clone(split(t, a.Raw)[0].value), tail...))
		require.ErrorIs(t, err, cvc.ErrStructure)
	}
}

func TestParseAuthenticated_Refuses(t *testing.T) {
	t.Parallel()
	b := emulatorRequest(t)
	parts := split(t, split(t, b)[0].value)
	with := func(change func([]object) []object) []byte {
		return tlv.Append(nil, 0x67, join(change(append([]object(nil), parts...))))
	}
	for name, bad := range map[string][]byte{
		"nothing":         nil,
		"cut":             b[:len(b)-1],
		"no request":      with(drop(0)),
		"no reference":    with(drop(1)),
		"no signature":    with(drop(2)),
		"order":           with(swap(0, 1)),
		"a fourth object": with(add(0x54, 1)),
		"request is none": with(set(0, 0x7F21, 0x42, 0)),
		"value is no TLV": tlv.Append(nil, 0x67, []byte{0x7F}),
		"body is no TLV":  with(set(0, 0x7F21, 0x7F, 0x4E, 1, 0x42, 0x5F, 0x37, 1, 0)),
	} {
		_, err := cvc.ParseAuthenticated(bad)
		require.ErrorIs(t, err, cvc.ErrStructure, name)
	}
	_, err := cvc.ParseAuthenticated(with(set(1, 0x42)))
	require.ErrorIs(t, err, cvc.ErrName)
}

// A result stays what it is when the bytes it came from are used again.
func TestParse_DoesNotKeepInput(t *testing.T) {
	t.Parallel()
	b := emulatorRequest(t)
	a, err := cvc.ParseAuthenticated(b)
	require.NoError(t, err)
	ef := emulatorDeviceFile(t)
	c, err := cvc.ParseChain(ef)
	require.NoError(t, err)
	clear(b)
	clear(ef)
	v, err := c.Verify(cvc.KnownRoots())
	require.NoError(t, err)
	_, err = v.Attest(a)
	require.NoError(t, err)
}

func TestSign_NeedsNames(t *testing.T) {
	t.Parallel()
	sign := cvc.SignEC(userKey(t), nil)
	_, err := cvc.RequestBody{Key: cvc.NewEC(cvc.ECDSASHA256, userKey(t).Public())}.Sign(sign)
	require.ErrorIs(t, err, cvc.ErrName)
	r, err := cvc.RequestBody{CHR: "my key", Key: cvc.NewEC(cvc.ECDSASHA256, userKey(t).Public())}.Sign(sign)
	require.NoError(t, err, "a request says what its maker says")
	_, err = r.Countersign("", cvc.ECDSASHA256, sign)
	require.ErrorIs(t, err, cvc.ErrName)
	for _, change := range []func(*cvc.CertificateBody){
		func(b *cvc.CertificateBody) { b.CAR = "" }, func(b *cvc.CertificateBody) { b.CHR = "my key" },
	} {
		b := body(t)
		change(&b)
		_, err = b.Sign(cvc.ECDSASHA256, sign)
		require.ErrorIs(t, err, cvc.ErrName)
	}
}

func TestSign_PassesOnTheSignersError(t *testing.T) {
	t.Parallel()
	bad := func(cvc.Scheme, []byte) ([]byte, error) { return nil, bytes.ErrTooLarge }
	_, err := body(t).Sign(cvc.ECDSASHA256, bad)
	require.ErrorIs(t, err, bytes.ErrTooLarge)
	rb := cvc.RequestBody{CHR: "UTKEY00001", Key: cvc.NewEC(cvc.ECDSASHA256, userKey(t).Public())}
	_, err = rb.Sign(bad)
	require.ErrorIs(t, err, bytes.ErrTooLarge)
	r, err := rb.Sign(cvc.SignEC(userKey(t), nil))
	require.NoError(t, err)
	_, err = r.Countersign("UTEM010000100000", cvc.ECDSASHA256, bad)
	require.ErrorIs(t, err, bytes.ErrTooLarge)
}

// CVC-30: a request made anew differs in its signatures only.
func TestRequest_IsMadeAsPublished(t *testing.T) {
	t.Parallel()
	want, err := cvc.ParseAuthenticated(emulatorRequest(t))
	require.NoError(t, err)
	got := request(t, userKey(t), deviceKey(t), "UTEM010000100000")
	require.Equal(t, want.Request.Body, got.Request.Body)
	require.Equal(t, want.CAR, got.CAR)
	require.Len(t, got.Raw, 490)
}
