//go:build linux

package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Ctrl-C ends the run with a report of what was judged, and its exit code.
func TestConform_Interrupted(t *testing.T) {
	t.Parallel()
	a := newApp(t, t.TempDir())
	var out, said bytes.Buffer
	a.out, a.err = &out, &said
	ctx, stop := context.WithCancel(t.Context())
	stop()
	require.Equal(t, exitInterrupted, a.run(ctx, []string{"conform"}))
	require.Contains(t, out.String(), "not judged PIN-R1: interrupted\n")
	require.Contains(t, out.String(), "interrupted: this is what was judged so far\n")
	require.Equal(t, "hsmemu: interrupted\n", said.String())
}

// Ctrl-C ends the program, with all that it has started, and the report says what was judged so far.
//
// It is not parallel: what is ended are all processes that this one has started meanwhile.
func TestConformClient_Interrupted(t *testing.T) {
	a := newApp(t, t.TempDir())
	var out, said bytes.Buffer
	a.out, a.err = &out, &said
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	began := filepath.Join(t.TempDir(), "began")
	ended := make(chan int, 1)
	go func() {
		ended <- a.run(ctx, []string{"conform", "client", "--situations", "^(usual|wrong-pin)$", "--", "sh", "-c", "echo > " + began + "; sleep 100 & wait"})
	}()
	require.Eventually(t, func() bool {
		_, err := os.Stat(began)
		return err == nil
	}, patience, interval)
	stop()
	require.Equal(t, exitInterrupted, <-ended)
	require.Contains(t, out.String(), "not judged usual: interrupted\nnot judged wrong-pin: interrupted\n")
	require.Contains(t, out.String(), "interrupted: this is what was judged so far\n")
	require.Equal(t, "hsmemu: situation usual\nhsmemu: interrupted\n", said.String())
}
