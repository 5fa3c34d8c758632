package pcscd_test

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/vsmartcard/pcscd"
)

// A client's process may be called anything, and a person reads it in a terminal.
func TestTurn_QuotesWhatATerminalWouldObey(t *testing.T) {
	t.Parallel()
	s := newService(t)
	shown := func(name string) string {
		t.Helper()
		// Another process, since a process has one name.
		program := exec.Command("python3", "-c", `import socket, struct, sys
open("/proc/self/comm", "w").write(sys.argv[2])
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
def call(command, *fields):
    body = b"".join(struct.pack("=I", f) if isinstance(f, int) else f for f in fields)
    s.sendall(struct.pack("=II", len(body), command) + body)
    got = b""
    while len(got) < len(body): got += s.recv(len(body) - len(got))
    return got
call(0x11, 4, 4, 0)
context = struct.unpack("=I", call(1, 2, 0, 0)[4:8])[0]
h = struct.unpack("=I", call(4, context, sys.argv[3].encode().ljust(128, b"\0"), 1, 3, 0, 0, 0)[140:144])[0]
print(h, flush=True)
sys.stdin.read()`, s.path, name, name0)
		in, err := program.StdinPipe()
		require.NoError(t, err)
		out, err := program.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, program.Start())
		_, err = out.Read(make([]byte, 1))
		require.NoError(t, err)
		_, refused := s.reader.Turn(soon(t))
		require.NoError(t, in.Close())
		require.NoError(t, program.Wait())
		used, is := errors.AsType[*pcscd.InUseError](refused)
		require.True(t, is, "%v", refused)
		require.Eventually(t, func() bool {
			turn, err := s.reader.Turn(soon(t))
			if err == nil {
				turn.End()
			}
			return err == nil
		}, patience, time.Millisecond)
		return strings.TrimSuffix(used.Client, fmt.Sprintf(", process %d", program.Process.Pid))
	}
	require.Equal(t, "gpg agent", shown("gpg agent"))
	require.Equal(t, `"\x1b[2Jsaved"`, shown("\x1b[2Jsaved"))
	require.Equal(t, `"a\nb"`, shown("a\nb"))
}
