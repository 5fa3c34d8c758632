package lesson

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// copyTree copies what is in a folder into another one, which it makes where it is not
// there: files, folders, links and pipes, with their modes and as far as their owner can
// have them read. unkept are the paths of all else, sockets and devices.
func copyTree(from, to string) (unkept []string, err error) {
	left := int64(maxCopied)
	modes := make(map[string]fs.FileMode) // of folders: those that cannot be written to are filled first
	err = filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		name, failed := filepath.Rel(from, path)
		if err = errors.Join(err, failed); err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		at, mode := filepath.Join(to, name), info.Mode()
		switch kind := mode.Type(); {
		case e.IsDir():
			modes[at] = mode.Perm()
			if err := os.MkdirAll(at, 0o700); err != nil {
				return err
			}
			return opened(path, mode) // before it is read
		case kind == fs.ModeSymlink:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(target, at)
		case kind == fs.ModeNamedPipe:
			return makePipe(at, mode.Perm())
		case !mode.IsRegular():
			unkept = append(unkept, filepath.ToSlash(name))
			return nil
		}
		if left -= info.Size(); left < 0 {
			return fmt.Errorf("%s: more than %d MB to keep", name, maxCopied>>20)
		}
		text, err := readAny(path, mode)
		if err != nil {
			return err
		}
		return errors.Join(os.WriteFile(at, text, 0o600), os.Chmod(at, mode.Perm()))
	})
	for at, mode := range modes {
		name, failed := filepath.Rel(to, at)
		err = errors.Join(err, failed, os.Chmod(at, mode), os.Chmod(filepath.Join(from, name), mode))
	}
	return unkept, err
}

// opened gives the owner of a folder what he has taken from himself: to read it and to
// change what is in it.
func opened(folder string, mode fs.FileMode) error {
	if mode.Perm()&0o700 == 0o700 {
		return nil
	}
	return os.Chmod(folder, mode.Perm()|0o700)
}

// readAny reads a file, also one whose owner has taken from himself to read it.
func readAny(path string, mode fs.FileMode) ([]byte, error) {
	text, err := os.ReadFile(path)
	if !errors.Is(err, fs.ErrPermission) {
		return text, err
	}
	if err := os.Chmod(path, mode.Perm()|0o400); err != nil {
		return nil, err
	}
	text, err = os.ReadFile(path)
	return text, errors.Join(err, os.Chmod(path, mode.Perm()))
}

// clearFolder removes what is in a folder, which may be absent, and not the paths that are
// to stay, as copyTree names them.
func clearFolder(folder string, staying []string) error {
	var folders []string
	err := filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		name, failed := filepath.Rel(folder, path)
		if err = errors.Join(err, failed); err != nil {
			return err
		}
		if e.IsDir() {
			folders = append(folders, path)
			info, err := e.Info()
			if err != nil {
				return err
			}
			return opened(path, info.Mode())
		}
		if e.Type()&(fs.ModeSocket|fs.ModeDevice) != 0 && slices.Contains(staying, filepath.ToSlash(name)) {
			return nil
		}
		return os.Remove(path)
	})
	for _, path := range slices.Backward(folders) {
		if path == folder {
			continue
		}
		if failed := os.Remove(path); !errors.Is(failed, fs.ErrExist) { // something in it stays
			err = errors.Join(err, failed)
		}
	}
	return err
}

// removeTree removes a folder and all that is in it.
func removeTree(folder string) error {
	return errors.Join(clearFolder(folder, nil), os.RemoveAll(folder))
}
