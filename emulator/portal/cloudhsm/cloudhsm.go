// Package cloudhsm is the vendor's Cloud-HSM service: SmartCard-HSMs that connect from
// anywhere by RAM over HTTP, and programs that sign with their keys by REST.
//
//	service, err := cloudhsm.New(cloudhsm.Config{Rand: rand.Reader})
//	cards := &ram.Server{Services: map[string]ram.Service{"hsm": service.Serve}}
//	mux.Handle(ram.Prefix, cards)
//	mux.Handle(cloudhsm.Prefix, service)
//	server := ram.NewHTTPServer(mux)
//	server.TLSConfig = cloudhsm.TLS(certificate, clients)
//
// A card is there for programs as long as it is connected and its user is logged in,
// as ram-client -p and hsmemu ram --pin-file do before they connect. It is connected
// when its certificates lead to an accepted root and it has proven its key; whatever
// is sent to it goes through the secure channel that comes of the proof. Programs
// prove who they are by a client certificate of TLS.
//
// Resources and their names are those of sc-hsm-cloud-service; its description says
// more than its code does where they differ, and the code is followed. Where it signs
// with the first key that has a name, this one refuses if there are others.
package cloudhsm

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"

	"hsmemu/applet/apdu"
	"hsmemu/applet/client"
	"hsmemu/applet/cvc"
	"hsmemu/emulator/portal"
	"hsmemu/emulator/ram"
)

// TextFailed is what the person at a card is told where it is not connected. It is the
// vendor's.
const TextFailed = "Failure talking to card. Is this a SmartCard-HSM ?"

// TextRemoved is what the person at a card is told that was connected and is not admitted
// any more.
const TextRemoved = "This token was removed, or belongs elsewhere now: connect it again where it may be used"

// Errors of cards and of what is asked of them.
var (
	// ErrOtherDevice says that another device was expected. It is for Admit.
	ErrOtherDevice = errors.New("another device was expected")
	// ErrNotAdmitted says that a device is not admitted, or not any more. It is for Admit:
	// an error that is this one ends the connection.
	ErrNotAdmitted = errors.New("the token is no longer there")
	// ErrUnknown says that no HSM of a name is connected.
	ErrUnknown = errors.New("no such HSM is connected")
	// ErrGone says that an HSM went away, or did not answer in time.
	ErrGone = errors.New("the HSM has gone")
)

// Config is what a service is made of.
type Config struct {
	// Roots are those that devices have to be below; nil for cvc.KnownRoots.
	Roots cvc.Roots
	// Admit refuses a device that proved its key, by its path, such as
	// /UTSRCAEM1/UTDICAEM01/DENK0404144, by the key, an uncompressed point with its
	// leading 04, and by the session in the URL or the cookie that it connected in,
	// empty for none; nil admits all. right names what it is admitted for, such as a
	// trust center. Admit is asked when a card connects and again before every use. The
	// connection ends, and its login before, when the error is ErrNotAdmitted or right is
	// another than at first: what was unlocked for one is not for another. Any other error
	// refuses that use alone.
	Admit func(ctx context.Context, session, path string, key []byte) (right string, err error)
	// Offered tells which cards, by their paths, a program may use that makes a request;
	// nil for all. The others are as if they were not connected. Its error is answered
	// 500.
	Offered func(*http.Request) (func(path string) bool, error)
	// Rand is where the keys of secure channels come from.
	Rand io.Reader
	// WithoutCertificate lets everybody sign who reaches the service. It is for
	// loopback alone.
	WithoutCertificate bool
}

// Service is the Cloud-HSM service: an http.Handler for programs, below Prefix, and
// with Serve a ram.Service for cards.
type Service struct {
	Config

	mu   sync.Mutex
	hsms map[string]*hsm
}

// New is a service without cards. It refuses a Config without randomness.
func New(c Config) (*Service, error) {
	if c.Rand == nil {
		return nil, errors.New("a Cloud-HSM service needs randomness")
	}
	if c.Roots == nil {
		c.Roots = cvc.KnownRoots()
	}
	return &Service{Config: c, hsms: map[string]*hsm{}}, nil
}

// TLS is the configuration of a server whose clients may have certificates of some
// authorities. A client with another certificate is sent off in the handshake, and one
// without any is answered 401.
func TLS(certificate tls.Certificate, clients *x509.CertPool) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{certificate}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: clients, MinVersion: tls.VersionTLS12,
	}
}

// ReadAuthorities are the certificates of authorities, for TLS, in a file in PEM. One that
// has none is an error: no program could ever be let in.
func ReadAuthorities(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the authorities of programs: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("read the authorities of programs: %s has no certificate in PEM", file)
	}
	return pool, nil
}

// hsm is a card that is connected. Its Serve alone speaks to it, since a channel has
// one user; others hand it jobs.
type hsm struct {
	id, path string
	device   cvc.Name
	// domain is the default key domain.
	domain string
	jobs   chan job
	// replaced is closed when the device connects anew, refused when it is not admitted any
	// more, and gone when Serve ends.
	replaced, refused, gone chan struct{}
	refuse                  func() // closes refused, once
	// right is what Admit names now.
	right func() (string, error)
	// first is what it named when the card connected.
	first string

	// challenge is what custodians answer until enough have. Serve's alone.
	challenge []byte

	mu       sync.Mutex
	loggedIn bool
	domains  []domain
	keys     []key
	custody  custody
}

// job is something to do with a card. The error is also done's.
type job struct {
	run  func(context.Context, *client.Client) error
	done chan error // of capacity 1
}

// patience is how long programs wait for a card. A client that is gone is noticed by
// then, and the longest command has ended.
const patience = ram.IdleTime

// do has the card do something, and waits for its end.
func (h *hsm) do(ctx context.Context, run func(context.Context, *client.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	j := job{run, make(chan error, 1)}
	select {
	case h.jobs <- j:
	case <-h.gone:
		return ErrGone
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrGone, ctx.Err())
	}
	select {
	case err := <-j.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrGone, ctx.Err())
	}
}

// Serve is a [ram.Service]: it connects a card, and keeps it for programs until it
// goes away. Between commands package ram keeps the connection alive.
func (s *Service) Serve(ctx context.Context, card *ram.Session) error {
	c := client.New(card)
	h, err := s.meet(ctx, c, card.ID())
	if err == nil {
		err = s.keep(ctx, c, h)
	}
	text := TextFailed
	if h != nil && errors.Is(err, ErrNotAdmitted) { // which it was at first
		text = TextRemoved
	}
	// If it is the connection that failed, nobody hears it.
	_ = card.Notify(ctx, ram.Notice{Number: -1, Text: text})
	return err
}

// meet verifies what a card is and opens the channel (PORTAL-12, PORTAL-34).
func (s *Service) meet(ctx context.Context, c *client.Client, session string) (*hsm, error) {
	if err := c.Enter(ctx); err != nil {
		return nil, err
	}
	device, err := portal.Prove(ctx, c, s.Roots, s.Rand)
	if err != nil {
		return nil, err
	}
	point, err := device.DeviceKey().EC()
	if err != nil {
		return nil, err
	}
	right := func() (string, error) { return "", nil }
	if s.Admit != nil {
		right = func() (string, error) { return s.Admit(ctx, session, device.Path(), point.Bytes()) }
	}
	first, err := right()
	if err != nil {
		return nil, fmt.Errorf("device %s: %w", device.Path(), err)
	}
	refused := make(chan struct{})
	h := &hsm{
		id: Name(device.Path()), path: device.Path(), device: device.Device.CHR,
		domain: hexOf(point.Bytes()[1 : 1+point.Curve().FieldLen()]),
		jobs:   make(chan job), replaced: make(chan struct{}), gone: make(chan struct{}),
		refused: refused, refuse: sync.OnceFunc(func() { close(refused) }), right: right, first: first,
	}
	return h, h.look(ctx, c)
}

// admitted asks again whether a card may be used, and has its connection end where it may
// not any more. Errors: ErrNotAdmitted, and Admit's.
func (h *hsm) admitted() error {
	right, err := h.right()
	if err == nil && right != h.first {
		err = ErrNotAdmitted
	}
	if errors.Is(err, ErrNotAdmitted) {
		h.refuse()
	}
	return err
}

// Name is what programs call the HSM of a path: without the first slash, and with dots in
// place of the others.
func Name(path string) string { return strings.ReplaceAll(strings.TrimPrefix(path, "/"), "/", ".") }

// look finds out which public keys have authenticated, whether the user is logged in, and
// then what is on the card.
func (h *hsm) look(ctx context.Context, c *client.Client) error {
	if err := h.count(ctx, c); err != nil {
		return err
	}
	status, err := c.PINStatus(ctx, client.UserPIN)
	if err != nil {
		return err
	}
	if status.State != client.Verified {
		h.set(false, nil, nil)
		return nil
	}
	domains, err := readDomains(ctx, c)
	if err != nil {
		return err
	}
	keys, err := readKeys(ctx, c)
	if err != nil {
		return err
	}
	h.set(true, domains, keys)
	return nil
}

func (h *hsm) set(loggedIn bool, domains []domain, keys []key) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.loggedIn, h.domains, h.keys = loggedIn, domains, keys
}

// keep works off jobs until the connection ends, the channel is broken, or the card is not
// admitted any more, which is asked before each job. A status word is an answer of the
// card, and ends nothing.
func (s *Service) keep(ctx context.Context, c *client.Client, h *hsm) error {
	s.add(h)
	defer s.remove(h)
	for {
		select {
		case j := <-h.jobs:
			if err := h.admitted(); err != nil {
				j.done <- fmt.Errorf("%w: %w", ErrGone, err)
				continue // to where refused ends it
			}
			err := j.run(ctx, c)
			if err == nil || errors.As(err, new(apdu.SW)) {
				j.done <- err
				continue
			}
			j.done <- fmt.Errorf("%w: %w", ErrGone, err)
			return err
		case <-h.replaced:
			return ram.ErrReplaced
		case <-h.refused:
			_, err := c.Select(ctx) // so that it is not logged in when it connects again
			return cmp.Or(err, fmt.Errorf("device %s: %w", h.path, ErrNotAdmitted))
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// add makes a card known, in place of an older connection of the same device.
func (s *Service) add(h *hsm) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if older := s.hsms[h.id]; older != nil {
		close(older.replaced)
	}
	s.hsms[h.id] = h
}

func (s *Service) remove(h *hsm) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(h.gone)
	if s.hsms[h.id] == h {
		delete(s.hsms, h.id)
	}
}

// connected are the cards that are still admitted, in the order of their names.
func (s *Service) connected() []*hsm {
	s.mu.Lock()
	all := slices.Collect(maps.Values(s.hsms))
	s.mu.Unlock()
	all = slices.DeleteFunc(all, func(h *hsm) bool { return h.admitted() != nil })
	slices.SortFunc(all, func(a, b *hsm) int { return cmp.Compare(a.id, b.id) })
	return all
}

// Connection is a card that is connected.
type Connection struct {
	// ID is the name of the HSM, such as UTSRCAEM1.UTDICAEM01.DENK0404144, and Path
	// that of the device.
	ID, Path string
	// LoggedIn reports whether programs can use it.
	LoggedIn bool
	// Custody says how far public key authentication has come, and Custodians are the
	// keys that are registered for it; zero where the card was not initialised for it.
	Custody    client.KeyAuthentication
	Custodians []client.RegisteredKey
	// Keys are the labels of the keys on it, while it is logged in.
	Keys []string
}

// Connections are the cards that are connected, logged in or not, by their names.
func (s *Service) Connections() []Connection {
	var all []Connection
	for _, h := range s.connected() {
		h.mu.Lock()
		c := Connection{ID: h.id, Path: h.path, LoggedIn: h.loggedIn, Custody: h.custody.state, Custodians: h.custody.keys}
		for _, k := range h.keys {
			c.Keys = append(c.Keys, k.description.Label)
		}
		all = append(all, c)
		h.mu.Unlock()
	}
	return all
}

// Login presents the user PIN to a card that is connected, through the secure channel:
// an operator who unlocks it. Errors: ErrUnknown, ErrGone, and those of
// [client.Client.VerifyPIN].
func (s *Service) Login(ctx context.Context, id string, pin []byte) error {
	h, err := s.hsm(id)
	if err != nil {
		return err
	}
	return h.do(ctx, func(ctx context.Context, c *client.Client) error {
		if err := c.VerifyPIN(ctx, client.UserPIN, pin); err != nil {
			return err
		}
		return h.look(ctx, c)
	})
}

// hsm is a card that is connected and still admitted. Error: ErrUnknown.
func (s *Service) hsm(id string) (*hsm, error) {
	s.mu.Lock()
	h := s.hsms[id]
	s.mu.Unlock()
	if h == nil {
		return nil, fmt.Errorf("%w: %q", ErrUnknown, id)
	}
	if err := h.admitted(); err != nil {
		return nil, fmt.Errorf("%w: %q: %w", ErrUnknown, id, err)
	}
	return h, nil
}
