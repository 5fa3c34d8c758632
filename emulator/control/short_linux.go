package control

import (
	"fmt"
	"os"
	"path/filepath"
)

// short gives a name for a path that fits into a socket address however long
// the path is: Linux shows an open folder under a short name. The folder has to
// stay open while the name is used.
func short(path string) (name string, release func(), err error) {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	release = func() { _ = dir.Close() } // nothing was written through it
	name = fmt.Sprintf("/proc/self/fd/%d", dir.Fd())
	if _, err := os.Stat(name); err != nil {
		return path, release, nil
	}
	return filepath.Join(name, filepath.Base(path)), release, nil
}
