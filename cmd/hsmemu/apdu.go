package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
)

func newAPDUCommand(a *app) *cobra.Command {
	var card string
	cmd := &cobra.Command{
		Use:   "apdu HEX...",
		Short: "send command APDUs to a card in one session",
		Long: "Sends each command APDU and prints it, the answer, and what both mean.\n" +
			"A dash reads commands from standard input, one a line; blanks and lines that begin with # do not count.\n" +
			"Each call is one power-on of the card, unless a process runs it: then commands go into the session that the\n" +
			"programs of its reader share, and the card loses its power, and a login, some seconds after the last one.",
		Args: atLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, arg := range args {
				if _, err := parseHex(arg); err != nil && arg != fromInput {
					return usageError{err}
				}
			}
			say, end, err := a.speaker(cmd.Context(), card)
			if err != nil {
				return err
			}
			defer func() { _ = end() }() // everything said has been saved
			return a.exchange(cmd.Context(), say, args)
		},
	}
	cmd.Flags().StringVar(&card, "card", defaultCard, "name of the card")
	return cmd
}

// speaker sends a command to a card; what it meant is nil where the card did not
// see it or failed in it.
type speaker func(ctx context.Context, command []byte) (answer []byte, meant fmt.Stringer, err error)

// speaker reaches a card through the process that runs it, or else powers it on.
func (a *app) speaker(ctx context.Context, name string) (say speaker, end func() error, err error) {
	c, err := a.running(ctx, name)
	if err == nil {
		return func(ctx context.Context, command []byte) ([]byte, fmt.Stringer, error) {
			answer, e, err := c.Exchange(ctx, command)
			if e == nil {
				return answer, nil, err
			}
			return answer, e, err
		}, c.Close, nil
	}
	h, err := a.hold(name, makeDefault)
	if err != nil {
		return nil, nil, err
	}
	events, stop := h.Watch(1)
	return func(ctx context.Context, command []byte) ([]byte, fmt.Stringer, error) {
			answer, err := h.Transmit(ctx, command)
			select {
			case e := <-events:
				return answer, e, err
			default:
				return answer, nil, err
			}
		}, func() error {
			stop()
			return h.Close()
		}, nil
}

// fromInput is the argument that stands for commands on standard input.
const fromInput = "-"

// exchange sends the commands of the arguments, and of standard input where an
// argument is a dash.
func (a *app) exchange(ctx context.Context, say speaker, args []string) error {
	send := func(text string) error {
		command, err := parseHex(text)
		if err != nil {
			return err
		}
		answer, meant, err := say(ctx, command)
		if err != nil {
			return err
		}
		meaning := "no account of this command: the card did not see it, or failed in it"
		if meant != nil {
			meaning = meant.String()
		}
		_, err = fmt.Fprintf(a.out, "> %X\n< %X\n  %s\n", command, answer, meaning)
		return err
	}
	for _, arg := range args {
		if arg != fromInput {
			if err := send(arg); err != nil {
				return err
			}
			continue
		}
		n := 0
		for line, err := range a.lines() {
			if err != nil {
				return fmt.Errorf("read commands: %w", err)
			}
			n++
			line = strings.TrimSpace(line)
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			if err := send(line); err != nil {
				return fmt.Errorf("line %d: %w", n, err)
			}
		}
	}
	return nil
}

// lines are those of standard input, until it ends or a signal ends the wait
// for more: errInterrupted.
func (a *app) lines() iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		scanned := make(chan string)
		var failed error
		go func() {
			defer close(scanned)
			lines := bufio.NewScanner(a.in)
			lines.Buffer(nil, 1<<18) // an extended APDU in hexadecimal with blanks
			for lines.Scan() {
				scanned <- lines.Text()
			}
			failed = lines.Err()
		}()
		for {
			select {
			case line, more := <-scanned:
				switch {
				case more && yield(line, nil):
					continue
				case !more && failed != nil:
					yield("", failed)
				}
				return
			case <-a.interrupted:
				yield("", errInterrupted)
				return
			}
		}
	}
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
	var wrong hex.InvalidByteError
	switch {
	case errors.As(err, &wrong):
		return nil, fmt.Errorf("not a command: %q is no hexadecimal digit", rune(wrong))
	case err != nil:
		return nil, errors.New("not a command: half a byte at the end")
	}
	return b, nil
}
