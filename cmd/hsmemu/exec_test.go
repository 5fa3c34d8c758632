//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator"
)

// Two hundred programs at the same time, each with a card of its own: nobody
// sees the others' cards, and none is left out.
func TestExec_ManyAtTheSameTime(t *testing.T) {
	const many = 200
	state := t.TempDir()
	for i := range many {
		var said bytes.Buffer
		a := &app{
			out: &said, err: &said, outside: emulator.System(),
			env: func(name string) string { return map[string]string{"HSMEMU_STATE": state}[name] },
		}
		code := a.run(t.Context(), []string{"card", "new", fmt.Sprintf("c%d", i), "--serial", fmt.Sprintf("DENK99%05d", i)})
		require.Zero(t, code, said.String())
	}
	ctx, cancel := context.WithTimeout(t.Context(), longPatience)
	defer cancel()
	start := time.Now()
	var up, all sync.WaitGroup
	up.Add(many)
	let := make(chan struct{})
	failed := make([]error, many)
	for i := range many {
		all.Go(func() {
			failed[i] = oneOfMany(ctx, state, i, up.Done, let)
		})
	}
	up.Wait()
	t.Logf("%d programs found their cards after %v", many, time.Since(start))
	close(let)
	all.Wait()
	t.Logf("and had ended after %v", time.Since(start))
	for _, err := range failed {
		require.NoError(t, err)
	}
}

// oneOfMany runs a program that lists its readers, says that it is up, and
// waits.
func oneOfMany(ctx context.Context, state string, i int, up func(), let <-chan struct{}) (err error) {
	up = sync.OnceFunc(up)
	defer up()
	cmd := exec.CommandContext(ctx, "hsmemu", "exec", "--card", fmt.Sprintf("c%d", i), "--",
		"sh", "-c", "opensc-tool --list-readers && echo up && read wait")
	cmd.Env = append(os.Environ(), "HSMEMU_STATE="+state, "GORACE=atexit_sleep_ms=10")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said bytes.Buffer
	cmd.Stderr = &said
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	lines := bufio.NewScanner(out)
	var seen []string
	for lines.Scan() && lines.Text() != "up" {
		seen = append(seen, lines.Text())
	}
	up()
	<-let
	_, _ = io.WriteString(in, "\n")
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("program %d: %w: %s", i, err, said.String())
	}
	list := strings.Join(seen, "\n")
	if own := fmt.Sprintf("Nitrokey Nitrokey HSM (DENK99%05d0000         ) 00 00", i); strings.Count(list, "Nitrokey HSM") != 1 || !strings.Contains(list, own) {
		return fmt.Errorf("program %d sees: %s", i, list)
	}
	return nil
}
