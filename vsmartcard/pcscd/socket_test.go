//go:build linux

package pcscd_test

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/vsmartcard/pcscd"
)

// A socket whose owner is too busy to answer is not a dead one.
func TestListenOver_LeavesABusyOneAlone(t *testing.T) {
	path := t.TempDir() + "/s"
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer func() { require.NoError(t, syscall.Close(fd)) }()
	require.NoError(t, syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}))
	require.NoError(t, syscall.Listen(fd, 0))
	for { // until nobody else may wait there
		conn, err := net.Dial("unix", path)
		if err != nil {
			require.ErrorIs(t, err, syscall.EAGAIN)
			break
		}
		defer conn.Close()
	}
	_, err = pcscd.ListenOver(path, pcscd.Access{})
	require.ErrorIs(t, err, syscall.EADDRINUSE)
	require.FileExists(t, path)
}

// What a process has left is taken over; what one serves, and what is no socket,
// is not.
func TestListenOver(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	l, err := pcscd.ListenOver(path, pcscd.Access{})
	require.NoError(t, err)
	_, err = pcscd.ListenOver(path, pcscd.Access{})
	served := new(pcscd.ServedError)
	require.ErrorAs(t, err, &served)
	require.Equal(t, path, served.Path)
	require.ErrorContains(t, err, "another process serves "+path+": ")
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	require.NoError(t, l.Close())
	require.FileExists(t, path)
	l, err = pcscd.ListenOver(path, pcscd.Access{})
	require.NoError(t, err)
	require.NoError(t, l.Close())
	require.NoError(t, os.WriteFile(path, []byte("a letter"), 0o600))
	_, err = pcscd.ListenOver(path, pcscd.Access{})
	require.EqualError(t, err, path+" is there, and no socket")
	require.FileExists(t, path)
}

// A socket has the permissions and the group that were asked for, and no others.
func TestListenFor(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	mine := strconv.Itoa(os.Getegid())
	for _, who := range []pcscd.Access{{}, {Mode: 0o600}, {Mode: 0o660, Group: mine}, {Mode: 0o666}} {
		l, err := pcscd.ListenFor(path, who)
		require.NoError(t, err)
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, max(who.Mode, 0o600), info.Mode().Perm())
		require.NoError(t, l.Close())
		require.NoFileExists(t, path)
	}
	for _, mode := range []fs.FileMode{0o602, 0o620, 0o640, 0o662, 0o777, 0o060, fs.ModeSetuid | 0o600} {
		_, err := pcscd.ListenFor(path, pcscd.Access{Mode: mode})
		require.ErrorIs(t, err, pcscd.ErrMode)
	}
	for _, group := range []string{"no-such-group", "-1"} {
		_, err := pcscd.ListenFor(path, pcscd.Access{Mode: 0o660, Group: group})
		require.ErrorIs(t, err, pcscd.ErrGroup)
	}
	require.NoFileExists(t, path)
}

// The folder of a socket has to let in whom the socket lets in.
func TestAccess_Barred(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, c := range []struct {
		folder, socket fs.FileMode
		barred         bool
	}{
		{0o700, 0, false},
		{0o700, 0o600, false},
		{0o700, 0o660, true},
		{0o700, 0o666, true},
		{0o710, 0o660, false},
		{0o710, 0o666, true},
		{0o711, 0o666, false},
		{0o755, 0o660, false},
	} {
		require.NoError(t, os.Chmod(dir, c.folder))
		require.Equal(t, c.barred, pcscd.Access{Mode: c.socket}.Barred(filepath.Join(dir, "s")), "%v", c)
	}
}

func TestListenIn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	deep := filepath.Join(dir, strings.Repeat("x", pcscd.PathMax))
	require.NoError(t, os.Mkdir(deep, 0o700))
	l, path, remove, err := pcscd.ListenIn("", filepath.Join(dir, "absent"), deep, dir)
	require.NoError(t, err)
	require.Equal(t, dir, filepath.Dir(filepath.Dir(path)))
	left, err := os.ReadDir(deep)
	require.NoError(t, err)
	require.Empty(t, left)
	require.NoError(t, l.Close())
	require.NoError(t, remove())
	require.NoDirExists(t, filepath.Dir(path))
	_, _, _, err = pcscd.ListenIn(deep)
	require.ErrorIs(t, err, pcscd.ErrPath)
}

// A text has to tell one reader from the others.
func TestFind(t *testing.T) {
	t.Parallel()
	s := newService(t)
	_, err := s.server.Add(pcscd.NitrokeyHSM("DENK0765432", 1))
	require.NoError(t, err)
	_, err = s.server.Add(pcscd.Description{Name: name0 + " too"})
	require.NoError(t, err)
	c := s.clientOf(4)
	for text, want := range map[string]string{"0765432": name1, name0: name0, "too": name0 + " too"} {
		found, err := c.Find(soon(t), text)
		require.NoError(t, err)
		require.Equal(t, want, found)
	}
	for _, text := range []string{"", "absent"} {
		_, err = c.Find(soon(t), text)
		require.ErrorIs(t, err, pcscd.ErrUnknownReader)
	}
	_, err = c.Find(soon(t), "Nitrokey")
	require.ErrorIs(t, err, pcscd.ErrSeveralReaders)
	require.EqualError(t, err, "several readers are called so: "+name0+", "+name1+", "+name0+" too")
}
