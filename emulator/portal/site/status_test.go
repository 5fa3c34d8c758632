package site_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/records"
	"hsmemu/emulator/portal/service"
	"hsmemu/emulator/portal/site"
	"hsmemu/emulator/web"
)

// An error that wraps another one of the portal's has one status, the same each time.
func TestStatus_WrappedErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		want   int
		errors []error
	}{
		{http.StatusForbidden, []error{service.ErrNotAllowed, account.ErrForbidden}},
		{http.StatusUnprocessableEntity, []error{service.ErrData, account.ErrTaken}},
		{http.StatusUnprocessableEntity, []error{service.ErrData, service.ErrUnknown}},
		{http.StatusConflict, []error{service.ErrNotAllowed, account.ErrNoAccount}},
		{http.StatusConflict, []error{service.ErrTooMany}},
		{http.StatusUnprocessableEntity, []error{account.ErrHeader}},
		{http.StatusNotFound, []error{service.ErrUnknown}},
		{http.StatusInternalServerError, []error{errors.New("the disk is full")}},
	} {
		for range 50 {
			require.Equal(t, c.want, site.Status(fmt.Errorf("do: %w", errors.Join(c.errors...))), c.errors)
		}
	}
}

// What is wrong with a form is one sentence on one line.
func TestSite_WrongFormIsOneLine(t *testing.T) {
	t.Parallel()
	p := open(t).person()
	p.register(card(t, "DENK0000001", "4.1"), "owner@example.org")
	r := p.post("/se/requests", "type", "DevNetCertificate")
	wrong := p.post(r.path, "action", "Submit", "request", "?", "device", "?")
	require.Equal(t, http.StatusUnprocessableEntity, wrong.status)
	require.Contains(t, wrong.text, "The form is not as it should be.")
	notice := p.post("/se/notice", "versions", "new", "subject", "x", "text", "x")
	require.Equal(t, http.StatusUnprocessableEntity, notice.status)
	require.Contains(t, notice.text, "The form is not as it should be: &#34;new&#34; is no version of a firmware.")
}

// What fails without a card is told to the portal's owner, and not as the end of a
// card's connection.
func TestPortal_TellsWhatFails(t *testing.T) {
	t.Parallel()
	failed := make(chan error, 100)
	p, err := site.Open(t.Context(), t.TempDir(), site.Options{
		Records: records.Options{Now: time.Now}, Failed: func(err error) { failed <- err },
		Ended: func(string, error) { t.Error("no card was there") },
	})
	require.NoError(t, err)
	require.NoError(t, p.Records.Close())
	l, err := web.Listen(t.Context(), "localhost:0", web.ThisMachine)
	require.NoError(t, err)
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- p.Serve(ctx, l) }()
	select {
	case err = <-failed:
		require.ErrorContains(t, err, "closed")
	case <-time.After(time.Minute):
		t.Error("nobody was told")
	}
	end()
	require.NoError(t, <-ended)
}
