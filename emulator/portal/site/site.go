// Package site puts a whole portal together, and makes its web pages: log-in by a card,
// accounts and their cards, service requests with their logs and the progress of an
// update, trust centers, and what administrators do. Pages are HTML made here, with one
// small script that the pages also work without. Programs have the same as JSON.
//
//	p, err := site.Open(ctx, folder, site.Options{Records: records.Options{Now: time.Now}})
//	defer p.Close()
//	err = p.Serve(ctx, listener)
//
// It decides nothing: what may be done, and by whom, is for packages account and
// service to say. GET changes nothing.
package site

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/cloudhsm"
	"hsmemu/emulator/portal/records"
	"hsmemu/emulator/portal/service"
	"hsmemu/emulator/ram"
	"hsmemu/emulator/web"
)

//go:embed page
var files embed.FS

// pages are parsed when the first is asked for: most commands of the program never serve one.
var pages = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("").Funcs(template.FuncMap{
		"time": func(t time.Time) string {
			if t.IsZero() {
				return ""
			}
			return t.UTC().Format("2006-01-02 15:04:05 UTC")
		},
	}).ParseFS(files, "page/*.html"))
})

// config is what a site is made of.
type config struct {
	Accounts *account.Accounts
	Service  *service.Service
	Records  *records.Store
	// HSMs are the cards that are connected for programs.
	HSMs interface {
		Connections() []cloudhsm.Connection
		Logout(ctx context.Context, id string) error
	}
	// LocalOutbox tells that there is no mail server, so that activation codes are
	// read on a page, by whoever reaches it.
	LocalOutbox bool
	// MailPrinted tells that there is none either, and that whoever started the portal
	// is told of mail.
	MailPrinted bool
	// TLS tells that browsers come by HTTPS, so that cookies are for that alone.
	TLS bool
	// Names are those of this machine, besides localhost, under which browsers ask.
	Names []string
}

// site is the pages of a portal.
type site struct {
	config
	pages web.Pages
	// paths are those of the pages that GET reads.
	paths   []string
	streams streams
}

// read registers a page that changes nothing.
func (s *site) read(path string, h http.HandlerFunc) {
	s.paths = append(s.paths, path)
	s.pages.Read(path, h)
}

// newSite makes the pages.
func newSite(c config) *site {
	s := &site{config: c}
	s.routes()
	s.api()
	return s
}

// handler serves the pages, under the rules of package web.
func (s *site) handler() http.Handler { return web.Guard{Names: s.Names}.Around(&s.pages) }

// routes registers every page.
func (s *site) routes() {
	read, change := s.read, s.pages.Change
	read("/{$}", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, pathHome, http.StatusSeeOther) })
	read("/se/style.css", web.Style)
	for name, kind := range map[string]string{"portal.css": "text/css", "portal.js": "text/javascript", "portal.svg": "image/svg+xml"} {
		read("/se/"+name, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind+"; charset=utf-8")
			content, _ := files.ReadFile("page/" + name) // it is embedded
			_, _ = w.Write(content)
		})
	}
	read(pathHome, s.entrance)
	read("/se/state", s.state)
	change("/se/begin", s.begin)
	change("/se/continue", s.proceed)
	change("/se/logout", s.logout)
	change("/se/enrol", s.enrol)
	change("/se/activate", s.activate)
	read("/se/preferences", s.in(s.preferences))
	change("/se/preferences", s.in(s.setPreferences))
	read("/se/outbox", s.outbox)

	read("/se/tokens", s.in(s.tokens))
	change("/se/tokens/{id}/remove", s.in(s.removeToken))
	read("/se/requests", s.in(s.requests))
	change("/se/requests", s.in(s.start))
	read("/se/requests/{id}", s.in(s.request))
	change("/se/requests/{id}", s.in(s.do))
	read("/se/requests/{id}/events", s.as(s.look, s.events))
	read("/se/requests/{id}/certificate.pem", s.in(s.certificate))
	read("/se/subjects", s.in(s.subjects))
	read("/se/enroll", s.in(s.choose("Enroll person", account.EnrolPerson, "enroll")))
	read("/se/roles", s.in(s.choose("Manage role", account.GrantRole, "roles")))
	read("/se/subjects/{id}", s.in(s.subject))
	read("/se/subjects/{id}/tokens", s.in(s.centerTokens))
	change("/se/subjects/{id}/tokens/{what}", s.in(s.changeTokens))
	change("/se/subjects/{id}/{what}", s.in(s.changeSubject))
	read("/se/authorities/{file}", s.in(s.authority))
	read("/se/crl/{id}", s.crl)
	read(pathRoot, s.root)
	read("/se/hsms", s.in(s.hsmsPage))

	read("/se/issuers", s.in(s.issuers))
	change("/se/issuers", s.in(s.addIssuer))
	change("/se/issuers/{name}", s.in(s.setIssuer))
	read("/se/audit", s.in(s.audit))
	read("/se/notice", s.in(s.notice))
	change("/se/notice", s.in(s.sendNotice))
}

// pathHome is the vendor's entrance.
const pathHome = "/se/paas"

// view is what every page has.
type view struct {
	Title, Path string
	Person      account.Session
	Menu        []menu
	Error       string
}

// choice is one of several, or a line of a table of two columns.
type choice struct{ Value, Text, Path string }

func (s *site) view(r *http.Request, p account.Session, title string) view {
	return view{Title: title, Path: r.URL.Path, Person: p, Menu: menusOf(p.Account)}
}

// show writes a page.
func show(w http.ResponseWriter, status int, name string, data any) {
	var text strings.Builder
	if err := pages().ExecuteTemplate(&text, name, data); err != nil {
		http.Error(w, "The page cannot be shown.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text.String()))
}

// cookie is the name of the session's cookie. Browsers take a name that begins with
// __Host- by HTTPS alone and for this server alone.
func (s *site) cookie() string {
	if s.TLS {
		return "__Host-session"
	}
	return "hsmemu-session"
}

func (s *site) setCookie(w http.ResponseWriter, value string, age int) {
	http.SetCookie(w, &http.Cookie{
		Name: s.cookie(), Value: value, Path: "/", MaxAge: age, HttpOnly: true, Secure: s.TLS, SameSite: http.SameSiteStrictMode,
	})
}

// session is that of a request, which uses it: its cookie, empty if there is none, and
// what it has come to.
func (s *site) session(r *http.Request) (string, account.Session, error) {
	return s.find(r, s.Accounts.Session)
}

// look is the same for a request that does not use it.
func (s *site) look(r *http.Request) (string, account.Session, error) {
	return s.find(r, s.Accounts.Look)
}

func (s *site) find(r *http.Request, by func(context.Context, string) (account.Session, error)) (string, account.Session, error) {
	c, err := r.Cookie(s.cookie())
	if err != nil {
		return "", account.Session{State: account.Anonymous}, account.ErrNoSession
	}
	p, err := by(r.Context(), c.Value)
	if err == nil && p.Program {
		// Whoever began it knows it, and has planted it in this browser.
		return "", account.Session{State: account.Anonymous}, account.ErrNoSession
	}
	return c.Value, p, err
}

// in has a page served to people who are logged in, and sends others to the entrance.
// An error that it returns becomes a page.
func (s *site) in(f func(http.ResponseWriter, *http.Request, account.Session) error) http.HandlerFunc {
	return s.as(s.session, f)
}

// as is in, with the session found in some way.
func (s *site) as(find func(*http.Request) (string, account.Session, error), f func(http.ResponseWriter, *http.Request, account.Session) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, p, err := find(r)
		switch {
		case errors.Is(err, account.ErrNoSession), err == nil && !p.Renewed:
			http.Redirect(w, r, pathHome, http.StatusSeeOther)
			return
		case err == nil:
			// A form that cannot be read is not an empty one.
			if err = r.ParseForm(); err != nil {
				err = fmt.Errorf("%w: %w", errForm, err)
			} else {
				err = f(w, r, p)
			}
		}
		if err != nil {
			s.fail(w, r, p, err)
		}
	}
}

// fail shows an error.
func (s *site) fail(w http.ResponseWriter, r *http.Request, p account.Session, err error) {
	status := Status(err)
	s.askLater(w, err)
	v := s.view(r, p, "That did not work")
	v.Error = sentence(err, status)
	show(w, status, "error", v)
}

// askLater tells browsers and programs when to try again what was tried too often (RFC
// 9110 §10.2.3).
func (s *site) askLater(w http.ResponseWriter, err error) {
	var often *account.RateError
	if errors.As(err, &often) {
		wait := max(1, int(often.After.Sub(s.Records.Now()).Seconds()+0.5))
		w.Header().Set("Retry-After", strconv.Itoa(wait))
	}
}

// sentence is what people read of an error. What is wrong with the portal itself
// tells them nothing.
func sentence(err error, status int) string {
	if status == http.StatusInternalServerError {
		return "The portal could not do that."
	}
	text := err.Error()
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

// statuses are the codes of HTTP for errors. An error that wraps another one of them
// has the first code: a wrong form is one, whatever is wrong with it.
var statuses = []struct {
	status int
	errors []error
}{
	{http.StatusUnprocessableEntity, []error{
		service.ErrData, account.ErrCode, account.ErrNoCode, account.ErrRole, account.ErrName, account.ErrAddress, account.ErrHeader, errForm,
	}},
	{http.StatusUnauthorized, []error{account.ErrNoSession, account.ErrNotLoggedIn}},
	{http.StatusForbidden, []error{account.ErrForbidden, account.ErrEnrolment, account.ErrOtherKey, account.ErrSuperseded}},
	{http.StatusConflict, []error{
		service.ErrNotAllowed, service.ErrBusy, service.ErrOtherCard, service.ErrTooMany, account.ErrOccupied, account.ErrNotRegistering,
		account.ErrLastToken, account.ErrLastRole, account.ErrTaken, cloudhsm.ErrUnknown, cloudhsm.ErrGone, cloudhsm.ErrOtherDevice,
	}},
	{http.StatusNotFound, []error{service.ErrUnknown, account.ErrNoAccount, account.ErrNoToken, account.ErrNoSubject}},
}

// Status is the code of HTTP for an error of packages account and service.
func Status(err error) int {
	switch {
	case errors.As(err, new(*account.RateError)):
		return http.StatusTooManyRequests
	case errors.As(err, new(*http.MaxBytesError)):
		return http.StatusRequestEntityTooLarge
	case errors.As(err, new(*account.PINError)):
		return http.StatusForbidden
	}
	for _, of := range statuses {
		if slices.ContainsFunc(of.errors, func(e error) bool { return errors.Is(err, e) }) {
			return of.status
		}
	}
	return http.StatusInternalServerError
}

// errForm says that a form of a page is not as the page makes it.
var errForm = errors.New("the form is not as it should be")

// source is what tells one client from others: its address without the port, and of
// version 6 the network, in which a client may choose its address.
func source(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	if at, err := netip.ParseAddr(host); err == nil && at.Is6() && !at.Is4In6() {
		const network = 64 // bits, the least that is given to a subscriber (RFC 6177)
		if p, err := at.WithZone("").Prefix(network); err == nil {
			return p.String()
		}
	}
	return host
}

// ramURL is where a card connects to the session of a cookie.
func (s *site) ramURL(r *http.Request, cookie string) string {
	at := s.base(r) + ram.Prefix + "paas"
	if cookie != "" {
		at += "/" + account.RAMID(cookie)
	}
	return at
}

// base is how the browser calls this server.
func (s *site) base(r *http.Request) string {
	if s.TLS {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// entrance is the page that a session needs next.
func (s *site) entrance(w http.ResponseWriter, r *http.Request) {
	_, p, err := s.session(r)
	if err != nil && !errors.Is(err, account.ErrNoSession) {
		s.fail(w, r, p, err)
		return
	}
	switch {
	case err != nil:
		show(w, http.StatusOK, "welcome", s.view(r, p, "Welcome"))
	case p.State == account.Anonymous:
		s.connect(w, r, p, "") // somebody else may have begun it, and planted it in this browser
	case p.State == account.DeviceAuthenticated:
		s.register(w, r, p, http.StatusOK, "")
	case !p.Renewed:
		v := s.view(r, p, "Your card has connected")
		v.Menu, v.Person.Account.ID = nil, 0
		show(w, http.StatusOK, "arrived", v)
	default:
		if err := s.home(w, r, p); err != nil {
			s.fail(w, r, p, err)
		}
	}
}

// connect is the page that waits for a card, with the address for it if there is one.
func (s *site) connect(w http.ResponseWriter, r *http.Request, p account.Session, at string) {
	show(w, http.StatusOK, "connect", struct {
		view
		RAM string
	}{s.view(r, p, "Log in with a card"), at})
}

// register is the page on which an unknown card is registered.
func (s *site) register(w http.ResponseWriter, r *http.Request, p account.Session, status int, problem string) {
	v := s.view(r, p, "Register your card")
	v.Error = problem
	show(w, status, "enrol", struct {
		view
		Email           string
		Outbox, Printed bool
	}{v, r.PostFormValue("email"), s.LocalOutbox, s.MailPrinted})
}

// state tells the script how far the session is.
func (s *site) state(w http.ResponseWriter, r *http.Request) {
	cookie, p, err := s.session(r)
	if err != nil {
		http.Error(w, "no session", http.StatusUnauthorized)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	waits, err := s.Accounts.Awaited(r.Context(), cookie)
	if err != nil {
		http.Error(w, "no session", http.StatusUnauthorized)
		return
	}
	fmt.Fprintf(w, "{\"state\":%q,\"awaits\":%q}\n", string(p.State), string(waits.Purpose))
}

// begin begins a session. Its answer is the only page that tells the address for a card
// which is to log in: whoever plants a session that he knows in somebody's browser would
// have that person's card log in there, and be logged in, too.
func (s *site) begin(w http.ResponseWriter, r *http.Request) {
	cookie, p, err := s.Accounts.Begin(r.Context(), source(r))
	if err != nil {
		s.fail(w, r, account.Session{}, err)
		return
	}
	s.setCookie(w, cookie, 0)
	s.connect(w, r, p, s.ramURL(r, cookie))
}

// proceed gives the session a new cookie after the log-in.
func (s *site) proceed(w http.ResponseWriter, r *http.Request) {
	cookie, p, err := s.session(r)
	if err == nil {
		cookie, _, err = s.Accounts.Renew(r.Context(), cookie)
	}
	if err != nil {
		s.fail(w, r, p, err)
		return
	}
	s.setCookie(w, cookie, 0)
	http.Redirect(w, r, pathHome, http.StatusSeeOther)
}

func (s *site) logout(w http.ResponseWriter, r *http.Request) {
	cookie, p, err := s.session(r)
	if err == nil {
		err = s.Accounts.Logout(context.WithoutCancel(r.Context()), cookie)
	}
	if err != nil && !errors.Is(err, account.ErrNoSession) {
		s.fail(w, r, p, err)
		return
	}
	s.setCookie(w, "", -1)
	http.Redirect(w, r, pathHome, http.StatusSeeOther)
}

func (s *site) enrol(w http.ResponseWriter, r *http.Request) {
	cookie, p, err := s.session(r)
	if err == nil {
		err = s.Accounts.Enrol(r.Context(), cookie, r.PostFormValue("email"), source(r))
	}
	s.registered(w, r, p, err, pathHome)
}

func (s *site) activate(w http.ResponseWriter, r *http.Request) {
	cookie, p, err := s.session(r)
	if err == nil {
		if _, err = s.Accounts.Activate(r.Context(), cookie, r.PostFormValue("code")); err == nil {
			if cookie, _, err = s.Accounts.Renew(r.Context(), cookie); err == nil {
				s.setCookie(w, cookie, 0)
			}
		}
	}
	s.registered(w, r, p, err, "/se/preferences")
}

// registered goes on after a step of a registration, or shows its page again.
func (s *site) registered(w http.ResponseWriter, r *http.Request, p account.Session, err error, next string) {
	switch status := Status(err); {
	case err == nil:
		http.Redirect(w, r, next, http.StatusSeeOther)
	case p.State == account.DeviceAuthenticated && status != http.StatusInternalServerError:
		s.register(w, r, p, status, sentence(err, status))
	default:
		s.fail(w, r, p, err)
	}
}
