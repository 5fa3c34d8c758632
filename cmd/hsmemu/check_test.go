//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/store"
)

// made is a state file that another program made, with a checksum that holds.
func made(t *testing.T, content any) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "made")
	require.NoError(t, store.Write(path, content, store.Options{}))
	return path
}

// altered is the state of a card with one of its numbers changed by hand.
func altered(t *testing.T, a *app, card, from, to string) json.RawMessage {
	t.Helper()
	cards, err := a.cards()
	require.NoError(t, err)
	d, _, err := cards.Read(card)
	require.NoError(t, err)
	form, err := json.Marshal(d)
	require.NoError(t, err)
	require.Contains(t, string(form), from)
	return json.RawMessage(strings.Replace(string(form), from, to, 1))
}

// A file is checked before it becomes a card: on import, when it is opened, and
// when a snapshot is restored.
func TestState_IsCheckedBeforeItIsACards(t *testing.T) {
	t.Parallel()
	a := newApp(t, t.TempDir())
	require.Zero(t, a.run(t.Context(), []string{"card", "new", "alice", "--serial", "DENK9900001"}))
	state := a.env("HSMEMU_STATE")
	path := filepath.Join(state, "alice.card")
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	equal := map[string]any{"applet": map[string]any{"firmware": "4.1", "files": make([]struct {
		ID   uint16 `json:"id"`
		Data []byte `json:"data"`
	}, 100_000)}}
	for says, content := range map[string]any{
		`firmware "" is not known`:                    map[string]any{},
		`firmware "9.9" is not known`:                 altered(t, a, "alice", `"firmware":"4.1"`, `"firmware":"9.9"`),
		"PINs or options before the first initialisa": altered(t, a, "alice", `"left":0,"max":0`, `"left":255,"max":255`),
		"no device key":                               equal,
	} {
		t.Run(says, func(t *testing.T) {
			file := made(t, content)
			var said bytes.Buffer
			b := *a
			b.err = &said
			require.Equal(t, exitFailed, b.run(t.Context(), []string{"card", "import", file, "bob"}))
			require.Contains(t, said.String(), `import card "bob": damaged file: `+file+": not the state of a card: "+says)
			require.NoFileExists(t, filepath.Join(state, "bob.card"))

			tag := filepath.Join(state, "snapshots", "alice", "made.card")
			require.NoError(t, os.MkdirAll(filepath.Dir(tag), 0o700))
			require.NoError(t, os.Rename(file, tag))
			said.Reset()
			require.Equal(t, exitFailed, b.run(t.Context(), []string{"card", "restore", "alice", "made", "--force"}))
			require.Contains(t, said.String(), says)

			carol := filepath.Join(state, "carol.card")
			require.NoError(t, os.Rename(tag, carol))
			said.Reset()
			require.Equal(t, exitFailed, b.run(t.Context(), []string{"apdu", "--card", "carol", "00A40400"}))
			require.Contains(t, said.String(), says)
		})
	}
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, before, after)
}

// A folder that everybody can write into is no place for cards, as sshd has it
// for keys.
func TestFolder_RefusesOneThatAllCanWrite(t *testing.T) {
	t.Parallel()
	for mode, taken := range map[os.FileMode]bool{
		0o700: true, 0o755: true, 0o770: true, 0o775: true,
		0o777: false, 0o702: false, 0o777 | os.ModeSticky: false,
	} {
		state := filepath.Join(t.TempDir(), "state")
		require.NoError(t, os.Mkdir(state, 0o700))
		require.NoError(t, os.Chmod(state, mode))
		a := newApp(t, state)
		var said bytes.Buffer
		a.err = &said
		code := a.run(t.Context(), []string{"card", "new", "alice"})
		if taken {
			require.Zero(t, code, "%s: %s", mode, said.String())
			continue
		}
		require.Equal(t, exitFailed, code, mode)
		require.Equal(t, fmt.Sprintf("hsmemu: state folder %s: everybody can write into it, and could put cards there\nhint: chmod o-w %s\n", state, state), said.String())
		left, err := os.ReadDir(state)
		require.NoError(t, err)
		require.Empty(t, left)
	}
}
