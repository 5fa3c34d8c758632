package start_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator"
	"hsmemu/emulator/start"
	"hsmemu/emulator/statedir"
	"hsmemu/emulator/store"
)

// opener opens cards of a new folder, of which usual is the default one; what it tells
// is in the list.
func opener(t *testing.T) (start.Opener, *[]string) {
	t.Helper()
	d, opt := state(t)
	told := &[]string{}
	return start.Opener{
		Dir: d, World: func(string) emulator.World { return emulator.System() }, Default: "usual",
		New: func() (store.Options, error) { return opt, nil },
		In:  statedir.Sealers{Snapshot: opt, File: opt},
		Made: func(card string, files []string) {
			*told = append(*told, strings.Join(append([]string{"made", card}, files...), " "))
		},
		Left: func(card string) { *told = append(*told, "left "+card) },
	}, told
}

// Readers are named in the order of the cards, and a mistake in a start state is seen
// before any card is made.
func TestWant(t *testing.T) {
	t.Parallel()
	dir := folder(t, map[string]string{"card.json": `{"firmware": "3.4"}`, "bob/card.json": `{"firmware": "2.6"}`})
	all, err := start.Want([]string{"alice", "bob", "carol"}, []string{"first", "second"}, dir)
	require.NoError(t, err)
	require.Equal(t, []string{"first", "second", ""}, []string{all[0].Reader, all[1].Reader, all[2].Reader})
	require.NotEqual(t, all[0].State, all[1].State)
	require.Equal(t, all[0].State, all[2].State)
	all, err = start.Want([]string{"alice"}, nil, "")
	require.NoError(t, err)
	require.Equal(t, []start.Wanted{{Card: "alice"}}, all)
	_, err = start.Want([]string{"alice"}, nil, folder(t, map[string]string{"card.json": "{"}))
	require.ErrorContains(t, err, "line 1: ")
}

// The default card is made on its first use, and a card with a start state in that; one
// that is there is left as it is.
func TestOpener_Makes(t *testing.T) {
	t.Parallel()
	o, told := opener(t)
	init, err := start.Want([]string{"lab"}, []string{"a reader"}, folder(t, map[string]string{"card.json": `{"firmware": "3.4"}`, "a.txt": "select"}))
	require.NoError(t, err)
	cards := append(init, start.Wanted{Card: "usual"})
	for i, want := range [][]string{{"made lab card.json a.txt", "made usual"}, {"left lab"}} {
		*told = nil
		places, err := o.Places(t.Context(), cards, "", nil)
		require.NoError(t, err)
		require.Equal(t, want, *told)
		require.Equal(t, "lab", places[0].Name)
		require.Equal(t, "a reader", places[0].Reader)
		require.Equal(t, i == 0, len(places[0].Start) == 2, "the start state of a card made just now")
		socket, err := o.Dir.Socket("lab")
		require.NoError(t, err)
		require.Equal(t, socket, places[0].Socket)
		require.ErrorAs(t, o.Dir.Held("usual"), new(*store.LockedError))
		require.NoError(t, places.Release())
		require.NoError(t, o.Dir.Held("usual"))
	}
	made, _, err := o.Dir.Read("lab")
	require.NoError(t, err)
	require.Equal(t, "3.4", made.Applet.Firmware)
	_, err = o.Places(t.Context(), []start.Wanted{{Card: "nobody"}}, "", nil)
	require.ErrorIs(t, err, statedir.ErrNoCard)
}

// Where a card cannot be had the others are given back, or go on without it.
func TestOpener_GoesOnWithout(t *testing.T) {
	t.Parallel()
	o, _ := opener(t)
	cards := []start.Wanted{{Card: "usual"}, {Card: "nobody"}}
	_, err := o.Places(t.Context(), cards, "", nil)
	require.ErrorIs(t, err, statedir.ErrNoCard)
	require.NoError(t, o.Dir.Held("usual"))
	var missing []error
	places, err := o.Places(t.Context(), cards, "", &missing)
	require.NoError(t, err)
	require.Len(t, places, 1)
	require.NoError(t, places.Release())
	require.Len(t, missing, 1)
	require.ErrorIs(t, missing[0], statedir.ErrNoCard)
	missing = nil
	_, err = o.Places(t.Context(), []start.Wanted{{Card: "one"}, {Card: "two"}}, "", &missing)
	require.EqualError(t, err, "open card \"one\": there is no such card\nopen card \"two\": there is no such card")
}

// A throw-away card has its control socket beside that of the daemon of its program: the
// card that it is a copy of may run meanwhile.
func TestOpener_ThrowAway(t *testing.T) {
	t.Parallel()
	o, _ := opener(t)
	_, err := start.FirstUse(o, "usual", func() (statedir.Card, error) {
		_, err := o.Dir.Inspect("usual")
		return statedir.Card{}, err
	})
	require.NoError(t, err)
	require.NoError(t, o.Dir.Snapshot("usual", "before"))
	places, err := o.Places(t.Context(), []start.Wanted{{Card: "usual"}, {Card: "usual", From: "before"}}, "/run/x/pcscd.comm", nil)
	require.NoError(t, err)
	require.Equal(t, "/run/x/usual.sock", filepath.ToSlash(places[1].Socket))
	require.NotEqual(t, places[0].Socket, places[1].Socket)
	require.NoError(t, places.Release())
	_, err = o.Places(t.Context(), []start.Wanted{{Card: "usual", From: "after"}}, "/run/x/pcscd.comm", nil)
	require.ErrorIs(t, err, statedir.ErrNoSnapshot)
}

// Who has enough while a card is made has none, and is told which.
func TestOpener_EndsWithItsContext(t *testing.T) {
	t.Parallel()
	o, told := opener(t)
	cards, err := start.Want([]string{"lab"}, nil, folder(t, map[string]string{"a.txt": "select"}))
	require.NoError(t, err)
	ctx, end := context.WithCancel(t.Context())
	end()
	_, err = o.Places(ctx, cards, "", nil)
	require.ErrorIs(t, err, context.Canceled)
	require.EqualError(t, err, `make card "lab": context canceled`)
	require.Empty(t, *told)
	require.ErrorIs(t, o.Dir.Held("lab"), statedir.ErrNoCard)
	o.New = func() (store.Options, error) { return store.Options{}, errors.New("no passphrase") }
	for _, one := range [][]start.Wanted{cards, {{Card: "usual"}}} {
		_, err = o.Places(t.Context(), one, "", nil)
		require.EqualError(t, err, "no passphrase")
	}
}
