package site

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"hsmemu/applet/cvc"
	"hsmemu/emulator/portal"
	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/cloudhsm"
	"hsmemu/emulator/portal/records"
	"hsmemu/emulator/portal/service"
	"hsmemu/emulator/portal/soap"
	"hsmemu/emulator/ram"
	"hsmemu/emulator/web"
)

// Options say what a portal is like. A clock is needed.
type Options struct {
	Records records.Options
	Account account.Options
	Reach
	// Mail sends mail. Without it, mail is read on a page of the portal, or where other
	// machines reach that page, on which everybody would read everybody's activation codes,
	// Printed is told of it, as the log of the vendor's portal is.
	Mail    account.Sender
	Printed func(account.Mail)
	// UpdateAny tells that every card that connects without a session is updated, if the
	// rules allow it, whoever it belongs to.
	UpdateAny bool
	// CardsOfAddress is how many cards are connected from one address at a time; 0 for
	// ram.SourceMax.
	CardsOfAddress int
	// Development are further roots: devices below them log in, are registered and are
	// HSMs. They are not updated, produced or certified, as only the emulator's are.
	// [DevelopmentRoots] are the vendor's.
	Development cvc.Roots
	// Updated is told of every update that has come to its end, Ended how a connection of
	// a card ended, and Failed of what fails without one: records, mail and the
	// certificate service; nil for nobody.
	Updated func(portal.Done)
	Ended   func(service string, err error)
	Failed  func(error)
	// Log hears when connections are turned away; nil keeps silent.
	Log *slog.Logger
}

// Reach is how a portal is reached.
type Reach struct {
	// URL is how it is reached from outside, such as "http://localhost:8080", for addresses
	// in certificates.
	URL string
	// TLS tells that browsers come by HTTPS, and Names are further names of this machine
	// under which they do.
	TLS   bool
	Names []string
	// Exposed tells that other machines reach it.
	Exposed bool
}

// CardsMax is how many cards are connected to a portal at a time. Each takes some 20
// KiB of memory while it waits, and an open file while its client does.
const CardsMax = 16384

// Portal is a whole portal: records in a folder, pages, the end-point for cards, the
// certificate service of the developer network, and the connected HSMs.
type Portal struct {
	Records  *records.Store
	Accounts *account.Accounts
	Service  *service.Service
	cards    *ram.Server
	hsms     *cloudhsm.Service
	pages    *site
	handler  http.Handler
	mail     account.Sender
	ended    func(service string, err error)
	failed   func(error)
	log      *slog.Logger
	// named tells that the owner of the portal named who certifies programs.
	named atomic.Bool
}

// Open opens the portal of a folder, or begins a new one. Errors: those of
// records.Open.
func Open(ctx context.Context, folder string, o Options) (*Portal, error) {
	kept, err := records.Open(folder, o.Records)
	if err != nil {
		return nil, err
	}
	roots := append(cvc.EmulatorRoots(), o.Development...)
	if o.Account.Roots == nil {
		o.Account.Roots = roots
	}
	mailPrinted := o.Mail == nil && o.Exposed && o.Printed != nil
	if mailPrinted {
		o.Mail = printed(o.Printed)
	}
	p := &Portal{Records: kept, Accounts: account.New(kept, o.Account), mail: o.Mail, ended: o.Ended, failed: o.Failed, log: o.Log}
	if p.ended == nil {
		p.ended = func(string, error) {}
	}
	if p.failed == nil {
		p.failed = func(error) {}
	}
	list := func(authority int64) string { return fmt.Sprintf("%s/se/crl/%d", o.URL, authority) }
	p.Service, err = service.Open(ctx, service.Config{
		Records: kept, Sessions: service.Accounts(p.Accounts), UpdateAny: o.UpdateAny, Updated: o.Updated, ListURL: list,
	})
	if err == nil {
		p.hsms, err = cloudhsm.New(cloudhsm.Config{Roots: roots, Admit: p.admit, Offered: p.offered, Rand: kept.Rand()})
	}
	var caws http.Handler
	if err == nil {
		caws, err = p.certify(ctx, list)
	}
	if err != nil {
		return nil, errors.Join(err, kept.Close())
	}
	p.cards = &ram.Server{
		Services: map[string]ram.Service{"paas": p.serveCard, "hsm": p.hsms.Serve}, Known: p.Accounts.Known,
		Ended: func(service string, _ *ram.Session, err error) { p.ended(service, err) },
		Limit: CardsMax, LimitOfSource: o.CardsOfAddress, Source: source, HungUp: web.HungUp,
	}
	p.pages = newSite(config{
		Accounts: p.Accounts, Service: p.Service, Records: kept, HSMs: p.hsms, LocalOutbox: o.Mail == nil, MailPrinted: mailPrinted, TLS: o.TLS, Names: o.Names,
	})
	mux := http.NewServeMux()
	mux.Handle(ram.Prefix, p.cards)
	mux.Handle(soap.Path, caws)
	mux.Handle("/", p.pages.handler())
	p.handler = mux
	return p, nil
}

// DevelopmentRoots is the vendor's root for tests, below which are its devices for
// developers: what its portal accepts with allowDevHSM.
func DevelopmentRoots() cvc.Roots {
	return slices.DeleteFunc(cvc.VendorRoots(), func(c cvc.Certificate) bool { return c.CHR != "UTSRCACC100001" })
}

// Handler serves the portal.
func (p *Portal) Handler() http.Handler { return p.handler }

// Look removes what has outlived its use, sends the mail that is due and renews
// revocation lists that end soon. Serve calls it every few seconds.
func (p *Portal) Look(ctx context.Context) error {
	var failed []error
	_, err := p.Accounts.Sweep(ctx) // first: a code that is too old is not mailed
	if p.mail != nil {
		_, err := p.Accounts.Deliver(ctx, p.mail)
		failed = append(failed, err)
	}
	_, ending := p.Service.RenewLists(ctx)
	return errors.Join(append(failed, err, ending)...)
}

// Close ends all connections of cards, and then the portal. An update that is under
// way is gone on with when its card connects to the portal that is opened next.
func (p *Portal) Close() error { return errors.Join(p.cards.Close(), p.Records.Close()) }

// lookEvery is how often Serve calls Look.
const lookEvery = 5 * time.Second

// Serve serves the portal at a listener, which it owns, until the context ends.
func (p *Portal) Serve(ctx context.Context, l net.Listener) error {
	ctx, end := context.WithCancel(ctx)
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		again := time.NewTicker(lookEvery)
		defer again.Stop()
		for {
			select {
			case <-again.C:
				if err := p.Look(ctx); err != nil && ctx.Err() == nil {
					p.failed(err)
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	err := web.Server{Handler: p.handler, Log: p.log}.Serve(ctx, l)
	end()
	<-looked
	return err
}
