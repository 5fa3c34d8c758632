package account

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"hsmemu/emulator/portal/records"
)

// Role is what somebody is at the portal, or in a trust center.
type Role string

// The roles.
const (
	// Administrator looks after the portal itself.
	Administrator Role = "Administrator"
	// Subscriber is everybody who has an account.
	Subscriber Role = "Subscriber"
	// Manager decides who has which role in a trust center.
	Manager Role = "Manager"
	// Operator looks after the tokens of a trust center, and makes new ones.
	Operator Role = "Operator"
	// RegistrationOfficer approves what is asked of a trust center.
	RegistrationOfficer Role = "Registration Officer"
	// CertificationOfficer issues what was approved.
	CertificationOfficer Role = "Certification Officer"
)

// roles are all of them. Those of a trust center are held in one, or everywhere,
// which only an Administrator grants.
var roles = []struct {
	Role
	trustCenter bool
}{
	{Administrator, false},
	{Subscriber, false},
	{Manager, true},
	{Operator, true},
	{RegistrationOfficer, true},
	{CertificationOfficer, true},
}

func everyRole() []Role {
	var all []Role
	for _, r := range roles {
		all = append(all, r.Role)
	}
	return all
}

// TrustCenterRoles are those that somebody can have in a trust center.
func TrustCenterRoles() []Role {
	var list []Role
	for _, r := range roles {
		if r.trustCenter {
			list = append(list, r.Role)
		}
	}
	return list
}

// Grant is a role that an account has.
type Grant struct {
	Account int64
	Role    Role
	// Subject is the trust center in which the account has it, 0 for the whole
	// portal.
	Subject int64
}

// Action is something that takes a role.
type Action string

// The actions. Those in the first group have no subject, the others are done in a
// trust center.
const (
	CreateTrustCenter Action = "create a trust center"
	UpdateFirmware    Action = "update firmware"
	SeeOutbox         Action = "see the outbox"
	SeeAudit          Action = "see the audit log"
	SeeAll            Action = "see every subject and request"
	SwitchIssuer      Action = "switch a device issuer"
	SendNotice        Action = "send a security notice"
	GrantAnywhere     Action = "grant roles for the whole portal"

	SeePrivate         Action = "see a private trust center"
	GrantRole          Action = "grant roles"
	AssignToken        Action = "add and remove tokens"
	UnlockToken        Action = "unlock tokens"
	AuthenticateToken  Action = "authenticate to tokens"
	EnrolPerson        Action = "enroll a person"
	EnrolSystem        Action = "enroll a system"
	RequestCertificate Action = "request a certificate"
)

// allowed says which roles may do what. An action that is not in it is nobody's. Who
// takes which step with a service request is in a table of package service.
var allowed = map[Action][]Role{
	CreateTrustCenter: {Subscriber},
	UpdateFirmware:    {Subscriber},
	SeeOutbox:         {Administrator},
	SeeAudit:          {Administrator},
	SeeAll:            {Administrator},
	SwitchIssuer:      {Administrator},
	SendNotice:        {Administrator},
	GrantAnywhere:     {Administrator},

	SeePrivate:         {Administrator, Manager, Operator, RegistrationOfficer, CertificationOfficer},
	GrantRole:          {Manager},
	AssignToken:        {Manager, Operator},
	UnlockToken:        {Operator},
	AuthenticateToken:  {Operator, RegistrationOfficer, CertificationOfficer},
	EnrolPerson:        {RegistrationOfficer},
	EnrolSystem:        {RegistrationOfficer},
	RequestCertificate: {Subscriber},
}

// Has reports whether the account has a role in a trust center, or in the whole
// portal, which is 0.
func (a Account) Has(r Role, subject int64) bool {
	return slices.ContainsFunc(a.Grants, func(g Grant) bool { return g.Role == r && (g.Subject == 0 || g.Subject == subject) })
}

// May reports whether the account may do something: in a trust center, or, for
// subject 0, at the portal. Nobody may see or ask anything of a private trust center
// without a role there; that is for [Accounts.Allow] to find out.
func (a Account) May(do Action, subject int64) bool {
	return slices.ContainsFunc(allowed[do], func(r Role) bool { return a.Has(r, subject) })
}

// Allow returns nil if the actor may do something, by the roles that he has within
// the transaction. Errors: ErrForbidden, ErrNoSubject for a trust center that there
// is not, or that is private and not his to see.
func Allow(tx *records.Tx, by Actor, do Action, subject int64) error {
	who, err := accountBy(tx, "id", by.Account)
	if err != nil {
		return err
	}
	if subject != 0 {
		s, err := subjectByID(tx, subject)
		if err != nil {
			return err
		}
		if s.Private && !who.May(SeePrivate, subject) {
			return ErrNoSubject
		}
	}
	if !who.May(do, subject) {
		return fmt.Errorf("%w: %s", ErrForbidden, do)
	}
	return nil
}

// Allow is the function of that name in a transaction of its own.
func (a *Accounts) Allow(ctx context.Context, by Actor, do Action, subject int64) error {
	return a.store.Read(ctx, func(tx *records.Tx) error { return Allow(tx, by, do, subject) })
}

// grants loads roles.
func grants(tx *records.Tx, condition string, values ...any) (list []Grant, err error) {
	err = tx.Each(func(scan func(...any) error) error {
		var g Grant
		err := scan(&g.Account, &g.Role, &g.Subject)
		list = append(list, g)
		return err
	}, "SELECT account, role, COALESCE(subject, 0) FROM roles WHERE "+condition+" ORDER BY account, role, subject", values...)
	return list, err
}

// Grants are the roles in a trust center, or those for the whole portal if subject is
// 0, for whoever may see it. Errors: ErrNoSubject, ErrForbidden.
func (a *Accounts) Grants(ctx context.Context, by Actor, subject int64) (list []Grant, err error) {
	err = a.store.Read(ctx, func(tx *records.Tx) error {
		see := SeePrivate
		if subject == 0 {
			see = GrantAnywhere
		}
		if err := Allow(tx, by, see, subject); err != nil {
			return err
		}
		list, err = grants(tx, "COALESCE(subject, 0) = ?", subject)
		return err
	})
	return list, err
}

// check refuses a role that is none there, and an actor who may not decide on it.
func (g Grant) check(tx *records.Tx, by Actor) error {
	at := slices.IndexFunc(roles, func(r struct {
		Role
		trustCenter bool
	},
	) bool {
		return r.Role == g.Role
	})
	if at < 0 || g.Subject != 0 && !roles[at].trustCenter {
		return fmt.Errorf("%w: %q", ErrRole, string(g.Role))
	}
	if g.Subject == 0 {
		return Allow(tx, by, GrantAnywhere, 0)
	}
	s, err := subjectByID(tx, g.Subject)
	if err == nil && s.Kind != TrustCenter {
		err = fmt.Errorf("%w: %s is no trust center", ErrRole, s.Name)
	}
	if err != nil {
		return err
	}
	return Allow(tx, by, GrantRole, g.Subject)
}

// Grant gives an account a role: a Manager of the trust center does, or an
// Administrator for the whole portal. That it has the role is no error. Errors:
// ErrForbidden, ErrRole, ErrNoSubject, ErrNoAccount.
func (a *Accounts) Grant(ctx context.Context, by Actor, g Grant) error {
	return a.store.Write(ctx, func(tx *records.Tx) error {
		if err := g.check(tx, by); err != nil {
			return err
		}
		to, err := accountBy(tx, "id", g.Account)
		if err != nil {
			return err
		}
		r, err := tx.Exec("INSERT OR IGNORE INTO roles (account, role, subject) VALUES (?, ?, NULLIF(?, 0))", g.Account, string(g.Role), g.Subject)
		if err != nil {
			return err
		}
		return g.changed(tx, by, r, "grant role", to.Email)
	})
}

// Revoke takes a role away from an account. That it does not have it is no error.
// Errors: as for Grant, and ErrLastRole for the last Manager of a trust center and
// the last Administrator.
func (a *Accounts) Revoke(ctx context.Context, by Actor, g Grant) error {
	return a.store.Write(ctx, func(tx *records.Tx) error {
		if err := g.check(tx, by); err != nil {
			return err
		}
		from, err := accountBy(tx, "id", g.Account)
		if err != nil {
			return err
		}
		r, err := tx.Exec("DELETE FROM roles WHERE account = ? AND role = ? AND COALESCE(subject, 0) = ?", g.Account, string(g.Role), g.Subject)
		if err != nil {
			return err
		}
		if g.Role == Administrator || g.Role == Manager && g.Subject != 0 {
			var left int
			err := tx.QueryRow("SELECT COUNT(*) FROM roles WHERE role = ? AND COALESCE(subject, 0) = ?", string(g.Role), g.Subject).Scan(&left)
			if err == nil && left == 0 {
				err = ErrLastRole
			}
			if err != nil {
				return err
			}
		}
		return g.changed(tx, by, r, "revoke role", from.Email)
	})
}

// changed writes the audit log if a statement changed something.
func (g Grant) changed(tx *records.Tx, by Actor, r sql.Result, action, email string) error {
	n, err := r.RowsAffected()
	if err != nil || n == 0 {
		return err
	}
	detail := string(g.Role)
	if g.Subject != 0 {
		s, err := subjectByID(tx, g.Subject)
		if err != nil {
			return err
		}
		detail += " of " + s.Name
	}
	return tx.Audit(by.event(action, email, detail))
}
