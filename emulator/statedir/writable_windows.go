package statedir

import "io/fs"

// writableByAll reports false: the mode of a file says nothing here, and whoever
// else can write into a folder of the user's profile is an administrator.
func writableByAll(fs.FileInfo) bool { return false }
