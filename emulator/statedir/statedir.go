// Package statedir keeps cards by name in a folder: it makes, opens, copies and
// removes them, and says which process has one.
//
// A card called alice is the file alice.card of package store; its snapshots
// are files in snapshots/alice, and a process that runs it listens at
// alice.sock. The package knows neither readers nor sockets beyond that name.
//
//	dir, err := statedir.Open(path, store.Options{Sealers: sealers})
//	err = dir.Make("alice", statedir.Order{}, store.Options{}, emulator.System())
//	card, err := dir.Run("alice", emulator.System())
//	defer card.Close()
package statedir

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/store"
	"hsmemu/keystore/seal"
)

// Suffixes of the names of a card's files, and the folder of the snapshots.
const (
	cardSuffix     = ".card"
	socketSuffix   = ".sock"
	snapshotFolder = "snapshots"
)

// The errors of this package. Most come inside an [Error], beside those of
// package store.
var (
	// ErrName says that a card or a snapshot cannot be called that.
	ErrName = errors.New("letters, digits, dot, dash and underscore, 64 at most")
	// ErrNoCard says that there is no card of that name.
	ErrNoCard = errors.New("there is no such card")
	// ErrUnkept says that the card is in the memory of the process that runs it and
	// nowhere else: there is no file that could be copied or opened.
	ErrUnkept = errors.New("it is in memory alone, without a file, and ends with the program that runs it")
	// ErrCardExists says that there is a card of that name already.
	ErrCardExists = errors.New("it exists already")
	// ErrNoSnapshot says that the card has no snapshot of that name.
	ErrNoSnapshot = errors.New("no snapshot")
	// ErrSnapshotExists says that the card has a snapshot of that name already.
	ErrSnapshotExists = errors.New("there is one")
	// ErrWritable says that everybody may write into the folder. Whoever can
	// put a card there puts one that is not the user's, or the socket of a
	// process that is not.
	ErrWritable = errors.New("everybody can write into it, and could put cards there")
	// ErrReadOnly says that no card can be made, since the folder is on a file system
	// that cannot be written, as in a container without a volume.
	ErrReadOnly = errors.New("no volume that can be written is mounted there")
	// ErrDenied says that no card can be made, since this user may not write into the
	// folder, as in a container that runs as another one than its image says.
	ErrDenied = errors.New("this user may not write there")
	// ErrNoEntry says that nothing can be done with cards, since this user may not look into
	// the folder.
	ErrNoEntry = errors.New("this user may not look into it")
)

// Error says what could not be done with which card.
type Error struct {
	// Op is what failed, as in "open".
	Op string
	// Card is the card's name.
	Card string
	Err  error
}

// Error is the operation, the card, and why.
func (e *Error) Error() string { return fmt.Sprintf("%s card %q: %v", e.Op, e.Card, e.Err) }

// Unwrap is why.
func (e *Error) Unwrap() error { return e.Err }

func failed(op, card string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{op, card, err}
}

// WritableError says which folder everybody can write into; it is an
// ErrWritable.
type WritableError struct{ Folder string }

// Error is the folder, and why that matters.
func (e *WritableError) Error() string {
	return fmt.Sprintf("state folder %s: %v", e.Folder, ErrWritable)
}

// Unwrap is ErrWritable.
func (e *WritableError) Unwrap() error { return ErrWritable }

// guarded returns a WritableError for a folder that everybody can write into,
// and nil for one that is not there.
func guarded(folder string) error {
	info, err := os.Stat(folder)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return unseen(err)
	case writableByAll(info):
		return &WritableError{folder}
	}
	return nil
}

// unseen is why a folder, or one in it, could not be looked at.
func unseen(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) && errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("look at %s: %w", path.Path, ErrNoEntry)
	}
	return fmt.Errorf("look at the state folder: %w", err)
}

// Dir is a state folder.
type Dir struct {
	path string
	opt  store.Options
}

// ErrNoHome says that the environment names neither a home folder nor one for states.
var ErrNoHome = errors.New("no home folder")

// Usual is where the cards of a user are, by variables of the environment: the folder
// of $HSMEMU_STATE, or else hsmemu in that of $XDG_STATE_HOME, or in ~/.local/state.
// Error: ErrNoHome.
func Usual(env func(string) string) (string, error) {
	home := cmp.Or(env("HOME"), env("USERPROFILE")) // Windows has the second
	switch {
	case env("HSMEMU_STATE") != "":
		return env("HSMEMU_STATE"), nil
	case env("XDG_STATE_HOME") != "":
		return filepath.Join(env("XDG_STATE_HOME"), "hsmemu"), nil
	case home == "":
		return "", fmt.Errorf("find the state folder: %w", ErrNoHome)
	}
	return filepath.Join(home, ".local", "state", "hsmemu"), nil
}

// Open takes a folder for cards, and makes it with mode 0700 where there is
// none. The options are those with which cards are opened, whatever seals them.
// Error: ErrWritable, also for the folder of the snapshots.
func Open(path string, opt store.Options) (*Dir, error) {
	path, err := filepath.Abs(path) // whoever is told of a file in it may be elsewhere
	if err == nil {
		err = os.MkdirAll(path, 0o700)
	}
	if why := unwritable(err); why != nil {
		return nil, fmt.Errorf("make the state folder %s: %w", path, why)
	}
	if err != nil {
		return nil, fmt.Errorf("make the state folder: %w", err)
	}
	for _, folder := range []string{path, filepath.Join(path, snapshotFolder)} {
		if err := guarded(folder); err != nil {
			return nil, err
		}
	}
	return &Dir{path, opt}, nil
}

// Path is where the folder is.
func (d *Dir) Path() string { return d.path }

// nameShape is what a card or a snapshot may be called: it becomes a file name
// and nothing else.
var nameShape = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// CheckName says whether a card can have a name. Error: ErrName.
func CheckName(name string) error { return checkName("card name", name) }

func checkName(what, name string) error {
	if !nameShape.MatchString(name) {
		return fmt.Errorf("%s %q: %w", what, name, ErrName)
	}
	return nil
}

func (d *Dir) file(card, suffix string) (string, error) {
	if err := CheckName(card); err != nil {
		return "", err
	}
	return filepath.Join(d.path, card+suffix), nil
}

// Socket is where a process that runs the card listens. Error: ErrName.
func (d *Dir) Socket(card string) (string, error) { return d.file(card, socketSuffix) }

// Names lists the cards, sorted, with those that are in memory alone.
func (d *Dir) Names() ([]string, error) {
	names, err := listed(d.path)
	if err != nil {
		return nil, fmt.Errorf("list cards: %w", err)
	}
	return names, nil
}

// listed is the names of the card files in a folder, and of the sockets of cards
// that are in memory alone, sorted.
func listed(folder string) ([]string, error) {
	found, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range found {
		name, isCard := strings.CutSuffix(entry.Name(), cardSuffix)
		if entry.Type() == fs.ModeSocket {
			name, isCard = strings.CutSuffix(entry.Name(), socketSuffix)
		}
		if isCard && nameShape.MatchString(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// absence is why there is no file of a card: ErrUnkept where a process listens for it,
// or else ErrNoCard.
func (d *Dir) absence(card string) error {
	path, err := d.file(card, socketSuffix)
	if err != nil {
		return ErrNoCard
	}
	if info, err := os.Lstat(path); err != nil || info.Mode().Type() != fs.ModeSocket {
		return ErrNoCard
	}
	return ErrUnkept
}

// exists reports whether there is a file for the card.
func (d *Dir) exists(card string) bool {
	path, err := d.file(card, cardSuffix)
	if err == nil {
		_, err = os.Stat(path)
	}
	return err == nil
}

// Vacant returns nil where a card can be made by a name. Errors: ErrName, ErrCardExists.
func (d *Dir) Vacant(card string) error { return d.vacant("make", card) }

func (d *Dir) vacant(op, card string) error {
	err := CheckName(card)
	if err == nil && d.exists(card) {
		err = failed(op, card, ErrCardExists)
	}
	return err
}

// failed is an Error about an existing card. A passphrase's file may be what is
// missing, and not the card's.
func (d *Dir) failed(op, card string, err error) error {
	if errors.Is(err, fs.ErrNotExist) && !d.exists(card) {
		err = d.absence(card)
	}
	return failed(op, card, err)
}

// Order is what a new card is to be.
type Order struct {
	chip.Order
	// Seed derives everything random from a number, for tests only; nil does
	// not.
	Seed *uint64
	// KeyPool takes RSA keys from a public pool, for tests only.
	KeyPool bool
}

// Make makes a card as shipped, kept as the first of the sealers says. Errors:
// ErrName, ErrCardExists, broken.ErrUnknown.
func (d *Dir) Make(card string, o Order, opt store.Options, w emulator.World) error {
	return d.MakeBy(card, o, opt, w, nil)
}

// MakeBy makes a card as Make does, in the state in which do leaves it: the card is
// powered on for it, in memory alone, and kept only if it succeeds. Errors: those of
// Make, and that of do.
func (d *Dir) MakeBy(card string, o Order, opt store.Options, w emulator.World, do func(*emulator.Card) error) error {
	if err := d.vacant("make", card); err != nil { // before anybody is asked for a passphrase
		return err
	}
	made, err := w.For(chip.Durable{Seed: o.Seed, KeyPool: o.KeyPool}).Manufacture(o.Order)
	if err != nil {
		return failed("make", card, err)
	}
	made.Seed, made.KeyPool = o.Seed, o.KeyPool
	if do != nil {
		c, err := emulator.New(made, nowhere{}, w.For(made))
		if err == nil {
			err = do(c)
		}
		if err != nil {
			return failed("make", card, err)
		}
		made = c.Snapshot().Durable()
	}
	return d.create("make", card, made, opt)
}

func (d *Dir) create(op, card string, v chip.Durable, opt store.Options) error {
	path, err := d.file(card, cardSuffix)
	if err != nil {
		return err
	}
	file, err := store.Create(path, v, opt)
	if errors.Is(err, store.ErrExist) {
		err = ErrCardExists
	}
	if why := unwritable(err); why != nil {
		err = fmt.Errorf("state folder %s: %w", d.path, why)
	}
	if err != nil {
		return failed(op, card, err)
	}
	return failed(op, card, file.Close())
}

// unwritable is why nothing can be made in the folder if that is the error, or nil.
func unwritable(err error) error {
	switch {
	case errors.Is(err, syscall.EROFS):
		return ErrReadOnly
	case errors.Is(err, fs.ErrPermission):
		return ErrDenied
	}
	return nil
}

func (d *Dir) open(op, card string) (*store.File[chip.Durable], error) {
	path, err := d.file(card, cardSuffix)
	if err != nil {
		return nil, err
	}
	file, err := store.Open[chip.Durable](path, d.opt)
	if err != nil {
		return nil, d.failed(op, card, err)
	}
	return file, nil
}

// Read gives the last saved state of a card, which another process may run.
func (d *Dir) Read(card string) (chip.Durable, store.Info, error) {
	path, err := d.file(card, cardSuffix)
	if err != nil {
		return chip.Durable{}, store.Info{}, err
	}
	state, info, err := store.Read[chip.Durable](path, d.opt)
	return state, info, d.failed("open", card, err)
}

// Inspect tells what can be told of a card without opening it.
func (d *Dir) Inspect(card string) (store.Info, error) {
	path, err := d.file(card, cardSuffix)
	if err != nil {
		return store.Info{}, err
	}
	info, err := store.Inspect(path, d.opt)
	return info, d.failed("open", card, err)
}

// Held returns nil if no process has a card, without opening it. Errors: ErrName,
// ErrNoCard, ErrUnkept, *store.LockedError.
func (d *Dir) Held(card string) error {
	path, err := d.file(card, cardSuffix)
	if err != nil {
		return err
	}
	if !d.exists(card) {
		return failed("open", card, d.absence(card))
	}
	return d.failed("open", card, store.Held(path, d.opt))
}

// InUse tells of one of several cards that a process has, nil if there is none. What
// else is wrong with them is no matter here. Error: *store.LockedError.
func (d *Dir) InUse(cards []string) error {
	for _, card := range cards {
		if err := d.Held(card); errors.As(err, new(*store.LockedError)) {
			return err
		}
	}
	return nil
}

// Remove removes a card, its snapshots, and a socket that is nobody's. Snapshots in a folder
// that a link leads to, out of this one, stay, and that is an error.
func (d *Dir) Remove(card string) error {
	path, err := d.file(card, cardSuffix)
	if err != nil {
		return err
	}
	if err := store.Remove(path, d.opt); err != nil {
		return d.failed("remove", card, err)
	}
	root, err := os.OpenRoot(d.path)
	if err == nil {
		err = errors.Join(root.RemoveAll(filepath.Join(snapshotFolder, card)), root.Close())
	}
	if err != nil {
		return failed("remove the snapshots of", card, err)
	}
	socket, err := d.Socket(card)
	if err == nil {
		err = os.Remove(socket)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return failed("remove the control socket of", card, err)
}

// Reseal changes how the card's file is protected. Snapshots stay under the
// seal they had.
func (d *Dir) Reseal(card string, to seal.Sealer) error {
	file, err := d.open("open", card)
	if err != nil {
		return err
	}
	return errors.Join(d.failed("reseal", card, file.Reseal(to)), file.Close())
}

// Accept takes an old file of a card as its present state, see store.Accept,
// and reports whether that was needed. A file that is not refused stays as it
// is.
func (d *Dir) Accept(card string) (needed bool, err error) {
	file, err := d.open("open", card)
	if err == nil {
		return false, failed("open", card, file.Close())
	}
	path, named := d.file(card, cardSuffix)
	if named != nil {
		return false, named
	}
	// What no owner can accept is refused again.
	if file, err = store.Accept[chip.Durable](path, d.opt); err != nil {
		return false, d.failed("open", card, err)
	}
	return true, failed("open", card, file.Close())
}

// Rename gives a card that no process runs another name. Its snapshots go with
// it. Errors: ErrName, ErrNoCard, ErrCardExists.
func (d *Dir) Rename(card, to string) error {
	from, err := d.file(card, cardSuffix)
	if err != nil {
		return err
	}
	next, err := d.file(to, cardSuffix)
	if err != nil {
		return err
	}
	if card == to && d.exists(card) {
		return failed("rename", to, ErrCardExists)
	}
	moved := false
	err = store.Rename(from, next, d.opt, func() error {
		err := os.Rename(d.snapshotFolder(card), d.snapshotFolder(to))
		if errors.Is(err, fs.ErrNotExist) { // it has none, or a rename that was cut short has moved them
			return nil
		}
		moved = err == nil
		return err
	})
	switch {
	case errors.Is(err, store.ErrExist) && !moved:
		return failed("rename", to, ErrCardExists)
	case err != nil && moved && d.exists(card):
		err = errors.Join(err, os.Rename(d.snapshotFolder(to), d.snapshotFolder(card)))
	}
	return d.failed("rename", card, err)
}
