package chip_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
	"hsmemu/applet/cvc"
	"hsmemu/applet/tlv"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/chiptest"
	"hsmemu/emulator/scp03"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	require.NoError(t, err)
	return b
}

// What is selected and who answers: APDU-24 to APDU-37.
func TestStep_Selection(t *testing.T) {
	t.Parallel()
	const (
		aid     = "E82B0601040181C31F0201"
		sel     = "00A4040C0B" + aid
		verify  = "0020008106" + "363438323139"
		query   = "00200081"
		manager = "00A4040008A00000015100000000"
	)
	for _, c := range []struct {
		name    string
		script  string
		powered bool // whether the application is selected in the end
	}{
		{"APDU-24 nothing is selected after power on", lines(query + " => 6D00"), false},
		{"APDU-25 any instruction before selection", lines("00990000 => 6D00", "8058000000 => 6D00", "00B12F020454020000 => 6D00"), false},
		{"APDU-25 INITIALIZE before selection does nothing", lines("80500000 => 6D00"), false},
		{"APDU-27 SELECT by FID before selection", lines("00A40000022F0200 => 6A82"), false},
		{"APDU-28 foreign AID before selection", lines("00A4040005A000000063 => 6A82"), false},
		{"APDU-29 the application", lines(sel, query+" => 63C3"), true},
		{"APDU-28 its name cut short", lines("00A4040C0AE82B0601040181C31F02 => 6A82", query+" => 6D00"), false},
		{"APDU-28 its name with more behind it", lines("00A4040C0C"+aid+"00 => 6A82", query+" => 6D00"), false},
		{"APDU-14 a form it does not know", lines("00A404080B"+aid+" => 6A86", query+" => 6D00"), false},
		{"APDU-14 a form it does not know, when selected", lines(sel, verify, "00A404080B"+aid+" => 6A86", query), true},
		{"APDU-35 selected again", lines(sel, verify, query, sel, query+" => 63C3"), true},
		{"APDU-28 foreign AID while selected", lines(sel, verify, "00A4040005A000000063 => 6A82", query), true},
		{"APDU-37 card manager", lines(sel, verify, manager+" => 6F0A8408A0000001510000009000", query+" => 6D00"), false},
		{"APDU-37 card manager without Le", lines("00A4040C08A000000151000000"), false},
		{"APDU-37 no name is the card manager", lines(sel, "00A4040000 => 6F0A8408A0000001510000009000", query+" => 6D00"), false},
		{"APDU-37 back from the card manager", lines(sel, verify, manager+" => 6F0A8408A0000001510000009000", sel, query+" => 63C3"), true},
		{"APDU-11 a channel that is none", lines("0CA4040C0B"+aid+" => 6A82", query+" => 6D00"), false},
		{"APDU-10 class 80", lines("80A4040C0B"+aid, query+" => 63C3"), true},
		{"APDU-16 no APDU", lines(" => 6700", "00 => 6700", "00A404 => 6700", "00A4040C0CE8 => 6700"), false},
		{"APDU-16 no APDU, when selected", lines(sel, verify, "002000810631 => 6700", query), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			k := manufacture(t, "4.1", "A")
			k.ok(t, selectApplication)
			k.ok(t, setup(0x0001, userPIN, soPIN, 3))
			k.cut()
			k.play(t, c.script)
			require.NotEmpty(t, k.Result.Event.Command)
			require.Equal(t, c.powered, k.State.Selected)
		})
	}
}

// What stands beside the application survives every step and every boot.
func TestStep_KeepsWhatIsNotTheApplications(t *testing.T) {
	t.Parallel()
	seed := uint64(7)
	d, err := chip.Manufacture(chiptest.World("\x01"), chip.Order{})
	require.NoError(t, err)
	d.Seed, d.KeyPool = &seed, true
	c := boot(d, "\x02")
	require.Equal(t, d, c.State.Durable())
	c.ok(t, selectApplication)
	c.ok(t, setup(0x0001, userPIN, soPIN, 3))
	require.Len(t, c.Result.Commits, 1)
	require.Equal(t, &seed, c.Result.Commits[0].Seed)
	require.True(t, c.Result.Commits[0].KeyPool)
	c.send(apdu.Command{INS: 0xA4, P1: 0x04})
	require.Equal(t, &seed, c.State.Durable().Seed)
	require.True(t, c.State.Durable().KeyPool)
	require.True(t, c.State.Durable().Applet.PINs.Initialised)
}

// A card as shipped, made on 23 November 2026.
//
// Shows CVC-24 and CVC-26.
func TestManufacture(t *testing.T) {
	t.Parallel()
	d, err := chip.Manufacture(chiptest.World("\x01"), chip.Order{})
	require.NoError(t, err)
	a := d.Applet
	require.Equal(t, applet.DefaultFirmware, a.Firmware)
	require.Regexp(t, regexp.MustCompile(`^DENK99\d{5}$`), a.Serial())
	require.Equal(t, a.Serial()+"00000", a.Device.Name)
	require.Len(t, a.Device.Name, 16)
	require.False(t, a.PINs.Initialised)
	require.Empty(t, a.Keys)
	require.Empty(t, a.Domains)
	require.Empty(t, a.Custodians)
	require.Nil(t, d.Seed)
	require.False(t, d.KeyPool)
	require.Len(t, a.Files, 1)
	require.Equal(t, uint16(0x2F02), a.Files[0].ID)

	chain, err := cvc.ParseChain(a.Files[0].Data)
	require.NoError(t, err)
	verified, err := chain.Verify(cvc.KnownRoots())
	require.NoError(t, err)
	require.Equal(t, cvc.OriginEmulator, verified.Origin())
	require.Equal(t, "/UTSRCAEM1/UTDICAEM01/"+a.Serial(), verified.Path())
	require.Equal(t, a.Device.Key.ECPublic().Bytes(), chain.Device.Key.Point)
	require.Equal(t, "brainpoolP256r1", a.Device.Key.Curve().Name())
	// Five years less a day, as the vendor's.
	require.Equal(t, "2026-11-23", chain.Device.Effective.Format(time.DateOnly))
	require.Equal(t, "2031-11-22", chain.Device.Expires.Format(time.DateOnly))
	require.Empty(t, verified.Outside(time.Date(2026, time.November, 23, 0, 0, 0, 0, time.UTC)))
	// OpenSC reads no more than this of the file.
	require.LessOrEqual(t, len(a.Files[0].Data), 1024)
}

// EF 2F02 looks like that of a real device: the same objects in the same order,
// and those that have no name or date in them of the same length.
func TestManufacture_FileLooksReal(t *testing.T) {
	t.Parallel()
	d, err := chip.Manufacture(chiptest.World("\x01"), chip.Order{})
	require.NoError(t, err)
	dir := filepath.Join("..", "..", "..", "shared", "vectors")
	if _, err = os.Stat(dir); os.IsNotExist(err) {
		t.Skip("vectors of real cards are not here")
	}
	text, err := os.ReadFile(filepath.Join(dir, "nitrokey-hsm2-fw4.1-ef2f02.hex"))
	require.NoError(t, err)
	genuine, err := cvc.ParseChain(unhex(t, string(text)))
	require.NoError(t, err)
	ours, err := cvc.ParseChain(d.Applet.Files[0].Data)
	require.NoError(t, err)
	require.Equal(t, skeleton(t, genuine.Device.Raw), skeleton(t, ours.Device.Raw))
	require.Equal(t, len(genuine.Device.CHR), len(ours.Device.CHR))
	require.Equal(t, genuine.Device.Authorization, ours.Device.Authorization)
}

// skeleton is the tags of a certificate and the lengths of what is always the
// same size.
func skeleton(t *testing.T, b []byte) string {
	t.Helper()
	var out strings.Builder
	list, err := tlv.Parse(b)
	require.NoError(t, err)
	for _, n := range list {
		switch n.Tag {
		case 0x7F21, 0x7F4E, 0x7F49, 0x7F4C:
			fmt.Fprintf(&out, "%s(%s)", n.Tag, skeleton(t, n.Value))
		case 0x42, 0x5F20:
			fmt.Fprintf(&out, "%s ", n.Tag)
		default:
			fmt.Fprintf(&out, "%s[%d] ", n.Tag, len(n.Value))
		}
	}
	return out.String()
}

func TestManufacture_Orders(t *testing.T) {
	t.Parallel()
	for _, p := range applet.Profiles() {
		d, err := chip.Manufacture(chiptest.World("\x01"), chip.Order{Firmware: p.Name, Serial: "DENK0404144"})
		require.NoError(t, err)
		require.Equal(t, p.Name, d.Applet.Firmware)
		require.Equal(t, "DENK040414400000", d.Applet.Device.Name)
		require.Equal(t, p.ATR, d.ATR())
	}
	for name, o := range map[string]chip.Order{
		"unknown firmware": {Firmware: "5.0"}, "serial too long": {Serial: "DENK04041440"}, "serial in small letters": {Serial: "denk0404144"},
		"serial with a blank": {Serial: "DENK 404144"},
	} {
		_, err := chip.Manufacture(chiptest.World("\x01"), o)
		require.Error(t, err, name)
		require.True(t, strings.HasPrefix(err.Error(), "manufacture: "), err.Error())
	}
}

// A blank chip of every generation is one that DELETE could have left: it has the
// card manager, with transport keys, and no application that would answer: UPDATE-27 and
// UPDATE-31.
func TestManufacture_Blank(t *testing.T) {
	t.Parallel()
	for _, p := range applet.Profiles() {
		d, err := chip.Manufacture(chiptest.World("\x01"), chip.Order{Firmware: p.Name, Blank: true})
		require.NoError(t, err)
		require.NoError(t, d.Check())
		require.Equal(t, chip.Empty, d.Manager.Stage)
		require.Equal(t, p.ATR, d.ATR())
		k := boot(d, "\x02")
		k.play(t, lines("00A4040C0BE82B0601040181C31F0201 => 6A82", "00A4040008A00000015100000000 => 6F0A8408A0000001510000009000"))
		data := k.ok(t, apdu.Command{CLA: 0x80, INS: 0xCA, P1: 0x9F, P2: 0x7F, Ne: 256})
		require.Len(t, data, 45)
		l := &loader{card: k, version: chip.TransportVersion, keys: func(scp03.Diversification) scp03.Keys {
			return scp03.NewKeys(chip.MasterKey, chip.MasterKey, chip.MasterKey)
		}}
		l.refusesVersion(t, chip.KeyVersion)
		l.begin(t, scp03.All)
		put, answer := l.putting(t, chip.TransportVersion, chip.KeyVersion, newKeys(string(chip.MasterKey[:])))
		require.Equal(t, answer, l.must(t, put))
		l.cut()
		l.refusesVersion(t, chip.TransportVersion)
		(&loader{card: k}).begin(t, scp03.All)
	}
	like := chip.Usual()
	_, err := chip.Manufacture(chiptest.World("\x01"), chip.Order{Blank: true, Like: &like})
	require.ErrorIs(t, err, chip.ErrSituation)
}

// No two cards are alike, unless their worlds are.
func TestManufacture_IsAsRandomAsItsWorld(t *testing.T) {
	t.Parallel()
	one, err := chip.Manufacture(chiptest.World("\x01"), chip.Order{})
	require.NoError(t, err)
	same, err := chip.Manufacture(chiptest.World("\x01"), chip.Order{})
	require.NoError(t, err)
	other, err := chip.Manufacture(chiptest.World("\x02"), chip.Order{})
	require.NoError(t, err)
	require.Equal(t, stored(t, one), stored(t, same))
	require.NotEqual(t, one.Applet.Device.Name, other.Applet.Device.Name)
	require.NotEqual(t, one.Applet.Device.Key.ECPublic().Bytes(), other.Applet.Device.Key.ECPublic().Bytes())

	env := chiptest.World("\x01")
	env.Deterministic = false
	random, err := chip.Manufacture(env, chip.Order{})
	require.NoError(t, err)
	require.False(t, bytes.Equal(one.Applet.Files[0].Data, random.Applet.Files[0].Data), "signed with RFC 6979 although nobody asked for it")

	for n := range 45 { // wherever randomness ends, there is no card
		env := chiptest.World("\x01")
		env.Rand = iotest.TimeoutReader(bytes.NewReader(make([]byte, n)))
		env.Deterministic = false
		_, err := chip.Manufacture(env, chip.Order{})
		require.Error(t, err, "%d bytes", n)
	}
}

// A state that is printed shows no secrets, whatever it is in.
func TestState_PrintsNoSecrets(t *testing.T) {
	t.Parallel()
	c := manufacture(t, "4.1", "A")
	equip(t, c)
	secrets := []string{userPIN, soPIN}
	half := &loader{card: manufacture(t, "4.0", "A")}
	half.load(t, "4.1")
	half.ok(t, selectApplication)
	half.begin(t, scp03.All)
	half.must(t, requesting(newName))
	scalar := string(half.State.Durable().Manager.Key.EC().Bytes())
	for _, v := range []any{half.State, &half.State, half.State.Durable(), half.Result} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			text := fmt.Sprintf(verb, v)
			require.NotContains(t, text, strings.Trim(fmt.Sprint([]byte(scalar)), "[]"), "%s of %T", verb, v)
			require.NotContains(t, strings.ToUpper(text), fmt.Sprintf("%X", scalar), "%s of %T", verb, v)
		}
	}
	for _, v := range []any{c.State, &c.State, c.State.Durable(), c.Result, []chip.Durable{c.State.Durable()}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
			text := fmt.Sprintf(verb, v)
			for _, s := range secrets {
				require.NotContains(t, text, s, "%s of %T", verb, v)
				require.NotContains(t, text, fmt.Sprint([]byte(s))[1:], "%s of %T", verb, v)
				require.NotContains(t, strings.ToUpper(text), fmt.Sprintf("%X", s), "%s of %T", verb, v)
			}
		}
	}
}
