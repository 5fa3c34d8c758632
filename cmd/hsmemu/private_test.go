//go:build linux

package main

import (
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	"hsmemu/vsmartcard/pcscd"
)

// throughVPCD are the scenarios that restart pcscd, wait for it or name its readers. slow are those
// in which the keys of DKEK shares are derived, or large RSA keys travel: one transport has to be enough for them.
// aboutCards are those that are about what a card answers, which is the same whoever hands it over (TestPlay_Sessions
// of emulator/conform): the programs of other releases play them here, and this machine's in TestScript, which
// plays all of these.
var (
	throughVPCD = []string{"bad_input", "conform", "console", "listen", "readers", "shipped"}
	slow        = []string{"dkek", "import_pem"}
	aboutCards  = []string{"attest", "chips", "ec", "firmware", "key_domains", "lockout", "other_logins", "pka", "pka_options"}
)

// privately lists the scenarios for the private daemon: its own, and those of
// TestScript that put cards into readers.
func privately(t *testing.T) []string {
	t.Helper()
	scripts, err := filepath.Glob("testdata/private/*.txtar")
	require.NoError(t, err)
	require.NotEmpty(t, scripts)
	shared, err := filepath.Glob("testdata/script/*.txtar")
	require.NoError(t, err)
	elsewhere := slices.Concat(throughVPCD, slow)
	if os.Getenv("CLIENTS") == "" {
		elsewhere = append(elsewhere, aboutCards...)
	}
	for _, name := range elsewhere {
		require.FileExists(t, filepath.Join("testdata/script", name+".txtar"))
	}
	for _, file := range shared {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		if strings.Contains(string(text), "\npcscd start") && !slices.Contains(elsewhere, name) {
			scripts = append(scripts, file)
		}
	}
	return scripts
}

// TestPrivate plays the scenarios of testdata/private, which are about the
// private daemon, and once more those of testdata/script that are not about cards alone, with the private daemon
// in place of pcscd and vpcd. The commands are TestScript's, with these
// differences and additions:
//
//	pcscd start                 nothing: there is no daemon before hsmemu
//	serve ARGUMENT...           start hsmemu run on the socket that programs find
//	signal NAME SIGNAL          send a signal to a program that was started: TERM, INT, KILL...
//	code NAME CODE              wait until it ends by itself, with this exit code
//
// With $CLIENTS, a folder that .ci/clients has filled, the programs are those of
// another Debian release; $CLIENTS/p11 is their PKCS#11 module.
func TestPrivate(t *testing.T) {
	if os.Getenv("CLIENTS") == "" { // which changes the environment
		t.Parallel()
	}
	params := privateParams(t)
	params.Files = privately(t)
	testscript.Run(t, params)
}

// privateParams is what every scenario with a private daemon is given; its files are the caller's.
func privateParams(t *testing.T) testscript.Params {
	t.Helper()
	module := os.Getenv("CLIENTS")
	if module != "" {
		module += "/p11"
		t.Setenv("PATH", os.Getenv("CLIENTS")+"/bin:"+os.Getenv("PATH"))
	} else {
		modules, err := filepath.Glob("/usr/lib/*/opensc-pkcs11.so")
		require.NoError(t, err)
		require.Len(t, modules, 1, "install the package opensc-pkcs11")
		module = modules[0]
	}
	for tool, pkg := range tools {
		_, err := exec.LookPath(tool)
		require.NoError(t, err, "install the package %s", pkg)
	}
	docs, err := filepath.Abs("../../docs")
	require.NoError(t, err)
	commands := maps.Clone(steps)
	maps.Copy(commands, holding)
	maps.Copy(commands, map[string]func(*testscript.TestScript, bool, []string){
		"pcscd": onStage((*stage).noDaemon), "serve": onStage((*stage).servePrivately),
		"unserve": onStage((*stage).unserve), "crash": onStage((*stage).crash),
		"cards": onStage((*stage).cardsInside), "times": onStage((*stage).times),
		"signal": onStage((*stage).signal), "code": onStage((*stage).code),
	})
	return testscript.Params{
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Condition:           conditions(t),
		Setup: func(env *testscript.Env) error {
			s := &stage{readers: &readers{dir: t.TempDir()}} // a folder, and a socket in it
			env.Values[stageKey{}] = s
			env.Defer(func() {
				if err := s.close(); err != nil {
					env.T().Fatal(err)
				}
			})
			for name, value := range map[string]string{
				"HSMEMU_STATE": env.WorkDir + "/.state", pcscd.EnvSocket: s.readers.socket(),
				"SOPIN": "3537363231383830", "PIN": "648219", "P11": module, "READER": "0", "VPCD": "none",
				"DOCS": docs, "GORACE": "atexit_sleep_ms=10",
			} {
				env.Setenv(name, value)
			}
			return nil
		},
		Cmds: commands,
	}
}

func (s *stage) noDaemon(ts *testscript.TestScript, args []string) error {
	if len(args) == 0 || args[0] != "start" {
		ts.Fatalf("there is no daemon of its own here")
	}
	return nil
}

// servePrivately is serve, at the socket instead of a vpcd.
func (s *stage) servePrivately(ts *testscript.TestScript, args []string) error {
	if i := slices.Index(args, "--vpcd"); i >= 0 && i+1 < len(args) {
		args = slices.Delete(slices.Clone(args), i, i+2)
	}
	if !slices.Contains(args, "--socket") {
		args = append(slices.Clone(args), "--socket", s.readers.socket())
	}
	return s.serve(ts, args)
}

// cardsInside is cards; without a daemon there is none.
func (s *stage) cardsInside(ts *testscript.TestScript, args []string) error {
	if _, _, err := s.readers.count(); len(args) == 1 && args[0] == "0" && absentSocket(err) {
		return nil
	}
	return s.cards(ts, args)
}

func absentSocket(err error) bool {
	return errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED)
}

var signalNames = map[string]syscall.Signal{
	"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP, "QUIT": syscall.SIGQUIT,
	"USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2, "KILL": syscall.SIGKILL,
}

func (s *stage) signal(ts *testscript.TestScript, args []string) error {
	if len(args) != 2 || s.programs[args[0]] == nil || signalNames[args[1]] == 0 {
		ts.Fatalf("usage: signal NAME SIGNAL, with a NAME that was started")
	}
	return s.programs[args[0]].Process.Signal(signalNames[args[1]])
}

func (s *stage) code(ts *testscript.TestScript, args []string) error {
	if len(args) != 2 {
		ts.Fatalf("usage: code NAME CODE")
	}
	want, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	cmd := s.program(ts, args[:1])
	if err := ended(cmd); cmd.ProcessState.ExitCode() != want {
		ts.Fatalf("%s: %v, not exit code %d", args[0], err, want)
	}
	return nil
}
