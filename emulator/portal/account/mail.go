package account

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net/textproto"
	"strings"
	"time"

	"hsmemu/emulator/portal/records"
)

// Mail is one that goes to a person, or has gone.
type Mail struct {
	ID int64
	// To is an address as ParseAddress returns it.
	To string
	// Subject is one line, and Body plain text.
	Subject, Body string
	Created       time.Time
	// Sent is when a mail server took it, zero if none did yet.
	Sent time.Time
	// Failed is why the last attempt to send it failed, and GivenUp reports whether
	// there will be no other one.
	Failed  string
	GivenUp bool
}

// ErrHeader says that a mail's subject would be more than one line, by which a
// header could be slipped in.
var ErrHeader = errors.New("the subject of a mail is one line")

// check refuses what cannot be a mail.
func (m Mail) check() error {
	if address, err := ParseAddress(m.To); err != nil || address != m.To {
		return fmt.Errorf("%w: %q", ErrAddress, m.To)
	}
	for _, c := range m.Subject {
		if c < ' ' || c == 0x7F || c >= 0x80 && c < 0xA0 || c == 0x2028 || c == 0x2029 {
			return ErrHeader
		}
	}
	return nil
}

// Queue puts a mail into the outbox, within the transaction that has a reason for it.
// What it says is sealed: it may be an activation code. Errors: ErrAddress, ErrHeader.
func Queue(tx *records.Tx, m Mail) (id int64, err error) {
	if err := m.check(); err != nil {
		return 0, err
	}
	now := tx.Now().Unix()
	id, err = tx.Insert("INSERT INTO mails (recipient, subject, body_sealed, created, due) VALUES (?, ?, x'', ?, ?)", m.To, m.Subject, now, now)
	if err != nil {
		return 0, err
	}
	sealed, err := tx.Seal(mailPlace(id), []byte(m.Body))
	if err != nil {
		return 0, err
	}
	_, err = tx.Exec("UPDATE mails SET body_sealed = ? WHERE id = ?", sealed, id)
	return id, err
}

func mailPlace(id int64) string { return fmt.Sprintf("mails.body %d", id) }

// mails loads mails.
func mails(tx *records.Tx, rest string, values ...any) (list []Mail, err error) {
	err = tx.Each(func(scan func(...any) error) error {
		var m Mail
		var sealed []byte
		var created, sent, due int64
		if err := scan(&m.ID, &m.To, &m.Subject, &sealed, &created, &sent, &due, &m.Failed); err != nil {
			return err
		}
		body, err := tx.Open(mailPlace(m.ID), sealed)
		m.Body, m.Created, m.GivenUp = string(body), time.Unix(created, 0).UTC(), due == 0
		if sent != 0 {
			m.Sent = time.Unix(sent, 0).UTC()
		}
		list = append(list, m)
		return err
	}, "SELECT id, recipient, subject, body_sealed, created, COALESCE(sent, 0), COALESCE(due, 0), failed FROM mails "+rest, values...)
	return list, err
}

// Outbox are the last mails, at most n, the newest first, for an Administrator.
// Error: ErrForbidden.
func (a *Accounts) Outbox(ctx context.Context, by Actor, n int) (list []Mail, err error) {
	err = a.store.Read(ctx, func(tx *records.Tx) error {
		if err := Allow(tx, by, SeeOutbox, 0); err != nil {
			return err
		}
		list, err = mails(tx, "ORDER BY id DESC LIMIT ?", n)
		return err
	})
	return list, err
}

// LocalOutbox are the last mails, at most n, the newest first, for whoever the caller
// lets see them: where no mail server is configured there is no other way to an
// activation code, also not to the one of the first account.
func (a *Accounts) LocalOutbox(ctx context.Context, n int) (list []Mail, err error) {
	err = a.store.Read(ctx, func(tx *records.Tx) error {
		list, err = mails(tx, "ORDER BY id DESC LIMIT ?", n)
		return err
	})
	return list, err
}

// Sender hands a mail over to whoever brings it.
type Sender interface {
	// Send returns nil when the mail is the other one's to bring. An error by which
	// nothing will ever change is a *textproto.Error with a code from 500 on.
	Send(ctx context.Context, m Mail) error
}

const (
	// deliverMax is how many mails one Deliver sends.
	deliverMax = 100
	// sendTries is how often a mail is tried: the last time after some two days.
	sendTries = 12
	// failedMax is how much of the reason for a failure is kept, in bytes. It is a mail
	// server that words it.
	failedMax = 1024
)

// Deliver sends the mails that are due, one after the other, and returns how many
// were taken. One that is not is due again later, each time twice as much later. A
// mail that was sent while the portal went down may be sent again. The error is one of
// the records; why a mail was not taken stands in the outbox.
func (a *Accounts) Deliver(ctx context.Context, s Sender) (sent int, err error) {
	var due []Mail
	err = a.store.Read(ctx, func(tx *records.Tx) error {
		due, err = mails(tx, "WHERE sent IS NULL AND due <= ? ORDER BY due, id LIMIT ?", tx.Now().Unix(), deliverMax)
		return err
	})
	if err != nil {
		return 0, err
	}
	for _, m := range due {
		failed := s.Send(ctx, m)
		if ctx.Err() != nil && failed != nil {
			return sent, ctx.Err()
		}
		// A mail that was taken is noted down also when nobody waits any more.
		err := a.store.Write(context.WithoutCancel(ctx), func(tx *records.Tx) error { return m.tried(tx, failed) })
		if err != nil {
			return sent, err
		}
		if failed == nil {
			sent++
		}
	}
	return sent, nil
}

// tried notes down how an attempt to send the mail went.
func (m Mail) tried(tx *records.Tx, failed error) error {
	now := tx.Now()
	if failed == nil {
		_, err := tx.Exec("UPDATE mails SET sent = ?, failed = '', tries = tries + 1 WHERE id = ?", now.Unix(), m.ID)
		return err
	}
	var tries int
	why := failed.Error()
	why = strings.ToValidUTF8(why[:min(len(why), failedMax)], "")
	if err := tx.QueryRow("UPDATE mails SET tries = tries + 1, failed = ? WHERE id = ? RETURNING tries", why, m.ID).Scan(&tries); err != nil {
		return err
	}
	var due any = now.Add(time.Minute << tries).Unix()
	var answer *textproto.Error
	if errors.As(failed, &answer) && answer.Code >= 500 || tries >= sendTries {
		due = nil
	}
	_, err := tx.Exec("UPDATE mails SET due = ? WHERE id = ?", due, m.ID)
	return err
}

// Message is the mail in the format of RFC 5322, with lines that end in CR LF. Errors:
// ErrAddress, ErrHeader.
func (m Mail) Message(from string) ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	if address, err := ParseAddress(from); err != nil || address != from {
		return nil, fmt.Errorf("%w: %q", ErrAddress, from)
	}
	var b bytes.Buffer
	_, domain, _ := strings.Cut(from, "@")
	// The same mail has the same identifier, so that one that comes twice is known.
	id := sha256.Sum256(fmt.Appendf(nil, "%d %d %s %s", m.ID, m.Created.Unix(), m.To, m.Body))
	for _, h := range [][2]string{
		{"From", "<" + from + ">"},
		{"To", "<" + m.To + ">"},
		{"Subject", mime.QEncoding.Encode("utf-8", m.Subject)},
		{"Date", m.Created.Format("Mon, 02 Jan 2006 15:04:05 -0700")},
		{"Message-ID", "<" + hex.EncodeToString(id[:16]) + "@" + domain + ">"},
		{"Auto-Submitted", "auto-generated"},
		{"MIME-Version", "1.0"},
		{"Content-Type", "text/plain; charset=utf-8"},
		{"Content-Transfer-Encoding", "quoted-printable"},
	} {
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
	}
	b.WriteString("\r\n")
	w := quotedprintable.NewWriter(&b)
	if _, err := w.Write([]byte(strings.ReplaceAll(strings.ReplaceAll(m.Body, "\r\n", "\n"), "\n", "\r\n"))); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
