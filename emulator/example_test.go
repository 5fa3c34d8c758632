package emulator_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"

	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/vsmartcard/pcscd"
)

// A program gets a card of its own in three lines: a card, a daemon with the
// card in its reader, and the environment that leads the program there. No
// root, no system daemon, any number side by side.
func Example() {
	dir, err := os.MkdirTemp("", "hsmemu-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	card, _ := emulator.NewCard(chip.Order{Serial: "DENK0404144"}, emulator.System())
	daemon, _ := pcscd.Start(dir, pcscd.Slot{Reader: pcscd.NitrokeyHSM(card.TokenSerial(), 0), Card: card})
	defer daemon.Close()

	tool := exec.Command("sc-hsm-tool")
	tool.Env = append(os.Environ(), daemon.Env)
	out, _ := tool.Output()
	fmt.Println(strings.SplitN(string(out), "\n", 2)[0])
	// Output: Version              : 4.1
}
