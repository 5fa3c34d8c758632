package portal

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"hsmemu/applet/cvc"
	"hsmemu/keystore/curve"
)

// Secret is the private scalar of a key, big-endian. Printing it, in whatever way,
// shows nothing of it; its JSON form does, since it has to be stored.
type Secret []byte

// String tells that there is a secret, and not which.
func (s Secret) String() string { return "•••" }

// Format implements [fmt.Formatter], so that no verb shows the secret.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue hides the secret from logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Issuer is a device issuer, which the vendor calls DICA: its key is in an HSM
// there, which has to be logged in, and each certificate costs a licence.
type Issuer struct {
	// Certificate is signed by the root.
	Certificate []byte `json:"certificate"`
	Key         Secret `json:"key"`
	// Ready tells that the HSM with the key can be used.
	Ready bool `json:"ready"`
	// Licences is how many updates may still begin.
	Licences int `json:"licences"`
}

// Authority is who certifies devices. It is a value that the caller stores.
type Authority struct {
	// Issuers are in the order of their age. The last one is for new updates.
	Issuers []Issuer `json:"issuers"`
}

// licences is how many a new issuer has.
const licences = 1000

// deviceCurve is the curve of every device key.
const deviceCurve = "brainpoolP256r1"

// Errors of an Authority.
var (
	// ErrRequest says that a request for a device certificate is not signed by
	// the key it is for, or for another key or name than what was asked for.
	ErrRequest = errors.New("request for a device certificate is wrong")
	// ErrAuthority says that a stored Authority is none.
	ErrAuthority = errors.New("stored device issuers are damaged")
)

// NewAuthority makes an authority with one device issuer, ready.
func NewAuthority(rand io.Reader, day time.Time) (Authority, error) {
	var a Authority
	return a, a.AddIssuer(rand, day)
}

// Root is the emulator's root, which every card knows and whose key is published.
func (a Authority) Root() cvc.Certificate { return cvc.EmulatorRootCertificate() }

// alphabet is what the sequence number of an issuer is made of.
const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"

// AddIssuer makes the device issuer of the updates to come, with a new key. Its
// name is UTDICAEM and a number, from 02 on: 01 is who certifies new cards. The
// sequence number is random, since cards of several portals meet.
func (a *Authority) AddIssuer(rand io.Reader, day time.Time) error {
	if len(a.Issuers) >= 98 {
		return errors.New("add a device issuer: there are 98")
	}
	known, _ := curve.ByName(deviceCurve)
	key, err := known.Generate(rand)
	if err != nil {
		return fmt.Errorf("add a device issuer: %w", err)
	}
	sequence, err := draw(rand, alphabet, 5)
	if err != nil {
		return fmt.Errorf("add a device issuer: %w", err)
	}
	name := cvc.Name(fmt.Sprintf("UTDICAEM%02d%s", len(a.Issuers)+2, sequence))
	issuer, err := cvc.EmulatorRoot().NewIssuer(key, name, day, rand)
	if err != nil {
		return fmt.Errorf("add a device issuer: %w", err)
	}
	a.Issuers = append(slices.Clip(a.Issuers), Issuer{Certificate: issuer.Certificate.Raw, Key: key.Bytes(), Ready: true, Licences: licences})
	return nil
}

// draw makes a word of random letters.
func draw(rand io.Reader, letters string, n int) (string, error) {
	word := make([]byte, 0, n)
	for len(word) < n {
		var b [1]byte
		if _, err := io.ReadFull(rand, b[:]); err != nil {
			return "", err
		}
		if fair := 256 - 256%len(letters); int(b[0]) < fair {
			word = append(word, letters[int(b[0])%len(letters)])
		}
	}
	return string(word), nil
}

// Current is the certificate of the issuer of new updates.
func (a Authority) Current() (cvc.Certificate, error) {
	if len(a.Issuers) == 0 {
		return cvc.Certificate{}, fmt.Errorf("%w: there are none", ErrAuthority)
	}
	c, err := cvc.ParseCertificate(a.Issuers[len(a.Issuers)-1].Certificate)
	if err != nil {
		return cvc.Certificate{}, fmt.Errorf("%w: %w", ErrAuthority, err)
	}
	return c, nil
}

// find is the place of an issuer among the others, with its key and certificate.
func (a Authority) find(name cvc.Name) (int, cvc.Issuer, error) {
	for i, stored := range a.Issuers {
		c, err := cvc.ParseCertificate(stored.Certificate)
		if err != nil {
			return 0, cvc.Issuer{}, fmt.Errorf("%w: %w", ErrAuthority, err)
		}
		if c.CHR != name {
			continue
		}
		known, _ := curve.ByName(deviceCurve)
		key, err := known.Private(stored.Key)
		if err != nil {
			return 0, cvc.Issuer{}, fmt.Errorf("%w: %w", ErrAuthority, err)
		}
		return i, cvc.Issuer{Certificate: c, Key: key}, nil
	}
	return 0, cvc.Issuer{}, fmt.Errorf("%w: no %s", ErrAuthority, name)
}

// Certify makes the content of EF 2F02 from the request of a card: the
// certificate for a device of that name by an issuer of the authority, valid for 5
// years from a day but not beyond the issuer, and the issuer's own. Errors:
// ErrRequest, ErrAuthority, those of rand, and a *Refusal if the issuer is not
// ready.
func (a Authority) Certify(request []byte, name, issuer cvc.Name, day time.Time, rand io.Reader) ([]byte, error) {
	i, by, err := a.find(issuer)
	if err != nil {
		return nil, err
	}
	if !a.Issuers[i].Ready {
		return nil, notReady(issuer)
	}
	r, err := cvc.ParseRequest(request)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if r.CHR != name || r.CAR != issuer {
		return nil, fmt.Errorf("%w: %s asks %s, in place of %s and %s", ErrRequest, r.CHR, r.CAR, name, issuer)
	}
	if err := r.Verify(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	key, err := r.Key.EC()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	ef, err := by.IssueDevice(key, name, day, rand)
	if errors.Is(err, cvc.ErrKey) {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	return ef, err
}

// Check refuses, with ErrAuthority, what no AddIssuer has made.
func (a Authority) Check() error {
	for _, stored := range a.Issuers {
		c, err := cvc.ParseCertificate(stored.Certificate)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrAuthority, err)
		}
		_, issuer, err := a.find(c.CHR)
		if err != nil {
			return err
		}
		switch key, err := c.Key.Inherit(a.Root().Key).EC(); {
		case err != nil, c.Verify(a.Root().Key) != nil, c.Authorization.Role() != cvc.RoleIssuer, stored.Licences < 0,
			string(key.Bytes()) != string(issuer.Key.Public().Bytes()):
			return fmt.Errorf("%w: %s", ErrAuthority, c.CHR)
		}
	}
	return nil
}
