package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"hsmemu/applet/cvc"
	"hsmemu/emulator/portal"
	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/records"
)

// Issuer is a device issuer, as it is shown.
type Issuer struct {
	Name cvc.Name
	// Current tells that it certifies new devices.
	Current bool
	Ready   bool
	// Licences are how many updates and productions may still begin.
	Licences int
}

// allow wraps what package account refuses.
func allow(tx *records.Tx, by Actor, do account.Action) error {
	err := account.Allow(tx, by, do, 0)
	if errors.Is(err, account.ErrForbidden) || errors.Is(err, account.ErrNoAccount) {
		return fmt.Errorf("%w: %w", ErrNotAllowed, err)
	}
	return err
}

// Issuers are the device issuers in the order of their age; everybody who is logged in
// may know why an update is not possible. Error: ErrNotAllowed.
func (s *Service) Issuers(ctx context.Context, by Actor) (list []Issuer, err error) {
	err = s.Records.Read(ctx, func(tx *records.Tx) error { return allow(tx, by, account.UpdateFirmware) })
	if err != nil {
		return nil, err
	}
	books, err := s.Records.Ledger().Load("")
	if err != nil {
		return nil, err
	}
	for n, i := range books.Authority.Issuers {
		name, err := nameOf(i)
		if err != nil {
			return nil, err
		}
		list = append(list, Issuer{Name: name, Current: n == len(books.Authority.Issuers)-1, Ready: i.Ready, Licences: i.Licences})
	}
	return list, nil
}

func nameOf(i portal.Issuer) (cvc.Name, error) {
	c, err := cvc.ParseCertificate(i.Certificate)
	if err != nil {
		return "", fmt.Errorf("%w: %w", portal.ErrAuthority, err)
	}
	return c.CHR, nil
}

// SetIssuer has the HSM of a device issuer logged in or not, and says how many licences
// it has; nil leaves it those that it has. Errors: ErrNotAllowed, ErrUnknown, and
// ErrData for less than no licence.
func (s *Service) SetIssuer(ctx context.Context, by Actor, name cvc.Name, ready bool, licences *int) error {
	detail := fmt.Sprintf("ready %t", ready)
	if licences != nil {
		detail += fmt.Sprintf(", %d licences", *licences)
	}
	return s.issuers(ctx, by, string(name), detail, func(a *portal.Authority) (string, error) {
		if licences != nil && *licences < 0 {
			return "", fmt.Errorf("%w: %d licences", ErrData, *licences)
		}
		a.Issuers = slices.Clone(a.Issuers)
		for n := range a.Issuers {
			has, err := nameOf(a.Issuers[n])
			if err != nil {
				return "", err
			}
			if has == name {
				if a.Issuers[n].Ready = ready; licences != nil {
					a.Issuers[n].Licences = *licences
				}
				return string(name), nil
			}
		}
		return "", fmt.Errorf("%w: a device issuer %s", ErrUnknown, name)
	})
}

// AddIssuer makes the device issuer of the updates to come, with a new key. Error:
// ErrNotAllowed.
func (s *Service) AddIssuer(ctx context.Context, by Actor) (name cvc.Name, err error) {
	err = s.issuers(ctx, by, "", "added", func(a *portal.Authority) (string, error) {
		if err := a.AddIssuer(s.Records.Rand(), s.Records.Now()); err != nil {
			return "", err
		}
		name, err = nameOf(a.Issuers[len(a.Issuers)-1])
		return string(name), err
	})
	return name, err
}

// issuers changes the device issuers; change says which one.
func (s *Service) issuers(ctx context.Context, by Actor, object, detail string, change func(*portal.Authority) (string, error)) error {
	return s.Records.Write(ctx, func(tx *records.Tx) error {
		if err := allow(tx, by, account.SwitchIssuer); err != nil {
			return err
		}
		err := tx.Books("", func(b *portal.Books) (err error) {
			object, err = change(&b.Authority)
			return err
		})
		if err != nil {
			return err
		}
		return tx.Audit(records.Event{Account: by.Account, Token: by.Token, Action: "device issuer", Object: object, Detail: detail})
	})
}

// Notice is mail about a weakness of a firmware.
type Notice struct {
	// Versions are those that it concerns.
	Versions []portal.Version
	// Subject is one line, and Text what it says.
	Subject, Text string
}

// Sample is a notice like the one that was sent in 2019: firmware 3.1 and 3.2 made AES
// keys with little or no entropy.
func Sample() Notice {
	return Notice{
		Versions: []portal.Version{{Major: 3, Minor: 1}, {Major: 3, Minor: 2}},
		Subject:  "Security notice for firmware 3.1 and 3.2",
		Text: "Devices with firmware 3.1 or 3.2 generate AES keys with little or no entropy. Firmware 3.3 and later do not.\n" +
			"RSA keys, EC keys and DKEKs are not affected.\n\n" +
			"Replace AES keys that were generated on such a device, and update its firmware.\n",
	}
}

// SendNotice mails to every account that wants security notices and has a registered
// card with one of the versions, and names its cards: S19. It returns how many mails
// are in the outbox for it. Errors: ErrNotAllowed, and ErrData for a notice without
// versions, subject or text.
func (s *Service) SendNotice(ctx context.Context, by Actor, n Notice) (sent int, err error) {
	if len(n.Versions) == 0 || strings.TrimSpace(n.Subject) == "" || strings.TrimSpace(n.Text) == "" {
		return 0, fmt.Errorf("%w: a notice has versions, a subject and a text", ErrData)
	}
	var names []string
	var values []any
	for _, v := range n.Versions {
		names = append(names, v.String())
		values = append(values, v.String())
	}
	err = s.Records.Write(ctx, func(tx *records.Tx) error {
		if err := allow(tx, by, account.SendNotice); err != nil {
			return err
		}
		var order []string
		cards := map[string][]string{}
		err := tx.Each(func(scan func(...any) error) error {
			var email, path, firmware string
			if err := scan(&email, &path, &firmware); err != nil {
				return err
			}
			if cards[email] == nil {
				order = append(order, email)
			}
			cards[email] = append(cards[email], fmt.Sprintf("%s (firmware %s)", path, firmware))
			return nil
		}, `SELECT a.email, t.path, t.firmware FROM tokens t JOIN accounts a ON a.id = t.account
			WHERE t.status = 'active' AND a.notify_security = 1 AND t.firmware IN (?`+strings.Repeat(", ?", len(values)-1)+") ORDER BY a.id, t.path", values...)
		if err != nil {
			return err
		}
		for _, email := range order {
			body := strings.TrimRight(n.Text, "\n") + "\n\nThis concerns your devices:\n" + strings.Join(cards[email], "\n") + "\n"
			if _, err := account.Queue(tx, account.Mail{To: email, Subject: n.Subject, Body: body}); err != nil {
				return err
			}
		}
		sent = len(order)
		return tx.Audit(records.Event{
			Account: by.Account, Token: by.Token, Action: "security notice", Object: strings.Join(names, ", "), Detail: fmt.Sprintf("%d mails: %s", sent, n.Subject),
		})
	})
	if err != nil {
		return 0, err
	}
	return sent, nil
}
