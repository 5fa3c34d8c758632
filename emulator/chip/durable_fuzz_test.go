package chip_test

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
	"hsmemu/emulator/chip"
)

// FuzzDurable takes any text for the content of a card's file: it is refused,
// or it is a card that wakes up and answers, whatever it is asked.
func FuzzDurable(f *testing.F) {
	golden, err := os.ReadFile(goldenPath(goldenForm))
	require.NoError(f, err)
	f.Add(golden)
	for _, p := range applet.Profiles() {
		c := manufacture(f, p.Name, "A")
		f.Add([]byte(stored(f, c.State.Durable())))
		c.ok(f, selectApplication)
		c.ok(f, setup(0x000D, userPIN, soPIN, 3))
		f.Add([]byte(stored(f, c.State.Durable())))
	}
	f.Add([]byte("{}"))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var d chip.Durable
		if err := json.Unmarshal(text, &d); err != nil {
			require.Equal(t, chip.Durable{}, d, "nothing is taken over in part")
			return
		}
		form := stored(t, d)
		var again chip.Durable
		require.NoError(t, json.Unmarshal([]byte(form), &again))
		require.Equal(t, form, stored(t, again))

		c := boot(d, "\x02")
		_ = d.ATR()
		_ = d.Applet.Serial()
		for _, command := range asked(d) {
			c.send(command)
			require.NoError(t, c.Result.Event.Defect, "%v", command)
			require.NotEmpty(t, c.Result.Event.String())
		}
		require.Equal(t, form, stored(t, d), "no step changes the state that it was given")
	})
}

// asked are commands for every part of a state.
func asked(d chip.Durable) []apdu.Command {
	list := []apdu.Command{
		selectApplication,
		{INS: 0x20, P2: 0x81},
		{INS: 0x20, P2: 0x85},
		{INS: 0x20, P2: 0x88},
		verify(0x81, string(d.Applet.PINs.User.Value)),
		{INS: 0xB1, P1: 0x2F, P2: 0x02, Data: []byte{0x54, 2, 0, 0}, Ne: 65536, Extended: true},
		{CLA: 0x80, INS: 0x58, Ne: 65536, Extended: true},
		{CLA: 0x80, INS: 0x54, Ne: 256},
		{CLA: 0x80, INS: 0x54, P1: 1, Ne: 256},
		generate(9, "secp256r1"),
	}
	for slot := range byte(3) {
		list = append(list, apdu.Command{CLA: 0x80, INS: 0x52, P2: slot, Ne: 256})
	}
	for id, k := range d.Applet.Keys {
		list = append(list, apdu.Command{CLA: 0x80, INS: 0x72, P1: id, P2: 0x92, Ne: 65536, Extended: true})
		for _, a := range k.Algorithms {
			list = append(list,
				apdu.Command{CLA: 0x80, INS: 0x68, P1: id, P2: byte(a), Data: make([]byte, 32), Ne: 65536, Extended: true},
				apdu.Command{CLA: 0x80, INS: 0x62, P1: id, P2: byte(a), Data: make([]byte, 65), Ne: 65536, Extended: true},
				apdu.Command{CLA: 0x80, INS: 0x78, P1: id, P2: byte(a), Data: make([]byte, 32), Ne: 65536, Extended: true})
		}
	}
	list = append(list, setup(0x000D, userPIN, soPIN, 3), verify(0x81, userPIN), generateRSA(2, 1024))
	return list
}
