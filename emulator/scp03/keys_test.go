package scp03_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/scp03"
)

func key(text string) [scp03.KeyLen]byte { return [scp03.KeyLen]byte(unhex(text)) }

// openWith is both ends of a channel between who has the same keys.
func openWith(t require.TestingT, keys scp03.Keys, l scp03.Level) (scp03.Card, scp03.Host) {
	card, data, err := keys.Begin(diversity, version, 1, domain, challenge)
	require.NoError(t, err)
	a, err := scp03.ParseAnswer(data)
	require.NoError(t, err)
	host, err := keys.Open(challenge, a)
	require.NoError(t, err)
	c, host, err := host.Authenticate(l)
	require.NoError(t, err)
	card, err = card.Authenticate(c)
	require.NoError(t, err)
	return card, host
}

// What a card of another maker said to another host, from the tests of pySim
// (tests/unittests/test_globalplatform.py): keys 00…0F, 10…1F and 20…2F of version 30.
func TestHost_SpeaksAsOthersDo(t *testing.T) {
	t.Parallel()
	keys := scp03.NewKeys(key("000102030405060708090A0B0C0D0E0F"), key("101112131415161718191A1B1C1D1E1F"), key("202122232425262728292A2B2C2D2E2F"))
	const (
		question = "80E2910006BF3E035C015A00"
		says     = "BF3E125A10898821199000000000000000000000059000"
	)
	for _, v := range []struct {
		level                           scp03.Level
		begin, data, authenticate, c, r string
	}{
		{
			scp03.BothMAC, "8050300008B13E5F938FC108C400", "000000000000000000003003703EB51047495B249F66C484C1D2EF1948000002",
			"84821100107D5F5826A993EBC89EEA24957FA0B3CE", "84E291000EBF3E035C015A558D036518A2829700",
			"BF3E125A1089882119900000000000000000000005971BE68992DBBDFA9000",
		},
		{
			scp03.Encrypted, "80503000088E1552D0513C60F300", "0000000000000000000030037030760CD2C47C1DD395065FE5EAD8A9D7000001",
			"8482030010FD4721A14D9B07003C451D2F8AE6BB21", "84E2910018CA9C00F6713D79BC8BAA642BDFF51C3F6A4082D3BD9AD26C00",
			says,
		},
		{
			scp03.All, "8050300008FDF38259A1E0DE4400", "000000000000000000003003703B1ACA81E821F219081CDC01C26B372D000003",
			"84823300108C36F96BCC00724A4E13AD591D7DA3F0", "84E2910018267A85DFE4A98FCA6FB0527E0DFECCE4914E40401433C87F00",
			"F3BA2B1013AA6224F5E1C138D71805C569E5439B47576260B75FC021B25097CB2E68F8A0144975B99000",
		},
	} {
		begin := command(t, v.begin)
		a, err := scp03.ParseAnswer(unhex(v.data))
		require.NoError(t, err)
		host, err := keys.Open(scp03.Challenge(begin.Data), a)
		require.NoError(t, err)
		c, host, err := host.Authenticate(v.level)
		require.NoError(t, err)
		require.Equal(t, v.authenticate, hexed(c.Bytes()))
		c, host, err = host.Wrap(command(t, question))
		require.NoError(t, err)
		require.Equal(t, v.c, hexed(c.Bytes()))
		r, _, err := host.Unwrap(response(t, v.r))
		require.NoError(t, err)
		require.Equal(t, says, hexed(r.Bytes()))
	}
}

// The form of new keys, byte for byte (UPDATE-29): the first and the third are encrypted as blocks 1 and
// 2 of NIST SP 800-38A, F.1.1, and the check value of the second is that of a trace with a
// JCOP card (github.com/kaoh/globalplatform/issues/73). The rest was computed by OpenSSL.
func TestPutKey_KnownAnswers(t *testing.T) {
	t.Parallel()
	old := scp03.NewKeys(key("000102030405060708090A0B0C0D0E0F"), key("101112131415161718191A1B1C1D1E1F"), key("2B7E151628AED2A6ABF7158809CF4F3C"))
	keys := scp03.NewKeys(key("6BC1BEE22E409F96E93D7E117393172A"), key("404142434445464748494A4B4C4D4E4F"), key("AE2D8A571E03AC9C9EB76FAC45AF8E51"))
	card, host := openWith(t, old, scp03.BothMAC)
	c, expected, err := host.PutKey(0x30, 0x31, keys)
	require.NoError(t, err)
	require.Equal(t, "80D83081"+"46"+"31"+
		"881110"+"3AD77BB40D7A3660A89ECAF32466EF97"+"03"+"50F37E"+
		"881110"+"576076A2E3950D73F8E9BF794A7B5D95"+"03"+"504A77"+
		"881110"+"F5D3D58503B9699DE785895A96FDBAAF"+"03"+"180758"+"00", hexed(c.Bytes()))
	require.Equal(t, "31"+"50F37E"+"504A77"+"180758", hexed(expected))
	v, got, answer, err := card.NewKeys(c.Data)
	require.NoError(t, err)
	require.Equal(t, byte(0x31), v)
	require.Equal(t, keys, got)
	require.Equal(t, expected, answer)
	// Without the length of the key itself, as in table 11-71.
	_, got, _, err = card.NewKeys(bytes.ReplaceAll(c.Data, unhex("881110"), unhex("8810")))
	require.NoError(t, err)
	require.Equal(t, keys, got)
}

// What is altered, cut short or of another form makes no keys.
func TestCard_RefusesWrongNewKeys(t *testing.T) {
	t.Parallel()
	card, host := open(t, scp03.All)
	c, _, err := host.PutKey(0, 0x31, scp03.Derive(master, diversity))
	require.NoError(t, err)
	for _, bad := range flips(c.Data) {
		if len(bad) == len(c.Data) && bad[0] != c.Data[0] && bytes.Equal(bad[1:], c.Data[1:]) && bad[0]-1 < scp03.MaxVersion {
			continue // another version, which only the code of the command protects
		}
		v, keys, answer, err := card.NewKeys(bad)
		require.Error(t, err, "%X", bad)
		require.True(t, v == 0 && keys.IsZero() && answer == nil)
	}
	at := func(i int, b byte) []byte { bad := bytes.Clone(c.Data); bad[i] = b; return bad }
	for i, want := range map[int]error{
		0: scp03.ErrKeyData, // version 00
		1: scp03.ErrKeyType, 24: scp03.ErrKeyType, 47: scp03.ErrKeyType,
		2: scp03.ErrKeyData, 3: scp03.ErrKeyData, 20: scp03.ErrKeyData,
		4: scp03.ErrKeyCheck, 21: scp03.ErrKeyCheck, 69: scp03.ErrKeyCheck,
	} {
		_, _, _, err := card.NewKeys(at(i, 0))
		require.ErrorIs(t, err, want, i)
	}
	_, _, _, err = card.NewKeys(at(0, 0x80))
	require.ErrorIs(t, err, scp03.ErrKeyData)
	_, _, _, err = scp03.Card{}.NewKeys(c.Data)
	require.ErrorIs(t, err, scp03.ErrClosed)
	_, _, err = scp03.Host{}.PutKey(0, 0x31, scp03.Derive(master, diversity))
	require.ErrorIs(t, err, scp03.ErrClosed)
	// Of another channel's keys: they do not have their check values here.
	other, _ := openWith(t, scp03.NewKeys(key("6BC1BEE22E409F96E93D7E117393172A"), key("6BC1BEE22E409F96E93D7E117393172A"), key("6BC1BEE22E409F96E93D7E117393172A")), scp03.All)
	_, _, _, err = other.NewKeys(c.Data)
	require.ErrorIs(t, err, scp03.ErrKeyCheck)
}

// Keys are kept as JSON and shown nowhere else.
func TestKeys_AreKeptAndNotLogged(t *testing.T) {
	t.Parallel()
	const text = `"6bc1bee22e409f96e93d7e117393172a404142434445464748494a4b4c4d4e4fae2d8a571e03ac9c9eb76fac45af8e51"`
	keys := scp03.NewKeys(key("6BC1BEE22E409F96E93D7E117393172A"), key("404142434445464748494A4B4C4D4E4F"), key("AE2D8A571E03AC9C9EB76FAC45AF8E51"))
	form, err := json.Marshal(keys)
	require.NoError(t, err)
	require.Equal(t, text, string(form))
	var read scp03.Keys
	require.NoError(t, json.Unmarshal(form, &read))
	require.Equal(t, keys, read)
	require.True(t, keys.Equal(read))
	for i := range 3 {
		other := [3][16]byte{key("6BC1BEE22E409F96E93D7E117393172A"), key("404142434445464748494A4B4C4D4E4F"), key("AE2D8A571E03AC9C9EB76FAC45AF8E51")}
		other[i][15] ^= 1
		require.False(t, keys.Equal(scp03.NewKeys(other[0], other[1], other[2])))
	}
	require.False(t, keys.Equal(scp03.Keys{}) || scp03.Keys{}.Equal(keys) || scp03.Keys{}.Equal(scp03.Keys{}))
	form, err = json.Marshal(scp03.Keys{})
	require.NoError(t, err)
	require.Equal(t, "null", string(form))
	require.NoError(t, json.Unmarshal(form, &read))
	require.True(t, read.IsZero())
	for _, bad := range []string{`""`, `"6bc1"`, text[:95] + `"`, strings.ReplaceAll(text, "6b", "6x")} {
		require.ErrorIs(t, json.Unmarshal([]byte(bad), &read), scp03.ErrLength, bad)
	}
	require.Error(t, json.Unmarshal([]byte(`48`), &read))
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "keys", keys)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "keys", keys)
	require.NotContains(t, log.String(), "6bc1")
	require.Equal(t, 2, strings.Count(log.String(), "card keys"))
}

// FuzzNewKeys gives a card any data of PUT KEY: what it takes, a host with the same keys
// would have sent.
func FuzzNewKeys(f *testing.F) {
	card, host := open(f, scp03.All)
	c, _, err := host.PutKey(0, 0x31, scp03.Derive(master, diversity))
	require.NoError(f, err)
	f.Add(c.Data)
	f.Add(bytes.ReplaceAll(c.Data, unhex("881110"), unhex("8810")))
	f.Add(c.Data[:47])
	f.Fuzz(func(t *testing.T, data []byte) {
		v, keys, answer, err := card.NewKeys(data)
		if err != nil {
			require.True(t, keys.IsZero())
			return
		}
		c, expected, err := host.PutKey(0, v, keys)
		require.NoError(t, err)
		require.Equal(t, expected, answer)
		whole := data
		if len(data) < len(c.Data) { // lengths of keys may be missing
			whole = bytes.ReplaceAll(data, unhex("8810"), unhex("881110"))
		}
		if len(whole) == len(c.Data) {
			require.Equal(t, hexed(c.Data), hexed(whole))
		}
	})
}
