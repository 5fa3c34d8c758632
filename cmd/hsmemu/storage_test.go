//go:build linux

package main

import (
	"errors"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestStorage plays the scenarios of testdata/storage: how cards are kept, and
// what becomes of them when their files, passphrases and TPMs change. They need
// no reader. A script has, besides testscript's own commands and those for
// programs in steps:
//
//	quit NAME                   end a started program with SIGTERM; expect exit 0
//	tpm start | stop | restart  a TPM of its own; its address is in $HSMEMU_TPM. What it counts
//	                            outlives its process
//	tpm new                     another one at the same address
//
// It finds $SELECT and other commands of the card in $INIT, $RIGHT, $WRONG and
// $TRIES.
func TestStorage(t *testing.T) {
	t.Parallel()
	commands := map[string]func(*testscript.TestScript, bool, []string){
		"start": onStage((*stage).startProgram), "quit": onStage((*stage).stopProgram),
		"until": onStage((*stage).until),
		"tpm":   scriptTPM, "fits": fits,
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/storage",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HSMEMU_STATE", env.WorkDir+"/.state")
			env.Setenv("GORACE", "atexit_sleep_ms=10")
			for name, command := range map[string]string{
				"SELECT": "00A4040C0BE82B0601040181C31F0201",
				"INIT":   "805000001980020001810636343832313982083537363231383830910103",
				"RIGHT":  "0020008106363438323139",
				"WRONG":  "0020008106313131313131",
				"TRIES":  "00200081",
			} {
				env.Setenv(name, command)
			}
			s, tpm := &stage{}, &swtpm{}
			env.Values[stageKey{}], env.Values[tpmKey{}] = s, tpm
			env.Defer(func() {
				if err := errors.Join(s.close(), tpm.close()); err != nil {
					env.T().Fatal(err)
				}
			})
			return nil
		},
		Cmds: commands,
	})
}

type tpmKey struct{}

func scriptTPM(ts *testscript.TestScript, neg bool, args []string) {
	tpm := ts.Value(tpmKey{}).(*swtpm)
	if neg || len(args) != 1 {
		ts.Fatalf("usage: tpm start|stop|restart|new")
	}
	var err error
	switch args[0] {
	case "start":
		if tpm.dir == "" {
			tpm.dir, err = shortFolder()
			ts.Setenv("HSMEMU_TPM", tpm.socket())
		}
		err = errors.Join(err, tpm.start())
	case "stop":
		err = tpm.stop()
	case "restart":
		err = errors.Join(tpm.stop(), tpm.start())
	case "new":
		err = errors.Join(tpm.stop(), tpm.forget(), tpm.start())
	default:
		ts.Fatalf("tpm %s", args[0])
	}
	ts.Check(err)
}
