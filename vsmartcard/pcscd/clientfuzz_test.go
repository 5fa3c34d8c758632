package pcscd_test

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/vsmartcard/pcscd"
)

// FuzzClient is a client of a daemon that says any bytes: each call ends, with
// what was said or an error, and takes no more memory than the protocol has.
func FuzzClient(f *testing.F) {
	name := make([]byte, 128)
	copy(name, name0)
	greeting := func(minor int) []byte {
		return join(word(4), word(minor), word(0), word(2), word(7), word(0))
	}
	connected := join(word(7), name, word(2), word(3), word(9), word(2), word(0))
	state := join(name, word(1), word(0x34), word(0), make([]byte, 36), word(24), word(2))
	require.Len(f, state, 184)
	transmitted := join(word(9), word(2), word(16), word(4), word(2), word(16), word(2), word(0), []byte{0x90, 0})
	for minor := 4; minor <= 6; minor++ {
		readers := join(state, make([]byte, 15*184))
		if minor == 6 {
			readers = join(word(1), state)
		}
		rest := join(
			connected, readers, transmitted,
			join(word(9), word(2), word(3), word(0), word(2), word(0)), // reconnected
			join(word(9), word(0)), join(word(9), word(0), word(0)), // begun, ended
			join(word(9), word(0)), // status
			join(word(9), word(0x42000D48), word(0), word(264), word(2), word(0), []byte{1, 2}),
			join(word(9), word(0x90303), make([]byte, 264), word(4), word(0)), // attribute
			readers, word(0), word(0), // waited
		)
		f.Add(6, join(greeting(minor), readers, rest))
		f.Add(6, join(greeting(minor), readers, connected, readers, transmitted[:len(transmitted)-1]))
	}
	f.Add(6, join(word(4), word(5), word(0x8010001D), greeting(5)))
	f.Fuzz(func(t *testing.T, minor int, in []byte) {
		synctest.Test(t, func(t *testing.T) {
			stream := &played{in: bytes.NewReader(in)}
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			c, err := pcscd.Open(ctx, stream, minor)
			if err != nil {
				return
			}
			require.LessOrEqual(t, c.Minor(), 6)
			readers, err := c.Readers(ctx)
			require.True(t, err == nil || readers == nil)
			h, err := c.Connect(ctx, name0, pcscd.Exclusive, pcscd.T1|pcscd.Raw)
			if err != nil {
				return
			}
			require.LessOrEqual(t, len(h.ATR()), 33)
			answer, err := h.Transmit(ctx, []byte{0, 0x84, 0, 0})
			require.True(t, err == nil || answer == nil)
			_ = h.Reconnect(ctx, pcscd.Reset)
			_ = h.Begin(ctx)
			_ = h.End(ctx, pcscd.Leave)
			_ = h.Status(ctx)
			answer, err = h.Control(ctx, pcscd.ControlFeatures, nil)
			require.True(t, err == nil || answer == nil)
			value, _ := h.Attrib(ctx, pcscd.AttribVendorName)
			require.LessOrEqual(t, len(value), 264)
			_, _ = c.Wait(ctx, func(r []pcscd.ReaderState) bool { return len(r) > 1 })
			_, _ = c.ReaderEvents(ctx)
			_ = h.Disconnect(ctx, pcscd.Leave)
			require.NoError(t, c.Close())
		})
	})
}
