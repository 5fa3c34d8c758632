package store

import (
	"io"
	"os"
)

// Within is the operating system's file system beneath a folder: names are paths in it, and
// links lead out of it nowhere, also not those that somebody puts there meanwhile.
func Within(root *os.Root) FS { return within{root} }

type within struct{ root *os.Root }

func (w within) ReadFile(name string) ([]byte, error) {
	return readRegular(name, w.root.Stat, w.root.OpenFile)
}

func (w within) Create(name string) (Handle, error) {
	f, err := w.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (w within) Rename(from, to string) error { return w.root.Rename(from, to) }

func (w within) Remove(name string) error { return w.root.Remove(name) }

func (w within) SyncDir(name string) error { return syncDir(name, w.root.Open) }

func (w within) Lock(name string) (io.Closer, error) {
	return takeLock(name, func(name string) (*os.File, error) { return w.root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600) }, w.root.Stat)
}
