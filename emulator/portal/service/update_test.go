package service_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/client"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/portal"
	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/records"
	"hsmemu/emulator/portal/service"
	"hsmemu/emulator/ram"
	"hsmemu/emulator/scp03"
)

// An update of the plugged card, which nobody has registered, from its form to its
// end, with the log that its owner sees: PORTAL-15 and PORTAL-16.
func TestInReader(t *testing.T) {
	t.Parallel()
	w := open(t)
	alice := w.person(t, "alice@example.org")
	card := situation{firmware: "4.0"}.card(t, "plugged")
	old := card.Durable().Serial()
	r := &reader{Card: card}
	done, err := w.InReader(t.Context(), r, alice)
	require.NoError(t, err)
	require.False(t, done, "nothing was submitted")
	request := w.submitted(t, alice, service.FirmwareUpdate, service.Data{})
	require.Equal(t, service.Submit, request.Word)
	require.Equal(t, []service.Action{service.DoCancel}, request.Actions)
	events, stop := w.Watch(request.ID)
	defer stop()
	go func() { // listens in time
		for range events {
		}
	}()
	done, err = w.InReader(t.Context(), r, alice)
	require.NoError(t, err)
	require.True(t, done)
	after := w.get(t, alice, request.ID, service.Completed)
	require.Equal(t, chipOf(t, card), after.Chip)
	require.Equal(t, []service.Action{service.DoStartOver}, after.Actions)
	name := card.Durable().Serial()
	require.Equal(t, ram.Notice{Number: 100, Text: "Firmware update completed. New device id " + name}, r.last())
	require.Equal(t, []string{
		"Request started (Edit)",
		"Request scheduled (Submit)",
		"looking at the card (Submit)",
		"Updating /UTSRCAEM1/UTDICAEM01/" + old + " from firmware 4.0 to 4.1 (Running)",
		"opening a secure channel to the card manager (Running)",
		"removing firmware 4.0 (Running)",
		"loading firmware 4.1 (Running)",
		"making the device key of " + name + " (Running)",
		"certifying the device (Running)",
		"ending production (Running)",
		"looking at the new device (Running)",
		"Firmware update completed. New device id " + name + " (Completed)",
	}, w.log(t, alice, request.ID))
	done, err = w.InReader(t.Context(), r, alice)
	require.NoError(t, err)
	require.False(t, done)
}

// What the rules refuse leaves the card as it was, and the request in its form with
// the reason in the words of the vendor's portal (UPDATE-8); it can be submitted again.
func TestInReader_Refused(t *testing.T) {
	t.Parallel()
	w := open(t)
	alice := w.person(t, "alice@example.org")
	for name, c := range map[string]struct {
		card situation
		text string
		fine bool // no failure
	}{
		"latest": {situation{firmware: "4.1"}, "Firmware is already the latest available version (Edit)", true},
		"keys":   {situation{firmware: "4.0", keys: true}, "SmartCard-HSM contains keys. Please remove keys first (Edit)", false},
		"old":    {situation{firmware: "1.2"}, "", false},
	} {
		card := c.card.card(t, name)
		before := card.State.Durable()
		request := w.submitted(t, alice, service.FirmwareUpdate, service.Data{})
		r := &reader{Card: card}
		done, err := w.InReader(t.Context(), r, alice)
		require.True(t, done)
		require.Equal(t, before, card.State.Durable())
		after := w.get(t, alice, request.ID, service.Edit)
		require.Equal(t, []service.Action{service.DoSave, service.DoSubmit, service.DoCancel}, after.Actions)
		lines := w.log(t, alice, request.ID)
		if c.fine {
			require.NoError(t, err)
			require.Equal(t, ram.Notice{Text: c.text}, r.last())
		} else {
			require.Error(t, err)
			require.Equal(t, ram.Notice{Number: -1, Text: portal.TextFailed}, r.last(), "to connect it again does not help")
		}
		if c.text != "" {
			require.Equal(t, c.text, lines[len(lines)-1])
		}
		_, err = w.Do(t.Context(), alice, request.ID, service.DoCancel, service.Data{})
		require.NoError(t, err)
	}
}

// Nobody is at a page when a remote update is refused: its owner is told by mail.
func TestUnannounced_Refused(t *testing.T) {
	t.Parallel()
	w := open(t)
	alice, bob := w.person(t, "alice@example.org"), w.person(t, "bob@example.org")
	for _, who := range []service.Actor{alice, bob} {
		card := situation{firmware: "4.0", keys: true}.card(t, fmt.Sprint("refused ", who.Account))
		token := w.register(t, who, card)
		if who == bob { // who wants no mail
			w.write(t, func(tx *records.Tx) error {
				_, err := tx.Exec("UPDATE accounts SET notify_requests = 0 WHERE id = ?", bob.Account)
				return err
			})
		}
		request := w.submitted(t, who, service.FirmwareUpdate, service.Data{Token: token})
		require.Error(t, w.Unannounced(t.Context(), &reader{Card: card}))
		w.get(t, who, request.ID, service.Edit)
	}
	require.Equal(t, []string{"Service request 1"}, w.mails(t, "alice@example.org"))
	require.Empty(t, w.mails(t, "bob@example.org"))
}

// A registered card is updated when it connects next, without a session and without a
// log-in; its registration ends with its identity: S18 and S22.
func TestUnannounced(t *testing.T) {
	t.Parallel()
	w := open(t)
	alice, bob := w.person(t, "alice@example.org"), w.person(t, "bob@example.org")
	card, other := situation{firmware: "4.0"}.card(t, "remote"), situation{firmware: "4.0"}.card(t, "other")
	token := w.register(t, alice, card)
	w.register(t, bob, other)
	_, err := w.Start(t.Context(), bob, service.FirmwareUpdate, service.Data{Token: token})
	require.ErrorIs(t, err, service.ErrUnknown, "a card of somebody else's")
	r := &reader{Card: card}
	require.NoError(t, w.Unannounced(t.Context(), r))
	require.Equal(t, []ram.Notice{{Text: "Nothing to do"}}, r.notices)
	one := w.submitted(t, alice, service.FirmwareUpdate, service.Data{Token: token})
	two := w.submitted(t, alice, service.FirmwareUpdate, service.Data{Token: token})
	done, err := w.InReader(t.Context(), &reader{Card: other}, alice)
	require.NoError(t, err)
	require.False(t, done, "it waits for its card")
	r = &reader{Card: other}
	require.NoError(t, w.Unannounced(t.Context(), r))
	require.Equal(t, []ram.Notice{{Text: "Nothing to do"}}, r.notices)
	r = &reader{Card: card}
	require.NoError(t, w.Unannounced(t.Context(), r))
	require.Equal(t, 100, r.last().Number)
	w.get(t, alice, one.ID, service.Completed)
	w.get(t, alice, two.ID, service.Edit)
	require.Equal(t, "The token was superseded (Edit)", w.log(t, alice, two.ID)[3-1])
	require.Equal(t, 1, w.count(t, "SELECT COUNT(*) FROM tokens WHERE id = ? AND status = 'superseded'", token))
	require.Equal(t, 1, w.count(t, "SELECT COUNT(*) FROM tokens WHERE status = 'active'"))
	require.Equal(t, []string{"Token superseded"}, w.mails(t, "alice@example.org"))
	r = &reader{Card: card}
	require.NoError(t, w.Unannounced(t.Context(), r))
	require.Equal(t, []ram.Notice{{Text: "Nothing to do"}}, r.notices, "its new identity is nobody's")
	again, err := w.Do(t.Context(), alice, one.ID, service.DoStartOver, service.Data{})
	require.NoError(t, err)
	require.Equal(t, service.Edit, again.Word)
	require.Zero(t, again.Data.Token, "the old token is no more")
}

// What is no SmartCard-HSM is told so.
func TestUnannounced_ForeignCard(t *testing.T) {
	t.Parallel()
	w := open(t)
	r := &reader{Card: situation{firmware: "1.2"}.card(t, "foreign")}
	require.ErrorIs(t, w.Unannounced(t.Context(), r), portal.ErrNotTrusted)
	require.Equal(t, ram.Notice{Number: -1, Text: "Failure talking to card. Is this a SmartCard-HSM ?"}, r.last())
}

// Whoever wants a card updated whose card manager has keys of somebody else gets the request
// back with the reason, and can ask again.
func TestUpdate_KeysOfSomebodyElse(t *testing.T) {
	t.Parallel()
	w := open(t)
	alice := w.person(t, "alice@example.org")
	card := situation{firmware: "4.0"}.card(t, "other keys")
	d := card.State.Durable()
	d.Manager.Counter, d.Manager.KeySets = 1, []chip.KeySet{{Version: 0x31, Keys: scp03.NewKeys([16]byte{}, [16]byte{}, [16]byte{})}}
	card.State = chip.Boot(d)
	request := w.submitted(t, alice, service.FirmwareUpdate, service.Data{})
	r := &reader{Card: card}
	_, err := w.InReader(t.Context(), r, alice)
	require.ErrorIs(t, err, portal.ErrManagerKeys)
	require.Equal(t, ram.Notice{Number: -1, Text: portal.TextFailed}, r.last())
	w.get(t, alice, request.ID, service.Edit)
	log := w.log(t, alice, request.ID)
	require.Contains(t, log[len(log)-1], portal.ErrManagerKeys.Error())
	require.Equal(t, 1000, w.count(t, "SELECT licences FROM issuers"))
}

// Two connections command one card: the second one is refused, and the first one
// comes to its end.
func TestBusy(t *testing.T) {
	t.Parallel()
	w := open(t)
	alice, bob := w.person(t, "alice@example.org"), w.person(t, "bob@example.org")
	card := situation{firmware: "4.0"}.card(t, "busy")
	mine := w.submitted(t, alice, service.FirmwareUpdate, service.Data{})
	theirs := w.submitted(t, bob, service.FirmwareUpdate, service.Data{})
	r, twin := &reader{Card: card}, &reader{Card: card.Copy()}
	var once sync.Once
	r.each = func() {
		if r.sent < 100 {
			return
		}
		once.Do(func() {
			before := twin.State.Durable()
			_, err := w.InReader(context.Background(), twin, bob)
			require.ErrorIs(t, err, service.ErrBusy)
			require.Equal(t, before, twin.State.Durable())
			require.ErrorIs(t, w.Unannounced(context.Background(), twin), service.ErrBusy)
		})
	}
	_, err := w.InReader(t.Context(), r, alice)
	require.NoError(t, err)
	w.get(t, alice, mine.ID, service.Completed)
	w.get(t, bob, theirs.ID, service.Submit)
	require.Equal(t, ram.Notice{Number: -1, Text: portal.TextFailed + "\n" + service.TextRecovery}, twin.last())
}

// hungUp is a reader whose client hangs up before a command, and comes back for none.
type hungUp struct {
	*reader
	before   int
	reached  chan struct{} // closed then
	replaced chan struct{} // closed when its connection ends
}

func (h *hungUp) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	if h.sent < h.before {
		return h.reader.Transmit(ctx, command)
	}
	h.gone = true
	close(h.reached)
	<-h.replaced
	return nil, ram.ErrReplaced
}

func (h *hungUp) Deserted() bool { return true }

func (h *hungUp) Replace() { close(h.replaced) }

// Where the client that commands a card has gone without a word, the card need not wait when
// it comes again, in whosever session, and its update goes on. Another card does not get it.
func TestBusy_Deserted(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		serve func(*world, service.Card) error
		other bool
	}{
		"no session": {serve: func(w *world, card service.Card) error { return w.Unannounced(t.Context(), card) }},
		"a session of the same user": {serve: func(w *world, card service.Card) error {
			_, err := w.InReader(t.Context(), card, w.sessions.users["alice"])
			return err
		}},
		"another card": {other: true, serve: func(w *world, card service.Card) error {
			_, err := w.InReader(t.Context(), card, w.sessions.users["alice"])
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := open(t)
			alice := w.person(t, "alice@example.org")
			w.sessions.users["alice"] = alice
			request := w.submitted(t, alice, service.FirmwareUpdate, service.Data{})
			card := situation{firmware: "4.0"}.card(t, "deserted")
			first := &hungUp{&reader{Card: card}, 100, make(chan struct{}), make(chan struct{})}
			ended := make(chan error, 1)
			go func() {
				_, err := w.InReader(t.Context(), first, alice)
				ended <- err
			}()
			<-first.reached
			w.get(t, alice, request.ID, service.Running)
			if c.other {
				require.ErrorIs(t, c.serve(w, &reader{Card: situation{firmware: "4.0"}.card(t, "other")}), service.ErrOtherCard)
				w.get(t, alice, request.ID, service.Running)
			} else {
				require.NoError(t, c.serve(w, &reader{Card: card}))
				w.get(t, alice, request.ID, service.Completed)
			}
			require.ErrorIs(t, <-ended, ram.ErrReplaced)
		})
	}
}

// An update is interrupted at each of its commands, before the card gets it or after,
// and somebody else's log-in finishes it, or a connection without any: UPDATE-23,
// UPDATE-24, UPDATE-25 and UPDATE-26.
func TestInterruptedAnywhere(t *testing.T) {
	t.Parallel()
	w := open(t)
	alice, bob := w.person(t, "alice@example.org"), w.person(t, "bob@example.org")
	fresh := situation{firmware: "4.0"}
	whole := &reader{Card: fresh.card(t, "whole")}
	w.submitted(t, alice, service.FirmwareUpdate, service.Data{})
	_, err := w.InReader(t.Context(), whole, alice)
	require.NoError(t, err)
	require.Greater(t, whole.sent, 200)
	stride := 1
	if testing.Short() {
		stride = 7
	}
	running, cards := 0, 1
	for n := 0; n < 2*whole.sent; n += stride {
		command := n/2 + 1
		cards++
		card := fresh.card(t, string(rune('A'+n)))
		was := card.Durable().Device.Name
		request := w.submitted(t, alice, service.FirmwareUpdate, service.Data{})
		_, err := w.InReader(t.Context(), &reader{Card: card, at: command, before: n%2 == 0}, alice)
		require.ErrorIs(t, err, errPulled, "command %d", command)
		r, err := w.Get(t.Context(), alice, request.ID)
		require.NoError(t, err)
		back := &reader{Card: card}
		switch {
		case r.Word == service.Submit: // nothing was changed, and alice connects it again
			done, err := w.InReader(t.Context(), back, alice)
			require.NoError(t, err)
			require.True(t, done)
		case n%4 < 2:
			running++
			require.Equal(t, service.Running, r.Word)
			theirs := w.submitted(t, bob, service.FirmwareUpdate, service.Data{})
			done, err := w.InReader(t.Context(), back, bob)
			require.NoError(t, err, "command %d", command)
			require.True(t, done)
			w.get(t, bob, theirs.ID, service.Completed)
		default:
			running++
			require.Equal(t, service.Running, r.Word)
			require.NoError(t, w.Unannounced(t.Context(), back), "command %d", command)
		}
		w.get(t, alice, request.ID, service.Completed)
		require.Equal(t, 100, back.last().Number)
		d := card.State.Durable()
		require.NoError(t, d.Check())
		require.Equal(t, "4.1", d.Applet.Firmware)
		require.NotEqual(t, was, d.Applet.Device.Name)
		require.False(t, d.Applet.PINs.Initialised)
	}
	require.Greater(t, running, 350/stride)
	require.Zero(t, w.count(t, "SELECT COUNT(*) FROM updates"))
	require.Equal(t, 1000-cards, w.count(t, "SELECT licences FROM issuers WHERE position = 1"), "one for each card")
}

// A request that is under way is for the card that it was begun on, and no other one is
// touched for it.
func TestOtherCard(t *testing.T) {
	t.Parallel()
	w := open(t)
	alice := w.person(t, "alice@example.org")
	card, other := situation{firmware: "4.0"}.card(t, "first"), situation{firmware: "4.0"}.card(t, "second")
	request := w.submitted(t, alice, service.FirmwareUpdate, service.Data{})
	_, err := w.InReader(t.Context(), &reader{Card: card, at: 100}, alice)
	require.ErrorIs(t, err, errPulled)
	before := other.State.Durable()
	_, err = w.InReader(t.Context(), &reader{Card: other}, alice)
	require.ErrorIs(t, err, service.ErrOtherCard)
	require.Equal(t, before, other.State.Durable())
	w.get(t, alice, request.ID, service.Running)
	// A request of its own is for it, all the same.
	second := w.submitted(t, alice, service.FirmwareUpdate, service.Data{})
	_, err = w.InReader(t.Context(), &reader{Card: other}, alice)
	require.NoError(t, err)
	w.get(t, alice, second.ID, service.Completed)
	w.get(t, alice, request.ID, service.Running)
	_, err = w.InReader(t.Context(), &reader{Card: card}, alice)
	require.NoError(t, err)
	w.get(t, alice, request.ID, service.Completed)
}

// A blank chip becomes a device in the session of an operator, who may choose again
// after a firmware that it does not take.
func TestProduction(t *testing.T) {
	t.Parallel()
	w := open(t)
	alice, olga := w.person(t, "alice@example.org"), w.person(t, "olga@example.org", account.Operator)
	_, err := w.Start(t.Context(), alice, service.Production, service.Data{Firmware: "4.1"})
	require.ErrorIs(t, err, service.ErrNotAllowed)
	for form, want := range map[string]error{"": service.ErrData, "four": service.ErrData, "4.0": portal.ErrFirmware} {
		r, err := w.Start(t.Context(), olga, service.Production, service.Data{Firmware: form})
		require.NoError(t, err)
		_, err = w.Do(t.Context(), olga, r.ID, service.DoSubmit, service.Data{})
		require.ErrorIs(t, err, want)
		require.Contains(t, w.log(t, olga, r.ID)[1], " (Edit)")
		w.get(t, olga, r.ID, service.Edit)
	}
	card := blank(t, "3.6", "blank")
	request := w.submitted(t, olga, service.Production, service.Data{Firmware: "4.1"})
	r := &reader{Card: card}
	_, err = w.InReader(t.Context(), r, olga)
	require.ErrorIs(t, err, portal.ErrFirmware)
	require.Equal(t, ram.Notice{Number: -1, Text: portal.TextFailed + "\n" + service.TextOtherFirmware}, r.last(), "the same firmware is refused again")
	w.get(t, olga, request.ID, service.Running)
	log := w.log(t, olga, request.ID)
	require.Contains(t, log[len(log)-1], service.TextOtherFirmware, "whoever looks at the page reads it, too")
	again := w.submitted(t, olga, service.Production, service.Data{Firmware: "3.6"})
	r = &reader{Card: card}
	_, err = w.InReader(t.Context(), r, olga)
	require.NoError(t, err)
	require.Equal(t, "Token produced. Device id "+card.Durable().Serial(), r.last().Text)
	w.get(t, olga, request.ID, service.Completed)
	w.get(t, olga, again.ID, service.Completed)
	require.Equal(t, "3.6", card.Durable().Firmware)
	require.Equal(t, 999, w.count(t, "SELECT licences FROM issuers"))

	third := w.submitted(t, olga, service.Production, service.Data{Firmware: "3.6"})
	_, err = w.InReader(t.Context(), &reader{Card: card}, olga)
	require.ErrorIs(t, err, portal.ErrNotBlank)
	w.get(t, olga, third.ID, service.Edit)
	// Whoever has it can take it into use, and log in by it.
	c := client.New(card)
	_, err = c.Select(t.Context())
	require.NoError(t, err)
	initialise(t, card, true, 0, 0)
}

// An update that began before there were requests, or whose request is gone, is
// finished all the same.
func TestUnannounced_WithoutRequest(t *testing.T) {
	t.Parallel()
	w := open(t)
	card := situation{firmware: "4.0"}.card(t, "card")
	_, err := portal.Update(t.Context(), &reader{Card: card, at: 100}, portal.Order{Ledger: w.store.Ledger(), Rand: w.store.Rand(), Now: w.store.Now()})
	require.ErrorIs(t, err, errPulled)
	r := &reader{Card: card}
	require.NoError(t, w.Unannounced(t.Context(), r))
	require.Equal(t, 100, r.last().Number)
	require.NoError(t, w.store.Read(t.Context(), func(tx *records.Tx) error {
		list, err := tx.Events(1)
		require.Equal(t, "firmware update", list[0].Action)
		return err
	}))
}
