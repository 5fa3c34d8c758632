package service_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/portal"
	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/service"
)

// Device issuers are switched by administrators, which is in the audit log, and decide
// what can be updated: UPDATE-6 and UPDATE-7.
func TestIssuers(t *testing.T) {
	t.Parallel()
	w := open(t)
	alice, root := w.person(t, "alice@example.org"), w.person(t, "root@example.org", account.Administrator)
	list, err := w.Issuers(t.Context(), alice)
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, service.Issuer{Name: list[0].Name, Current: true, Ready: true, Licences: 1000}, list[0])
	_, err = w.Issuers(t.Context(), service.Actor{})
	require.ErrorIs(t, err, service.ErrNotAllowed)
	require.ErrorIs(t, w.SetIssuer(t.Context(), alice, list[0].Name, false, nil), service.ErrNotAllowed)
	_, err = w.AddIssuer(t.Context(), alice)
	require.ErrorIs(t, err, service.ErrNotAllowed)
	require.ErrorIs(t, w.SetIssuer(t.Context(), root, "UTDICAEM0900001", false, nil), service.ErrUnknown)
	require.ErrorIs(t, w.SetIssuer(t.Context(), root, list[0].Name, true, new(-1)), service.ErrData)
	require.NoError(t, w.SetIssuer(t.Context(), root, list[0].Name, true, new(7)))
	require.NoError(t, w.SetIssuer(t.Context(), root, list[0].Name, false, nil))

	card := situation{firmware: "4.0"}.card(t, "issuer")
	r := &reader{Card: card}
	request := w.submitted(t, alice, service.FirmwareUpdate, service.Data{})
	_, err = w.InReader(t.Context(), r, alice)
	require.Error(t, err)
	require.Zero(t, r.sent, "the card was not touched")
	w.get(t, alice, request.ID, service.Edit)
	lines := w.log(t, alice, request.ID)
	require.Equal(t, "Device Issuer CA "+list[0].Name.Holder()+" not ready. Already logged in and licenses available ? (Edit)", lines[len(lines)-1])

	added, err := w.AddIssuer(t.Context(), root)
	require.NoError(t, err)
	list, err = w.Issuers(t.Context(), alice)
	require.NoError(t, err)
	require.False(t, list[0].Current)
	require.Equal(t, service.Issuer{Name: added, Current: true, Ready: true, Licences: 1000}, list[1])
	_, err = w.Do(t.Context(), alice, request.ID, service.DoSubmit, service.Data{})
	require.NoError(t, err)
	_, err = w.InReader(t.Context(), r, alice)
	require.NoError(t, err)
	list, err = w.Issuers(t.Context(), alice)
	require.NoError(t, err)
	require.Equal(t, 999, list[1].Licences)
	require.Equal(t, 7, list[0].Licences)
	require.Equal(t, 3, w.count(t, "SELECT COUNT(*) FROM audit WHERE action = 'device issuer' AND account = ?", root.Account))
}

// A notice goes to whom it concerns and who wants it: once, with all their devices.
func TestSendNotice(t *testing.T) {
	t.Parallel()
	w := open(t)
	root := w.person(t, "root@example.org", account.Administrator)
	alice, bob, carol := w.person(t, "alice@example.org"), w.person(t, "bob@example.org"), w.person(t, "carol@example.org")
	w.register(t, alice, situation{firmware: "3.1"}.card(t, "a1"))
	w.register(t, alice, situation{firmware: "3.2"}.card(t, "a2"))
	w.register(t, bob, situation{firmware: "3.5"}.card(t, "b"))
	w.register(t, carol, situation{firmware: "3.1"}.card(t, "c"))
	a := account.New(w.store, account.Options{})
	require.NoError(t, a.SetPreferences(t.Context(), carol, account.Preferences{Requests: true}))
	_, err := w.SendNotice(t.Context(), alice, service.Sample())
	require.ErrorIs(t, err, service.ErrNotAllowed)
	for _, n := range []service.Notice{{}, {Versions: []portal.Version{{Major: 3, Minor: 1}}, Subject: " ", Text: "x"}, {Subject: "x", Text: "x"}} {
		_, err = w.SendNotice(t.Context(), root, n)
		require.ErrorIs(t, err, service.ErrData)
	}
	_, err = w.SendNotice(t.Context(), root, service.Notice{Versions: []portal.Version{{Major: 3, Minor: 1}}, Subject: "x\nBcc: y", Text: "x"})
	require.ErrorIs(t, err, account.ErrHeader)
	sent, err := w.SendNotice(t.Context(), root, service.Sample())
	require.NoError(t, err)
	require.Equal(t, 1, sent)
	require.Equal(t, []string{"Security notice for firmware 3.1 and 3.2"}, w.mails(t, "alice@example.org"))
	require.Empty(t, w.mails(t, "bob@example.org"))
	require.Empty(t, w.mails(t, "carol@example.org"))
}
