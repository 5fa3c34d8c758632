package site

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/cloudhsm"
	"hsmemu/emulator/ram"
	"hsmemu/emulator/web"
)

// Address says where a portal is served, and how.
type Address struct {
	// Listen is HOST:PORT for people and cards, where port 0 is any free one.
	Listen string
	// Names are further names of this machine, the first of which is in URLs.
	Names []string
	// TLS serves HTTPS: with the certificates and the key in the PEM files Certificate and
	// Key, or without these with a certificate that the portal makes.
	TLS              bool
	Certificate, Key string
	// HSM is HOST:PORT for programs, which takes TLS; empty for nowhere. Clients is a PEM
	// file with the authorities of their certificates; empty for the portal's own.
	HSM, Clients string
}

// Listener listens at an address.
type Listener struct {
	Address
	people, programs net.Listener
	// own has the certificate of a file, and clients the authorities; nil for the portal's.
	own     *tls.Config
	clients *x509.CertPool
}

// ErrHost says that a name of this machine cannot be one of a host in a URL.
var ErrHost = errors.New("that is no name of a host, and no address")

// Listen listens at an address. Errors: ErrHost, those of the files that it names, and of
// package net.
func Listen(ctx context.Context, a Address) (*Listener, error) {
	l := &Listener{Address: a}
	var err error
	for _, name := range a.Names {
		if !isHost(name) {
			return nil, fmt.Errorf("%w: %q", ErrHost, name)
		}
	}
	if a.Clients != "" {
		if l.clients, err = cloudhsm.ReadAuthorities(a.Clients); err != nil {
			return nil, err
		}
	}
	if a.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(a.Certificate, a.Key)
		if err != nil {
			return nil, fmt.Errorf("use the certificate: %w", err)
		}
		l.own = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	}
	if l.people, err = web.Listen(ctx, a.Listen, web.Anybody); err != nil { // who names an address has told so
		return nil, err
	}
	if a.HSM != "" {
		if l.programs, err = web.Listen(ctx, a.HSM, web.Anybody); err != nil {
			l.Close()
			return nil, err
		}
	}
	return l, nil
}

// Close ends listening, also where Serve has ended it.
func (l *Listener) Close() {
	_ = l.people.Close()
	if l.programs != nil {
		_ = l.programs.Close()
	}
}

// Reach is how a portal is reached at the listener.
func (l *Listener) Reach() Reach {
	host, _, _ := net.SplitHostPort(l.Listen) // Listen has read it
	at, ok := l.people.Addr().(*net.TCPAddr)
	return Reach{URL: l.url(l.people), TLS: l.TLS, Names: append([]string{host}, l.Names...), Exposed: !ok || !at.IP.IsLoopback()}
}

// url is how one of the listeners is reached: by the first name, or at its address.
func (l *Listener) url(of net.Listener) string {
	at, _ := web.At(of)
	if len(l.Names) > 0 {
		_, port, _ := net.SplitHostPort(at) // it is one of TCP
		at = net.JoinHostPort(l.Names[0], port)
	}
	scheme := "http"
	if l.TLS {
		scheme = "https"
	}
	return scheme + "://" + at
}

// Elsewhere reports that other machines reach it, and by another host than the one in URLs.
func (l *Listener) Elsewhere() bool {
	_, elsewhere := web.At(l.people)
	return elsewhere && len(l.Names) == 0
}

// isHost reports whether a URL whose host this is leads there.
func isHost(name string) bool {
	if strings.Contains(name, ":") {
		ip, err := netip.ParseAddr(name)
		return err == nil && ip.Zone() == ""
	}
	u, err := url.Parse("http://" + name)
	return err == nil && name != "" && u.Host == name
}

// hosts are the names and addresses by which a portal that listens at an address is
// reached, each once: names, and those of the address, for a certificate. An address
// for every interface stands for this machine alone, whose others are in names.
func hosts(listen string, names []string) []string {
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

// printed is how mail goes out that somebody is told of.
type printed func(account.Mail)

// Send implements account.Sender.
func (tell printed) Send(_ context.Context, m account.Mail) error {
	tell(m)
	return nil
}

// Served is a portal that is ready at a listener.
type Served struct {
	// Cards, Pages and Programs are the URLs for each of them; Programs is empty where
	// they are not served.
	Cards, Pages, Programs string
	// Root is where browsers get the root that the portal's own certificate is below, and
	// Sum is the root's SHA-256; Root is empty where the certificate is not its own.
	Root string
	Sum  [sha256.Size]byte

	portal *Portal
	at     *Listener
	own    *tls.Config // nil for not encrypted
}

// At makes the portal ready at a listener, with the certificate for it. Errors: those of
// the records.
func (p *Portal) At(ctx context.Context, l *Listener) (*Served, error) {
	at := l.url(l.people)
	s := &Served{Cards: at + ram.Prefix + "paas", Pages: at + pathHome, portal: p, at: l, own: l.own}
	if l.programs != nil {
		s.Programs = l.url(l.programs) + cloudhsm.Prefix
	}
	if !l.TLS || l.own != nil {
		return s, nil
	}
	var err error
	if s.own, err = p.TLS(ctx, hosts(l.Listen, l.Names)); err != nil {
		return nil, fmt.Errorf("make a certificate for the server: %w", err)
	}
	_, root, err := p.Service.DevNetAuthority(ctx)
	if err != nil {
		return nil, err
	}
	s.Root, s.Sum = at+pathRoot, sha256.Sum256(root.Certificate.Raw)
	return s, nil
}

// Serve serves people, cards and programs, until the context ends, or either listener
// fails, which ends both. It owns them.
func (s *Served) Serve(ctx context.Context) (err error) {
	ctx, end := context.WithCancel(ctx)
	defer end()
	ended := make(chan error, 2)
	n := 1
	if s.at.programs != nil {
		n++
		go func() { ended <- s.portal.ServeHSM(ctx, s.at.programs, s.own, s.at.clients) }()
	}
	people := s.at.people
	if s.own != nil {
		people = tls.NewListener(people, s.own)
	}
	go func() { ended <- s.portal.Serve(ctx, people) }()
	for range n {
		err = errors.Join(err, <-ended)
		end()
	}
	return err
}
