package lesson

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Sessions that begin at the same time clear up what is left of others, and not each other.
func TestAnnounce_AtTheSameTime(t *testing.T) {
	t.Parallel()
	home, nowhere := t.TempDir(), filepath.Join(t.TempDir(), "none")
	const many = 4
	ended := make(chan error, many)
	for range many {
		go func() {
			var err error
			for range 100 {
				clearLeft(home)
				a, failed := announce(home, announced, nowhere)
				err = errors.Join(err, failed, a.withdraw())
			}
			ended <- err
		}()
	}
	for range many {
		require.NoError(t, <-ended)
	}
}
