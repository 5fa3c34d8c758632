package store

// System is the operating system's file system, for tests of its locks alone.
var System FS = system{}
