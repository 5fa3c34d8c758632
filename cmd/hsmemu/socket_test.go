//go:build linux

package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func root() bool { return os.Geteuid() == 0 }

// asNobody runs a program as another user, in the groups named.
func asNobody(socket, groups string, args ...string) (string, error) {
	in := "--clear-groups"
	if groups != "" {
		in = "--groups=" + groups
	}
	cmd := exec.Command("setpriv", append([]string{"--reuid=65534", "--regid=65534", in, "--"}, args...)...)
	cmd.Env = append(os.Environ(), "PCSCLITE_CSOCK_NAME="+socket)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// A real tool of another user reaches the card through the socket's group, and not
// without it.
func TestSocket_IsReachedByItsGroupAlone(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.run("card", "new", "lab")
	place, err := shortFolder()
	require.NoError(t, err)
	defer os.RemoveAll(place)
	require.NoError(t, os.Chmod(place, 0o755))
	socket := filepath.Join(place, "s")
	group := strconv.Itoa(os.Getegid()) // nobody but root can become another user, or name a group he is not in
	if root() {
		group = "4242" // a number that has no name, as in a container
	}
	for _, c := range []struct {
		flags            []string
		mode             os.FileMode
		outside, inGroup bool
	}{
		{nil, 0o600, false, false},
		{[]string{"--socket-group", group}, 0o660, false, true},
		{[]string{"--socket-mode", "0660", "--socket-group", group}, 0o660, false, true},
		{[]string{"--socket-mode", "0666"}, 0o666, true, true},
	} {
		p := &runner{cmd: h.command(append([]string{"run", "--card", "lab", "--socket", socket}, c.flags...)...), said: &said{}}
		p.start(t)
		p.ready(t)
		info, err := os.Stat(socket)
		require.NoError(t, err)
		require.Equal(t, c.mode, info.Mode().Perm(), c.flags)
		if len(c.flags) > 0 && strings.HasSuffix(c.flags[len(c.flags)-2], "group") {
			require.Equal(t, group, fmt.Sprint(info.Sys().(*syscall.Stat_t).Gid))
		}
		for groups, reaches := range map[string]bool{"": c.outside, group: c.inGroup} {
			if !root() {
				continue
			}
			out, err := asNobody(socket, groups, "opensc-tool", "--name")
			require.Equal(t, reaches, err == nil, "%s %s: %s", c.flags, groups, out)
			require.Equal(t, reaches, strings.Contains(out, "SmartCard-HSM version"), out)
		}
		require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
		p.ended(t)
	}
}

// A user gives a socket to no group that he is not in.
func TestSocket_GroupOfOthers(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	require.NoError(t, err)
	dir, err := shortFolder()
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "hsmemu")
	text, err := os.ReadFile(self)
	require.NoError(t, err)
	syscall.ForkLock.RLock() // a process that is started meanwhile would have it open, and it could not be started
	err = os.WriteFile(binary, text, 0o755)
	syscall.ForkLock.RUnlock()
	require.NoError(t, err)
	require.NoError(t, os.Chmod(binary, 0o755)) // whatever the umask
	require.NoError(t, os.Chmod(dir, 0o777))
	as := asNobody
	if !root() {
		as = func(_, _ string, args ...string) (string, error) {
			out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
			return string(out), err
		}
	}
	out, err := as("", "", "env", "HSMEMU_STATE="+filepath.Join(dir, "state"), binary, "exec", "--socket", filepath.Join(dir, "s"), "--socket-group", "4242", "--", "true")
	require.Error(t, err)
	require.Equal(t, "hsmemu: make the private socket: group \"4242\": this user is not in it\n", out)
	require.NoFileExists(t, filepath.Join(dir, "s"))
}

// systemd is told when everything can be used, and not before.
func TestRun_TellsSystemd(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.run("card", "new", "lab")
	path := filepath.Join(h.dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	defer conn.Close()
	h.env = append(h.env, "NOTIFY_SOCKET="+path)
	h.run("exec", "--card", "lab", "--", "true") // which is no service
	p := h.start("lab")
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
	told := make([]byte, 100)
	n, err := conn.Read(told)
	require.NoError(t, err)
	require.Equal(t, "READY=1", string(told[:n]))
	out, err := h.command("status", "--card", "lab").CombinedOutput()
	require.NoError(t, err, "%s", out)
	p.ready(t)
	require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
	p.ended(t)
}

// The unit of the documentation is one that systemd takes.
func TestRun_UnitIsTaken(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/hsmemu.service")
	require.NoError(t, err)
	const at = `ExecStart="/usr/local/bin/hsmemu" run ` // the PREFIX of `make install`
	require.Equal(t, 1, strings.Count(string(text), at))
	require.Contains(t, string(text), "\nType=notify\n")
	setting := regexp.MustCompile(`^([A-Z][A-Za-z]+=\S.*|\[(Unit|Service|Install)\]|#.*|)$`)
	for line := range strings.Lines(string(text)) {
		require.Regexp(t, setting, strings.TrimSuffix(line, "\n"))
	}
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		return // a machine without systemd: its form is what can be looked at
	}
	self, err := os.Executable()
	require.NoError(t, err)
	dir := t.TempDir()
	unit := filepath.Join(dir, "hsmemu.service")
	require.NoError(t, os.WriteFile(unit, []byte(strings.Replace(string(text), at, `ExecStart="`+self+`" run `, 1)), 0o600))
	cmd := exec.Command("systemd-analyze", "--user", "--man=no", "verify", unit)
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+dir)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Empty(t, string(out))
}
