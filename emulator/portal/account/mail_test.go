package account_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/records"
)

func queue(t testing.TB, s *site, m account.Mail) error {
	t.Helper()
	return s.store.Write(t.Context(), func(tx *records.Tx) error {
		_, err := account.Queue(tx, m)
		return err
	})
}

// No mail leaves with more headers, or to more people, than it was given.
func TestMail_NoHeaderIsSlippedIn(t *testing.T) {
	t.Parallel()
	s := open(t, account.Options{})
	for _, subject := range []string{
		"a\r\nBcc: b@example.org", "a\nBcc: b@example.org", "a\rb", "a\x00b", "a\u0085Bcc: b@example.org", "a\u2028b", "a\u2029b", "a\x7f",
	} {
		m := account.Mail{To: "a@example.org", Subject: subject}
		require.ErrorIs(t, queue(t, s, m), account.ErrHeader, "%q", subject)
		_, err := m.Message("portal@example.org")
		require.ErrorIs(t, err, account.ErrHeader, "%q", subject)
	}
	for _, to := range []string{"a@example.org\r\nBcc: b@example.org", "a@example.org, b@example.org", "A <a@example.org>", "A@example.org", " a@example.org", ""} {
		m := account.Mail{To: to, Subject: "s"}
		require.ErrorIs(t, queue(t, s, m), account.ErrAddress, "%q", to)
		_, err := m.Message("portal@example.org")
		require.ErrorIs(t, err, account.ErrAddress, "%q", to)
		_, err = account.Mail{To: "a@example.org"}.Message(to)
		require.ErrorIs(t, err, account.ErrAddress, "%q", to)
	}
	box, err := s.LocalOutbox(t.Context(), 10)
	require.NoError(t, err)
	require.Empty(t, box)
}

// A mail is what the standard library reads out of it again.
func TestMail_Message(t *testing.T) {
	t.Parallel()
	m := account.Mail{ID: 5, To: "a@example.org", Subject: "Prüfung – 1", Body: "Ü\n.\n" + strings.Repeat("long ", 60) + "\n", Created: day}
	message, err := m.Message("portal@example.org")
	require.NoError(t, err)
	for _, line := range bytes.SplitAfter(message, []byte("\n")) {
		require.True(t, len(line) == 0 || bytes.HasSuffix(line, []byte("\r\n")))
		require.LessOrEqual(t, len(line), 80)
	}
	read, err := mail.ReadMessage(bytes.NewReader(message))
	require.NoError(t, err)
	subject, err := new(mime.WordDecoder).DecodeHeader(read.Header.Get("Subject"))
	require.NoError(t, err)
	require.Equal(t, m.Subject, subject)
	to, err := read.Header.AddressList("To")
	require.NoError(t, err)
	require.Equal(t, []*mail.Address{{Address: m.To}}, to)
	at, err := read.Header.Date()
	require.NoError(t, err)
	require.True(t, day.Equal(at))
	body, err := io.ReadAll(quotedprintable.NewReader(read.Body))
	require.NoError(t, err)
	require.Equal(t, strings.ReplaceAll(m.Body, "\n", "\r\n"), string(body))
}

// sender is a mail server's answers in their order.
type sender struct {
	answers []error
	took    []account.Mail
}

func (s *sender) Send(_ context.Context, m account.Mail) error {
	s.took = append(s.took, m)
	if len(s.answers) == 0 {
		return nil
	}
	err := s.answers[0]
	s.answers = s.answers[1:]
	return err
}

// Mails that a server does not take are tried again, each time later, and those that
// it never will are given up.
func TestDeliver(t *testing.T) {
	t.Parallel()
	s := open(t, account.Options{})
	_, admin := s.registered(t, manufacture(t, "4.1", 90), "admin@example.org")
	_, other := s.registered(t, manufacture(t, "4.1", 91), "other@example.org")
	full := &textproto.Error{Code: 452, Msg: "mailbox full"}
	never := fmt.Errorf("send: %w", &textproto.Error{Code: 550, Msg: "no such user"})
	to := &sender{answers: []error{full, never}}
	deliver := func(want int) {
		t.Helper()
		n, err := s.Deliver(t.Context(), to)
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
	deliver(0)
	require.Len(t, to.took, 2)
	deliver(0)
	require.Len(t, to.took, 2, "not due yet")
	box, err := s.Outbox(t.Context(), admin.Actor(), 2)
	require.NoError(t, err)
	require.Equal(t, []bool{true, false}, []bool{box[0].GivenUp, box[1].GivenUp})
	require.Equal(t, `452 "mailbox full"`, box[1].Failed)
	s.wait(2 * time.Minute)
	deliver(1)
	require.Len(t, to.took, 3)
	require.Equal(t, to.took[0].ID, to.took[2].ID)
	box, err = s.Outbox(t.Context(), admin.Actor(), 2)
	require.NoError(t, err)
	require.Equal(t, s.Now(), box[1].Sent)
	require.Empty(t, box[1].Failed)

	require.NoError(t, queue(t, s, account.Mail{To: "a@example.org", Subject: "once more"}))
	full.Msg += strings.Repeat("ä", 1<<20)
	for range 12 {
		to.answers = []error{full}
		deliver(0)
		s.wait(100 * time.Hour)
	}
	sent := len(to.took)
	deliver(0)
	require.Len(t, to.took, sent, "given up")
	box, err = s.Outbox(t.Context(), admin.Actor(), 1)
	require.NoError(t, err)
	require.Len(t, box[0].Failed, 1023, "cut between two characters")
	_, err = s.Outbox(t.Context(), other.Actor(), 2)
	require.ErrorIs(t, err, account.ErrForbidden)
}

// server is a small SMTP server on loopback that keeps what it takes.
type server struct {
	address string
	roots   *x509.CertPool
	tls     *tls.Config // nil for one without STARTTLS
	refuse  string      // answer to RCPT, if there is one
	mails   chan taken
}

type taken struct {
	from, to, user, password string
	secure                   bool
	message                  string
}

func smtpServer(t *testing.T, secure bool) *server {
	t.Helper()
	s := &server{mails: make(chan taken, 10)}
	if secure {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mail"}, NotBefore: day.AddDate(-1, 0, 0), NotAfter: day.AddDate(20, 0, 0),
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		require.NoError(t, err)
		certificate, err := x509.ParseCertificate(der)
		require.NoError(t, err)
		s.roots = x509.NewCertPool()
		s.roots.AddCert(certificate)
		s.tls = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.address = l.Addr().String()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.serve(c)
		}
	}()
	t.Cleanup(func() {
		require.NoError(t, l.Close())
		<-done
	})
	return s
}

// serve speaks RFC 5321, 3207 and 4954 with one client.
func (s *server) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	r := bufio.NewReader(c)
	var mail taken
	say := func(lines string) { fmt.Fprint(c, strings.ReplaceAll(lines, "\n", "\r\n")+"\r\n") }
	say("220 mail ready")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSuffix(line, "\r\n")
		verb, rest, _ := strings.Cut(line, " ")
		switch strings.ToUpper(verb) {
		case "EHLO":
			if s.tls != nil && !mail.secure {
				say("250-mail\n250 STARTTLS")
			} else if mail.secure {
				say("250-mail\n250 AUTH PLAIN")
			} else {
				say("250 mail")
			}
		case "STARTTLS":
			say("220 go ahead")
			c = tls.Server(c, s.tls)
			r, mail.secure = bufio.NewReader(c), true
		case "AUTH":
			_, encoded, _ := strings.Cut(rest, " ")
			plain, _ := base64.StdEncoding.DecodeString(encoded)
			parts := strings.Split(string(plain), "\x00")
			if mail.user, mail.password = parts[1], parts[2]; mail.password != "right" {
				say("535 wrong")
				continue
			}
			say("235 welcome")
		case "MAIL":
			mail.from = rest
			say("250 ok")
		case "RCPT":
			if mail.to = rest; s.refuse != "" {
				say(s.refuse)
				continue
			}
			say("250 ok")
		case "DATA":
			say("354 go on")
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				mail.message += strings.TrimPrefix(line, ".")
			}
			s.mails <- mail
			say("250 taken")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("502 unknown")
		}
	}
}

// Mail goes to a mail server over TLS, and with a password over nothing else.
func TestSMTP(t *testing.T) {
	t.Parallel()
	s := open(t, account.Options{})
	secure, bare := smtpServer(t, true), smtpServer(t, false)
	by := account.SMTP{Address: secure.address, From: "portal@example.org", User: "portal", Password: "right", Roots: secure.roots}
	cookie := s.waiting(t, 92)
	require.NoError(t, s.Enrol(t.Context(), cookie, "a@example.org", everySource))
	n, err := s.Deliver(t.Context(), by)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	got := <-secure.mails
	require.True(t, got.secure)
	require.Equal(t, "portal right FROM:<portal@example.org> TO:<a@example.org>", strings.Join([]string{got.user, got.password, got.from, got.to}, " "))
	require.Contains(t, got.message, "ACTIVATION CODE "+s.code(t)+"\r\n")
	require.Contains(t, got.message, "\r\nTo: <a@example.org>\r\n")

	m := account.Mail{To: "a@example.org", Subject: "s", Body: ".\n..\n"}
	by.Password = "wrong"
	var answer *textproto.Error
	require.ErrorAs(t, by.Send(t.Context(), m), &answer)
	require.Equal(t, 535, answer.Code)
	by.Password = "right"
	require.NoError(t, by.Send(t.Context(), m))
	require.True(t, strings.HasSuffix((<-secure.mails).message, "\r\n\r\n.\r\n..\r\n"))
	secure.refuse = "550 nobody here"
	err = by.Send(t.Context(), m)
	require.ErrorAs(t, err, &answer)
	require.Equal(t, 550, answer.Code)
	by.Roots = nil
	require.ErrorAs(t, by.Send(t.Context(), m), new(*tls.CertificateVerificationError))

	plain := account.SMTP{Address: bare.address, From: "portal@example.org"}
	require.ErrorIs(t, plain.Send(t.Context(), m), account.ErrNoTLS)
	plain.Plain = true
	require.NoError(t, plain.Send(t.Context(), m))
	require.False(t, (<-bare.mails).secure)
	plain.User, plain.Password = "portal", "right"
	require.ErrorIs(t, plain.Send(t.Context(), m), account.ErrNoTLS, "no password without TLS")

	for _, printed := range []string{fmt.Sprint(by), fmt.Sprintf("%+v %#v %s %x", by, by, by.Password, by.Password)} {
		require.NotContains(t, printed, "right")
	}
	form, err := json.Marshal(by.Password)
	require.NoError(t, err)
	require.JSONEq(t, `"•••"`, string(form))
}

// A mail server that says nothing is given up with the context.
func TestSMTP_ASilentServer(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		c, err := l.Accept()
		if err == nil {
			cancel()
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		}
	}()
	err = account.SMTP{Address: l.Addr().String(), From: "portal@example.org"}.Send(ctx, account.Mail{To: "a@example.org"})
	require.Error(t, err)
	require.False(t, errors.As(err, new(*textproto.Error)))
}
