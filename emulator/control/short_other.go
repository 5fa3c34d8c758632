//go:build !linux

package control

import (
	"os"
	"path/filepath"
)

// longest is how long a socket's name may be on macOS and FreeBSD, without the
// zero behind it; Windows takes four more.
const longest = 103

// short gives a name for a path that fits into a socket address however long
// the path is: a link to its folder among the temporary files, which has to be
// there while the name is used.
func short(path string) (name string, release func(), err error) {
	folder := filepath.Dir(path)
	if _, err := os.Stat(folder); err != nil || len(path) <= longest {
		return path, func() {}, err
	}
	base, err := os.MkdirTemp("", "hsmemu")
	if err != nil {
		return "", nil, err
	}
	release = func() { _ = os.RemoveAll(base) } // it holds a link
	if folder, err = filepath.Abs(folder); err == nil {
		name = filepath.Join(base, "d")
		err = os.Symlink(folder, name)
	}
	if err != nil {
		release()
		return "", nil, err
	}
	return filepath.Join(name, filepath.Base(path)), release, nil
}
