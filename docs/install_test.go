package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// install runs .ci/install for a group as an ordinary user without sudo, on a
// Debian that has no package of it and only the programs named, with what they
// print after an equals sign.
func install(t *testing.T, group string, programs ...string) (said string, code int) {
	t.Helper()
	dir := t.TempDir()
	// Read here and copied, so that a change of them is a reason to run the test again.
	require.NoError(t, os.Mkdir(filepath.Join(dir, ".ci"), 0o755))
	for _, name := range []string{".ci/install", "go.mod"} {
		text, err := os.ReadFile(filepath.Join("..", name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o644))
	}
	for _, name := range []string{"bash", "dirname", "sed"} {
		path, err := exec.LookPath(name)
		require.NoError(t, err)
		require.NoError(t, os.Symlink(path, filepath.Join(dir, name)))
	}
	script := func(name, does string) {
		writeProgram(t, filepath.Join(dir, name), "#!"+filepath.Join(dir, "bash")+"\n"+does+"\n")
	}
	script("id", "echo 1000")
	script("dpkg-query", "exit 1")
	script("apt-get", "echo installs something")
	for _, program := range programs {
		name, says, _ := strings.Cut(program, "=")
		script(name, "echo "+says)
	}
	cmd := exec.Command(filepath.Join(dir, "bash"), filepath.Join(dir, ".ci/install"), group)
	cmd.Env = []string{"PATH=" + dir}
	out, err := cmd.CombinedOutput()
	if err != nil {
		require.IsType(t, &exec.ExitError{}, err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// writeProgram writes a program that is about to be started. A process that another test is
// starting meanwhile would have its file open for writing, and no system runs such a file.
func writeProgram(t *testing.T, path, text string) {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	require.NoError(t, os.WriteFile(path, []byte(text), 0o755))
}

// The demonstration takes no more than it shows.
func TestInstall_DemoNeedsThreePackages(t *testing.T) {
	t.Parallel()
	said, code := install(t, "demo", "git", "make", "go", "npm")
	require.Equal(t, "install: missing packages, and neither root nor sudo to install them; "+
		"as root: apt-get install --no-install-recommends libpcsclite1 opensc openssl\n", said)
	require.Equal(t, 1, code)
}

// Where all packages are there, root is needed only for the folder that pcscd does not start without.
func TestInstall_FolderOfPCSCD(t *testing.T) {
	t.Parallel()
	wants, exits := "", 0
	if _, err := os.Stat("/run/pcscd"); err != nil {
		wants, exits = "install: missing folder for pcscd, and neither root nor sudo to make it; as root: install -d -m 755 /run/pcscd\n", 1
	}
	said, code := install(t, "test", "git", "make", "go", "npm", "dpkg-query=installed")
	require.Equal(t, wants, said)
	require.Equal(t, exits, code)
	said, code = install(t, "demo", "git", "make", "go", "npm", "dpkg-query=installed")
	require.Empty(t, said)
	require.Zero(t, code)
}

// Node is for the client in its language, and npm fetches what the test of pages needs.
func TestInstall_NodeIsForLanguagesAndTests(t *testing.T) {
	t.Parallel()
	for group, node := range map[string]bool{"demo": false, "test": true, "clients": false, "packages": false, "languages": true} {
		said, code := install(t, group, "git", "make", "go")
		require.Equal(t, 1, code, said)
		require.Equal(t, node, regexp.MustCompile(`\b(nodejs|npm)\b`).MatchString(said), "%s: %s", group, said)
	}
}

// What has to be there first is named, all at once.
func TestInstall_NamesWhatComesFirst(t *testing.T) {
	t.Parallel()
	said, code := install(t, "demo")
	require.Regexp(t, `^install: missing: git \(package git\)\ninstall: missing: make \(package make\)\n`+
		`install: missing: Go 1\.\d+ \(https://go\.dev/doc/install\)\n$`, said)
	require.Equal(t, 1, code)
	said, _ = install(t, "demo", "git", "go")
	require.Equal(t, "install: missing: make (package make)\n", said)
	for version, old := range map[string]bool{"go1.9": true, "go1.19.8": true, "go1.20": true, "go1.21.0": false, "go1.26.8": false, "go1.100": false} {
		said, _ = install(t, "demo", "git", "make", "go="+version)
		require.Equal(t, old, strings.Contains(said, "is too old"), "%s: %s", version, said)
	}
}

func TestInstall_ListsItsGroups(t *testing.T) {
	t.Parallel()
	said, code := install(t, "none", "git", "make", "go")
	require.Equal(t, "install: no group none: there are demo test languages clients packages\n", said)
	require.Equal(t, 2, code)
}

// What is installed is for everybody, whatever the umask of who installs it, and the unit finds the program
// also where its folder has a blank in its name.
func TestInstall_IsForEverybody(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"Makefile", "docs/hsmemu.service"} {
		text, err := os.ReadFile(filepath.Join("..", name))
		require.NoError(t, err)
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o644))
	}
	// In place of the program, which says other things in its files, and of the Go tool, which would make it.
	require.NoError(t, os.Mkdir(filepath.Join(dir, "bin"), 0o755))
	writeProgram(t, filepath.Join(dir, "bin/hsmemu"), "#!/bin/sh\ncase $1 in man) echo page > \"$3/hsmemu.1\";; *) echo \"$2\";; esac\n")
	prefix := filepath.Join(dir, "a prefix")
	cmd := exec.Command("sh", "-c", `umask 077 && make GO=true install PREFIX="$1"`, "sh", prefix)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	files := 0
	require.NoError(t, filepath.WalkDir(prefix, func(path string, entry os.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := entry.Info()
		require.NoError(t, err)
		want := os.FileMode(0o644)
		switch {
		case path == prefix+"/bin/hsmemu":
			want = 0o755
		case entry.IsDir():
			want = 0o755 | os.ModeDir
		}
		require.Equal(t, want, info.Mode(), path)
		if !entry.IsDir() {
			files++
		}
		return nil
	}))
	require.Equal(t, 6, files)
	unit, err := os.ReadFile(filepath.Join(prefix, "lib/systemd/user/hsmemu.service"))
	require.NoError(t, err)
	require.Contains(t, string(unit), "\nExecStart=\""+prefix+"/bin/hsmemu\" run ")
}
