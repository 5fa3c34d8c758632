package keyfile_test

import (
	"bytes"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/keystore"
	"hsmemu/keystore/curve"
	"hsmemu/keystore/keyfile"
)

// bench is a folder in which OpenSSL makes keys.
type bench struct {
	t   *testing.T
	dir string
}

func newBench(t *testing.T) bench {
	t.Helper()
	return bench{t, t.TempDir()}
}

func (b bench) path(name string) string { return filepath.Join(b.dir, name) }

// openssl runs it in the folder and returns what it prints.
func (b bench) openssl(line string) []byte {
	b.t.Helper()
	cmd := exec.Command("openssl", strings.Fields(line)...)
	cmd.Dir = b.dir
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	require.NoError(b.t, err, "openssl %s: %s", line, said.String())
	return out
}

// join writes several files into one.
func (b bench) join(name string, parts ...string) {
	b.t.Helper()
	var all []byte
	for _, p := range parts {
		data, err := os.ReadFile(b.path(p))
		require.NoError(b.t, err)
		all = append(all, data...)
	}
	require.NoError(b.t, os.WriteFile(b.path(name), all, 0o600))
}

// public is the content of the bit string of a key's public part.
func (b bench) public(key string) []byte {
	b.t.Helper()
	var spki struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	_, err := asn1.Unmarshal(b.openssl("pkey -in "+key+" -pubout -outform DER"), &spki)
	require.NoError(b.t, err)
	return spki.Key.Bytes
}

// read reads a file of the folder.
func (b bench) read(name string, password func() ([]byte, error)) (keyfile.Material, error) {
	b.t.Helper()
	data, err := os.ReadFile(b.path(name))
	require.NoError(b.t, err)
	return keyfile.Read(data, password)
}

func noPassword() ([]byte, error) { return nil, errors.New("no password was expected to be asked for") }

func password(p string) func() ([]byte, error) {
	return func() ([]byte, error) { return []byte(p), nil }
}

// opensslName is how OpenSSL calls a curve.
func opensslName(c *curve.Curve) string {
	switch c.Name() {
	case "secp192r1":
		return "prime192v1"
	case "secp256r1":
		return "prime256v1"
	}
	return c.Name()
}

// Every form in which OpenSSL writes a key on any of the card's curves is the
// same key.
func TestRead_ECOnEveryCurveInEveryForm(t *testing.T) {
	t.Parallel()
	for _, c := range curve.All() {
		t.Run(c.Name(), func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.openssl("ecparam -genkey -name " + opensslName(c) + " -out sec1.pem") // with a block EC PARAMETERS
			b.openssl("ec -in sec1.pem -param_enc explicit -out explicit.pem")
			b.openssl("ec -in sec1.pem -conv_form compressed -out compressed.pem")
			b.openssl("ec -in explicit.pem -param_enc explicit -conv_form compressed -out both.pem")
			b.openssl("pkcs8 -topk8 -nocrypt -in sec1.pem -out pkcs8.pem")
			b.openssl("pkcs8 -topk8 -nocrypt -in explicit.pem -out pkcs8explicit.pem")
			b.openssl("ec -in sec1.pem -no_public -out private.pem")
			b.openssl("req -new -x509 -key sec1.pem -subj /CN=on_the_card/O=example -days 2 -out cert.pem")
			b.join("with.pem", "cert.pem", "pkcs8.pem")
			want := b.public("sec1.pem")
			for _, file := range []string{"sec1", "explicit", "compressed", "both", "pkcs8", "pkcs8explicit", "private", "with"} {
				m, err := b.read(file+".pem", noPassword)
				require.NoError(t, err, file)
				require.Equal(t, c, m.Key.Curve(), file)
				require.Equal(t, want, m.Key.ECPublic().Bytes(), file)
				require.Empty(t, m.Issuers)
				if file != "with" {
					require.Nil(t, m.Own)
					continue
				}
				require.Equal(t, "on_the_card", m.Own.Name)
				require.Equal(t, b.openssl("x509 -in cert.pem -outform DER"), m.Own.DER)
			}
		})
	}
}

func TestRead_RSAOfEverySizeWithItsChain(t *testing.T) {
	t.Parallel()
	for _, bits := range []string{"1024", "1536", "2048", "3072", "4096"} {
		t.Run(bits, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.openssl("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:" + bits + " -out pkcs8.pem")
			b.openssl("rsa -in pkcs8.pem -traditional -out pkcs1.pem")
			b.chain("pkcs8.pem")
			b.join("all.pem", "root.pem", "ca.pem", "pkcs1.pem", "cert.pem")
			b.openssl("pkcs12 -export -inkey pkcs8.pem -in cert.pem -certfile chain.pem -out modern.p12 -passout pass:secret")
			b.openssl("pkcs12 -export -legacy -inkey pkcs8.pem -in cert.pem -certfile chain.pem -out legacy.p12 -passout pass:secret")
			for _, file := range []string{"pkcs8.pem", "pkcs1.pem", "all.pem", "modern.p12", "legacy.p12"} {
				m, err := b.read(file, password("secret"))
				require.NoError(t, err, file)
				require.Equal(t, keystore.RSA, m.Key.Kind())
				n, _ := m.Key.RSAPublic()
				require.True(t, bytes.Contains(b.public("pkcs8.pem"), n), file)
				if strings.HasPrefix(file, "pkcs") {
					require.Nil(t, m.Own)
					continue
				}
				require.Equal(t, "leaf", m.Own.Name, file)
				var issuers []string
				for _, c := range m.Issuers {
					issuers = append(issuers, c.Name)
				}
				require.ElementsMatch(t, []string{"issuer", "root"}, issuers, file)
			}
			_, err := b.read("modern.p12", password("another"))
			require.ErrorIs(t, err, keyfile.ErrPassword)
			_, err = b.read("legacy.p12", password("another"))
			require.ErrorIs(t, err, keyfile.ErrPassword)
		})
	}
}

// chain makes certificates for a key: its own, that of an issuer, and a root;
// chain.pem holds the last two.
func (b bench) chain(key string) {
	b.t.Helper()
	b.openssl("req -new -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout rootkey.pem -subj /CN=root -days 9 -out root.pem")
	b.openssl("req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout cakey.pem -subj /CN=issuer -out ca.csr")
	b.openssl("x509 -req -in ca.csr -CA root.pem -CAkey rootkey.pem -CAcreateserial -days 8 -out ca.pem")
	b.openssl("req -new -key " + key + " -subj /CN=leaf -out leaf.csr")
	b.openssl("x509 -req -in leaf.csr -CA ca.pem -CAkey cakey.pem -CAcreateserial -days 7 -out cert.pem")
	b.join("chain.pem", "ca.pem", "root.pem")
}

// What crypto/x509 cannot read, the library for PKCS #12 cannot either; by way
// of PEM it works.
func TestRead_PKCS12OnOtherCurvesByWayOfPEM(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"brainpoolP256r1", "brainpoolP256t1", "secp256k1"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.openssl("ecparam -genkey -noout -name " + name + " -out key.pem")
			b.openssl("req -new -x509 -key key.pem -subj /CN=leaf -days 2 -out cert.pem")
			b.openssl("pkcs12 -export -inkey key.pem -in cert.pem -out key.p12 -passout pass:secret")
			_, err := b.read("key.p12", password("secret"))
			require.ErrorIs(t, err, keyfile.ErrPKCS12)

			b.openssl("pkcs12 -in key.p12 -nodes -out plain.pem -passin pass:secret")
			m, err := b.read("plain.pem", noPassword)
			require.NoError(t, err)
			require.Equal(t, "leaf", m.Own.Name)
			require.Equal(t, name, m.Key.Curve().Name())
			require.Equal(t, b.public("key.pem"), m.Key.ECPublic().Bytes())
		})
	}
}

func TestRead_PKCS12OnP256(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.openssl("ecparam -genkey -noout -name prime256v1 -out key.pem")
	b.chain("key.pem")
	b.openssl("pkcs12 -export -inkey key.pem -in cert.pem -certfile chain.pem -out key.p12 -passout pass:")
	m, err := b.read("key.p12", password(""))
	require.NoError(t, err)
	require.Equal(t, b.public("key.pem"), m.Key.ECPublic().Bytes())
	require.Len(t, m.Issuers, 2)
}

// A number in a file does not keep the machine busy, wherever it stands.
func TestRead_PKCS12BoundsIterations(t *testing.T) {
	t.Parallel()
	nobody := func() ([]byte, error) { return nil, errors.New("nobody is to be asked") }
	salted := []byte{0x30, 0x0A, 4, 2, 1, 2, 2, 4, 0x7F, 0xFF, 0xFF, 0xFF} // as in MacData
	inside := append([]byte{0x30, 0x0E, 4, 0x0C}, salted...)               // as in authenticated contents
	for _, file := range [][]byte{salted, inside} {
		_, err := keyfile.Read(file, nobody)
		require.ErrorIs(t, err, keyfile.ErrPKCS12)
		require.ErrorContains(t, err, "2147483647 iterations")
	}
	_, err := keyfile.Read([]byte{0x30, 0x0E, 4, 2, 1, 2, 2, 8, 0xFF, 1, 1, 1, 1, 1, 1, 1}, nobody)
	require.ErrorIs(t, err, keyfile.ErrPKCS12)
}

func TestRead_SaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem")
	b.openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out other.pem")
	b.openssl("req -new -x509 -key key.pem -subj /CN=one -days 2 -out cert.pem")
	b.openssl("req -new -x509 -key key.pem -subj /CN=two -days 2 -out cert2.pem")
	b.openssl("pkey -in key.pem -aes256 -passout pass:secret -out encrypted.pem")
	b.openssl("ec -in key.pem -aes256 -passout pass:secret -out traditional.pem")
	b.openssl("genpkey -algorithm ed25519 -out ed25519.pem")
	b.openssl("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:512 -out rsa512.pem")
	b.openssl("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -pkeyopt rsa_keygen_primes:2 -out rsa.pem")
	b.openssl("ecparam -genkey -noout -name secp112r1 -out secp112r1.pem")
	b.openssl("ecparam -genkey -noout -name secp112r1 -param_enc explicit -out explicit112.pem")
	b.openssl("ecparam -genkey -noout -name sect163k1 -param_enc explicit -out binary.pem")
	b.openssl("pkcs12 -export -nocerts -inkey key.pem -out keyonly.p12 -passout pass:secret")
	b.join("two.pem", "key.pem", "other.pem")
	b.join("mixed.pem", "other.pem", "cert.pem")
	b.join("twice.pem", "key.pem", "cert.pem", "cert2.pem")
	for name, content := range map[string]string{
		"empty.pem": "", "text.pem": "not a key\n",
		"junk.pem":    string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{0x30, 0x01}})),
		"ssh.pem":     string(pem.EncodeToMemory(&pem.Block{Type: "OPENSSH PRIVATE KEY", Bytes: []byte{1}})),
		"badcert.pem": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{0x30, 0x00}})),
		"nocurve.pem": string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: []byte{0x30, 6, 2, 1, 1, 4, 1, 7}})),
		"zero.p12":    "\x30\x00",
	} {
		require.NoError(t, os.WriteFile(b.path(name), []byte(content), 0o600))
	}
	b.swapPublic("key.pem", "other.pem", "swapped.pem")
	b.changeD("rsa.pem", "rsabad.pem")

	for file, want := range map[string]string{
		"empty.pem":       "neither PEM nor PKCS #12",
		"text.pem":        "neither PEM nor PKCS #12",
		"cert.pem":        "0 private keys instead of one",
		"two.pem":         "2 private keys instead of one",
		"mixed.pem":       "no certificate in it belongs to its key",
		"twice.pem":       "two certificates belong to its key",
		"encrypted.pem":   "the private key is encrypted",
		"traditional.pem": "the private key is encrypted",
		"ed25519.pem":     "not algorithm 1.3.101.112",
		"rsa512.pem":      "RSA key of 512 bits",
		"rsabad.pem":      "d does not belong to e",
		"secp112r1.pem":   "does not have the curve 1.3.132.0.6",
		"explicit112.pem": "does not have the curve with these parameters",
		"binary.pem":      "curves over prime fields only",
		"junk.pem":        "private key: asn1",
		"ssh.pem":         `a block "OPENSSH PRIVATE KEY"`,
		"badcert.pem":     "certificate: asn1",
		"nocurve.pem":     "curve of the private key",
		"swapped.pem":     "its public part belongs to another key",
		"zero.p12":        "pkcs12: ",
		"keyonly.p12":     "this PKCS #12 file cannot be read: a key without a certificate is read in PEM alone",
	} {
		_, err := b.read(file, password("secret"))
		require.ErrorContains(t, err, want, file)
	}
}

// swapPublic writes the key of one file with the public part of another.
func (b bench) swapPublic(one, other, out string) {
	b.t.Helper()
	der := b.openssl("pkcs8 -topk8 -nocrypt -in " + one + " -outform DER")
	der = bytes.Replace(der, b.public(one), b.public(other), 1)
	require.NoError(b.t, os.WriteFile(b.path(out), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
}

// changeD writes an RSA key with another private exponent.
func (b bench) changeD(in, out string) {
	b.t.Helper()
	der := b.openssl("pkey -in " + in + " -traditional -outform DER")
	e := []byte{2, 3, 1, 0, 1}
	at := bytes.Index(der, e) + len(e) + 20 // inside d, which follows e
	der[at] ^= 1
	require.NoError(b.t, os.WriteFile(b.path(out), pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: der}), 0o600))
}
