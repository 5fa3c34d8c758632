package program_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/program"
)

// Every way to write outside of the folder that a program is confined to is refused, and
// those within it are not. The script of a case finds the folder above as $UP.
func TestStartConfined(t *testing.T) {
	for _, c := range []struct {
		name, script string
		want         bool // it works
	}{
		{"a file", "echo x > new && test \"$(cat new)\" = x", true},
		{"folders, links, moves and pipes", "mkdir -p a/b c && echo x > a/b/f && mv a/b/f c/f && ln c/f a/g && ln -s c/f l && mkfifo p && rm -r a c", true},
		{"devices", "echo x > /dev/null && head -c 1 /dev/zero > /dev/null", true},
		{"what it is given open", "echo x >&3", true},
		{"reading elsewhere", "cat \"$UP/there\" && ls /", true},
		{"a path", "echo x > \"$UP/new\"", false},
		{"above", "cd .. && echo x > new", false},
		{"the root and on", "cd / && echo x > \".$UP/new\"", false},
		{"a variable", "d=/; touch \"${d}$UP/new\"", false},
		{"appending to a file that is there", "echo x >> \"$UP/there\"", false},
		{"making a file empty", ": > \"$UP/there\"", false},
		{"truncate", "truncate -s 0 \"$UP/there\"", false},
		{"through a link", "ln -s \"$UP/there\" link && echo x > link", false},
		{"through a link to a folder", "ln -s \"$UP\" link && echo x > link/new", false},
		{"moving out", "echo x > f && mv f \"$UP/new\"", false},
		{"moving in", "mv \"$UP/there\" f", false},
		{"a link into it", "ln \"$UP/there\" f && echo x > f", false},
		{"a folder", "mkdir \"$UP/new\"", false},
		{"a pipe", "mkfifo \"$UP/new\"", false},
		{"removing", "rm \"$UP/there\"", false},
		{"another program", "perl -e 'open(my $f, \">\", \"$ENV{UP}/new\") or exit 1'", false},
		{"in the background, when the shell has ended", "(setsid sh -c 'sleep 0.1; echo x > \"$UP/new\"; echo $? > done') & while ! test -s done; do sleep 0.01; done; exit \"$(cat done)\"", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			up := t.TempDir()
			in := filepath.Join(up, "in")
			require.NoError(t, os.Mkdir(in, 0o700))
			require.NoError(t, os.WriteFile(filepath.Join(up, "there"), []byte("there"), 0o600))
			open, err := os.Create(filepath.Join(up, "open"))
			require.NoError(t, err)
			defer open.Close()
			var said strings.Builder
			cmd := exec.Command("sh", "-c", c.script)
			cmd.Dir, cmd.Env, cmd.ExtraFiles = in, append(os.Environ(), "UP="+up), []*os.File{open}
			cmd.Stdout, cmd.Stderr = &said, &said
			require.NoError(t, program.StartConfined(cmd, in))
			err = cmd.Wait()
			if !program.Confines() { // no kernel to refuse it: it is started all the same
				return
			}
			require.Equal(t, c.want, err == nil, "%v: %s", err, &said)
			text, err := os.ReadFile(filepath.Join(up, "there"))
			require.NoError(t, err)
			require.Equal(t, "there", string(text))
			require.NoFileExists(t, filepath.Join(up, "new"))
			require.NoDirExists(t, filepath.Join(up, "new"))
			// We, and what we start otherwise, are as we were.
			require.NoError(t, exec.Command("sh", "-c", "echo x > \"$0\"", filepath.Join(up, "new")).Run())
		})
	}
}

// A folder that is not there, and a program that is not there, are told.
func TestStartConfined_Absent(t *testing.T) {
	if !program.Confines() { // a program that is not there is all that is looked at
		require.ErrorIs(t, program.StartConfined(exec.Command("/absent/program")), os.ErrNotExist)
		return
	}
	absent := filepath.Join(t.TempDir(), "absent")
	require.ErrorIs(t, program.StartConfined(exec.Command("true"), absent), os.ErrNotExist)
	require.ErrorIs(t, program.StartConfined(exec.Command(absent)), os.ErrNotExist)
}
