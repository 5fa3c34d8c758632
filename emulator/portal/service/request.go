package service

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"hsmemu/emulator/portal"
	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/records"
)

// Data is the form of a request. Which fields count depends on the type.
type Data struct {
	// Token is the registered card of a FirmwareUpdate, by its row; 0 is the "Current
	// token in reader".
	Token int64 `json:"token,omitempty"`
	// Firmware is what a Production loads.
	Firmware string `json:"firmware,omitempty"`
	// Center is the trust center that is asked, by its row.
	Center int64 `json:"center,omitempty"`
	// Profile is the kind of certificate, see pki.Profiles.
	Profile string `json:"profile,omitempty"`
	// CommonName, Email and Hosts are what is to be certified. An empty Email is that
	// of the account.
	CommonName string   `json:"common_name,omitempty"`
	Email      string   `json:"email,omitempty"`
	Hosts      []string `json:"hosts,omitempty"`
	// Request is PKCS #10 in DER or PEM, or for DevNet the request that a card made;
	// Device is the content of EF 2F02 of that card.
	Request []byte `json:"request,omitempty"`
	Device  []byte `json:"device,omitempty"`
	// Name is that of a new TrustCenter or Signer, and Private tells of the former who
	// sees it.
	Name    string `json:"name,omitempty"`
	Private bool   `json:"private,omitempty"`
	// Reason is why a certificate is revoked (RFC 5280 §5.3.1), 0 for unspecified.
	Reason int `json:"reason,omitempty"`
}

// most is the longest that a form can be, in bytes.
const most = 64 << 10

// Request is a service request as it is stored.
type Request struct {
	ID   int64
	Type Type
	Word Word
	// Account is whom it belongs to; 0 for nobody who has one.
	Account int64
	// Chip is the card that carried it out, or is in the midst of it.
	Chip             portal.ChipID
	Data             Data
	Created, Changed time.Time
	// Actions are what whoever asked may do with it now.
	Actions []Action
}

// Line is a line in the log of a request.
type Line struct {
	At time.Time
	// Account is who did it; 0 for the portal.
	Account int64
	Word    Word
	Text    string
}

// String is the text as users see it, with the state in brackets.
func (l Line) String() string { return said(l.Text, l.Word) }

// said is a message with the state behind it in brackets.
func said(text string, w Word) string { return fmt.Sprintf("%s (%s)", text, w) }

// bare takes the state from behind a message of package portal.
func bare(text string) string {
	for _, w := range []Word{Edit, Submit} {
		text = strings.TrimSuffix(text, " ("+string(w)+")")
	}
	return text
}

// deed is one step of a request, in its transaction.
type deed struct {
	s       *Service
	tx      *records.Tx
	by      Actor
	request Request
	// given is the form that came with the action.
	given Data
	// roles are those of the actor, nil until somebody asks.
	roles held
	// detail is for the audit log.
	detail string
	// made is the request that a start over has made.
	made *Request
}

// mostOpen is how many requests an account can have that wait for somebody.
const mostOpen = 100

// Start makes a request in its form: "Start Request". Errors: ErrUnknown for a type or
// a thing in the form that there is not, ErrNotAllowed, ErrTooMany, ErrData for a form that is
// too long, and those of the records.
func (s *Service) Start(ctx context.Context, by Actor, t Type, form Data) (Request, error) {
	var r Request
	err := s.Records.Write(ctx, func(tx *records.Tx) error {
		d := &deed{s: s, tx: tx, by: by, request: Request{Type: t, Account: by.Account, Word: Edit, Data: form}}
		if by.Account == 0 {
			return ErrNotAllowed
		}
		if _, known := titles[t]; !known {
			return fmt.Errorf("%w: a request %q", ErrUnknown, t)
		}
		if _, err := d.row(DoSave); err != nil { // whoever may not save a form has none
			return err
		}
		if err := d.insert(); err != nil {
			return err
		}
		r = d.request
		r.Actions, _ = d.actions()
		return nil
	})
	return r, err
}

// insert stores a new request.
func (d *deed) insert() error {
	r := &d.request
	now := d.tx.Now()
	var open int
	err := d.tx.QueryRow("SELECT COUNT(*) FROM requests WHERE account = ? AND state IN "+openWords, r.Account).Scan(&open)
	if err != nil {
		return err
	}
	if open >= mostOpen {
		return ErrTooMany
	}
	data, err := d.columns()
	if err != nil {
		return err
	}
	r.ID, err = d.tx.Insert("INSERT INTO requests (type, state, account, subject, token, data, created, changed) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
		string(r.Type), string(r.Word), nullable(r.Account), nullable(r.Data.Center), nullable(r.Data.Token), data, now.Unix(), now.Unix())
	if err != nil {
		return err
	}
	r.Created, r.Changed = now.UTC(), now.UTC()
	return d.note("Request started")
}

// columns checks what the form refers to, and is the form as it is stored.
func (d *deed) columns() (string, error) {
	if id := d.request.Data.Center; id != 0 {
		err := account.Allow(d.tx, d.by, account.RequestCertificate, id)
		if errors.Is(err, account.ErrNoSubject) {
			return "", fmt.Errorf("%w: trust center %d", ErrUnknown, id)
		}
		if err != nil {
			return "", err
		}
	}
	if id := d.request.Data.Token; id != 0 {
		var n int
		err := d.tx.QueryRow("SELECT COUNT(*) FROM tokens WHERE id = ? AND account = ? AND status = 'active'", id, d.request.Account).Scan(&n)
		if err != nil {
			return "", err
		}
		if n == 0 {
			return "", fmt.Errorf("%w: token %d", ErrUnknown, id)
		}
	}
	data, err := json.Marshal(d.request.Data)
	if err == nil && len(data) > most {
		err = fmt.Errorf("%w: it is longer than %d bytes", ErrData, most)
	}
	return string(data), err
}

// note writes into the log of the request and into the audit log.
func (d *deed) note(text string) error {
	r := d.request
	_, err := d.tx.Exec("INSERT INTO request_log (request, at, account, state, text) VALUES (?, ?, ?, ?, ?)",
		r.ID, d.tx.Now().Unix(), nullable(d.by.Account), string(r.Word), text)
	if err != nil {
		return err
	}
	detail := said(text, r.Word)
	if d.detail != "" {
		detail += "; " + d.detail
	}
	return d.tx.Audit(records.Event{
		Account: d.by.Account, Token: d.by.Token, Action: "service request", Object: fmt.Sprintf("%s %d", r.Type, r.ID), Detail: detail,
	})
}

// Do takes a step with a request. The form counts for Save and Submit, and its Reason
// for Revoke. A start over returns the new request. Errors: ErrUnknown, ErrNotAllowed,
// ErrData and those of package pki for what was asked for, and those of the records.
// What a submission is refused for is in the log, too.
func (s *Service) Do(ctx context.Context, by Actor, id int64, a Action, form Data) (Request, error) {
	var d *deed
	err := s.Records.Write(ctx, func(tx *records.Tx) (err error) {
		d, err = s.visible(tx, by, id)
		if err != nil {
			return err
		}
		d.given = form
		return d.take(a)
	})
	var wrong *wrongForm
	switch {
	case errors.As(err, &wrong):
		return Request{}, errors.Join(err, s.complain(ctx, by, id, wrong.Error()))
	case err != nil:
		return Request{}, err
	}
	r := d.request
	if d.made != nil {
		r = *d.made
	} else {
		s.tell(Progress{Request: r.ID, Percent: -1, Word: r.Word, Text: said(d.text(a), r.Word)})
	}
	return s.Get(ctx, by, r.ID)
}

// wrongForm is a form that cannot be submitted.
type wrongForm struct{ err error }

func (w *wrongForm) Error() string { return w.err.Error() }
func (w *wrongForm) Unwrap() error { return w.err }

// Is tells that it is an ErrData, whatever package has found it.
func (w *wrongForm) Is(target error) bool { return target == ErrData }

// wrong is an error in what somebody asked for.
func wrong(err error) error { return &wrongForm{err} }

// missing is a form without something.
func missing(what string) error { return wrong(fmt.Errorf("%w: %s is missing", ErrData, what)) }

// complain keeps in the log why a form could not be submitted.
func (s *Service) complain(ctx context.Context, by Actor, id int64, text string) error {
	return s.Records.Write(ctx, func(tx *records.Tx) error {
		d, err := s.visible(tx, by, id)
		if err != nil {
			return err
		}
		return d.note(text)
	})
}

// text is what the table says of an action that was taken.
func (d *deed) text(a Action) string {
	for _, s := range steps {
		if s.Type == d.request.Type && s.Action == a && s.To == d.request.Word {
			return s.Text
		}
	}
	return string(a)
}

// take takes a step.
func (d *deed) take(a Action) error {
	r := &d.request
	step, err := d.row(a)
	if err != nil {
		return err
	}
	if a == DoSave || a == DoSubmit && !d.given.empty() {
		r.Data = d.given
		// The form may name another trust center now, in which the role has to be, too.
		if step, err = d.row(a); err != nil {
			return err
		}
		data, err := d.columns()
		if err != nil {
			return err
		}
		_, err = d.tx.Exec("UPDATE requests SET data = ?, subject = ?, token = ? WHERE id = ?", data, nullable(r.Data.Center), nullable(r.Data.Token), r.ID)
		if err != nil {
			return err
		}
	}
	// Without a trust center the role has to be one of the whole portal.
	if a == DoSubmit && r.Data.Center == 0 && step.Who != account.Subscriber && !d.roles.in(step.Who, 0) {
		return missing("a trust center")
	}
	if step.run != nil {
		if err := step.run(d); err != nil {
			return err
		}
	}
	return d.move(step.To, step.Text)
}

func (f Data) empty() bool {
	b, _ := json.Marshal(f)
	return string(b) == "{}"
}

// row is the row of the table for an action by this actor. Error: ErrNotAllowed.
func (d *deed) row(a Action) (Step, error) {
	for _, s := range find(d.request.Type, d.request.Word, a) {
		if holds, err := d.holds(s.Who); holds || err != nil {
			return s, err
		}
	}
	return Step{}, fmt.Errorf("%w: %s of a request in %s", ErrNotAllowed, a, d.request.Word)
}

// holds reports whether the actor has a role for the request: that of its trust
// center, or of the whole portal. Whose form names no trust center yet may have the
// role in any: what is submitted is looked at again.
func (d *deed) holds(role account.Role) (bool, error) {
	switch {
	case d.by.Account == 0:
		return false, nil
	case role == account.Subscriber:
		return d.by.Account == d.request.Account, nil
	}
	if d.roles == nil {
		var err error
		if d.roles, err = rolesOf(d.tx, d.by); err != nil {
			return false, err
		}
	}
	r := d.request
	if r.Word == Edit && r.Data.Center == 0 && r.Account == d.by.Account {
		return d.roles.anywhere(role), nil
	}
	return d.roles.in(role, r.Data.Center), nil
}

// officers are the roles by which somebody sees the requests of others.
func officers() []account.Role { return append(account.TrustCenterRoles(), account.Administrator) }

// held are the roles of an account, each in a trust center, or with 0 in the whole
// portal.
type held map[account.Grant]bool

// rolesOf are the roles of an account.
func rolesOf(tx *records.Tx, by Actor) (held, error) {
	all := held{}
	return all, tx.Each(func(scan func(...any) error) error {
		var g account.Grant
		err := scan(&g.Role, &g.Subject)
		all[g] = true
		return err
	}, "SELECT role, COALESCE(subject, 0) FROM roles WHERE account = ?", by.Account)
}

// anywhere reports whether a role is held in any trust center, or in the whole portal.
func (h held) anywhere(role account.Role) bool {
	for g := range h {
		if g.Role == role {
			return true
		}
	}
	return false
}

// in reports whether a role is held in a trust center, 0 for none, or in the whole
// portal.
func (h held) in(role account.Role, center int64) bool {
	return h[account.Grant{Role: role}] || h[account.Grant{Role: role, Subject: center}]
}

// move brings the request into a state and says so.
func (d *deed) move(to Word, text string) error {
	r := &d.request
	from := r.Word
	r.Word, r.Changed = to, d.tx.Now().UTC()
	if _, err := d.tx.Exec("UPDATE requests SET state = ?, changed = ? WHERE id = ?", string(to), r.Changed.Unix(), r.ID); err != nil {
		return err
	}
	if err := d.note(text); err != nil {
		return err
	}
	if from == to {
		return nil
	}
	if err := d.call(); err != nil || d.by.Account == r.Account {
		return err
	}
	return d.inform(text)
}

// officer is whose step a request waits for, empty for no officer's.
func (w Word) officer() account.Role {
	switch w {
	case Approve:
		return account.RegistrationOfficer
	case Produce:
		return account.CertificationOfficer
	}
	return ""
}

// call mails the officers that a request waits for, if they want it.
func (d *deed) call() error {
	r := d.request
	if r.Word.officer() == "" {
		return nil
	}
	var list []int64
	err := d.tx.Each(func(scan func(...any) error) error {
		var id int64
		err := scan(&id)
		list = append(list, id)
		return err
	}, "SELECT DISTINCT account FROM roles WHERE role = ? AND COALESCE(subject, 0) IN (0, ?) AND account <> ?", string(r.Word.officer()), r.Data.Center, d.by.Account)
	for _, officer := range list {
		err = errors.Join(err, mail(d.tx, officer, fmt.Sprintf("Service request %d waits for you", r.ID),
			fmt.Sprintf("%s, request %d, waits for its step (%s).\n", r.Type.Title(), r.ID, r.Word)))
	}
	return err
}

// inform mails whom a request belongs to, if they want it, what somebody else did.
func (d *deed) inform(text string) error {
	r := d.request
	return mail(d.tx, r.Account, fmt.Sprintf("Service request %d", r.ID), fmt.Sprintf("%s, request %d:\n\n%s\n", r.Type.Title(), r.ID, said(text, r.Word)))
}

// mail writes to an account that wants to hear of its requests.
func mail(tx *records.Tx, to int64, subject, body string) error {
	var address string
	err := tx.QueryRow("SELECT email FROM accounts WHERE id = ? AND notify_requests = 1", to).Scan(&address)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err == nil {
		_, err = account.Queue(tx, account.Mail{To: address, Subject: subject, Body: body})
	}
	return err
}

// startOver makes a new request with the form of one that has ended.
func startOver(d *deed) error {
	n := &deed{s: d.s, tx: d.tx, by: d.by, request: Request{Type: d.request.Type, Account: d.request.Account, Word: Edit, Data: d.request.Data}}
	n.request.Data.Reason = 0
	if err := n.insert(); errors.Is(err, ErrUnknown) { // its token is superseded
		n.request.Data.Token = 0
		err = n.insert()
		if err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	d.made, d.detail = &n.request, fmt.Sprintf("as request %d", n.request.ID)
	return nil
}
