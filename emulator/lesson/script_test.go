//go:build linux

package lesson

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func newScript(t *testing.T, text string) script {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "verify.sh")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return script{shell: shellOf(text), path: path, dir: dir, env: []string{"PATH=" + os.Getenv("PATH"), "WORD=here"}, limit: time.Minute, writable: []string{dir}}
}

// gone waits until a process has ended, which somebody else has to notice.
func gone(t *testing.T, pid string) {
	t.Helper()
	require.Eventually(t, func() bool {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		return err != nil || strings.Contains(string(stat), ") Z ")
	}, time.Minute, 10*time.Millisecond)
}

func TestScript(t *testing.T) {
	s := newScript(t, "pwd; echo $WORD $HOME; exit 3\n")
	out, code, group, err := s.run(t.Context())
	require.NoError(t, err)
	require.Equal(t, 3, code)
	require.Zero(t, group)
	require.Equal(t, s.dir+"\nhere\n", out)
}

// A script that hangs is killed with everything that it has started.
func TestScript_Hangs(t *testing.T) {
	s := newScript(t, "sleep 1000 & echo $! > child; trap '' TERM; wait\n")
	began := time.Now()
	var child []byte
	for s.limit = 500 * time.Millisecond; len(child) == 0; s.limit *= 2 { // it has to come so far, however busy the machine is
		_, _, _, err := s.run(t.Context())
		require.ErrorIs(t, err, ErrTooLong)
		require.Less(t, time.Since(began), 5*time.Minute)
		child, err = os.ReadFile(filepath.Join(s.dir, "child"))
		require.True(t, err == nil || errors.Is(err, fs.ErrNotExist), err)
	}
	gone(t, strings.TrimSpace(string(child)))
}

// A script that prints without end is stopped before it fills a disk, and so is what it
// leaves in the background and what it writes into a file.
func TestScript_PrintsWithoutEnd(t *testing.T) {
	s := newScript(t, "yes\n")
	out, _, _, err := s.run(t.Context())
	require.ErrorIs(t, err, ErrTooMuch)
	require.Len(t, out, longestOutput)

	s = newScript(t, "(yes; echo $? > ended) 2> /dev/null &\n")
	s.lasting = true
	out, _, group, err := s.run(t.Context())
	require.NoError(t, err)
	require.Less(t, len(out), mostOutput)
	defer killGroup(group)
	require.Eventually(t, func() bool {
		ended, err := os.ReadFile(filepath.Join(s.dir, "ended"))
		return err == nil && len(ended) > 0
	}, time.Minute, 10*time.Millisecond)

	s = newScript(t, "yes > file\nwc -c < file\n")
	out, code, _, err := s.run(t.Context())
	require.NoError(t, err)
	require.Zero(t, code)
	require.Contains(t, out, strconv.Itoa(mostOutput))
}

// A script that kills its parent has killed nobody who judges it, and is told of.
func TestScript_KillsItsParent(t *testing.T) {
	for _, lasting := range []bool{false, true} {
		s := newScript(t, "sleep 1000 & echo $!; kill -9 $PPID; sleep 1000\n")
		s.lasting, s.limit = lasting, time.Minute
		out, _, group, err := s.run(t.Context())
		require.ErrorIs(t, err, ErrKilled)
		require.Zero(t, group)
		gone(t, strings.TrimSpace(out))
	}
}

// Killing itself is an exit code, as shells have it.
func TestScript_KillsItself(t *testing.T) {
	_, code, _, err := newScript(t, "kill -9 $$\n").run(t.Context())
	require.NoError(t, err)
	require.Equal(t, 137, code)
}

// What a verify script leaves in the background neither holds up the verdict nor
// survives it; what a solution leaves goes on.
func TestScript_Background(t *testing.T) {
	s := newScript(t, "sleep 1000 & echo $!\n")
	out, _, _, err := s.run(t.Context())
	require.NoError(t, err)
	gone(t, strings.TrimSpace(out))
	s.lasting = true
	_, _, group, err := s.run(t.Context())
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(-group, 0))
	killGroup(group)
}

func TestScript_Interrupted(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, _, _, err := newScript(t, "sleep 1000\n").run(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// What a script prints is kept up to a limit.
func TestScript_Prints(t *testing.T) {
	out, _, _, err := newScript(t, "head -c 1000000 /dev/zero\n").run(t.Context())
	require.NoError(t, err)
	require.Len(t, out, longestOutput)
}
