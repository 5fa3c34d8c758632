package main

import (
	"io"
	"sync"
)

// output is standard output for what this program prints itself. It remembers that something
// could not be written, so that no command ends as if it had been.
type output struct {
	to io.Writer
	mu sync.Mutex
	// failed is the first error.
	failed error
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := o.to.Write(p)
	if err != nil && o.failed == nil {
		o.failed = err
	}
	if err != nil {
		err = o.failed // one error, however often
	}
	return n, err
}

// unwritten is why something that was printed so far could not be written, nil if all of it was.
func (a *app) unwritten() error {
	o, ours := a.out.(*output)
	if !ours {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.failed
}

// stdout is standard output itself, for programs that are started and what wants to know whether it is a terminal.
func (a *app) stdout() io.Writer {
	if o, ours := a.out.(*output); ours {
		return o.to
	}
	return a.out
}
