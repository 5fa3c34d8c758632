package trial

import (
	"fmt"

	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/conform"
	"hsmemu/emulator/statedir"
	"hsmemu/keystore"
	"hsmemu/vsmartcard"
)

// Made are cards as shipped, to be judged; with a seed all that is random about them
// comes from that. Errors: those of [emulator.World.Manufacture].
func Made(firmware string, seed *uint64, w emulator.World) (conform.Target, error) {
	state, err := w.For(chip.Durable{Seed: seed}).Manufacture(chip.Order{Firmware: firmware})
	state.Seed = seed
	return inMemory("a new card", state, w), err
}

// Copies are copies of a card of a folder, to be judged. Errors: those of
// [statedir.Dir.Read].
func Copies(d *statedir.Dir, card string, w emulator.World) (conform.Target, error) {
	state, _, err := d.Read(card)
	return inMemory(fmt.Sprintf("copies of card %q", card), state, w), err
}

// inMemory are cards in memory that begin with a state. Their RSA keys come from a public
// pool: nobody keeps them.
func inMemory(name string, state chip.Durable, w emulator.World) conform.Target {
	return conform.Target{Name: name, Make: func() (vsmartcard.Card, error) {
		w := w.For(state)
		w.RSA = keystore.PoolGenerator{Rand: w.Rand}
		return emulator.NewTorn(state, w)
	}}
}
