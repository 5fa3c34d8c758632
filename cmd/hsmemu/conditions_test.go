//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var openSCVersion = regexp.MustCompile(`OpenSC 0\.(\d+)`)

// conditions are what a line of a script may depend on, besides testscript's own:
//
//	[opensc-0.26]  OpenSC's programs are of that version, or of a later one
//	[foreign]      the programs are of another Debian release than this machine's, and with them their module
func conditions(t *testing.T) func(string) (bool, error) {
	t.Helper()
	said, err := exec.Command("opensc-tool", "--info").CombinedOutput()
	require.NoError(t, err)
	found := openSCVersion.FindSubmatch(said)
	require.NotNil(t, found, "opensc-tool --info says %q", said)
	have, err := strconv.Atoi(string(found[1]))
	require.NoError(t, err)
	t.Logf("played with %s; .ci/clients plays with the versions of other Debian releases", found[0])
	return func(name string) (bool, error) {
		if name == "foreign" {
			return os.Getenv("CLIENTS") != "", nil
		}
		minor, ok := strings.CutPrefix(name, "opensc-0.")
		if !ok {
			return false, fmt.Errorf("there is no condition %q", name)
		}
		want, err := strconv.Atoi(minor)
		return have >= want, err
	}
}
