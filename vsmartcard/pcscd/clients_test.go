package pcscd_test

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/vsmartcard/pcscd"
)

// Unmodified clients: libpcsclite with OpenSC's and pcsc-tools' programs, those
// of this machine or, with -clients, those of another release of Debian, whose
// packages have been unpacked into a folder. A program that is not there is a
// failure.
var clients = flag.String("clients", "", "folder with the unpacked packages opensc, pcsc-tools and all that they need")

// program is a client program on the service's socket.
func (s *service) program(name string, args ...string) *exec.Cmd {
	s.t.Helper()
	path, err := exec.LookPath(filepath.Join("/", *clients, "usr/bin", name))
	require.NoError(s.t, err)
	args = append([]string{path}, args...)
	if *clients != "" {
		libraries := filepath.Join(*clients, "usr/lib/x86_64-linux-gnu")
		args = append([]string{filepath.Join(libraries, "ld-linux-x86-64.so.2"), "--library-path", libraries}, args...)
	}
	cmd := exec.CommandContext(soon(s.t), args[0], args[1:]...)
	cmd.Env = append(os.Environ(), pcscd.EnvSocket+"="+s.path, "LC_ALL=C", "OPENSC_CONF=/dev/null")
	return cmd
}

func (s *service) output(name string, args ...string) string {
	s.t.Helper()
	cmd := s.program(name, args...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	require.NoError(s.t, err, "%s%s", out, said.Bytes())
	return string(out)
}

func TestClients_OpenSCListsReaders(t *testing.T) {
	t.Parallel()
	s := newService(t)
	_, err := s.server.Add(pcscd.NitrokeyHSM("DENK0765432", 1))
	require.NoError(t, err)
	out := s.output("opensc-tool", "--list-readers")
	require.Contains(t, out, "0    Yes             "+name0+"\n")
	require.Contains(t, out, "1    No              "+name1+"\n")
}

func TestClients_OpenSCKnowsTheCard(t *testing.T) {
	t.Parallel()
	s := newService(t)
	require.Equal(t, fmt.Sprintf("%x\n", atr), strings.ReplaceAll(s.output("opensc-tool", "--atr"), ":", ""))
	require.Contains(t, s.output("opensc-tool", "--name"), "SmartCard-HSM")
	require.Contains(t, s.output("opensc-tool", "--send-apdu", "00:84:00:00:08"), "SW1=0x6A, SW2=0x82")
}

func TestClients_OpenSCUsesExtendedAPDUs(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.output("opensc-tool", "--send-apdu", "00:D7:2F:01:00:03:E8"+strings.Repeat(":AA", 1000))
	seen := s.card.seen()
	require.Len(t, seen[len(seen)-1], 7+1000)
}

func TestClients_OpenSCWaitsForACard(t *testing.T) {
	t.Parallel()
	s := newService(t)
	require.NoError(t, s.reader.Eject())
	cmd := s.program("opensc-tool", "--wait", "--name")
	done := at(func() string {
		out, err := cmd.CombinedOutput()
		return fmt.Sprintf("%s%v", out, err)
	})
	s.tap.settled(t)
	require.NoError(t, s.reader.Insert(s.card))
	require.Contains(t, <-done, "SmartCard-HSM")
}

// scan runs pcsc_scan, which looks on until it is stopped, and returns a
// function that waits for it to say something.
func (s *service) scan() (says func(string)) {
	s.t.Helper()
	cmd := s.program("pcsc_scan", "-n")
	out, err := cmd.StdoutPipe()
	require.NoError(s.t, err)
	require.NoError(s.t, cmd.Start())
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return lines(s.t, out)
}

// lines returns a function that reads on until a line has a certain text.
func lines(t testing.TB, from io.Reader) func(string) {
	scanner := bufio.NewScanner(from)
	var said []string
	return func(what string) {
		t.Helper()
		for scanner.Scan() {
			said = append(said, scanner.Text())
			if strings.Contains(scanner.Text(), what) {
				return
			}
		}
		require.Fail(t, "the program ended", "without saying %q: %q", what, said)
	}
}

func TestClients_ScanFollowsEverything(t *testing.T) {
	t.Parallel()
	s := newService(t)
	says := s.scan()
	says(name0)
	says("Card inserted")
	says("ATR: 3B DE 18 FF")
	s.tap.settled(t)
	require.NoError(t, s.reader.Eject())
	says("Card removed")
	require.NoError(t, s.reader.Insert(s.card))
	says("Card inserted")
	says("ATR: 3B DE 18 FF")

	// Clients of version 4.4 see only the number of readers, and only how it
	// changes while they wait.
	s.tap.settled(t)
	r, err := s.server.Add(pcscd.NitrokeyHSM("DENK0765432", 1))
	require.NoError(t, err)
	says(name1)
	says("Card removed")
	s.tap.settled(t)
	r.Close()
	says("Reader 0: " + name0)

	s.card.setATR(nil)
	require.NoError(t, s.reader.Eject())
	says("Card removed")
	require.NoError(t, s.reader.Insert(s.card))
	says("Unresponsive card")
}

func TestClients_RemovalInTheMiddleOfACommand(t *testing.T) {
	t.Parallel()
	s := newService(t)
	started := make(chan struct{})
	s.card.does(func(ctx context.Context, command []byte) ([]byte, error) {
		if command[1] == 0x84 {
			close(started)
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return answer(command), nil
	})
	done := at(func() string {
		out, err := s.program("opensc-tool", "--send-apdu", "00:84:00:00:08").CombinedOutput()
		return fmt.Sprintf("%s%v", out, err)
	})
	<-started
	require.NoError(t, s.reader.Eject())
	require.Contains(t, <-done, "removed")
}
