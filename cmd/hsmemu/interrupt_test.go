//go:build linux

package main

import (
	"io"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Whatever waits for somebody to type ends at once when it is told to, says so
// by its exit code, and leaves the terminal as it was.
func TestInterrupt_EndsAWait(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.run("card", "new", "open")
	h.run("card", "new", "plain")
	sealed := h.command("card", "reseal", "open", "--seal", "passphrase")
	sealed.Env = append(sealed.Env, "HSMEMU_NEW_PASSPHRASE=open-sesame")
	out, err := sealed.CombinedOutput()
	require.NoError(t, err, "%s", out)
	for _, c := range []struct{ line, shown string }{
		{"card show open", "passphrase of the card: "},
		{"exec --card open -- sleep 60", "passphrase of the card: "},
		{"run --card open", "passphrase of the card: "},
		{"apdu --card plain 00A4000C023F00 -", "> 00A4"},
	} {
		ends := []string{"\x03", "TERM"}
		if strings.HasPrefix(c.line, "card show") {
			ends = []string{"\x03", "TERM", "\x1c", "\x04"} // and Ctrl-\, Ctrl-D
		}
		for _, how := range ends {
			// The shell has a handler, or else it would end by the terminal's signal, too.
			shell := `stty echo; trap : INT TERM QUIT; (echo pid=$(exec sh -c 'echo $PPID')=; exec hsmemu ` + c.line + `); echo code=$?=; stty -a`
			cmd := exec.Command("script", "-qec", shell, "/dev/null")
			cmd.Env, cmd.SysProcAttr = h.command().Env, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			said := &said{}
			cmd.Stdout = said
			in, err := cmd.StdinPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			late := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
			require.Eventually(t, func() bool { return strings.Contains(said.String(), c.shown) }, patience, interval, "%s: %s", c.line, said)
			if how == "TERM" {
				_, pid, _ := strings.Cut(said.String(), "pid=")
				pid, _, _ = strings.Cut(pid, "=")
				n, err := strconv.Atoi(pid)
				require.NoError(t, err, said.String())
				require.NoError(t, syscall.Kill(n, syscall.SIGTERM))
			} else {
				_, err = io.WriteString(in, how)
				require.NoError(t, err)
			}
			require.NoError(t, cmd.Wait(), "%s: %s", c.line, said)
			late.Stop()
			code, why := "code=130=", ": interrupted"
			if how == "\x04" {
				code, why = "code=1=", ": nothing was typed"
			}
			require.Contains(t, said.String(), code, "%s", c.line)
			require.Contains(t, said.String(), why, "%s", c.line)
			require.NotContains(t, said.String(), "goroutine", "%s", c.line)
			require.Contains(t, said.String(), " echo ", "%s", c.line)
		}
	}
}
