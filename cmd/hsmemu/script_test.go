//go:build linux

package main

import (
	"bufio"
	"errors"
	"flag"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"
)

// The test binary is hsmemu, too, and the starter of readers, when it is called
// by that name: what the scripts run is what was compiled for the test, with the
// race detector where the test has it.
//
// One test more goes side by side than there are processors, since there is always
// one that waits; -parallel says otherwise.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", strconv.Itoa(runtime.GOMAXPROCS(0)+1)); err != nil {
		panic(err)
	}
	testscript.Main(m, map[string]func(){"hsmemu": main, "readers": runInReaders})
}

// tools are the programs that the scripts use, and the Debian packages they are in.
var tools = map[string]string{
	"cmp":          "diffutils",
	"opensc-tool":  "opensc",
	"openssl":      "openssl",
	"p11tool":      "gnutls-bin",
	"pkcs11-tool":  "opensc",
	"pkcs15-crypt": "opensc",
	"pkcs15-init":  "opensc",
	"pkcs15-tool":  "opensc",
	"sc-hsm-tool":  "opensc",
	"ssh-keygen":   "openssh-client",
	"tshark":       "tshark",
}

// TestScript plays the scenarios of testdata/script with the real tools. A
// script has, besides testscript's own commands:
//
//	pcscd prepare [-readers N] [-dial] find ports for a PC/SC daemon of its own; sets $VPCD, where hsmemu run connects
//	                                   (with -dial: where it listens)
//	pcscd start [-readers N] [-dial]   start it, prepared or not
//	pcscd stop | restart               end it; end it and start it again
//	serve ARGUMENT...                  start hsmemu run with these arguments; returns when it prints ready.
//	                                   What it says on stderr goes into the file serve.stderr
//	unserve, crash                     end the latest one with SIGTERM, and expect exit 0; with SIGKILL
//	cards N                            wait until exactly N readers hold a card
//	times N REGEXP PROGRAM ARGUMENT... run it N times; each time all it prints must match, whatever its exit code
//
// and those in steps and holding. It finds $SOPIN and $PIN, the numbers that the tools' own manuals use, $P11, OpenSC's
// PKCS#11 module, the documentation in $DOCS, and a state folder of its own in $HSMEMU_STATE.
func TestScript(t *testing.T) {
	t.Parallel()
	for tool, pkg := range tools {
		_, err := exec.LookPath(tool)
		require.NoError(t, err, "install the package %s", pkg)
	}
	modules, err := filepath.Glob("/usr/lib/*/opensc-pkcs11.so")
	require.NoError(t, err)
	require.Len(t, modules, 1, "install the package opensc-pkcs11")
	docs, err := filepath.Abs("../../docs")
	require.NoError(t, err)
	commands := maps.Clone(steps)
	maps.Copy(commands, holding)
	maps.Copy(commands, map[string]func(*testscript.TestScript, bool, []string){
		"pcscd": onStage((*stage).pcscd), "serve": onStage((*stage).serve),
		"unserve": onStage((*stage).unserve), "crash": onStage((*stage).crash),
		"cards": onStage((*stage).cards), "times": onStage((*stage).times),
	})
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Condition:           conditions(t),
		Setup: func(env *testscript.Env) error {
			env.Setenv("HSMEMU_STATE", env.WorkDir+"/.state")
			env.Setenv("SOPIN", "3537363231383830")
			env.Setenv("PIN", "648219")
			env.Setenv("P11", modules[0])
			env.Setenv("READER", "0")
			env.Setenv("DOCS", docs)
			env.Setenv("GORACE", "atexit_sleep_ms=10") // else every hsmemu waits a second before it ends
			s := &stage{}
			env.Values[stageKey{}] = s
			env.Defer(func() {
				if err := s.close(); err != nil {
					env.T().Fatal(err)
				}
			})
			return nil
		},
		Cmds: commands,
	})
}

// stage is what a script has running.
type stage struct {
	readers  *readers
	serving  []*exec.Cmd
	programs map[string]*exec.Cmd
	holders  map[string]holder
}

type stageKey struct{}

// onStage makes a script command that cannot be negated.
func onStage(do func(*stage, *testscript.TestScript, []string) error) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg {
			ts.Fatalf("this command cannot be negated")
		}
		ts.Check(do(ts.Value(stageKey{}).(*stage), ts, args))
	}
}

func (s *stage) close() error {
	var err error
	for _, cmd := range slices.AppendSeq(s.serving, maps.Values(s.programs)) {
		err = errors.Join(err, cmd.Process.Kill())
		_ = cmd.Wait() // killed
	}
	for _, h := range s.holders {
		err = errors.Join(err, h.client.Close())
	}
	if s.readers != nil {
		err = errors.Join(err, s.readers.close())
	}
	return err
}

func (s *stage) pcscd(ts *testscript.TestScript, args []string) error {
	switch {
	case len(args) > 0 && (args[0] == "start" || args[0] == "prepare") && s.readers == nil:
		start, n, dial := args[0] == "start", 2, false
		for args = args[1:]; len(args) > 0; args = args[1:] {
			switch {
			case args[0] == "-dial":
				dial = true
			case args[0] == "-readers" && len(args) > 1:
				v, err := strconv.Atoi(args[1])
				if err != nil {
					return err
				}
				n, args = v, args[1:]
			default:
				ts.Fatalf("usage: pcscd prepare|start [-readers N] [-dial]")
			}
		}
		r, err := newReaders(n, dial)
		if err != nil {
			return err
		}
		s.readers = r
		for _, kv := range r.env() {
			k, v, _ := strings.Cut(kv, "=")
			ts.Setenv(k, v)
		}
		if !start {
			return nil
		}
		return r.start()
	case len(args) == 1 && args[0] == "start" && s.readers != nil:
		return s.readers.start()
	case len(args) == 1 && args[0] == "stop" && s.readers != nil:
		return s.readers.stop()
	case len(args) == 1 && args[0] == "restart" && s.readers != nil:
		if err := s.readers.stop(); err != nil {
			return err
		}
		return s.readers.start()
	}
	ts.Fatalf("usage: pcscd prepare|start [-readers N] [-dial] | stop | restart")
	return nil
}

func (s *stage) serve(ts *testscript.TestScript, args []string) error {
	cmd, err := command(ts, "hsmemu", append([]string{"run"}, args...)...)
	if err != nil {
		return err
	}
	said, err := os.OpenFile(ts.MkAbs("serve.stderr"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer said.Close()
	cmd.Stderr = said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.serving = append(s.serving, cmd)
	late := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if lines.Text() == "ready" {
			return nil
		}
		ts.Logf("%s", lines.Text())
	}
	ts.Fatalf("hsmemu run was not ready: %s", ts.ReadFile("serve.stderr"))
	return nil
}

func (s *stage) latest(ts *testscript.TestScript) *exec.Cmd {
	if len(s.serving) == 0 {
		ts.Fatalf("nothing is served")
	}
	last := len(s.serving) - 1
	cmd := s.serving[last]
	s.serving = s.serving[:last]
	return cmd
}

func (s *stage) unserve(ts *testscript.TestScript, _ []string) error {
	return end(s.latest(ts))
}

func (s *stage) crash(ts *testscript.TestScript, _ []string) error {
	cmd := s.latest(ts)
	if err := cmd.Process.Kill(); err != nil {
		return err
	}
	_ = cmd.Wait() // killed
	return nil
}

func (s *stage) cards(ts *testscript.TestScript, args []string) error {
	if len(args) != 1 || s.readers == nil {
		ts.Fatalf("usage: cards N, after pcscd start")
	}
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	return s.readers.cards(n)
}

func (s *stage) times(ts *testscript.TestScript, args []string) error {
	if len(args) < 3 {
		ts.Fatalf("usage: times N REGEXP PROGRAM ARGUMENT...")
	}
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	want, err := regexp.Compile(args[1])
	if err != nil {
		return err
	}
	for i := range n {
		_ = ts.Exec(args[2], args[3:]...) // what it says counts: sc-hsm-tool exits 0 when the card refuses
		if said := ts.ReadFile("stdout") + ts.ReadFile("stderr"); !want.MatchString(said) {
			ts.Fatalf("time %d of %d does not match %q: %s", i+1, n, args[1], said)
		}
	}
	return nil
}
