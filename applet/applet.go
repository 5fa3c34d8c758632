// Package applet is the SmartCard-HSM application of the card: its command
// table, its files and keys, and who may do what.
//
// The card is a value. [Step] maps an environment, a state and a command to
// the next state, the durable states to save in order, and the answer; it does
// no input or output, reads no clock and starts nothing. The caller saves every
// element of [Result.Commits], in order, before it passes the answer on: what
// has not been saved has not been said.
//
//	state := applet.Boot(durable)
//	state, result := applet.Step(env, state, command)
//	for _, d := range result.Commits { save(d) }
//	send(result.Response.Bytes())
//
// Package applet knows nothing of readers, files on disk or the card manager
// around it; selection by name is the business of package chip.
package applet

import (
	"io"
	"slices"
	"time"

	"hsmemu/applet/apdu"
	"hsmemu/keystore"
	"hsmemu/pinstate"
)

// Env is everything a step may ask of the world.
type Env struct {
	// Rand gives challenges, key material, salts and nonces.
	Rand io.Reader
	// Deterministic makes ECDSA signatures follow RFC 6979, for cards made
	// from a seed. Otherwise they are randomised, as on the card.
	Deterministic bool
	// Now dates certificates and nothing else.
	Now time.Time
	// RSA makes RSA keys.
	RSA keystore.Generator
	// Observed says that somebody reads the words of events; without it their
	// Subject and Meaning may be missing, since finding words for an encryption
	// takes longer than the encryption.
	Observed bool
}

// nonce is the randomness for a signature; nil asks for RFC 6979.
func (e Env) nonce() io.Reader {
	if e.Deterministic {
		return nil
	}
	return e.Rand
}

// State is the whole application: what survives power and what does not.
type State struct {
	Durable
	Session
}

// Durable is what survives a loss of power. Its JSON form is what is kept on
// disk. The maps and slices of a Durable are never changed after a step has
// returned it; steps copy what they change.
type Durable struct {
	// Firmware names the profile, see [Profiles].
	Firmware string `json:"firmware"`
	// Answers are those that the card was told to give, in place of its
	// profile's. No command changes them.
	Answers Answers `json:"answers,omitzero"`
	// PINs holds the counters, options and life cycle.
	PINs pinstate.Card `json:"pins"`
	// Device is the identity given at production. No command changes it.
	Device Device `json:"device"`
	// Files are the elementary files in the order of their creation, EF 2F02
	// first.
	Files []File `json:"files"`
	// Keys are the user's keys by key id, 1 to 255.
	Keys map[byte]keystore.Key `json:"keys,omitempty"`
	// Domains are the key domain slots; none means that key wrapping was not
	// configured. The zero Domain is an empty slot.
	Domains []keystore.Domain `json:"domains,omitempty"`
	// Custodians are the slots for public key authentication; an entry
	// without a name is a key that is still missing.
	Custodians []Custodian `json:"custodians,omitempty"`
}

// Device is the identity of the card towards others: the device
// authentication key (key id 0, brainpoolP256r1). Its certificate and that of
// its issuer are the content of EF 2F02.
type Device struct {
	Key keystore.Key `json:"key"`
	// Name is the certificate holder reference of the device certificate,
	// serial number and five digits.
	Name string `json:"name"`
}

// File is one transparent elementary file.
type File struct {
	ID   uint16 `json:"id"`
	Data []byte `json:"data"`
}

// Custodian is a public key registered for public key authentication.
type Custodian struct {
	Name  string `json:"name,omitempty"`
	Curve string `json:"curve,omitempty"`
	// Point is 04 || x || y.
	Point []byte `json:"point,omitempty"`
}

// Session is what a loss of power, a reset or a new selection ends.
type Session struct {
	Login pinstate.Login
	// Current is the selected file, 0 for none.
	Current uint16
	// Challenge is the last answer to GET CHALLENGE, nil when spent.
	Challenge []byte

	trust      trust
	custodians custodianSession
	channel    channelSession
	ready      map[byte]keystore.Key
}

// Result is what a step asks of its caller and lets it say.
type Result struct {
	// Commits must be made durable, in this order, before Response is sent.
	Commits []Durable
	// Response is the answer to the command.
	Response apdu.Response
	// Event tells an observer what happened.
	Event Event
}

// Event describes a step in words and numbers. Of the data of a command or an
// answer it never holds more than the names of files and public keys.
type Event struct {
	// Header is CLA, INS, P1 and P2 of the command.
	Header [4]byte
	// Command names the command as in the command table, "VERIFY".
	Command string
	// Subject says what it was about: "user PIN", "key 3", "EF 2F02".
	Subject string
	// Meaning says what the answer means here: "wrong, 2 tries left".
	Meaning string
	// SW is the status word of the answer.
	SW apdu.SW
	// Sent and Received are the lengths of the command data and of the
	// answer's data in bytes.
	Sent, Received int
	// Commits is the number of durable states written.
	Commits int
	// Quiet marks a command whose data must not appear in traces.
	Quiet bool
	// Defect is what went wrong inside when the answer is an internal error of
	// ours; nil otherwise.
	Defect error
	// Query marks a question for the status of a PIN, which tries none.
	Query bool
	// Secure is set when the command came through secure messaging.
	Secure bool
}

// Boot is the card after power on: nothing selected, nobody logged in.
func Boot(d Durable) State { return State{Durable: d} }

// Serial is the serial number as clients show it: the device name without its
// last five characters.
func (d Durable) Serial() string {
	if n := len(d.Device.Name); n > 5 {
		return d.Device.Name[:n-5]
	}
	return d.Device.Name
}

// File is the elementary file with an identifier, and whether there is one.
func (d Durable) File(id uint16) (File, bool) {
	i := slices.IndexFunc(d.Files, func(f File) bool { return f.ID == id })
	if i < 0 {
		return File{}, false
	}
	return d.Files[i], true
}

// Profile is the firmware profile of the card with the answers it was told to
// give; cards of an unknown firmware do not come into being, so the zero profile
// means a damaged file.
func (d Durable) Profile() Profile { return *d.profile() }

// profile is Profile for a reader: nobody may change what it points to. A copy
// in every step would cost what the rest of a status query does.
func (d Durable) profile() *Profile {
	for i := len(profiles) - 1; i >= 0; i-- {
		if profiles[i].Name == d.Firmware {
			return profiles[i].with(d.Answers)
		}
	}
	return new(Profile)
}
