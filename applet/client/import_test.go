package client_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"math/big"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/client"
	"hsmemu/applet/pkcs15"
	"hsmemu/keystore"
	"hsmemu/keystore/curve"
)

// dkek is the combination of one share.
func dkek(t *testing.T, share []byte) keystore.Domain {
	t.Helper()
	d, err := keystore.NewDKEK(1).Import(share)
	require.NoError(t, err)
	return d
}

// Keys of every kind that a card can hold come into it, and sign there as outside.
func TestImport_OfEveryRSASize(t *testing.T) {
	var keys []keystore.Key
	for _, bits := range []int{1024, 1536, 2048, 3072, 4096} {
		k, err := keystore.GenerateRSA(keystore.PoolGenerator{Rand: rand.Reader}, bits, []byte{1, 0, 1})
		require.NoError(t, err)
		keys = append(keys, k)
	}
	imports(t, "3.6", keys) // which takes the shortest commands
}

func TestImport_OnEveryCurve(t *testing.T) {
	var keys []keystore.Key
	for _, on := range curve.All() {
		private, err := on.Generate(rand.Reader)
		require.NoError(t, err)
		keys = append(keys, keystore.NewEC(private))
	}
	imports(t, "4.1", keys)
}

// imports brings keys into a card, which has to describe them and to sign with them.
func imports(t *testing.T, firmware string, keys []keystore.Key) {
	t.Helper()
	ctx := t.Context()
	share, message := bytes.Repeat([]byte{9}, keystore.ShareLen), []byte("message")
	c := initialised(t, firmware, client.Setup{DKEKShares: new(byte(1))})
	_, err := c.ImportShare(ctx, 0, share)
	require.NoError(t, err)
	for n, k := range keys {
		i, err := c.BeginImport(ctx, 0, 0)
		require.NoError(t, err)
		require.EqualValues(t, n+1, i.Ref, "the lowest that is free")
		blob, err := i.Wrap(rand.Reader, dkek(t, share), 1, k)
		require.NoError(t, err, "%s", k)
		_, err = i.Store(ctx, pin, client.NewBundle(i.Ref, "imported", k, blob))
		require.NoError(t, err, "%s", k)
		description, err := c.ReadFile(ctx, pkcs15.File(pkcs15.PrefixKeyDescription, i.Ref))
		require.NoError(t, err)
		read, err := pkcs15.ParseKey(description)
		require.NoError(t, err)
		want := pkcs15.Key{Kind: pkcs15.RSA, Label: "imported", ID: []byte{i.Ref}, Usage: pkcs15.UsageRSA, Bits: k.Bits()}
		algorithm := keystore.RSASignSHA256
		if on := k.Curve(); on != nil {
			want.Kind, want.Usage, want.Bits, algorithm = pkcs15.EC, pkcs15.UsageEC, 8*on.FieldLen(), keystore.ECDSASHA256
		}
		require.Equal(t, want, read)
		signature, err := c.Sign(ctx, i.Ref, algorithm, message)
		require.NoError(t, err, "%s", k)
		verifies(t, k, message, signature)
	}
}

// What the card or the shares do not allow is found out before anybody is asked for a
// PIN, and nothing changes.
func TestImport_FindsOutEarly(t *testing.T) {
	ctx := t.Context()
	c := initialised(t, "1.2", client.Setup{DKEKShares: new(byte(1))})
	_, err := c.BeginImport(ctx, 0, 0)
	var domain *client.DomainError
	require.ErrorAs(t, err, &domain)
	require.ErrorIs(t, err, client.ErrIncomplete)
	require.EqualError(t, err, "key domain 0: it is not complete: 1 of 1 shares are missing")
	share, other := bytes.Repeat([]byte{9}, keystore.ShareLen), bytes.Repeat([]byte{8}, keystore.ShareLen)
	_, err = c.ImportShare(ctx, 0, share)
	require.NoError(t, err)
	require.NoError(t, c.WriteFile(ctx, pkcs15.File(pkcs15.PrefixCertificate, 1), []byte("taken")))
	require.NoError(t, c.WriteFile(ctx, pkcs15.File(pkcs15.PrefixKeyDescription, 2), []byte("taken")))
	for _, ref := range []byte{1, 2} {
		_, err = c.BeginImport(ctx, 0, ref)
		require.ErrorIs(t, err, client.ErrTaken)
	}
	before, err := c.Objects(ctx)
	require.NoError(t, err)

	i, err := c.BeginImport(ctx, 0, 0)
	require.NoError(t, err)
	require.EqualValues(t, 3, i.Ref, "the first where nothing at all is")
	private, err := named(t, "brainpoolP384r1").Generate(rand.Reader) // which firmware 1 does not have
	require.NoError(t, err)
	k := keystore.NewEC(private)
	_, err = i.Wrap(rand.Reader, dkek(t, other), 1, k)
	var foreign *client.KCVError
	require.ErrorAs(t, err, &foreign)
	require.ErrorAs(t, err, &domain)
	blob, err := i.Wrap(rand.Reader, dkek(t, share), 1, k)
	require.NoError(t, err)
	_, err = i.Store(ctx, pin, client.NewBundle(i.Ref, "big", k, blob))
	require.ErrorIs(t, err, client.ErrSize)
	after, err := c.Objects(ctx)
	require.NoError(t, err)
	require.ElementsMatch(t, before, after)

	empty := initialised(t, "4.1", client.Setup{})
	_, err = empty.BeginImport(ctx, 0, 0)
	require.ErrorIs(t, err, client.ErrNoKeyDomains)
}

// A key comes into the key domain that was named, once that has a DKEK.
func TestImport_IntoAnotherKeyDomain(t *testing.T) {
	ctx := t.Context()
	c := initialised(t, "4.1", client.Setup{KeyDomains: 3})
	_, err := c.BeginImport(ctx, 1, 0)
	require.ErrorIs(t, err, client.ErrEmptyDomain)
	_, err = c.BeginImport(ctx, 3, 0)
	require.ErrorIs(t, err, client.ErrNoSlot)
	_, err = c.CreateKeyDomain(ctx, 1, 1)
	require.NoError(t, err)
	share := bytes.Repeat([]byte{9}, keystore.ShareLen)
	_, err = c.ImportShare(ctx, 1, share)
	require.NoError(t, err)
	i, err := c.BeginImport(ctx, 1, 0)
	require.NoError(t, err)
	private, err := named(t, "secp256r1").Generate(rand.Reader)
	require.NoError(t, err)
	k := keystore.NewEC(private)
	blob, err := i.Wrap(rand.Reader, dkek(t, share), 1, k)
	require.NoError(t, err)
	_, err = i.Store(ctx, pin, client.NewBundle(i.Ref, "there", k, blob))
	require.NoError(t, err)
	require.Equal(t, byte(1), c.card.Snapshot().Durable().Applet.Keys[i.Ref].Domain)
}

// verifies checks with a key's public part a signature over the SHA-256 of a message.
func verifies(t *testing.T, k keystore.Key, message, signature []byte) {
	t.Helper()
	digest := sha256.Sum256(message)
	if public := k.ECPublic(); public != nil {
		parsed, err := public.Curve().ParseDER(signature)
		require.NoError(t, err, "%s", k)
		require.True(t, public.Verify(digest[:], parsed), "%s", k)
		return
	}
	n, e := k.RSAPublic()
	public := rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
	require.NoError(t, rsa.VerifyPKCS1v15(&public, crypto.SHA256, digest[:], signature), "%s", k)
}
