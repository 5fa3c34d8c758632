//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/apdu"
	"hsmemu/applet/cvc"
	"hsmemu/applet/tlv"
	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/chiptest"
	"hsmemu/emulator/store"
	"hsmemu/keystore"
	"hsmemu/keystore/seal"
)

// search finds secrets in what can be seen, as they are or in one of the ways in
// which programs write bytes.
type search struct {
	known   map[string]bool
	windows map[string]string // parts of long secrets, and what they are of
	short   map[string]string // all of short ones
}

// A part of so many bytes of a secret is a leak; written in digits it has at
// least windowText characters.
const (
	window     = 8
	windowText = 16
)

func newSearch() *search {
	return &search{known: map[string]bool{}, windows: map[string]string{}, short: map[string]string{}}
}

// spellings are the ways to write bytes.
func spellings(b []byte) []string {
	words := strings.Trim(fmt.Sprint(b), "[]")
	hexes := fmt.Sprintf("%#v", b)
	all := []string{
		hex.EncodeToString(b), strings.ToUpper(hex.EncodeToString(b)), fmt.Sprintf("% x", b), fmt.Sprintf("% X", b),
		words, strings.ReplaceAll(words, " ", ", "), hexes[len("[]byte{") : len(hexes)-1],
	}
	for at := range min(3, len(b)) { // of each place in the three bytes of four digits
		part := b[at : at+(len(b)-at)/3*3]
		all = append(all, base64.StdEncoding.EncodeToString(part), base64.URLEncoding.EncodeToString(part))
	}
	return all
}

// learn takes a secret in. what says whose it is.
func (s *search) learn(what string, secret []byte) {
	if len(secret) == 0 || s.known[string(secret)] {
		return
	}
	s.known[string(secret)] = true
	if len(secret) < 2*window {
		for _, text := range append(spellings(secret), string(secret)) {
			if len(text) >= 6 {
				s.short[text] = what
			}
		}
		return
	}
	for at := 0; at+window <= len(secret); at++ {
		s.windows[string(secret[at:at+window])] = what
	}
	for _, text := range spellings(secret) {
		for at := 0; at+windowText <= len(text); at++ {
			s.windows[text[at:at+windowText]] = what
		}
	}
}

// learnCard takes in the secrets of a card.
func (s *search) learnCard(t require.TestingT, d chip.Durable) {
	require.NoError(t, chiptest.Secrets(d, func(part string, secret []byte) { s.learn("the card's "+part, secret) }))
}

// find returns whose secret can be seen, empty for none.
func (s *search) find(seen []byte) string {
	for text, what := range s.short {
		if bytes.Contains(seen, []byte(text)) {
			return fmt.Sprintf("%s as %q", what, text)
		}
	}
	for at := range seen {
		for _, n := range []int{window, windowText} {
			if at+n <= len(seen) {
				if what, there := s.windows[string(seen[at:at+n])]; there {
					return fmt.Sprintf("%s as %q", what, seen[at:at+n])
				}
			}
		}
	}
	return ""
}

// The search finds what there is to find.
func TestLeak_TheSearchSees(t *testing.T) {
	t.Parallel()
	s := newSearch()
	s.learn("a PIN", []byte("sEcret-1"))
	s.learn("a key", []byte("a key of 32 bytes, as keys may b"))
	for _, secret := range []string{"sEcret-1", "a key of 32 bytes, as keys may b"} {
		b := []byte(secret)
		for _, seen := range []string{
			"x" + secret + "y", fmt.Sprintf("%x", b), fmt.Sprintf("%X", b), fmt.Sprintf("% x", b), fmt.Sprint(b),
			fmt.Sprintf("%#v", b), "Zm9v" + base64.StdEncoding.EncodeToString(b), fmt.Sprintf("%+v", struct{ b []byte }{b}),
			base64.StdEncoding.EncodeToString(append([]byte("x"), b...)), base64.StdEncoding.EncodeToString(append([]byte("xy"), b...)),
		} {
			require.NotEmpty(t, s.find([]byte(seen)), "%s: %s", secret, seen)
		}
	}
	require.NotEmpty(t, s.find([]byte("only 32 bytes")))
	require.Empty(t, s.find([]byte("nothing of it 0123456789")))
}

// tripping is randomness that fails when it is told to: with an error, or as
// a defect in a program would.
type tripping struct {
	io.Reader
	next atomic.Int32
}

const (
	tripNot int32 = iota
	tripError
	tripPanic
)

func (r *tripping) Read(p []byte) (int, error) {
	switch r.next.Swap(tripNot) {
	case tripError:
		return 0, io.ErrUnexpectedEOF
	case tripPanic:
		panic("a defect in the middle of a command")
	}
	return r.Reader.Read(p)
}

// leaking is the product, watched for secrets. Every secret that it is given or
// makes is known, and everything that it lets out.
type leaking struct {
	*home
	search *search
	random *tripping
	driver *driver
	seen   map[string][]byte // by what it is
	sealed bool              // so that opening the file takes its time
}

const (
	leakPhrase    = "xq7-Uvbne-93kls-Wopq"
	leakFile      = "Zyr5_Hhqwk_01mnb_Tcv"
	leakPIN       = "sEcret-uSer-PIN"
	leakOther     = "0ther-sEcret-PIN"
	leakWrong     = "wR0ng-uSer-PIN!"
	leakSO        = "sEcr3tSO"
	leakShareWord = "Kj3+Lfdsa+88poi+Yzxc"
)

func (l *leaking) watch(what string, seen []byte) { l.seen[what] = append(l.seen[what], seen...) }

// app is a command line whose output is watched.
func (l *leaking) app(out, err io.Writer, env map[string]string) *app {
	outside := emulator.System()
	outside.Rand = l.random
	outside.RSA = keystore.PoolGenerator{Rand: l.random}
	return &app{in: strings.NewReader(""), out: out, err: err, outside: outside, state: l.dir, env: func(name string) string {
		if name == "HSMEMU_STATE" {
			return l.dir
		}
		return env[name]
	}}
}

// say runs a command line; its environment has all the right secrets, those in
// wrong apart.
func (l *leaking) say(wrong map[string]string, args ...string) int {
	env := map[string]string{
		"HSMEMU_PASSPHRASE": leakPhrase, "HSMEMU_NEW_PASSPHRASE": leakPhrase, "HSMEMU_FILE_PASSPHRASE": leakFile, "HSMEMU_PIN": leakPIN,
	}
	maps.Copy(env, wrong)
	for name, value := range env {
		l.search.learn(name, []byte(value))
	}
	var out, said bytes.Buffer
	code := l.app(&out, &said, env).run(context.Background(), args)
	about := strings.Join(args, " ")
	l.watch("output of "+about, out.Bytes())
	l.watch("errors of "+about, said.Bytes())
	return code
}

// learnFile takes in what the card's file holds, and returns it.
func (l *leaking) learnFile() chip.Durable {
	phrase := seal.Passphrase{Ask: func() ([]byte, error) { return []byte(leakPhrase), nil }}
	d, _, err := store.Read[chip.Durable](l.file("alice"), store.Options{Sealers: []seal.Sealer{seal.Insecure{}, phrase}})
	require.NoError(l.t, err)
	l.search.learnCard(l.t, d)
	return d
}

// serve runs the card in this process until the returned function is called.
func (l *leaking) serve() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var out, errs, traced said
	ended, untraced := make(chan int), make(chan int)
	a := l.app(&out, &errs, map[string]string{"HSMEMU_PASSPHRASE": leakPhrase})
	go func() { ended <- a.run(ctx, []string{"run", "--card", "alice", "--socket", l.socket()}) }()
	require.Eventually(l.t, func() bool { return strings.Contains(out.String(), "\nready\n") }, patience, interval)
	var following said
	go func() {
		untraced <- l.app(&traced, &following, nil).run(ctx, []string{"trace", "--card", "alice", "--json"})
	}()
	require.Eventually(l.t, func() bool { return following.String() != "" }, patience, interval)
	return func() {
		cancel()
		require.Zero(l.t, <-ended)
		require.Zero(l.t, <-untraced)
		l.watch("output of run", []byte(out.String()))
		l.watch("errors of run", []byte(errs.String()))
		l.watch("trace", []byte(traced.String()))
	}
}

// mutated is a command with something wrong in it, most times.
func (l *leaking) mutated(command []byte) []byte {
	b := slices.Clone(command)
	switch l.driver.IntN(4) {
	case 0:
		b[l.driver.IntN(len(b))] = byte(l.driver.Uint32())
	case 1:
		b = b[:l.driver.IntN(len(b)+1)]
	case 2:
		b[1+l.driver.IntN(min(3, len(b)-1))] ^= 1 << l.driver.IntN(8)
	}
	return b
}

// others are commands that the driver does not know: ones that use keys, or
// answer with something that was made of them.
func (l *leaking) others() []byte {
	id := byte(1 + l.driver.IntN(l.driver.files))
	block := bytes.Repeat([]byte{0x5A}, 32)
	list := [][]byte{
		wireFor(256, 0x78, id, 0x10, block), wireFor(256, 0x78, id, 0x11, block), wireFor(256, 0x78, id, 0x18, block),
		wireFor(256, 0x78, id, 0x99, block), wireFor(65536, 0x62, id, 0x80, block), wireFor(256, 0x76, id, 0x07, tlv.Append(nil, 0x98, block)),
		wireFor(256, 0x84, 0, 0), wireFor(256, 0x52, 0, 0), wireFor(256, 0x54, 0, 0), wireFor(65536, 0x58, 0, 0),
		wireFor(65536, 0xB1, 0xCC, id, tlv.Append(nil, 0x54, []byte{0, 0})), wireFor(65536, 0xB1, 0xCE, id, tlv.Append(nil, 0x54, []byte{0, 0})),
		wireFor(65536, 0xB1, 0x2F, 0x02, tlv.Append(nil, 0x54, []byte{0, 0})), wireFor(256, 0x68, id, 0x73, block), wireFor(256, 0x68, id, 0x33, block),
		wireFor(256, 0xA4, 0x04, 0, wireSelect[5:]), wireFor(256, 0x50, 0, 0), wireFor(256, 0xCA, 0, 0),
		wireFor(65536, 0x46, id, 0, tlv.Append(nil, 0x42, []byte("UTCA00001")), cvc.RSATemplate(cvc.RSASHA256, 1024), tlv.Append(nil, 0x5F20, []byte("UTKEY00001"))),
	}
	return list[l.driver.IntN(len(list))]
}

// converse has a client talk to the card for a while, and tells how often each
// answer came.
func (l *leaking) converse(commands int) map[apdu.SW]int {
	c := l.client(context.Background())
	defer func() { require.NoError(l.t, c.Close()) }()
	defer l.random.next.Store(tripNot)
	l.search.learn("PIN", []byte(leakWrong))
	before, answers := accountOf(l.learnFile()), map[apdu.SW]int{}
	for i := range commands {
		command := l.driver.next(before).command
		switch n := l.driver.IntN(12); {
		case i == 0:
			command = wireSelect
		case n < 3:
			command = l.others()
		case n < 5:
			command = l.mutated(command)
		case n == 5:
			l.random.next.Store([]int32{tripError, tripPanic}[l.driver.IntN(2)])
		}
		answer, err := c.card.Transmit(context.Background(), command)
		require.NoError(l.t, err)
		answers[statusOf(l.t, answer)]++
		l.watch("answers", answer)
		if len(command) < 2 || command[1] == wireSelect[1] { // it may have been deselected
			l.watch("answers", c.send(l.t, wireSelect))
		}
		if !l.sealed {
			before = accountOf(l.learnFile())
		}
	}
	l.learnFile()
	return answers
}

// request sends a line to the control socket as it is.
func (l *leaking) request(line string) {
	conn, err := net.Dial("unix", filepath.Join(l.dir, "alice"+".sock"))
	require.NoError(l.t, err)
	defer func() { require.NoError(l.t, conn.Close()) }()
	_, err = conn.Write([]byte(line + "\n"))
	require.NoError(l.t, err)
	answer, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(l.t, err)
	l.watch("control socket", []byte(answer))
}

// importKey brings a key in, with shares that are right or wrong.
func (l *leaking) importKey(share []byte) error {
	public, private, err := newECKey()
	require.NoError(l.t, err)
	path := filepath.Join(l.dir, "key.pem")
	require.NoError(l.t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: public}), 0o600))
	l.search.learn("the imported key", private)
	require.NoError(l.t, os.WriteFile(filepath.Join(l.dir, "share"), share, 0o600))
	l.search.learn("a share", share)
	l.search.learn("a share's password", []byte(leakShareWord))
	var out, said bytes.Buffer
	a := l.app(&out, &said, map[string]string{"HSMEMU_PIN": leakPIN, "HSMEMU_SHARE_PASSWORD": leakShareWord})
	err = a.importKey(context.Background(), importOrder{
		card: "alice", shares: []string{filepath.Join(l.dir, "share")}, file: path,
		open: func(file, _ []byte) ([]byte, error) { return file, nil },
	})
	l.watch("import-key", append(out.Bytes(), said.Bytes()...))
	l.watch("import-key", fmt.Append(nil, err))
	return err
}

// newECKey is a key for a PEM file, and its secret number.
func newECKey() (der, secret []byte, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	secret, err = k.Bytes()
	if err != nil {
		return nil, nil, err
	}
	der, err = x509.MarshalPKCS8PrivateKey(k)
	return der, secret, err
}

// No PIN, key, passphrase or password is seen in any answer, event, trace, log
// line, error or panic, of the card or of the command line, in a run that goes
// through all of it. It takes cards in this process and so is not parallel.
func TestLeak_ThroughTheWholeProduct(t *testing.T) {
	l := &leaking{
		home: newHome(t), search: newSearch(), random: &tripping{Reader: emulator.System().Rand}, seen: map[string][]byte{},
		driver: newDriver(4),
	}
	l.driver.so, l.driver.pin, l.driver.other, l.driver.wrong = leakSO, leakPIN, leakOther, leakWrong
	l.search.learn("a share", driverShare[:])
	say := func(args ...string) {
		require.Zero(t, l.say(nil, args...), "%v: %s", args, l.seen["errors of "+strings.Join(args, " ")])
	}
	fail := func(args ...string) { require.NotZero(t, l.say(nil, args...), "%v", args) }

	say("card", "new", "alice")
	l.setUp()
	say("card", "snapshot", "alice", "ready")
	stop := l.serve()
	answers := l.converse(600)
	t.Logf("answers: %v", answers)
	for _, sw := range []apdu.SW{apdu.OK, apdu.Internal, apdu.SecurityStatus, apdu.WrongLength} {
		require.NotZero(t, answers[sw], "%v", sw)
	}
	say("card", "show", "alice")
	say("card", "show", "alice", "--json")
	say("card", "list")
	say("card", "fault", "alice", "remove", "after=5")
	say("card", "fault", "alice", "--list")
	fail("card", "fault", "alice", "nonsense")
	say("card", "fault", "alice", "--clear")
	say("card", "eject", "alice")
	say("card", "insert", "alice")
	say("card", "restore", "alice", "ready")
	say("apdu", "--card", "alice", fmt.Sprintf("%X", wireSelect))
	fail("card", "accept", "alice")
	fail("card", "authenticate", "--card", "alice", "--with", "alice")
	for _, line := range []string{"nonsense", `{"version":1,"do":"nonsense"}`, `{"version":1,"do":"transmit","args":{"apdu":"0"}}`, `{"version":1,"do":"show"}`, `{"version":1,"do":"restore","args":{"state":{"applet":1}}}`} {
		l.request(line)
	}
	transmit := func(command []byte) {
		l.request(fmt.Sprintf(`{"version":1,"do":"transmit","args":{"apdu":"%s"}}`, base64.StdEncoding.EncodeToString(command)))
	}
	transmit(wire(0x20, 0, 0x81, []byte(leakWrong)))
	require.NoError(t, os.MkdirAll(filepath.Join(l.file("alice")+".tmp", "obstacle"), 0o700))
	transmit(wireSelect)
	transmit(wire(0x20, 0, 0x81, []byte(leakPIN)))
	require.NoError(t, os.RemoveAll(l.file("alice")+".tmp"))
	stop()

	say("apdu", "--card", "alice", fmt.Sprintf("%X", wireSelect)) // what is typed there is shown; so nothing secret
	require.NoError(t, l.importKey(driverShare[:]))
	wrong := sha256.Sum256([]byte("another share"))
	require.Error(t, l.importKey(wrong[:]))
	l.learnFile()
	l.say(nil, "attest", "--card", "alice", "--key", "1")
	out := filepath.Join(l.dir, "out")
	say("card", "export", "alice", out)
	require.NotZero(t, l.say(map[string]string{"HSMEMU_FILE_PASSPHRASE": leakWrong}, "card", "import", out, "bob"))
	say("card", "import", out, "bob")
	say("card", "reseal", "alice", "--seal", "passphrase")
	require.NotZero(t, l.say(map[string]string{"HSMEMU_PASSPHRASE": leakWrong}, "card", "show", "alice"))
	say("card", "snapshot", "alice", "sealed")
	l.sealed = true
	stop = l.serve()
	l.converse(30)
	stop()
	for _, path := range []string{l.file("alice"), out, filepath.Join(l.dir, "snapshots", "alice", "sealed.card")} {
		sealed, err := os.ReadFile(path)
		require.NoError(t, err)
		l.watch("the sealed file "+filepath.Base(path), sealed)
	}

	total := 0
	for what, seen := range l.seen {
		total += len(seen)
		require.Empty(t, l.search.find(seen), "%s: %.200q", what, seen)
	}
	require.Contains(t, string(l.seen["errors of run"]), "panic in the card: a defect in the middle of a command")
	require.Contains(t, string(l.seen["errors of run"]), "state could not be saved")
	require.Contains(t, string(l.seen["trace"]), `"subject":"user PIN","meaning":"done","sw":"9000"`)
	t.Logf("%d bytes seen, in which there is none of %d secrets", total, len(l.search.known))
	require.Greater(t, len(l.search.known), 25)
}

// setUp gives the card its PINs, a DKEK and a key.
func (l *leaking) setUp() {
	a := l.app(io.Discard, io.Discard, nil)
	h, err := a.hold("alice", refuseAbsent)
	require.NoError(l.t, err)
	for _, command := range [][]byte{
		wireSelect, l.driver.initialise(leakSO).command, l.driver.importShare().command, l.driver.generate(1).command,
	} {
		answer, err := h.Transmit(context.Background(), command)
		require.NoError(l.t, err)
		require.Equal(l.t, apdu.OK, statusOf(l.t, answer))
	}
	require.NoError(l.t, h.Close())
}
