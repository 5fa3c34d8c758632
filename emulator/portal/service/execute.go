package service

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"hsmemu/emulator/portal"
	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/records"
	"hsmemu/emulator/ram"
)

// Texts of the portal at a card.
const (
	// TextNothing is told to a card for which nothing waits.
	TextNothing = "Nothing to do"
	// TextNoCard is told to what cannot be spoken to. It is the vendor's.
	TextNoCard = "Failure talking to card. Is this a SmartCard-HSM ?"
	// TextNoLogin is told where the records do not tell whose session it is.
	TextNoLogin = "Log-in failed. Please connect the card again."
	// TextRecovery is what follows portal.TextFailed.
	TextRecovery = "Please connect the card again: an update that has begun goes on."
)

// Card is a card that has connected, as a *ram.Session is.
type Card interface {
	portal.Card
	// Notify tells the person at the card something.
	Notify(ctx context.Context, n ram.Notice) error
}

// checkProduction looks at a form before it is submitted.
func checkProduction(d *deed) error {
	_, err := d.request.firmware()
	return err
}

// firmware is what a production loads.
func (r Request) firmware() (v portal.Version, err error) {
	if r.Data.Firmware == "" {
		return v, missing("a firmware")
	}
	if err := v.UnmarshalText([]byte(r.Data.Firmware)); err != nil {
		return v, wrong(fmt.Errorf("%w: %w", ErrData, err))
	}
	if newest, known := portal.Newest(v.Major); !known || newest != v {
		return v, wrong(fmt.Errorf("%w: %s", portal.ErrFirmware, v))
	}
	return v, nil
}

// Serve is a [ram.Service]. A card that connects in a session gets the update or
// production that its user has submitted for the "Current token in reader", or else is
// logged in. One that connects without a session gets what was submitted for it, and
// the rest of what was interrupted; this takes no log-in.
func (s *Service) Serve(ctx context.Context, card *ram.Session) error {
	if card.ID() == "" {
		return s.Unannounced(ctx, card)
	}
	by, err := s.Sessions.User(ctx, card.ID())
	if err != nil {
		return failed(ctx, card, recorded(err), TextNoLogin)
	}
	if by.Account != 0 {
		if done, err := s.InReader(ctx, card, by); done {
			return err
		}
	}
	return s.Sessions.Serve(ctx, card)
}

// InReader carries out what a user has submitted for the "Current token in reader", the
// oldest first, or goes on with what was interrupted; done is false where there is
// neither.
func (s *Service) InReader(ctx context.Context, card Card, by Actor) (done bool, err error) {
	// Of two that wait, one was interrupted and the other one asks for it again: which
	// card it is decides.
	w, err := s.next(ctx, `account = ? AND token IS NULL AND type IN (?, ?) AND state IN ('Submit', 'Running') ORDER BY state = 'Running', id`,
		by.Account, string(FirmwareUpdate), string(Production))
	if err != nil {
		return true, failed(ctx, card, err, portal.TextFailed+"\n"+TextRecovery)
	}
	if w == nil {
		return false, nil
	}
	w.by = by
	return true, w.carryOut(ctx, card)
}

// Unannounced serves a card that connects without a session.
func (s *Service) Unannounced(ctx context.Context, card Card) error {
	seen, err := portal.Inspect(ctx, card, s.Records.Rand())
	if err != nil {
		return failed(ctx, card, err, TextNoCard)
	}
	path := "" // of no token
	if seen.Stage == portal.Operational {
		path = seen.Device.Path()
	}
	for first := true; ; first = false {
		w, err := s.next(ctx, "state = 'Submit' AND token IN (SELECT id FROM tokens WHERE path = ? AND public_key = ? AND status = 'active') ORDER BY id", path, seen.Key())
		if err != nil {
			return failed(ctx, card, err, portal.TextFailed+"\n"+TextRecovery)
		}
		if w == nil && !first {
			return nil
		}
		if w == nil {
			books, err := s.Records.Ledger().Load(seen.Chip)
			if err != nil {
				return failed(ctx, card, recorded(err), portal.TextFailed+"\n"+TextRecovery)
			}
			if books.Chip.Running == nil && !s.UpdateAny {
				return card.Notify(ctx, ram.Notice{Text: TextNothing})
			}
			w = &work{s: s}
		}
		w.by = Actor{Account: w.own.Account, Token: path}
		if err := w.carryOut(ctx, card); err != nil {
			return err
		}
	}
}

// next is the first request of a condition that no other connection works on, or nil
// if there is none. Where there are only others, it waits for one. Error: ErrBusy.
func (s *Service) next(ctx context.Context, condition string, values ...any) (*work, error) {
	for {
		var list []Request
		err := s.Records.Read(ctx, func(tx *records.Tx) error {
			return tx.Each(func(scan func(...any) error) error {
				r, err := scanRequest(scan)
				list = append(list, r)
				return err
			}, "SELECT "+requestColumns+" FROM requests WHERE "+condition, values...)
		})
		if err != nil || len(list) == 0 {
			return nil, recorded(err)
		}
		for _, r := range list {
			w := &work{s: s, own: r}
			if s.take(r.ID) != nil {
				continue
			}
			w.took = append(w.took, r.ID)
			// Whoever had it before may have finished it.
			err := s.Records.Read(ctx, func(tx *records.Tx) (err error) {
				w.own, err = load(tx, r.ID)
				return err
			})
			if err == nil && w.own.Word == r.Word {
				return w, nil
			}
			w.release()
			if err != nil {
				return nil, recorded(err)
			}
		}
		if err := s.wait(list[0].ID); err != nil {
			return nil, err
		}
	}
}

// take takes a chip or a request for a connection, or says what to wait for.
func (s *Service) take(key any) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if other, taken := s.busy[key]; taken {
		return other
	}
	s.busy[key] = make(chan struct{})
	return nil
}

// patience is how long a connection waits for another one that commands its card: a
// client that comes back at once finds its own last connection.
const patience = 2 * time.Second

// wait waits until a chip or a request is free. Error: ErrBusy.
func (s *Service) wait(key any) error {
	s.mu.Lock()
	other, taken := s.busy[key]
	s.mu.Unlock()
	if !taken {
		return nil
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-other:
		return nil
	case <-timer.C:
		return ErrBusy
	}
}

// work is what is done to a card: a [portal.Ledger] whose changes are in one
// transaction with the request's.
type work struct {
	s    *Service
	by   Actor
	own  Request // zero for none
	chip portal.ChipID
	// took are the chip and the request that no other connection has now.
	took []any
	// last is the text that the log has from the progress.
	last string
	// lost is why a line of the log could not be saved.
	lost error
}

// carryOut has a card updated or produced.
func (w *work) carryOut(ctx context.Context, card Card) error {
	defer w.release()
	s := w.s
	order := portal.Order{Ledger: w, Rand: s.Records.Rand(), Now: s.Records.Now(), Progress: func(percent int, text string) {
		w.progress(ctx, card, percent, text)
	}}
	var done portal.Done
	var err error
	if w.own.Type == Production {
		to, _ := w.own.firmware() // seen when it was submitted
		done, err = portal.Produce(ctx, card, to, order)
	} else {
		done, err = portal.Update(ctx, card, order)
	}
	if err == nil {
		if s.Updated != nil {
			s.Updated(done)
		}
		return w.lost
	}
	err = errors.Join(err, w.lost)
	unsaved := recorded(w.stopped(err))
	var refusal *portal.Refusal
	if unsaved == nil && errors.As(err, &refusal) && refusal.Reason == portal.Latest {
		_ = card.Notify(ctx, ram.Notice{Text: refusal.Text}) // no failure
		return nil
	}
	return failed(ctx, card, errors.Join(err, unsaved), portal.TextFailed+"\n"+TextRecovery)
}

// failed tells the person at the card why it failed, which is the last thing that they
// hear, and returns the error.
func failed(ctx context.Context, card Card, err error, last string) error {
	// What does not arrive is lost with the connection.
	_ = card.Notify(ctx, ram.Notice{Text: plain(err)})
	_ = card.Notify(ctx, ram.Notice{Number: -1, Text: last})
	return err
}

// over are the errors after which a request goes back into its form: connecting the
// card again would lead to the same.
var over = []error{portal.ErrNotTrusted, portal.ErrOtherUpdate, portal.ErrCardRefuses, portal.ErrNotBlank, portal.ErrFirmware, ErrNotAllowed}

// stopped keeps in the log why the work on a card has ended. A request whose card was
// changed stays Running. What the rules or the card refuse goes back to the form.
func (w *work) stopped(why error) error {
	id := w.own.ID
	if id == 0 || errors.Is(why, ErrBusy) || errors.Is(why, ErrOtherCard) {
		return nil
	}
	var refusal *portal.Refusal
	final := errors.As(why, &refusal)
	for _, e := range over {
		final = final || errors.Is(why, e)
	}
	text := bare(plain(why))
	var r Request
	err := w.s.Records.Write(context.Background(), func(tx *records.Tx) error {
		d, err := w.deed(tx, id)
		if err != nil {
			return err
		}
		begun := false
		if w.chip != "" {
			if err := tx.QueryRow("SELECT EXISTS (SELECT 1 FROM updates WHERE chip = ?)", string(w.chip)).Scan(&begun); err != nil {
				return err
			}
		}
		switch to := d.request.Word; {
		case begun, !final: // it may be gone on with
			err = d.move(to, text)
		default:
			err = d.step(refuse, text)
			if err == nil && d.request.Data.Token != 0 && d.by.Account == d.request.Account {
				err = d.inform(text) // nobody was at a page when the card connected
			}
		}
		r = d.request
		return err
	})
	if err == nil {
		w.s.tell(Progress{Request: id, Percent: -1, Word: r.Word, Text: said(text, r.Word)})
	}
	return err
}

// deed is a step of the portal itself.
func (w *work) deed(tx *records.Tx, id int64) (*deed, error) {
	r, err := load(tx, id)
	return &deed{s: w.s, tx: tx, by: w.by, request: r}, err
}

// step takes a step that is the portal's.
func (d *deed) step(a Action, text string) error {
	for _, row := range find(d.request.Type, d.request.Word, a) {
		if row.Who == themselves {
			return d.move(row.To, text)
		}
	}
	return fmt.Errorf("%w: %s of a request in %s", ErrNotAllowed, a, d.request.Word)
}

// release lets others work on the chip and the request.
func (w *work) release() {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	for _, key := range w.took {
		close(w.s.busy[key])
		delete(w.s.busy, key)
	}
	w.took = nil
}

// claim takes the chip for this connection. Error: ErrBusy.
func (w *work) claim(chip portal.ChipID) error {
	if w.chip == chip {
		return nil
	}
	for w.s.take(chip) != nil {
		if err := w.s.wait(chip); err != nil {
			return err
		}
	}
	w.chip, w.took = chip, append(w.took, chip)
	return nil
}

// Load implements [portal.Ledger]. When it is known which chip the card is, the work
// is for the request that was interrupted on it, if there is one.
func (w *work) Load(chip portal.ChipID) (portal.Books, error) {
	if chip != "" {
		if err := w.claim(chip); err != nil {
			return portal.Books{}, err
		}
		if err := w.s.Records.Write(context.Background(), func(tx *records.Tx) error { return w.adopt(tx, chip) }); err != nil {
			return portal.Books{}, recorded(err)
		}
	}
	b, err := w.s.Records.Ledger().Load(chip)
	return b, recorded(err)
}

// recordError is what fails inside the portal; whoever is at a card hears no more of it
// than that.
type recordError struct{ error }

func (e *recordError) Unwrap() error { return e.error }

// recorded marks an error of the records.
func recorded(err error) error {
	if err == nil || errors.Is(err, ErrOtherCard) || errors.Is(err, ErrBusy) || errors.Is(err, ErrNotAllowed) {
		return err
	}
	return &recordError{err}
}

// plain is what people are told of an error.
func plain(err error) string {
	if inside := new(recordError); errors.As(err, &inside) {
		return "The portal could not record it"
	}
	return err.Error()
}

// adopt finds the request that this chip's work is for. Error: ErrOtherCard.
func (w *work) adopt(tx *records.Tx, chip portal.ChipID) error {
	interrupted, err := scanRequest(tx.QueryRow("SELECT "+requestColumns+" FROM requests WHERE state = 'Running' AND chip = ?", string(chip)).Scan)
	switch {
	case err == nil:
		asked := w.own
		w.own = interrupted
		d := &deed{s: w.s, tx: tx, by: w.by, request: interrupted}
		if asked.ID != 0 && asked.ID != interrupted.ID && asked.Word == Submit {
			// It asks for the same card, and ends with it.
			_, err := tx.Exec("UPDATE requests SET chip = ? WHERE id = ?", string(chip), asked.ID)
			if err != nil {
				return err
			}
			d.detail = fmt.Sprintf("by request %d", asked.ID)
		}
		return d.note("The card is connected again")
	case !errors.Is(err, sql.ErrNoRows):
		return err
	case w.own.Word == Running:
		return ErrOtherCard
	case w.own.ID == 0:
		return nil
	}
	w.own.Chip = chip
	_, err = tx.Exec("UPDATE requests SET chip = ? WHERE id = ?", string(chip), w.own.ID)
	return err
}

// Change implements [portal.Ledger].
func (w *work) Change(chip portal.ChipID, f func(*portal.Books) error) error {
	var told []Progress
	var refused error
	err := w.s.Records.Write(context.Background(), func(tx *records.Tx) error {
		var before, after portal.Record
		err := tx.Books(chip, func(b *portal.Books) error {
			before = b.Chip
			refused = f(b)
			after = b.Chip
			return refused
		})
		switch {
		case err != nil:
			return err
		case after.Running != nil && w.own.ID != 0:
			told, err = w.begin(tx, *after.Running)
		case before.Running != nil && len(after.Devices) > len(before.Devices):
			told, err = w.complete(tx, chip, *before.Running, after.Devices[len(after.Devices)-1])
		}
		return err
	})
	if refused != nil {
		return refused
	}
	if err == nil {
		for _, p := range told {
			w.s.tell(p)
		}
	}
	return recorded(err)
}

// begin makes the request Running, in the transaction in which the update begins.
func (w *work) begin(tx *records.Tx, running portal.Running) ([]Progress, error) {
	d, err := w.deed(tx, w.own.ID)
	if err != nil || d.request.Word == Running {
		return nil, err
	}
	if err := d.mayStill(); err != nil {
		return nil, err
	}
	text := fmt.Sprintf("Updating %s from firmware %s to %s", running.Old.Path, running.Old.Firmware, running.To)
	if running.Old.Name == "" {
		text = "Loading firmware " + running.To.String()
	}
	if d.detail = "chip " + string(w.chip); running.Blocked {
		d.detail += ", allowed by the blocked SO-PIN"
	}
	if err := d.step(begin, text); err != nil {
		return nil, err
	}
	w.own = d.request
	return []Progress{{Request: d.request.ID, Percent: 4, Word: Running, Text: said(text, Running)}}, nil
}

// mayStill returns nil if whoever submitted a request could do so now: roles may have
// been taken away since. Error: ErrNotAllowed.
func (d *deed) mayStill() error {
	for _, s := range find(d.request.Type, Edit, DoSubmit) {
		if holds, err := d.holds(s.Who); err != nil || holds {
			return err
		}
	}
	return fmt.Errorf("%w: the role for it is gone", ErrNotAllowed)
}

// complete ends all requests that were for the card, in the transaction in which its
// update ends, and the registration of the device that it was.
func (w *work) complete(tx *records.Tx, chip portal.ChipID, was portal.Running, now portal.Device) (told []Progress, err error) {
	text := portal.Done{Old: was.Old, New: now}.Text()
	var list []Request
	err = tx.Each(func(scan func(...any) error) error {
		r, err := scanRequest(scan)
		list = append(list, r)
		return err
	}, "SELECT "+requestColumns+" FROM requests WHERE chip = ? AND state IN ('Submit', 'Running')", string(chip))
	if err != nil {
		return nil, err
	}
	for _, r := range list {
		d := &deed{s: w.s, tx: tx, by: w.by, request: r, detail: "chip " + string(chip)}
		if err := d.step(complete, text); err != nil {
			return nil, err
		}
		told = append(told, Progress{Request: r.ID, Percent: 100, Word: Completed, Text: said(text, Completed)})
	}
	if len(list) == 0 { // of a portal that had no requests yet
		err = tx.Audit(records.Event{Account: w.by.Account, Token: w.by.Token, Action: "firmware update", Object: string(chip), Detail: text})
	}
	return told, errors.Join(err, w.supersede(tx, was))
}

// supersede ends the registration of a device that an update has replaced, tells its
// owner, and takes back what else was to be done with it: S22.
func (w *work) supersede(tx *records.Tx, was portal.Running) error {
	old := was.Old
	if old.Name == "" {
		return nil
	}
	var id, owner int64
	// A token of the same path with another key is another device. Updates that began
	// before keys were kept have none.
	err := tx.QueryRow("SELECT id, COALESCE(account, 0) FROM tokens WHERE path = ?1 AND status = 'active' AND (public_key = ?2 OR length(?2) = 0)", old.Path, append([]byte{}, old.Key...)).
		Scan(&id, &owner)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := account.Supersede(tx, old.Path); err != nil {
		return err
	}
	err = mail(tx, owner, "Token superseded", "The firmware of "+old.Path+" was updated. It has a new identity, which has to be registered.\n")
	if err != nil {
		return err
	}
	var list []Request
	err = tx.Each(func(scan func(...any) error) error {
		r, err := scanRequest(scan)
		list = append(list, r)
		return err
	}, "SELECT "+requestColumns+" FROM requests WHERE token = ? AND state = 'Submit'", id)
	for _, r := range list {
		d := &deed{s: w.s, tx: tx, by: w.by, request: r}
		err = errors.Join(err, d.step(refuse, "The token was superseded"))
	}
	return err
}

// progress passes on how far the work is. A line in the log stands for a text, whatever
// the percentages; who is at the card and who listens hears all.
func (w *work) progress(ctx context.Context, card Card, percent int, text string) {
	line := bare(text)
	if line != w.last && text != portal.TextScheduled && // it was, when it was submitted
		percent < 100 && w.own.ID != 0 {
		var r Request
		err := w.s.Records.Write(context.Background(), func(tx *records.Tx) error {
			var err error
			if r, err = load(tx, w.own.ID); err != nil {
				return err
			}
			_, err = tx.Exec("INSERT INTO request_log (request, at, account, state, text) VALUES (?, ?, ?, ?, ?)",
				r.ID, tx.Now().Unix(), nullable(w.by.Account), string(r.Word), line)
			return err
		})
		if err != nil { // what is not saved is not said; the books decide whether it goes on
			w.lost = recorded(err)
			return
		}
		w.own.Word, w.last = r.Word, line
	}
	if w.own.ID != 0 && percent < 100 {
		w.s.tell(Progress{Request: w.own.ID, Percent: percent, Word: w.own.Word, Text: said(line, w.own.Word)})
	}
	// A notice that does not arrive means that the next command will not either.
	_ = card.Notify(ctx, ram.Notice{Number: percent, Text: text})
}
