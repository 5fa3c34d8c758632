//go:build linux

package lesson_test

import (
	"strings"
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
			err = proves(t, l, time.Minute)
			for again := 0; again < 3 && zerosLost(err); again++ {
				t.Log("once more: ", err)
				err = proves(t, l, time.Minute)
			}
			require.NoError(t, err)
		})
	}
}

// zerosLost reports whether a lesson may have met with a defect of sc-hsm-tool up to 0.26: it
// forgets zeros at the beginning of a password that it puts together, which one in 128 has.
func zerosLost(err error) bool {
	return err != nil && strings.Contains(err.Error(), "Password correct ?")
}
