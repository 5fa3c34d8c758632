package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Parts of a split password come from people who copied them from a screen.
func FuzzSharePassword(f *testing.F) {
	f.Add("Prime       : ff:ff\nShare ID    : 1\nShare value : 0a:0b\n\nPrime : ffff\nShare ID : 2\nShare value : 0c0d\n")
	f.Add("correct horse\n")
	path := filepath.Join(f.TempDir(), "parts")
	f.Fuzz(func(t *testing.T, text string) {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		a := &app{env: func(string) string { return "" }}
		password, err := a.sharePassword("share", path)
		if err == nil && shownPart.MatchString(text) {
			require.Len(t, password, 8, "as long as sc-hsm-tool makes them")
		}
	})
}
