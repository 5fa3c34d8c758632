package console

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/view"
)

// Two programs wait, as in a reader of the system and at the control socket. Each click lets
// one go, however soon the next one comes, and from then on the card may be taken out.
func TestGate_LetsOneGoAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{changed: func() {}, clock: time.Now, limit: time.Minute}
		g.hold(holdPINs)
		gone := make(chan struct{}, 2)
		for range 2 {
			go func() {
				g.Comes(t.Context(), func() view.Event { return view.Coming([]byte{0, 0x20, 0, 0x81, 1, '1'}, false) })
				gone <- struct{}{}
			}()
		}
		synctest.Wait()
		require.True(t, g.release())
		require.True(t, g.Holds())
		require.True(t, g.release())
		require.False(t, g.Holds())
		require.False(t, g.release())
		require.False(t, g.end(), "nothing waits that would have to be waited for")
		synctest.Wait()
		require.Len(t, gone, 2)
	})
}
