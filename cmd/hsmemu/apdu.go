package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"hsmemu/emulator"
)

func newAPDUCommand(a *app) *cobra.Command {
	var card string
	cmd := &cobra.Command{
		Use:   "apdu HEX...",
		Short: "send command APDUs to a card in one session",
		Long: "Sends each command APDU and prints it, the answer, and what both mean.\n" +
			"A dash reads commands from standard input, one a line; blanks and lines that begin with # do not count.\n" +
			"Each call is one power-on of the card.",
		Args: atLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := a.hold(card, makeDefault)
			if err != nil {
				return err
			}
			defer func() { _ = h.Close() }() // everything said has been saved
			return a.exchange(cmd.Context(), h.card, args)
		},
	}
	cmd.Flags().StringVar(&card, "card", defaultCard, "name of the card")
	return cmd
}

// exchange sends the commands of the arguments, and of standard input where an
// argument is a dash.
func (a *app) exchange(ctx context.Context, card *emulator.Card, args []string) error {
	events, stop := card.Watch(1)
	defer stop()
	send := func(text string) error {
		command, err := parseHex(text)
		if err != nil {
			return usageError{err}
		}
		answer, err := card.Transmit(ctx, command)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(a.out, "> %X\n< %X\n  %s\n", command, answer, (<-events).Event)
		return err
	}
	for _, arg := range args {
		if arg != "-" {
			if err := send(arg); err != nil {
				return err
			}
			continue
		}
		lines := bufio.NewScanner(a.in)
		lines.Buffer(nil, 1<<18) // an extended APDU in hexadecimal with blanks
		for lines.Scan() {
			line := strings.TrimSpace(lines.Text())
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			if err := send(line); err != nil {
				return err
			}
		}
		if err := lines.Err(); err != nil {
			return fmt.Errorf("read commands: %w", err)
		}
	}
	return nil
}

// parseHex reads hexadecimal with blanks and colons between the digits.
func parseHex(s string) ([]byte, error) {
	digits := strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || r == ':' {
			return -1
		}
		return r
	}, s)
	b, err := hex.DecodeString(digits)
	if err != nil {
		return nil, fmt.Errorf("not a command in hexadecimal digits: %w", err)
	}
	return b, nil
}
