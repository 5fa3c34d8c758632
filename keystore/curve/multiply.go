package curve

// recoding turns a scalar k into k' with k = Σ (2·bit_i(k') - 1)·2^i over the
// given number of bits, so that every digit made of some of those bits is odd
// and never zero: half of a table suffices and no digit is special.
type recoding struct {
	bits   int
	offset element // 2^bits - 1 mod n, not in Montgomery form
}

func newRecoding(n *modulus, bits int) recoding {
	offset := n.powerOfTwo(bits)
	n.sub(&offset, &offset, &n.one)
	n.out(&offset, &offset)
	return recoding{bits: bits, offset: offset}
}

// recode takes and returns scalars that are not in Montgomery form.
func (r *recoding) recode(n *modulus, k *element) (z element) {
	n.add(&z, k, &r.offset)
	n.halve(&z, &z)
	return z
}

// windowBits is the width of the window for a point met for the first time.
const windowBits = 5

const windowSize = 1 << (windowBits - 1)

// multiply sets r to k·q; k is not in Montgomery form.
func (c *group) multiply(r *point, k *element, q *affine) {
	var odd [windowSize]point // 1q, 3q, 5q, ...
	odd[0] = point{q.x, q.y, c.p.one}
	var twice point
	c.double(&twice, &odd[0])
	for i := 1; i < windowSize; i++ {
		c.add(&odd[i], &odd[i-1], &twice)
	}
	digits := c.window.recode(c.n, k)
	sum := c.neutral
	for at := c.window.bits - windowBits; at >= 0; at -= windowBits {
		for range windowBits {
			c.double(&sum, &sum)
		}
		var digit uint64
		for i := windowBits - 1; i >= 0; i-- {
			digit = digit<<1 | digits[(at+i)/64]>>((at+i)%64)&1
		}
		index, negative := split(digit, windowBits)
		var term point
		for i := range odd {
			mask := equalMask(uint64(i), index)
			c.p.choose(&term.x, &odd[i].x, mask)
			c.p.choose(&term.y, &odd[i].y, mask)
			c.p.choose(&term.z, &odd[i].z, mask)
		}
		c.negate(&term.y, negative)
		c.add(&sum, &sum, &term)
	}
	*r = sum
}

// negate changes the sign of y where mask is all ones.
func (c *group) negate(y *element, mask uint64) {
	var minus element
	c.p.sub(&minus, &element{}, y)
	c.p.choose(y, &minus, mask)
}

// split takes a digit of the given number of recoded bits apart: the index of
// its absolute value in a table and an all-ones mask if it is negative.
func split(digit uint64, bits int) (index, negative uint64) {
	negative = digit>>(bits-1) - 1
	return (digit ^ negative) & (1<<(bits-1) - 1), negative
}

// equalMask returns all ones if x = y and 0 if not, for x and y below 2^63.
func equalMask(x, y uint64) uint64 {
	return -(((x ^ y) - 1) >> 63)
}
