package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/client"
	"hsmemu/emulator"
	"hsmemu/keystore"
)

// desk is a state folder with one card, and a bench for keys. Share files here
// hold the share as it is, and the password "right" opens them at once.
//
// Its tests are not parallel: a child that another test starts holds the lock on
// the card's file from its fork to its exec, and so beyond the end of a command.
type desk struct {
	t        *testing.T
	dir      string
	app      *app
	out, err bytes.Buffer
	order    importOrder
}

const userPIN = "648219"

// newDesk makes a card with a key domain of two shares, and brings in those of the desk.
func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{t: t, dir: t.TempDir()}
	d.app = &app{
		in: strings.NewReader(""), out: &d.out, err: &d.err, outside: emulator.System(), state: t.TempDir(),
		env: func(string) string { return "" },
	}
	require.Zero(t, d.app.run(t.Context(), []string{"card", "new", defaultCard, "--state", d.app.state}), d.err.String())
	d.initialise(client.Setup{DKEKShares: new(byte(2))}, "1", "2")
	d.write("pin", userPIN+"\n")
	d.write("password", "right\n")
	d.write("one.share", strings.Repeat("1", keystore.ShareLen))
	d.write("two.share", strings.Repeat("2", keystore.ShareLen))
	d.order = importOrder{
		card: defaultCard, shares: []string{d.path("one.share"), d.path("two.share")}, sharePasswords: []string{d.path("password")},
		pin: d.path("pin"), password: d.path("password"),
		open: func(file, password []byte) ([]byte, error) {
			if string(password) != "right" {
				return nil, fmt.Errorf("%w: wrong password", keystore.ErrShare)
			}
			return file, nil
		},
	}
	return d
}

func (d *desk) path(name string) string { return filepath.Join(d.dir, name) }

// openssl runs it in the folder and returns what it prints.
func (d *desk) openssl(line string) []byte {
	d.t.Helper()
	cmd := exec.Command("openssl", strings.Fields(line)...)
	cmd.Dir = d.dir
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	require.NoError(d.t, err, "openssl %s: %s", line, said.String())
	return out
}

// join writes several files into one.
func (d *desk) join(name string, parts ...string) {
	d.t.Helper()
	var all []byte
	for _, p := range parts {
		data, err := os.ReadFile(d.path(p))
		require.NoError(d.t, err)
		all = append(all, data...)
	}
	d.write(name, string(all))
}

// chain makes certificates for a key: its own, that of an issuer, and a root;
// chain.pem holds the last two.
func (d *desk) chain(key string) {
	d.t.Helper()
	d.openssl("req -new -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout rootkey.pem -subj /CN=root -days 9 -out root.pem")
	d.openssl("req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout cakey.pem -subj /CN=issuer -out ca.csr")
	d.openssl("x509 -req -in ca.csr -CA root.pem -CAkey rootkey.pem -CAcreateserial -days 8 -out ca.pem")
	d.openssl("req -new -key " + key + " -subj /CN=leaf -out leaf.csr")
	d.openssl("x509 -req -in leaf.csr -CA ca.pem -CAkey cakey.pem -CAcreateserial -days 7 -out cert.pem")
	d.join("chain.pem", "ca.pem", "root.pem")
}

func (d *desk) write(name, content string) {
	d.t.Helper()
	require.NoError(d.t, os.WriteFile(d.path(name), []byte(content), 0o600))
}

// initialise initialises the card, and brings in shares of one character.
func (d *desk) initialise(o client.Setup, shares ...string) {
	d.t.Helper()
	ctx := context.Background()
	s, err := d.app.session(ctx, defaultCard)
	require.NoError(d.t, err)
	require.NoError(d.t, s.Enter(ctx))
	o.Options, o.SOPIN, o.PIN, o.Tries = 1, []byte("57621880"), []byte(userPIN), 3
	require.NoError(d.t, s.Initialise(ctx, o))
	for _, share := range shares {
		_, err := s.ImportShare(ctx, 0, []byte(strings.Repeat(share, keystore.ShareLen)))
		require.NoError(d.t, err)
	}
	require.NoError(d.t, s.leave(ctx))
}

// imports wants an import to succeed and returns what it prints.
func (d *desk) imports(file string) string {
	d.t.Helper()
	o := d.order
	o.file = d.path(file)
	d.out.Reset()
	require.NoError(d.t, d.app.importKey(context.Background(), o), file)
	return d.out.String()
}

// refuses wants an import to fail, without a trace on the card.
func (d *desk) refuses(file string, change func(*importOrder)) error {
	d.t.Helper()
	before := d.snapshot()
	o := d.order
	o.file = d.path(file)
	if change != nil {
		change(&o)
	}
	d.out.Reset()
	err := d.app.importKey(context.Background(), o)
	require.Error(d.t, err)
	require.Equal(d.t, before, d.snapshot(), "after: %v", err)
	return err
}

// snapshot is everything that an import can change, in words.
func (d *desk) snapshot() string {
	d.t.Helper()
	cards, err := d.app.cards()
	require.NoError(d.t, err)
	durable, _, err := cards.Read(defaultCard)
	require.NoError(d.t, err)
	return fmt.Sprint(durable.Applet.Files, durable.Applet.Keys, durable.Applet.Domains)
}

// kcv of the two shares together.
func (d *desk) kcv() string {
	sum := sha256.Sum256(bytes.Repeat([]byte{'1' ^ '2'}, keystore.ShareLen))
	return strings.ToUpper(hex.EncodeToString(sum[:8]))
}

// full is a place for output without room after some writes.
type full struct{ room atomic.Int32 }

func (f *full) Write(p []byte) (int, error) {
	if f.room.Add(-1) < 0 {
		return 0, syscall.ENOSPC
	}
	return len(p), nil
}

// What came into the card is printed, and what was there before.
func TestImportKey_TellsWhatCame(t *testing.T) {
	d := newDesk(t)
	d.openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem")
	d.chain("key.pem")
	d.join("all.pem", "key.pem", "cert.pem", "chain.pem")
	d.openssl("req -new -newkey rsa:1024 -nodes -keyout key2.pem -subj /CN=second -out second.csr")
	d.openssl("x509 -req -in second.csr -CA ca.pem -CAkey cakey.pem -CAcreateserial -days 7 -out cert2.pem")
	d.join("all2.pem", "cert2.pem", "ca.pem", "key2.pem")

	require.Equal(t, "key check value: "+d.kcv()+"\nkey 1: EC secp256r1, \"leaf\"\ncertificate: \"leaf\"\nCA certificate: \"issuer\"\nCA certificate: \"root\"\n", d.imports("all.pem"))
	d.order.id, d.order.label = 0x20, "zwei"
	require.Equal(t, "key check value: "+d.kcv()+"\nkey 32: RSA 1024, \"zwei\"\ncertificate: \"second\"\nCA certificates that were there already: 1\n", d.imports("all2.pem"))
	d.order.id, d.order.label = 0, ""
	require.Equal(t, "key check value: "+d.kcv()+"\nkey 2: EC secp256r1, \"key\"\n", d.imports("key.pem"))
	require.ErrorContains(t, d.refuses("key.pem", func(o *importOrder) { o.id = 32 }), `card "default": key reference 32: it is taken`)
	d.app.out = new(full)
	require.ErrorIs(t, d.refuses("key.pem", nil), syscall.ENOSPC) // before anything is on the card
}

func TestImportKey_SaysWhatIsWrong(t *testing.T) {
	d := newDesk(t)
	d.openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem")
	d.openssl("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1280 -out odd.pem")

	d.write("wrong", "wrong\n")
	err := d.refuses("key.pem", func(o *importOrder) { o.sharePasswords = []string{d.path("password"), d.path("wrong")} })
	require.EqualError(t, err, "open share "+d.path("two.share")+": share file does not open: wrong password")
	require.Empty(t, d.out.String())

	other := sha256.Sum256([]byte(strings.Repeat("1", keystore.ShareLen)))
	err = d.refuses("key.pem", func(o *importOrder) { o.shares = o.shares[:1] })
	require.EqualError(t, err, fmt.Sprintf(`key domain 0 of card "default" has key check value %s, these shares have %X`, d.kcv(), other[:8]))
	require.Equal(t, fmt.Sprintf("key check value: %X\n", other[:8]), d.out.String())
	_, hint := explained(err)
	require.Equal(t, "it was made of 2 shares, not 1", hint)
	d.write("other.share", strings.Repeat("3", keystore.ShareLen))
	err = d.refuses("key.pem", func(o *importOrder) { o.shares = []string{o.shares[0], d.path("other.share")} })
	require.ErrorContains(t, err, "has key check value "+d.kcv())
	_, hint = explained(err)
	require.Empty(t, hint, "the number of shares is right")

	require.EqualError(t, d.refuses("odd.pem", nil), `card "default" cannot hold the key RSA 1280: its firmware does not have that size`)
	err = d.refuses("key.pem", func(o *importOrder) { o.pin = d.path("wrong") })
	require.ErrorContains(t, err, `card "default": verify the user PIN: `)
	require.EqualError(t, d.refuses("absent.pem", nil), "read the key in "+d.path("absent.pem")+": no such file or directory")
	for _, change := range []func(*importOrder){
		func(o *importOrder) { o.file = "/dev/zero" }, func(o *importOrder) { o.shares = []string{"/dev/zero"} },
		func(o *importOrder) { o.sharePasswords = []string{"/dev/zero"} }, func(o *importOrder) { o.pin = "/dev/zero" },
	} {
		require.ErrorContains(t, d.refuses("key.pem", change), " in /dev/zero: longer than 1048576 bytes", "a file without an end")
	}
	require.ErrorContains(t, d.refuses("key.pem", func(o *importOrder) { o.shares = []string{d.path("absent.share")} }), "read the share")
	require.ErrorContains(t, d.refuses("key.pem", func(o *importOrder) { o.card = "absent" }), "there is no such card")

	ctx, interrupt := context.WithCancel(context.Background())
	o, never := d.order, make(chan struct{})
	defer close(never)
	o.file = d.path("key.pem")
	o.open = func([]byte, []byte) ([]byte, error) { interrupt(); <-never; return nil, keystore.ErrShare }
	require.ErrorIs(t, d.app.importKey(ctx, o), context.Canceled)

	d.initialise(client.Setup{DKEKShares: new(byte(2))})
	require.EqualError(t, d.refuses("key.pem", nil), `key domain 0 of card "default": it is not complete: 2 of 2 shares are missing`)
	d.initialise(client.Setup{})
	require.ErrorContains(t, d.refuses("key.pem", nil), `card "default": key domain 0: status: the card was initialised without key domains`)
}

// Every secret may come from the environment, and none from standard input.
func TestImportKey_AsksForItsSecrets(t *testing.T) {
	d := newDesk(t)
	d.openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem")
	d.openssl("req -new -x509 -key key.pem -subj /CN=leaf -days 2 -out cert.pem")
	d.openssl("pkcs12 -export -inkey key.pem -in cert.pem -out key.p12 -passout pass:opens")
	d.order.sharePasswords, d.order.pin, d.order.password = nil, "", ""
	variables := map[string]string{"HSMEMU_PASSWORD": "opens", "HSMEMU_SHARE_PASSWORD": "right", "HSMEMU_PIN": userPIN}
	d.app.env = func(name string) string { return variables[name] }
	require.Contains(t, d.imports("key.p12"), "key 1: ")

	delete(variables, "HSMEMU_PIN")
	d.app.in = strings.NewReader(userPIN)
	require.ErrorContains(t, d.refuses("key.p12", nil), "no user PIN of card default")
}

func TestImportKey_WrongUse(t *testing.T) {
	d := newDesk(t)
	for _, c := range []struct{ line, want string }{
		{"key.pem", "--share is needed"},
		{"--share a --share b --share c --share-password-file a --share-password-file b key.pem", "2 password files for 3 shares"},
		{"--share a --key-domain 256 key.pem", "key domain 256: 0 to 255"},
		{"--share a --id -1 key.pem", "key reference -1: 1 to 255"},
		{"--share a", "takes 1 argument, not 0"},
	} {
		d.err.Reset()
		require.Equal(t, exitUsage, d.app.run(context.Background(), append([]string{"card", "import-key"}, strings.Fields(c.line)...)))
		require.Contains(t, d.err.String(), c.want)
		require.Contains(t, d.err.String(), "usage: hsmemu card import-key")
	}
}

// A key in PEM without a name is called as its file.
