package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/spf13/cobra"

	"hsmemu/applet/apdu"
	"hsmemu/cmd/hsmemu/commandline"
	"hsmemu/emulator/control"
	"hsmemu/emulator/view"
)

func newAPDUCommand(a *app) *cobra.Command {
	var card string
	var expect []string
	var x exchanges
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
			if len(args) == 0 && !x.selects {
				return commandline.OneOrMore(cmd, args)
			}
			var err error
			if x.expect, err = view.ParseExpectations(expect); err != nil {
				return commandline.Usage(err)
			}
			for _, arg := range args {
				if _, err := parsed(arg); err != nil && arg != fromInput {
					return commandline.Usage(a.subject().ByFlag(cmd, args, err))
				}
			}
			s, err := a.open(cmd.Context(), card, makeDefault)
			if err != nil {
				return err
			}
			defer func() { _ = s.Close() }() // everything said has been saved
			x.card, x.app = s, a
			return x.all(cmd.Context(), args)
		},
	}
	cmd.Flags().StringVar(&card, "card", defaultCard, "name of the card")
	cmd.Flags().BoolVar(&x.selects, "select", false, "select the application first, which has to succeed")
	cmd.Flags().StringArrayVar(&expect, "expect", nil, "status `WORD` that the answer has to have; may be repeated")
	cmd.Flags().BoolVar(&x.asJSON, "json", false, "print JSON, a line for each command")
	return cmd
}

// parsed is a command as it is typed.
func parsed(text string) ([]byte, error) {
	command, err := apdu.ParseHex(text)
	if err != nil {
		return nil, fmt.Errorf("not a command: %w", err)
	}
	return command, nil
}

// fromInput is the argument that stands for commands on standard input.
const fromInput = "-"

// exchanges are commands for a card, and what is expected of their answers.
type exchanges struct {
	*app
	card    *control.Session
	selects bool // the application first
	expect  view.Expectations
	asJSON  bool
	told    int // commands so far
}

// all sends the commands of the arguments, and of standard input where an
// argument is a dash.
func (x *exchanges) all(ctx context.Context, args []string) error {
	if x.selects {
		command := apdu.SelectApplication().Bytes()
		if err := x.one(ctx, command, new(apdu.OK.String())); err != nil {
			return err
		}
	}
	send := func(text string) error {
		command, err := parsed(text)
		if err != nil {
			return err
		}
		x.told++
		return x.one(ctx, command, x.expect.Of(x.told))
	}
	for _, arg := range args {
		if arg != fromInput {
			if err := send(arg); err != nil {
				return err
			}
			continue
		}
		n := 0
		for line, err := range x.lines() {
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
	return x.expect.Told(x.told)
}

// one sends one command, prints what became of it, and judges that.
func (x *exchanges) one(ctx context.Context, command []byte, expected *string) error {
	answer, meant, err := x.card.Exchange(ctx, command)
	if err != nil {
		return err
	}
	e := view.ExchangeOf(command, answer, meant)
	e.Expected = expected
	if x.asJSON {
		err = json.NewEncoder(x.out).Encode(e)
	} else {
		_, err = io.WriteString(x.out, e.Words())
	}
	if err == nil && !e.IsExpected() {
		err = fmt.Errorf("command %d: %X, not %s as expected", x.told, answer[max(0, len(answer)-2):], *expected)
		if x.told == 0 {
			err = fmt.Errorf("select the application: %X", answer)
		}
	}
	return err
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
