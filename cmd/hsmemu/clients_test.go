//go:build linux && clients

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"
)

// clientLine is a line at the head of a scenario in testdata/clients. Its others are for the table in docs/clients.md:
//
//	releases  the releases of Debian that it is played with: 12, 13, sid
//	package   a package, and the beginning of its version on each of these releases
//	program   one that no package has: a variable of the environment with its path, and its name on PATH
var clientLine = regexp.MustCompile(`(?m)^# (releases|package|program): (.+)$`)

// debianReleases are the code names of those that scenarios name.
var debianReleases = map[string]string{"bookworm": "12", "trixie": "13", "sid": "sid"}

// TestClients plays the scenarios of testdata/clients: programs that people use with their cards. Each
// verifies what came out with another program. Their commands are TestPrivate's, $KEYS is what they
// begin with, $READER_CONF the example of our package for pcscd, and $DEBIAN the release. The release of Debian is that of the folder $CLIENTS, as for TestPrivate, or without it this
// machine's; scenarios of others are left out, and those that need packages of another release installed, or
// a program that no package has and that is not there.
// The build tag clients is there because they take more packages than the other tests do: those of .ci/install clients.
func TestClients(t *testing.T) {
	system, err := os.ReadFile("/etc/os-release")
	require.NoError(t, err)
	code := regexp.MustCompile(`(?m)^VERSION_CODENAME=(\w+)$`).FindSubmatch(system)
	require.NotNil(t, code, "this is no Debian system")
	here := debianReleases[string(code[1])]
	release := here
	if folder := os.Getenv("CLIENTS"); folder != "" {
		release = debianReleases[strings.TrimPrefix(filepath.Base(folder), "debian-")]
	}
	require.NotEmpty(t, release, "no release that scenarios are for")
	all, err := filepath.Glob("testdata/clients/*.txtar")
	require.NoError(t, err)
	params := privateParams(t)
	for _, file := range all {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		if playable(t, file, text, release, release == here) {
			params.Files = append(params.Files, file)
		}
	}
	require.NotEmpty(t, params.Files)
	keys, err := filepath.Abs("testdata/clients/keys.sh")
	require.NoError(t, err)
	readers, err := filepath.Abs("../../.ci/dist/reader.conf")
	require.NoError(t, err)
	setup := params.Setup
	params.Setup = func(env *testscript.Env) error {
		env.Setenv("KEYS", keys)
		env.Setenv("READER_CONF", readers)
		env.Setenv("DEBIAN", release)
		env.Setenv("RAM_CLIENT", os.Getenv("RAM_CLIENT"))
		return setup(env)
	}
	testscript.Run(t, params)
}

// playable reports whether a scenario is for this release, and fails if its packages have other versions
// than it says. installed tells that this machine's own packages are of that release.
func playable(t *testing.T, file string, text []byte, release string, installed bool) bool {
	t.Helper()
	var releases []string
	for _, line := range clientLine.FindAllSubmatch(text, -1) {
		words := strings.Fields(string(line[2]))
		switch string(line[1]) {
		case "releases":
			releases = words
			continue
		case "program":
			if !provided(t, words[0], words[1]) {
				t.Logf("%s is left out: %s is not on PATH, and $%s does not name it; docs/clients.md tells where it is from", file, words[1], words[0])
				return false
			}
			continue
		}
		at := slices.Index(releases, release)
		if at < 0 {
			return false
		}
		require.Len(t, words, 1+len(releases), "%s: a version for every release", file)
		have := debianVersion(t, words[0], installed)
		if have == "" {
			require.False(t, installed, "install the package %s", words[0])
			t.Logf("%s is left out: package %s is neither in $CLIENTS nor installed in that release", file, words[0])
			return false
		}
		if release != "sid" { // whose versions are others every week
			require.True(t, strings.HasPrefix(have, words[1+at]), "%s: package %s has version %s, not %s", file, words[0], have, words[1+at])
		}
	}
	require.NotEmpty(t, releases, "%s: no releases", file)
	return true
}

// provided reports whether there is a program that no package has, and puts its path into the environment
// of scenarios, in the variable that names it.
func provided(t *testing.T, variable, name string) bool {
	t.Helper()
	if path := os.Getenv(variable); path != "" {
		require.FileExists(t, path, "$%s", variable)
		return true
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return false
	}
	t.Setenv(variable, path)
	return true
}

// debianVersion is the version of a package, without its epoch: of that in $CLIENTS, or else of the one that is installed.
func debianVersion(t *testing.T, name string, installed bool) string {
	t.Helper()
	archives, err := filepath.Glob(filepath.Join(os.Getenv("CLIENTS"), "cache/archives", name+"_*.deb"))
	require.NoError(t, err)
	var cmd *exec.Cmd
	switch {
	case os.Getenv("CLIENTS") != "" && len(archives) > 0:
		slices.Sort(archives)
		cmd = exec.Command("dpkg-deb", "--show", "--showformat", "${Version}", archives[len(archives)-1])
	case installed:
		cmd = exec.Command("dpkg-query", "--show", "--showformat", "${Version}", name)
	default:
		return ""
	}
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	if _, after, ok := strings.Cut(string(out), ":"); ok {
		return after
	}
	return string(out)
}
