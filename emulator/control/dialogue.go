package control

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"hsmemu/applet/apdu"
	"hsmemu/emulator/statedir"
	"hsmemu/emulator/view"
)

// ParseCommand reads a command APDU as people type it: hexadecimal of any case, with
// blanks or colons.
func ParseCommand(text string) ([]byte, error) {
	command, err := apdu.ParseHex(text)
	if err != nil {
		return nil, fmt.Errorf("not a command: %w", err)
	}
	return command, nil
}

// UnexpectedError says that an answer has another status word than the expected one.
type UnexpectedError struct {
	// Command counts from 1; 0 is the selection of the application.
	Command int
	// Answer is what came, and Want the pattern of the status word.
	Answer []byte
	Want   string
}

// Error is the command, the status word, and what was expected.
func (e *UnexpectedError) Error() string {
	if e.Command == 0 {
		return fmt.Sprintf("select the application: %X", e.Answer)
	}
	return fmt.Sprintf("command %d: %X, not %s as expected", e.Command, e.Answer[max(0, len(e.Answer)-2):], e.Want)
}

// Dialogue is commands for a card, one after the other, and what is expected of their
// answers.
type Dialogue struct {
	Session *Session
	// Card is its name, which errors of the exchange have in a *statedir.Error.
	Card   string
	Expect view.Expectations
	// Tell is called with every answer, before it is judged. Its error ends the dialogue.
	Tell func(view.Exchange) error

	said int // commands so far
}

// Select selects the application, which has to succeed and counts as no command.
// Errors: *UnexpectedError, those of Tell and [Session.Exchange].
func (d *Dialogue) Select(ctx context.Context) error {
	return d.exchange(ctx, apdu.SelectApplication().Bytes(), new(apdu.OK.String()))
}

// Say sends a command as [ParseCommand] reads it. Errors: that of ParseCommand,
// *UnexpectedError, those of Tell and [Session.Exchange].
func (d *Dialogue) Say(ctx context.Context, text string) error {
	command, err := ParseCommand(text)
	if err != nil {
		return err
	}
	d.said++
	return d.exchange(ctx, command, d.Expect.Of(d.said))
}

// SayAll sends a command of each line. Blank lines and those that begin with # do not
// count. Errors: those of Say with the number of the line, and of the lines.
func (d *Dialogue) SayAll(ctx context.Context, lines iter.Seq2[string, error]) error {
	n := 0
	for line, err := range lines {
		if err != nil {
			return fmt.Errorf("read commands: %w", err)
		}
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := d.Say(ctx, line); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	return nil
}

// End says whether fewer commands were sent than answers are expected.
func (d *Dialogue) End() error { return d.Expect.Told(d.said) }

func (d *Dialogue) exchange(ctx context.Context, command []byte, want *string) error {
	answer, meant, err := d.Session.Exchange(ctx, command)
	if err != nil {
		return &statedir.Error{Op: "use", Card: d.Card, Err: err}
	}
	e := view.ExchangeOf(command, answer, meant)
	e.Expected = want
	if err := d.Tell(e); err != nil || e.IsExpected() {
		return err
	}
	return &UnexpectedError{d.said, answer, *want}
}
