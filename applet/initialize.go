package applet

import (
	"encoding/binary"

	"hsmemu/applet/apdu"
	"hsmemu/applet/pkcs15"
	"hsmemu/applet/tlv"
	"hsmemu/keystore"
	"hsmemu/pinstate"
)

// maxCustodians is the most keys for public key authentication that clients
// ask for.
const maxCustodians = 90

const soPINLength = 8

// defaultTries is the user PIN's retry counter where none is given: the most
// that a PIN of any length may have.
const defaultTries = 3

// setup is the content of INITIALIZE DEVICE.
type setup struct {
	pinstate.Setup
	shares  *byte // DKEK shares, 0: a random DKEK
	domains byte  // key domain slots
}

// queryDevice is INITIALIZE DEVICE without data: free memory, platform and
// version.
func queryDevice(t *tx, _ apdu.Command) ([]byte, error) {
	out := binary.BigEndian.AppendUint32(nil, uint32(t.d.Free()))
	return append(out, t.profile.Platform, t.profile.Major, t.profile.Minor), nil
}

// initializeDevice erases the card and sets it up anew. Whoever holds the
// SO-PIN may do it at any time; on a card as shipped the presented code becomes
// the SO-PIN. The device key and its certificates stay: they are the card's
// identity.
func initializeDevice(t *tx, c apdu.Command) ([]byte, error) {
	t.subject = "SO-PIN"
	s, err := parseSetup(t.profile, c.Data)
	if err != nil {
		return nil, err
	}
	domains, err := t.makeDomains(s)
	if err != nil {
		return nil, err
	}
	s.Login = t.s.Login
	if err := t.attempt(t.d.PINs.Initialise(s.Setup)); err != nil {
		return nil, err
	}
	d := t.change()
	device, _ := t.file(pkcs15.FileDevice)
	d.Files = []File{device}
	d.Keys = nil
	d.Domains = domains
	d.Custodians = nil
	if n := s.Keys.Total; n > 0 {
		d.Custodians = make([]Custodian, n)
	}
	t.s.Current, t.s.Challenge, t.s.ready = 0, nil, nil
	t.s.custodians = custodianSession{}
	t.s.channel = t.s.channel.loggedIn(t.secure)
	return nil, nil
}

// parseSetup reads the data objects; unknown ones are passed over.
func parseSetup(p *Profile, data []byte) (setup, error) {
	list, err := tlv.ParseBER(data)
	if err != nil {
		return setup{}, apdu.WrongData
	}
	var s setup
	so, ok := list.Find(apdu.InitSOPIN)
	if !ok {
		return setup{}, apdu.WrongData
	}
	if len(so.Value) != soPINLength {
		return setup{}, apdu.WrongLength
	}
	s.SO = so.Value
	if n, ok := list.Find(apdu.InitOptions); ok {
		if len(n.Value) != 2 {
			return setup{}, apdu.WrongData
		}
		s.Options = pinstate.Options(binary.BigEndian.Uint16(n.Value))
	}
	if n, ok := list.Find(apdu.InitUserPIN); ok {
		s.PIN, s.Tries = n.Value, defaultTries
	}
	if n, ok := list.Find(apdu.InitTries); ok {
		if len(n.Value) != 1 {
			return setup{}, apdu.WrongData
		}
		s.Tries = n.Value[0]
	}
	return s, s.parseKeys(p, list)
}

// parseKeys reads what INITIALIZE DEVICE says of key domains and custodians.
func (s *setup) parseKeys(p *Profile, list tlv.List) error {
	if n, ok := list.Find(apdu.InitCustodians); ok {
		if len(n.Value) != 2 {
			return apdu.WrongData
		}
		s.Keys = pinstate.KeyPolicy{Total: n.Value[0], Required: n.Value[1]}
		if s.Keys.Total == 0 || s.Keys.Total > maxCustodians || s.Keys.Required == 0 || s.Keys.Required > s.Keys.Total {
			return apdu.WrongData
		}
	}
	shares, hasShares := list.Find(apdu.InitShares)
	if hasShares {
		if len(shares.Value) != 1 {
			return apdu.WrongData
		}
		s.shares = &shares.Value[0]
	}
	if n, ok := list.Find(apdu.InitDomains); ok && p.KeyDomains {
		if len(n.Value) != 1 || hasShares {
			return apdu.WrongData
		}
		s.domains = n.Value[0]
	}
	return nil
}

// makeDomains lays out the key domain slots. A number of shares makes one slot
// with a DKEK in it; a number of domains makes that many empty slots.
func (t *tx) makeDomains(s setup) ([]keystore.Domain, error) {
	if s.shares == nil {
		if s.domains == 0 {
			return nil, nil
		}
		return make([]keystore.Domain, s.domains), nil
	}
	domain, err := t.newDKEK(*s.shares)
	if err != nil {
		return nil, err
	}
	return []keystore.Domain{domain}, nil
}

// newDKEK is a key domain that waits for its shares, or one with a random key
// where there are to be none.
func (t *tx) newDKEK(shares byte) (keystore.Domain, error) {
	if shares > 0 {
		return keystore.NewDKEK(int(shares)), nil
	}
	return keystore.RandomDKEK(t.env.Rand)
}
