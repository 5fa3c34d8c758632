package statedir_test

import (
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/statedir"
	"hsmemu/emulator/store"
)

// A folder that this user may not look into is named, so that it is known which.
func TestOpen_FolderOfSomebodyElse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cards")
	require.NoError(t, os.Mkdir(dir, 0o700))
	for _, above := range []string{filepath.Dir(dir), filepath.Dir(filepath.Dir(dir))} {
		require.NoError(t, os.Chmod(above, 0o711)) // t.TempDir's
	}
	require.NoError(t, os.Chmod(dir, 0))
	defer func() { require.NoError(t, os.Chmod(dir, 0o700)) }()
	// To root every folder is open, so for the moment this thread is nobody in the file system.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_, _, _ = syscall.RawSyscall(syscall.SYS_SETFSUID, 65534, 0, 0)
	_, err := statedir.Open(dir, store.Options{})
	_, _, _ = syscall.RawSyscall(syscall.SYS_SETFSUID, uintptr(os.Getuid()), 0, 0)
	require.ErrorIs(t, err, statedir.ErrNoEntry)
	require.EqualError(t, err, "look at "+filepath.Join(dir, "snapshots")+": this user may not look into it")
}
