package store

// Info is what can be told of a file besides its content.
type Info struct {
	Version    int    // of the file format
	Generation uint64 // how often the file was saved, 1 for a new one
	Seal       string // what protects the content: seal.KindNone, …
	// Refusal is why Open would refuse a file that can be read: ErrRolledBack,
	// ErrAhead, or what its counter said. Nil if nothing counts, and always from
	// Inspect, which asks nobody.
	Refusal error
}

// Read reads the file at path without taking it, also while another process
// uses it: the value is one that was saved, not necessarily the last. A file
// that Open would refuse for its age is read all the same, and Info tells.
// Errors are those of Open and Load, without ErrLocked, ErrRolledBack and
// ErrAhead.
func Read[T any](path string, opt Options) (T, Info, error) {
	var none T
	opt = opt.complete()
	p, err := look(path, opt)
	if err != nil {
		return none, Info{}, err
	}
	g, err := opt.unseal(path, p.header)
	if err != nil {
		return none, Info{}, err
	}
	content, err := p.content(nil, g.aead)
	if err != nil {
		return none, Info{}, err
	}
	defer clear(content)
	v, err := decode[T](path, content)
	if err != nil {
		return none, Info{}, err
	}
	info := p.info()
	if g.counter == nil {
		return v, info, nil
	}
	count, refusal := g.counter.Count()
	if refusal == nil {
		refusal = judge(path, info.Generation, count)
	}
	// Whoever has the file may have saved it between the two looks.
	again, err := look(path, opt)
	if err != nil {
		return none, Info{}, err
	}
	if again.header.Generation == info.Generation {
		info.Refusal = refusal
	}
	return v, info, nil
}

// Inspect tells what can be told of the file at path without taking it, without
// its content and without unsealing it. Errors are those of Open, without
// ErrLocked, ErrSealed and ErrRolledBack.
func Inspect(path string, opt Options) (Info, error) {
	p, err := look(path, opt.complete())
	if err != nil {
		return Info{}, err
	}
	return p.info(), nil
}

func look(path string, opt Options) (parsed, error) {
	raw, err := opt.FS.ReadFile(path)
	if err != nil {
		return parsed{}, err // that of the file system says what and where
	}
	return parse(path, raw)
}

func (p parsed) info() Info {
	return Info{Version: p.version, Generation: p.header.Generation, Seal: p.header.Seal}
}
