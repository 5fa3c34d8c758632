package lesson

import (
	"fmt"
	"os"
)

// FolderError is everything that is wrong with the lesson in a folder: Err joins a
// *Problem for each thing.
type FolderError struct {
	Dir string
	Err error
}

func (e *FolderError) Error() string { return "lesson " + e.Dir + ": " + e.Err.Error() }

// Unwrap returns what is wrong.
func (e *FolderError) Unwrap() error { return e.Err }

// Open reads the lesson in a folder, which is no link. Errors: *FolderError, and those of
// package os where there is no such folder.
func Open(dir string) (*Lesson, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the lesson: %w", err)
	}
	l, err := Load(root.FS())
	if err != nil {
		return nil, &FolderError{dir, err}
	}
	return l, nil
}
