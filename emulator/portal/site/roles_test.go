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
