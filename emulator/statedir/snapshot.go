package statedir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"hsmemu/emulator/chip"
	"hsmemu/emulator/store"
	"hsmemu/keystore/seal"
)

func (d *Dir) snapshotFolder(card string) string { return filepath.Join(d.path, snapshotFolder, card) }

func (d *Dir) snapshotFile(card, tag string) (string, error) {
	if err := CheckName(card); err != nil {
		return "", err
	}
	if err := checkName("tag", tag); err != nil {
		return "", err
	}
	return filepath.Join(d.snapshotFolder(card), tag+cardSuffix), nil
}

// Snapshot keeps the present state of a card, which may be running, under a
// tag. The copy is protected as the card's file is. Errors: ErrName, ErrNoCard,
// ErrSnapshotExists.
func (d *Dir) Snapshot(card, tag string) error {
	to, err := d.snapshotFile(card, tag)
	if err != nil {
		return err
	}
	from, err := d.file(card, cardSuffix)
	if err != nil {
		return err
	}
	if _, err := store.Inspect(from, d.opt); err != nil {
		return d.failed("open", card, err)
	}
	err = copyFile(from, to)
	if errors.Is(err, fs.ErrExist) {
		err = fmt.Errorf("%w called %q", ErrSnapshotExists, tag)
	}
	return failed("snapshot", card, err)
}

// copyFile copies a card's file, which is replaced whole whenever it changes,
// to a new file of its own. There is no copy until it is whole.
func copyFile(from, to string) (err error) {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(to), "new-*") // for its owner alone
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Link(f.Name(), to)
}

// Snapshot is what was kept of a card under a tag.
type Snapshot struct {
	Tag string
	store.Info
	// Err is why nothing can be said of it, nil if something can.
	Err error
}

// Snapshots lists what was kept of a card, sorted by tag. A damaged snapshot
// does not hide the others.
func (d *Dir) Snapshots(card string) ([]Snapshot, error) {
	if _, err := d.Inspect(card); err != nil {
		return nil, err
	}
	tags, err := listed(d.snapshotFolder(card))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, failed("list the snapshots of", card, err)
	}
	list := make([]Snapshot, len(tags))
	for i, tag := range tags {
		list[i].Tag = tag
		path, err := d.snapshotFile(card, tag)
		if err == nil {
			list[i].Info, err = store.Inspect(path, d.opt)
		}
		list[i].Err = err
	}
	return list, nil
}

// ReadSnapshot gives the state that was kept under a tag. opt is how the card's
// files were sealed then. Errors: ErrNoSnapshot, ErrWritable.
func (d *Dir) ReadSnapshot(card, tag string, opt store.Options) (chip.Durable, error) {
	if err := d.hasSnapshot(card, tag); err != nil {
		return chip.Durable{}, err
	}
	if err := guarded(d.snapshotFolder(card)); err != nil {
		return chip.Durable{}, failed("restore", card, err)
	}
	path, err := d.snapshotFile(card, tag)
	if err != nil {
		return chip.Durable{}, err
	}
	state, _, err := store.Read[chip.Durable](path, opt)
	return state, failed("restore", card, err)
}

// ErrSealedOtherwise says that what is needed to open a snapshot is not what opened its
// card.
var ErrSealedOtherwise = errors.New("the snapshot is sealed otherwise than the card")

// ReadSnapshotUnasked is ReadSnapshot for those who cannot ask anybody: a snapshot that
// is sealed in another way than its card is now is ErrSealedOtherwise.
func (d *Dir) ReadSnapshotUnasked(card, tag string, opt store.Options) (chip.Durable, error) {
	now, err := d.Inspect(card)
	if err != nil {
		return chip.Durable{}, err
	}
	if then := d.Seal(Origin{Card: card, Tag: tag}); then != seal.KindNone && then != now.Seal {
		return chip.Durable{}, ErrSealedOtherwise
	}
	return d.ReadSnapshot(card, tag, opt)
}

// Tags are those of the readable snapshots of a card, none for a card that is kept
// nowhere.
func (d *Dir) Tags(card string) ([]string, error) {
	list, err := d.Snapshots(card)
	if errors.Is(err, ErrNoCard) {
		return nil, nil
	}
	var tags []string
	for _, one := range list {
		if one.Err == nil {
			tags = append(tags, one.Tag)
		}
	}
	return tags, err
}

// RemoveSnapshot removes what was kept under a tag, damaged or not. Errors:
// ErrName, ErrNoCard, ErrNoSnapshot.
func (d *Dir) RemoveSnapshot(card, tag string) error {
	path, err := d.snapshotFile(card, tag)
	if err != nil {
		return err
	}
	if !d.exists(card) {
		return failed("remove a snapshot of", card, d.absence(card))
	}
	err = os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w %q", ErrNoSnapshot, tag)
	}
	return failed("remove a snapshot of", card, err)
}
