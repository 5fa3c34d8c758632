package site

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/service"
)

// api registers the interface for programs. A program names its session by the header
// Authorization: Bearer, or in the path; it has no cookie, so no other site's page can
// act for it. Its description is served at openapi.json.
func (s *site) api() {
	read, change := s.read, s.pages.Change
	read("/api/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		content, _ := files.ReadFile("page/openapi.json") // it is embedded
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(content)
	})
	change("/api/sessions", s.reply(func(r *http.Request) (int, any, error) {
		cookie, _, err := s.Accounts.BeginProgram(r.Context(), source(r))
		if err != nil {
			return 0, nil, err
		}
		return http.StatusCreated, map[string]string{"sessionId": cookie, "ramUrl": s.ramURL(r, cookie)}, nil
	}))
	read("/api/sessions/{session}", s.reply(s.by(func(_ *http.Request, _ string, p account.Session) (int, any, error) {
		return http.StatusOK, sessionOf(p), nil
	})))
	change("/api/sessions/{session}/enroll", s.reply(s.by(func(r *http.Request, id string, _ account.Session) (int, any, error) {
		var in struct {
			Email string `json:"email"`
		}
		if err := decode(r, &in); err != nil {
			return 0, nil, err
		}
		return s.after(r, id, s.Accounts.Enrol(r.Context(), id, in.Email, source(r)))
	})))
	change("/api/sessions/{session}/activate", s.reply(s.by(func(r *http.Request, id string, _ account.Session) (int, any, error) {
		var in struct {
			Code string `json:"code"`
		}
		if err := decode(r, &in); err != nil {
			return 0, nil, err
		}
		_, err := s.Accounts.Activate(r.Context(), id, in.Code)
		return s.after(r, id, err)
	})))
	change("/api/sessions/{session}/logout", s.reply(s.by(func(r *http.Request, id string, _ account.Session) (int, any, error) {
		return http.StatusNoContent, nil, s.Accounts.Logout(r.Context(), id)
	})))
	read("/api/tokens", s.reply(s.by(func(r *http.Request, _ string, p account.Session) (int, any, error) {
		if p.State != account.LoggedIn {
			return 0, nil, account.ErrNotLoggedIn
		}
		list, err := s.Accounts.Tokens(r.Context(), p.Account.ID)
		out := []tokenJSON{}
		for _, t := range list {
			out = append(out, tokenJSON{t.ID, t.Path, t.Firmware, string(t.Status), t.Registered.UTC()})
		}
		return http.StatusOK, out, err
	})))
	read("/api/servicerequests", s.reply(s.by(func(r *http.Request, _ string, p account.Session) (int, any, error) {
		list, err := s.Service.List(r.Context(), p.Actor(), service.Page{Open: r.FormValue("open") == "true"})
		out := []requestJSON{}
		for _, q := range list {
			out = append(out, requestOf(q, nil))
		}
		return http.StatusOK, out, err
	})))
	change("/api/servicerequests", s.reply(s.by(func(r *http.Request, _ string, p account.Session) (int, any, error) {
		var in struct {
			Type service.Type `json:"type"`
			Data service.Data `json:"data"`
		}
		if err := decode(r, &in); err != nil {
			return 0, nil, err
		}
		q, err := s.Service.Start(r.Context(), p.Actor(), in.Type, in.Data)
		return http.StatusCreated, requestOf(q, nil), err
	})))
	read("/api/servicerequests/{id}", s.reply(s.by(func(r *http.Request, _ string, p account.Session) (int, any, error) {
		id, err := of(r)
		if err != nil {
			return 0, nil, err
		}
		return s.requestAPI(r, p, id)
	})))
	change("/api/servicerequests/{id}/{action}", s.reply(s.by(func(r *http.Request, _ string, p account.Session) (int, any, error) {
		id, err := of(r)
		if err != nil {
			return 0, nil, err
		}
		var in service.Data
		if err := decode(r, &in); err != nil {
			return 0, nil, err
		}
		// The words of the buttons, in a URL: start-over for "Start over".
		words := strings.ReplaceAll(r.PathValue("action"), "-", " ")
		request, err := s.Service.Get(r.Context(), p.Actor(), id)
		if err != nil {
			return 0, nil, err
		}
		for _, a := range request.Actions {
			if strings.EqualFold(words, string(a)) {
				done, err := s.Service.Do(r.Context(), p.Actor(), id, a, in)
				if err != nil {
					return 0, nil, err
				}
				return s.requestAPI(r, p, done.ID)
			}
		}
		return 0, nil, service.ErrNotAllowed
	})))
	s.apiTokens()
	read("/api/admin/dica", s.reply(s.by(func(r *http.Request, _ string, p account.Session) (int, any, error) {
		return s.issuersAPI(r, p)
	})))
	change("/api/admin/dica", s.reply(s.by(func(r *http.Request, _ string, p account.Session) (int, any, error) {
		var in struct {
			Ready    bool `json:"ready"`
			Licences *int `json:"licences"`
		}
		if err := decode(r, &in); err != nil {
			return 0, nil, err
		}
		list, err := s.Service.Issuers(r.Context(), p.Actor())
		if err != nil {
			return 0, nil, err
		}
		for _, i := range list {
			if i.Current {
				if err := s.Service.SetIssuer(r.Context(), p.Actor(), i.Name, in.Ready, in.Licences); err != nil {
					return 0, nil, err
				}
			}
		}
		return s.issuersAPI(r, p)
	})))
	read("/api/admin/outbox", s.reply(func(r *http.Request) (int, any, error) {
		var list []account.Mail
		var err error
		if s.LocalOutbox {
			list, err = s.Accounts.LocalOutbox(r.Context(), most)
		} else {
			p, failed := s.ofProgram(r, bearer(r))
			if failed != nil {
				return 0, nil, failed
			}
			list, err = s.Accounts.Outbox(r.Context(), p.Actor(), most)
		}
		out := []mailJSON{}
		for _, m := range list {
			out = append(out, mailJSON{m.To, m.Subject, m.Body, m.Created.UTC()})
		}
		return http.StatusOK, out, err
	}))
}

// tokenJSON is a registered card.
type tokenJSON struct {
	ID         int64     `json:"id"`
	Path       string    `json:"path"`
	Firmware   string    `json:"firmware"`
	Status     string    `json:"status"`
	Registered time.Time `json:"registered"`
}

// mailJSON is a mail of the outbox.
type mailJSON struct {
	To      string    `json:"to"`
	Subject string    `json:"subject"`
	Body    string    `json:"body"`
	Created time.Time `json:"created"`
}

// sessionJSON is how far a session is.
type sessionJSON struct {
	State string `json:"state"`
	Path  string `json:"path,omitempty"`
	Email string `json:"email,omitempty"`
}

func sessionOf(p account.Session) sessionJSON {
	return sessionJSON{string(p.State), p.Token.Path, p.Account.Email}
}

// requestJSON is a service request.
type requestJSON struct {
	ID      int64        `json:"id"`
	Type    service.Type `json:"type"`
	State   service.Word `json:"state"`
	Chip    string       `json:"chip,omitempty"`
	Data    service.Data `json:"data"`
	Created time.Time    `json:"created"`
	Changed time.Time    `json:"changed"`
	Actions []string     `json:"actions"`
	Log     []lineJSON   `json:"log,omitempty"`
}

// lineJSON is a line of a request's log.
type lineJSON struct {
	At    time.Time    `json:"at"`
	State service.Word `json:"state"`
	Text  string       `json:"text"`
}

func requestOf(q service.Request, log []service.Line) requestJSON {
	out := requestJSON{q.ID, q.Type, q.Word, string(q.Chip), q.Data, q.Created.UTC(), q.Changed.UTC(), []string{}, nil}
	for _, a := range q.Actions {
		out.Actions = append(out.Actions, strings.ReplaceAll(strings.ToLower(string(a)), " ", "-"))
	}
	for _, l := range log {
		out.Log = append(out.Log, lineJSON{l.At.UTC(), l.Word, l.Text})
	}
	return out
}

func (s *site) requestAPI(r *http.Request, p account.Session, id int64) (int, any, error) {
	q, err := s.Service.Get(r.Context(), p.Actor(), id)
	if err != nil {
		return 0, nil, err
	}
	log, err := s.Service.Log(r.Context(), p.Actor(), id)
	return http.StatusOK, requestOf(q, log), err
}

func (s *site) issuersAPI(r *http.Request, p account.Session) (int, any, error) {
	list, err := s.Service.Issuers(r.Context(), p.Actor())
	type issuerJSON struct {
		Name     string `json:"name"`
		Current  bool   `json:"current"`
		Ready    bool   `json:"ready"`
		Licences int    `json:"licences"`
	}
	out := []issuerJSON{}
	for _, i := range list {
		out = append(out, issuerJSON{string(i.Name), i.Current, i.Ready, i.Licences})
	}
	return http.StatusOK, out, err
}

// after is the session once something was done in it.
func (s *site) after(r *http.Request, id string, err error) (int, any, error) {
	if err != nil {
		return 0, nil, err
	}
	p, err := s.Accounts.Session(r.Context(), id)
	return http.StatusOK, sessionOf(p), err
}

// bearer is the session of a request's header; empty if there is none.
func bearer(r *http.Request) string {
	id, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return id
}

// ofProgram is the session that a program names: one that a program began, or one that
// has got a new cookie since its log-in. Before that, whoever planted a cookie in a
// browser would act for the person. Error: account.ErrNoSession.
func (s *site) ofProgram(r *http.Request, id string) (account.Session, error) {
	p, err := s.Accounts.Session(r.Context(), id)
	if err == nil && !p.Program && !p.Renewed {
		return account.Session{}, account.ErrNoSession
	}
	return p, err
}

// by finds the session of a request.
func (s *site) by(f func(*http.Request, string, account.Session) (int, any, error)) func(*http.Request) (int, any, error) {
	return func(r *http.Request) (int, any, error) {
		id := r.PathValue("session")
		if id == "" || id == "current" {
			id = bearer(r)
		}
		p, err := s.ofProgram(r, id)
		if err != nil {
			return 0, nil, err
		}
		return f(r, id, p)
	}
}

// decode reads a body of JSON, with the fields that it may have and no others. An
// empty one is an empty object.
func decode(r *http.Request, to any) error {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/json" && r.ContentLength != 0 {
		return errForm
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil && !errors.Is(err, io.EOF) {
		return unread(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: there is more after the object", errForm)
	}
	return nil
}

// unread says of a body what is wrong with it, without the words of Go's types, which
// errors of package json have.
func unread(err error) error {
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, new(*http.MaxBytesError)):
	case errors.As(err, &kind) && kind.Field == "":
		err = errors.New("it is no object")
	case errors.As(err, &kind):
		err = fmt.Errorf("%s has a value of the wrong kind", kind.Field[strings.LastIndex(kind.Field, ".")+1:])
	case errors.As(err, new(base64.CorruptInputError)):
		err = errors.New("a value is not in Base64")
	case errors.Is(err, io.ErrUnexpectedEOF):
		err = errors.New("it ends in the middle")
	default: // of syntax and of unknown fields, which have no type for errors
		err = errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	return fmt.Errorf("%w: %w", errForm, err)
}

// reply writes what f returns as JSON.
func (s *site) reply(f func(*http.Request) (int, any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		status, value, err := f(r)
		if err != nil {
			status = Status(err)
			s.askLater(w, err)
			value = map[string]string{"error": sentence(err, status)}
		}
		if status == http.StatusNoContent {
			w.WriteHeader(status)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(value) // the client has gone
	}
}
