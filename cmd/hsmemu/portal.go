package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"hsmemu/cmd/hsmemu/commandline"
	"hsmemu/emulator/portal"
	accounts "hsmemu/emulator/portal/account"
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
	updateAny                bool
	certificate, key         string
	mail, from, user, secret string
	sealed                   sealing
}

func newPortalServeCommand(a *app) *cobra.Command {
	var s serving
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "serve the portal's pages, and the cards that connect",
		Long: "Prints two addresses: that at which cards connect by RAM over HTTP, and that of the pages for browsers. People log in\n" +
			"with a card, register it, and ask for a firmware update or for certificates; the first one is the administrator. A card\n" +
			"is updated by the rules of the vendor's portal: without keys if there is a newer firmware, or with a blocked SO-PIN, five\n" +
			"times at most. It becomes a new device, as shipped. With --update-any every card that connects is updated,\n" +
			"without a log-in. Mail is read on a page of the portal, by everybody who reaches it, unless --mail names a server.\n" +
			"The portal's records and the keys of its issuers are in the data folder.",
		Args: commandline.Exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.servePortal(cmd.Context(), s) },
	}
	f := cmd.Flags()
	f.StringVar(&s.listen, "listen", "127.0.0.1:8080", "wait for browsers and cards at `HOST:PORT`")
	f.StringVar(&s.data, "data", "", "`FOLDER` of the portal's records (default portal in the folder of the cards)")
	f.BoolVar(&s.updateAny, "update-any", false, "update every card that connects, whoever it belongs to")
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
	l, err := web.Listen(ctx, s.listen, web.Anybody) // --listen has told so
	if err != nil {
		return err
	}
	at := "http://" + l.Addr().String()
	if s.certificate != "" {
		pair, err := tls.LoadX509KeyPair(s.certificate, s.key)
		if err != nil {
			return errors.Join(fmt.Errorf("use the certificate: %w", err), l.Close())
		}
		l, at = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}), "https://"+l.Addr().String()
	}
	var printing sync.Mutex
	say := func(format string, values ...any) {
		printing.Lock()
		defer printing.Unlock()
		fmt.Fprintf(a.out, format+"\n", values...)
	}
	host, _, _ := net.SplitHostPort(s.listen) // Listen has read it
	p, err := site.Open(ctx, s.data, site.Options{
		Records: records.Options{Now: time.Now, Key: sealers}, Mail: mail, TLS: s.certificate != "", Names: []string{host}, URL: at,
		UpdateAny: s.updateAny, Updated: func(d portal.Done) {
			say("chip %s: firmware %s of %s became %s of %s", d.Chip, d.Old.Firmware, d.Old.Path, d.New.Firmware, d.New.Path)
		},
		Ended: func(_ string, err error) {
			if err != nil {
				say("a card's connection ended: %s", oneLine(err.Error()))
			}
		},
	})
	if err != nil {
		return errors.Join(err, l.Close())
	}
	a.forget()
	defer func() { err = errors.Join(err, p.Close()) }()
	say("%s%spaas\n%s/se/paas\nready", at, ram.Prefix, at)
	return p.Serve(ctx, l)
}
