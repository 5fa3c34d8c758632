package keystore

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"strconv"

	"hsmemu/keystore/curve"
)

// storedKey is the JSON form of a Key. Its field names are the version: a
// field may be added, with a new name, but never change its meaning, and a
// reader refuses names it does not know. Byte strings are base64, the
// algorithm list is hexadecimal as in KEY-1.
type storedKey struct {
	Kind       string  `json:"kind"`
	UsesLeft   *uint32 `json:"usesLeft,omitempty"`
	Algorithms *string `json:"algorithms,omitempty"`
	Domain     byte    `json:"domain,omitempty"`

	// D is the private exponent of RSA, absent if it is the smallest
	// possible, and the scalar of EC.
	D []byte `json:"d,omitempty"`

	// RSA. The modulus and the CRT exponents follow from these.
	Exponent uint32 `json:"e,omitempty"`
	P        []byte `json:"p,omitempty"`
	Q        []byte `json:"q,omitempty"`
	QInverse []byte `json:"qInverse,omitempty"` // follows too, but not cheaply

	// EC.
	Curve string `json:"curve,omitempty"`
	Point []byte `json:"point,omitempty"` // follows from d, but not cheaply

	// AES.
	Key []byte `json:"key,omitempty"`
}

// MarshalJSON writes the key with its secrets; the zero Key as null.
func (k Key) MarshalJSON() ([]byte, error) { return k.AppendJSON(nil), nil }

// AppendJSON appends what MarshalJSON writes, a storedKey, without looking it up
// by reflection: a full card has more than a hundred keys, and all of them are
// written whenever a try is charged.
func (k Key) AppendJSON(dst []byte) []byte {
	o := object(append(dst, '{'))
	switch k.Kind() {
	case RSA:
		o = o.text("kind", "rsa")
	case EC:
		o = o.text("kind", "ec")
	case AES:
		o = o.text("kind", "aes")
	default:
		return append(dst, "null"...)
	}
	if k.Uses.Limited {
		o = o.number("usesLeft", k.Uses.Left)
	}
	if k.Algorithms != nil {
		list := make([]byte, 0, 2*len(k.Algorithms))
		for _, a := range k.Algorithms {
			list = hex.AppendEncode(list, []byte{byte(a)})
		}
		o = o.text("algorithms", string(list))
	}
	if k.Domain != 0 {
		o = o.number("domain", uint32(k.Domain))
	}
	switch k.Kind() {
	case RSA:
		r := k.rsa.lift()
		o = o.bytes("d", r.d).number("e", r.e).bytes("p", r.p).bytes("q", r.q).bytes("qInverse", r.qinv)
	case EC:
		o = o.bytes("d", k.EC().Bytes()).text("curve", k.Curve().Name()).bytes("point", k.ECPublic().Bytes())
	case AES:
		o = o.bytes("key", k.aes.lift().key)
	}
	return append(o, '}')
}

// object is a JSON object in the making. Names and texts are ones that need no
// escapes.
type object []byte

func (o object) name(n string) object {
	if o[len(o)-1] != '{' {
		o = append(o, ',')
	}
	o = append(o, '"')
	o = append(o, n...)
	return append(o, `":`...)
}

func (o object) text(name, value string) object {
	o = append(o.name(name), '"')
	return append(append(o, value...), '"')
}

func (o object) number(name string, value uint32) object {
	return strconv.AppendUint(o.name(name), uint64(value), 10)
}

// bytes writes base64; nothing for nil.
func (o object) bytes(name string, value []byte) object {
	if len(value) == 0 {
		return o
	}
	o = append(o.name(name), '"')
	return append(base64.StdEncoding.AppendEncode(o, value), '"')
}

// UnmarshalJSON reads what MarshalJSON wrote and returns ErrFormat, wrapped,
// for anything else: unknown names, parts of another kind of key, a scalar
// out of range, a point off the curve, primes that do not make a modulus of
// a supported size. It takes some ten microseconds, RSA keys are not
// prepared, and two things are left unchecked because they take longer: that
// an EC point belongs to its scalar, and that RSA primes are prime and go
// with the public exponent.
func (k *Key) UnmarshalJSON(b []byte) error {
	var s storedKey
	if err := decodeStrictly(b, &s); err != nil {
		return err
	}
	if s.Kind == "" && string(bytes.TrimSpace(b)) == "null" {
		return nil
	}
	key, err := s.material()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	key.Domain = s.Domain
	if s.UsesLeft != nil {
		key.Uses = Uses{Limited: true, Left: *s.UsesLeft}
	}
	if s.Algorithms != nil {
		list, err := hex.DecodeString(*s.Algorithms)
		if err != nil {
			return fmt.Errorf("%w: algorithm list", ErrFormat)
		}
		key.Algorithms = make([]Algorithm, len(list))
		for i, a := range list {
			key.Algorithms[i] = Algorithm(a)
		}
	}
	*k = key
	return nil
}

func (s storedKey) material() (Key, error) {
	isRSA := s.Exponent != 0 || s.P != nil || s.Q != nil || s.QInverse != nil
	isEC := s.Curve != "" || s.Point != nil
	isAES := s.Key != nil
	switch {
	case s.Kind == "rsa" && !isEC && !isAES:
		p, q := new(big.Int).SetBytes(s.P), new(big.Int).SetBytes(s.Q)
		k, err := newRSAKey(p, q, new(big.Int).SetBytes(s.QInverse), s.Exponent)
		if err != nil {
			return Key{}, err
		}
		if s.D != nil {
			if k.d, err = k.privateExponent(s.D); err != nil {
				return Key{}, err
			}
		}
		return Key{rsa: veiled(k)}, nil
	case s.Kind == "ec" && !isRSA && !isAES:
		c, ok := curve.ByName(s.Curve)
		if !ok {
			return Key{}, ErrCurve
		}
		if len(s.D) != c.OrderLen() {
			return Key{}, fmt.Errorf("%w: scalar of %d bytes", ErrKey, len(s.D))
		}
		d, err := c.PrivateWithPublic(s.D, s.Point)
		if err != nil {
			return Key{}, fmt.Errorf("%w: %w", ErrKey, err)
		}
		return NewEC(d), nil
	case s.Kind == "aes" && !isRSA && !isEC && s.D == nil:
		return NewAES(s.Key)
	}
	return Key{}, fmt.Errorf("%w: kind and parts", ErrKey)
}

// storedDomain is the JSON form of a Domain; see storedKey.
type storedDomain struct {
	Kind        string `json:"kind"`
	Total       byte   `json:"total,omitempty"`
	Outstanding byte   `json:"outstanding,omitempty"`
	UID         []byte `json:"uid,omitempty"`
	KEK         []byte `json:"kek,omitempty"`   // with shares outstanding: of those so far
	Bound       []byte `json:"bound,omitempty"` // fingerprint of the only KEK it takes
}

// MarshalJSON writes the domain with its KEK; the zero Domain as null.
func (d Domain) MarshalJSON() ([]byte, error) {
	s := storedDomain{Total: byte(d.total), Outstanding: byte(d.outstanding), UID: d.UID(), Bound: d.bound}
	switch d.kind {
	case domainDKEK:
		s.Kind = "dkek"
	case domainXKEK:
		s.Kind = "xkek"
	default:
		return []byte("null"), nil
	}
	if kek := d.kek.lift(); kek != nil {
		s.KEK = kek[:]
	}
	return json.Marshal(s)
}

// UnmarshalJSON reads what MarshalJSON wrote and returns ErrFormat, wrapped,
// for anything else.
func (d *Domain) UnmarshalJSON(b []byte) error {
	var s storedDomain
	if err := decodeStrictly(b, &s); err != nil {
		return err
	}
	if s.Kind == "" && string(bytes.TrimSpace(b)) == "null" {
		return nil
	}
	var domain Domain
	switch {
	case s.Kind == "dkek" && s.UID == nil && s.Outstanding <= s.Total && (s.KEK != nil) == (s.Outstanding < s.Total):
		domain = NewDKEK(int(s.Total))
		domain.outstanding, domain.bound = int(s.Outstanding), s.Bound
	case s.Kind == "xkek" && s.Total == 0 && s.Outstanding == 0 && s.Bound == nil:
		domain = NewXKEK(s.UID)
	default:
		return fmt.Errorf("%w: key domain", ErrFormat)
	}
	if s.Bound != nil && (len(s.Bound) != sha256.Size || s.Outstanding == 0) {
		return fmt.Errorf("%w: key domain", ErrFormat)
	}
	if s.KEK != nil {
		if len(s.KEK) != ShareLen {
			return fmt.Errorf("%w: key domain", ErrFormat)
		}
		kek := [ShareLen]byte(s.KEK)
		domain.kek = veiled(&kek)
	}
	*d = domain
	return nil
}

// decodeStrictly reads exactly one JSON value and no unknown name. Its error
// does not quote the input, which holds secrets.
func decodeStrictly(b []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("%w: not of the expected shape", ErrFormat)
	}
	if _, err := dec.Token(); err != io.EOF {
		return fmt.Errorf("%w: more than one value", ErrFormat)
	}
	return nil
}
