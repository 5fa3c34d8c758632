package keystore

import (
	"fmt"
	"math/big"
)

// PasswordPart is what one keeper of a split password of a DKEK share file
// holds: a point of a polynomial modulo a prime. Numbers are big-endian with
// any number of leading zeros.
type PasswordPart struct {
	Prime []byte
	ID    uint32 // x, not zero
	Value Secret // y
}

// splitPasswordLen is the length in bytes of a password that sc-hsm-tool
// splits; it draws it at random.
const splitPasswordLen = 8

// JoinPassword puts a password together from the parts that sc-hsm-tool showed
// to its keepers (Shamir's scheme: the value at 0 of the polynomial of lowest
// degree through the points). Any selection of as many parts as the threshold
// gives the same password; fewer give another one, which shows only when it
// opens nothing. The password has 8 bytes; sc-hsm-tool itself loses zeros at
// its beginning.
//
// JoinPassword returns ErrShare if there are no parts, if they are of
// different primes or of no prime, or if two have the same ID.
func JoinPassword(parts []PasswordPart) ([]byte, error) {
	if len(parts) == 0 {
		return nil, fmt.Errorf("%w: no parts of a password", ErrShare)
	}
	prime := new(big.Int).SetBytes(parts[0].Prime)
	if prime.BitLen() > 8*splitPasswordLen || !prime.ProbablyPrime(20) {
		return nil, fmt.Errorf("%w: that is no prime of a split password", ErrShare)
	}
	number := func(id uint32) *big.Int { return new(big.Int).SetUint64(uint64(id)) }
	secret := new(big.Int)
	for i, part := range parts {
		if part.ID == 0 || new(big.Int).SetBytes(part.Prime).Cmp(prime) != 0 {
			return nil, fmt.Errorf("%w: parts of different passwords", ErrShare)
		}
		// y_i times the product of x_j / (x_j - x_i) over all other j.
		term, below := new(big.Int).SetBytes(part.Value), big.NewInt(1)
		for j, other := range parts {
			if i != j {
				term.Mul(term, number(other.ID))
				below.Mul(below, new(big.Int).Sub(number(other.ID), number(part.ID)))
			}
		}
		if below.ModInverse(below.Mod(below, prime), prime) == nil {
			return nil, fmt.Errorf("%w: the same part of a password twice", ErrShare)
		}
		secret.Add(secret, term.Mul(term, below)).Mod(secret, prime)
	}
	return secret.FillBytes(make([]byte, splitPasswordLen)), nil
}
