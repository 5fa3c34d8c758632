package pcscd

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"

	"hsmemu/vsmartcard"
)

// Slot is a reader and the card in it.
type Slot struct {
	Reader Description
	Card   vsmartcard.Card
}

// Daemon is a server with a socket of its own.
type Daemon struct {
	*Server
	// Env is what a program needs in its environment to find the readers,
	// PCSCLITE_CSOCK_NAME=PATH; empty after Run.
	Env string
	// Readers are in the order of the slots.
	Readers []*Reader

	served func() error // waits for the end, and says how it came
}

// Start serves cards, each in a reader of its own, on a new socket in a folder
// that should be its owner's alone, until Close. It is all that a test needs to
// give a program a card. Errors: ErrPath for a folder with too long a name, and
// those of Listen and Server.Add.
func Start(dir string, slots ...Slot) (*Daemon, error) {
	path := filepath.Join(dir, "pcscd.comm")
	l, err := Listen(path)
	if err != nil {
		return nil, err
	}
	d := Run(l)
	d.Env = EnvSocket + "=" + path
	for _, s := range slots {
		r, err := d.Add(s.Reader)
		if err == nil {
			err = r.Insert(s.Card)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("start %q: %w", s.Reader.Name, err), d.Close())
		}
		d.Readers = append(d.Readers, r)
	}
	return d, nil
}

// Run serves a daemon without readers at a listener, which it owns, until Close.
func Run(l net.Listener) *Daemon {
	d := &Daemon{Server: &Server{}}
	ended := make(chan error, 1)
	go func() { ended <- d.Serve(l) }()
	d.served = sync.OnceValue(func() error { return <-ended })
	return d
}

// Close ends the server and removes the socket. A second call does nothing more.
func (d *Daemon) Close() error {
	err := d.Server.Close()
	if served := d.served(); !errors.Is(served, ErrClosed) && !errors.Is(served, net.ErrClosed) {
		err = errors.Join(err, served)
	}
	return err
}
