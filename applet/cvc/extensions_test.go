package cvc_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/cvc"
)

// CVC-4 and XKEK-8.
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

// XKEK-16: of two statements of one kind no reader can say which one
// counts.
func TestExtensions_StatedTwice(t *testing.T) {
	t.Parallel()
	uid := []byte{1}
	one := cvc.Extensions(nil).With("\x2A\x03").With(cvc.KeyDomainUID, uid)
	for _, twice := range []cvc.Extensions{
		one.With(cvc.KeyDomainUID, uid), one.With(cvc.KeyDomainUID, []byte{2}), one.With("\x2A\x03", []byte{2}),
		append(one.With("\x2A\x04"), 0x73), append(cvc.Extensions{0x73}, one...),
	} {
		r, err := cvc.RequestBody{
			CHR: "UTKEY00001", Key: cvc.NewEC(cvc.ECDSASHA256, userKey(t).Public()), Extensions: twice,
		}.Sign(cvc.SignEC(userKey(t), nil))
		require.NoError(t, err)
		_, err = cvc.ParseRequest(r.Raw)
		require.ErrorIs(t, err, cvc.ErrExtension, "%X", []byte(twice))
		b := body(t)
		b.Extensions = twice
		c, err := b.Sign(cvc.ECDSASHA256, cvc.SignEC(userKey(t), nil))
		require.NoError(t, err)
		_, err = cvc.ParseCertificate(c.Raw)
		require.ErrorIs(t, err, cvc.ErrExtension)
		require.ErrorIs(t, twice.Check(), cvc.ErrExtension)
	}
	require.NoError(t, one.Check())
}

// What a device vouches for has one meaning for every reader: BSI TR-03110
// part 3, C.3, and X.690 §8.19.
func TestExtensions_Check(t *testing.T) {
	t.Parallel()
	for s, fine := range map[string]bool{
		"": true, "730306012A": true, "730406022A03": true, "730606022A038000": true, "7305060381C31F": true,
		"73":              false, // cut
		"7300":            false, // nothing in it
		"73028000":        false, // no identifier
		"73058000060103":  false, // not at the front
		"30040602 2A03":   false, // another template
		"73020600":        false, // empty
		"730406022A80":    false, // a zero digit
		"7305060380032A":  false, // in front
		"730506032A80 03": false, // in the middle
		"730406022A83":    false, // no end
		"73810306012A":    false, // a length that is longer than it must be
		"730306012A 00":   false,
	} {
		err := cvc.Extensions(unhex(t, s)).Check()
		if fine {
			require.NoError(t, err, s)
		} else {
			require.ErrorIs(t, err, cvc.ErrExtension, s)
		}
	}
}
