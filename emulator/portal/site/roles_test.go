package site_test

import (
	"net/http"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

var subjectPath = regexp.MustCompile(`/se/subjects/[0-9]+`)

// Whoever has a role in a trust center alone begins a request without naming it, since
// the form asks for it; and nobody is offered what no role of theirs begins.
func TestSite_OfficerOfOneTrustCenter(t *testing.T) {
	t.Parallel()
	p := open(t)
	p.person().register(card(t, "DENK0000001", "4.1"), "first@example.org")
	officer := p.person()
	officer.register(card(t, "DENK0000002", "4.1"), "officer@example.org")
	home := officer.get("/se/paas").text
	require.Contains(t, home, "Update firmware")
	require.NotContains(t, home, "Issue CRL")
	require.NotContains(t, home, "Produce Token")
	require.Equal(t, http.StatusConflict, officer.post("/se/requests", "type", "IssueCRL").status)

	center := officer.post("/se/requests", "type", "CreateTrustCenter")
	require.Contains(t, officer.post(center.path, "action", "Submit", "name", "Acme").text, "Trust center created")
	at := subjectPath.FindString(officer.get("/se/subjects").text)
	require.Equal(t, http.StatusOK, officer.post(at+"/grant", "email", "officer@example.org", "role", "Certification Officer").status)
	home = officer.get("/se/paas").text
	require.Contains(t, home, "Issue CRL")
	require.NotContains(t, home, "Produce Token")
	list := officer.post("/se/requests", "type", "IssueCRL")
	require.Equal(t, http.StatusOK, list.status)
	require.Contains(t, officer.post(list.path, "action", "Submit").text, "a trust center is missing")
	done := officer.post(list.path, "action", "Submit", "center", at[len("/se/subjects/"):])
	require.Contains(t, done.text, "CRL issued (Completed)")
}

// menusIn are those of a page, with what each of them offers.
func menusIn(text string) map[string][]string {
	found := map[string][]string{}
	nav := regexp.MustCompile(`(?s)<nav.*?</nav>`).FindString(text)
	for _, m := range regexp.MustCompile(`(?s)<summary>(.*?)</summary>(.*?)</details>`).FindAllStringSubmatch(nav, -1) {
		for _, i := range regexp.MustCompile(`<(?:button|a [^>]*)>([^<]*)</`).FindAllStringSubmatch(m[2], -1) {
			found[m[1]] = append(found[m[1]], i[1])
		}
	}
	return found
}

// PORTAL-18: the menus are the vendor's, in its order, and everybody is offered what a
// role of theirs allows.
func TestSite_Menus(t *testing.T) {
	t.Parallel()
	p := open(t)
	admin := p.person()
	admin.register(card(t, "DENK0000001", "4.1"), "admin@example.org")
	home := []string{"Home", "Create Trust Center Subject", "Request Certificate (PKCS #10)", "Update firmware", "Request DevNet Certificate"}
	account := []string{"Tokens", "Mail"}
	require.Equal(t, map[string][]string{
		"Home": home, "Account": account,
		"Views":          {"Subjects", "Service Requests", "Device issuers", "Connected HSMs"},
		"CA":             {"Create Signer", "Enroll person", "Issue CRL", "Produce Token"},
		"Subject":        {"Manage role"},
		"Administration": {"Security notice", "Outbox", "Audit"},
	}, menusIn(admin.get("/se/paas").text))

	officer := p.person()
	officer.register(card(t, "DENK0000002", "4.1"), "officer@example.org")
	everybody := map[string][]string{"Home": home, "Account": account, "Views": {"Subjects", "Service Requests", "Device issuers"}}
	require.Equal(t, everybody, menusIn(officer.get("/se/paas").text))
	for _, path := range []string{"/se/roles", "/se/enroll"} {
		require.Equal(t, http.StatusForbidden, officer.get(path).status, path)
	}
	center := func(name string) {
		r := officer.post("/se/requests", "type", "CreateTrustCenter")
		require.Contains(t, officer.post(r.path, "action", "Submit", "name", name).text, "Trust center created")
	}
	center("Acme")
	everybody["Subject"] = []string{"Manage role"}
	require.Equal(t, everybody, menusIn(officer.get("/se/paas").text))
	at := officer.get("/se/roles").path
	require.Regexp(t, subjectPath, at)
	for _, role := range []string{"Certification Officer", "Registration Officer"} {
		require.Equal(t, http.StatusOK, officer.post(at+"/grant", "email", "officer@example.org", "role", role).status)
	}
	everybody["CA"] = []string{"Create Signer", "Enroll person", "Issue CRL"}
	require.Equal(t, everybody, menusIn(officer.get("/se/paas").text))
	center("Other")
	chosen := officer.get("/se/roles")
	require.Equal(t, "/se/roles", chosen.path)
	require.Contains(t, chosen.text, "Acme")
	require.Contains(t, chosen.text, "Other")
	require.Equal(t, at, officer.get("/se/enroll").path, "an officer of one of the two")
}
