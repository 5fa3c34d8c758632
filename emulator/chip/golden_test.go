package chip_test

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/chiptest"
	"hsmemu/emulator/scp03"
	"hsmemu/emulator/store"
	"hsmemu/keystore"
	"hsmemu/keystore/curve"
	"hsmemu/pinstate"
)

// -golden writes the golden card if it is missing, as after a new form came
// into being. It changes none.
var writeGolden = flag.Bool("golden", false, "write a missing golden file")

// goldenForm counts the forms that a card has had. A form that only adds what
// may be missing is read like the one before it, and the file keeps its version:
// a program that does not know what was added says so by its name.
const goldenForm = 5

// goldenFolder has a card of every form that was ever written, with every kind
// of content that the form knew. The newest stands from its first release on.
const goldenFolder = "testdata/golden"

func goldenPath(form int) string {
	return filepath.Join(goldenFolder, fmt.Sprintf("card-%d.json", form))
}

var goldenSecret = []byte("golden share or key of 32 bytes!")

// goldenCard is a card with every kind of content.
func goldenCard(t *testing.T) chip.Durable {
	t.Helper()
	env := chiptest.World("\x01")
	d, err := chip.Manufacture(env, chip.Order{
		Serial: "DENK9900001",
		Answers: applet.Answers{
			NotSelected: 0x6D00, DomainDeleted: 0x6A88, NoMatchingDomain: 0x6A80, BadBlob: 0x6400, LastTry: 0x63C0,
			TooLong: 0x6700,
		},
	})
	require.NoError(t, err)
	seed := uint64(1<<64 - 1)
	d.Seed, d.KeyPool, d.Broken = &seed, true, "reads-keys"
	d.Manager = chip.Manager{Chip: []byte("\x00chip\xFF"), Counter: 77, KeySets: []chip.KeySet{
		{Version: chip.KeyVersion, Keys: scp03.Derive(chip.MasterKey, scp03.Diversification{9: 1})},
		{Version: 0x7F, Keys: scp03.NewKeys([16]byte{0: 0xFF}, [16]byte{15: 1}, [16]byte(goldenSecret))},
	}}
	d.Applet.PINs = pinstate.Card{
		Initialised: true, Options: pinstate.OptionResetEnabled | pinstate.OptionTransportPIN | pinstate.OptionReplaceKeys | 0x8000,
		SO:   pinstate.Reference{Value: pinstate.Value("\x57\x62\x18\x80\x00\xFF<&"), Left: 11, Max: 15},
		User: pinstate.Reference{Value: pinstate.Value("648219"), Left: 2, Max: 3}, Transport: true, MinLength: 6,
		Keys: pinstate.KeyPolicy{Total: 2, Required: 1},
	}
	d.Applet.Files = append(d.Applet.Files,
		applet.File{ID: 0x2F03, Data: []byte("<Größe> & \x00\xFF")},
		applet.File{ID: 0xCD00, Data: []byte{}}, applet.File{ID: 0xCFFF, Data: goldenSecret})
	d.Applet.Keys = goldenKeys(t, env)
	d.Applet.Domains = goldenDomains(t, env)
	public, err := keystore.GenerateEC(env.Rand, named(t, "brainpoolP256r1"))
	require.NoError(t, err)
	d.Applet.Custodians = []applet.Custodian{
		{Name: "UTCUST00100001", Curve: "brainpoolP256r1", Point: public.ECPublic().Bytes()}, {},
	}
	return d
}

// goldenUpdate is a card in the middle of a firmware update, which a card with
// keys is never.
func goldenUpdate(t *testing.T) chip.Durable {
	t.Helper()
	env := chiptest.World("\x01")
	d, err := chip.Manufacture(env, chip.Order{Serial: "DENK9900001", Firmware: "4.0"})
	require.NoError(t, err)
	key, err := keystore.GenerateEC(env.Rand, named(t, "brainpoolP256r1"))
	require.NoError(t, err)
	d.Manager = chip.Manager{
		Chip: []byte("\x00chip\xFF"), Counter: 78, Stage: chip.Production, Firmware: "4.1",
		Key: key, Name: "DENK990000200000", Certificate: []byte("the beginning of a certificate"),
	}
	return d
}

const goldenUpdatePath = goldenFolder + "/update-4.json"

// A card in the middle of an update is the card that it was.
func TestGolden_UpdateGoesOn(t *testing.T) {
	t.Parallel()
	want, err := os.ReadFile(goldenUpdatePath)
	if errors.Is(err, fs.ErrNotExist) && *writeGolden {
		want = indented(t, goldenUpdate(t))
		err = os.WriteFile(goldenUpdatePath, want, 0o644)
	}
	require.NoError(t, err, "go test -golden writes it")
	sameLines(t, want, indented(t, readGolden(t, want)))
	sameLines(t, want, indented(t, goldenUpdate(t)))
	stored(t, goldenUpdate(t))
	l := &loader{card: boot(readGolden(t, want), "goes on")}
	l.update(t, "4.1", newName)
	require.Equal(t, newName, l.Durable().Device.Name)
}

func named(t *testing.T, name string) *curve.Curve {
	t.Helper()
	c, known := curve.ByName(name)
	require.True(t, known)
	return c
}

// goldenKeys are a key of each kind and curve, without and with attributes.
func goldenKeys(t *testing.T, env applet.Env) map[byte]keystore.Key {
	t.Helper()
	keys := map[byte]keystore.Key{}
	add := func(k keystore.Key, err error) {
		require.NoError(t, err)
		keys[byte(len(keys)+1)] = k
	}
	for _, bits := range []int{1024, 1536, 2048} {
		add(keystore.GenerateRSA(env.RSA, bits, []byte{1, 0, 1}))
	}
	for _, c := range curve.All() {
		add(keystore.GenerateEC(env.Rand, c))
	}
	for _, bits := range []int{128, 192, 256} {
		add(keystore.GenerateAES(env.Rand, bits))
	}
	for id, change := range map[byte]func(*keystore.Key){
		1: func(k *keystore.Key) { k.Uses = keystore.Uses{Limited: true, Left: 1<<32 - 1} },
		2: func(k *keystore.Key) { k.Algorithms = []keystore.Algorithm{} },
		5: func(k *keystore.Key) { k.Uses = keystore.Uses{Limited: true} },
		6: func(k *keystore.Key) { k.Algorithms = []keystore.Algorithm{keystore.ECDSA, keystore.Wrap} },
		7: func(k *keystore.Key) { k.Domain = 1 },
	} {
		k := keys[id]
		change(&k)
		keys[id] = k
	}
	return keys
}

// goldenDomains are key domains in each of their states.
func goldenDomains(t *testing.T, env applet.Env) []keystore.Domain {
	t.Helper()
	random, err := keystore.RandomDKEK(env.Rand)
	require.NoError(t, err)
	whole, err := keystore.NewDKEK(1).Import(goldenSecret)
	require.NoError(t, err)
	partly, err := keystore.NewDKEK(3).Import(goldenSecret)
	require.NoError(t, err)
	signer, err := keystore.GenerateEC(chiptest.Seeded("signer"), named(t, "brainpoolP256r1"))
	require.NoError(t, err)
	xkek := keystore.NewXKEK(signer.ECPublic().Bytes()[1:])
	agreed, err := xkek.Agree(goldenSecret)
	require.NoError(t, err)
	return []keystore.Domain{random, whole, partly, keystore.NewDKEK(2), {}, xkek, agreed}
}

func golden(t *testing.T, form int) []byte {
	t.Helper()
	want, err := os.ReadFile(goldenPath(form))
	if errors.Is(err, fs.ErrNotExist) && *writeGolden {
		want = indented(t, goldenCard(t))
		require.NoError(t, os.MkdirAll(goldenFolder, 0o755))
		require.NoError(t, os.WriteFile(goldenPath(form), want, 0o644))
		err = nil
	}
	require.NoError(t, err, "go test -golden writes it")
	return want
}

// readGolden reads a card as package store does.
func readGolden(t *testing.T, form []byte) chip.Durable {
	t.Helper()
	var d chip.Durable
	decoder := json.NewDecoder(bytes.NewReader(form))
	decoder.DisallowUnknownFields()
	require.NoError(t, decoder.Decode(&d))
	return d
}

// If this fails, the form in which cards are kept has changed. Then it needs a
// golden card of the new form beside the old, and, where the old one is not read
// as it is, a new version in package store and a reader for the old one.
func TestGolden_TheFormIsTheSame(t *testing.T) {
	t.Parallel()
	want := golden(t, goldenForm)
	sameLines(t, want, indented(t, readGolden(t, want)))
	sameLines(t, want, indented(t, goldenCard(t)))
	for _, d := range []chip.Durable{goldenCard(t), {}, {Applet: applet.Durable{Files: []applet.File{{}}, Custodians: []applet.Custodian{{Name: "<&>"}}}}} {
		stored(t, d) // compares the two ways to the form
	}
}

func indented(t *testing.T, d chip.Durable) []byte {
	t.Helper()
	form, err := json.MarshalIndent(d, "", " ")
	require.NoError(t, err)
	return append(form, '\n')
}

func sameLines(t *testing.T, want, got []byte) {
	t.Helper()
	old, now := strings.Split(string(want), "\n"), strings.Split(string(got), "\n")
	for i := range old {
		require.Greater(t, len(now), i, "line %d is missing", i+1)
		require.Equal(t, old[i], now[i], "line %d", i+1)
	}
	require.Len(t, now, len(old))
}

// The golden card leaves no field of what is kept at its zero value: a field
// that comes to it has to be put there, and then the form is not the same.
func TestGolden_HasEveryField(t *testing.T) {
	t.Parallel()
	d := goldenCard(t)
	empty := map[string]bool{}
	visit(reflect.ValueOf(d), empty)
	visit(reflect.ValueOf(goldenUpdate(t)), empty)
	for field, everywhere := range empty {
		require.False(t, everywhere, "%s is empty wherever it occurs", field)
	}
	require.Greater(t, len(empty), 25)
	for _, word := range []string{ // of what package keystore keeps to itself
		`"kind":"rsa"`, `"kind":"ec"`, `"kind":"aes"`, `"usesLeft":0`, `"usesLeft":4294967295`, `"algorithms":""`, `"domain":1`,
		`"d":`, `"e":`, `"p":`, `"q":`, `"qInverse":`, `"curve":`, `"point":`, `"key":`,
		`"kind":"dkek"`, `"kind":"xkek"`, `"total":`, `"outstanding":`, `"uid":`, `"kek":`,
	} {
		form, err := json.Marshal(d)
		require.NoError(t, err)
		require.Contains(t, string(form), word)
	}
}

// visit notes of each exported field whether it is empty wherever it occurs.
func visit(v reflect.Value, empty map[string]bool) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			visit(v.Elem(), empty)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if !f.IsExported() {
				continue
			}
			name := v.Type().String() + "." + f.Name
			everywhere, seen := empty[name]
			empty[name] = v.Field(i).IsZero() && (everywhere || !seen)
			visit(v.Field(i), empty)
		}
	case reflect.Slice:
		for i := range v.Len() {
			visit(v.Index(i), empty)
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			visit(v.MapIndex(key), empty)
		}
	}
}

// Every card of every form that was ever written opens and is the card that
// it was: it counts, signs, unwraps and answers as then.
func TestGolden_OldCardsAreTheSameCards(t *testing.T) {
	t.Parallel()
	for form := 1; form <= goldenForm; form++ {
		d := readGolden(t, golden(t, form))
		p := d.Applet.PINs
		require.Equal(t, []uint8{11, 15, 2, 3, 6}, []uint8{p.SO.Left, p.SO.Max, p.User.Left, p.User.Max, p.MinLength})
		require.True(t, p.Transport && p.Initialised && d.KeyPool)
		require.Equal(t, uint64(1<<64-1), *d.Seed)
		require.Equal(t, "DENK9900001", d.Applet.Serial())
		require.Len(t, d.Applet.Custodians, 2)
		curves := len(curve.All())
		if form == 1 {
			curves = 13 // without brainpool t1
		}
		require.Len(t, d.Applet.Keys, 3+curves+3)
		for id, k := range d.Applet.Keys {
			checkKey(t, id, k)
		}
		blob, err := d.Applet.Domains[1].Wrap(chiptest.Seeded("\x01"), d.Applet.Keys[4])
		require.NoError(t, err)
		whole, err := keystore.NewDKEK(1).Import(goldenSecret)
		require.NoError(t, err)
		back, err := whole.Unwrap(blob)
		require.NoError(t, err)
		require.Equal(t, d.Applet.Keys[4].ECPublic().Bytes(), back.ECPublic().Bytes())

		c := boot(d, "\x02")
		require.Equal(t, apdu.OK, c.send(apdu.Command{INS: 0xA4, P1: 4, P2: 0x0C, Data: []byte(apdu.AID)}).SW)
		require.Equal(t, apdu.TriesLeft(11), c.send(apdu.Command{INS: 0x20, P2: 0x88}).SW)
	}
}

// checkKey reports whether a key works: what it signs, its public part verifies.
func checkKey(t *testing.T, id byte, k keystore.Key) {
	t.Helper()
	hash := sha256.Sum256([]byte{id})
	switch k.Kind() {
	case keystore.EC:
		private, err := k.Curve().Private(k.EC().Bytes())
		require.NoError(t, err)
		require.Equal(t, private.Public().Bytes(), k.ECPublic().Bytes())
		signature, err := private.Sign(nil, hash[:])
		require.NoError(t, err)
		require.True(t, k.ECPublic().Verify(hash[:], signature), "key %d", id)
	case keystore.RSA:
		n, e := k.RSAPublic()
		public := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
		signature, err := k.Sign(chiptest.Seeded("\x01"), keystore.RSASignSHA256, []byte("message"))
		require.NoError(t, err)
		message := sha256.Sum256([]byte("message"))
		require.NoError(t, rsa.VerifyPKCS1v15(public, crypto.SHA256, message[:], signature), "key %d", id)
	default:
		mac, err := k.Cipher(keystore.AESCMAC, []byte("message"))
		require.NoError(t, err)
		require.Len(t, mac, 16)
	}
}

// A card's file that a newer program wrote is refused with its name and the
// name of what is not known; so is one that was damaged.
func TestGolden_NewerAndDamagedFilesAreRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "alice.card")
	type plain chip.Durable
	type newer struct {
		plain
		Hologram string `json:"hologram"`
	}
	d := readGolden(t, golden(t, goldenForm))
	require.NoError(t, store.Write(path, newer{plain(d), "x"}, store.Options{}))
	_, _, err := store.Read[chip.Durable](path, store.Options{})
	require.ErrorIs(t, err, store.ErrVersion)
	require.ErrorContains(t, err, path)
	require.ErrorContains(t, err, `"hologram"`)

	form, err := json.Marshal(d)
	require.NoError(t, err)
	for name, change := range map[string][2]string{
		"kind of key":    {`"kind":"rsa"`, `"kind":"dsa"`},
		"curve":          {`"curve":"secp192k1"`, `"curve":"secp999k1"`},
		"kind of domain": {`"kind":"xkek"`, `"kind":"ykek"`},
		"counter":        {`"left":11`, `"left":1111`},
	} {
		require.Contains(t, string(form), change[0])
		other := json.RawMessage(strings.Replace(string(form), change[0], change[1], 1))
		path := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
		require.NoError(t, store.Write(path, other, store.Options{}))
		_, _, err = store.Read[chip.Durable](path, store.Options{})
		require.ErrorIs(t, err, store.ErrVersion, name)
		require.ErrorContains(t, err, path, name)
	}
}
