package pcscd_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/vsmartcard/pcscd"
)

// wire speaks the protocol by hand, for what no client would say.
type wire struct {
	t    testing.TB
	conn net.Conn
}

func word[T ~int | ~uint32](n T) []byte { return binary.NativeEndian.AppendUint32(nil, uint32(n)) }

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func codeAt(b []byte, at int) pcscd.Code { return pcscd.Code(binary.NativeEndian.Uint32(b[at:])) }

func (w wire) send(command int, body, payload []byte) {
	w.t.Helper()
	_, err := w.conn.Write(join(word(len(body)), word(command), body, payload))
	require.NoError(w.t, err)
}

func (w wire) read(n int) []byte {
	w.t.Helper()
	if n == 0 {
		return nil
	}
	require.NoError(w.t, w.conn.SetReadDeadline(time.Now().Add(patience)))
	b := make([]byte, n)
	_, err := io.ReadFull(w.conn, b)
	require.NoError(w.t, err)
	return b
}

// call sends a structure and reads one of the same size.
func (w wire) call(command int, fields ...[]byte) []byte {
	w.t.Helper()
	body := join(fields...)
	w.send(command, body, nil)
	return w.read(len(body))
}

// dropped checks that the daemon ends the connection and says nothing before.
func (w wire) dropped() {
	w.t.Helper()
	_ = w.conn.SetReadDeadline(time.Now().Add(patience))
	n, err := w.conn.Read(make([]byte, 1))
	require.Zero(w.t, n)
	var timeout net.Error
	require.Error(w.t, err)
	require.False(w.t, errors.As(err, &timeout) && timeout.Timeout(), "still there")
}

// silent checks that nothing is on the way, by asking something else.
func (w wire) silent() {
	w.t.Helper()
	require.Len(w.t, w.call(0x11, word(4), word(4), word(0)), 12)
}

// establish makes a context of the given minor and returns its number.
func (w wire) establish(minor int) int {
	w.t.Helper()
	require.Equal(w.t, join(word(4), word(minor), word(0)), w.call(0x11, word(4), word(minor), word(0)))
	got := w.call(0x01, word(2), word(0), word(0))
	require.Equal(w.t, word(0), got[8:])
	return int(binary.NativeEndian.Uint32(got[4:]))
}

func (w wire) connectBody(context int, reader string, share, protocols int) []byte {
	name := make([]byte, 128)
	copy(name, reader)
	return join(word(context), name, word(share), word(protocols), word(0), word(0), word(0))
}

// handle makes a context and a shared handle on the card.
func (w wire) handle(reader string) int {
	w.t.Helper()
	got := w.call(0x04, w.connectBody(w.establish(4), reader, 2, 3))
	require.Equal(w.t, pcscd.OK, codeAt(got, 148))
	require.Equal(w.t, word(2), got[144:148])
	return int(binary.NativeEndian.Uint32(got[140:]))
}
