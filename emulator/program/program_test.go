//go:build linux

package program_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/program"
)

func sh(script string) []string { return []string{"sh", "-c", script} }

// A program's end is told as shells tell it: POSIX, "Exit Status for Commands".
func TestSignals_Run(t *testing.T) {
	for _, c := range []struct {
		script string
		want   error
	}{{"exit 0", nil}, {"exit 3", program.Exit(3)}, {"kill -9 $$", program.Exit(128 + 9)}} {
		s := program.Collect()
		cmd := exec.Command("sh", "-c", c.script)
		require.Equal(t, c.want, s.Run(cmd, false), c.script)
		s.Stop()
	}
}

// A signal to us is one to the program, also one that came before it started; those of
// a terminal's keys, which has sent them to it, are not.
func TestSignals_ArePassed(t *testing.T) {
	s := program.Collect()
	defer s.Stop()
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGTERM))
	require.Equal(t, program.Exit(128+15), s.Run(exec.Command("sleep", "20"), false))

	up := filepath.Join(t.TempDir(), "up")
	cmd := exec.Command("sh", "-c", `trap "exit 7" INT; trap "exit 8" TERM; : > "$0"; while :; do sleep .01; done`, up)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(cmd, true) }()
	require.Eventually(t, func() bool { _, err := os.Stat(up); return err == nil }, time.Minute, 5*time.Millisecond)
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGINT))
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGTERM))
	require.Equal(t, program.Exit(8), <-ended)
}

// Why a program could not be started is said without its name, and with the exit code
// that shells have for it (POSIX: 127 not found, 126 not executable).
func TestStartError(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "text")
	require.NoError(t, os.WriteFile(plain, []byte("text"), 0o600))
	for name, want := range map[string]program.StartError{
		"nosuchprogram": {Absent: true}, "./nosuch": {Absent: true}, "": {Absent: true}, plain: {},
	} {
		s := program.Collect()
		for _, err := range []error{program.Find(name), s.Run(exec.Command(name), false)} {
			var failed *program.StartError
			require.ErrorAs(t, err, &failed, name)
			require.Equal(t, want.Absent, failed.Absent, name)
			if want.Absent {
				require.EqualError(t, failed, "there is no such program")
				require.Equal(t, program.Exit(127), failed.Exit())
				continue
			}
			require.EqualError(t, failed, "permission denied")
			require.Equal(t, program.Exit(126), failed.Exit())
		}
		s.Stop()
	}
}

// A program whose interpreter is missing is there: it is the interpreter that is named, where
// the file tells it. Shells have 127 for it.
func TestStartError_Interpreter(t *testing.T) {
	s := program.Collect()
	defer s.Stop()
	for text, want := range map[string]string{
		"#!/nowhere/sh -e\necho\n":     `its interpreter "/nowhere/sh" is missing`,
		"#! \t/nowhere/sh\r\necho\r\n": `its interpreter "/nowhere/sh\r" is missing`,
	} {
		script := filepath.Join(t.TempDir(), "script")
		require.NoError(t, os.WriteFile(script, []byte(text), 0o700)) //nolint:gosec // a program
		var failed *program.StartError
		require.ErrorAs(t, s.Run(exec.Command(script), false), &failed)
		require.EqualError(t, failed, want)
		require.Equal(t, program.Exit(127), failed.Exit())
		require.Empty(t, failed.Advice(""))
	}
}

// What a program leaves behind is waited for, and ended when its time is over, in a
// session of its own, too.
func TestAlone(t *testing.T) {
	for _, c := range []struct {
		script string
		limit  time.Duration
		want   program.Ended
	}{
		{"exit 3", time.Minute, program.Ended{Exit: 3}},
		{"sleep 1000", time.Nanosecond, program.Ended{Exit: 128 + 9, Hung: true}}, // which has started all the same
		{"sleep 1000", 200 * time.Millisecond, program.Ended{Exit: 128 + 9, Hung: true}},
		{"(sleep .2; echo late) & exit 2", time.Minute, program.Ended{Exit: 2}},
		{"setsid sleep 1000 > /dev/null 2>&1 & echo $!; exit 0", 500 * time.Millisecond, program.Ended{Behind: true}},
	} {
		var out bytes.Buffer
		ended, err := program.Alone(t.Context(), c.limit, sh(c.script), os.Environ(), &out)
		for ; err == nil && ended.Hung && !c.want.Hung && c.limit < time.Minute; c.limit *= 2 { // a busy machine has not come so far
			out.Reset()
			ended, err = program.Alone(t.Context(), 2*c.limit, sh(c.script), os.Environ(), &out)
		}
		require.NoError(t, err, c.script)
		require.Equal(t, c.want, ended, c.script)
		if strings.Contains(c.script, "late") {
			require.Equal(t, "late\n", out.String())
		}
		if pid, err := strconv.Atoi(strings.TrimSpace(out.String())); err == nil {
			require.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH, c.script)
		}
	}
	_, err := program.Alone(t.Context(), time.Minute, []string{"./nosuch"}, nil, nil)
	require.ErrorAs(t, err, new(*program.StartError))
}

func TestWith(t *testing.T) {
	require.Equal(t, []string{"B=2", "A=3"}, program.With([]string{"A=1", "B=2"}, "A", "3"))
	require.Equal(t, []string{"AB=1", "A="}, program.With([]string{"AB=1"}, "A", ""))
}
