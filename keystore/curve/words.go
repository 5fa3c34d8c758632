package curve

import "math/bits"

// The Montgomery products of 4, 6 and 9 words. They are the hot loops of the
// package and written out, because the compiler neither unrolls loops nor
// keeps a carry in its flag across iterations. Each round of
//
//	t = (t + x·y[i] + m·w) / 2^64, w chosen to make the division exact
//
// makes a whole row of products first and then adds it in one carry chain.
// t stays below 2m, hence at most one bit above R.

func (f *modulus) mul4(z, x, y *element) {
	m := (*[4]uint64)(f.m[:])
	var t0, t1, t2, t3, t4 uint64
	for i := range 4 {
		w := y[i]
		var c, top uint64
		h0, l0 := bits.Mul64(x[0], w)
		h1, l1 := bits.Mul64(x[1], w)
		h2, l2 := bits.Mul64(x[2], w)
		h3, l3 := bits.Mul64(x[3], w)
		l1, c = bits.Add64(l1, h0, 0)
		l2, c = bits.Add64(l2, h1, c)
		l3, c = bits.Add64(l3, h2, c)
		h3 += c
		t0, c = bits.Add64(t0, l0, 0)
		t1, c = bits.Add64(t1, l1, c)
		t2, c = bits.Add64(t2, l2, c)
		t3, c = bits.Add64(t3, l3, c)
		t4, top = bits.Add64(t4, h3, c)

		w = t0 * f.negInverse
		h0, l0 = bits.Mul64(m[0], w)
		h1, l1 = bits.Mul64(m[1], w)
		h2, l2 = bits.Mul64(m[2], w)
		h3, l3 = bits.Mul64(m[3], w)
		l1, c = bits.Add64(l1, h0, 0)
		l2, c = bits.Add64(l2, h1, c)
		l3, c = bits.Add64(l3, h2, c)
		h3 += c
		_, c = bits.Add64(t0, l0, 0)
		t0, c = bits.Add64(t1, l1, c)
		t1, c = bits.Add64(t2, l2, c)
		t2, c = bits.Add64(t3, l3, c)
		t3, c = bits.Add64(t4, h3, c)
		t4 = top + c
	}
	f.reduce4(z, t0, t1, t2, t3, t4)
}

func (f *modulus) mul6(z, x, y *element) {
	m := (*[6]uint64)(f.m[:])
	var t0, t1, t2, t3, t4, t5, t6 uint64
	for i := range 6 {
		w := y[i]
		var c, top uint64
		h0, l0 := bits.Mul64(x[0], w)
		h1, l1 := bits.Mul64(x[1], w)
		h2, l2 := bits.Mul64(x[2], w)
		h3, l3 := bits.Mul64(x[3], w)
		h4, l4 := bits.Mul64(x[4], w)
		h5, l5 := bits.Mul64(x[5], w)
		l1, c = bits.Add64(l1, h0, 0)
		l2, c = bits.Add64(l2, h1, c)
		l3, c = bits.Add64(l3, h2, c)
		l4, c = bits.Add64(l4, h3, c)
		l5, c = bits.Add64(l5, h4, c)
		h5 += c
		t0, c = bits.Add64(t0, l0, 0)
		t1, c = bits.Add64(t1, l1, c)
		t2, c = bits.Add64(t2, l2, c)
		t3, c = bits.Add64(t3, l3, c)
		t4, c = bits.Add64(t4, l4, c)
		t5, c = bits.Add64(t5, l5, c)
		t6, top = bits.Add64(t6, h5, c)

		w = t0 * f.negInverse
		h0, l0 = bits.Mul64(m[0], w)
		h1, l1 = bits.Mul64(m[1], w)
		h2, l2 = bits.Mul64(m[2], w)
		h3, l3 = bits.Mul64(m[3], w)
		h4, l4 = bits.Mul64(m[4], w)
		h5, l5 = bits.Mul64(m[5], w)
		l1, c = bits.Add64(l1, h0, 0)
		l2, c = bits.Add64(l2, h1, c)
		l3, c = bits.Add64(l3, h2, c)
		l4, c = bits.Add64(l4, h3, c)
		l5, c = bits.Add64(l5, h4, c)
		h5 += c
		_, c = bits.Add64(t0, l0, 0)
		t0, c = bits.Add64(t1, l1, c)
		t1, c = bits.Add64(t2, l2, c)
		t2, c = bits.Add64(t3, l3, c)
		t3, c = bits.Add64(t4, l4, c)
		t4, c = bits.Add64(t5, l5, c)
		t5, c = bits.Add64(t6, h5, c)
		t6 = top + c
	}
	f.reduceOnce(z, &element{t0, t1, t2, t3, t4, t5}, t6)
}

func (f *modulus) mul9(z, x, y *element) {
	m := (*[9]uint64)(f.m[:])
	var t0, t1, t2, t3, t4, t5, t6, t7, t8, t9 uint64
	for i := range 9 {
		w := y[i]
		var c, top uint64
		h0, l0 := bits.Mul64(x[0], w)
		h1, l1 := bits.Mul64(x[1], w)
		h2, l2 := bits.Mul64(x[2], w)
		h3, l3 := bits.Mul64(x[3], w)
		h4, l4 := bits.Mul64(x[4], w)
		h5, l5 := bits.Mul64(x[5], w)
		h6, l6 := bits.Mul64(x[6], w)
		h7, l7 := bits.Mul64(x[7], w)
		h8, l8 := bits.Mul64(x[8], w)
		l1, c = bits.Add64(l1, h0, 0)
		l2, c = bits.Add64(l2, h1, c)
		l3, c = bits.Add64(l3, h2, c)
		l4, c = bits.Add64(l4, h3, c)
		l5, c = bits.Add64(l5, h4, c)
		l6, c = bits.Add64(l6, h5, c)
		l7, c = bits.Add64(l7, h6, c)
		l8, c = bits.Add64(l8, h7, c)
		h8 += c
		t0, c = bits.Add64(t0, l0, 0)
		t1, c = bits.Add64(t1, l1, c)
		t2, c = bits.Add64(t2, l2, c)
		t3, c = bits.Add64(t3, l3, c)
		t4, c = bits.Add64(t4, l4, c)
		t5, c = bits.Add64(t5, l5, c)
		t6, c = bits.Add64(t6, l6, c)
		t7, c = bits.Add64(t7, l7, c)
		t8, c = bits.Add64(t8, l8, c)
		t9, top = bits.Add64(t9, h8, c)

		w = t0 * f.negInverse
		h0, l0 = bits.Mul64(m[0], w)
		h1, l1 = bits.Mul64(m[1], w)
		h2, l2 = bits.Mul64(m[2], w)
		h3, l3 = bits.Mul64(m[3], w)
		h4, l4 = bits.Mul64(m[4], w)
		h5, l5 = bits.Mul64(m[5], w)
		h6, l6 = bits.Mul64(m[6], w)
		h7, l7 = bits.Mul64(m[7], w)
		h8, l8 = bits.Mul64(m[8], w)
		l1, c = bits.Add64(l1, h0, 0)
		l2, c = bits.Add64(l2, h1, c)
		l3, c = bits.Add64(l3, h2, c)
		l4, c = bits.Add64(l4, h3, c)
		l5, c = bits.Add64(l5, h4, c)
		l6, c = bits.Add64(l6, h5, c)
		l7, c = bits.Add64(l7, h6, c)
		l8, c = bits.Add64(l8, h7, c)
		h8 += c
		_, c = bits.Add64(t0, l0, 0)
		t0, c = bits.Add64(t1, l1, c)
		t1, c = bits.Add64(t2, l2, c)
		t2, c = bits.Add64(t3, l3, c)
		t3, c = bits.Add64(t4, l4, c)
		t4, c = bits.Add64(t5, l5, c)
		t5, c = bits.Add64(t6, l6, c)
		t6, c = bits.Add64(t7, l7, c)
		t7, c = bits.Add64(t8, l8, c)
		t8, c = bits.Add64(t9, h8, c)
		t9 = top + c
	}
	f.reduceOnce(z, &element{t0, t1, t2, t3, t4, t5, t6, t7, t8}, t9)
}

// reduce4 is reduceOnce of t0 … t3 and a carry of t4, for 4 words.
func (f *modulus) reduce4(z *element, t0, t1, t2, t3, t4 uint64) {
	m := (*[4]uint64)(f.m[:])
	d0, b := bits.Sub64(t0, m[0], 0)
	d1, b := bits.Sub64(t1, m[1], b)
	d2, b := bits.Sub64(t2, m[2], b)
	d3, b := bits.Sub64(t3, m[3], b)
	_, b = bits.Sub64(t4, 0, b)
	keep := -b
	z[0] = d0 ^ (d0^t0)&keep
	z[1] = d1 ^ (d1^t1)&keep
	z[2] = d2 ^ (d2^t2)&keep
	z[3] = d3 ^ (d3^t3)&keep
}

func (f *modulus) add4(z, x, y *element) {
	t0, c := bits.Add64(x[0], y[0], 0)
	t1, c := bits.Add64(x[1], y[1], c)
	t2, c := bits.Add64(x[2], y[2], c)
	t3, c := bits.Add64(x[3], y[3], c)
	f.reduce4(z, t0, t1, t2, t3, c)
}

func (f *modulus) sub4(z, x, y *element) {
	m := (*[4]uint64)(f.m[:])
	d0, b := bits.Sub64(x[0], y[0], 0)
	d1, b := bits.Sub64(x[1], y[1], b)
	d2, b := bits.Sub64(x[2], y[2], b)
	d3, b := bits.Sub64(x[3], y[3], b)
	mask := -b
	var c uint64
	z[0], c = bits.Add64(d0, m[0]&mask, 0)
	z[1], c = bits.Add64(d1, m[1]&mask, c)
	z[2], c = bits.Add64(d2, m[2]&mask, c)
	z[3], _ = bits.Add64(d3, m[3]&mask, c)
}
