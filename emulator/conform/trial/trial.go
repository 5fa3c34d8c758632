// Package trial runs a program that is to be judged: it makes the cards of a situation, puts
// them into a private PC/SC daemon, runs the program there, and watches what the cards
// see of it. What that is worth, package conform says.
package trial

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hsmemu/applet"
	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/conform"
	"hsmemu/emulator/control"
	"hsmemu/emulator/program"
	"hsmemu/emulator/statedir"
	"hsmemu/emulator/view"
	"hsmemu/pinstate"
	"hsmemu/vsmartcard/pcscd"
)

// Trial is what a program is run with.
type Trial struct {
	// World is what the cards have around them, and Firmware is theirs; empty for the
	// default.
	World    emulator.World
	Firmware string
	// Limit is how long the program may take in a situation, with all that it has
	// started.
	Limit time.Duration
	// Args are the program and its arguments, Env its environment, to which the
	// variables of a situation are added, and Out is for what it prints.
	Args, Env []string
	Out       io.Writer
	// Begin is told of a situation before the program is run in it.
	Begin func(conform.Situation)
	// Folders are where the folder with the socket of a situation may be made, see
	// [pcscd.ListenIn].
	Folders []string
}

// Judge judges the program in situations, with Target, Firmware and Clock of o as it has
// them itself. Errors: those of [conform.JudgeProgram].
func (p Trial) Judge(ctx context.Context, all []conform.Situation, o conform.Audition) (conform.Report, error) {
	o.Target, o.Firmware, o.Clock = "program "+filepath.Base(p.Args[0]), cmp.Or(p.Firmware, applet.DefaultFirmware), p.World.Clock
	return conform.JudgeProgram(ctx, all, p.Play, o)
}

// part is a card in a situation.
type part struct {
	name, words string // as view.ParseSituation reads them
	pin, soPIN  pinstate.Value
}

// Parts of a situation.
const (
	theCard   = "card"
	aStranger = "stranger"
)

// Play runs the program in a situation, once. Only one program can be run at a time.
// Errors: conform.ErrUnstarted with a *program.StartError, those of the cards and the
// daemon.
func (p Trial) Play(ctx context.Context, s conform.Situation) (run conform.Run, err error) {
	l, socket, remove, err := pcscd.ListenIn(p.Folders...)
	if err != nil {
		return run, fmt.Errorf("make the private socket: %w", err)
	}
	defer func() { err = errors.Join(err, remove()) }()
	p.Begin(s)
	secrets, err := conform.DrawSecrets(p.World.Rand)
	if err != nil {
		return run, errors.Join(fmt.Errorf("draw PINs: %w", err), l.Close())
	}
	parts := []part{{aStranger, s.Stranger, secrets.Strangers, secrets.StrangersSO}, {theCard, s.Card, secrets.PIN, secrets.SOPIN}}
	if s.StrangerLast {
		slices.Reverse(parts)
	}
	var places control.Places
	own := 0
	for _, one := range parts {
		if one.words == "" {
			continue
		}
		card, err := p.make(ctx, one)
		if err != nil {
			return run, errors.Join(err, l.Close())
		}
		if one.name == theCard {
			own = len(places)
		}
		places = append(places, control.Placement{
			Name: one.name, Card: card.Card, Kept: card, Socket: filepath.Join(filepath.Dir(socket), one.name+".control"),
		})
	}
	d, err := control.Start(context.WithoutCancel(ctx), l, socket, places)
	if err != nil {
		return run, err
	}
	w := watch{own: d.Cards[own], happens: s.Happens, run: &run, start: p.World.Clock()}
	w.begin(d.Cards)
	if s.Happens == conform.Removal {
		err = w.own.Faults.Set("remove", []string{"at=pin"})
	}
	if err == nil {
		env := program.With(p.Env, pcscd.EnvSocket, socket)
		pin, soPIN := secrets.Given(s)
		for name, value := range map[string]string{
			"HSMEMU_PIN": string(pin), "HSMEMU_SO_PIN": fmt.Sprintf("%X", []byte(soPIN)),
			"HSMEMU_READER": d.Names[own], "HSMEMU_SITUATION": s.ID,
		} {
			env = program.With(env, name, value)
		}
		var ended program.Ended
		ended, err = program.Alone(ctx, p.Limit, p.Args, env, p.Out)
		if errors.As(err, new(*program.StartError)) {
			err = fmt.Errorf("%w: %w", conform.ErrUnstarted, err)
		}
		w.mu.Lock()
		run.Exit, run.Hung, run.Behind, run.Limit = int(ended.Exit), ended.Hung, ended.Behind, p.Limit
		w.mu.Unlock()
	}
	w.end()
	return run, errors.Join(err, d.Close())
}

// make makes a throw-away card in the words of a situation, with a key unless it was
// never initialised.
func (p Trial) make(ctx context.Context, one part) (*statedir.Card, error) {
	like, _, err := view.ParseSituation(strings.Split(one.words, ","))
	if err != nil {
		return nil, err
	}
	like.UserPIN, like.SOPIN = one.pin, one.soPIN
	state, err := p.World.Manufacture(chip.Order{Firmware: p.Firmware, Like: &like})
	if err != nil {
		return nil, err
	}
	card, err := statedir.Unkept(one.name, state, p.World)
	if err != nil || !like.Initialised {
		return card, err
	}
	now := state.Applet.PINs
	state.Applet.PINs = full(now)
	if card, err = statedir.Unkept(one.name, state, p.World); err != nil {
		return nil, err
	}
	if err := conform.Furnish(ctx, card.Card, like.UserPIN); err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	state = card.Card.Snapshot().Durable()
	state.Applet.PINs = now
	return statedir.Unkept(one.name, state, p.World)
}

// full is a card of which its owner has just changed the transport PIN, or presented
// both PINs.
func full(c pinstate.Card) pinstate.Card {
	c.User.Left, c.SO.Left, c.Transport = c.User.Max, c.SO.Max, false
	return c
}
