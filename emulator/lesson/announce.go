package lesson

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hsmemu/emulator/statedir"
)

// announced ends the name of a file that says where a session is.
const announced = ".lesson"

// between stands between the session's folder and its daemon's socket in such a file: no path
// has it.
const between = "\x00"

// Announce writes down in a folder where the session is, in a file of its own, so that
// Find finds it from another terminal.
func (s *Session) Announce(folder string) (withdraw func() error, err error) {
	f, err := os.CreateTemp(folder, "*"+announced)
	if err != nil {
		return nil, err
	}
	_, err = f.WriteString(s.dir + between + s.progress.Socket)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, errors.Join(err, os.Remove(f.Name()))
	}
	return func() error {
		err := os.Remove(f.Name())
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}, nil
}

// Here joins the session that this shell is in, by its variables, or else the one that was
// announced last in the folder of the cards. Errors: ErrNoSession, and that of cards.
func Here(env func(string) string, cards func() (*statedir.Dir, error)) (*Session, error) {
	if dir := env(EnvSession); dir != "" {
		s, err := Join(dir)
		if err == nil {
			s.actsAs(env(EnvShell))
		}
		return s, err
	}
	d, err := cards()
	if err != nil {
		return nil, err
	}
	return Find(d.Path())
}

// Find joins the session that was announced last in a folder, of those that go on. What
// is left of others, whose process was killed, is removed. Error: ErrNoSession.
func Find(folder string) (*Session, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var files []fs.FileInfo
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && strings.HasSuffix(info.Name(), announced) {
			files = append(files, info)
		}
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int { return b.ModTime().Compare(a.ModTime()) })
	for _, f := range files {
		file := filepath.Join(folder, f.Name())
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) || err == nil && len(text) == 0 {
			continue // withdrawn, or about to be written
		} else if err != nil {
			return nil, err
		}
		dir, socket, _ := strings.Cut(string(text), between)
		s, err := Join(dir)
		if !errors.Is(err, ErrNoSession) {
			return s, err
		}
		if err := clearUp(dir, socket); err != nil {
			return nil, err
		}
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return nil, ErrNoSession
}

// clearUp ends what the scripts of a killed session have left running, and removes its
// folder, and its socket with the folder that was made for it.
func clearUp(dir, socket string) error {
	if !strings.HasPrefix(filepath.Base(dir), folderName) {
		return nil // no session's
	}
	killMarked(markOf(dir))
	if socket != "" && os.Remove(socket) == nil {
		_ = os.Remove(filepath.Dir(socket)) // it has nothing but the socket, or is not ours
	}
	return removeTree(dir)
}
