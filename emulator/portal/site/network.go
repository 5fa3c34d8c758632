package site

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"

	"hsmemu/applet/cvc"
	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/cloudhsm"
	"hsmemu/emulator/portal/pki"
	"hsmemu/emulator/portal/records"
	"hsmemu/emulator/portal/service"
	"hsmemu/emulator/portal/soap"
	"hsmemu/emulator/web"
)

// pathRoot is where everybody downloads the certificate of the developer network's
// authority, which certifies this portal's own TLS, too.
const pathRoot = "/se/devnet.pem"

// root downloads the certificate of the developer network's authority.
func (s *site) root(w http.ResponseWriter, r *http.Request) {
	_, issuer, err := s.Service.DevNetAuthority(r.Context())
	if err != nil {
		http.Error(w, "There is no such certificate.", Status(err))
		return
	}
	download(w, "devnet.pem", issuer.Bundle())
}

// certify is the certificate service of the developer network. Its clients are no
// browsers: they have no cookie that another site's page could use.
func (p *Portal) certify(ctx context.Context, url func(authority int64) string) (http.Handler, error) {
	id, _, err := p.Service.DevNetAuthority(ctx)
	if err != nil {
		return nil, err
	}
	caws, err := soap.New(soap.Config{
		Issuer: func(ctx context.Context) (*pki.Issuer, error) {
			_, i, err := p.Service.DevNetAuthority(ctx)
			return i, err
		},
		Codes: codes{p.Accounts, p.Service}, Roots: cvc.EmulatorRoots(), CRL: []string{url(id)}, Rand: p.Records.Rand(), Now: p.Records.Now,
		Ended: func(code soap.ReturnCode, err error) {
			if code == soap.InternalError { // all others are the client's
				p.failed(fmt.Errorf("certificate service: %w", err))
			}
		},
	})
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caws.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), sourceKey{}, source(r))))
	}), nil
}

// sourceKey is where the source of a request is in its context.
type sourceKey struct{}

// codes are the activation codes of accounts as package soap asks for them.
type codes struct {
	*account.Accounts
	service *service.Service
}

// Ask implements soap.Codes.
func (c codes) Ask(ctx context.Context, email string) error {
	from, _ := ctx.Value(sourceKey{}).(string)
	err := c.AskConfirmation(ctx, email, from)
	if errors.As(err, new(*account.RateError)) {
		return errors.Join(soap.ErrExcessive, err)
	}
	return err
}

// Redeem implements soap.Codes. Where no code waits any more, the client is to begin
// anew, and not to ask for another try.
func (c codes) Redeem(ctx context.Context, email, code string, issue func() (soap.Issued, error)) (soap.Verdict, error) {
	err := c.Confirm(ctx, email, code, func(tx *records.Tx) error {
		i, err := issue()
		if err != nil {
			return err
		}
		made, err := x509.ParseCertificate(i.Certificate)
		if err != nil {
			return err
		}
		return c.service.RecordIn(tx, made, i.Device, i.Email)
	})
	switch {
	case err == nil:
		return soap.CodeRight, nil
	case errors.Is(err, account.ErrCode):
		return soap.CodeWrong, nil
	case errors.Is(err, account.ErrNoCode):
		return soap.CodeExcessive, nil
	default:
		return soap.CodeWrong, err
	}
}

// admit lets a card be an HSM that is registered or is a token of a trust center, and with
// the key that it has there. The trust center counts where it is both, or else the account.
func (p *Portal) admit(ctx context.Context, _, path string, key []byte) (right string, err error) {
	t, center, err := p.Accounts.KnownToken(ctx, path, key)
	switch {
	case errors.Is(err, account.ErrNoToken), errors.Is(err, account.ErrOtherKey):
		return "", fmt.Errorf("%w: %w", cloudhsm.ErrNotAdmitted, err)
	case err != nil:
		return "", err
	case center != 0:
		return fmt.Sprint("trust center ", center), nil
	}
	return fmt.Sprint("account ", t.Account), nil
}

// offered are the cards that a program may use: with a certificate of the portal those
// that its holder has registered, and with one of the authorities that the owner of the
// portal named all.
func (p *Portal) offered(r *http.Request) (func(path string) bool, error) {
	holder, issued, err := p.Service.Holder(r.Context(), r.TLS.PeerCertificates[0]) // asked for before
	if err != nil {
		return nil, err
	}
	if !issued { // by an authority below the developer network's, it is nobody's here
		named := p.named.Load()
		return func(string) bool { return named }, nil
	}
	list, err := p.Accounts.Tokens(r.Context(), holder)
	if err != nil {
		return nil, err
	}
	return func(path string) bool {
		return holder != 0 && slices.ContainsFunc(list, func(t account.Token) bool { return t.Path == path && t.Status == account.Active })
	}, nil
}

// ServeHSM serves the keys of the connected HSMs to programs at a listener, which it
// owns, until the context ends. Programs prove by TLS who they are, with a certificate
// below one of clients, or of the developer network for nil. One that the portal
// revoked is refused.
func (p *Portal) ServeHSM(ctx context.Context, l net.Listener, own *tls.Config, clients *x509.CertPool) error {
	p.named.Store(clients != nil)
	if clients == nil {
		_, issuer, err := p.Service.DevNetAuthority(context.WithoutCancel(ctx)) // an end is no failure
		if err != nil {
			return errors.Join(err, l.Close())
		}
		clients = x509.NewCertPool()
		clients.AddCert(issuer.Certificate)
	}
	config := cloudhsm.TLS(tls.Certificate{}, clients)
	config.Certificates, config.GetCertificate = own.Certificates, own.GetCertificate
	mux := http.NewServeMux()
	mux.Handle(cloudhsm.Prefix, p.valid(p.hsms))
	return web.Server{Handler: mux, Log: p.log}.Serve(ctx, tls.NewListener(l, config))
}

// valid refuses programs whose certificate was revoked.
func (p *Portal) valid(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
			if err := p.Service.Valid(r.Context(), r.TLS.PeerCertificates[0]); err != nil {
				status, code := http.StatusForbidden, "certificate_revoked"
				if !errors.Is(err, service.ErrRevoked) {
					status, code = http.StatusInternalServerError, "internal"
				}
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(status)
				_ = json.NewEncoder(w).Encode(map[string]string{"code": code, "message": sentence(err, status)}) // the client has gone
				return
			}
		}
		h.ServeHTTP(w, r)
	})
}

// TLS is a configuration with a certificate by the portal's own authority for the host
// names and addresses of this machine, the first of which names it. It is made anew
// before it ends. Errors: those of package pki for the hosts.
func (p *Portal) TLS(ctx context.Context, hosts []string) (*tls.Config, error) {
	if _, err := p.Service.Server(ctx, hosts); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		c, err := p.Service.Server(hello.Context(), hosts)
		return &c, err
	}}, nil
}

// hsmsPage lists the HSMs that are connected: all of them to Operators of the whole
// portal, and to those of a trust center their own.
func (s *site) hsmsPage(w http.ResponseWriter, r *http.Request, p account.Session) error {
	if !operates(p.Account) {
		return account.ErrForbidden
	}
	list := s.HSMs.Connections()
	if !p.Account.May(account.UnlockToken, 0) {
		tokens, err := s.Accounts.Tokens(r.Context(), p.Account.ID)
		if err != nil {
			return err
		}
		list = slices.DeleteFunc(list, func(c cloudhsm.Connection) bool {
			return !slices.ContainsFunc(tokens, func(t account.Token) bool { return t.Path == c.Path && t.Status == account.Active })
		})
	}
	show(w, http.StatusOK, "hsms", struct {
		view
		HSMs []cloudhsm.Connection
		RAM  string
	}{s.view(r, p, "Connected HSMs"), list, s.base(r) + "/rt/hsm"})
	return nil
}

// operates reports whether an account is an Operator somewhere.
func operates(a account.Account) bool { return somewhere(account.UnlockToken)(a) }
