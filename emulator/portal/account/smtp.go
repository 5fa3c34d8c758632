package account

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/smtp"
	"time"
)

// SMTP sends mail by a mail server. It is a [Sender].
type SMTP struct {
	// Address is the server's, HOST:PORT.
	Address string
	// From is the sender's address as ParseAddress returns it.
	From string
	// User and Password log in to the server; no User for a server that asks for none.
	User     string
	Password Secret
	// Roots are who may certify the server; nil for the system's.
	Roots *x509.CertPool
	// Plain tells that the server need not speak TLS. It is for a server on this
	// machine, and does not stop a server that does from doing so.
	Plain bool
}

// Secret is a password. Printing it, in whatever way, shows nothing of it.
type Secret string

// String tells that there is a secret, and not which.
func (Secret) String() string { return "•••" }

// Format implements [fmt.Formatter], so that no verb shows the secret.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// MarshalText hides the secret from JSON and from logs.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// ErrNoTLS says that a mail server does not offer TLS.
var ErrNoTLS = errors.New("the mail server does not offer TLS")

// smtpTime is how long the handing over of one mail may take.
const smtpTime = 30 * time.Second

// Send implements [Sender]. The mail goes over TLS, which STARTTLS begins, or not at
// all unless Plain says so, and a User's password over TLS alone.
// Errors: ErrNoTLS, ErrAddress, ErrHeader, *textproto.Error with what the server
// answers, and those of the connection.
func (s SMTP) Send(ctx context.Context, m Mail) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("send mail by %s: %w", s.Address, err)
		}
	}()
	message, err := m.Message(s.From)
	if err != nil {
		return err
	}
	host, _, err := net.SplitHostPort(s.Address)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, smtpTime)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.Address)
	if err != nil {
		return err
	}
	// However it ends, and also if the server does not answer, it ends with ctx.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	c, err := smtp.NewClient(conn, host)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	defer func() { _ = c.Close() }()
	if offered, _ := c.Extension("STARTTLS"); offered {
		if err := c.StartTLS(&tls.Config{ServerName: host, RootCAs: s.Roots, MinVersion: tls.VersionTLS12}); err != nil {
			return err
		}
	} else if !s.Plain || s.User != "" {
		return ErrNoTLS
	}
	if s.User != "" {
		if err := c.Auth(smtp.PlainAuth("", s.User, string(s.Password), host)); err != nil {
			return err
		}
	}
	if err := c.Mail(s.From); err != nil {
		return err
	}
	if err := c.Rcpt(m.To); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(message); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	_ = c.Quit() // the mail is the server's since the answer to its end
	return nil
}
