package store

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/chacha20poly1305"

	"hsmemu/keystore/seal"
)

func (o Options) complete() Options {
	if o.FS == nil {
		o.FS = system{}
	}
	if len(o.Sealers) == 0 {
		o.Sealers = []seal.Sealer{seal.Insecure{}}
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	return o
}

// sealer returns the sealer of a kind, nil if there is none.
func (o Options) sealer(kind string) seal.Sealer {
	for _, s := range o.Sealers {
		if s.Kind() == kind {
			return s
		}
	}
	return nil
}

// seal makes a new seal for a file that was saved generation times.
func (o Options) seal(path string, s seal.Sealer, generation uint64) (header, guard, error) {
	h := header{Generation: generation, Seal: s.Kind()}
	if h.Seal == seal.KindNone {
		return h, guard{sealer: s}, nil
	}
	root := make([]byte, seal.RootLen)
	defer clear(root)
	if _, err := io.ReadFull(o.Rand, root); err != nil {
		return header{}, guard{}, fmt.Errorf("root key: %w", err)
	}
	parameters, err := s.Seal(root, generation)
	if err != nil {
		return header{}, guard{}, fmt.Errorf("seal %s: %w", path, err)
	}
	h.Parameters = parameters
	g, err := use(s, h, root)
	if err != nil {
		return header{}, guard{}, fmt.Errorf("seal %s: %w", path, err)
	}
	return h, g, nil
}

// unseal finds the key to a file.
func (o Options) unseal(path string, h header) (guard, error) {
	s := o.sealer(h.Seal)
	if s == nil {
		return guard{}, fmt.Errorf("%w: %s: its seal is %q", ErrSealed, path, h.Seal)
	}
	if h.Seal == seal.KindNone {
		return guard{sealer: s}, nil
	}
	root, err := s.Unseal(h.Parameters)
	defer clear(root)
	if err != nil {
		return guard{}, fmt.Errorf("open %s: %w", path, err)
	}
	g, err := use(s, h, root)
	if err != nil {
		return guard{}, fmt.Errorf("open %s: %w", path, err)
	}
	return g, nil
}

// use makes of a root key what is needed while a file is open.
func use(s seal.Sealer, h header, root []byte) (guard, error) {
	g := guard{sealer: s}
	var err error
	if g.aead, err = chacha20poly1305.NewX(root); err != nil {
		return guard{}, err
	}
	if c, counts := s.(seal.Counting); counts {
		if g.counter, err = c.Counter(h.Parameters, root); err != nil {
			return guard{}, err
		}
	}
	return g, nil
}

// settle judges the file's generation by its counter. A power cut between the
// save and the count leaves the file one ahead; then the count is made up for,
// or else the copy before this one would stay acceptable.
func (f *File[T]) settle() error {
	if f.guard.counter == nil {
		return nil
	}
	count, err := f.guard.counter.Count()
	if err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	if err := judge(f.path, f.header.Generation, count); err != nil {
		return err
	}
	if f.header.Generation == count+1 {
		if err := f.guard.counter.Increment(); err != nil {
			return fmt.Errorf("%s: %w", f.path, err)
		}
	}
	f.unsure = false
	return nil
}

// judge compares a file's generation with its counter, which a power cut may
// have left one behind.
func judge(path string, generation, count uint64) error {
	switch {
	case generation < count:
		return fmt.Errorf("%w: %s: generation %d, counter %d", ErrRolledBack, path, generation, count)
	case generation > count+1:
		return fmt.Errorf("%w: %s: generation %d, counter %d", ErrAhead, path, generation, count)
	}
	return nil
}

// accept makes the file's generation fit its counter, or makes a new counter.
func (f *File[T]) accept() error {
	err := f.settle()
	switch {
	case errors.Is(err, ErrRolledBack):
		count, cerr := f.guard.counter.Count()
		if cerr != nil {
			return fmt.Errorf("%s: %w", f.path, cerr)
		}
		h := f.header
		h.Generation = count // and put goes one beyond
		return f.again(h, f.guard)
	case errors.Is(err, ErrAhead), errors.Is(err, seal.ErrNoCounter):
		// A counter that was turned back would, counting on, meet the
		// generations of old copies again.
		return f.recount()
	}
	return err
}

// recount gives the file a new counter.
func (f *File[T]) recount() error {
	s, counts := f.guard.sealer.(seal.Counting)
	if !counts {
		return fmt.Errorf("%s: %w", f.path, seal.ErrNoCounter)
	}
	root, err := s.Unseal(f.header.Parameters)
	defer clear(root)
	if err != nil {
		return fmt.Errorf("open %s: %w", f.path, err)
	}
	h := f.header
	h.Retired = &retired{Seal: h.Seal, Parameters: h.Parameters}
	if h.Parameters, err = s.Recount(h.Parameters, root, h.Generation); err != nil {
		return fmt.Errorf("open %s: %w", f.path, err)
	}
	g, err := use(s, h, root)
	if err != nil {
		return fmt.Errorf("open %s: %w", f.path, err)
	}
	if err := f.again(h, g); err != nil {
		return errors.Join(err, f.abandon(h, g, err))
	}
	f.release(s)
	return nil
}

// again saves the content that is in the file.
func (f *File[T]) again(h header, g guard) error {
	p, err := parse(f.path, f.last)
	if err != nil {
		return err
	}
	if f.content, err = p.content(f.content[:0], f.guard.aead); err != nil {
		return err
	}
	defer f.wipe()
	return f.put(h, g, f.content)
}

// Reseal changes how the file is protected, under a new root key. Copies of the
// file as it was stay under the old seal; if that had a counter, they are
// refused from then on. Errors are those of Save and of the sealer; the file is
// as before, as far as Save promises it.
func (f *File[T]) Reseal(s seal.Sealer) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lock == nil {
		return ErrClosed
	}
	if f.unsure {
		if err := f.settle(); err != nil {
			return fmt.Errorf("reseal: %w", err)
		}
	}
	return f.reseal(s)
}

func (f *File[T]) reseal(s seal.Sealer) error {
	h, g, err := f.opt.seal(f.path, s, f.header.Generation)
	if err != nil {
		return err
	}
	old := f.guard
	if _, counts := old.sealer.(seal.Counting); counts {
		h.Retired = &retired{Seal: f.header.Seal, Parameters: f.header.Parameters}
	}
	generation := f.header.Generation
	if err := f.again(h, g); err != nil {
		if f.header.Generation != generation { // it is in place, but not counted
			return err
		}
		return errors.Join(err, f.abandon(h, g, err))
	}
	f.release(old.sealer)
	return nil
}

// abandon removes the counter of a seal that came to nothing because of err.
func (f *File[T]) abandon(h header, g guard, err error) error {
	c, counts := g.sealer.(seal.Counting)
	if !counts || f.unsure || errors.Is(err, errNotUndone) {
		return nil // there is no counter, or the file may need it
	}
	if err := c.Release(h.Parameters); err != nil {
		return fmt.Errorf("remove the new counter: %w", err)
	}
	return nil
}

// retire removes the counter of the seal before this one, where a power cut
// kept Reseal from it.
func (f *File[T]) retire() {
	if f.header.Retired != nil {
		f.release(f.opt.sealer(f.header.Retired.Seal))
	}
}

// release removes the retired counter and has the next save forget it. Failing
// is no reason to keep anyone from his card; the next Open tries again.
func (f *File[T]) release(s seal.Sealer) {
	c, counts := s.(seal.Counting)
	if f.header.Retired == nil || !counts {
		return
	}
	if c.Release(f.header.Retired.Parameters) == nil {
		f.header.Retired = nil
	}
}
