package cvc_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/cvc"
)

// spec 05 §8.
func TestExtensions_KeyDomain(t *testing.T) {
	t.Parallel()
	uid := unhex(t, "0102030405060708")
	e := cvc.Extensions(nil).With("\x2A\x03", []byte{7}, []byte{8, 9}).With(cvc.KeyDomainUID, uid)
	require.Equal(t, unhex(t, "730B06022A0380010781020809 7317060B2B0601040181C31F03020280080102030405060708"), []byte(e))

	r, err := cvc.RequestBody{
		CHR: "UTKEY00001", Key: cvc.NewEC(cvc.ECDSASHA256, userKey(t).Public()), Extensions: e,
	}.Sign(cvc.SignEC(userKey(t), nil))
	require.NoError(t, err)
	read, err := cvc.ParseRequest(r.Raw)
	require.NoError(t, err)
	require.Equal(t, r, read)
	l, ok := read.Extensions.Find(cvc.KeyDomainUID)
	require.True(t, ok)
	require.Len(t, l, 1)
	require.Equal(t, uid, l[0].Value)
	l, ok = read.Extensions.Find("\x2A\x03")
	require.True(t, ok)
	require.Equal(t, "81", l[1].Tag.String())
	_, ok = read.Extensions.Find("\x2A\x04")
	require.False(t, ok)
}

func TestExtensions_WithLeavesTheOriginal(t *testing.T) {
	t.Parallel()
	a := append(make(cvc.Extensions, 0, 100), cvc.Extensions(nil).With("\x2A")...)
	b, c := a.With("\x2B"), a.With("\x2C")
	_, ok := b.Find("\x2B")
	require.True(t, ok, "%X %X", b, c)
	require.NotEqual(t, b, c)
}

func TestExtensions_FindSurvivesGarbage(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "73", "7300", "730106", "730380012A", "730306012A73"} {
		_, ok := cvc.Extensions(unhex(t, s)).Find("\x2A")
		require.False(t, ok, s)
	}
	_, ok := cvc.Extensions(unhex(t, "7300 730306012A")).Find("\x2A")
	require.True(t, ok)
}

func TestCertificate_ExtensionsAreAbsentOrEmptyOrFull(t *testing.T) {
	t.Parallel()
	for _, e := range []cvc.Extensions{nil, {}, cvc.Extensions(nil).With("\x2A", []byte{1})} {
		b := body(t)
		b.Extensions = e
		c, err := b.Sign(cvc.ECDSASHA256, cvc.SignEC(userKey(t), nil))
		require.NoError(t, err)
		read, err := cvc.ParseCertificate(c.Raw)
		require.NoError(t, err)
		require.Equal(t, e == nil, read.Extensions == nil)
		require.Equal(t, c, read)
	}
}
