package view_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/scp03"
	"hsmemu/emulator/view"
	"hsmemu/pinstate"
)

// printed are the lines of a card by their names.
func printed(t *testing.T, c view.Card) map[string]string {
	t.Helper()
	var b strings.Builder
	require.NoError(t, c.Print(&b))
	lines := map[string]string{}
	name := ""
	for line := range strings.Lines(b.String()) {
		first, rest, _ := strings.Cut(line, "  ")
		if first != "" {
			name = first
		}
		lines[name] = strings.TrimSpace(lines[name] + "\n" + strings.TrimSpace(rest))
	}
	return lines
}

func TestPrint_TellsWhatTheNextWrongPINDoes(t *testing.T) {
	const reset, only = pinstate.OptionResetEnabled, pinstate.OptionResetEnabled | pinstate.OptionResetOnly
	for _, c := range []struct {
		options       pinstate.Options
		so, user      uint8
		transport     bool
		state         string
		soPIN, userIs string
	}{
		{0, 15, 3, false, "operational", "15 of 15 tries left; the next wrong one leaves 14; at 0 no command unblocks it", "3 of 3 tries left; the next wrong one leaves 2"},
		{0, 1, 1, false, "operational", "1 of 15 tries left; the next wrong one blocks it: no command unblocks it, the user PIN goes on working", "1 of 3 tries left; the next wrong one blocks the user PIN: only INITIALIZE with the SO-PIN helps, which erases the keys"},
		{reset, 2, 0, false, "user PIN blocked", "2 of 15 tries left; the next wrong one leaves 1; at 0 no command unblocks it", "blocked, 0 of 3 tries left; the SO-PIN can unblock it and set a new one"},
		{only, 2, 1, true, "transport PIN has to be changed", "2 of 15 tries left; the next wrong one leaves 1; at 0 no command unblocks it", "1 of 3 tries left; the next wrong one blocks the user PIN: the SO-PIN can reset the counter"},
		{only, 0, 0, true, "transport PIN blocked, SO-PIN blocked", "blocked, 0 of 15 tries left; no command unblocks it, and only the vendor's firmware update makes a new card of it: keys gone, new identity", "blocked, 0 of 3 tries left; no command can unblock it, since the SO-PIN is blocked"},
		{reset, 1, 0, false, "user PIN blocked", "1 of 15 tries left; the next wrong one blocks it: no command unblocks it", "blocked, 0 of 3 tries left; the SO-PIN can unblock it and set a new one"},
		{reset, 0, 1, false, "operational, SO-PIN blocked", "blocked, 0 of 15 tries left; no command unblocks it, the user PIN goes on working, and only the vendor's firmware update makes a new card of it: keys gone, new identity", "1 of 3 tries left; the next wrong one blocks the user PIN: no command can unblock it, since the SO-PIN is blocked"},
	} {
		d := full(t)
		d.Applet.PINs = pinstate.Card{
			Initialised: true, Options: c.options, Transport: c.transport,
			SO: pinstate.Reference{Value: pinstate.Value("57621880"), Left: c.so, Max: 15}, User: pinstate.Reference{Value: pinstate.Value("648219"), Left: c.user, Max: 3},
		}
		lines := printed(t, view.Of("lab", d, "none", 1))
		require.Equal(t, c.state, lines["State"])
		require.Equal(t, c.soPIN, lines["SO-PIN"])
		require.Equal(t, c.userIs, lines["User PIN"])
	}
}

func TestPrint_TellsOfKeysDomainsAndFiles(t *testing.T) {
	d := filled(t)
	d.Manager = chip.Manager{Counter: 1}
	require.Empty(t, printed(t, view.Of("lab", d, "none", 1))["Manager keys"], "as every other card's")
	transport := scp03.NewKeys(chip.MasterKey, chip.MasterKey, chip.MasterKey)
	d.Manager.KeySets = []chip.KeySet{
		{Version: chip.TransportVersion, Keys: transport},
		{Version: chip.KeyVersion, Keys: chipKeys(t, d)},
		{Version: 0x7F, Keys: scp03.NewKeys(chip.MasterKey, chip.MasterKey, [16]byte{})},
	}
	lines := printed(t, view.Of("lab", d, "none", 1).Runs(7, "reader 0", true, chip.Boot(d)))
	for name, wants := range map[string][]string{
		"Options":     {"reset with SO-PIN, transport PIN, replaceable public keys, unknown 8000"},
		"Public keys": {"1 of 2 keys needed, 1 registered"},
		"Keys": {
			"1: RSA-1024, \"sign\uFFFDing\", 4294967295 uses left\n", "\n5: EC secp224r1, 0 uses left\n", "\n6: EC secp256r1, only ECDSA, wrap\n",
			"\n7: EC secp384r1, key domain 1\n", "\n25: AES-256",
		},
		"Key domains":  {"0: DKEK, key check value ", "\n2: DKEK, 2 of 3 shares missing\n", "\n4: empty\n5: XKEK, no key yet\n6: XKEK, key check value "},
		"Files":        {"2F02 device certificate, 466 bytes\n", "\nCE01 certificate request, 2 bytes\nCE02 certificate, 2 bytes"},
		"Manager keys": {"version 01, transport keys\n", "\nversion 30, those of the chip\n", "\nversion 7F, somebody's own, which a portal does not have"},
		"Seal":         {"none: whoever reads the file has the keys"},
		"Process":      {"7, reader 0, ejected"},
		"Session":      {"application not selected"},
	} {
		for _, want := range wants {
			require.Contains(t, lines[name], want, name)
		}
	}
}

func TestPrintList_TellsWhatIsKnown(t *testing.T) {
	d := full(t)
	open := view.Of("open", d, "none", 1).Runs(7, "reader 0", false, chip.Boot(d))
	var b strings.Builder
	require.NoError(t, view.PrintList([]view.Card{view.Closed("shut", "tpm", 1), open, view.Broken("odd", "damaged file")}, &b))
	require.Equal(t, "shut                             sealed by tpm\n"+
		"open  DENK9900001  firmware 4.1  transport PIN has to be changed  process 7\n"+
		"odd                              damaged file\n", b.String())
}

// A description comes from another process, too, which may be of another
// version: whatever is missing in it or new, it is printed.
func TestPrint_TakesAnyDescription(t *testing.T) {
	later := view.State("terminated")
	require.Equal(t, "terminated", printed(t, view.Card{State: &later})["State"])
	state := view.Operational
	for _, c := range []view.Card{{}, {State: &state}, {State: &state, SOPIN: &view.PIN{}, UserPIN: &view.PIN{State: view.PINBlocked}}, view.Closed("lab", "tpm", 1)} {
		var b strings.Builder
		require.NoError(t, c.Print(&b))
		require.NoError(t, view.PrintList([]view.Card{c}, &b))
	}
}

// chipKeys are what the keys of a card are until PUT KEY makes others (UPDATE-16).
func chipKeys(t *testing.T, d chip.Durable) scp03.Keys {
	t.Helper()
	_, r := chip.Step(applet.Env{}, chip.Boot(d), apdu.Command{CLA: apdu.ClassProprietary, INS: apdu.InsGetData, P2: 0xCF, Ne: 256}.Bytes())
	return scp03.Derive(chip.MasterKey, scp03.Diversification(r.Response[2:12]))
}
