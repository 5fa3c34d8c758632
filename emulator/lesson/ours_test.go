//go:build linux

package lesson_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/lesson"
)

// TestOurs_Hold proves the lessons that come with the program: every step is unsolved at
// first, the commands of texts and hints work, and its solution solves it.
func TestOurs_Hold(t *testing.T) {
	t.Parallel()
	for _, name := range lesson.Ours() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := lesson.Own(name)
			require.NoError(t, err)
			require.NoError(t, proves(t, l, time.Minute))
		})
	}
}
