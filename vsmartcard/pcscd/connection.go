package pcscd

import (
	"context"
	"errors"
	"fmt"
)

// Connection is the card in a reader, for a program that uses no other one.
type Connection struct {
	*Handle
	// Reader is the whole name of the reader.
	Reader string

	client *Client
}

// ConnectTo connects, shared with others, to the card in the reader that is called so, or
// else in the only one whose name contains the text. path is that of the daemon's
// socket, as [Dial] has it. Errors name the reader: those of Dial, [Client.Find] and
// [Client.Connect].
func ConnectTo(ctx context.Context, path, reader string) (*Connection, error) {
	c, err := Dial(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("reader %q: %w", reader, err)
	}
	name, err := c.Find(ctx, reader)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reader %q: %w", reader, err), c.Close())
	}
	h, err := c.Connect(ctx, name, Shared, T0|T1)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reader %q: %w", name, err), c.Close())
	}
	return &Connection{h, name, c}, nil
}

// Close ends the connection, also after the end of ctx, and does something to the card.
func (c *Connection) Close(ctx context.Context, d Disposition) error {
	return errors.Join(c.Disconnect(context.WithoutCancel(ctx), d), c.client.Close())
}
