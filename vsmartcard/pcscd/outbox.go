package pcscd

import (
	"io"
	"sync"
)

// outbox is what a client is to read, in order. Replies come from the
// connection's own goroutine, events from others', which must not wait for a
// client that does not read: putting is apart from writing.
type outbox struct {
	mu      sync.Mutex
	written sync.Cond // on mu
	queue   []byte
	spare   []byte
	writing bool
	err     error
}

// put appends b.
func (o *outbox) put(b []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.queue = append(o.queue, b...)
}

// flush returns when everything put before is written, by whomever.
func (o *outbox) flush(w io.Writer) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.writing {
		o.written.Wait()
	}
	for len(o.queue) > 0 && o.err == nil {
		b := o.queue
		o.queue, o.writing = o.spare[:0], true
		o.mu.Unlock()
		_, err := w.Write(b)
		o.mu.Lock()
		o.spare, o.writing, o.err = b, false, err
		if cap(o.spare) > 1<<14 {
			o.spare = nil
		}
	}
	o.written.Broadcast()
	return o.err
}
