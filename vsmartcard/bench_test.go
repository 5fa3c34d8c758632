package vsmartcard_test

import (
	"context"
	"fmt"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/vsmartcard"
	"hsmemu/vsmartcard/pcscd"
)

// null is the fastest card there can be.
type null struct{}

func (null) ATR() []byte  { return atr }
func (null) Reset() error { return nil }

func (null) Transmit(context.Context, []byte) ([]byte, error) { return []byte{0x90, 0x00}, nil }

// plain hides that a connection is TCP, so that nothing is acknowledged
// quickly.
type plain struct{ net.Conn }

// BenchmarkVPCD measures one command of four bytes, answered at once, from a
// client through pcscd and vpcd to a card and back. With late acknowledgement
// the kernel's delay shows, which any other bridge of this kind pays.
func BenchmarkVPCD(b *testing.B) {
	for _, c := range []struct {
		name string
		wrap func(net.Conn) net.Conn
	}{
		{"quick acknowledgement", func(conn net.Conn) net.Conn { return conn }},
		{"late acknowledgement", func(conn net.Conn) net.Conn { return plain{conn} }},
	} {
		b.Run(c.name, func(b *testing.B) {
			port := freePorts(b)
			daemon := startDaemon(b, "/dev/null", port)
			conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			require.NoError(b, err)
			done := make(chan error, 1)
			go func() { done <- vsmartcard.Serve(b.Context(), c.wrap(conn), null{}) }()
			b.Cleanup(func() { require.NoError(b, <-done) })

			cl := daemon.client()
			seen(b, cl, reader0, pcscd.StatePresent)
			h, err := cl.Connect(b.Context(), reader0, pcscd.Shared, pcscd.T1)
			require.NoError(b, err)
			for b.Loop() {
				if _, err := h.Transmit(context.Background(), []byte{0x00, 0x20, 0x00, 0x81}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
