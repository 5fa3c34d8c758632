// Command replay runs a command with a card in a private daemon, and prints nothing. The card
// computes each signature once: when it is asked for the same one again, the answer
// that it gave comes at once. What a program then takes is the program's own time and
// that of the way to the card, with no cryptography in it.
//
//	go run .ci/replay.go -pin 648219 command argument …
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"sync"

	"hsmemu/applet/apdu"
	"hsmemu/applet/client"
	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/vsmartcard/pcscd"
)

// replaying is a card that remembers what it signed last.
type replaying struct {
	*emulator.Card
	mu              sync.Mutex
	command, answer []byte
}

// Transmit implements vsmartcard.Card.
func (r *replaying) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	if len(command) < 2 || command[1] != apdu.InsSign {
		return r.Card.Transmit(ctx, command)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if bytes.Equal(r.command, command) {
		return r.answer, nil
	}
	answer, err := r.Card.Transmit(ctx, command)
	if err == nil && bytes.HasSuffix(answer, []byte{0x90, 0x00}) {
		r.command, r.answer = bytes.Clone(command), bytes.Clone(answer)
	}
	return answer, err
}

func main() {
	pin := flag.String("pin", "", "user PIN of the card, which is initialised with it")
	flag.Parse()
	if err := run(*pin, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "replay:", err)
		os.Exit(1)
	}
}

func run(pin string, command []string) (err error) {
	if len(command) == 0 {
		return errors.New("no command")
	}
	ctx := context.Background()
	card, err := emulator.NewCard(chip.Order{}, emulator.System())
	if err != nil {
		return err
	}
	c := client.New(card)
	if _, err := c.Select(ctx); err != nil {
		return err
	}
	if err := c.Initialise(ctx, client.Setup{Options: 1, SOPIN: []byte("57621880"), PIN: []byte(pin), Tries: 3}); err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "replay-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	daemon, err := pcscd.Start(folder, pcscd.Slot{Reader: pcscd.NitrokeyHSM(card.TokenSerial(), 0), Card: &replaying{Card: card}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, daemon.Close()) }()
	program := exec.Command(command[0], command[1:]...)
	program.Env = append(os.Environ(), daemon.Env)
	program.Stdout, program.Stderr = os.Stdout, os.Stderr
	return program.Run()
}
