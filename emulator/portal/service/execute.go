package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"hsmemu/emulator/portal"
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
	// TextRecovery is what follows portal.TextFailed where it helps.
	TextRecovery = "Please connect the card again: an update that has begun goes on."
	// TextOtherFirmware follows it where a blank chip does not take the firmware.
	TextOtherFirmware = "Please submit a production with another firmware, and connect the card again."
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
	w, err := s.next(ctx, card, `account = ? AND token IS NULL AND type IN (?, ?) AND state IN ('Submit', 'Running') ORDER BY state = 'Running', id`,
		by.Account, string(FirmwareUpdate), string(Production))
	if err != nil {
		return true, failed(ctx, card, err, portal.TextFailed+"\n"+TextRecovery)
	}
	if w == nil {
		return false, nil
	}
	w.by = by
	return true, w.carryOut(ctx)
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
		w, err := s.next(ctx, card, "state = 'Submit' AND token IN (SELECT id FROM tokens WHERE path = ? AND public_key = ? AND status = 'active') ORDER BY id", path, seen.Key())
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
			w = &work{s: s, card: card}
		}
		w.by = Actor{Account: w.own.Account, Token: path}
		if err := w.carryOut(ctx); err != nil {
			return err
		}
	}
}

// next is for a card the first request of a condition that no other connection works on, or nil
// if there is none. Where there are only others, it waits for one. Error: ErrBusy.
func (s *Service) next(ctx context.Context, card Card, condition string, values ...any) (*work, error) {
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
			w := &work{s: s, card: card, own: r}
			if !s.take(r.ID, card) {
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

// holder is a connection that works on something.
type holder struct {
	card  Card
	ended chan struct{} // closed when it does so no more
}

// take takes a chip or a request for the connection of a card, and reports whether no other
// one had it.
func (s *Service) take(key any, card Card) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[key] != nil {
		return false
	}
	s.busy[key] = &holder{card, make(chan struct{})}
	return true
}

const (
	// patience is how long a connection waits for another one that commands its card: a
	// client that comes back at once finds its own last connection.
	patience = 2 * time.Second
	// glance is how often it looks whether the client of the other one has hung up, and
	// glances how often that has to be so: a client whose connection of TCP broke may come
	// back by another one at once.
	glance, glances = 100 * time.Millisecond, 5
	// farewell is how long it waits for one that has to end.
	farewell = 20 * time.Second
)

// deserted is a card whose client may have gone without a word, as a *[ram.Session] is.
type deserted interface {
	// Deserted reports whether it seems so.
	Deserted() bool
	// Replace ends the connection.
	Replace()
}

// wait waits until a chip or a request is free. A connection that has it, and whose client
// has gone without a word, ends. Error: ErrBusy.
func (s *Service) wait(key any) error {
	s.mu.Lock()
	other := s.busy[key]
	s.mu.Unlock()
	if other == nil {
		return nil
	}
	over, look := time.NewTimer(patience), time.NewTicker(glance)
	defer over.Stop()
	defer look.Stop()
	card, _ := other.card.(deserted)
	seen, ending := 0, false
	for {
		late := false
		select {
		case <-other.ended:
			return nil
		case <-over.C:
			late = true
		case <-look.C:
		}
		if seen++; card == nil || !card.Deserted() {
			seen = 0
		}
		switch {
		case !ending && (seen == glances || late && seen > 0): // late, as this process may have been stopped
			card.Replace()
			ending = true
			over.Reset(farewell)
		case late:
			select {
			case <-other.ended: // at the same time
				return nil
			default:
				return ErrBusy
			}
		}
	}
}

// work is what is done to a card: a [portal.Ledger] whose changes are in one
// transaction with the request's.
type work struct {
	s    *Service
	card Card
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
func (w *work) carryOut(ctx context.Context) error {
	defer w.release()
	s, card := w.s, w.card
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
	again, unread := w.goesOn(ctx, err)
	unsaved := recorded(errors.Join(unread, w.stopped(err, again)))
	var refusal *portal.Refusal
	if unsaved == nil && errors.As(err, &refusal) && refusal.Reason == portal.Latest {
		_ = card.Notify(ctx, ram.Notice{Text: refusal.Text}) // no failure
		return nil
	}
	last := portal.TextFailed
	switch {
	case again && errors.Is(err, portal.ErrFirmware):
		last += "\n" + TextOtherFirmware
	case again:
		last += "\n" + TextRecovery
	}
	return failed(ctx, card, errors.Join(err, unsaved), last)
}

// failed tells the person at the card why it failed, which is the last thing that they
// hear, and returns the error.
func failed(ctx context.Context, card Card, err error, last string) error {
	// What does not arrive is lost with the connection.
	_ = card.Notify(ctx, ram.Notice{Text: plain(err)})
	_ = card.Notify(ctx, ram.Notice{Number: -1, Text: last})
	return err
}

// over are the errors after which connecting the card again would lead to the same, unless
// an update of it has begun.
var over = []error{portal.ErrNotTrusted, portal.ErrOtherUpdate, portal.ErrCardRefuses, portal.ErrManagerKeys, portal.ErrNotBlank, portal.ErrFirmware, ErrNotAllowed}

// goesOn reports whether the work that ended with an error may go on when the card is
// connected again. Where the records do not tell, it may.
func (w *work) goesOn(ctx context.Context, why error) (may bool, err error) {
	if !errors.As(why, new(*portal.Refusal)) && !slices.ContainsFunc(over, func(e error) bool { return errors.Is(why, e) }) {
		return true, nil
	}
	if w.chip == "" {
		return false, nil
	}
	err = w.s.Records.Read(context.WithoutCancel(ctx), func(tx *records.Tx) error {
		return tx.QueryRow("SELECT EXISTS (SELECT 1 FROM updates WHERE chip = ?)", string(w.chip)).Scan(&may)
	})
	return may || err != nil, err
}

// stopped keeps in the log why the work on a card has ended. A request whose work may go
// on when the card is connected again stays as it is, and every other one goes back into its form.
func (w *work) stopped(why error, again bool) error {
	id := w.own.ID
	if id == 0 || errors.Is(why, ErrBusy) || errors.Is(why, ErrOtherCard) {
		return nil
	}
	text := bare(plain(why))
	if again && errors.Is(why, portal.ErrFirmware) {
		text += ". " + TextOtherFirmware
	}
	var r Request
	err := w.s.Records.Write(context.Background(), func(tx *records.Tx) error {
		d, err := w.deed(tx, id)
		if err != nil {
			return err
		}
		if again {
			err = d.move(d.request.Word, text)
		} else {
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
		close(w.s.busy[key].ended)
		delete(w.s.busy, key)
	}
	w.took = nil
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
