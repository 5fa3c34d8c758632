package site

import (
	"cmp"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"hsmemu/emulator/portal"
	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/pki"
	"hsmemu/emulator/portal/service"
)

// field is one of a form. Its kind is that of an input, or select, text or tick.
type field struct {
	Name, Label, Kind, Value, Hint string
	Choices                        []choice
}

// home is the first page after a log-in (PORTAL-16).
func (s *site) home(w http.ResponseWriter, r *http.Request, p account.Session) error {
	open, err := s.Service.List(r.Context(), p.Actor(), service.Page{Open: true, Most: 20})
	if err != nil {
		return err
	}
	issuers, err := s.Service.Issuers(r.Context(), p.Actor())
	if err != nil {
		return err
	}
	h := struct {
		view
		Starts   []choice
		Requests []service.Request
		Ready    bool
		NotReady string
	}{view: s.view(r, p, "Home"), Requests: open}
	for _, t := range service.Starts(p.Account) {
		h.Starts = append(h.Starts, choice{Value: string(t), Text: t.Title()})
	}
	for _, i := range issuers {
		if i.Current {
			h.Ready, h.NotReady = i.Ready && i.Licences > 0, fmt.Sprintf(portal.TextNotReady, i.Name)
		}
	}
	show(w, http.StatusOK, "home", h)
	return nil
}

func (s *site) requests(w http.ResponseWriter, r *http.Request, p account.Session) error {
	before, err := number(r.FormValue("before"))
	if err != nil {
		return err
	}
	const most = 100
	list, err := s.Service.List(r.Context(), p.Actor(), service.Page{Before: before, Most: most})
	if err != nil {
		return err
	}
	v := struct {
		view
		Requests []service.Request
		More     int64
	}{view: s.view(r, p, "Service Requests"), Requests: list}
	if len(list) == most {
		v.More = list[most-1].ID
	}
	show(w, http.StatusOK, "requests", v)
	return nil
}

// number is one of a URL or a form; empty is 0.
func number(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, errForm
	}
	return n, nil
}

// of is the row that a URL names.
func of(r *http.Request) (int64, error) {
	id, err := number(r.PathValue("id"))
	if err != nil {
		return 0, service.ErrUnknown
	}
	return id, nil
}

func (s *site) start(w http.ResponseWriter, r *http.Request, p account.Session) error {
	center, err := number(r.PostFormValue("center"))
	if err != nil {
		return err
	}
	request, err := s.Service.Start(r.Context(), p.Actor(), service.Type(r.PostFormValue("type")), service.Data{Center: center})
	if err != nil {
		return err
	}
	seeRequest(w, r, request.ID)
	return nil
}

func seeRequest(w http.ResponseWriter, r *http.Request, id int64) {
	http.Redirect(w, r, fmt.Sprintf("/se/requests/%d", id), http.StatusSeeOther)
}

// request shows a request.
func (s *site) request(w http.ResponseWriter, r *http.Request, p account.Session) error {
	id, err := of(r)
	if err != nil {
		return err
	}
	return s.showRequest(w, r, p, id, nil, nil)
}

// showRequest shows a request, after a step that failed with a problem and the form
// that was sent.
func (s *site) showRequest(w http.ResponseWriter, r *http.Request, p account.Session, id int64, sent *service.Data, problem error) error {
	request, err := s.Service.Get(r.Context(), p.Actor(), id)
	if err != nil {
		return err
	}
	log, err := s.Service.Log(r.Context(), p.Actor(), id)
	if err != nil {
		return err
	}
	v := struct {
		view
		Request     service.Request
		About       []choice
		Blocked     string
		RAM, Remote string
		Live        bool
		Actions     []service.Action
		Fields      []field
		Issued      *issued
		Log         []service.Line
	}{view: s.view(r, p, fmt.Sprintf("%s, request %d", request.Type.Title(), request.ID)), Request: request, Actions: request.Actions, Log: log}
	status := http.StatusOK
	if problem != nil {
		status = Status(problem)
		v.Error = sentence(problem, status)
	}
	form := request.Data
	if sent != nil {
		form = *sent
	}
	if slices.Contains(request.Actions, service.DoSave) || slices.Contains(request.Actions, service.DoSubmit) {
		if v.Fields, err = s.fields(r, p, request.Type, form); err != nil {
			return err
		}
	} else {
		v.About = about(request.Data)
	}
	if slices.Contains(request.Actions, service.DoRevoke) {
		v.Fields = []field{{Name: "reason", Label: "Reason of a revocation", Kind: "select", Choices: reasons()}}
	}
	waits := request.Word == service.Submit || request.Word == service.Running
	onCard := request.Type == service.FirmwareUpdate || request.Type == service.Production
	if v.Live = waits && onCard; v.Live && request.Account == p.Account.ID {
		cookie, err := r.Cookie(s.cookie())
		if err != nil {
			return err
		}
		if request.Data.Token == 0 {
			v.RAM = s.ramURL(r, cookie.Value)
		} else {
			v.Remote = s.ramURL(r, "")
		}
	}
	if request.Type == service.FirmwareUpdate && (v.Live || len(v.Fields) > 0) {
		v.Blocked = "it removes the whole application with its PINs, keys and certificates, loads the newest firmware of the card's generation, " +
			"and makes a new device of it, as shipped, which has to be registered again. It is possible if the card holds no keys, or if its SO-PIN is " +
			"blocked; that, up to five times."
	}
	switch c, err := s.Service.Issued(r.Context(), p.Actor(), id); {
	case err == nil:
		if v.Issued, err = shown(id, c); err != nil {
			return err
		}
	case !errors.Is(err, service.ErrUnknown):
		return err
	}
	show(w, status, "request", v)
	return nil
}

// issued is what a page shows of a certificate.
type issued struct {
	Request                          int64
	Subject, Issuer, Serial, Revoked string
	From, To                         time.Time
}

func shown(request int64, c service.Issued) (*issued, error) {
	x, err := c.X509()
	if err != nil {
		return nil, err
	}
	i := &issued{Request: request, Subject: x.Subject.String(), Issuer: x.Issuer.String(), Serial: x.SerialNumber.Text(16), From: x.NotBefore, To: x.NotAfter}
	if !c.Revoked.IsZero() {
		i.Revoked = c.Revoked.UTC().Format(time.DateTime) + ", " + c.Reason.String()
	}
	return i, nil
}

// reasons are those that somebody can give for a revocation.
func reasons() (list []choice) {
	for _, reason := range pki.Reasons() {
		list = append(list, choice{Value: strconv.Itoa(int(reason)), Text: reason.String()})
	}
	return list
}

// about is the form of a request, for reading.
func about(d service.Data) (list []choice) {
	add := func(text, value string) {
		if value != "" {
			list = append(list, choice{Text: text, Value: value})
		}
	}
	add("Name", d.Name)
	add("Profile", d.Profile)
	add("Common name", d.CommonName)
	add("E-mail address", d.Email)
	add("Hosts", strings.Join(d.Hosts, " "))
	add("Firmware", d.Firmware)
	return list
}

// fields are the form of a type.
func (s *site) fields(r *http.Request, p account.Session, t service.Type, d service.Data) ([]field, error) {
	tokens := field{Name: "token", Label: "SmartCard-HSM", Kind: "select", Value: strconv.FormatInt(d.Token, 10), Choices: []choice{{Value: "0", Text: "Current token in reader"}}}
	registered, err := s.Accounts.Tokens(r.Context(), p.Account.ID)
	if err != nil {
		return nil, err
	}
	for _, k := range registered {
		if k.Status == account.Active {
			tokens.Choices = append(tokens.Choices, choice{Value: strconv.FormatInt(k.ID, 10), Text: k.Path})
		}
	}
	centers := field{Name: "center", Label: "Trust center", Kind: "select", Value: strconv.FormatInt(d.Center, 10)}
	known, err := s.Accounts.Subjects(r.Context(), p.Actor(), account.Part{Kind: account.TrustCenter})
	if err != nil {
		return nil, err
	}
	for _, c := range known {
		centers.Choices = append(centers.Choices, choice{Value: strconv.FormatInt(c.ID, 10), Text: c.Name})
	}
	profiles := field{Name: "profile", Label: "Profile", Kind: "select", Value: d.Profile}
	for _, f := range pki.Profiles() {
		profiles.Choices = append(profiles.Choices, choice{Value: f.Name, Text: f.Name})
	}
	name := field{Name: "common_name", Label: "Common name", Value: d.CommonName}
	email := field{Name: "email", Label: "E-mail address", Kind: "email", Value: d.Email, Hint: "Yours, if it is empty."}
	switch t {
	case service.FirmwareUpdate:
		return []field{tokens}, nil
	case service.Certificate:
		return []field{
			centers, profiles, name, email,
			{Name: "hosts", Label: "Host names and addresses", Value: strings.Join(d.Hosts, " "), Hint: "For TLSServer, with spaces between."},
			{Name: "request", Label: "Request (PKCS #10, PEM)", Kind: "text", Value: armour("CERTIFICATE REQUEST", d.Request)},
		}, nil
	case service.DevNet:
		return []field{
			name, email,
			{Name: "request", Label: "Request that the card made for the key (Base64)", Kind: "text", Value: base64.StdEncoding.EncodeToString(d.Request)},
			{Name: "device", Label: "Device certificates, EF 2F02 (Base64)", Kind: "text", Value: base64.StdEncoding.EncodeToString(d.Device)},
		}, nil
	case service.TrustCenter:
		return []field{
			{Name: "name", Label: "Name", Value: d.Name},
			{Name: "private", Label: "Private: only who has a role in it sees it", Kind: "tick", Value: map[bool]string{true: "1"}[d.Private]},
		}, nil
	case service.Production:
		firmware := field{Name: "firmware", Label: "Firmware", Kind: "select", Value: d.Firmware}
		for generation := range byte(16) {
			if v, known := portal.Newest(generation); known {
				firmware.Choices = append(firmware.Choices, choice{Value: v.String(), Text: v.String()})
			}
		}
		return []field{centers, firmware}, nil
	case service.Signer:
		return []field{centers, {Name: "name", Label: "Name of the signer", Value: d.Name, Hint: "The common name in its certificates. It is the one that issues from then on, with a key in the portal's records."}}, nil
	case service.RevocationList:
		return []field{centers}, nil
	}
	return nil, nil
}

// armour is PEM, or nothing of nothing.
func armour(kind string, der []byte) string {
	if len(der) == 0 || strings.HasPrefix(string(der), "-----") {
		return string(der)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// form reads the form of a request.
func form(r *http.Request) (service.Data, error) {
	var d service.Data
	var failed error
	integer := func(name string) int64 {
		n, err := number(r.PostFormValue(name))
		failed = cmp.Or(failed, err)
		return n
	}
	encoded := func(name string) []byte {
		text := strings.TrimSpace(r.PostFormValue(name))
		if strings.HasPrefix(text, "-----") {
			return []byte(text)
		}
		b, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
		if err != nil {
			failed = errForm
		}
		return b
	}
	d = service.Data{
		Token: integer("token"), Firmware: r.PostFormValue("firmware"), Center: integer("center"), Profile: r.PostFormValue("profile"),
		CommonName: strings.TrimSpace(r.PostFormValue("common_name")), Email: strings.TrimSpace(r.PostFormValue("email")),
		Hosts: strings.Fields(r.PostFormValue("hosts")), Request: encoded("request"), Device: encoded("device"),
		Name: strings.TrimSpace(r.PostFormValue("name")), Private: r.PostFormValue("private") != "", Reason: int(integer("reason")),
	}
	return d, failed
}

// do takes a step with a request.
func (s *site) do(w http.ResponseWriter, r *http.Request, p account.Session) error {
	id, err := of(r)
	if err != nil {
		return err
	}
	sent, err := form(r)
	if err == nil {
		var request service.Request
		if request, err = s.Service.Do(r.Context(), p.Actor(), id, service.Action(r.PostFormValue("action")), sent); err == nil {
			seeRequest(w, r, request.ID)
			return nil
		}
	}
	if status := Status(err); status == http.StatusInternalServerError || status == http.StatusNotFound {
		return err
	}
	return s.showRequest(w, r, p, id, &sent, err)
}

// certificate downloads what a request has led to, with its chain.
func (s *site) certificate(w http.ResponseWriter, r *http.Request, p account.Session) error {
	id, err := of(r)
	if err != nil {
		return err
	}
	c, err := s.Service.Issued(r.Context(), p.Actor(), id)
	if err != nil {
		return err
	}
	download(w, fmt.Sprintf("certificate-%d.pem", id), append([][]byte{c.Certificate}, c.Chain...))
	return nil
}

// download sends certificates as PEM.
func download(w http.ResponseWriter, name string, chain [][]byte) {
	w.Header().Set("Content-Type", "application/x-pem-file")
	w.Header().Set("Content-Disposition", "attachment; filename="+url.PathEscape(name))
	for _, der := range chain {
		_ = pem.Encode(w, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
}

func (s *site) crl(w http.ResponseWriter, r *http.Request) {
	id, err := of(r)
	var der []byte
	if err == nil {
		der, err = s.Service.CRL(r.Context(), id)
	}
	if err != nil {
		http.Error(w, "There is no such list.", Status(err))
		return
	}
	w.Header().Set("Content-Type", "application/pkix-crl")
	_, _ = w.Write(der)
}

func (s *site) authority(w http.ResponseWriter, r *http.Request, p account.Session) error {
	id, err := number(strings.TrimSuffix(r.PathValue("file"), ".pem"))
	if err != nil {
		return service.ErrUnknown
	}
	list, err := s.Service.Authorities(r.Context(), p.Actor())
	if err != nil {
		return err
	}
	i := slices.IndexFunc(list, func(a service.Authority) bool { return a.ID == id })
	if i < 0 {
		return service.ErrUnknown
	}
	download(w, fmt.Sprintf("authority-%d.pem", id), [][]byte{list[i].Certificate})
	return nil
}
