package broken

import (
	"crypto/sha256"
	"encoding/binary"
	"io"
	"maps"
	"slices"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
	"hsmemu/applet/pkcs15"
	"hsmemu/emulator/chip"
	"hsmemu/keystore"
	"hsmemu/keystore/curve"
	"hsmemu/pinstate"
)

// pinCommands are those that compare a PIN.
var pinCommands = []byte{apdu.InsVerify, apdu.InsChangeReferenceData, apdu.InsResetRetryCounter, apdu.InsInitializeDevice}

// comparesFirst saves nothing before the PIN is compared: a right one is not
// charged at all, a wrong one afterwards.
func comparesFirst(r *run) {
	r.right()
	if n := len(r.result.Commits); n > 1 {
		r.result.Commits = r.result.Commits[n-1:]
	}
}

// forgetsCharge keeps a charge in memory alone.
func forgetsCharge(r *run) {
	r.right()
	if r.refused() {
		r.saveNothing()
	}
}

// counter is one of the two retry counters.
type counter func(*pinstate.Card) *pinstate.Reference

func so(p *pinstate.Card) *pinstate.Reference   { return &p.SO }
func user(p *pinstate.Card) *pinstate.Reference { return &p.User }

// selected reports whether the command has selected the application.
func (r *run) selected() bool {
	return r.command.P1 == apdu.SelectByName && r.after.Selected && r.result.Event.Subject == "application" && r.sw() == apdu.OK
}

// refillOnSelect fills a counter when the application is selected.
func refillOnSelect(which counter) fault {
	return func(r *run) {
		r.right()
		if c := which(&r.after.Applet.PINs); r.selected() && c.Left != c.Max {
			c.Left = c.Max
			r.save()
		}
	}
}

// refillOnReset fills a counter at a reset.
func refillOnReset(which counter) func(last, next chip.State) chip.State {
	fill := refill(which)
	return func(_, next chip.State) chip.State {
		fill(&next.Applet.Durable)
		return next
	}
}

// refill fills a counter.
func refill(which counter) func(*applet.Durable) {
	return func(d *applet.Durable) {
		c := which(&d.PINs)
		c.Left = c.Max
	}
}

// refund gives back the try that a wrong PIN has cost, and says so. The PIN is
// the one that the command names in P2, or the SO-PIN.
func refund(which counter, p2 byte) fault {
	return func(r *run) {
		r.right()
		if !r.refused() || p2 != 0 && r.command.P2 != p2 {
			return
		}
		before := *which(&r.before.Applet.PINs)
		*which(&r.after.Applet.PINs) = before
		r.saveNothing()
		r.answer(nil, apdu.TriesLeft(int(before.Left)))
	}
}

// chargesLength charges a PIN that cannot be right, since it is too long or too
// short.
func chargesLength(r *run) {
	r.right()
	which := user
	if r.command.P2 == apdu.RefSOPIN {
		which = so
	}
	if c := which(&r.after.Applet.PINs); len(r.command.Data) > 0 && r.sw() == apdu.WrongLength && c.Left > 0 {
		c.Left--
		r.save()
	}
}

// withOption does a command that was refused with a word as if an option had been
// given, or had not.
func withOption(sw apdu.SW, o pinstate.Options, given bool) fault {
	return func(r *run) {
		r.right()
		options := r.before.Applet.PINs.Options
		if r.sw() != sw || options.Has(o) == given {
			return
		}
		r.again(func(s *applet.State) {
			s.PINs.Options &^= o
			if given {
				s.PINs.Options |= o
			}
		}, func(d *applet.Durable) { d.PINs.Options = options })
	}
}

// keepsCounter takes a right PIN, or the unblocking of one, and leaves the counter
// of the user PIN as it was.
func keepsCounter(r *run) {
	r.right()
	left := r.before.Applet.PINs.User.Left
	if c := &r.after.Applet.PINs.User; r.sw() == apdu.OK && len(r.result.Commits) > 0 && r.command.P2 == apdu.RefUserPIN && c.Left != left {
		c.Left = left
		r.save()
	}
}

// logsIn logs the user in with what should not.
func logsIn(p2 byte) fault {
	return func(r *run) {
		r.right()
		if r.sw() == apdu.OK && len(r.result.Commits) > 0 && r.command.P2 == p2 {
			r.after.Applet.Login.User = true
		}
	}
}

// erasesOnWrong erases the card although the SO-PIN was wrong.
func erasesOnWrong(r *run) {
	r.right()
	if r.refused() {
		d := &r.after.Applet.Durable
		d.Files, d.Keys = d.Files[:1:1], nil
		r.save()
	}
}

// initialised reports whether the command has initialised the card.
func (r *run) initialised() bool { return r.sw() == apdu.OK && len(r.result.Commits) > 0 }

// changesDevice gives the card another device key, with a certificate for it.
func changesDevice(r *run) {
	r.right()
	d := &r.after.Applet.Durable
	made, err := chip.Manufacture(r.env, chip.Order{Firmware: d.Firmware, Serial: d.Serial()})
	if !r.initialised() || err != nil {
		return
	}
	d.Device = made.Applet.Device
	d.Files = slices.Clone(d.Files)
	d.Files[0] = made.Applet.Files[0]
	r.save()
}

// keepsKeys leaves the keys where they are, as far as the new key domains let them
// be.
func keepsKeys(r *run) {
	r.right()
	if !r.initialised() {
		return
	}
	kept := r.after
	kept.Applet.Keys = r.before.Applet.Keys
	if kept.Durable().Check() == nil {
		r.after = kept
		r.save()
	}
}

// unblocked does what a blocked counter forbids, as if there were one try left.
func unblocked(which counter, p2 byte) fault {
	return func(r *run) {
		r.right()
		if r.command.P2 != p2 || !r.before.Applet.PINs.Initialised || which(&r.before.Applet.PINs).Left > 0 || len(r.command.Data) == 0 {
			return
		}
		healthy := *r
		r.again(func(s *applet.State) { which(&s.PINs).Left = 1 }, func(*applet.Durable) {})
		if r.sw() != apdu.OK {
			*r = healthy
		}
	}
}

// takesTransportPIN takes the transport PIN for the new one, too.
func takesTransportPIN(r *run) {
	r.right()
	if r.sw() != apdu.WrongData || !r.before.Applet.PINs.Transport {
		return
	}
	r.again(func(s *applet.State) { s.PINs.Transport = false }, func(d *applet.Durable) { d.PINs.Transport = true })
	if r.sw() == apdu.OK {
		r.after.Applet.PINs.Transport = false
		r.save()
	}
}

// logsInWithTransportPIN takes the transport PIN for a PIN.
func logsInWithTransportPIN(r *run) {
	r.right()
	if r.command.P2 == apdu.RefUserPIN && len(r.command.Data) > 0 && r.before.Applet.PINs.Transport {
		r.again(func(s *applet.State) { s.PINs.Transport = false }, func(d *applet.Durable) { d.PINs.Transport = true })
	}
}

// keepsLogin leaves the login as it was over a selection of the application that
// comes when the application is selected, or when it is not.
func keepsLogin(selected bool) fault {
	return func(r *run) {
		r.right()
		if r.selected() && r.before.Selected == selected {
			r.after.Applet.Login = r.before.Applet.Login
		}
	}
}

// keepsLoginOverReset leaves the login as it was over a loss of power.
func keepsLoginOverReset(last, next chip.State) chip.State {
	next.Applet.Login = last.Applet.Login
	return next
}

// keepsLoginOnWrong leaves the user logged in after a wrong PIN.
func keepsLoginOnWrong(r *run) {
	r.right()
	if l := r.before.Applet.Login; r.refused() && r.command.P2 == apdu.RefUserPIN {
		r.after.Applet.Login.User, r.after.Applet.Login.PIN = l.User, l.PIN
	}
}

// takesShortPIN takes a new PIN that is shorter than the first one.
func takesShortPIN(r *run) {
	r.right()
	least := r.before.Applet.PINs.MinLength
	if r.sw() != apdu.WrongData || r.command.P2 != apdu.RefUserPIN || least == 0 {
		return
	}
	healthy := *r
	r.again(func(s *applet.State) { s.PINs.MinLength = 6 }, func(d *applet.Durable) { d.PINs.MinLength = least })
	if r.after.Durable().Check() != nil { // more tries than a PIN so short may have
		*r = healthy
	}
}

// query reports whether the command asks for the status of the user PIN, and how
// many tries the answer tells.
func (r *run) query() (tries int, told bool) {
	if r.command.P2 != apdu.RefUserPIN || len(r.command.Data) > 0 || r.result.Event.Secure {
		return 0, false
	}
	return r.sw().Tries()
}

// showsOneMore tells one try more than there is.
func showsOneMore(r *run) {
	r.right()
	if tries, told := r.query(); told {
		r.answer(nil, apdu.TriesLeft(tries+1))
	}
}

// queryCharges spends a try for the answer how many there are.
func queryCharges(r *run) {
	r.right()
	if tries, told := r.query(); told && tries > 0 {
		r.after.Applet.PINs.User.Left--
		r.save()
	}
}

// onePINIsEnough logs in by the PIN alone where keys are needed as well.
func onePINIsEnough(r *run) {
	r.right()
	if r.after.Applet.Login.PIN {
		r.after.Applet.Login.User = true
	}
}

// asUser does what was refused for want of a login as if there were one, on a card
// that can have one.
func asUser(r *run) {
	r.right()
	if r.sw() != apdu.SecurityStatus || r.before.Applet.Login.User || !r.before.Applet.PINs.Initialised {
		return
	}
	r.again(func(s *applet.State) { s.Login.User = true }, func(*applet.Durable) {})
	r.after.Applet.Login = r.before.Applet.Login
}

// file is the file that the command names, or the current one.
func (r *run) file() uint16 {
	if id := uint16(r.command.P1)<<8 | uint16(r.command.P2); id != 0 {
		return id
	}
	return r.before.Applet.Current
}

// readsKeys answers the reading of a key with what the card keeps of it.
func readsKeys(r *run) {
	r.right()
	id := r.file()
	k, exists := r.before.Applet.Keys[byte(id)]
	if r.sw() == apdu.SecurityStatus && byte(id>>8) == pkcs15.PrefixKey && exists {
		r.answer(k.AppendJSON(nil), apdu.OK)
	}
}

// readsPrivate reads private data for everybody.
func readsPrivate(r *run) {
	if byte(r.file()>>8) != pkcs15.PrefixPrivateData {
		r.right()
		return
	}
	asUser(r)
}

// listsBlob lists the file for key blobs.
func listsBlob(r *run) {
	r.right()
	healthy, err := apdu.ParseResponse(r.result.Response)
	if _, exists := r.after.Applet.File(pkcs15.FileBlob); exists && err == nil && r.sw() == apdu.OK {
		r.answer(binary.BigEndian.AppendUint16(slices.Clone(healthy.Data), pkcs15.FileBlob), apdu.OK)
	}
}

// ignoresList uses a key for what its list of algorithms does not name.
func ignoresList(r *run) {
	r.right()
	id := r.command.P1
	key, exists := r.before.Applet.Keys[id]
	if r.sw() != apdu.FunctionNotSupported || !exists || key.Algorithms == nil || r.result.Event.Secure {
		return
	}
	session := r.after.Applet.Session
	with := func(keys map[byte]keystore.Key, list []keystore.Algorithm) map[byte]keystore.Key {
		keys = maps.Clone(keys)
		k := keys[id]
		k.Algorithms = list
		keys[id] = k
		return keys
	}
	r.again(func(s *applet.State) {
		s.Keys = with(s.Keys, nil)
		s.Session = applet.Session{Login: session.Login} // without the key that is kept ready
	}, func(d *applet.Durable) { d.Keys = with(d.Keys, key.Algorithms) })
	r.after.Applet.Session = session
}

// uncounted takes back the use that a command has counted; of one that failed, or
// of any.
func uncounted(onlyFailed bool) fault {
	return func(r *run) {
		r.right()
		if len(r.result.Commits) > 0 && !(onlyFailed && r.sw() == apdu.OK) {
			r.after.Applet.Keys = r.before.Applet.Keys
			r.saveNothing()
		}
	}
}

// attestsWrongly vouches for new keys with a key that is not the device's.
func attestsWrongly(r *run) {
	known, _ := curve.ByName(applet.DeviceCurve)
	other, err := keystore.GenerateEC(r.env.Rand, known)
	if err != nil {
		r.right()
		return
	}
	device := r.before.Applet.Device.Key
	r.again(func(s *applet.State) { s.Device.Key = other }, func(d *applet.Durable) { d.Device.Key = device })
}

// repeated is randomness that is the same each time.
type repeated [sha256.Size]byte

func (same repeated) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = same[i%len(same)]
	}
	return len(p), nil
}

var _ io.Reader = repeated{}

// repeatsChallenge draws the same bytes each time.
func repeatsChallenge(r *run) {
	r.env.Rand = repeated(sha256.Sum256([]byte(r.before.Applet.Device.Name)))
	r.right()
}

// completesEarly takes the first share of a DKEK for all of it.
func completesEarly(r *run) {
	r.right()
	slot := int(r.command.P2)
	domains := r.after.Applet.Domains
	if r.sw() != apdu.OK || len(r.result.Commits) == 0 || slot >= len(domains) || domains[slot].Outstanding() == 0 {
		return
	}
	if whole, err := keystore.NewDKEK(1).Import(r.command.Data); err == nil {
		r.after.Applet.Domains = slices.Clone(domains)
		r.after.Applet.Domains[slot] = whole
		r.save()
	}
}

// unwrapsOver puts an unwrapped key in place of one that is there.
func unwrapsOver(r *run) {
	r.right()
	if r.sw() == apdu.AlreadyExists {
		r.again(func(s *applet.State) {
			s.Keys = maps.Clone(s.Keys)
			delete(s.Keys, r.command.P1)
		}, func(*applet.Durable) {})
	}
}

// oneKeyTooFew logs in when all but one of the public keys have authenticated.
func oneKeyTooFew(r *run) {
	r.right()
	if l := r.after.Applet.Login; r.sw() == apdu.OK {
		r.after.Applet.Login = r.after.Applet.PINs.Authenticated(l, l.Keys+1)
		r.after.Applet.Login.Keys = l.Keys
	}
}

// countsTwice counts a public key each time that it authenticates.
func countsTwice(r *run) {
	r.right()
	if l := r.after.Applet.Login; r.sw() == apdu.OK && l.Keys == r.before.Applet.Login.Keys {
		r.after.Applet.Login = r.after.Applet.PINs.Authenticated(l, l.Keys+1)
	}
}

// keepsChallenge leaves a challenge standing that has been answered.
func keepsChallenge(r *run) {
	r.right()
	if r.sw() == apdu.OK && r.after.Applet.Challenge == nil {
		r.after.Applet.Challenge = r.before.Applet.Challenge
	}
}

// keepsChannelLogin goes on with a login of a secure channel when the channel has
// ended.
func keepsChannelLogin(r *run) {
	r.right()
	login := r.before.Applet.Login
	compares := slices.Contains(pinCommands, r.command.INS) && len(r.command.Data) > 0
	if r.command.CLA&apdu.ClassSecure != 0 || !login.User || r.after.Applet.Login.User || compares || r.command.INS == apdu.InsSelect {
		return
	}
	session := r.after.Applet.Session
	r.again(func(s *applet.State) {
		s.Session = applet.Session{Login: login, Current: session.Current, Challenge: session.Challenge}
	}, func(*applet.Durable) {})
	session.Login, session.Current, session.Challenge = r.after.Applet.Login, r.after.Applet.Current, r.after.Applet.Challenge
	r.after.Applet.Session = session
}

// plainSessionPIN gives a session PIN to whoever is logged in, without a channel.
func plainSessionPIN(r *run) {
	r.right()
	l := r.before.Applet.Login
	if r.sw() != apdu.SecurityStatus || !l.User || r.result.Event.Secure {
		return
	}
	drawn := make([]byte, applet.SessionPINLength)
	if _, err := io.ReadFull(r.env.Rand, drawn); err != nil {
		return
	}
	for i := range drawn {
		drawn[i] = '0' + drawn[i]%10
	}
	r.after.Applet.Login.Session = drawn
	r.answer(drawn, apdu.OK)
}
