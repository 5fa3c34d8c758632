//go:build linux

package lesson_test

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator"
	"hsmemu/emulator/lesson"
)

// TestOurs_Hold proves the lessons that come with the program: every step is unsolved at
// first, the commands of texts and hints work, and its solution solves it.
func TestOurs_Hold(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "hsmemu")
	out, err := exec.Command("go", "build", "-o", program, "../../cmd/hsmemu").CombinedOutput()
	require.NoError(t, err, "%s", out)
	for _, name := range lesson.Ours() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := lesson.Own(name)
			require.NoError(t, err)
			require.NoError(t, lesson.Prove(t.Context(), l, lesson.Options{Program: program, World: emulator.System(), Limit: time.Minute}))
		})
	}
}
