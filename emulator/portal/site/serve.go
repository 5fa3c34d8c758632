package site

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"strings"
)

// Hosts are the names and addresses by which a portal that listens at an address is
// reached, each once: names, and those of the address, for a certificate. An address
// for every interface stands for this machine alone, whose others are in names.
func Hosts(listen string, names []string) []string {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		host = listen
	}
	list := slices.Clone(names)
	ip := net.ParseIP(host)
	if host != "" && !ip.IsUnspecified() {
		list = append(list, host)
	}
	if host == "" || strings.EqualFold(host, "localhost") || ip.IsUnspecified() || ip.IsLoopback() {
		list = append(list, "localhost", "127.0.0.1", "::1")
	}
	var once []string
	for _, name := range list {
		if !slices.Contains(once, name) {
			once = append(once, name)
		}
	}
	return once
}

// ServeBoth serves people and cards at one listener, by TLS where own is not nil, and
// programs at another one where that is not nil, as Serve and ServeHSM do: until the
// context ends, or either of them fails, which ends both. It owns both listeners.
func (p *Portal) ServeBoth(ctx context.Context, l, programs net.Listener, own *tls.Config, clients *x509.CertPool) (err error) {
	ctx, end := context.WithCancel(ctx)
	defer end()
	ended := make(chan error, 2)
	n := 1
	if programs != nil {
		n++
		go func() { ended <- p.ServeHSM(ctx, programs, own, clients) }()
	}
	if own != nil {
		l = tls.NewListener(l, own)
	}
	go func() { ended <- p.Serve(ctx, l) }()
	for range n {
		err = errors.Join(err, <-ended)
		end()
	}
	return err
}
