package curve

import (
	"encoding/binary"
	"math/bits"
)

// maxLimbs is the number of 64-bit words of the widest modulus, 521 bits.
const maxLimbs = 9

// element is a residue modulo some odd modulus, least significant word first.
// Words at and above the modulus's own count are always zero. Unless a
// function says otherwise the residue x is held as x·R, R = 2^(64·limbs)
// (Montgomery form).
type element [maxLimbs]uint64

// modulus is an odd number m with what arithmetic modulo m needs. Apart from
// the number of words no method branches on, or indexes by, an element; the
// modulus itself is public. Results may share memory with operands.
type modulus struct {
	limbs, bits, bytes int
	m                  element
	negInverse         uint64  // -m^-1 mod 2^64
	one, square        element // R and R² mod m: 1 and R in Montgomery form
	shift              element // 2^64
	lessTwo            element // m-2, the exponent that inverts when m is prime
}

func newModulus(b []byte) *modulus {
	for len(b) > 0 && b[0] == 0 {
		b = b[1:]
	}
	f := &modulus{limbs: maxLimbs, bits: 8*len(b) - bits.LeadingZeros8(b[0]), bytes: len(b)}
	switch {
	case len(b) <= 8*4:
		f.limbs = 4
	case len(b) <= 8*6:
		f.limbs = 6
	}
	f.m = words(b)
	f.negInverse = -f.m[0] // right modulo 8, the square of an odd number being 1
	for range 5 {          // every Newton step doubles the bits that are right
		f.negInverse *= 2 + f.m[0]*f.negInverse
	}
	f.one[(f.bits-1)/64] = 1 << ((f.bits - 1) % 64) // below m, whose top bit is set
	for range 64*f.limbs - f.bits + 1 {
		f.add(&f.one, &f.one, &f.one)
	}
	f.shift, f.square = f.powerOfTwo(64), f.powerOfTwo(64*f.limbs)
	f.lessTwo = f.m
	var borrow uint64
	f.lessTwo[0], borrow = bits.Sub64(f.m[0], 2, 0)
	for i := 1; i < f.limbs; i++ {
		f.lessTwo[i], borrow = bits.Sub64(f.m[i], 0, borrow)
	}
	return f
}

// powerOfTwo returns 2^e in Montgomery form.
func (f *modulus) powerOfTwo(e int) element {
	x := f.one
	for i := bits.Len(uint(e)) - 1; i >= 0; i-- {
		f.mul(&x, &x, &x)
		if e>>i&1 == 1 {
			f.add(&x, &x, &x)
		}
	}
	return x
}

// words reads a big-endian number of at most 72 bytes.
func words(b []byte) (x element) {
	i := 0
	for ; len(b) >= 8; i++ {
		x[i] = binary.BigEndian.Uint64(b[len(b)-8:])
		b = b[:len(b)-8]
	}
	for _, c := range b {
		x[i] = x[i]<<8 | uint64(c)
	}
	return x
}

// appendBytes appends the words of x, not in Montgomery form, as a big-endian
// number of the given width.
func (x *element) appendBytes(dst []byte, width int) []byte {
	for at := width - 1; at >= 0; at-- {
		dst = append(dst, byte(x[at/8]>>(at%8*8)))
	}
	return dst
}

// reduceOnce subtracts m from x + carry·R if that is not negative.
func (f *modulus) reduceOnce(z, x *element, carry uint64) {
	var d element
	var borrow uint64
	for i := range f.limbs {
		d[i], borrow = bits.Sub64(x[i], f.m[i], borrow)
	}
	_, borrow = bits.Sub64(carry, 0, borrow)
	keep := -borrow
	for i := range f.limbs {
		z[i] = x[i]&keep | d[i]&^keep
	}
}

func (f *modulus) add(z, x, y *element) {
	if f.limbs == 4 {
		f.add4(z, x, y)
		return
	}
	var s element
	var carry uint64
	for i := range f.limbs {
		s[i], carry = bits.Add64(x[i], y[i], carry)
	}
	f.reduceOnce(z, &s, carry)
}

func (f *modulus) sub(z, x, y *element) {
	if f.limbs == 4 {
		f.sub4(z, x, y)
		return
	}
	var borrow, carry uint64
	for i := range f.limbs {
		z[i], borrow = bits.Sub64(x[i], y[i], borrow)
	}
	mask := -borrow
	for i := range f.limbs {
		z[i], carry = bits.Add64(z[i], f.m[i]&mask, carry)
	}
}

// mul sets z to x·y/R mod m, the Montgomery product. One factor may be any
// number below R.
func (f *modulus) mul(z, x, y *element) {
	switch f.limbs {
	case 4:
		f.mul4(z, x, y)
	case 6:
		f.mul6(z, x, y)
	default:
		f.mul9(z, x, y)
	}
}

// invert sets z to 1/x modulo the prime m, and to 0 for x = 0.
func (f *modulus) invert(z, x *element) {
	var power [16]element
	power[0] = f.one
	for i := 1; i < len(power); i++ {
		f.mul(&power[i], &power[i-1], x)
	}
	r := f.one
	for i := 16*f.limbs - 1; i >= 0; i-- {
		for range 4 {
			f.mul(&r, &r, &r)
		}
		if digit := f.lessTwo[i/16] >> (i % 16 * 4) & 15; digit != 0 { // public: part of m
			f.mul(&r, &r, &power[digit])
		}
	}
	*z = r
}

// into brings x < R into Montgomery form, out takes it back.
func (f *modulus) into(z, x *element) { f.mul(z, x, &f.square) }
func (f *modulus) out(z, x *element)  { f.mul(z, x, &element{1}) }

// halve sets z to x/2 mod m.
func (f *modulus) halve(z, x *element) {
	mask := -(x[0] & 1)
	var s element
	var carry uint64
	for i := range f.limbs {
		s[i], carry = bits.Add64(x[i], f.m[i]&mask, carry)
	}
	for i := range f.limbs {
		up := carry
		if i+1 < f.limbs {
			up = s[i+1]
		}
		z[i] = s[i]>>1 | up<<63
	}
}

// less returns 1 if x < m and 0 if not.
func (f *modulus) less(x *element) uint64 {
	var borrow uint64
	for i := range x {
		_, borrow = bits.Sub64(x[i], f.m[i], borrow)
	}
	return borrow
}

// parse reads a big-endian number, reports whether it is below m and leaves
// it out of Montgomery form. Leading zeros are not limited.
func (f *modulus) parse(b []byte) (x element, ok bool) {
	var high byte
	for len(b) > f.bytes {
		high |= b[0]
		b = b[1:]
	}
	x = words(b)
	return x, high == 0 && f.less(&x) == 1
}

// reduce brings a big-endian number of any length into Montgomery form.
func (f *modulus) reduce(b []byte) (x element) {
	for len(b) > 0 {
		take := (len(b)-1)%8 + 1
		w := words(b[:take])
		f.into(&w, &w)
		f.mul(&x, &x, &f.shift)
		f.add(&x, &x, &w)
		b = b[take:]
	}
	return x
}

// isZero returns 1 if x is zero and 0 if not.
func (x *element) isZero() uint64 {
	var or uint64
	for _, w := range x {
		or |= w
	}
	return 1 ^ (or|-or)>>63
}

// equal returns 1 if x and y are the same and 0 if not.
func (x *element) equal(y *element) uint64 {
	var d element
	for i := range x {
		d[i] = x[i] ^ y[i]
	}
	return d.isZero()
}

// choose sets z to x where mask is all ones and leaves it where mask is zero.
func (f *modulus) choose(z, x *element, mask uint64) {
	if f.limbs == 4 {
		z[0] ^= (z[0] ^ x[0]) & mask
		z[1] ^= (z[1] ^ x[1]) & mask
		z[2] ^= (z[2] ^ x[2]) & mask
		z[3] ^= (z[3] ^ x[3]) & mask
		return
	}
	for i := range z {
		z[i] ^= (z[i] ^ x[i]) & mask
	}
}
