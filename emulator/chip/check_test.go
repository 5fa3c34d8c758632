package chip_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
	"hsmemu/applet/cvc"
	"hsmemu/emulator/chiptest"
	"hsmemu/keystore"
	"hsmemu/keystore/curve"
	"hsmemu/pinstate"
)

// Cards of every firmware, as shipped and set up, are cards; so are those of
// older programs.
func TestCheck_CardsAreCards(t *testing.T) {
	t.Parallel()
	for _, p := range applet.Profiles() {
		for _, equipped := range []bool{false, true} {
			require.NoError(t, start(t, p.Name, equipped).State.Durable().Check(), "%s %t", p.Name, equipped)
		}
	}
	require.NoError(t, goldenCard(t).Check())
	for version := 1; version <= goldenForm; version++ {
		require.NoError(t, readGolden(t, golden(t, version)).Check(), version)
	}
}

// A portal has issuers of its own below the emulator's root.
func TestCheck_AnotherIssuerOfTheRoot(t *testing.T) {
	t.Parallel()
	d := goldenCard(t).Applet
	issue(t, &d, cvc.RoleIssuer)
	require.NoError(t, d.Check())
}

// Each of these is one step away from a card that is in order (PIN-1,
// PIN-4 and PIN-5 for PINs and policies, FILE-40 for files).
func TestCheck_RefusesWhatNoCommandLeadsTo(t *testing.T) {
	t.Parallel()
	type a = applet.Durable
	wide := keyOf(t, "rsa", 4096)
	other, err := keystore.GenerateEC(chiptest.Seeded("\x09"), named(t, "brainpoolP256r1"))
	require.NoError(t, err)
	elsewhere, err := keystore.GenerateEC(chiptest.Seeded("\x09"), named(t, "secp256r1"))
	require.NoError(t, err)
	for name, c := range map[string]struct {
		change func(*applet.Durable)
		says   string
	}{
		"nothing at all":          {func(d *a) { *d = a{} }, `firmware "" is not known`},
		"unknown firmware":        {func(d *a) { d.Firmware = "9.9" }, `firmware "9.9" is not known`},
		"unknown answer":          {func(d *a) { d.Answers.NotSelected = 0x9000 }, "an answer not-selected=9000"},
		"no device key":           {func(d *a) { d.Device.Key = keystore.Key{} }, "no device key"},
		"device key of a kind":    {func(d *a) { d.Device.Key = wide }, "no device key"},
		"device key with a list":  {func(d *a) { d.Device.Key.Algorithms = []keystore.Algorithm{} }, "no device key"},
		"device key, few uses":    {func(d *a) { d.Device.Key.Uses.Limited = true }, "no device key"},
		"device key in a domain":  {func(d *a) { d.Device.Key.Domain = 1 }, "no device key"},
		"device key on a curve":   {func(d *a) { d.Device.Key = elsewhere }, "no device key"},
		"another device key":      {func(d *a) { d.Device.Key = other }, "a device key with another key's certificate"},
		"another device name":     {func(d *a) { d.Device.Name = "DENK990000200000" }, "a device DENK990000200000 with a certificate for DENK990000100000"},
		"no device certificate":   {func(d *a) { d.Files = d.Files[1:] }, "no device certificate"},
		"another scalar":          {func(d *a) { d.Device.Key = withPoint(t, other, d.Device.Key) }, "a device key with another key's point"},
		"a genuine device's":      {func(d *a) { genuine(t, d) }, "a device certificate that is not of an emulator's issuer"},
		"a wrong signature":       {func(d *a) { flip(d, 225) }, "device certificate: "},
		"another issuer":          {func(d *a) { flip(d, len(d.Files[0].Data)-1) }, "a device certificate that is not of an emulator's issuer"},
		"behind the certificate":  {func(d *a) { d.Files[0].Data = append(slices.Clip(d.Files[0].Data), 0x53, 1, 0) }, "device certificate: more than it and its issuer's"},
		"much behind it":          {func(d *a) { d.Files[0].Data = bytes.Repeat(d.Files[0].Data, 1000) }, "no device certificate"},
		"a role of an issuer":     {func(d *a) { reissue(t, d) }, "a device certificate that is not of an emulator's issuer"},
		"a device as issuer":      {func(d *a) { issue(t, d, cvc.RoleDevice) }, "a device certificate that is not of an emulator's issuer"},
		"any algorithm, often":    {func(d *a) { list(d, 1, 1463) }, "key 1 with 1463 algorithms"},
		"shares that anyone has":  {func(d *a) { awaiting(d, 1, keystore.NewDKEK(1)) }, "in key domain 1, which takes any shares"},
		"a DKEK of any, on 2.6":   {func(d *a) { old(d) }, "key 1 in key domain 0, which takes any shares"},
		"an XKEK of no point":     {func(d *a) { d.Domains[1] = keystore.NewXKEK([]byte{1, 2}) }, "key domain 1: "},
		"an XKEK off the curves":  {func(d *a) { d.Domains[1] = keystore.NewXKEK(make([]byte, 64)) }, "key domain 1: "},
		"no files":                {func(d *a) { d.Files = nil }, "no device certificate"},
		"a cut off certificate":   {func(d *a) { d.Files[0].Data = d.Files[0].Data[:100] }, "device certificate: "},
		"certificate not first":   {func(d *a) { d.Files[0], d.Files[1] = d.Files[1], d.Files[0] }, "no device certificate"},
		"a file twice":            {func(d *a) { d.Files = append(d.Files, d.Files[2]) }, "two files CD00"},
		"300,000 equal files":     {func(d *a) { d.Files = append(d.Files, make([]applet.File, 300_000)...) }, "a file 0000"},
		"an unknown file":         {func(d *a) { d.Files[1].ID = 0x2F04 }, "a file 2F04"},
		"a key as a file":         {func(d *a) { d.Files[1].ID = 0xCC01 }, "a file CC01"},
		"more than the memory":    {func(d *a) { d.Files[2].Data = make([]byte, 76<<10) }, "bytes in a memory of 77824"},
		"key 0":                   {func(d *a) { d.Keys[0] = d.Keys[1] }, "key 0 without a key"},
		"a key of nothing":        {func(d *a) { d.Keys[1] = keystore.Key{} }, "key 1 without a key"},
		"a key too large":         {func(d *a) { d.Firmware = "2.6"; d.Keys = map[byte]keystore.Key{1: wide} }, "key 1, RSA 4096, on firmware 2.6"},
		"an AES key on 1.2":       {func(d *a) { d.Firmware = "1.2"; d.Keys = map[byte]keystore.Key{1: keyOf(t, "aes", 128)} }, "key 1, AES 128, on firmware 1.2"},
		"a key in no domain":      {func(d *a) { in(d, 1, byte(len(d.Domains))) }, "key 1 in key domain 7, which is not there"},
		"a key in an empty slot":  {func(d *a) { in(d, 1, 4) }, "key 1 in key domain 4, which is not there"},
		"key domains on 2.6":      {func(d *a) { d.Firmware, d.Keys = "2.6", nil }, "7 key domains on firmware 2.6"},
		"an XKEK on 2.6":          {func(d *a) { d.Firmware, d.Keys, d.Domains = "2.6", nil, d.Domains[5:6] }, "key domain 0 is not a DKEK on firmware 2.6"},
		"256 key domains":         {func(d *a) { d.Domains = append(d.Domains, make([]keystore.Domain, 249)...) }, "256 key domains"},
		"a DKEK without shares":   {func(d *a) { d.Domains[1] = keystore.NewDKEK(0) }, "key domain 1: "},
		"an XKEK without a group": {func(d *a) { d.Domains[1] = keystore.NewXKEK(nil) }, "key domain 1: "},
		"an XKEK of a long point": {func(d *a) { d.Domains[1] = keystore.NewXKEK(make([]byte, 134)) }, "key domain 1: "},
		"an XKEK of half a point": {func(d *a) { d.Domains[1] = keystore.NewXKEK(make([]byte, 33)) }, "key domain 1: "},

		"SO-PIN of 7 bytes":      {func(d *a) { d.PINs.SO.Value = d.PINs.SO.Value[:7] }, "an SO-PIN that is too short or too long"},
		"no SO-PIN":              {func(d *a) { d.PINs.SO.Value = nil }, "an SO-PIN that is too short or too long"},
		"SO-PIN with 255 tries":  {func(d *a) { d.PINs.SO.Left = 255 }, "SO-PIN with 255 of 15 tries"},
		"SO-PIN of 255 tries":    {func(d *a) { d.PINs.SO.Left, d.PINs.SO.Max = 255, 255 }, "SO-PIN with 255 of 255 tries"},
		"user PIN of 5 bytes":    {func(d *a) { d.PINs.User.Value = d.PINs.User.Value[:5] }, "a user PIN that is too short or too long"},
		"user PIN of 17 bytes":   {func(d *a) { d.PINs.User.Value = make(pinstate.Value, 17) }, "a user PIN that is too short or too long"},
		"an empty user PIN":      {func(d *a) { d.PINs.User.Value = pinstate.Value{} }, "a user PIN that is too short or too long"},
		"user PIN, 255 tries":    {func(d *a) { d.PINs.User.Left = 255 }, "255 of 3 tries"},
		"more than 6 bytes give": {func(d *a) { d.PINs.User.Max = 4 }, "2 of 4 tries"},
		"user PIN of no tries":   {func(d *a) { d.PINs.User.Left, d.PINs.User.Max = 0, 0 }, "0 of 0 tries"},
		"any length":             {func(d *a) { d.PINs.MinLength = 0 }, "a user PIN of at least 0 bytes"},
		"a transport PIN":        {func(d *a) { d.PINs.Options = 0 }, "a transport PIN that no initialisation gave"},
		"tries of no PIN":        {func(d *a) { d.PINs.User.Value = nil }, "no user PIN, and yet what belongs to one"},
		"most tries of no PIN":   {func(d *a) { without(d); d.PINs.User.Max = 3 }, "no user PIN, and yet what belongs to one"},
		"length of no PIN":       {func(d *a) { without(d); d.PINs.MinLength = 6 }, "no user PIN, and yet what belongs to one"},
		"no transport PIN":       {func(d *a) { without(d); d.PINs.Transport = true }, "no user PIN, and yet what belongs to one"},
		"a length of 17":         {func(d *a) { d.PINs.MinLength, d.PINs.Transport = 17, false }, "a user PIN of at least 17 bytes"},
		"for a longer PIN":       {func(d *a) { d.PINs.MinLength, d.PINs.Transport, d.PINs.User.Max = 8, false, 10 }, "2 of 10 tries for a user PIN of its length, at least 8"},
		"for a PIN once longer":  {func(d *a) { d.PINs.User.Value, d.PINs.Transport, d.PINs.User.Max = make(pinstate.Value, 8), false, 10 }, "2 of 10 tries for a user PIN of its length, at least 6"},
		"no login":               {func(d *a) { nobodys(d) }, "no user PIN, and yet what belongs to one"},
		"0 of 2 public keys":     {func(d *a) { d.PINs.Keys.Required = 0 }, "a login by 0 of 2 public keys"},
		"3 of 2 public keys":     {func(d *a) { d.PINs.Keys.Required = 3 }, "a login by 3 of 2 public keys"},
		"91 public keys":         {func(d *a) { d.PINs.Keys.Total = 91 }, "a login by 1 of 91 public keys"},
		"one slot too many":      {func(d *a) { d.Custodians = append(d.Custodians, applet.Custodian{}) }, "3 slots for 2 public keys"},
		"a name twice":           {func(d *a) { d.Custodians[1] = d.Custodians[0] }, "public key 1"},
		"a key without a name":   {func(d *a) { d.Custodians[0].Name = "" }, "public key 0 without a name"},
		"a point without a name": {func(d *a) { d.Custodians[1].Point = d.Custodians[0].Point }, "public key 1 without a name"},
		"a curve without a name": {func(d *a) { d.Custodians[1].Curve = "secp256r1" }, "public key 1 without a name"},
		"an unknown curve":       {func(d *a) { d.Custodians[0].Curve = "" }, "public key 0"},
		"a curve not allowed":    {func(d *a) { register(d, named(t, "secp256k1")) }, "public key 0"},
		"a name too long":        {func(d *a) { d.Custodians[0].Name = strings.Repeat("x", 5000) }, "public key 0"},
		"a point off the curve":  {func(d *a) { d.Custodians[0].Point = make([]byte, 65) }, "public key 0"},
		"set up, never was":      {func(d *a) { d.PINs.Initialised = false }, "PINs or options before the first initialisation"},
		"shipped with keys":      {func(d *a) { d.PINs, d.Custodians = pinstate.Card{}, nil }, "files or keys before the first initialisation"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := goldenCard(t)
			c.change(&d.Applet)
			err := d.Check()
			require.ErrorIs(t, err, applet.ErrState)
			require.Contains(t, err.Error(), c.says)
			for _, secret := range []string{"648219", string(goldenSecret), fmt.Sprintf("%x", goldenSecret)} {
				require.NotContains(t, err.Error(), secret)
			}
		})
	}
}

func in(d *applet.Durable, id, domain byte) {
	k := d.Keys[id]
	k.Domain = domain
	d.Keys[id] = k
}

// nobodys is a card without any way to log in.
func nobodys(d *applet.Durable) {
	without(d)
	d.PINs.Keys, d.Custodians = pinstate.KeyPolicy{}, nil
}

// without is a card without a PIN.
func without(d *applet.Durable) {
	d.PINs.User, d.PINs.MinLength, d.PINs.Transport = pinstate.Reference{}, 0, false
}

// register puts a point of a curve into the first slot.
func register(d *applet.Durable, c *curve.Curve) {
	k, _ := keystore.GenerateEC(chiptest.Seeded("\x09"), c)
	d.Custodians[0].Curve, d.Custodians[0].Point = c.Name(), k.ECPublic().Bytes()
}

// keyOf is a key that a card of firmware 4.1 has made.
func keyOf(t *testing.T, kind string, bits int) keystore.Key {
	t.Helper()
	c := start(t, "4.1", true)
	command := generateRSA(7, bits)
	if kind == "aes" {
		command = apdu.Command{INS: 0x48, P1: 7, P2: 0xB0}
	}
	c.ok(t, command)
	return c.State.Durable().Applet.Keys[7]
}

// withPoint is the scalar of one key with the point of another.
func withPoint(t *testing.T, scalar, point keystore.Key) keystore.Key {
	t.Helper()
	k, err := scalar.Curve().PrivateWithPublic(scalar.EC().Bytes(), point.ECPublic().Bytes())
	require.NoError(t, err)
	return keystore.NewEC(k)
}

// genuine gives a card the point and the name of a device of another root, and
// its certificates, as if they had been read from it.
func genuine(t *testing.T, d *applet.Durable) {
	t.Helper()
	random, on := chiptest.Seeded("genuine"), named(t, "brainpoolP256r1")
	made := func() *curve.Private {
		k, err := keystore.GenerateEC(random, on)
		require.NoError(t, err)
		return k.EC()
	}
	day := chiptest.World("").Now
	root, err := cvc.NewRoot(made(), "DESRCACC100001", day, nil)
	require.NoError(t, err)
	issuer, err := root.NewIssuer(made(), "DEDINK0400001", day, nil)
	require.NoError(t, err)
	device := made().Public()
	d.Files[0].Data, err = issuer.IssueDevice(device, "DENK040414400000", day, nil)
	require.NoError(t, err)
	k, err := on.PrivateWithPublic(d.Device.Key.EC().Bytes(), device.Bytes())
	require.NoError(t, err)
	d.Device = applet.Device{Key: keystore.NewEC(k), Name: "DENK040414400000"}
}

// flip changes one bit of the certificates.
func flip(d *applet.Durable, at int) {
	d.Files[0].Data = bytes.Clone(d.Files[0].Data)
	d.Files[0].Data[at] ^= 1
}

// reissue certifies the device as an issuer, with the key that is known to all.
func reissue(t *testing.T, d *applet.Durable) {
	t.Helper()
	issuer := cvc.EmulatorIssuer()
	chain, err := cvc.ParseChain(d.Files[0].Data)
	require.NoError(t, err)
	body := chain.Device.CertificateBody
	body.Authorization = cvc.Authorize(cvc.RoleIssuer)
	c, err := body.Sign(cvc.ECDSASHA256, cvc.SignEC(issuer.Key, nil))
	require.NoError(t, err)
	d.Files[0].Data = cvc.Chain{Device: c, Issuer: issuer.Certificate}.Bytes()
}

// issue certifies the device by an issuer of its own, whose certificate gives it a
// role.
func issue(t *testing.T, d *applet.Durable, role cvc.Role) {
	t.Helper()
	root := cvc.EmulatorRoot()
	key, err := named(t, "brainpoolP256r1").Generate(chiptest.Seeded("an issuer"))
	require.NoError(t, err)
	body := cvc.CertificateBody{
		CAR: root.Certificate.CHR, CHR: "UTDICAEM0200001", Key: cvc.NewEC(cvc.ECDSASHA256, key.Public()).WithoutDomain(),
		Authorization: cvc.Authorize(role), Effective: root.Certificate.Effective, Expires: root.Certificate.Expires,
	}
	c, err := body.Sign(cvc.ECDSASHA256, cvc.SignEC(root.Key, nil))
	require.NoError(t, err)
	ef, err := cvc.Issuer{Certificate: c, Key: key}.IssueDevice(d.Device.Key.ECPublic(), cvc.Name(d.Device.Name), root.Certificate.Effective, nil)
	require.NoError(t, err)
	d.Files[0].Data = ef
}

// list gives a key so many algorithms.
func list(d *applet.Durable, id byte, n int) {
	k := d.Keys[id]
	k.Algorithms = make([]keystore.Algorithm, n)
	d.Keys[id] = k
}

// awaiting puts a key into a slot and another domain there.
func awaiting(d *applet.Durable, slot byte, domain keystore.Domain) {
	in(d, 1, slot)
	d.Domains[slot] = domain
}

// old is a card of firmware 2.6 whose only DKEK has no share yet, with a key.
func old(d *applet.Durable) {
	k := d.Keys[1]
	k.Domain = 0
	d.Firmware, d.Domains, d.Keys = "2.6", []keystore.Domain{keystore.NewDKEK(1)}, map[byte]keystore.Key{1: k}
}
