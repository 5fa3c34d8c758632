package portal_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/cvc"
	"hsmemu/emulator/chiptest"
	"hsmemu/emulator/portal"
	"hsmemu/keystore/curve"
)

func brainpool(t require.TestingT, seed string) *curve.Private {
	known, _ := curve.ByName("brainpoolP256r1")
	key, err := known.Generate(chiptest.Seeded(seed))
	require.NoError(t, err)
	return key
}

// elsewhere is a device of a root that nobody knows.
func elsewhere(t require.TestingT) []byte {
	root, err := cvc.NewRoot(brainpool(t, "root"), "UTSRCAXX100001", day, nil)
	require.NoError(t, err)
	issuer, err := root.NewIssuer(brainpool(t, "issuer"), "UTDICAXX0100001", day, nil)
	require.NoError(t, err)
	ef, err := issuer.IssueDevice(brainpool(t, "device").Public(), "DENK990000100000", day, nil)
	require.NoError(t, err)
	return ef
}

// usurped is a device that a device has certified.
func usurped(t require.TestingT) []byte {
	root := cvc.EmulatorRoot()
	body := cvc.CertificateBody{
		CAR: root.Certificate.CHR, CHR: "DENK990000200000", Key: cvc.NewEC(cvc.ECDSASHA256, brainpool(t, "issuer").Public()).WithoutDomain(),
		Authorization: cvc.Authorize(cvc.RoleDevice), Effective: day, Expires: day,
	}
	c, err := body.Sign(cvc.ECDSASHA256, cvc.SignEC(root.Key, nil))
	require.NoError(t, err)
	ef, err := cvc.Issuer{Certificate: c, Key: brainpool(t, "issuer")}.IssueDevice(brainpool(t, "device").Public(), "DENK990000100000", day, nil)
	require.NoError(t, err)
	return ef
}

func authority(t require.TestingT) portal.Authority {
	a, err := portal.NewAuthority(chiptest.Seeded("an authority"), day)
	require.NoError(t, err)
	return a
}

// The profile of device certificates: CVC-10, and five years less a day that do
// not go beyond the issuer's eight.
func TestAuthority_Certifies(t *testing.T) {
	t.Parallel()
	a := authority(t)
	require.NoError(t, a.Check())
	issuer, err := a.Current()
	require.NoError(t, err)
	require.Equal(t, "UTDICAEM02", issuer.CHR.Holder())
	require.Equal(t, a.Root().CHR, issuer.CAR)
	require.Equal(t, cvc.Name("UTSRCAEM100001"), a.Root().CHR)
	request := func(seed string, body cvc.RequestBody) []byte {
		key := brainpool(t, seed)
		r, err := body.Sign(cvc.SignEC(key, nil))
		require.NoError(t, err)
		return r.Raw
	}
	const name = cvc.Name("DENK990000300000")
	key := cvc.NewEC(cvc.ECDSASHA256, brainpool(t, "device").Public())
	good := request("device", cvc.RequestBody{CAR: issuer.CHR, CHR: name, Key: key})
	for years, until := range map[int]string{0: "2031-11-22", 6: "2034-11-22"} {
		ef, err := a.Certify(good, name, issuer.CHR, day.AddDate(years, 0, 0), chiptest.Seeded("x"))
		require.NoError(t, err)
		chain, err := cvc.ParseChain(ef)
		require.NoError(t, err)
		v, err := chain.Verify(cvc.KnownRoots())
		require.NoError(t, err)
		require.Equal(t, cvc.OriginEmulator, v.Origin())
		require.Equal(t, "/UTSRCAEM1/UTDICAEM02/DENK9900003", v.Path())
		require.Equal(t, day.AddDate(years, 0, 0).Format("2006-01-02"), chain.Device.Effective.Format("2006-01-02"))
		require.Equal(t, until, chain.Device.Expires.Format("2006-01-02"))
	}
	secp, _ := curve.ByName("secp256r1")
	foreign, err := secp.Generate(chiptest.Seeded("foreign"))
	require.NoError(t, err)
	body := cvc.RequestBody{CAR: issuer.CHR, CHR: name, Key: cvc.NewEC(cvc.ECDSASHA256, foreign.Public())}
	other, err := body.Sign(cvc.SignEC(foreign, nil))
	require.NoError(t, err)
	altered := bytes.Clone(good)
	altered[len(altered)-1] ^= 1
	for what, r := range map[string][]byte{
		"nothing":         nil,
		"a certificate":   a.Root().Raw,
		"another name":    request("device", cvc.RequestBody{CAR: issuer.CHR, CHR: "DENK990000400000", Key: key}),
		"another issuer":  request("device", cvc.RequestBody{CAR: "UTDICAEM0100001", CHR: name, Key: key}),
		"another's key":   request("another", cvc.RequestBody{CAR: issuer.CHR, CHR: name, Key: key}),
		"another curve":   other.Raw,
		"a wrong signing": altered,
	} {
		_, err := a.Certify(r, name, issuer.CHR, day, chiptest.Seeded("x"))
		require.ErrorIs(t, err, portal.ErrRequest, what)
	}
	_, err = a.Certify(good, name, "UTDICAEM0300000", day, chiptest.Seeded("x"))
	require.ErrorIs(t, err, portal.ErrAuthority)
	a.Issuers[0].Ready = false
	_, err = a.Certify(good, name, issuer.CHR, day, chiptest.Seeded("x"))
	require.EqualError(t, err, "Device Issuer CA UTDICAEM02 not ready. Already logged in and licenses available ?")
}

// Cards of two portals meet, so their issuers do not share a name; and what was
// stored and damaged is noticed.
func TestAuthority_IsAValue(t *testing.T) {
	t.Parallel()
	a := authority(t)
	b, err := portal.NewAuthority(chiptest.Seeded("another authority"), day)
	require.NoError(t, err)
	one, err := a.Current()
	require.NoError(t, err)
	two, err := b.Current()
	require.NoError(t, err)
	require.NotEqual(t, one.CHR, two.CHR)
	require.True(t, one.CHR.Valid())
	form, err := json.Marshal(a)
	require.NoError(t, err)
	var read portal.Authority
	require.NoError(t, json.Unmarshal(form, &read))
	require.Equal(t, a, read)
	require.NoError(t, read.Check())
	for what, change := range map[string]func(*portal.Issuer){
		"no key":         func(i *portal.Issuer) { i.Key = nil },
		"another key":    func(i *portal.Issuer) { i.Key = b.Issuers[0].Key },
		"no certificate": func(i *portal.Issuer) { i.Certificate = nil },
		"the root":       func(i *portal.Issuer) { i.Certificate = a.Root().Raw },
		"wrong signature": func(i *portal.Issuer) {
			i.Certificate = bytes.Clone(i.Certificate)
			i.Certificate[len(i.Certificate)-1] ^= 1
		},
		"debts of licences": func(i *portal.Issuer) { i.Licences = -1 },
	} {
		require.NoError(t, json.Unmarshal(form, &read))
		change(&read.Issuers[0])
		require.ErrorIs(t, read.Check(), portal.ErrAuthority, what)
	}
	require.NoError(t, portal.Authority{}.Check())
	_, err = portal.Authority{}.Current()
	require.ErrorIs(t, err, portal.ErrAuthority)
	_, err = portal.NewAuthority(strings.NewReader(""), day)
	require.ErrorIs(t, err, io.EOF)
}

// Whoever prints or logs the books does not print a key.
func TestAuthority_HidesItsKeys(t *testing.T) {
	t.Parallel()
	a := authority(t)
	digits := hex.EncodeToString(a.Issuers[0].Key)
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "key", a.Issuers[0].Key)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", a.Issuers[0].Key, "books", fmt.Sprint(a))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%d", "%q"} {
		fmt.Fprintf(&log, verb+"\n", a.Issuers[0].Key)
		fmt.Fprintf(&log, verb+"\n", portal.Books{Authority: a})
	}
	text := strings.ToLower(log.String())
	require.NotContains(t, text, digits[:16])
	require.NotContains(t, text, strings.Trim(fmt.Sprint([]byte(a.Issuers[0].Key[:6])), "[]"))
}

// Versions are written as users write them, and nothing else is one.
func TestVersion(t *testing.T) {
	t.Parallel()
	var v portal.Version
	require.NoError(t, v.UnmarshalText([]byte("4.1")))
	require.Equal(t, portal.Version{Major: 4, Minor: 1}, v)
	for _, text := range []string{"", "4", "4.", ".1", "4.1.0", "04.1", "4.256", "-1.0", "4.1 "} {
		require.Error(t, v.UnmarshalText([]byte(text)), text)
	}
	require.Negative(t, portal.Version{Major: 3, Minor: 6}.Compare(portal.Version{Major: 4}))
	require.Negative(t, portal.Version{Major: 4}.Compare(portal.Version{Major: 4, Minor: 1}))
	require.Zero(t, v.Compare(v))
}
