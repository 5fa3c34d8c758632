//go:build linux

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a file or standard input has is no mistake of the command line, whatever is wrong with it; and it is said in our words.
func TestErrors_WhatIsReadIsNoUsage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	empty, short, statement := file("empty", ""), file("short", "12\n"), file("statement", "{")
	for _, c := range []struct {
		line []string
		says string
	}{
		{[]string{"card", "new", "a", "--like", "user=3/3", "--so-pin-file", empty}, "hsmemu: the SO-PIN is empty\n"},
		{[]string{"card", "new", "a", "--like", "user=3/3", "--so-pin-file", short}, "hsmemu: the SO-PIN: it is 16 hexadecimal digits\n"},
		{[]string{"card", "new", "a", "--like", "user=3/3", "--pin-file", empty}, "hsmemu: the user PIN is empty\n"},
		{[]string{"card", "new", "a", "--like", "user=3/3", "--pin-file", short}, "hsmemu: the user PIN: it is 6 to 16 bytes\n"},
		{[]string{"conform", "--so-pin-file", empty}, "hsmemu: the SO-PIN is empty\n"},
		{[]string{"conform", "--so-pin-file", short}, "hsmemu: read SO-PIN: it is 16 hexadecimal digits\n"},
		{[]string{"conform", "--statement", statement}, "hsmemu: read the statement in " + statement + ": the JSON object has no end\n"},
		{[]string{"apdu", "-"}, "hsmemu: read commands: a line is longer than 262144 characters\n"},
	} {
		var said bytes.Buffer
		a := newApp(t, dir)
		a.in, a.err = strings.NewReader(strings.Repeat("0", 1<<19)), &said
		require.Equal(t, exitFailed, a.run(t.Context(), c.line), "%v: %s", c.line, &said)
		require.True(t, strings.HasSuffix(said.String(), c.says), "%v: %s", c.line, &said)
	}
}
