package lesson

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"hsmemu/emulator/control"
	"hsmemu/emulator/statedir"
	"hsmemu/vsmartcard/pcscd"
)

// A Player is a session together with the readers that its cards are in.
type Player struct {
	*Session

	told    announcement
	readers *control.Private
	record  sync.WaitGroup
	end     context.CancelFunc
	remove  func() error // the socket's folder
}

// folderName begins the name of a session's folder.
const folderName = "hsmemu-lesson"

// Begin makes a session in a new folder, with its cards in the readers of a private
// PC/SC daemon. Close ends it. A failure of the lesson's setup is a *Problem. Errors:
// those of Options.Check.
func Begin(ctx context.Context, l *Lesson, o Options) (p *Player, err error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	// Programs run in another folder than this one.
	temporary, err := filepath.Abs(os.TempDir())
	if err != nil {
		return nil, err
	}
	dir, told, err := o.folder(temporary)
	if err != nil {
		return nil, err
	}
	p = &Player{Session: &Session{Lesson: l, dir: dir, clock: o.World.Clock}, told: told, end: func() {}, remove: func() error { return nil }}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
			p = nil
		}
	}()
	p.facts = facts{Limit: o.Limit, Student: o.Student, Report: o.Report}
	if p.facts.Limit == 0 {
		p.facts.Limit = DefaultLimit
	}
	for _, sub := range append([]string{"bin"}, writable...) {
		if err := os.Mkdir(p.path(sub), 0o700); err != nil {
			return p, err
		}
	}
	if err := copyFiles(l.files, p.path("lesson")); err != nil {
		return p, err
	}
	if err := os.Symlink(o.Program, p.path("bin", "hsmemu")); err != nil {
		return p, err
	}
	if err := os.WriteFile(p.path("bin", "lesson"), []byte("#!/bin/sh\nexec hsmemu lesson \"$@\"\n"), 0o700); err != nil { //nolint:gosec // it is a program
		return p, err
	}
	if l.Setup != "" {
		out, code, err := p.run(ctx, l.Setup, "", 10*p.facts.Limit, true)
		if err == nil && code != 0 {
			err = fmt.Errorf("%w: exit code %d: %s", ErrScript, code, out)
		}
		if err != nil {
			return p, &Problem{File: l.Setup, What: err.Error()}
		}
	}
	if err := p.Session.serve(ctx, func() error { return nil }); err != nil {
		return p, err
	}
	if p.cards, err = statedir.Open(p.path("state"), unsealed()); err != nil {
		return p, err
	}
	if err := p.connect(ctx, o); err != nil {
		return p, err
	}
	if err := p.begin(); err != nil {
		return p, err
	}
	text, err := json.Marshal(p.facts)
	if err != nil {
		return p, err
	}
	return p, os.WriteFile(p.path(factsFile), text, 0o600)
}

// folder makes a session's folder, and announces it before it is there: otherwise nobody would
// know of it if this process were killed in between.
func (o Options) folder(in string) (dir string, told announcement, err error) {
	dir = filepath.Join(in, folderName+strings.ToLower(rand.Text()[:10]))
	if o.Announced != "" {
		ending := announced
		if o.proof {
			ending = proving
		}
		clearLeft(o.Announced)
		if told, err = announce(o.Announced, ending, dir); err != nil {
			err = errors.Join(err, told.withdraw())
			if !o.proof { // which nobody has to find
				return "", announcement{}, err
			}
			told = announcement{}
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", told, errors.Join(err, told.withdraw())
	}
	return dir, told, nil
}

// Cards are those in readers.
func (p *Player) Cards() []*control.Card {
	if p.readers == nil {
		return nil
	}
	return p.readers.Cards
}

// connect puts the lesson's cards into readers, and records what happens to them.
func (p *Player) connect(ctx context.Context, o Options) error {
	if len(p.Lesson.Cards) == 0 {
		return nil
	}
	var places control.Places
	for _, name := range p.Lesson.Cards {
		card, err := p.cards.Run(name, o.World)
		if errors.Is(err, statedir.ErrNoCard) {
			err = &Problem{File: ownFile, What: fmt.Sprintf("card %q: %s makes none of that name", name, cmp.Or(p.Lesson.Setup, "no setup script"))}
		}
		if err != nil {
			return errors.Join(err, places.Release())
		}
		places = append(places, control.Placement{Name: name, Card: card.Card, Kept: card, Release: card.Close})
		if places[len(places)-1].Socket, err = p.cards.Socket(name); err != nil {
			return errors.Join(err, places.Release())
		}
	}
	l, at, remove, err := pcscd.ListenIn(os.Getenv("XDG_RUNTIME_DIR"), filepath.Dir(p.dir))
	if err != nil {
		return errors.Join(err, places.Release())
	}
	p.remove = remove
	p.facts.Socket = at
	if err := p.told.add(at); err != nil {
		return errors.Join(err, l.Close(), places.Release())
	}
	if p.readers, err = control.Start(context.WithoutCancel(ctx), l, at, places); err != nil {
		return err
	}
	events, err := os.OpenRoot(p.path("events"))
	if err != nil {
		return err
	}
	var all recorders
	err = events.Mkdir(askedFolder, 0o700)
	for _, card := range p.readers.Cards {
		if err == nil {
			err = all.watch(card, events)
		}
	}
	if err != nil {
		return errors.Join(err, events.Close())
	}
	recording, end := context.WithCancel(context.WithoutCancel(ctx))
	p.end = end
	p.record.Go(func() { all.record(recording, events) })
	return nil
}

// Close ends the session: what its scripts have left running is killed, and its
// folder removed.
func (p *Player) Close() error {
	_ = os.Remove(p.path(factsFile)) // nobody joins it any more; it goes with the folder
	for _, file := range []string{groups, serving} {
		text, _ := p.read(course, file) // it is not there where nothing was started
		for _, line := range strings.Fields(string(text)) {
			if group, err := strconv.Atoi(line); err == nil && group > 1 {
				killGroup(group)
			}
		}
	}
	killMarked(markOf(p.dir))
	p.end()
	var err error
	if p.readers != nil {
		err = p.readers.Close()
	}
	p.record.Wait()
	if err = errors.Join(err, p.remove(), removeTree(p.dir)); err != nil {
		return errors.Join(err, p.told.leave())
	}
	return p.told.withdraw()
}
