package portal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"hsmemu/applet/apdu"
	"hsmemu/applet/client"
	"hsmemu/applet/cvc"
	"hsmemu/applet/pkcs15"
	"hsmemu/applet/tlv"
	"hsmemu/keystore/curve"
)

// Order is what an update needs.
type Order struct {
	Ledger Ledger
	// Rand is where keys' nonces, challenges and names come from.
	Rand io.Reader
	// Now is the day that the new device's certificate begins on.
	Now time.Time
	// Progress, if it is there, is told how far the update is in percent, never
	// less than before, and what comes next.
	Progress func(percent int, text string)
}

// Done is an update that has come to its end.
type Done struct {
	Chip ChipID
	// Old is empty where there was no device before.
	Old, New Device
	// Resumed reports whether an earlier call had begun it.
	Resumed bool
}

// String says what the chip was, and what it is.
func (d Done) String() string {
	was := "blank"
	if d.Old.Name != "" {
		was = fmt.Sprintf("firmware %s of %s", d.Old.Firmware, d.Old.Path)
	}
	return fmt.Sprintf("chip %s: %s became %s of %s", d.Chip, was, d.New.Firmware, d.New.Path)
}

// Text is what the person at the card is told at the end.
func (d Done) Text() string {
	if d.Old.Name == "" {
		return "Token produced. Device id " + d.New.Name.Holder()
	}
	return "Firmware update completed. New device id " + d.New.Name.Holder()
}

// Errors of Update.
var (
	// ErrOtherUpdate says that a card without a device awaits the end of an
	// update that these books do not know.
	ErrOtherUpdate = errors.New("the card awaits the end of an update that did not begin here")
	// ErrCardRefuses says that the card did not give up its application (6985):
	// it has rules of its own. Nothing was changed.
	ErrCardRefuses = errors.New("the card refuses the update")
	// ErrManagerKeys says that no channel can be opened: somebody else has put keys into the
	// card manager (UPDATE-32). A device is what it was. The error that it wraps says how it
	// was seen.
	ErrManagerKeys = errors.New("the card manager has other keys than the portal's, and whoever put them there by PUT KEY can put the portal's back")
	// ErrNotAsShipped says that the card is not as shipped after the update.
	ErrNotAsShipped = errors.New("the card is not as shipped after the update")
)

// Update brings a card to the newest firmware of its generation and makes a new
// device of it, as shipped and with an identity of its own. An update that was
// interrupted, wherever that was, is gone on with by the next call for the card.
// What it takes is in the books before the card is told: the licence of the issuer,
// one of five updates with a blocked SO-PIN, and the new certificate.
//
// Errors: a *Refusal where the rules do not allow it, ErrNotTrusted,
// ErrOtherUpdate, ErrCardRefuses, ErrManagerKeys, ErrFirmware, ErrNotAsShipped,
// ErrRequest, and those of the ledger and the card.
func Update(ctx context.Context, card Card, o Order) (Done, error) {
	u := &update{card: card, order: o}
	books, seen, err := u.look(ctx)
	if err != nil {
		return Done{}, err
	}
	switch running := books.Chip.Running; {
	case running != nil && (seen.is(running.Certificate) || seen.Stage != Operational):
		return u.resume(ctx, seen, *running)
	case seen.Stage == Operational:
		return u.whole(ctx, seen)
	}
	return Done{}, ErrOtherUpdate
}

// look inspects the card, if one could be certified at all, and loads its books.
func (u *update) look(ctx context.Context) (Books, Inspection, error) {
	books, err := u.order.Ledger.Load("")
	if err != nil {
		return Books{}, Inspection{}, err
	}
	if err := books.open(); err != nil {
		return Books{}, Inspection{}, err
	}
	u.tell(0, "looking at the card")
	seen, err := Inspect(ctx, u.card, u.order.Rand)
	if err != nil {
		return Books{}, Inspection{}, err
	}
	u.chip = seen.Chip
	books, err = u.order.Ledger.Load(u.chip)
	return books, seen, err
}

// resume goes on with what was interrupted.
func (u *update) resume(ctx context.Context, seen Inspection, running Running) (Done, error) {
	u.resumed = true
	switch {
	case seen.is(running.Certificate): // it was done, and nobody wrote it down
		return u.finish(seen, running)
	case seen.Stage == InProduction && seen.Version() == running.To:
		return u.produce(ctx, running)
	}
	return u.load(ctx, running)
}

// open refuses if no card could be updated: whatever it is, its device could not
// be certified. An update under way has its licence already.
func (b Books) open() error {
	current, err := b.Authority.Current()
	if err != nil {
		return err
	}
	last := b.Authority.Issuers[len(b.Authority.Issuers)-1]
	if !b.Waiting && (!last.Ready || last.Licences <= 0) {
		return notReady(current.CHR)
	}
	return nil
}

// update is a call of Update.
type update struct {
	card    Card
	order   Order
	chip    ChipID
	resumed bool
	percent int
}

// tell reports progress.
func (u *update) tell(percent int, text string) {
	u.percent = percent
	if u.order.Progress != nil {
		u.order.Progress(u.percent, text)
	}
}

// whole is an update of a device from its beginning. What one took
// that had begun before and changed nothing on the card is given back first.
func (u *update) whole(ctx context.Context, seen Inspection) (Done, error) {
	var running Running
	err := u.order.Ledger.Change(u.chip, func(b *Books) error {
		if err := b.release(seen.Device.Device.CHR); err != nil {
			return err
		}
		target, err := b.target(seen.Version())
		if err != nil {
			return err
		}
		d := Decide(seen, b.Chip, target)
		if d.Refusal != nil {
			return d.Refusal
		}
		name, err := b.name(u.order.Rand, seen.Device.Device.CHR)
		if err != nil {
			return err
		}
		if err := b.charge(target.Issuer, 1); err != nil {
			return err
		}
		running = Running{Old: seen.device(), To: target.Version, Blocked: d.Blocked, Issuer: target.Issuer, Name: name}
		if b.Chip.Running = &running; d.Blocked {
			b.Chip.Blocked++
		}
		return nil
	})
	if err != nil {
		return Done{}, err
	}
	u.tell(4, TextScheduled)
	return u.load(ctx, running)
}

// device is what the books keep of a device.
func (i Inspection) device() Device {
	return Device{Name: i.Device.Device.CHR, Path: i.Device.Path(), Key: i.Key(), Firmware: i.Version()}
}

// load replaces the application, or what a load before has left of it.
func (u *update) load(ctx context.Context, running Running) (Done, error) {
	u.tell(5, "opening a secure channel to the card manager")
	c, err := u.manager(ctx, running.Old.Name == "")
	if errors.Is(err, ErrManagerKeys) {
		return Done{}, u.unchanged(running, err)
	}
	if err != nil {
		return Done{}, err
	}
	if running.Old.Name != "" {
		u.tell(8, "removing firmware "+running.Old.Firmware.String())
	}
	_, err = c.send(ctx, deletePackage)
	switch {
	case errors.Is(err, apdu.ReferenceNotFound): // it is gone already
	case errors.Is(err, apdu.ConditionsNotSatisfied):
		return Done{}, u.unchanged(running, fmt.Errorf("%w: %w", ErrCardRefuses, err))
	case err != nil:
		return Done{}, err
	}
	file := LoadFile(running.To)
	u.tell(10, "loading firmware "+running.To.String())
	if _, err := c.send(ctx, announce(file)); err != nil {
		return Done{}, fmt.Errorf("announce firmware %s: %w", running.To, err)
	}
	list := blocks(file)
	for n, block := range list {
		if _, err := c.send(ctx, block); err != nil {
			if errors.Is(err, apdu.ConditionsNotSatisfied) {
				err = fmt.Errorf("%w: %w", ErrFirmware, err)
			}
			return Done{}, fmt.Errorf("load block %d of %d of firmware %s: %w", n+1, len(list), running.To, err)
		}
		if percent := 10 + 75*(n+1)/len(list); percent > u.percent {
			u.tell(percent, "loading firmware "+running.To.String())
		}
	}
	if _, err := c.send(ctx, installApplication); err != nil {
		return Done{}, fmt.Errorf("install firmware %s: %w", running.To, err)
	}
	return u.produce(ctx, running)
}

// unchanged gives back what an update took that this call has begun, as its card is what it
// was, and returns why it ends.
func (u *update) unchanged(running Running, why error) error {
	if u.resumed {
		return why
	}
	return errors.Join(why, u.order.Ledger.Change(u.chip, func(b *Books) error { return b.release(running.Old.Name) }))
}

// manager opens a secure channel to the card manager. One of a chip that comes blank may
// have its transport keys still, and gets the chip's first.
func (u *update) manager(ctx context.Context, blank bool) (*channel, error) {
	if _, err := client.New(u.card).Send(ctx, selectManager); err != nil {
		return nil, fmt.Errorf("select the card manager: %w", err)
	}
	c, err := open(ctx, u.card, u.chip, u.order.Rand, keyVersion, u.chip.keys())
	if refused := errors.As(err, new(apdu.SW)); !blank || !refused {
		return c, err
	}
	c, err = open(ctx, u.card, u.chip, u.order.Rand, transportVersion, transportKeys())
	if err != nil {
		return nil, err
	}
	u.tell(7, "replacing the transport keys")
	return c, c.rekey(ctx, u.chip)
}

// produce makes a device of an application in production: its key, the certificate
// for it, and the end of production.
func (u *update) produce(ctx context.Context, running Running) (Done, error) {
	u.tell(86, "making the device key of "+running.Name.Holder())
	info, err := client.New(u.card).Select(ctx)
	if err != nil {
		return Done{}, err
	}
	if says := (Version{info.Major, info.Minor}); says != running.To {
		return Done{}, untrusted(fmt.Errorf("it has firmware %s after %s was loaded", says, running.To))
	}
	c, err := open(ctx, u.card, u.chip, u.order.Rand, keyVersion, u.chip.keys())
	if err != nil {
		return Done{}, err
	}
	request, err := c.send(ctx, generateDeviceKey(running))
	if err != nil {
		return Done{}, fmt.Errorf("make the device key: %w", err)
	}
	u.tell(90, "certifying the device")
	err = u.order.Ledger.Change(u.chip, func(b *Books) (err error) {
		if r := b.Chip; r.Running == nil || r.Running.Name != running.Name {
			return ErrOtherUpdate
		}
		running.Certificate, err = b.Authority.Certify(request, running.Name, running.Issuer, u.order.Now, u.order.Rand)
		b.Chip.Running = &running
		return err
	})
	if err != nil {
		return Done{}, err
	}
	offset := 0
	for part := range slices.Chunk(running.Certificate, 200) {
		if _, err := c.send(ctx, storePart(offset, part)); err != nil {
			return Done{}, fmt.Errorf("store the device certificate: %w", err)
		}
		offset += len(part)
	}
	u.tell(95, "ending production")
	if _, err := c.send(ctx, apdu.Command{CLA: apdu.ClassProprietary, INS: apdu.InsFinalise}); err != nil {
		return Done{}, fmt.Errorf("end production: %w", err)
	}
	u.tell(97, "looking at the new device")
	seen, err := Inspect(ctx, u.card, u.order.Rand)
	if err != nil {
		return Done{}, err
	}
	if seen.Chip != u.chip {
		return Done{}, untrusted(errOtherChip)
	}
	if err := asShipped(seen, running); err != nil {
		return Done{}, fmt.Errorf("%w: %w", ErrNotAsShipped, err)
	}
	return u.finish(seen, running)
}

// asShipped says what of a card is not as it has to be after an update.
func asShipped(seen Inspection, running Running) error {
	switch {
	case !seen.is(running.Certificate):
		return errors.New("it has another certificate")
	case seen.Version() != running.To:
		return fmt.Errorf("firmware %s in place of %s", seen.Version(), running.To)
	case seen.UserPIN.State != client.Unset || seen.SOPIN.State != client.Unset:
		return errors.New("it has PINs")
	}
	return nil
}

// finish writes down that the update is done.
func (u *update) finish(seen Inspection, running Running) (Done, error) {
	done := Done{Chip: u.chip, Old: running.Old, New: seen.device(), Resumed: u.resumed}
	if err := u.order.Ledger.Change(u.chip, func(b *Books) error { return b.complete(done.New) }); err != nil {
		return Done{}, err
	}
	u.tell(100, done.Text())
	return done, nil
}

// Data objects of the commands in production.
const (
	tagProfile   tlv.Tag = 0x5F29
	tagAuthority tlv.Tag = 0x42
	tagHolder    tlv.Tag = 0x5F20
)

// generateDeviceKey is GENERATE ASYMMETRIC KEY PAIR of the device key (UPDATE-21).
func generateDeviceKey(r Running) apdu.Command {
	known, _ := curve.ByName(deviceCurve)
	data := tlv.Append(nil, tagProfile, []byte{0})
	data = tlv.Append(data, tagAuthority, []byte(r.Issuer))
	data = append(data, cvc.ECTemplate(cvc.ECDSASHA256, known)...)
	return apdu.Command{INS: apdu.InsGenerateKeyPair, Data: tlv.Append(data, tagHolder, []byte(r.Name)), Ne: 65536, Extended: true}
}

// storePart is UPDATE BINARY of a part of EF 2F02.
func storePart(offset int, part []byte) apdu.Command {
	data := tlv.Append(nil, apdu.FileOffset, []byte{byte(offset >> 8), byte(offset)})
	return apdu.Command{INS: apdu.InsUpdateBinary, P1: byte(pkcs15.FileDevice >> 8), P2: byte(pkcs15.FileDevice & 0xFF), Data: tlv.Append(data, apdu.FileData, part)}
}
