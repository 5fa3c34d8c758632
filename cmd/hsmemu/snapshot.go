package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"hsmemu/applet"
	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/store"
	"hsmemu/keystore/seal"
)

// snapshotFolder holds the snapshots of a card, in a folder of its name.
const snapshotFolder = "snapshots"

// snapshotPath is the file of a snapshot.
func (a *app) snapshotPath(name, tag string) (string, error) {
	path, err := a.path(name)
	if err != nil {
		return "", err
	}
	if !cardName.MatchString(tag) {
		return "", usageError{fmt.Errorf("tag %q: letters, digits, dot, dash and underscore, 64 at most", tag)}
	}
	return filepath.Join(filepath.Dir(path), snapshotFolder, name, tag+cardSuffix), nil
}

func newCardSnapshotCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "snapshot NAME TAG",
		Short: "keep the present state of a card under a tag",
		Long: "Keeps the present state of a card under a tag; the card may be in use. The copy is protected as the\n" +
			"card's own file is.",
		Args: exactly(2),
		RunE: func(_ *cobra.Command, args []string) error {
			from, err := a.path(args[0])
			if err != nil {
				return err
			}
			to, err := a.snapshotPath(args[0], args[1])
			if err != nil {
				return err
			}
			if _, err := store.Inspect(from, a.options()); err != nil {
				return a.explain(args[0], err)
			}
			if err := copyFile(from, to); err != nil {
				return fmt.Errorf("snapshot card %q: %w", args[0], err)
			}
			return nil
		},
	}
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
	err = os.Link(f.Name(), to)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("there is one called %q", strings.TrimSuffix(filepath.Base(to), cardSuffix))
	}
	return err
}

func newCardSnapshotsCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "snapshots NAME",
		Short: "list the snapshots of a card",
		Args:  exactly(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if _, err := a.inspect(args[0]); err != nil {
				return err
			}
			tags, err := a.snapshots(args[0])
			if err != nil {
				return err
			}
			for _, tag := range tags {
				path, err := a.snapshotPath(args[0], tag)
				if err != nil {
					return err
				}
				info, err := store.Inspect(path, a.options())
				if err != nil { // a damaged one does not hide the others
					fmt.Fprintf(a.out, "%s  %s\n", tag, spoken(err.Error()))
					continue
				}
				fmt.Fprintf(a.out, "%s  generation %d, seal %s\n", tag, info.Generation, info.Seal)
			}
			return nil
		},
	}
}

// snapshots lists the tags of a card's snapshots.
func (a *app) snapshots(name string) ([]string, error) {
	pattern, err := a.snapshotPath(name, "x")
	if err != nil {
		return nil, err
	}
	found, err := os.ReadDir(filepath.Dir(pattern))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	var tags []string
	for _, entry := range found { // sorted
		if tag, is := strings.CutSuffix(entry.Name(), cardSuffix); is && cardName.MatchString(tag) {
			tags = append(tags, tag)
		}
	}
	return tags, nil
}

// inspect tells what can be told of a card without opening it.
func (a *app) inspect(name string) (store.Info, error) {
	path, err := a.path(name)
	if err != nil {
		return store.Info{}, err
	}
	info, err := store.Inspect(path, a.options())
	if err != nil {
		return store.Info{}, a.explain(name, err)
	}
	return info, nil
}

// dropSnapshots removes what was kept of a card that is gone.
func (a *app) dropSnapshots(name string) error {
	path, err := a.snapshotPath(name, "x")
	if err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Dir(path)); err != nil {
		return fmt.Errorf("remove the snapshots of card %q: %w", name, err)
	}
	return nil
}

func newCardRestoreCommand(a *app) *cobra.Command {
	var force bool
	var phraseFile string
	cmd := &cobra.Command{
		Use:   "restore NAME TAG",
		Short: "put a card back into the state of a snapshot",
		Long: "Puts a card back into the state of a snapshot. Clients of a running card see a removal and an insertion.\n" +
			"That can undo a lockout, which no real card allows: a card sealed by a TPM refuses without --force.\n" +
			"A snapshot has the passphrase that the card had then; if it has another one now, say the old one with\n" +
			"--snapshot-passphrase-file or in $HSMEMU_SNAPSHOT_PASSPHRASE.",
		Args: exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := a.snapshotPath(args[0], args[1])
			if err != nil {
				return err
			}
			if _, err := a.inspect(args[0]); err != nil {
				return err
			}
			if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
				return hinted{fmt.Errorf("restore card %q: no snapshot %q", args[0], args[1]), "hsmemu card snapshots " + args[0]}
			}
			d, _, err := store.Read[chip.Durable](path, a.then(phraseFile))
			if err != nil {
				return explain("restore", args[0], err)
			}
			return a.restore(cmd.Context(), args[0], d, force)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "restore a card with a counter, too")
	cmd.Flags().StringVar(&phraseFile, "snapshot-passphrase-file", "", "file with the snapshot's passphrase in its first line")
	return cmd
}

// then is how the files of a card were sealed once: as they are now, unless a
// passphrase of then was given.
func (a *app) then(phraseFile string) store.Options {
	const variable = "HSMEMU_SNAPSHOT_PASSPHRASE"
	if phraseFile == "" && a.env(variable) == "" {
		return a.options()
	}
	old := seal.Passphrase{Ask: func() ([]byte, error) { return a.secret("passphrase of the snapshot", phraseFile, variable) }}
	return store.Options{Sealers: append([]seal.Sealer{old}, a.options().Sealers...)}
}

// restore gives a card another state, in its reader or in its file.
func (a *app) restore(ctx context.Context, name string, d chip.Durable, force bool) error {
	undone, err := a.replace(ctx, name, d, force)
	if err == nil {
		a.warn(name, undone)
		return nil
	}
	err = fmt.Errorf("restore card %q: %w", name, err)
	if errors.Is(err, emulator.ErrCounted) {
		return hinted{err, "--force restores it all the same"}
	}
	return err
}

// replace has the process that runs a card replace its state, or does so itself.
// It returns what that undoes.
func (a *app) replace(ctx context.Context, name string, d chip.Durable, force bool) (undone []string, err error) {
	raw, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	r, err := a.ask(ctx, name, request{Do: doRestore, State: raw, Force: force})
	if !errors.Is(err, errNobody) {
		return r.Lines, err
	}
	h, err := a.hold(name, refuseAbsent)
	if err != nil {
		return nil, err
	}
	undone = undoes(h.card.Snapshot().Durable(), d)
	return undone, errors.Join(h.card.Replace(d, force), h.Close())
}

func (a *app) warn(name string, undone []string) {
	for _, what := range undone {
		fmt.Fprintf(a.err, "hsmemu: card %q: %s, which no real card can do\n", name, what)
	}
}

// undoes says what a restored state takes back that a card never takes back.
func undoes(now, then chip.Durable) []string {
	var list []string
	was, is := now.Applet.PINs, then.Applet.PINs
	if was.Initialised && (!is.Initialised || is.SO.Left > was.SO.Left) {
		list = append(list, "SO-PIN tries that were spent came back")
	}
	if was.User.Value != nil && is.User.Left > was.User.Left {
		list = append(list, "user PIN tries that were spent came back")
	}
	return list
}

// restore replaces the card in its reader. What will not be taken does not take
// the card out.
func (s *control) restore(ctx context.Context, raw json.RawMessage, force bool) reply {
	defer clear(raw)
	var d chip.Durable
	switch err := json.Unmarshal(raw, &d); {
	case errors.Is(err, applet.ErrState):
		return failed(err)
	case err != nil:
		return reply{Error: "state not understood"}
	}
	if err := s.held.card.Replaceable(d, force); err != nil {
		return failed(err)
	}
	var undone []string
	err := s.inTurn(ctx, false, func(turn) error {
		undone = undoes(s.held.card.Snapshot().Durable(), d)
		out := s.ejected.Load()
		if !out {
			if err := s.reader.Eject(ctx); err != nil {
				return err
			}
		}
		err := s.held.card.Replace(d, force)
		if !out {
			err = errors.Join(err, s.reader.Insert(ctx))
		}
		return err
	})
	if err != nil {
		return failed(err)
	}
	return reply{Lines: undone}
}
