package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"hsmemu/applet/cvc"
	"hsmemu/cmd/hsmemu/commandline"
	"hsmemu/emulator/portal"
	accounts "hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/records"
	"hsmemu/emulator/portal/site"
	"hsmemu/emulator/ram"
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
	site.Address
	data                     string
	updateAny, allowDevHSM   bool
	cardsOfAddress           uint16
	mail, from, user, secret string
	sealed                   sealing
	resealed                 bool // whether --seal was given
}

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
			s.TLS = s.TLS || s.Certificate != ""
			return a.servePortal(cmd.Context(), s)
		},
	}
	f := cmd.Flags()
	f.StringVar(&s.Listen, "listen", "127.0.0.1:8080", "wait for browsers and cards at `HOST:PORT`")
	f.StringVar(&s.data, "data", "", "`FOLDER` of the portal's records (default portal in the folder of the cards)")
	f.BoolVar(&s.updateAny, "update-any", false, "update every card that connects, whoever it belongs to")
	f.Uint16Var(&s.cardsOfAddress, "cards-per-address", ram.SourceMax, "let `N` cards from one address be connected at a time")
	f.BoolVar(&s.allowDevHSM, "allow-dev-hsm", false, "let the vendor's devices for developers, below its test root, log in; they are not updated")
	f.StringSliceVar(&s.Names, "name", nil, "further host `NAME` of this machine, the first of which is printed; may be repeated")
	f.BoolVar(&s.TLS, "tls", false, "serve HTTPS, by default with a certificate that the portal makes itself")
	f.StringVar(&s.HSM, "hsm-listen", "", "let programs sign with connected cards at `HOST:PORT`, by HTTPS")
	f.StringVar(&s.Clients, "hsm-clients", "", "PEM `FILE` with the authorities of the programs (default: the portal's developer network)")
	f.StringVar(&s.Certificate, "tls-cert", "", "serve HTTPS with the certificates in this PEM `FILE`")
	f.StringVar(&s.Key, "tls-key", "", "PEM `FILE` with the key of --tls-cert")
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
	switch {
	case (s.Certificate == "") != (s.Key == ""):
		return commandline.Usage(errors.New("--tls-cert and --tls-key go together"))
	case s.HSM != "" && !s.TLS:
		return commandline.Usage(errors.New("--hsm-listen needs --tls or --tls-cert"))
	case s.Clients != "" && s.HSM == "":
		return commandline.Usage(errors.New("--hsm-clients goes with --hsm-listen"))
	case s.cardsOfAddress == 0:
		return commandline.Usage(errors.New("--cards-per-address is 1 at least"))
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
	var development cvc.Roots
	if s.allowDevHSM {
		development = site.DevelopmentRoots()
	}
	l, err := site.Listen(ctx, s.Address)
	if err != nil {
		return err
	}
	defer l.Close()
	var printing sync.Mutex
	say := func(format string, values ...any) {
		printing.Lock()
		defer printing.Unlock()
		fmt.Fprintf(a.out, format+"\n", values...)
	}
	p, err := site.Open(ctx, s.data, site.Options{
		Development: development, Records: kept, Mail: mail, Reach: l.Reach(), CardsOfAddress: int(s.cardsOfAddress), UpdateAny: s.updateAny,
		Printed: func(m accounts.Mail) { say("mail to %s: %s: %s", m.To, oneLine(m.Subject), oneLine(m.Body)) },
		Updated: func(d portal.Done) { say("%s", d) },
		Ended: func(_ string, err error) {
			if err != nil {
				say("a card's connection ended: %s", oneLine(err.Error()))
			}
		},
		Log:    slog.New(voice{out: a.err}),
		Failed: func(err error) { say("the portal failed: %s", oneLine(err.Error())) },
	})
	if err != nil {
		return err
	}
	a.forget()
	defer func() { err = errors.Join(err, p.Close()) }()
	served, err := p.At(ctx, l)
	if err != nil {
		return err
	}
	say("%s\n%s", served.Cards, served.Pages)
	if served.Root != "" {
		say("root %s SHA-256 %X", served.Root, served.Sum)
	}
	if served.Programs != "" {
		say("hsm %s", served.Programs)
	}
	if l.Elsewhere() {
		a.elsewhere("an address of this one takes its place, or a name that --name tells, which certificates need")
	}
	say("ready")
	if err := a.unwritten(); err != nil {
		return err
	}
	return served.Serve(ctx)
}
