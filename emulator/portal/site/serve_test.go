package site_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/portal/site"
)

func TestHosts(t *testing.T) {
	t.Parallel()
	here := []string{"localhost", "127.0.0.1", "::1"}
	for listen, want := range map[string][]string{
		"127.0.0.1:8080":  {"portal.example.org", "127.0.0.1", "localhost", "::1"},
		"Localhost:1":     {"portal.example.org", "Localhost", "localhost", "127.0.0.1", "::1"},
		":8080":           append([]string{"portal.example.org"}, here...),
		"0.0.0.0:8080":    append([]string{"portal.example.org"}, here...),
		"[::]:8080":       append([]string{"portal.example.org"}, here...),
		"192.0.2.1:443":   {"portal.example.org", "192.0.2.1"},
		"example.org:443": {"portal.example.org", "example.org"},
	} {
		require.Equal(t, want, site.Hosts(listen, []string{"portal.example.org"}), listen)
	}
	require.Equal(t, []string{"example.org"}, site.Hosts("example.org:1", []string{"example.org", "example.org"}), "each once")
}

// People come to one listener, by TLS, and programs to the other, with a certificate;
// what ends one of them ends both.
func TestPortal_ServeBoth(t *testing.T) {
	t.Parallel()
	p := open(t)
	own, err := p.TLS(t.Context(), []string{"127.0.0.1"})
	require.NoError(t, err)
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		return l
	}
	people, programs := listen(), listen()
	ctx, end := context.WithCancel(t.Context())
	defer end()
	served := make(chan error, 1)
	go func() { served <- p.ServeBoth(ctx, people, programs, own, nil) }()
	get := func(l net.Listener, path string) int {
		transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // whose it is, is another test's
		defer transport.CloseIdleConnections()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+l.Addr().String()+path, http.NoBody)
		require.NoError(t, err)
		answer, err := transport.RoundTrip(r)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		return answer.StatusCode
	}
	require.Equal(t, http.StatusOK, get(people, "/se/paas"))
	require.Equal(t, http.StatusUnauthorized, get(programs, "/se/api/hsms"))
	require.Equal(t, http.StatusNotFound, get(people, "/se/api/hsms"), "programs have an address of their own")
	require.NoError(t, programs.Close())
	require.Error(t, <-served, "and the other listener is closed")
	_, err = people.Accept()
	require.ErrorIs(t, err, net.ErrClosed)

	alone := listen()
	go func() { served <- p.ServeBoth(ctx, alone, nil, nil, nil) }()
	end()
	require.NoError(t, <-served)
}
