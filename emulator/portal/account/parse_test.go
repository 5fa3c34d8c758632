package account_test

import (
	"net/mail"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/portal/account"
)

func TestParseAddress(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"a@example.org": "a@example.org", " A.B+c@Example.ORG\n": "a.b+c@example.org", "root@localhost": "root@localhost",
		"o'neil!#$%&*/=?^_`{|}~@x-1.example.org": "o'neil!#$%&*/=?^_`{|}~@x-1.example.org",
	} {
		got, err := account.ParseAddress(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got)
	}
	for _, text := range []string{
		"", "a", "@", "a@", "@example.org", "a@b", "a@b@example.org", "a b@example.org", "a@example.org b@example.org",
		"a@example.org,b@example.org", "A <a@example.org>", "<a@example.org>", `"a b"@example.org`, `"a"@example.org`, "a@[192.0.2.1]",
		"a@example.org (comment)", "a\r\n@example.org", "a@example.org\r\nRCPT TO:<b@example.org>", "a\x00@example.org",
		"ä@example.org", "a@exämple.org", ".a@example.org", "a.@example.org", "a..b@example.org", "a@.org", "a@example..org", "a@example.org.",
		"a@-example.org", "a@example-.org", "a@exa_mple.org", strings.Repeat("a", 65) + "@example.org", "a@" + strings.Repeat("a", 64) + ".org",
		"a@" + strings.Repeat("aaaaaaa.", 40) + "org",
	} {
		_, err := account.ParseAddress(text)
		require.ErrorIs(t, err, account.ErrAddress, "%q", text)
	}
}

// Whatever comes for an address: what is taken fits into a header and a command, is
// its own form, and means itself to the standard library.
func FuzzParseAddress(f *testing.F) {
	for _, text := range []string{"a@example.org", " A@Example.ORG ", `"a b"@x.y`, "a@b\r\nBcc: c@d", "a@[::1]", "ſ@x.y", "a@x.y(z)", "=?utf-8?q?a?=@x.y"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := account.ParseAddress(text)
		if err != nil {
			require.ErrorIs(t, err, account.ErrAddress)
			require.Empty(t, got)
			return
		}
		require.Equal(t, strings.ToLower(strings.TrimSpace(text)), got)
		require.False(t, strings.ContainsAny(got, "\r\n\t ,;:<>()[]\"\\\x00"))
		require.LessOrEqual(t, len(got), 254)
		again, err := account.ParseAddress(got)
		require.NoError(t, err)
		require.Equal(t, got, again)
		list, err := mail.ParseAddressList(got)
		require.NoError(t, err)
		require.Equal(t, []*mail.Address{{Address: got}}, list)
		_, err = account.Mail{To: got}.Message(got)
		require.NoError(t, err)
	})
}

func FuzzParseCode(f *testing.F) {
	for _, text := range []string{"123456", " 12 34 56\n", "12345", "１２３４５６", "-12345", "123\x00456"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := account.ParseCode(text)
		if err != nil {
			require.ErrorIs(t, err, account.ErrCode)
			return
		}
		require.Regexp(t, `^[0-9]{6}$`, got)
		require.Equal(t, strings.Join(strings.Fields(text), ""), got)
	})
}

func FuzzParseName(f *testing.F) {
	for _, text := range []string{"Trust center", "  a\t b ", "a\u202eb", "\xff", "ä", "\u2028", strings.Repeat("x", 65)} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := account.ParseName(text)
		if err != nil {
			require.ErrorIs(t, err, account.ErrName)
			return
		}
		require.True(t, utf8.ValidString(got))
		require.False(t, strings.ContainsAny(got, "\r\n\x00\u202e\u2028"))
		again, err := account.ParseName(got)
		require.NoError(t, err)
		require.Equal(t, got, again)
	})
}
