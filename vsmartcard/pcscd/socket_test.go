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

func TestParseMode(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]fs.FileMode{"0600": 0o600, "660": 0o660, "0666": 0o666} {
		mode, err := pcscd.ParseMode(text)
		require.NoError(t, err)
		require.Equal(t, want, mode)
	}
	for _, text := range []string{"", "0", "600x", "0o600", "-600", "0777", "04600", "0640", "999"} {
		_, err := pcscd.ParseMode(text)
		require.ErrorIs(t, err, pcscd.ErrMode, text)
	}
}

// The folder of a socket has to let in whom the socket lets in.
func TestAccess_Barred(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("/tmp", "barred") //nolint:usetesting // every folder above it lets others in
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	inner, path := filepath.Join(dir, "in"), filepath.Join(dir, "in", "s")
	require.NoError(t, os.Mkdir(inner, 0o700))
	require.NoError(t, os.WriteFile(path, nil, 0o600)) // a file will do
	for _, c := range []struct {
		folder, socket fs.FileMode
		barred         bool
	}{
		{0o700, 0, false},
		{0o700, 0o600, false},
		{0o700, 0o660, true},
		{0o700, 0o666, true},
		{0o710, 0o660, false},
		{0o710, 0o666, true}, // that lets in a group, and not everybody
		{0o711, 0o666, false},
		{0o755, 0o660, false},
	} {
		for _, outer := range []fs.FileMode{0o700, 0o711} {
			require.NoError(t, os.Chmod(dir, outer))
			require.NoError(t, os.Chmod(inner, c.folder))
			want := ""
			if c.socket&0o066 != 0 && outer == 0o700 {
				want = dir
			}
			if c.barred {
				want = inner
			}
			require.Equal(t, want, pcscd.Access{Mode: c.socket}.Barred(path), "%v in %v", c, outer)
		}
	}
	if os.Geteuid() != 0 {
		return // only root gives away what it has
	}
	require.NoError(t, os.Chmod(inner, 0o710))
	require.NoError(t, os.Chown(path, -1, 4242)) // another group than the folder's
	require.Equal(t, inner, pcscd.Access{Mode: 0o660}.Barred(path))
	require.NoError(t, os.Chown(inner, -1, 4242))
	require.Empty(t, pcscd.Access{Mode: 0o660}.Barred(path))
}

// However many find a socket that a dead process has left, one of them serves it, and
// the others say so.
func TestListenOver_OneTakesOver(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	for range 50 {
		left, err := net.Listen("unix", path)
		require.NoError(t, err)
		left.(*net.UnixListener).SetUnlinkOnClose(false)
		require.NoError(t, left.Close())
		type result struct {
			l   net.Listener
			err error
		}
		results := make(chan result)
		const many = 8
		begin := make(chan struct{})
		for range many {
			go func() {
				<-begin
				l, err := pcscd.ListenOver(path, pcscd.Access{})
				results <- result{l, err}
			}()
		}
		close(begin)
		var serves net.Listener
		for range many {
			r := <-results
			if r.err != nil {
				require.ErrorAs(t, r.err, new(*pcscd.ServedError))
				continue
			}
			require.Nil(t, serves, "two serve one socket")
			serves = r.l
		}
		require.NotNil(t, serves)
		conn, err := net.Dial("unix", path)
		require.NoError(t, err)
		require.NoError(t, conn.Close())
		require.NoError(t, serves.Close())
		require.NoFileExists(t, path)
		require.NoFileExists(t, path+".lock")
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

// What programs of a user share is in a folder that nobody else enters.
func TestSharedPath(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for range 2 { // the folder is there the second time
		path, ok := pcscd.SharedPath(dir)
		require.True(t, ok)
		require.Equal(t, filepath.Join(dir, "hsmemu", "pcscd.comm"), path)
	}
	info, err := os.Stat(filepath.Join(dir, "hsmemu"))
	require.NoError(t, err)
	require.Equal(t, os.ModeDir|0o700, info.Mode())
	for _, none := range []string{"", filepath.Join(dir, "missing")} {
		_, ok := pcscd.SharedPath(none)
		require.False(t, ok)
	}
}

func TestParseAccess(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		mode, group string
		want        pcscd.Access
	}{
		{"", "", pcscd.Access{}},
		{"0666", "", pcscd.Access{Mode: 0o666}},
		{"", "signers", pcscd.Access{Mode: 0o660, Group: "signers"}},
		{"0666", "signers", pcscd.Access{Mode: 0o666, Group: "signers"}},
	} {
		who, err := pcscd.ParseAccess(c.mode, c.group)
		require.NoError(t, err)
		require.Equal(t, c.want, who)
	}
	_, err := pcscd.ParseAccess("0600", "signers")
	require.ErrorIs(t, err, pcscd.ErrNoGroup)
	_, err = pcscd.ParseAccess("0644", "")
	require.ErrorIs(t, err, pcscd.ErrMode)
	require.ErrorContains(t, err, "0644: ")
}
