package main

import (
	"cmp"
	"errors"
	"fmt"

	"hsmemu/emulator/program"
)

// exitExec is the exit code of exec where it failed itself.
const exitExec = 125

// execError is a failure of exec itself.
type execError struct{ error }

func (e execError) Unwrap() error { return e.error }

// notStarted says why a program could not be started, and what to do about it, which is
// the advice if nothing better is known. It makes the exit code alone of a
// *program.StartError; other errors, and none, stay what they are.
func (a *app) notStarted(err error, advice string) error {
	var failed *program.StartError
	if !errors.As(err, &failed) {
		return err
	}
	fmt.Fprintf(a.err, "hsmemu: start %s: %s\n", cmp.Or(oneLine(failed.Name), `""`), oneLine(failed.Error()))
	if advice = failed.Advice(advice); advice != "" {
		fmt.Fprintf(a.err, "hint: %s\n", oneLine(advice))
	}
	return failed.Exit()
}
