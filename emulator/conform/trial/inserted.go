package trial

import (
	"context"
	"errors"
	"fmt"

	"hsmemu/emulator/conform"
	"hsmemu/vsmartcard/pcscd"
)

// Inserted is the card in a reader of PC/SC, as [pcscd.ConnectTo] finds it, to be judged:
// nobody else gets a word in until end is called, not even after its power was cut, and
// is told then that the card was reset. Errors name the reader: those of pcscd.ConnectTo and
// [pcscd.Handle.Begin].
func Inserted(ctx context.Context, reader string) (_ conform.Target, end func(), err error) {
	c, err := pcscd.ConnectTo(ctx, "", reader)
	if err != nil {
		return conform.Target{}, nil, err
	}
	name := fmt.Sprintf("reader %q", c.Reader)
	if err := c.Begin(ctx); err != nil {
		return conform.Target{}, nil, errors.Join(fmt.Errorf("%s: keep others out: %w", name, err), c.Close(ctx, pcscd.Leave))
	}
	return conform.Target{Name: name, Card: c.Handle}, func() {
		_ = c.End(context.WithoutCancel(ctx), pcscd.Leave) // the card may be gone, as the report says
		_ = c.Close(ctx, pcscd.Reset)
	}, nil
}
