package lesson

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	"hsmemu/emulator"
	"hsmemu/emulator/control"
)

const (
	// recordInterval is how often what has happened is written down, and recordBuffer how
	// many events of a card may happen in between.
	recordInterval = 20 * time.Millisecond
	recordBuffer   = 4096
	// recordPatience is how long whoever asks for what has happened waits for it to be
	// written down, by a process that a busy machine holds up.
	recordPatience = 10 * time.Second
)

// askedFolder is in the folder of events of a session. A file in it is removed when all is
// written down that had happened before it was made.
const askedFolder = "asked"

// errUnrecorded says that a folder of events is not that of a session.
var errUnrecorded = errors.New("no session writes events here")

// recorder writes the events of a card into a file.
type recorder struct {
	events <-chan emulator.Event
	stop   func()
	file   *os.File
}

// recorders are those of the cards in a session.
type recorders []recorder

// watch has a card's events written into a file of a folder, from here on.
func (r *recorders) watch(card *control.Card, folder *os.Root) error {
	f, err := freshFile(folder, card.Name+".jsonl")
	if err != nil {
		return err
	}
	events, stop := card.Card.Watch(recordBuffer)
	*r = append(*r, recorder{events, stop, f})
	return nil
}

// freshFile makes a file to append to. Setup may have put something else there before, such as
// a pipe that nobody reads.
func freshFile(folder *os.Root, name string) (*os.File, error) {
	if err := folder.RemoveAll(name); err != nil {
		return nil, err
	}
	return folder.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
}

// record writes events down until the context ends, and then those that had happened by then,
// and closes the folder. It is one that scripts write into: what they have put into the place
// of askedFolder must not make it remove files elsewhere.
func (r recorders) record(ctx context.Context, folder *os.Root) {
	tick := time.NewTicker(recordInterval)
	defer tick.Stop()
	for last := false; !last; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			last = true
		}
		var asked []fs.DirEntry
		if info, err := folder.Lstat(askedFolder); err == nil && info.IsDir() { // opening a pipe would wait
			asked, _ = fs.ReadDir(folder.FS(), askedFolder) // without it nobody is answered
		}
		for _, one := range r {
			for range len(one.events) {
				_ = json.NewEncoder(one.file).Encode(control.EventOf(<-one.events)) // without it the step counts as not solved
			}
		}
		for _, ask := range asked {
			_ = folder.Remove(path.Join(askedFolder, ask.Name())) // whoever asks goes on without it
		}
	}
	for _, one := range r {
		one.stop()
		_ = one.file.Close() // likewise
	}
	_ = folder.Close() // likewise
}

// recorded returns when everything that has happened to the cards of a session is written
// down in its folder of events, or recordPatience is over. Errors: errUnrecorded, that of the
// context, and those of the file system.
func recorded(ctx context.Context, events string) error {
	ask, err := os.CreateTemp(filepath.Join(events, askedFolder), "")
	if errors.Is(err, fs.ErrNotExist) {
		return errUnrecorded
	} else if err != nil {
		return err
	}
	defer func() { _ = os.Remove(ask.Name()) }() // it has been, or nobody else does
	if err := ask.Close(); err != nil {
		return err
	}
	late := time.NewTimer(recordPatience)
	defer late.Stop()
	again := time.NewTicker(recordInterval / 4)
	defer again.Stop()
	for {
		if _, err := os.Lstat(ask.Name()); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-late.C:
			return nil
		case <-again.C:
		}
	}
}
