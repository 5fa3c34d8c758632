package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// module returns the path of the module, which go.mod alone knows.
func module(t *testing.T) string {
	t.Helper()
	said, err := in("..", "go", "list", "-m")
	require.NoError(t, err, said)
	return strings.TrimSpace(said)
}

// in runs a program in a folder and returns all that it says.
func in(dir string, args ...string) (string, error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = dir
	// Without folders in what is built from a temporary folder, the next run finds it in
	// the cache. A tool of .ci/tools is built from the module cache alone: make check
	// builds the same with the usual flags, and its thousand packages need minutes.
	if !slices.Contains(args, "tool") {
		cmd.Env = append(os.Environ(), "GOFLAGS=-trimpath")
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// copied returns a folder with the project's files as they are now.
func copied(t *testing.T) string {
	t.Helper()
	top, err := filepath.Abs("..")
	require.NoError(t, err)
	names, err := in(top, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	require.NoError(t, err, names)
	dir := t.TempDir()
	for _, name := range strings.Split(strings.TrimSuffix(names, "\x00"), "\x00") {
		text, err := os.ReadFile(filepath.Join(top, name))
		if os.IsNotExist(err) {
			continue // removed, and not yet committed
		}
		require.NoError(t, err)
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o644))
	}
	return dir
}

// mentions returns where the files in a folder name a package of the module with
// that path, or the module itself for the go command.
func mentions(t *testing.T, dir, path string) []string {
	t.Helper()
	rooms, err := in(dir, "sh", "-c", "ls -d */ | tr -d /")
	require.NoError(t, err, rooms)
	named := regexp.MustCompile(`(^|[^\w./-])` + regexp.QuoteMeta(path) + `(/(` + strings.Join(strings.Fields(rooms), "|") + `)\b|@|=|\]|\})|^module ` + regexp.QuoteMeta(path) + `$`)
	var found []string
	require.NoError(t, filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(name)
		for _, line := range strings.Split(string(text), "\n") {
			if named.MatchString(line) {
				found = append(found, strings.TrimPrefix(name, dir+"/")+": "+line)
			}
		}
		return err
	}))
	return found
}

// The module's path is changed by one command, twice: to one that holds the old
// one, and on to one that begins like it.
func TestModule_GetsAnotherPath(t *testing.T) {
	t.Parallel()
	dir := copied(t)
	was := module(t)
	require.NotEmpty(t, mentions(t, dir, was))
	for _, path := range []string{"renamed.example/of/" + filepath.Base(was), "renamed.example/of/" + filepath.Base(was) + "-next"} {
		said, err := in(dir, "make", "module", "MODULE="+path)
		require.NoError(t, err, said)
		require.Contains(t, said, was+" is now "+path)
		require.Empty(t, mentions(t, dir, was))
		was = path
	}
	for _, command := range []string{
		"go build -o program ./cmd/hsmemu",
		"./program --state cards card new alice",
		"go vet ./...",
		"go tool -modfile=.ci/tools/go.mod golangci-lint fmt --diff",
		"go test -run=TestAPI|TestDocs|TestContributing|TestLayers ./docs ./cmd/hsmemu", // what knew the path
	} {
		said, err := in(dir, strings.Fields(command)...)
		require.NoError(t, err, "%s: %s", command, said)
	}
	said, err := in(dir, "go", "version", "-m", "program")
	require.NoError(t, err)
	require.Regexp(t, `(?m)^\tpath\t`+was+`/cmd/hsmemu$`, said)
}

func TestModule_RefusesPaths(t *testing.T) {
	t.Parallel()
	was := module(t)
	dir := t.TempDir() // not the project's: what should be refused may not be
	program := filepath.Join(dir, "program")
	said, err := in("..", "go", "build", "-modfile=.ci/tools/go.mod", "-o", program, ".ci/module.go")
	require.NoError(t, err, said)
	mod, err := os.ReadFile("../go.mod")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), mod, 0o644))
	for path, why := range map[string]string{
		"":                          "no path given: make module MODULE=example.org/you/hsmemu",
		was:                         was + " is the path already",
		"net/http":                  `malformed module path "net/http": missing dot in first path element`,
		"https://example.org/x":     `malformed module path "https://example.org/x": double slash`,
		"example.org/a b":           `malformed module path "example.org/a b": invalid char ' '`,
		"example.org/../x":          `malformed module path "example.org/../x": invalid path element ".."`,
		"example.org/x/v2":          "example.org/x/v2: the ending /v2 belongs to a later major version",
		"github.com/spf13/cobra":    "github.com/spf13/cobra: the required module github.com/spf13/cobra has this place",
		"github.com/stretchr":       "github.com/stretchr: the required module github.com/stretchr/testify has this place",
		"github.com/spf13/cobra/me": "github.com/spf13/cobra/me: the required module github.com/spf13/cobra has this place",
	} {
		said, err := in(dir, program, path)
		require.Error(t, err, path)
		require.Equal(t, "module: "+why+"\n", said)
	}
}
