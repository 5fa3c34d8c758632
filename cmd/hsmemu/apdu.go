package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/spf13/cobra"

	"hsmemu/cmd/hsmemu/commandline"
	"hsmemu/emulator/control"
	"hsmemu/emulator/view"
)

func newAPDUCommand(a *app) *cobra.Command {
	var card string
	var expect []string
	var selects, asJSON bool
	cmd := &cobra.Command{
		Use:   "apdu HEX...",
		Short: "send command APDUs to a card in one session",
		Long: "Sends each command APDU and prints it whole, with a PIN that is in it, the answer, and what both mean.\n" +
			"A dash reads commands from standard input, one a line; blanks and lines that begin with # do not count.\n" +
			"Each call is one power-on of the card, unless a process runs it: then commands go into the session that the\n" +
			"programs of its reader share, and the card loses its power, and a login, some seconds after the last one.\n" +
			"--expect is given once for every command, or once for each in their order; the last one holds for those\n" +
			"that follow. An X stands for any digit, as in 63CX. The first answer that is another ends it with exit code 1.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && !selects {
				return commandline.OneOrMore(cmd, args)
			}
			expected, err := view.ParseExpectations(expect)
			if err != nil {
				return commandline.Usage(err)
			}
			for _, arg := range args {
				if _, err := control.ParseCommand(arg); err != nil && arg != fromInput {
					return commandline.Usage(a.subject().ByFlag(cmd, args, err))
				}
			}
			s, err := a.open(cmd.Context(), card, makeDefault)
			if err != nil {
				return err
			}
			defer func() { _ = s.Close() }() // everything said has been saved
			d := control.Dialogue{Session: s, Card: card, Expect: expected, Tell: func(e view.Exchange) error {
				if asJSON {
					return json.NewEncoder(a.out).Encode(e)
				}
				_, err := io.WriteString(a.out, e.Words())
				return err
			}}
			if selects {
				err = d.Select(cmd.Context())
			}
			for _, arg := range args {
				switch {
				case err != nil:
					return err
				case arg == fromInput:
					err = d.SayAll(cmd.Context(), a.lines())
				default:
					err = d.Say(cmd.Context(), arg)
				}
			}
			return cmp.Or(err, d.End())
		},
	}
	cmd.Flags().StringVar(&card, "card", defaultCard, "name of the card")
	cmd.Flags().BoolVar(&selects, "select", false, "select the application first, which has to succeed")
	cmd.Flags().StringArrayVar(&expect, "expect", nil, "status `WORD` that the answer has to have; may be repeated")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, a line for each command")
	return cmd
}

// fromInput is the argument that stands for commands on standard input.
const fromInput = "-"

// longestLine has room for an extended APDU in hexadecimal with blanks.
const longestLine = 1 << 18

// lines are those of standard input, until it ends or a signal ends the wait
// for more: errInterrupted.
func (a *app) lines() iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		lines := bufio.NewScanner(a.in)
		lines.Buffer(nil, longestLine)
		for {
			more, err := unlessInterrupted(a, func() (bool, error) { return lines.Scan(), lines.Err() })
			if errors.Is(err, bufio.ErrTooLong) {
				err = fmt.Errorf("a line is longer than %d characters", longestLine)
			}
			if err != nil {
				yield("", err)
				return
			}
			if !more || !yield(lines.Text(), nil) {
				return
			}
		}
	}
}
