//go:build unix

package statedir

import "io/fs"

// writableByAll reports whether everybody can write into a folder. A group may
// be the user's own.
func writableByAll(folder fs.FileInfo) bool { return folder.Mode().Perm()&0o002 != 0 }
