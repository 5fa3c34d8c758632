package trial

import (
	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/conform"
	"hsmemu/keystore"
	"hsmemu/vsmartcard"
)

// Made is a card as shipped, for Copies; with a seed all that is random about it and
// them comes from that. Errors: those of [emulator.World.Manufacture].
func Made(firmware string, seed *uint64, w emulator.World) (chip.Durable, error) {
	state, err := w.For(chip.Durable{Seed: seed}).Manufacture(chip.Order{Firmware: firmware})
	state.Seed = seed
	return state, err
}

// Copies are cards in memory that begin with a state, to be judged under a name. Their
// RSA keys come from a public pool: nobody keeps them.
func Copies(name string, state chip.Durable, w emulator.World) conform.Target {
	return conform.Target{Name: name, Make: func() (vsmartcard.Card, error) {
		w := w.For(state)
		w.RSA = keystore.PoolGenerator{Rand: w.Rand}
		return emulator.NewTorn(state, w)
	}}
}
