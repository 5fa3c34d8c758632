package service

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/pki"
	"hsmemu/emulator/portal/records"
)

// ErrRevoked says that a certificate was revoked.
var ErrRevoked = errors.New("the certificate was revoked")

// DevNetAuthority is the developer network's authority, ready to sign, with its row.
func (s *Service) DevNetAuthority(ctx context.Context) (id int64, i *pki.Issuer, err error) {
	err = s.Records.Read(ctx, func(tx *records.Tx) error {
		id, i, err = authority(tx, 0)
		return err
	})
	return id, i, err
}

// Record keeps a certificate that the developer network's authority has issued for a
// confirmed address without a service request: it becomes a completed one, by which it
// can be revoked. That belongs to the account of the address, if there is one. The
// device is the path of the card that made the key.
func (s *Service) Record(ctx context.Context, c *x509.Certificate, device, email string) error {
	return s.Records.Write(ctx, func(tx *records.Tx) error { return s.RecordIn(tx, c, device, email) })
}

// RecordIn is Record within a transaction that has more to write.
func (s *Service) RecordIn(tx *records.Tx, c *x509.Certificate, device, email string) error {
	address, err := account.ParseAddress(email)
	if err != nil {
		return wrong(err)
	}
	var owner int64
	err = tx.QueryRow("SELECT id FROM accounts WHERE email = ?", address).Scan(&owner)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	id, _, err := authority(tx, 0)
	if err != nil {
		return err
	}
	d := &deed{s: s, tx: tx, by: Actor{Token: device}, request: Request{
		Type: DevNet, Word: Edit, Account: owner, Data: Data{CommonName: c.Subject.CommonName, Email: email},
	}}
	if err := d.insert(); err != nil {
		return err
	}
	if err := d.keep(id, c); err != nil {
		return err
	}
	return d.move(Completed, "Certificate issued")
}

// keep stores a certificate that an authority issued for the request.
func (d *deed) keep(authority int64, c *x509.Certificate) error {
	d.detail = fmt.Sprintf("%s, serial number %X", c.Subject, c.SerialNumber)
	_, err := keep(d.tx, d.request.ID, authority, c)
	return err
}

// keep stores a certificate that an authority issued for a request, or for none, which
// is 0.
func keep(tx *records.Tx, request, authority int64, c *x509.Certificate) (id int64, err error) {
	return tx.Insert("INSERT INTO certificates (request, authority, serial, certificate, issued) VALUES (?, ?, ?, ?, ?)",
		nullable(request), authority, c.SerialNumber.Bytes(), c.Raw, tx.Now().Unix())
}

// Valid returns ErrRevoked for a certificate that was issued here and then revoked.
func (s *Service) Valid(ctx context.Context, c *x509.Certificate) error {
	return s.Records.Read(ctx, func(tx *records.Tx) error {
		var revoked bool
		err := tx.QueryRow("SELECT EXISTS (SELECT 1 FROM certificates WHERE serial = ? AND certificate = ? AND revoked IS NOT NULL)", c.SerialNumber.Bytes(), c.Raw).Scan(&revoked)
		if err == nil && revoked {
			err = fmt.Errorf("%w: serial number %X", ErrRevoked, c.SerialNumber)
		}
		return err
	})
}

// Holder is the account whose request led to a certificate, 0 if that has none; issued
// reports whether it was issued here at all.
func (s *Service) Holder(ctx context.Context, c *x509.Certificate) (account int64, issued bool, err error) {
	err = s.Records.Read(ctx, func(tx *records.Tx) error {
		err := tx.QueryRow(`SELECT COALESCE(r.account, 0) FROM certificates AS c LEFT JOIN requests AS r ON r.id = c.request
			WHERE c.serial = ? AND c.certificate = ?`, c.SerialNumber.Bytes(), c.Raw).Scan(&account)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		issued = err == nil
		return err
	})
	return account, issued, err
}

// renewal is how long before its end the portal's own certificate is replaced.
const renewal = 30 * 24 * time.Hour

// Server is a certificate for the portal's own TLS with its key and with what is above it:
// by the developer network's authority, for host names and addresses. It is made when
// it is asked for first, or for other hosts, or less than 30 days before its end, and kept in the records. Errors:
// those of package pki for the hosts.
func (s *Service) Server(ctx context.Context, hosts []string) (c tls.Certificate, err error) {
	wanted := strings.Join(hosts, " ")
	var found bool
	read := func(tx *records.Tx) error {
		c, found, err = server(tx, wanted)
		return err
	}
	if err := s.Records.Read(ctx, read); err != nil || found {
		return c, err
	}
	err = s.Records.Write(ctx, func(tx *records.Tx) error {
		if err := read(tx); err != nil || found { // another was faster
			return err
		}
		c, err = s.newServer(tx, hosts)
		return err
	})
	return c, err
}

// server is the last certificate for hosts, if that can be used for a while.
func server(tx *records.Tx, hosts string) (c tls.Certificate, found bool, err error) {
	var id int64
	var der, above, sealed []byte
	err = tx.QueryRow(`SELECT s.certificate, c.certificate, a.certificate, s.key_sealed FROM servers s JOIN certificates c ON c.id = s.certificate
		JOIN authorities a ON a.id = c.authority WHERE s.hosts = ? AND c.revoked IS NULL ORDER BY s.certificate DESC LIMIT 1`, hosts).Scan(&id, &der, &above, &sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return c, false, nil
	}
	if err != nil {
		return c, false, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return c, false, fmt.Errorf("the portal's own certificate: %w", err)
	}
	if tx.Now().After(leaf.NotAfter.Add(-renewal)) {
		return c, false, nil
	}
	secret, err := tx.Open(serverPlace(id), sealed)
	if err != nil {
		return c, false, err
	}
	// An error of the parser is not passed on: it may tell of the key.
	key, err := x509.ParsePKCS8PrivateKey(secret)
	if err != nil {
		return c, false, fmt.Errorf("%w: the key of the portal's own certificate", records.ErrDamaged)
	}
	return tls.Certificate{Certificate: [][]byte{der, above}, PrivateKey: key, Leaf: leaf}, true, nil
}

func serverPlace(id int64) string { return fmt.Sprintf("servers.key %d", id) }

// newServer makes a certificate for hosts with a new key.
func (s *Service) newServer(tx *records.Tx, hosts []string) (c tls.Certificate, err error) {
	id, issuer, err := authority(tx, 0)
	if err != nil {
		return c, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return c, err
	}
	request, err := requestFor(key)
	if err != nil {
		return c, err
	}
	profile, err := pki.ProfileNamed("TLSServer")
	if err != nil {
		return c, err
	}
	var crl []string
	if s.ListURL != nil {
		crl = []string{s.ListURL(id)}
	}
	leaf, err := issuer.Issue(s.Records.Rand(), pki.Order{
		Profile: profile, Request: request, At: tx.Now(), CRL: crl, Subject: pki.Subject{CommonName: hosts[0], Hosts: hosts},
	})
	if err != nil {
		return c, err
	}
	row, err := keep(tx, 0, id, leaf)
	if err != nil {
		return c, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return c, err
	}
	sealed, err := tx.Seal(serverPlace(row), secret)
	if err != nil {
		return c, err
	}
	if _, err := tx.Exec("INSERT INTO servers (certificate, hosts, key_sealed) VALUES (?, ?, ?)", row, strings.Join(hosts, " "), sealed); err != nil {
		return c, err
	}
	err = tx.Audit(records.Event{Action: "server certificate made", Object: strings.Join(hosts, " "), Detail: fmt.Sprintf("serial number %X", leaf.SerialNumber)})
	return tls.Certificate{Certificate: [][]byte{leaf.Raw, issuer.Certificate.Raw}, PrivateKey: key, Leaf: leaf}, err
}

// requestFor asks for a certificate of a key, as whoever has it does.
func requestFor(key crypto.Signer) (pki.Request, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return pki.Request{}, err
	}
	return pki.ParsePKCS10(der)
}
