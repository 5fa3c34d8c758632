package applet

import (
	"slices"

	"hsmemu/applet/apdu"
	"hsmemu/keystore"
)

// domain is the key domain in a slot, the zero Domain where there is none.
func (t *tx) domain(slot byte) keystore.Domain {
	if int(slot) >= len(t.d.Domains) {
		return keystore.Domain{}
	}
	return t.d.Domains[slot]
}

// slot checks the slot number of a key domain command.
func (t *tx) slot(n byte) error {
	if int(n) >= len(t.d.Domains) {
		return apdu.IncorrectP1P2
	}
	return nil
}

// setDomain puts a key domain into a slot, or empties it.
func (t *tx) setDomain(n byte, domain keystore.Domain) {
	d := t.change()
	d.Domains = slices.Clone(d.Domains)
	d.Domains[n] = domain
}

// describe is the answer of the key domain commands: shares, shares
// outstanding, key check value, and the identifier of an XKEK domain.
func describeDomain(d keystore.Domain) []byte {
	kcv := d.KCV()
	out := append([]byte{byte(d.Total()), byte(d.Outstanding())}, kcv[:]...)
	return append(out, d.UID()...)
}

// occupied is the key domain of a command that needs one.
func (t *tx) occupied(n byte) (keystore.Domain, error) {
	if err := t.slot(n); err != nil {
		return keystore.Domain{}, err
	}
	domain := t.domain(n)
	if domain.IsZero() {
		return keystore.Domain{}, apdu.ReferenceNotFound
	}
	return domain, nil
}

// vacant checks that a key domain can be made in a slot.
func (t *tx) vacant(n byte) error {
	switch err := t.slot(n); {
	case err != nil:
		return err
	case !t.domain(n).IsZero():
		return apdu.ConditionsNotSatisfied
	}
	return nil
}

// inUse reports whether keys belong to a slot.
func (t *tx) inUse(n byte) bool {
	for _, k := range t.d.Keys {
		if k.Domain == n {
			return true
		}
	}
	return false
}

func domainStatus(t *tx, c apdu.Command) ([]byte, error) {
	domain, err := t.occupied(c.P2)
	if err != nil {
		return nil, err
	}
	return describeDomain(domain), nil
}

// importShare takes the next share of a DKEK. It needs no login: a share alone
// gives nothing away and nothing can be replaced by it.
func importShare(t *tx, c apdu.Command) ([]byte, error) {
	domain, err := t.occupied(c.P2)
	if err != nil {
		return nil, err
	}
	if len(c.Data) != keystore.ShareLen {
		return nil, apdu.WrongLength
	}
	next, err := domain.Import(c.Data)
	if err != nil {
		return nil, err
	}
	t.setDomain(c.P2, next)
	return describeDomain(next), nil
}

func createDomain(t *tx, c apdu.Command) ([]byte, error) {
	if err := t.vacant(c.P2); err != nil {
		return nil, err
	}
	domain, err := t.newDKEK(c.Data[0])
	if err != nil {
		return nil, err
	}
	t.setDomain(c.P2, domain)
	return describeDomain(domain), nil
}

// deleteDomain empties a slot that no key belongs to. The answer is the state
// of the slot afterwards, so it may be a status word other than success; the
// change stands all the same.
func deleteDomain(t *tx, c apdu.Command) ([]byte, error) {
	if _, err := t.occupied(c.P2); err != nil {
		return nil, err
	}
	if t.inUse(c.P2) {
		return nil, apdu.AlreadyExists
	}
	t.setDomain(c.P2, keystore.Domain{})
	t.success = t.profile.DomainDeleted
	return nil, nil
}

// clearDomain deletes the key encryption key of a domain and keeps the domain,
// bound to that key where keys belong to it.
func clearDomain(t *tx, c apdu.Command) ([]byte, error) {
	domain, err := t.occupied(c.P2)
	if err != nil {
		return nil, err
	}
	next := domain.Cleared(t.inUse(c.P2))
	t.setDomain(c.P2, next)
	return describeDomain(next), nil
}
