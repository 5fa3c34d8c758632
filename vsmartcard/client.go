package vsmartcard

import (
	"cmp"
	"context"
	"fmt"
)

// Client is a program that uses a card, as far as the system tells. Its zero value
// is one of which nothing is known.
type Client struct {
	// Connection numbers the program's connection to its PC/SC daemon, from 1 in
	// the order in which they were made. It is 0 without a daemon of ours.
	Connection int
	// Process is the number of its process.
	Process int
	// Program is what the process is called, at most 15 bytes of its name on Linux.
	// What a terminal could obey is quoted.
	Program string
}

// String names it for people, as far as it is known: "scdaemon, process 1234,
// connection 2".
func (c Client) String() string {
	name := cmp.Or(c.Program, "a program")
	if c.Process > 0 {
		name += fmt.Sprintf(", process %d", c.Process)
	}
	if c.Connection > 0 {
		name += fmt.Sprintf(", connection %d", c.Connection)
	}
	return name
}

type clientKey struct{}

// WithClient is a context for [Card.Transmit] that tells for whom the command is.
// The function is called only when somebody wants to know, and may be called by
// several goroutines.
func WithClient(ctx context.Context, client func() Client) context.Context {
	return context.WithValue(ctx, clientKey{}, client)
}

// ClientOf is the client that a context tells of.
func ClientOf(ctx context.Context) Client {
	client, ok := ctx.Value(clientKey{}).(func() Client)
	if !ok {
		return Client{}
	}
	return client()
}
