package account

import (
	"context"
	"fmt"
	"time"

	"hsmemu/emulator/portal/records"
)

// purposeConfirm is a code that confirms an address for a certificate, without a
// session. Its subject in the table is the address.
const purposeConfirm = "confirm address"

// AskConfirmation mails an activation code to an address that somebody at a source
// wants in a certificate. A code that was sent there for that before is good no longer.
// Errors: ErrAddress, *RateError.
func (a *Accounts) AskConfirmation(ctx context.Context, email, source string) error {
	address, err := ParseAddress(email)
	if err != nil {
		return err
	}
	return a.store.Write(ctx, func(tx *records.Tx) error {
		mail := func(secret string) Mail { return confirmationMail(address, secret, a.o.Code) }
		if err := a.sendCode(tx, source, purposeConfirm, address, address, []byte(purposeConfirm), mail); err != nil {
			return err
		}
		return tx.Audit(records.Event{Action: "activation code sent", Object: address, Detail: "for a certificate"})
	})
}

// confirmationMail is what brings a code for a certificate.
func confirmationMail(to, secret string, good time.Duration) Mail {
	return Mail{To: to, Subject: "Activation code", Body: fmt.Sprintf(`Somebody asks for a certificate with this e-mail address. If that is you,
enter this activation code in the program that you asked with:

    ACTIVATION CODE %s

It is good for %d minutes and three tries. If it is not you, do nothing:
without the code nothing happens.
`, secret, int(good.Minutes()))}
}

// Confirm uses up the code that AskConfirmation mailed. A wrong one costs one of three
// tries, which are counted before anything is said. What the code is for is done by
// then, within the transaction: if that fails, the code can be entered again. Errors:
// ErrAddress, ErrCode, ErrNoCode where no code waits, or none that has a try left, and
// those of then.
func (a *Accounts) Confirm(ctx context.Context, email, entered string, then func(*records.Tx) error) error {
	address, err := ParseAddress(email)
	if err != nil {
		return err
	}
	secret, wrong := parseCode(entered)
	err = a.store.Write(ctx, func(tx *records.Tx) error {
		c, err := waiting(tx, purposeConfirm, address)
		if err != nil {
			return err
		}
		if wrong != nil {
			return wrong // it cannot be the code, so it is no guess
		}
		right, err := c.enter(tx, []byte(purposeConfirm), secret)
		if err != nil {
			return err
		}
		if !right {
			wrong = ErrCode
			return tx.Audit(records.Event{Action: "activation code wrong", Object: address, Detail: fmt.Sprintf("for a certificate, %d tries left", c.left-1)})
		}
		if _, err := tx.Exec("DELETE FROM codes WHERE id = ?", c.id); err != nil {
			return err
		}
		if err := tx.Audit(records.Event{Action: "address confirmed", Object: address, Detail: "for a certificate"}); err != nil {
			return err
		}
		return then(tx)
	})
	if err == nil {
		err = wrong
	}
	return err
}

// sendCode draws a code, keeps it, as keepCode says, and puts the mail that brings it
// into the outbox. It counts the attempt by the address and by the source. Error:
// *RateError.
func (a *Accounts) sendCode(tx *records.Tx, source, purpose, subject, address string, salt []byte, mail func(secret string) Mail) error {
	if err := a.attemptCode(tx, address, source); err != nil {
		return err
	}
	secret, err := newCode(a.store.Rand())
	if err != nil {
		return fmt.Errorf("draw an activation code: %w", err)
	}
	code, err := a.keepCode(tx, purpose, subject, address, salt, secret)
	if err != nil {
		return err
	}
	id, err := Queue(tx, mail(secret))
	if err != nil {
		return err
	}
	_, err = tx.Exec("UPDATE mails SET code = ? WHERE id = ?", code, id)
	return err
}

// attemptCode counts a code for an address that a source asks for. Error: *RateError.
func (a *Accounts) attemptCode(tx *records.Tx, address, source string) error {
	if err := attempt(tx, "activation codes for this address", address, a.o.Limits.CodesOfAddress); err != nil {
		return err
	}
	return attempt(tx, "activation codes from there", source, a.o.Limits.CodesOfSource)
}

// keepCode stores a code in place of an older one of the same purpose and subject. The
// salt goes into its hash.
func (a *Accounts) keepCode(tx *records.Tx, purpose, subject, address string, salt []byte, secret string) (id int64, err error) {
	if _, err := tx.Exec("DELETE FROM codes WHERE purpose = ? AND subject = ?", purpose, subject); err != nil {
		return 0, err
	}
	id, err = tx.Insert("INSERT INTO codes (purpose, subject, email, code_hash, tries_left, expires) VALUES (?, ?, ?, x'', ?, ?)",
		purpose, subject, address, codeTries, tx.Now().Add(a.o.Code).Unix())
	if err != nil {
		return 0, err
	}
	sealed, err := tx.Seal(codePlace(id), hashCode(salt, address, secret))
	if err != nil {
		return 0, err
	}
	_, err = tx.Exec("UPDATE codes SET code_hash = ? WHERE id = ?", sealed, id)
	return id, err
}
