package chip_test

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet"
	"hsmemu/emulator/chip"
	"hsmemu/keystore"
)

// A file whose checksum is right may still hold what no card is.
func TestDurable_RefusesWhatIsNoCard(t *testing.T) {
	t.Parallel()
	golden, err := os.ReadFile(goldenPath(goldenForm))
	require.NoError(t, err)
	read := func() (d chip.Durable) {
		require.NoError(t, json.Unmarshal(golden, &d))
		return d
	}
	texts := map[string]string{"null": "null", "empty": "{}"}
	for name, spoil := range map[string]func(*applet.Durable){
		"firmware":    func(d *applet.Durable) { d.Firmware = "4.7" },
		"device name": func(d *applet.Durable) { d.Device.Name = "" },
		"device key":  func(d *applet.Durable) { d.Device.Key = d.Keys[1] },
		"no device":   func(d *applet.Durable) { d.Device.Key = keystore.Key{} },
		"key 0":       func(d *applet.Durable) { d.Keys = maps.Clone(d.Keys); d.Keys[0] = d.Keys[1] },
		"no key":      func(d *applet.Durable) { d.Keys = maps.Clone(d.Keys); d.Keys[200] = keystore.Key{} },
		"curve":       func(d *applet.Durable) { d.Custodians[0].Curve = "ed25519" },
		"point":       func(d *applet.Durable) { d.Custodians[0].Curve = "secp256r1" },
		"custodians":  func(d *applet.Durable) { d.Custodians = slices.Repeat(d.Custodians[1:], 129) },
	} {
		d := read()
		spoil(&d.Applet)
		texts[name] = stored(t, d)
	}
	for name, text := range texts {
		d := read()
		require.ErrorIs(t, json.Unmarshal([]byte(text), &d), applet.ErrState, name)
		require.True(t, stored(t, read()) == stored(t, d), "%s: nothing is taken over", name)
	}
	d := read()
	require.ErrorContains(t, json.Unmarshal([]byte(`{"more":1}`), &d), "unknown field")
}
