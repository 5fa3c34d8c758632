package service_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/chip"
	"hsmemu/emulator/chiptest"
	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/records"
	"hsmemu/emulator/portal/service"
)

// Whoever has a role in one trust center sends a form that names another one: the role
// counts where the request goes, and not where it came from.
func TestDo_NoRoleInTheOtherTrustCenter(t *testing.T) {
	t.Parallel()
	w := open(t)
	mine, other := w.center(t, "Mine", false), w.center(t, "Other", false)
	mallory := mine.ca
	w.write(t, func(tx *records.Tx) error {
		_, err := tx.Exec("INSERT INTO roles (account, role, subject) VALUES (?, ?, ?)", mallory.Account, string(account.Operator), mine.id)
		return err
	})
	crls := func() int { return w.count(t, "SELECT SUM(crl_number) FROM authorities") }
	for _, c := range []struct {
		kind service.Type
		form service.Data
	}{
		{service.RevocationList, service.Data{}},
		{service.Production, service.Data{Firmware: "4.1"}},
	} {
		own, foreign := c.form, c.form
		own.Center, foreign.Center = mine.id, other.id
		_, err := w.Start(t.Context(), mallory, c.kind, foreign)
		require.ErrorIs(t, err, service.ErrNotAllowed)
		r, err := w.Start(t.Context(), mallory, c.kind, own)
		require.NoError(t, err)
		before := crls()
		for _, a := range []service.Action{service.DoSave, service.DoSubmit} {
			_, err = w.Do(t.Context(), mallory, r.ID, a, foreign)
			require.ErrorIs(t, err, service.ErrNotAllowed, "%s %s", c.kind, a)
		}
		require.Equal(t, before, crls())
		require.Equal(t, mine.id, w.get(t, mallory, r.ID, service.Edit).Data.Center)
		_, err = w.Do(t.Context(), mallory, r.ID, service.DoSubmit, own)
		require.NoError(t, err)
	}
}

// A role that is taken away counts no more, also for what was submitted before.
func TestProduction_RoleRevokedInTheMiddle(t *testing.T) {
	t.Parallel()
	w := open(t)
	operator := w.person(t, "operator@example.org", account.Operator)
	r := w.submitted(t, operator, service.Production, service.Data{Firmware: "4.1"})
	w.write(t, func(tx *records.Tx) error {
		_, err := tx.Exec("DELETE FROM roles WHERE account = ? AND role = ?", operator.Account, string(account.Operator))
		return err
	})
	card := blank(t, "4.1", "blank of a former operator")
	in := &reader{Card: card}
	done, err := w.InReader(t.Context(), in, operator)
	require.True(t, done)
	require.ErrorIs(t, err, service.ErrNotAllowed)
	require.Equal(t, "that is not possible now, or not for you: the role for it is gone", in.notices[len(in.notices)-2].Text)
	require.Equal(t, 1000, w.count(t, "SELECT licences FROM issuers"))
	require.Zero(t, w.count(t, "SELECT COUNT(*) FROM devices"))
	w.get(t, operator, r.ID, service.Edit)
}

// What is wrong with a form is told as such, whatever package found it.
func TestDo_WrongFormsAreDataErrors(t *testing.T) {
	t.Parallel()
	w := open(t)
	c := w.center(t, "Acme", false)
	alice := w.person(t, "alice@example.org")
	operator := w.person(t, "operator@example.org", account.Operator)
	good := service.Data{Center: c.id, Profile: "TLSServer", Request: pkcs10(t, "www.example.org", "www.example.org")}
	with := func(change func(*service.Data)) service.Data { d := good; change(&d); return d }
	for name, c := range map[string]struct {
		by   service.Actor
		kind service.Type
		form service.Data
	}{
		"profile":      {alice, service.Certificate, with(func(d *service.Data) { d.Profile = "Root" })},
		"no request":   {alice, service.Certificate, with(func(d *service.Data) { d.Request = []byte("none") })},
		"common name":  {alice, service.Certificate, with(func(d *service.Data) { d.CommonName = "a\x00b" })},
		"bidi":         {alice, service.Certificate, with(func(d *service.Data) { d.CommonName = "moc.elpmaxe\u202E" })},
		"host":         {alice, service.Certificate, with(func(d *service.Data) { d.Hosts = []string{"*.example.org"} })},
		"header":       {alice, service.Certificate, with(func(d *service.Data) { d.Profile, d.Email = "EmailAndTLSClient", "a@example.org\r\nBcc: b@example.org" })},
		"devnet":       {alice, service.DevNet, service.Data{Request: []byte{1}, Device: []byte{2}}},
		"center":       {alice, service.TrustCenter, service.Data{Name: "a\nb\x01"}},
		"taken":        {alice, service.TrustCenter, service.Data{Name: "ACME"}},
		"firmware":     {operator, service.Production, service.Data{Firmware: "9.9"}},
		"firmware SQL": {operator, service.Production, service.Data{Firmware: "4.1'; DROP TABLE requests; --"}},
	} {
		r, err := w.Start(t.Context(), c.by, c.kind, c.form)
		require.NoError(t, err, name)
		_, err = w.Do(t.Context(), c.by, r.ID, service.DoSubmit, service.Data{})
		require.ErrorIs(t, err, service.ErrData, name)
		w.get(t, c.by, r.ID, service.Edit)
	}
}

// A device that has the path of somebody's token and another key is another device:
// what was submitted for the token is not for it, and its update leaves the token to its
// owner.
func TestUpdate_PathOfAnotherDevice(t *testing.T) {
	t.Parallel()
	w := open(t)
	alice, mallory := w.person(t, "alice@example.org"), w.person(t, "mallory@example.org")
	make := func(seed string) *chiptest.Card {
		env := chiptest.World(seed)
		d, err := chip.Manufacture(env, chip.Order{Firmware: "4.0", Serial: "DENK9700001"})
		require.NoError(t, err)
		card := &chiptest.Card{Name: seed, Env: env, State: chip.Boot(d)}
		initialise(t, card, false, 0, 0)
		return card
	}
	hers, lie := make("hers"), make("lie")
	token := w.register(t, alice, hers)
	waiting := w.submitted(t, alice, service.FirmwareUpdate, service.Data{Token: token})
	r := &reader{Card: lie}
	require.NoError(t, w.Unannounced(t.Context(), r))
	require.Equal(t, service.TextNothing, r.last().Text)
	w.get(t, alice, waiting.ID, service.Submit)

	w.submitted(t, mallory, service.FirmwareUpdate, service.Data{})
	done, err := w.InReader(t.Context(), &reader{Card: lie}, mallory)
	require.NoError(t, err)
	require.True(t, done)
	require.Equal(t, "4.1", lie.Durable().Firmware)
	require.Equal(t, 1, w.count(t, "SELECT COUNT(*) FROM tokens WHERE status = 'active'"), "it is hers still")
	w.get(t, alice, waiting.ID, service.Submit)
	require.NoError(t, w.Unannounced(t.Context(), &reader{Card: hers}))
	w.get(t, alice, waiting.ID, service.Completed)
	require.Equal(t, 0, w.count(t, "SELECT COUNT(*) FROM tokens WHERE status = 'active'"))
}
