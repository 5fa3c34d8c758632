package site

import (
	"fmt"
	"net/http"
	"slices"

	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/service"
)

// menu is a menu with what it offers.
type menu struct {
	Text  string
	Items []item
}

// item is an entry of a menu: a link, or a button that starts a service request.
type item struct {
	Text, Path string
	Start      service.Type

	// may tells who is offered a link; nil for everybody. A request is offered to whoever
	// may start it.
	may func(account.Account) bool
}

// menus are all menus (PORTAL-18). The first four are the vendor's, with its words and in
// its order. What they have besides is ours, as the last two are.
var menus = []menu{
	{"Home", []item{
		{Text: "Home", Path: pathHome},
		starting(service.TrustCenter), starting(service.Certificate), starting(service.FirmwareUpdate),
		starting(service.DevNet),
	}},
	{"Views", []item{
		{Text: "Subjects", Path: "/se/subjects"},
		{Text: "Service Requests", Path: "/se/requests"},
		{Text: "Device issuers", Path: "/se/issuers"},
		{Text: "Connected HSMs", Path: "/se/hsms", may: operates},
	}},
	{"CA", []item{
		starting(service.Signer),
		{Text: "Enroll person", Path: "/se/enroll", may: somewhere(account.EnrolPerson)},
		starting(service.RevocationList),
		starting(service.Production),
	}},
	{"Subject", []item{{Text: "Manage role", Path: "/se/roles", may: somewhere(account.GrantRole)}}},
	{"Account", []item{{Text: "Tokens", Path: "/se/tokens"}, {Text: "Mail", Path: "/se/preferences"}}},
	{"Administration", []item{
		{Text: "Security notice", Path: "/se/notice", may: somewhere(account.SendNotice)},
		{Text: "Outbox", Path: "/se/outbox", may: somewhere(account.SeeOutbox)},
		{Text: "Audit", Path: "/se/audit", may: somewhere(account.SeeAudit)},
	}},
}

func starting(t service.Type) item { return item{Text: t.Title(), Start: t} }

// somewhere reports of an account whether it may do something in any trust center, or in
// the whole portal.
func somewhere(do account.Action) func(account.Account) bool {
	return func(a account.Account) bool {
		return slices.ContainsFunc(a.Grants, func(g account.Grant) bool { return a.May(do, g.Subject) })
	}
}

// menusOf are the menus with what an account is offered; those that are empty then are
// left out.
func menusOf(a account.Account) (list []menu) {
	starts := service.Starts(a)
	for _, m := range menus {
		offered := slices.DeleteFunc(slices.Clone(m.Items), func(i item) bool {
			return i.Start != "" && !slices.Contains(starts, i.Start) || i.may != nil && !i.may(a)
		})
		if len(offered) > 0 {
			list = append(list, menu{m.Text, offered})
		}
	}
	return list
}

// choose is a page for what is done on the page of a trust center: it goes there, to the
// section, or lists them where somebody may do it in several.
func (s *site) choose(title string, do account.Action, section string) func(http.ResponseWriter, *http.Request, account.Session) error {
	return func(w http.ResponseWriter, r *http.Request, p account.Session) error {
		if !somewhere(do)(p.Account) {
			return account.ErrForbidden
		}
		list, err := s.Accounts.Subjects(r.Context(), p.Actor(), account.Part{Kind: account.TrustCenter})
		if err != nil {
			return err
		}
		list = slices.DeleteFunc(list, func(c account.Subject) bool { return !p.Account.May(do, c.ID) })
		if len(list) == 1 {
			http.Redirect(w, r, fmt.Sprintf("/se/subjects/%d#%s", list[0].ID, section), http.StatusSeeOther)
			return nil
		}
		show(w, http.StatusOK, "subjects", struct {
			view
			Subjects []account.Subject
			More     int64
		}{view: s.view(r, p, title), Subjects: list})
		return nil
	}
}
