//go:build linux

package web_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/web"
	"hsmemu/vsmartcard/descriptors"
)

// However many browsers connect, and never say anything, programs that use cards find
// room for connections and files.
func TestServer_LeavesRoomForPrograms(t *testing.T) {
	var was syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was))
	few := was
	few.Cur = 400
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few))
	defer func() { require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was)) }()

	var said bytes.Buffer
	browsers, err := web.Listen(t.Context(), "localhost:0", web.ThisMachine)
	require.NoError(t, err)
	ctx, end := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- web.Server{Handler: http.NotFoundHandler(), Log: slog.New(slog.NewTextHandler(&said, nil))}.Serve(ctx, browsers)
	}()
	var all []net.Conn
	refused := make(chan struct{}, 100)
	for range cap(refused) {
		conn, err := net.Dial("tcp", browsers.Addr().String())
		require.NoError(t, err)
		all = append(all, conn)
		_, _ = conn.Write([]byte("GET / HTTP/1.1\r\n"))
		go func() {
			_, _ = conn.Read(make([]byte, 1))
			refused <- struct{}{}
		}()
	}
	select {
	case <-refused:
	case <-time.After(time.Minute):
		require.Fail(t, "nobody is refused: both ends of 100 connections are more than browsers may have of 400 files")
	}

	programs, err := net.Listen("unix", t.TempDir()+"/s")
	require.NoError(t, err)
	conn, err := net.Dial("unix", programs.Addr().String())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	accepted, err := programs.Accept()
	require.NoError(t, err)
	defer func() { require.NoError(t, accepted.Close()) }()
	require.True(t, descriptors.KeptBack(accepted, descriptors.Clients), "no room for a browser")
	require.False(t, descriptors.KeptBack(accepted, 0), "and room for a program")

	for _, c := range all {
		_ = c.Close() // some are closed already
	}
	end()
	require.NoError(t, <-done)
	require.Equal(t, 1, strings.Count(said.String(), "browsers are turned away"), "it is said once")
}
