package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"hsmemu/applet/cvc"
	"hsmemu/cmd/hsmemu/commandline"
	"hsmemu/emulator/portal"
	accounts "hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/cloudhsm"
	"hsmemu/emulator/portal/records"
	"hsmemu/emulator/portal/site"
	"hsmemu/emulator/ram"
	"hsmemu/emulator/web"
)

func newPortalCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "portal",
		Short: "be the portal that updates firmware",
		Long:  "The vendor's portal: log-in with a card, accounts, certificates and firmware updates.",
		RunE:  commandline.HelpOrUnknown,
	}
	cmd.AddCommand(newPortalServeCommand(a))
	return cmd
}

// serving is what the flags of portal serve say.
type serving struct {
	listen, data             string
	updateAny, allowDevHSM   bool
	cardsOfAddress           uint16
	certificate, key         string
	mail, from, user, secret string
	names                    []string
	tls                      bool
	hsm, clients             string
	sealed                   sealing
	resealed                 bool // whether --seal was given
}

// encrypted reports whether the portal is reached by HTTPS.
func (s serving) encrypted() bool { return s.tls || s.certificate != "" }

func newPortalServeCommand(a *app) *cobra.Command {
	s := serving{sealed: sealing{of: "portal's records"}}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "serve the portal's pages, and the cards that connect",
		Long: "Prints two addresses: that at which cards connect by RAM over HTTP, and that of the pages for browsers. People log in\n" +
			"with a card, register it, and ask for a firmware update or for certificates; the first one is the administrator. A card\n" +
			"is updated by the rules of the vendor's portal: without keys if there is a newer firmware, or with a blocked SO-PIN, five\n" +
			"times at most. It becomes a new device, as shipped. With --update-any every card that connects is updated,\n" +
			"without a log-in. Without --mail, which names a server, mail is read on a page of the portal, and where\n" +
			"other machines reach it, mail is printed instead.\n" +
			"The portal's records and the keys of its issuers are in the data folder.\n\n" +
			"With --tls the portal makes the certificate of its server itself, and prints where browsers get the root that it is below, and\n" +
			"the SHA-256 of that root. With --hsm-listen programs sign there with the keys of registered cards that are connected at /rt/hsm\n" +
			"by hsmemu ram --pin-file: each with those of the account that its client certificate was issued to, or, with a certificate below\n" +
			"those of --hsm-clients, with all.",
		Args: commandline.Exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s.resealed = cmd.Flags().Changed("seal")
			return a.servePortal(cmd.Context(), s)
		},
	}
	f := cmd.Flags()
	f.StringVar(&s.listen, "listen", "127.0.0.1:8080", "wait for browsers and cards at `HOST:PORT`")
	f.StringVar(&s.data, "data", "", "`FOLDER` of the portal's records (default portal in the folder of the cards)")
	f.BoolVar(&s.updateAny, "update-any", false, "update every card that connects, whoever it belongs to")
	f.Uint16Var(&s.cardsOfAddress, "cards-per-address", ram.SourceMax, "let `N` cards from one address be connected at a time")
	f.BoolVar(&s.allowDevHSM, "allow-dev-hsm", false, "let the vendor's devices for developers, below its test root, log in; they are not updated")
	f.StringSliceVar(&s.names, "name", nil, "further host `NAME` of this machine, the first of which is printed; may be repeated")
	f.BoolVar(&s.tls, "tls", false, "serve HTTPS, by default with a certificate that the portal makes itself")
	f.StringVar(&s.hsm, "hsm-listen", "", "let programs sign with connected cards at `HOST:PORT`, by HTTPS")
	f.StringVar(&s.clients, "hsm-clients", "", "PEM `FILE` with the authorities of the programs (default: the portal's developer network)")
	f.StringVar(&s.certificate, "tls-cert", "", "serve HTTPS with the certificates in this PEM `FILE`")
	f.StringVar(&s.key, "tls-key", "", "PEM `FILE` with the key of --tls-cert")
	f.StringVar(&s.mail, "mail", "", "send mail by the server at `HOST:PORT`, with STARTTLS")
	f.StringVar(&s.from, "mail-from", "", "`ADDRESS` that mail comes from")
	f.StringVar(&s.user, "mail-user", "", "`NAME` to log in to the mail server with")
	f.StringVar(&s.secret, "mail-password-file", "", "file with the password of --mail-user (default $HSMEMU_MAIL_PASSWORD)")
	s.sealed.flags(cmd)
	return cmd
}

// sender is the mail server of the flags, nil if there is none.
func (a *app) sender(s serving) (accounts.Sender, error) {
	if s.mail == "" {
		return nil, nil //nolint:nilnil // no mail server is no failure
	}
	from, err := accounts.ParseAddress(s.from)
	if err != nil {
		return nil, commandline.Usage(fmt.Errorf("--mail-from: %w", err))
	}
	m := accounts.SMTP{Address: s.mail, From: from, User: s.user}
	if s.user != "" {
		password, err := a.secret("password of the mail server", s.secret, "HSMEMU_MAIL_PASSWORD")
		if err != nil {
			return nil, err
		}
		m.Password = accounts.Secret(password)
	}
	return m, nil
}

// servePortal serves until the context ends.
func (a *app) servePortal(ctx context.Context, s serving) (err error) {
	if (s.certificate == "") != (s.key == "") {
		return commandline.Usage(errors.New("--tls-cert and --tls-key go together"))
	}
	if s.hsm != "" && !s.encrypted() {
		return commandline.Usage(errors.New("--hsm-listen needs --tls or --tls-cert"))
	}
	if s.clients != "" && s.hsm == "" {
		return commandline.Usage(errors.New("--hsm-clients goes with --hsm-listen"))
	}
	if s.cardsOfAddress == 0 {
		return commandline.Usage(errors.New("--cards-per-address is 1 at least"))
	}
	var clients *x509.CertPool // the portal's own
	if s.clients != "" {
		read, err := cloudhsm.ReadAuthorities(s.clients)
		if err != nil {
			return err
		}
		clients = read
	}
	mail, err := a.sender(s)
	if err != nil {
		return err
	}
	if s.data == "" {
		d, err := a.cards()
		if err != nil {
			return err
		}
		s.data = filepath.Join(d.Path(), "portal")
	}
	sealers, err := a.newSealers(s.sealed)
	if err != nil {
		return err
	}
	kept := records.Options{Now: time.Now, Key: sealers}
	if s.resealed {
		kept.Seal = s.sealed.kind
	}
	l, err := web.Listen(ctx, s.listen, web.Anybody) // --listen has told so
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }() // whoever served has closed it
	var programs net.Listener
	if s.hsm != "" {
		if programs, err = web.Listen(ctx, s.hsm, web.Anybody); err != nil { // --hsm-listen has told so
			return err
		}
		defer func() { _ = programs.Close() }()
	}
	at := s.url(l)
	var printing sync.Mutex
	say := func(format string, values ...any) {
		printing.Lock()
		defer printing.Unlock()
		fmt.Fprintf(a.out, format+"\n", values...)
	}
	host, _, _ := net.SplitHostPort(s.listen) // Listen has read it
	if here, ok := l.Addr().(*net.TCPAddr); mail == nil && !(ok && here.IP.IsLoopback()) {
		mail = printedMail(say)
	}
	var development cvc.Roots
	if s.allowDevHSM {
		development = site.DevelopmentRoots()
	}
	p, err := site.Open(ctx, s.data, site.Options{
		Development: development,
		Records:     kept, Mail: mail, TLS: s.encrypted(), Names: append([]string{host}, s.names...), URL: at,
		CardsOfAddress: int(s.cardsOfAddress), UpdateAny: s.updateAny, Updated: func(d portal.Done) {
			say("chip %s: %s", d.Chip, became(d))
		},
		Ended: func(_ string, err error) {
			if err != nil {
				say("a card's connection ended: %s", oneLine(err.Error()))
			}
		},
		Failed: func(err error) { say("the portal failed: %s", oneLine(err.Error())) },
	})
	if err != nil {
		return err
	}
	a.forget()
	defer func() { err = errors.Join(err, p.Close()) }()
	own, err := s.config(ctx, p)
	if err != nil {
		return err
	}
	say("%s%spaas\n%s/se/paas", at, ram.Prefix, at)
	if s.tls && s.certificate == "" {
		_, root, err := p.Service.DevNetAuthority(ctx)
		if err != nil {
			return err
		}
		say("root %s%s SHA-256 %X", at, site.PathRoot, sha256.Sum256(root.Certificate.Raw))
	}
	if programs != nil {
		say("hsm %s%s", s.url(programs), cloudhsm.Prefix)
	}
	say("ready")
	return p.ServeBoth(ctx, l, programs, own, clients)
}

// became says what a chip was, and what it is.
func became(d portal.Done) string {
	was := "blank"
	if d.Old.Name != "" {
		was = fmt.Sprintf("firmware %s of %s", d.Old.Firmware, d.Old.Path)
	}
	return fmt.Sprintf("%s became %s of %s", was, d.New.Firmware, d.New.Path)
}

// printedMail prints mail, for a portal that other machines reach without a mail server:
// on a page, everybody there could read everybody's activation codes. The vendor's
// portal writes them to its log then.
type printedMail func(format string, values ...any)

// Send implements accounts.Sender.
func (say printedMail) Send(_ context.Context, m accounts.Mail) error {
	say("mail to %s: %s: %s", m.To, oneLine(m.Subject), oneLine(m.Body))
	return nil
}

// config is how the portal encrypts; nil for not at all.
func (s serving) config(ctx context.Context, p *site.Portal) (*tls.Config, error) {
	if s.certificate != "" {
		pair, err := tls.LoadX509KeyPair(s.certificate, s.key)
		if err != nil {
			return nil, fmt.Errorf("use the certificate: %w", err)
		}
		return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, nil
	}
	if !s.tls {
		return nil, nil //nolint:nilnil // not encrypted is no failure
	}
	c, err := p.TLS(ctx, site.Hosts(s.listen, s.names))
	if err != nil {
		return nil, fmt.Errorf("make a certificate for the server: %w", err)
	}
	return c, nil
}

// url is how a listener is reached from outside.
func (s serving) url(l net.Listener) string {
	host, port, _ := net.SplitHostPort(l.Addr().String()) // it is one of TCP
	if len(s.names) > 0 {
		host = s.names[0]
	}
	scheme := "http"
	if s.encrypted() {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}
