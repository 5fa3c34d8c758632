package site

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"hsmemu/applet/cvc"
	"hsmemu/emulator/portal"
	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/records"
	"hsmemu/emulator/portal/service"
)

// most is how many lines a page of subjects, of mail or of the audit log has.
const most = 200

func (s *site) tokens(w http.ResponseWriter, r *http.Request, p account.Session) error {
	list, err := s.Accounts.Tokens(r.Context(), p.Account.ID)
	if err != nil {
		return err
	}
	active := slices.DeleteFunc(slices.Clone(list), func(t account.Token) bool { return t.Status != account.Active })
	show(w, http.StatusOK, "tokens", struct {
		view
		Tokens []account.Token
		Last   bool
	}{s.view(r, p, "Tokens"), list, len(active) == 1})
	return nil
}

func (s *site) removeToken(w http.ResponseWriter, r *http.Request, p account.Session) error {
	id, err := of(r)
	if err != nil {
		return err
	}
	if err := s.Accounts.RemoveToken(r.Context(), p.Actor(), id, r.PostFormValue("last") != ""); err != nil {
		return err
	}
	http.Redirect(w, r, "/se/tokens", http.StatusSeeOther)
	return nil
}

func (s *site) preferences(w http.ResponseWriter, r *http.Request, p account.Session) error {
	tick := map[bool]string{true: "1"}
	show(w, http.StatusOK, "preferences", struct {
		view
		Fields []field
	}{s.view(r, p, "Mail"), []field{
		{Name: "security", Label: "Weaknesses in the firmware of my cards", Kind: "tick", Value: tick[p.Account.Preferences.Security]},
		{Name: "requests", Label: "Service requests that wait for me, or have ended", Kind: "tick", Value: tick[p.Account.Preferences.Requests]},
	}})
	return nil
}

func (s *site) setPreferences(w http.ResponseWriter, r *http.Request, p account.Session) error {
	wanted := account.Preferences{Requests: r.PostFormValue("requests") != "", Security: r.PostFormValue("security") != ""}
	if err := s.Accounts.SetPreferences(r.Context(), p.Actor(), wanted); err != nil {
		return err
	}
	http.Redirect(w, r, pathHome, http.StatusSeeOther)
	return nil
}

func (s *site) subjects(w http.ResponseWriter, r *http.Request, p account.Session) error {
	skip, err := number(r.FormValue("skip"))
	if err != nil {
		return err
	}
	list, err := s.Accounts.Subjects(r.Context(), p.Actor(), account.Part{Skip: int(skip), Most: most})
	if err != nil {
		return err
	}
	v := struct {
		view
		Subjects []account.Subject
		More     int64
	}{view: s.view(r, p, "Subjects"), Subjects: list}
	if len(list) == most {
		v.More = skip + most
	}
	show(w, http.StatusOK, "subjects", v)
	return nil
}

// holder is who has a role.
type holder struct {
	Email string
	Role  account.Role
}

func (s *site) subject(w http.ResponseWriter, r *http.Request, p account.Session) error {
	id, err := of(r)
	if err != nil {
		return err
	}
	v := struct {
		view
		Subject            account.Subject
		Roles              []holder
		MayGrant, MayEnrol bool
		SeesTokens         bool
		Starts             []choice
		Fields             []field
		Authorities        []service.Authority
	}{}
	if v.Subject, err = s.Accounts.Subject(r.Context(), p.Actor(), id); err != nil {
		return err
	}
	v.view = s.view(r, p, v.Subject.Name)
	if v.Subject.Kind == account.TrustCenter {
		grants, err := s.Accounts.Grants(r.Context(), p.Actor(), id)
		if err != nil && !errors.Is(err, account.ErrForbidden) {
			return err
		}
		for _, g := range grants {
			a, err := s.Accounts.Account(r.Context(), g.Account)
			if err != nil {
				return err
			}
			v.Roles = append(v.Roles, holder{a.Email, g.Role})
		}
		v.MayGrant, v.MayEnrol = p.Account.May(account.GrantRole, id), p.Account.May(account.EnrolPerson, id)
		v.SeesTokens = p.Account.May(account.SeePrivate, id)
		for _, t := range []service.Type{service.Signer, service.RevocationList, service.Production} {
			if starts(p.Account, t, id) {
				v.Starts = append(v.Starts, choice{Value: string(t), Text: t.Title()})
			}
		}
		roles := field{Name: "role", Label: "Role", Kind: "select"}
		for _, role := range account.TrustCenterRoles() {
			roles.Choices = append(roles.Choices, choice{Value: string(role), Text: string(role)})
		}
		v.Fields = []field{{Name: "email", Label: "E-mail address of the account", Kind: "email"}, roles}
		all, err := s.Service.Authorities(r.Context(), p.Actor())
		if err != nil {
			return err
		}
		v.Authorities = slices.DeleteFunc(all, func(a service.Authority) bool { return a.Center != id })
	}
	show(w, http.StatusOK, "subject", v)
	return nil
}

// starts reports whether an account may fill in the form of a request to a trust center.
func starts(a account.Account, t service.Type, center int64) bool {
	return slices.ContainsFunc(service.Steps(), func(s service.Step) bool {
		return s.Type == t && s.From == service.Edit && s.Action == service.DoSave && a.Has(s.Who, center)
	})
}

// changeSubject gives or takes a role, or enrolls somebody.
func (s *site) changeSubject(w http.ResponseWriter, r *http.Request, p account.Session) error {
	id, err := of(r)
	if err != nil {
		return err
	}
	switch what := r.PathValue("what"); what {
	case "grant", "revoke":
		// Who has an account is told to those alone who may do something about it.
		if err := s.Accounts.Allow(r.Context(), p.Actor(), account.GrantRole, id); err != nil {
			return err
		}
		var a account.Account
		if a, err = s.Accounts.AccountByEmail(r.Context(), r.PostFormValue("email")); err != nil {
			return err
		}
		change := map[string]func() error{
			"grant":  func() error { return s.Accounts.Grant(r.Context(), p.Actor(), grant(a, r, id)) },
			"revoke": func() error { return s.Accounts.Revoke(r.Context(), p.Actor(), grant(a, r, id)) },
		}[what]
		err = change()
	case "person":
		_, err = s.Accounts.EnrolPerson(r.Context(), p.Actor(), id, r.PostFormValue("email"))
	case "system":
		_, err = s.Accounts.EnrolSystem(r.Context(), p.Actor(), id, r.PostFormValue("name"))
	default:
		return service.ErrUnknown
	}
	if err != nil {
		return err
	}
	http.Redirect(w, r, "/se/subjects/"+strconv.FormatInt(id, 10), http.StatusSeeOther)
	return nil
}

// grant is the role of a form.
func grant(a account.Account, r *http.Request, subject int64) account.Grant {
	return account.Grant{Account: a.ID, Role: account.Role(r.PostFormValue("role")), Subject: subject}
}

func (s *site) issuers(w http.ResponseWriter, r *http.Request, p account.Session) error {
	list, err := s.Service.Issuers(r.Context(), p.Actor())
	if err != nil {
		return err
	}
	show(w, http.StatusOK, "issuers", struct {
		view
		Issuers   []service.Issuer
		MaySwitch bool
	}{s.view(r, p, "Device issuers"), list, p.Account.May(account.SwitchIssuer, 0)})
	return nil
}

func (s *site) addIssuer(w http.ResponseWriter, r *http.Request, p account.Session) error {
	if _, err := s.Service.AddIssuer(r.Context(), p.Actor()); err != nil {
		return err
	}
	http.Redirect(w, r, "/se/issuers", http.StatusSeeOther)
	return nil
}

func (s *site) setIssuer(w http.ResponseWriter, r *http.Request, p account.Session) error {
	licences, err := number(r.PostFormValue("licences"))
	if err != nil || licences > 1_000_000 {
		return errForm
	}
	n := int(licences)
	if err := s.Service.SetIssuer(r.Context(), p.Actor(), cvc.Name(r.PathValue("name")), r.PostFormValue("ready") != "", &n); err != nil {
		return err
	}
	http.Redirect(w, r, "/se/issuers", http.StatusSeeOther)
	return nil
}

// outbox shows mail: to administrators, and to everybody where no mail server is.
func (s *site) outbox(w http.ResponseWriter, r *http.Request) {
	_, p, err := s.session(r)
	if err != nil && !errors.Is(err, account.ErrNoSession) {
		s.fail(w, r, p, err)
		return
	}
	if !p.Renewed {
		p = account.Session{State: account.Anonymous} // as for every other page
	}
	if p.Account.ID == 0 && !s.LocalOutbox {
		http.Redirect(w, r, pathHome, http.StatusSeeOther)
		return
	}
	v := struct {
		view
		Mails []account.Mail
		Local bool
	}{view: s.view(r, p, "Outbox"), Local: s.LocalOutbox}
	if s.LocalOutbox {
		v.Mails, err = s.Accounts.LocalOutbox(r.Context(), most)
	} else {
		v.Mails, err = s.Accounts.Outbox(r.Context(), p.Actor(), most)
	}
	if err != nil {
		s.fail(w, r, p, err)
		return
	}
	show(w, http.StatusOK, "outbox", v)
}

func (s *site) audit(w http.ResponseWriter, r *http.Request, p account.Session) error {
	if err := s.Accounts.Allow(r.Context(), p.Actor(), account.SeeAudit, 0); err != nil {
		return err
	}
	v := struct {
		view
		Events []records.Event
	}{view: s.view(r, p, "Audit")}
	err := s.Records.Read(r.Context(), func(tx *records.Tx) (err error) {
		v.Events, err = tx.Events(most)
		return err
	})
	if err != nil {
		return err
	}
	show(w, http.StatusOK, "audit", v)
	return nil
}

// notice is the form of a security notice, filled with one that was really sent.
func (s *site) notice(w http.ResponseWriter, r *http.Request, p account.Session) error {
	if err := s.Accounts.Allow(r.Context(), p.Actor(), account.SendNotice, 0); err != nil {
		return err
	}
	n := service.Sample()
	var versions []string
	for _, v := range n.Versions {
		versions = append(versions, v.String())
	}
	show(w, http.StatusOK, "notice", struct {
		view
		Fields []field
	}{s.view(r, p, "Security notice"), []field{
		{Name: "versions", Label: "Firmware versions, with spaces between", Value: strings.Join(versions, " ")},
		{Name: "subject", Label: "Subject", Value: n.Subject},
		{Name: "text", Label: "Text", Kind: "text", Value: n.Text},
	}})
	return nil
}

func (s *site) sendNotice(w http.ResponseWriter, r *http.Request, p account.Session) error {
	n := service.Notice{Subject: strings.TrimSpace(r.PostFormValue("subject")), Text: r.PostFormValue("text")}
	for _, text := range strings.Fields(r.PostFormValue("versions")) {
		var v portal.Version
		if err := v.UnmarshalText([]byte(text)); err != nil {
			return fmt.Errorf("%w: %w", errForm, err)
		}
		n.Versions = append(n.Versions, v)
	}
	if _, err := s.Service.SendNotice(r.Context(), p.Actor(), n); err != nil {
		return err
	}
	http.Redirect(w, r, "/se/outbox", http.StatusSeeOther)
	return nil
}
