//go:build linux

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hsmemu/cmd/hsmemu/commandline"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

// keyFile stands for a file with a key in it.
const keyFile = "KEY"

// more are the arguments of commands besides the name of the card.
var more = map[string][]string{
	"card new": {"--from", "/nowhere/file"}, "card show": nil, "card rm": {"--force"}, "card rename": {"other"}, "card copy": {"other"},
	"card fault": {"--list"}, "card snapshot": {"tag"}, "card restore": {"tag"}, "card snapshots": nil,
	"card export": {"/nowhere/file", "--unprotected"}, "card import": {"/nowhere/file"}, "card reseal": {"--seal", "none"}, "card accept": nil,
	"card eject": nil, "card insert": nil, "card reset": nil,
	"card authenticate": {"--with", "nosuch"}, "card import-key": {"--share", "/nowhere/share", keyFile},
	"exec": {"--", "true"}, "run": nil, "apdu": {"00"}, "trace": nil, "attest": {"--key", "1"}, "status": nil, "conform": nil,
	"ram": {"http://localhost/rt/paas"}, "lesson expect": {"state=operational"},
}

// without are the commands that are about no card.
var without = []string{
	"", "card", "card list", "conform client", "portal", "portal serve", "version",
	"lesson", "lesson list", "lesson check", "lesson hint", "lesson next", "lesson undo", "lesson reset", "lesson join", "lesson class", "capabilities", "completion", "man",
}

// Every command names its card in one of two ways, and those with an argument take
// the flag, too, which is not shown.
func TestNaming_OneWayForEveryCommand(t *testing.T) {
	t.Parallel()
	env := map[string]string{"HSMEMU_STATE": t.TempDir(), "HSMEMU_PIN": "648219"}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "key.pem")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	told := 0
	everyCommand(rootCommand(newApp(t, t.TempDir())), func(c *cobra.Command) {
		name := commandline.Name(c)
		rest, known := more[name]
		if !known {
			require.Contains(t, append(without, c.Root().Name()), name, "how does this command name its card?")
			return
		}
		rest = slices.Clone(rest)
		if i := slices.Index(rest, keyFile); i >= 0 {
			rest[i] = file
		}
		words, flag := strings.Fields(name), c.Flags().Lookup("card")
		require.NotNil(t, flag, name)
		require.Equal(t, words[0] == "card" && words[len(words)-1] != "authenticate" && words[len(words)-1] != "import-key", flag.Hidden, name)
		at := max(slices.Index(strings.Fields(c.Use)[1:], "NAME"), 0)
		byFlag := slices.Concat(words, []string{"--card", "nosuch"}, rest)
		_, said, code := called(t, env, byFlag...)
		require.Contains(t, said, `card "nosuch"`, name)
		require.NotContains(t, said, "usage:", name)
		require.NotEqual(t, exitUsage, code, name)
		told++
		if !flag.Hidden {
			return
		}
		_, same, _ := called(t, env, slices.Concat(words, slices.Insert(slices.Clone(rest), min(at, len(rest)), "nosuch"))...)
		require.Equal(t, said, same, name)
		out, _, _ := called(t, env, append(slices.Clone(words), "--help")...)
		require.NotContains(t, out, "--card", name)
	})
	require.Equal(t, len(more), told)
}

// The card of the environment is never the one that a command with an argument
// acts on.
func TestNaming_TheEnvironmentIsNoArgument(t *testing.T) {
	t.Parallel()
	env := map[string]string{"HSMEMU_STATE": t.TempDir(), "HSMEMU_CARD": "lab"}
	_, said, code := called(t, env, "card", "new", "lab")
	require.Zero(t, code, said)
	_, said, code = called(t, env, "card", "rm", "--force")
	require.Equal(t, exitUsage, code)
	require.Contains(t, said, "card rm takes 1 argument, not 0")
}
