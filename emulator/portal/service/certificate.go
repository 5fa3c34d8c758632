package service

import (
	"context"
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"

	"hsmemu/applet/cvc"
	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/pki"
	"hsmemu/emulator/portal/records"
)

// Issued is a certificate that a request has led to.
type Issued struct {
	Request, Authority int64
	// Certificate is in DER, and Chain what is above it, its issuer first.
	Certificate []byte
	Chain       [][]byte
	Issued      time.Time
	// Accepted and Revoked are zero as long as it is neither; Reason is why it was
	// revoked.
	Accepted, Revoked time.Time
	Reason            pki.Reason
}

// addAuthority stores an authority, of a trust center or of none, with its first
// revocation list.
func addAuthority(tx *records.Tx, s *records.Store, center any, name string, a pki.Authority) error {
	id, err := tx.Insert("INSERT INTO authorities (subject, name, certificate, key_sealed) VALUES (?, ?, ?, x'')", center, name, a.Certificate)
	if err != nil {
		return err
	}
	sealed, err := tx.Seal(authorityPlace(id), a.Key)
	if err != nil {
		return err
	}
	if _, err = tx.Exec("UPDATE authorities SET key_sealed = ? WHERE id = ?", sealed, id); err != nil {
		return err
	}
	_, err = newCRL(tx, s, id)
	return err
}

// authorityPlace is where the key of an authority is sealed for.
func authorityPlace(id int64) string { return fmt.Sprintf("authorities.key %d", id) }

// authority is one that is ready to sign: that of a trust center, or of the developer
// network for 0. Error: ErrUnknown.
func authority(tx *records.Tx, center int64) (id int64, i *pki.Issuer, err error) {
	err = tx.QueryRow("SELECT id FROM authorities WHERE COALESCE(subject, 0) = ? ORDER BY id DESC LIMIT 1", center).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil, fmt.Errorf("%w: the trust center has no signer", ErrUnknown)
	}
	if err != nil {
		return 0, nil, err
	}
	i, err = openAuthority(tx, id)
	return id, i, err
}

// openAuthority opens an authority by its row.
func openAuthority(tx *records.Tx, id int64) (*pki.Issuer, error) {
	var a pki.Authority
	var sealed []byte
	if err := tx.QueryRow("SELECT certificate, key_sealed FROM authorities WHERE id = ?", id).Scan(&a.Certificate, &sealed); err != nil {
		return nil, err
	}
	key, err := tx.Open(authorityPlace(id), sealed)
	if err != nil {
		return nil, err
	}
	a.Key = key
	return a.Open()
}

// createCenter makes a trust center with a signer of its own.
func createCenter(d *deed) error {
	r := &d.request
	made, err := account.NewTrustCenter(d.tx, d.by, r.Data.Name, r.Data.Private)
	if errors.Is(err, account.ErrName) || errors.Is(err, account.ErrTaken) {
		return wrong(err)
	}
	if err != nil {
		return err
	}
	if err := d.addSigner(made.ID, made.Name, made.Name); err != nil {
		return err
	}
	r.Data.Center = made.ID
	_, err = d.tx.Exec("UPDATE requests SET subject = ? WHERE id = ?", made.ID, r.ID)
	return err
}

// addSigner makes an authority of a trust center, which is the one that certifies from
// now on. What it is called is in no other authority's name.
func (d *deed) addSigner(id int64, center, name string) error {
	quote := strings.NewReplacer(`\`, `\\`, `,`, `\,`).Replace
	subject := fmt.Sprintf("C=XX, O=%s, CN=%s", quote(center), quote(name))
	var taken bool
	if err := d.tx.QueryRow("SELECT EXISTS (SELECT 1 FROM authorities WHERE name = ?)", subject).Scan(&taken); err != nil {
		return err
	}
	if taken {
		return wrong(fmt.Errorf("%w: %s", account.ErrTaken, subject))
	}
	a, err := pki.NewRoot(d.s.Records.Rand(), pki.Root{Subject: subject, Kind: pki.P256, PathLength: 1, At: d.tx.Now()})
	if err != nil {
		return wrong(err)
	}
	d.detail = subject
	return addAuthority(d.tx, d.s.Records, id, subject, a)
}

// createSigner makes another authority of a trust center. Certificates of the older
// ones stay valid and can be revoked.
func createSigner(d *deed) error {
	f := d.request.Data
	switch {
	case f.Center == 0:
		return missing("a trust center")
	case f.Name == "":
		return missing("a name")
	}
	var center string
	err := d.tx.QueryRow("SELECT name FROM subjects WHERE id = ? AND kind = ?", f.Center, string(account.TrustCenter)).Scan(&center)
	if errors.Is(err, sql.ErrNoRows) {
		return missing("a trust center")
	}
	if err != nil {
		return err
	}
	return d.addSigner(f.Center, center, f.Name)
}

// checkCertificate reads a request for a certificate before it is submitted. What the
// form leaves open is taken from the request, for the officer to approve.
func checkCertificate(d *deed) error {
	f := &d.request.Data
	if f.Center == 0 {
		return missing("a trust center")
	}
	profile, err := pki.ProfileNamed(f.Profile)
	if err != nil {
		return wrong(err)
	}
	if len(f.Request) == 0 {
		return missing("a request")
	}
	asked, err := pki.ParsePKCS10(f.Request)
	if err != nil {
		return wrong(err)
	}
	if f.CommonName == "" {
		f.CommonName = asked.Asked.CommonName
	}
	if len(f.Hosts) == 0 && profile.Alternative == pki.ByHost {
		f.Hosts = asked.Asked.Hosts
	}
	if f.Email == "" {
		if f.Email = asked.Asked.Email; f.Email == "" {
			if f.Email, err = address(d.tx, d.request.Account); err != nil {
				return err
			}
		}
	}
	if f.CommonName == "" {
		return missing("a common name")
	}
	_, i, err := authority(d.tx, f.Center)
	if err != nil {
		return wrong(err)
	}
	// The profile's rule decides what can be certified. What is issued here to try it
	// is thrown away.
	if _, err = i.Issue(d.s.Records.Rand(), d.order(profile, asked, nil)); err != nil {
		return wrong(err)
	}
	data, err := json.Marshal(*f)
	if err == nil {
		_, err = d.tx.Exec("UPDATE requests SET data = ? WHERE id = ?", string(data), d.request.ID)
	}
	return err
}

// address is that of an account.
func address(tx *records.Tx, id int64) (email string, err error) {
	return email, tx.QueryRow("SELECT email FROM accounts WHERE id = ?", id).Scan(&email)
}

// order is what an authority is asked for.
func (d *deed) order(p pki.Profile, r pki.Request, crl []string) pki.Order {
	f := d.request.Data
	return pki.Order{
		Profile: p, Request: r, At: d.tx.Now(), CRL: crl,
		Subject: pki.Subject{CommonName: f.CommonName, Email: f.Email, Hosts: f.Hosts},
	}
}

// issueCertificate certifies what was approved.
func issueCertificate(d *deed) error {
	profile, err := pki.ProfileNamed(d.request.Data.Profile)
	if err != nil {
		return err
	}
	asked, err := pki.ParsePKCS10(d.request.Data.Request)
	if err != nil {
		return err
	}
	return d.issue(d.request.Data.Center, profile, asked)
}

// issue certifies a key and stores the certificate.
func (d *deed) issue(center int64, p pki.Profile, r pki.Request) error {
	id, i, err := authority(d.tx, center)
	if err != nil {
		return err
	}
	var crl []string
	if d.s.ListURL != nil {
		crl = []string{d.s.ListURL(id)}
	}
	c, err := i.Issue(d.s.Records.Rand(), d.order(p, r, crl))
	if err != nil {
		return wrong(err)
	}
	return d.keep(id, c)
}

// issueDevNet certifies a key that a registered card of the account has made and holds.
// The address is that of the account, which an activation code has proven.
func issueDevNet(d *deed) error {
	f := &d.request.Data
	if len(f.Request) == 0 || len(f.Device) == 0 {
		return missing("the request or the device certificate of a card")
	}
	r, err := pki.ParseCard(f.Request, f.Device, cvc.EmulatorRoots())
	if err != nil {
		return wrong(err)
	}
	var registered bool
	err = d.tx.QueryRow("SELECT EXISTS (SELECT 1 FROM tokens WHERE path = ? AND account = ? AND status = 'active')",
		r.Attestation.Path(), d.request.Account).Scan(&registered)
	if err != nil {
		return err
	}
	if !registered {
		return wrong(fmt.Errorf("%w: %s is not registered with this account", ErrData, r.Attestation.Path()))
	}
	if f.Email, err = address(d.tx, d.request.Account); err != nil {
		return err
	}
	if f.CommonName == "" {
		f.CommonName = f.Email
	}
	profile, err := pki.ProfileNamed("EmailAndTLSClient")
	if err != nil {
		return err
	}
	return d.issue(0, profile, r)
}

// acceptCertificate notes that the subscriber has the certificate.
func acceptCertificate(d *deed) error {
	_, err := d.tx.Exec("UPDATE certificates SET accepted = ? WHERE request = ?", d.tx.Now().Unix(), d.request.ID)
	return err
}

// revokeCertificate takes a certificate back, and issues the revocation list that says
// so.
func revokeCertificate(d *deed) error {
	var id int64
	if err := d.tx.QueryRow("SELECT authority FROM certificates WHERE request = ?", d.request.ID).Scan(&id); err != nil {
		return err
	}
	_, err := d.tx.Exec("UPDATE certificates SET revoked = ?, reason = ? WHERE request = ?", d.tx.Now().Unix(), d.given.Reason, d.request.ID)
	if err != nil {
		return err
	}
	number, err := d.newCRL(id)
	d.detail = fmt.Sprintf("%s, CRL %d", pki.Reason(d.given.Reason), number)
	return err
}

// issueCRL issues the revocation lists of a trust center's signers anew.
func issueCRL(d *deed) error {
	if d.request.Data.Center == 0 {
		return missing("a trust center")
	}
	var all []int64
	err := d.tx.Each(func(scan func(...any) error) error {
		var id int64
		err := scan(&id)
		all = append(all, id)
		return err
	}, "SELECT id FROM authorities WHERE subject = ? ORDER BY id", d.request.Data.Center)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return wrong(fmt.Errorf("%w: the trust center has no signer", ErrUnknown))
	}
	var numbers []string
	for _, id := range all {
		number, err := d.newCRL(id)
		if err != nil {
			return err
		}
		numbers = append(numbers, fmt.Sprintf("CRL %d", number))
	}
	d.detail = strings.Join(numbers, ", ")
	return nil
}

func (d *deed) newCRL(id int64) (uint64, error) { return newCRL(d.tx, d.s.Records, id) }

// newCRL issues a revocation list. A reason that there is not is the caller's mistake.
func newCRL(tx *records.Tx, s *records.Store, id int64) (number uint64, err error) {
	i, err := openAuthority(tx, id)
	if err != nil {
		return 0, err
	}
	if err := tx.QueryRow("SELECT crl_number + 1 FROM authorities WHERE id = ?", id).Scan(&number); err != nil {
		return 0, err
	}
	var revoked []pki.Revocation
	err = tx.Each(func(scan func(...any) error) error {
		var serial []byte
		var at int64
		var reason int
		err := scan(&serial, &at, &reason)
		revoked = append(revoked, pki.Revocation{Serial: new(big.Int).SetBytes(serial), At: time.Unix(at, 0), Reason: pki.Reason(reason)})
		return err
	}, "SELECT serial, revoked, COALESCE(reason, 0) FROM certificates WHERE authority = ? AND revoked IS NOT NULL ORDER BY id", id)
	if err != nil {
		return 0, err
	}
	der, err := i.CRL(s.Rand(), number, tx.Now(), revoked)
	if errors.Is(err, pki.ErrRevocation) {
		return 0, wrong(err)
	}
	if err != nil {
		return 0, err
	}
	_, err = tx.Exec("UPDATE authorities SET crl_number = ?, crl = ? WHERE id = ?", number, der, id)
	return number, err
}

// CRL is the last revocation list of an authority, in DER; anybody may have it. Error:
// ErrUnknown.
func (s *Service) CRL(ctx context.Context, authority int64) (der []byte, err error) {
	err = s.Records.Read(ctx, func(tx *records.Tx) error {
		err := tx.QueryRow("SELECT crl FROM authorities WHERE id = ?", authority).Scan(&der)
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("%w: revocation list %d", ErrUnknown, authority)
		}
		return err
	})
	return der, err
}

// listRenewal is how long before the end of a revocation list the next one is issued.
const listRenewal = 3 * 24 * time.Hour

// RenewLists issues the revocation lists anew that end soon, so that who checks a
// certificate finds one that holds. It returns how many.
func (s *Service) RenewLists(ctx context.Context) (n int, err error) {
	var ending []int64
	err = s.Records.Read(ctx, func(tx *records.Tx) error {
		return tx.Each(func(scan func(...any) error) error {
			var id int64
			var der []byte
			if err := scan(&id, &der); err != nil {
				return err
			}
			list, err := x509.ParseRevocationList(der)
			if err == nil && list.NextUpdate.Sub(tx.Now()) < listRenewal {
				ending = append(ending, id)
			}
			return err
		}, "SELECT id, crl FROM authorities WHERE crl IS NOT NULL ORDER BY id")
	})
	if err != nil || len(ending) == 0 {
		return 0, err
	}
	err = s.Records.Write(ctx, func(tx *records.Tx) error {
		for _, id := range ending {
			number, err := newCRL(tx, s.Records, id)
			if err != nil {
				return err
			}
			if err := tx.Audit(records.Event{Action: "renew a revocation list", Object: strconv.FormatInt(id, 10), Detail: fmt.Sprintf("CRL %d", number)}); err != nil {
				return err
			}
		}
		return nil
	})
	return len(ending), err
}

// Authority is a certification authority of the portal.
type Authority struct {
	ID int64
	// Center is the trust center that it belongs to, 0 for the developer network's.
	Center int64
	Name   string
	// Certificate is its own, in DER.
	Certificate []byte
	// CRLNumber is that of the last revocation list.
	CRLNumber uint64
}

// Authorities are those of the developer network and of the trust centers that an actor
// may see.
func (s *Service) Authorities(ctx context.Context, by Actor) (list []Authority, err error) {
	err = s.Records.Read(ctx, func(tx *records.Tx) error {
		var all []Authority
		err := tx.Each(func(scan func(...any) error) error {
			var a Authority
			err := scan(&a.ID, &a.Center, &a.Name, &a.Certificate, &a.CRLNumber)
			all = append(all, a)
			return err
		}, "SELECT id, COALESCE(subject, 0), name, certificate, crl_number FROM authorities ORDER BY id")
		if err != nil {
			return err
		}
		for _, a := range all {
			if a.Center != 0 {
				switch err := account.Allow(tx, by, account.RequestCertificate, a.Center); {
				case errors.Is(err, account.ErrNoSubject), errors.Is(err, account.ErrForbidden), errors.Is(err, account.ErrNoAccount):
					continue
				case err != nil:
					return err
				}
			}
			list = append(list, a)
		}
		return nil
	})
	return list, err
}

// Issued is the certificate of a request. Error: ErrUnknown, also for a request that is
// not the actor's to see.
func (s *Service) Issued(ctx context.Context, by Actor, request int64) (c Issued, err error) {
	err = s.Records.Read(ctx, func(tx *records.Tx) error {
		if _, err := s.visible(tx, by, request); err != nil {
			return err
		}
		var issued int64
		var accepted, revoked, reason sql.NullInt64
		err := tx.QueryRow("SELECT authority, certificate, issued, accepted, revoked, reason FROM certificates WHERE request = ?", request).
			Scan(&c.Authority, &c.Certificate, &issued, &accepted, &revoked, &reason)
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("%w: a certificate of request %d", ErrUnknown, request)
		}
		if err != nil {
			return err
		}
		c.Request, c.Issued, c.Reason = request, time.Unix(issued, 0).UTC(), pki.Reason(reason.Int64)
		for _, m := range []struct {
			from sql.NullInt64
			to   *time.Time
		}{{accepted, &c.Accepted}, {revoked, &c.Revoked}} {
			if m.from.Valid {
				*m.to = time.Unix(m.from.Int64, 0).UTC()
			}
		}
		var above []byte
		err = tx.QueryRow("SELECT certificate FROM authorities WHERE id = ?", c.Authority).Scan(&above)
		c.Chain = [][]byte{above}
		return err
	})
	return c, err
}

// X509 is the certificate as the standard library has it.
func (c Issued) X509() (*x509.Certificate, error) { return x509.ParseCertificate(c.Certificate) }
