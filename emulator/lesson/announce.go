package lesson

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hsmemu/emulator/statedir"
	"hsmemu/emulator/store"
)

// Endings of the names of files that say where a session is: announced of one that others can
// join, and proving of one of Prove.
const (
	announced = ".lesson"
	proving   = ".proof"
)

// lockEnding ends the name of the lock beside such a file, which is held as long as the
// process of the session lives.
const lockEnding = ".lock"

// between stands between the session's folder and its daemon's socket in such a file: no path
// has it.
const between = "\x00"

// An announcement says in a file where a session is, and that its process lives. The zero one
// says nothing.
type announcement struct {
	file string
	lock io.Closer
}

// announce writes down in a folder where a session is to be.
func announce(folder, ending, dir string) (announcement, error) {
	for {
		a := announcement{file: filepath.Join(folder, rand.Text()+ending)}
		var err error
		a.lock, err = store.Lock(a.file + lockEnding)
		switch {
		case errors.Is(err, store.ErrLocked): // by somebody who clears up and took it for what is left
		case err != nil:
			return announcement{}, err
		default:
			return a, a.write(dir+between, os.O_EXCL)
		}
	}
}

// add adds a socket.
func (a announcement) add(socket string) error {
	if a.lock == nil {
		return nil
	}
	return a.write(socket, os.O_APPEND)
}

func (a announcement) write(text string, flags int) error {
	f, err := os.OpenFile(a.file, os.O_CREATE|os.O_WRONLY|flags, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// withdraw takes the announcement back.
func (a announcement) withdraw() error {
	if a.lock == nil {
		return nil
	}
	var err error
	for _, file := range []string{a.file, a.file + lockEnding} { // while it is held, or it might be another's
		if failed := os.Remove(file); !errors.Is(failed, fs.ErrNotExist) {
			err = errors.Join(err, failed)
		}
	}
	return errors.Join(err, a.lock.Close())
}

// leave has others take what is left of the session for that of a process that was killed.
func (a announcement) leave() error {
	if a.lock == nil {
		return nil
	}
	return a.lock.Close()
}

// ErrSeveral says that several sessions go on and that it is not clear which one is meant.
var ErrSeveral = errors.New("several lessons go on")

// Here joins the session that this shell is in, by its variables, or else the one that was
// announced last in the folder of the cards. Errors: ErrNoSession, and that of cards.
func Here(env func(string) string, cards func() (*statedir.Dir, error)) (*Session, error) {
	return here(env, cards, Find)
}

// HereAlone is Here for what changes the session: a shell that is in none has to have one
// alone to choose. Errors: those of Here, and ErrSeveral, with their titles and folders.
func HereAlone(env func(string) string, cards func() (*statedir.Dir, error)) (*Session, error) {
	return here(env, cards, findAlone)
}

func here(env func(string) string, cards func() (*statedir.Dir, error), find func(folder string) (*Session, error)) (*Session, error) {
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
	return find(d.Path())
}

// Find joins the session that was announced last in a folder, of those that go on. What
// is left of others, whose process was killed, is removed. Errors: those of Join.
func Find(folder string) (*Session, error) {
	for s, err := range going(folder) {
		return s, err
	}
	return nil, ErrNoSession
}

// findAlone is Find where no other session goes on. Errors: those of Join, and ErrSeveral.
func findAlone(folder string) (alone *Session, err error) {
	var names []string
	for s, failed := range going(folder) {
		if len(names) == 0 {
			alone, err = s, failed
		}
		if s == nil {
			names = append(names, failed.Error())
		} else {
			names = append(names, fmt.Sprintf("%q in %s", s.Lesson.Title, s.dir))
		}
	}
	switch len(names) {
	case 0:
		return nil, ErrNoSession
	case 1:
		return alone, err
	}
	return nil, fmt.Errorf("%w: %s", ErrSeveral, strings.Join(names, ", "))
}

// going joins the sessions that go on of those that were announced in a folder, the last first. What
// is left of others, whose process was killed, is removed. Errors: those of Join.
func going(folder string) iter.Seq2[*Session, error] {
	return func(yield func(*Session, error) bool) {
		entries, err := os.ReadDir(folder)
		if err != nil {
			yield(nil, err)
			return
		}
		clearLeft(folder)
		var files []fs.FileInfo
		for _, e := range entries {
			if info, err := e.Info(); err == nil && info.Mode().IsRegular() && strings.HasSuffix(info.Name(), announced) {
				files = append(files, info)
			}
		}
		slices.SortFunc(files, func(a, b fs.FileInfo) int { return b.ModTime().Compare(a.ModTime()) })
		for _, f := range files {
			text, err := os.ReadFile(filepath.Join(folder, f.Name()))
			if err != nil {
				continue // it is withdrawn, or another user's
			}
			dir, _, written := strings.Cut(string(text), between)
			if !written {
				continue // it is about to begin
			}
			if s, err := Join(dir); !errors.Is(err, ErrNoSession) && !yield(s, err) {
				return
			}
		}
	}
}

// clearLeft removes what is left of sessions that were announced in a folder and whose process
// was killed. What cannot be removed, as another user's, is tried again the next time.
func clearLeft(folder string) {
	entries, _ := os.ReadDir(folder) // what is not listed is tried again, too
	for _, e := range entries {
		name := strings.TrimSuffix(e.Name(), lockEnding)
		if ending := filepath.Ext(name); ending != announced && ending != proving {
			continue
		}
		left := announcement{file: filepath.Join(folder, name)}
		var err error
		if left.lock, err = store.Lock(left.file + lockEnding); err != nil {
			continue // it goes on
		}
		text, err := os.ReadFile(left.file)
		if dir, socket, written := strings.Cut(string(text), between); err == nil && written {
			err = clearUp(dir, socket)
		}
		end := left.leave
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			end = left.withdraw
		}
		_ = end() // likewise
	}
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
