package cvc_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/cvc"
)

// CVC-5.
func TestName_Valid(t *testing.T) {
	t.Parallel()
	for _, n := range []cvc.Name{
		"DENK040414400000", "DEDINK0400001", "UTCA00001", "UTNULL00000", "UTX00000", "DE_a.9~AZ09Z",
	} {
		require.True(t, n.Valid(), n)
	}
	for why, n := range map[string]cvc.Name{
		"empty":                   "",
		"no mnemonic":             "DE00001",
		"seventeen characters":    "DENK0404144000000",
		"small country":           "deNK00000",
		"digit in country":        "D1NK00000",
		"small sequence":          "DENK0000a",
		"punctuation in sequence": "DENK00-00",
		"blank in mnemonic":       "DE K00000",
		"control in mnemonic":     "DE\x07K00000",
		"no ASCII":                "DE\xE4K00000",
		"delete":                  "DE\x7FK00000",
	} {
		require.False(t, n.Valid(), why)
	}
}

func TestName_Holder(t *testing.T) {
	t.Parallel()
	for n, want := range map[cvc.Name]string{
		"DENK010548800000": "DENK0105488", "DECC120029100000": "DECC1200291", "DEDINK0100001": "DEDINK01",
		"00001": "", "0001": "", "": "",
	} {
		require.Equal(t, want, n.Holder())
	}
}

// A certificate is a stranger's text; a terminal must not obey it.
func TestName_StringIsSafeToPrint(t *testing.T) {
	t.Parallel()
	require.Equal(t, "DENK040414400000", cvc.Name("DENK040414400000").String())
	require.Equal(t, `"DE\x1b[2J00000"`, cvc.Name("DE\x1b[2J00000").String())
	require.Equal(t, `"DE K00000"`, cvc.Name("DE K00000").String())
	require.Equal(t, `"DE\xe400000"`, cvc.Name("DE\xE400000").String())
}

// body is a certificate body that can be signed.
func body(t testing.TB) cvc.CertificateBody {
	t.Helper()
	return cvc.CertificateBody{
		CAR: "UTSRCAEM100001", CHR: "UTDICAEM0100001",
		Key:           cvc.NewEC(cvc.ECDSASHA256, deviceKey(t).Public()).WithoutDomain(),
		Authorization: cvc.Authorize(cvc.RoleIssuer),
		Effective:     day(2024, 1, 1), Expires: day(2034, 1, 1),
	}
}

func TestCertificate_Dates(t *testing.T) {
	t.Parallel()
	sign := cvc.SignEC(userKey(t), nil)
	east := time.FixedZone("east", 9*3600)
	for _, c := range []struct{ in, want time.Time }{
		{day(2000, 1, 1), day(2000, 1, 1)},
		{day(2099, 12, 31), day(2099, 12, 31)},
		{day(2028, 2, 29), day(2028, 2, 29)},
		{time.Date(2026, 5, 28, 23, 59, 0, 0, time.UTC), day(2026, 5, 28)},
		{time.Date(2026, 5, 28, 1, 0, 0, 0, east), day(2026, 5, 28)},
	} {
		b := body(t)
		b.Effective = c.in
		made, err := b.Sign(cvc.ECDSASHA256, sign)
		require.NoError(t, err)
		read, err := cvc.ParseCertificate(made.Raw)
		require.NoError(t, err)
		require.Equal(t, c.want, read.Effective)
		require.Equal(t, made, read, "what is made is what is read")
	}
	for _, y := range []int{1999, 2100} {
		b := body(t)
		b.Expires = day(y, 6, 1)
		_, err := b.Sign(cvc.ECDSASHA256, sign)
		require.ErrorIs(t, err, cvc.ErrDate)
		b = body(t)
		b.Effective = day(y, 6, 1)
		_, err = b.Sign(cvc.ECDSASHA256, sign)
		require.ErrorIs(t, err, cvc.ErrDate)
	}
}

func TestCertificate_ValidOnBothItsLastAndFirstDay(t *testing.T) {
	t.Parallel()
	c, err := body(t).Sign(cvc.ECDSASHA256, cvc.SignEC(userKey(t), nil))
	require.NoError(t, err)
	for at, want := range map[time.Time]bool{
		day(2023, 12, 31): false,
		day(2024, 1, 1):   true,
		day(2034, 1, 1):   true,
		time.Date(2034, 1, 1, 23, 59, 59, 0, time.UTC): true,
		day(2034, 1, 2): false,
	} {
		require.Equal(t, want, c.ValidOn(at), at)
	}
}
