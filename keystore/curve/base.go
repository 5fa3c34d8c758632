package curve

import _ "embed" // for baseMultiples

// The shape of the comb: bits of the scalar in one digit, digits looked up
// between two doublings, and points to look a digit up in.
const (
	combTeeth  = 6
	combBlocks = 2
	combPoints = 1 << (combTeeth - 1)
)

// baseMultiples holds the comb of every curve as points x||y, curves in the
// order of descriptions. It is data and not computed at the start, because
// that would take every program some milliseconds, and not computed when first
// needed, because a pure package has nowhere to keep it. A test says what it
// must contain and writes it when asked to.
//
//go:embed base.bin
var baseMultiples []byte

// comb multiplies the base point by the method of Lim and Lee. Bit i of the
// recoded scalar belongs to tooth i / spacing, and within that to block
// i % spacing / column. Entry e of block b is the base point times
//
//	2^(b·column) · (2^((teeth-1)·spacing) + Σ_{j<teeth-1} (2·bit_j(e) - 1)·2^(j·spacing))
type comb struct {
	recoding
	column, spacing int
	points          [combBlocks][combPoints]affine
}

func (c *group) readComb(table []byte) (rest []byte) {
	m := &c.comb
	m.column = (c.n.bits + combTeeth*combBlocks - 1) / (combTeeth * combBlocks)
	m.spacing = combBlocks * m.column
	m.recoding = newRecoding(c.n, combTeeth*m.spacing)
	w := c.p.bytes
	for b := range m.points {
		for i := range m.points[b] {
			x, y := words(table[:w]), words(table[w:2*w])
			c.p.into(&m.points[b][i].x, &x)
			c.p.into(&m.points[b][i].y, &y)
			table = table[2*w:]
		}
	}
	return table
}

// multiplyBase sets r to k times the base point; k is not in Montgomery form.
func (c *group) multiplyBase(r *point, k *element) {
	m := &c.comb
	digits := m.recode(c.n, k)
	sum := c.neutral
	for at := m.column - 1; at >= 0; at-- {
		if at != m.column-1 {
			c.double(&sum, &sum)
		}
		for b := range m.points {
			var digit uint64
			for tooth := combTeeth - 1; tooth >= 0; tooth-- {
				i := tooth*m.spacing + b*m.column + at
				digit = digit<<1 | digits[i/64]>>(i%64)&1
			}
			index, negative := split(digit, combTeeth)
			var term affine
			for i := range m.points[b] {
				mask := equalMask(uint64(i), index)
				c.p.choose(&term.x, &m.points[b][i].x, mask)
				c.p.choose(&term.y, &m.points[b][i].y, mask)
			}
			c.negate(&term.y, negative)
			c.addAffine(&sum, &sum, &term)
		}
	}
	*r = sum
}
