package lesson

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
)

// copyTree copies what is in a folder into another one: files, folders, links and pipes,
// with their modes and as far as their owner can have them read. unkept are the paths of all
// else, sockets and devices. Whoever changes the folders meanwhile leads it out of neither.
func copyTree(from, to *os.Root) (unkept []string, err error) {
	left := int64(maxCopied)
	type folder struct {
		name string
		mode fs.FileMode
	}
	var folders []folder // those that cannot be written to are filled first
	err = fs.WalkDir(from.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := from.Lstat(name)
		if err != nil {
			return err
		}
		mode := info.Mode()
		switch kind := mode.Type(); {
		case e.IsDir():
			folders = append(folders, folder{name, mode.Perm()})
			if err := to.MkdirAll(name, 0o700); err != nil {
				return err
			}
			return opened(from, name, mode) // before it is read
		case kind == fs.ModeSymlink:
			target, err := from.Readlink(name)
			if err != nil {
				return err
			}
			return to.Symlink(target, name)
		case kind == fs.ModeNamedPipe:
			return makePipe(to, name, mode.Perm())
		case !mode.IsRegular():
			unkept = append(unkept, name)
			return nil
		}
		if left -= info.Size(); left < 0 {
			return fmt.Errorf("%s: more than %d MB to keep", name, maxCopied>>20)
		}
		text, err := readAny(from, name, mode)
		if err != nil {
			return err
		}
		return errors.Join(to.WriteFile(name, text, 0o600), to.Chmod(name, mode.Perm()))
	})
	for _, one := range slices.Backward(folders) { // a folder that is shut hides those in it
		err = errors.Join(err, to.Chmod(one.name, one.mode), from.Chmod(one.name, one.mode))
	}
	return unkept, err
}

// unlink removes the links from a folder.
func unlink(root *os.Root) error {
	entries, err := fs.ReadDir(root.FS(), ".")
	for _, e := range entries {
		if e.Type() == fs.ModeSymlink {
			err = errors.Join(err, root.Remove(e.Name()))
		}
	}
	return err
}

// namesIn are the names of what is in a folder; none if it is no folder, which opening would
// wait for where it is a pipe.
func namesIn(root *os.Root, folder string) (names []string, err error) {
	info, err := root.Lstat(folder)
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "read", Path: folder, Err: errIrregular}
	}
	if err != nil {
		return nil, err
	}
	entries, err := fs.ReadDir(root.FS(), folder)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

// opened gives the owner of a folder what he has taken from himself: to read it and to
// change what is in it.
func opened(root *os.Root, folder string, mode fs.FileMode) error {
	if mode.Perm()&0o700 == 0o700 {
		return nil
	}
	return root.Chmod(folder, mode.Perm()|0o700)
}

// readAny reads a file, also one whose owner has taken from himself to read it.
func readAny(root *os.Root, name string, mode fs.FileMode) ([]byte, error) {
	text, err := root.ReadFile(name)
	if !errors.Is(err, fs.ErrPermission) {
		return text, err
	}
	if err := root.Chmod(name, mode.Perm()|0o400); err != nil {
		return nil, err
	}
	text, err = root.ReadFile(name)
	return text, errors.Join(err, root.Chmod(name, mode.Perm()))
}

// clearFolder removes what is in a folder, and not the paths that are to stay, as copyTree
// names them.
func clearFolder(root *os.Root, staying []string) error {
	var folders []string
	err := fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		if e.IsDir() {
			folders = append(folders, name)
			info, err := root.Lstat(name)
			if err != nil {
				return err
			}
			return opened(root, name, info.Mode())
		}
		if e.Type()&(fs.ModeSocket|fs.ModeDevice) != 0 && slices.Contains(staying, name) {
			return nil
		}
		return root.Remove(name)
	})
	for _, name := range slices.Backward(folders) {
		if name == "." {
			continue
		}
		if failed := root.Remove(name); !errors.Is(failed, fs.ErrExist) { // something in it stays
			err = errors.Join(err, failed)
		}
	}
	return err
}

// removeTree removes a folder, which may be absent, and all that is in it.
func removeTree(folder string) error {
	parent, err := os.OpenRoot(filepath.Dir(folder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return errors.Join(removeIn(parent, filepath.Base(folder)), parent.Close())
}

// removeIn removes what has a name in a folder, which may be absent, with all that is in it.
func removeIn(root *os.Root, name string) error {
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && info.IsDir() {
		var folder *os.Root
		if err = opened(root, name, info.Mode()); err == nil {
			folder, err = root.OpenRoot(name)
		}
		if err == nil {
			err = errors.Join(clearFolder(folder, nil), folder.Close())
		}
	}
	return errors.Join(err, root.RemoveAll(path.Clean(name)))
}
