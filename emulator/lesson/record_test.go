package lesson

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// What has happened counts, however long a busy machine takes to write it down.
func TestAwait_WhatIsWrittenLate(t *testing.T) {
	events := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(events, askedFolder), 0o700))
	file := filepath.Join(events, "lab.jsonl")
	synctest.Test(t, func(t *testing.T) {
		go func() {
			var asked []string
			for len(asked) == 0 {
				<-time.After(time.Millisecond)
				asked, _ = filepath.Glob(filepath.Join(events, askedFolder, "*"))
			}
			<-time.After(recordPatience / 2)
			_ = os.WriteFile(file, []byte(`{"sw":"9000"}`+"\n"), 0o600)
			_ = os.Remove(asked[0])
		}()
		found, err := await(t.Context(), file, time.Time{}, []string{"sw=9000"})
		require.NoError(t, err)
		require.True(t, found)
	})
}

// Nobody waits for ever for one who writes nothing down, and leaves nothing there.
func TestAwait_NobodyWrites(t *testing.T) {
	events := t.TempDir()
	asked := filepath.Join(events, askedFolder)
	require.NoError(t, os.Mkdir(asked, 0o700))
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		found, err := await(t.Context(), filepath.Join(events, "lab.jsonl"), time.Time{}, []string{"sw=9000"})
		require.NoError(t, err)
		require.False(t, found)
		require.Equal(t, recordPatience, time.Since(began))
	})
	left, err := os.ReadDir(asked)
	require.NoError(t, err)
	require.Empty(t, left)
}
