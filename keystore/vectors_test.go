package keystore_test

import (
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/keystore"
)

type kdfCase struct {
	ID          string   `json:"id"`
	ShareFile   string   `json:"share_file"`
	ShareBase64 string   `json:"share_base64"`
	Password    string   `json:"password"`
	PlainShares []string `json:"plain_shares"`
	DKEK        string   `json:"dkek"`
	KCV         string   `json:"kcv"`
	KEnc        string   `json:"kenc"`
	KMac        string   `json:"kmac"`
	P           string   `json:"rsa1024_p"`
	Q           string   `json:"rsa1024_q"`
	N           string   `json:"rsa1024_n"`
}

func kdfCases(t *testing.T) []kdfCase {
	t.Helper()
	var file struct{ Cases []kdfCase }
	require.NoError(t, json.Unmarshal(vector(t, "dkek-kdf.json"), &file))
	require.NotEmpty(t, file.Cases)
	return file.Cases
}

// Share files, shares, check values and blob keys of real cards.
func TestVectors_DKEK(t *testing.T) {
	t.Parallel()
	for _, c := range kdfCases(t) {
		if c.DKEK == "" {
			continue // only a check value is public
		}
		t.Run(c.ID, func(t *testing.T) {
			t.Parallel()
			dkek := unhex(t, c.DKEK)
			shares := [][]byte{dkek}
			switch {
			case c.ShareFile != "":
				share, err := keystore.OpenShare(vector(t, c.ShareFile), []byte(c.Password))
				require.NoError(t, err)
				shares = [][]byte{share}
			case c.ShareBase64 != "":
				file, err := base64.StdEncoding.DecodeString(c.ShareBase64)
				require.NoError(t, err)
				share, err := keystore.OpenShare(file, []byte(c.Password))
				require.NoError(t, err)
				shares = [][]byte{share}
			case c.PlainShares != nil:
				shares = nil
				for _, s := range c.PlainShares {
					shares = append(shares, unhex(t, s))
				}
			}
			d := keystore.NewDKEK(len(shares))
			for _, s := range shares {
				var err error
				d, err = d.Import(s)
				require.NoError(t, err)
			}
			kcv := d.KCV()
			require.Equal(t, unhex(t, c.KCV), kcv[:])

			// Whether the blob keys are right shows when a blob made with the
			// published ones opens.
			require.Equal(t, unhex(t, c.KEnc), blobKey(dkek, 1))
			require.Equal(t, unhex(t, c.KMac), blobKey(dkek, 2))
			k, err := d.Unwrap(sealBlob(t, dkek, 0x0F, nil, pad(append(make([]byte, 8), append([]byte{0, 16}, dkek[:16]...)...))))
			require.NoError(t, err)
			require.Equal(t, 128, k.Bits())
		})
	}
}

// The primes that were read out of a real RSA-1024 blob make a working key.
func TestVectors_PublishedPrimes(t *testing.T) {
	t.Parallel()
	for _, c := range kdfCases(t) {
		if c.P == "" {
			continue
		}
		k, err := keystore.NewRSA(keystore.RSAParts{
			N: unhex(t, c.N), E: f4, P: unhex(t, c.P), Q: unhex(t, c.Q),
		})
		require.NoError(t, err)
		signAndVerify(t, k)
		return
	}
	t.Fatal("no case with primes")
}

func TestVectors_RaymiiBlob(t *testing.T) {
	t.Parallel()
	blob := unhex(t, string(vector(t, "raymii-wrap-rsa1024-dkek44.hex")))
	dkek := unhex(t, strings.Repeat("44", 32))
	d := domainOf(t, dkek)
	k, err := d.Unwrap(blob)
	require.NoError(t, err)
	require.Equal(t, 1024, k.Bits())
	require.Nil(t, k.Algorithms)
	signAndVerify(t, k)

	// Sealed again with the random bytes of the card, the blob is the card's,
	// bit by bit.
	again, err := d.Wrap(strings.NewReader(string(unhex(t, "81BD22DC7A599EAD"))), k)
	require.NoError(t, err)
	require.Equal(t, blob, again)
}

func TestVectors_PengutronixKeys(t *testing.T) {
	t.Parallel()
	var file struct {
		Keys []struct {
			File   string `json:"file"`
			Bits   int    `json:"key_bits"`
			N      string `json:"modulus_sha256"`
			Random string `json:"plain_random8"`
			PRKD   string `json:"prkd_hex"`
			Cert   string `json:"cert_sha256"`
			MAC    string `json:"cmac"`
			Blob   int    `json:"keyblob_len"`
		} `json:"wrapped_keys"`
	}
	require.NoError(t, json.Unmarshal(vector(t, "ptx-wrapped-keys.json"), &file))
	require.Len(t, file.Keys, 4)
	var dkek []byte
	for _, c := range kdfCases(t) {
		if c.ID == "ptx" {
			dkek = unhex(t, c.DKEK)
		}
	}
	d := domainOf(t, dkek)
	require.Equal(t, strings.ToUpper(strings.TrimSpace(string(vector(t, "ptx/dkek-share-dev-1.check-value")))),
		strings.TrimPrefix(d.String(), "DKEK "))

	for _, c := range file.Keys {
		t.Run(path.Base(c.File), func(t *testing.T) {
			t.Parallel()
			var f struct {
				Blob                     []byte
				Description, Certificate asn1.RawValue
			}
			rest, err := asn1.Unmarshal(vector(t, c.File), &f)
			require.NoError(t, err)
			require.Empty(t, rest)
			require.Len(t, f.Blob, c.Blob)
			require.Equal(t, unhex(t, c.PRKD), f.Description.FullBytes)
			cert := sha256.Sum256(f.Certificate.FullBytes)
			require.Equal(t, c.Cert, hex.EncodeToString(cert[:]))

			k, err := d.Unwrap(f.Blob)
			require.NoError(t, err)
			require.Equal(t, keystore.RSA, k.Kind())
			require.Equal(t, c.Bits, k.Bits())
			n, e := k.RSAPublic()
			modulus := sha256.Sum256(n)
			require.Equal(t, c.N, hex.EncodeToString(modulus[:]))
			require.Equal(t, f4, e)
			signAndVerify(t, k)

			again, err := d.Wrap(strings.NewReader(string(unhex(t, c.Random))), k)
			require.NoError(t, err)
			require.Equal(t, f.Blob, again, "the card's own blob, bit by bit")
			second, err := d.Unwrap(again)
			require.NoError(t, err)
			require.Equal(t, stored(t, k), stored(t, second))
		})
	}
}

// DOM-1, DOM-39 and DOM-10: a share file of DENK0105702 and the EC key it wrapped.
const (
	denkShare1 = `53616C7465645F5F3B2B00CCE8B70B2B7F0D0B632C92F3CBDD2E91F3F4F1F65593C2AFD11409A9990B89AEC513664B5C36E57CE8AF10746EED02442BE23209B9`
	denkDKEK   = `2848CB6E994F5A00C365C3C255ED130512CE1EB06BF08D348EEB8B2F866E3E50`
	denkBlob   = `
97E303855DC1C54D0C000A04007F00070202020203000000000000B2C97ABAF6BF457FD94D5D76EB668DD10D042B3AEB
ACC4F5B36F723E1CA129C0B6676F2B63BA6ACCF71923B6BD8D2C3A9190E19722C763C3082C35605CAAA4D2C2EEF72B42
C5B5040DA7F9A7A5450D33F49722137F479F9F34BF8D79D08FF109C756EDB3C1FF77B5B2EDC548DA72629708BC618F5C
262591420D45C5DECB6CC5CD4AEF328C8320AA90AA1F755F0AAEE27AF363CC5DB5D21D912570866884C491C51325DF73
194BB641FD74080E49559A3A11A96C29ECCDDBF8DCAD16352588A8B58990ADF360DF03E0E9D6081772D89A33B38931C6
4EBF4F9C8A3AA10FC87D71525A299401739531C0856B694BC124B2DF87183BEC684824BF57DBA60CA511F3BE96FCF16C
06A4C4AD9C5C844D04D0F3D8A95208EA818D92263D1B754B0A840BD41B8D12F328B891F7BBAD8F84806F5CFC24FAA7B3
8B369FB98EFDB77BCCFB5AF27E6021516B79619479E6138663277D`
	denkScalar = `1FCE3FF149ED92C7B9D4F63B82B2B542CBD3F4152C6CD4687A69EC6B88C43BC4`
	denkPoint  = `04A19764D69D2AEADA6B3766B7109B26285F478F7116D19C2558BD3A6CB46B62047D2CB0C1D4F7B7C1140744CF5B0410701F4BDE469D5E7785A57555F6EEEDD84C`
)

func TestVectors_ShareFileOfDENK(t *testing.T) {
	t.Parallel()
	share, err := keystore.OpenShare(unhex(t, denkShare1), []byte("passwordpassword"))
	require.NoError(t, err)
	require.Equal(t, unhex(t, denkDKEK), share)
	d := domainOf(t, unhex(t, denkDKEK))
	require.Equal(t, "DKEK 97E303855DC1C54D", d.String())
}

func TestVectors_ECBlobOfDENK(t *testing.T) {
	t.Parallel()
	blob, dkek := unhex(t, denkBlob), unhex(t, denkDKEK)
	d := domainOf(t, dkek)
	k, err := d.Unwrap(blob)
	require.NoError(t, err)
	require.Equal(t, "EC secp256k1", k.String())
	require.Nil(t, k.Algorithms)
	require.Equal(t, unhex(t, denkScalar), k.EC().Bytes())
	require.Equal(t, unhex(t, denkPoint), k.ECPublic().Bytes())
	signAndVerify(t, k)

	again, err := d.Wrap(strings.NewReader(string(unhex(t, "32C77E28E97BF881"))), k)
	require.NoError(t, err)
	require.Equal(t, blob, again, "the card's own blob, bit by bit")

	o := openBlob(t, dkek, again, 7)
	require.Equal(t, unhex(t, "97E303855DC1C54D"), o.kcv)
	require.Equal(t, []byte{0x0C}, o.kind)
	require.Equal(t, unhex(t, "04007F00070202020203"), o.oid)
	require.Empty(t, append(append(o.list, o.access...), o.keyOID...))
	require.Equal(t, unhex(t, "32C77E28E97BF881"), o.random)
	require.Equal(t, 0x0100, o.size)
	p := curveNamed(t, "secp256k1").Parameters()
	require.Equal(t, [][]byte{
		make([]byte, 32), big.NewInt(7).FillBytes(make([]byte, 32)), p.P, p.N, p.G,
		unhex(t, denkScalar), unhex(t, denkPoint),
	}, o.parts)
	require.Equal(t, unhex(t, "800000000000"), o.padding)
}
