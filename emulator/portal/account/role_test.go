package account_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/portal/account"
)

// Who may do what, for each role alone (docs/protocol/portal.md, roles and menus).
func TestMay(t *testing.T) {
	t.Parallel()
	const here, elsewhere = 7, 8
	tests := map[account.Action]string{ // A S M O R C
		account.CreateTrustCenter: " S    ", account.UpdateFirmware: " S    ",
		account.SeeOutbox: "A     ", account.SeeAudit: "A     ", account.SeeAll: "A     ",
		account.SwitchIssuer: "A     ", account.SendNotice: "A     ", account.GrantAnywhere: "A     ",
		account.SeePrivate: "A MORC", account.GrantRole: "  M   ", account.AssignToken: "  MO  ",
		account.UnlockToken: "   O  ", account.AuthenticateToken: "   ORC",
		account.EnrolPerson: "    R ", account.EnrolSystem: "    R ", account.RequestCertificate: " S    ",
		"anything else": "      ",
	}
	everywhere := []account.Role{account.Administrator, account.Subscriber}
	all := append(slices.Clone(everywhere), account.TrustCenterRoles()...)
	require.Equal(t, []account.Role{"Administrator", "Subscriber", "Manager", "Operator", "Registration Officer", "Certification Officer"}, all)
	for action, who := range tests {
		for i, role := range all {
			want := who[i] != ' '
			anywhere := account.Account{Grants: []account.Grant{{Role: role}}}
			require.Equal(t, want, anywhere.May(action, here), "%s: %s", role, action)
			inOne := account.Account{Grants: []account.Grant{{Role: role, Subject: here}}}
			require.Equal(t, want, inOne.May(action, here), "%s: %s", role, action)
			require.False(t, inOne.May(action, elsewhere), "%s: %s", role, action)
			require.False(t, inOne.May(action, 0), "%s: %s", role, action)
		}
		require.False(t, account.Account{}.May(action, here))
	}
}

// Trust centers are made by subscribers, have a name of their own, and private ones
// are not there for those who have no role in them.
func TestTrustCenter(t *testing.T) {
	t.Parallel()
	s := open(t, account.Options{})
	_, admin := s.registered(t, manufacture(t, "4.1", 80), "admin@example.org")
	_, alice := s.registered(t, manufacture(t, "4.1", 81), "alice@example.org")
	_, bob := s.registered(t, manufacture(t, "4.1", 82), "bob@example.org")
	ctx := t.Context()
	public, err := s.CreateTrustCenter(ctx, alice.Actor(), "  Public   Keys GmbH ", false)
	require.NoError(t, err)
	require.Equal(t, "Public Keys GmbH", public.Name)
	private, err := s.CreateTrustCenter(ctx, alice.Actor(), "Geheim", true)
	require.NoError(t, err)
	for name, want := range map[string]error{
		"": account.ErrName, " \t": account.ErrName, "a\x00b": account.ErrName, "a\u202eb": account.ErrName, "\xff": account.ErrName,
		"0123456789012345678901234567890123456789012345678901234567890123X": account.ErrName,
		"Geheim": account.ErrTaken, "GEHEIM": account.ErrTaken, "public keys gmbh": account.ErrTaken,
	} {
		_, err := s.CreateTrustCenter(ctx, bob.Actor(), name, false)
		require.ErrorIs(t, err, want, "%q", name)
	}
	_, err = s.CreateTrustCenter(ctx, account.Actor{}, "Nobody's", false)
	require.ErrorIs(t, err, account.ErrNoAccount)

	names := func(by account.Session) (list []string) {
		found, err := s.Subjects(ctx, by.Actor(), account.Part{})
		require.NoError(t, err)
		for _, x := range found {
			list = append(list, x.Name)
		}
		return list
	}
	require.Equal(t, []string{"Public Keys GmbH", "bob@example.org"}, names(bob))
	require.Equal(t, []string{"Geheim", "Public Keys GmbH", "alice@example.org"}, names(alice))
	require.Equal(t, []string{"Geheim", "Public Keys GmbH", "admin@example.org", "alice@example.org", "bob@example.org"}, names(admin))
	for _, c := range []struct {
		account.Part
		want int
	}{{account.Part{Most: 2}, 2}, {account.Part{Skip: 1, Most: 2}, 2}, {account.Part{Skip: 4}, 1}, {account.Part{Skip: 9}, 0}, {account.Part{Kind: account.TrustCenter}, 2}, {account.Part{Kind: account.Person, Skip: 2}, 1}} {
		found, err := s.Subjects(ctx, admin.Actor(), c.Part)
		require.NoError(t, err)
		require.Len(t, found, c.want, "%+v", c.Part)
		if c.Kind == "" && c.want > 0 {
			require.Equal(t, names(admin)[c.Skip], found[0].Name)
		}
	}
	_, err = s.Subject(ctx, bob.Actor(), private.ID)
	require.ErrorIs(t, err, account.ErrNoSubject)
	require.ErrorIs(t, s.Allow(ctx, bob.Actor(), account.RequestCertificate, private.ID), account.ErrNoSubject)
	require.NoError(t, s.Allow(ctx, bob.Actor(), account.RequestCertificate, public.ID))
	require.ErrorIs(t, s.Allow(ctx, bob.Actor(), account.EnrolPerson, public.ID), account.ErrForbidden)
	require.ErrorIs(t, s.Allow(ctx, bob.Actor(), account.RequestCertificate, 99), account.ErrNoSubject)
	_, err = s.Grants(ctx, bob.Actor(), private.ID)
	require.ErrorIs(t, err, account.ErrNoSubject)

	require.NoError(t, s.Grant(ctx, alice.Actor(), account.Grant{Account: bob.Account.ID, Role: account.RegistrationOfficer, Subject: private.ID}))
	require.Equal(t, []string{"Geheim", "Public Keys GmbH", "bob@example.org"}, names(bob))
	got, err := s.Subject(ctx, bob.Actor(), private.ID)
	require.NoError(t, err)
	require.Equal(t, private, got)
	require.NoError(t, s.Allow(ctx, bob.Actor(), account.EnrolPerson, private.ID))
	require.ErrorIs(t, s.Allow(ctx, bob.Actor(), account.EnrolPerson, public.ID), account.ErrForbidden)

	server, err := s.EnrolSystem(ctx, bob.Actor(), private.ID, "www.example.org")
	require.NoError(t, err)
	require.Equal(t, account.System, server.Kind)
	_, err = s.EnrolSystem(ctx, bob.Actor(), private.ID, "WWW.example.org")
	require.ErrorIs(t, err, account.ErrTaken)
	_, err = s.EnrolSystem(ctx, bob.Actor(), private.ID, "")
	require.ErrorIs(t, err, account.ErrName)
	_, err = s.EnrolSystem(ctx, alice.Actor(), private.ID, "ftp.example.org")
	require.ErrorIs(t, err, account.ErrForbidden)
	_, err = s.EnrolSystem(ctx, bob.Actor(), server.ID, "ftp.example.org")
	require.ErrorIs(t, err, account.ErrNoSubject)
	require.Contains(t, names(bob), "www.example.org")
	require.NotContains(t, names(alice), "www.example.org")
}

// Roles are granted and revoked by a Manager, each in his trust center, and those for
// the whole portal by an Administrator.
func TestGrantAndRevoke(t *testing.T) {
	t.Parallel()
	s := open(t, account.Options{})
	_, admin := s.registered(t, manufacture(t, "4.1", 83), "admin@example.org")
	_, alice := s.registered(t, manufacture(t, "4.1", 84), "alice@example.org")
	_, bob := s.registered(t, manufacture(t, "4.1", 85), "bob@example.org")
	ctx := t.Context()
	ours, err := s.CreateTrustCenter(ctx, alice.Actor(), "Ours", false)
	require.NoError(t, err)
	theirs, err := s.CreateTrustCenter(ctx, bob.Actor(), "Theirs", true)
	require.NoError(t, err)
	grant := func(by account.Session, to account.Session, r account.Role, in int64) error {
		return s.Grant(ctx, by.Actor(), account.Grant{Account: to.Account.ID, Role: r, Subject: in})
	}
	revoke := func(by account.Session, to account.Session, r account.Role, in int64) error {
		return s.Revoke(ctx, by.Actor(), account.Grant{Account: to.Account.ID, Role: r, Subject: in})
	}
	for _, r := range account.TrustCenterRoles() {
		require.ErrorIs(t, grant(bob, bob, r, ours.ID), account.ErrForbidden, r)
	}
	for _, r := range account.TrustCenterRoles() {
		require.ErrorIs(t, grant(alice, alice, r, theirs.ID), account.ErrNoSubject, r)
		require.NoError(t, grant(alice, bob, r, ours.ID), r)
		require.ErrorIs(t, grant(alice, bob, r, 0), account.ErrForbidden, r)
	}
	list, err := s.Grants(ctx, alice.Actor(), ours.ID)
	require.NoError(t, err)
	require.Len(t, list, 5)
	require.NoError(t, revoke(bob, alice, account.Manager, ours.ID))
	require.ErrorIs(t, grant(alice, alice, account.Operator, ours.ID), account.ErrForbidden)
	require.ErrorIs(t, revoke(bob, bob, account.Manager, ours.ID), account.ErrLastRole)
	found, err := s.Account(ctx, bob.Account.ID)
	require.NoError(t, err)
	require.True(t, found.Has(account.Manager, ours.ID), "nothing of a refusal stays")
	require.NoError(t, revoke(bob, bob, account.Operator, ours.ID))
	require.NoError(t, revoke(bob, bob, account.Operator, ours.ID))

	for _, r := range []account.Role{account.Administrator, account.Subscriber, "King", ""} {
		require.ErrorIs(t, grant(bob, bob, r, ours.ID), account.ErrRole, r)
	}
	person, err := s.Subjects(ctx, bob.Actor(), account.Part{})
	require.NoError(t, err)
	require.ErrorIs(t, grant(bob, bob, account.Operator, person[len(person)-1].ID), account.ErrRole)
	require.ErrorIs(t, grant(bob, bob, account.Operator, 99), account.ErrNoSubject)
	require.ErrorIs(t, s.Grant(ctx, bob.Actor(), account.Grant{Account: 99, Role: account.Operator, Subject: ours.ID}), account.ErrNoAccount)

	require.ErrorIs(t, revoke(admin, admin, account.Administrator, 0), account.ErrLastRole)
	require.NoError(t, grant(admin, alice, account.Administrator, 0))
	require.NoError(t, revoke(alice, admin, account.Administrator, 0))
	require.ErrorIs(t, grant(admin, admin, account.Administrator, 0), account.ErrForbidden)
	require.NoError(t, revoke(alice, bob, account.Subscriber, 0))
	_, err = s.CreateTrustCenter(ctx, bob.Actor(), "Another", false)
	require.ErrorIs(t, err, account.ErrForbidden)
	_, err = s.Grants(ctx, bob.Actor(), 0)
	require.ErrorIs(t, err, account.ErrForbidden)
	// The first account is a Manager everywhere.
	require.NoError(t, grant(admin, alice, account.Operator, theirs.ID))
}
