package curve

// point is a point in homogeneous coordinates (X:Y:Z), x = X/Z and y = Y/Z;
// the neutral element is (0:1:0).
type point struct{ x, y, z element }

// affine is a point other than the neutral element.
type affine struct{ x, y element }

// group is y² = x³ + ax + b over a prime field, of prime order. The formulas
// are the complete ones of Renes, Costello and Batina, "Complete addition
// formulas for prime order elliptic curves" (EUROCRYPT 2016), which hold for
// every pair of points and so need no exceptional cases.
type group struct {
	p, n    *modulus
	a, b    element
	kind    coefficient
	b3      element // 3b
	g       affine
	neutral point
	window  recoding
	comb    comb
}

// coefficient tells the values of a apart that are cheap to multiply by.
type coefficient int

const (
	aAny coefficient = iota
	aZero
	aMinusThree
)

// newGroup takes the multiples of the base point that the comb needs from the
// head of table and returns its tail.
func newGroup(d *Parameters, table []byte) (*group, []byte) {
	c := &group{p: newModulus(d.P), n: newModulus(d.N)}
	c.a = c.p.reduce(d.A)
	c.b = c.p.reduce(d.B)
	c.p.times3(&c.b3, &c.b)
	var threeMore element
	c.p.times3(&threeMore, &c.p.one)
	c.p.add(&threeMore, &threeMore, &c.a)
	switch {
	case c.a.isZero() == 1:
		c.kind = aZero
	case threeMore.isZero() == 1:
		c.kind = aMinusThree
	}
	c.neutral.y = c.p.one
	c.window = newRecoding(c.n, (c.n.bits+windowBits-1)/windowBits*windowBits)
	g, ok := c.decode(d.G)
	if !ok {
		panic("base point is not on the curve")
	}
	c.g = g
	return c, c.readComb(table)
}

// times3 sets z to 3x.
func (f *modulus) times3(z, x *element) {
	var t element
	f.add(&t, x, x)
	f.add(z, &t, x)
}

// timesA sets z to a·x. All curves but brainpool r1 have an a that needs no
// multiplication.
func (c *group) timesA(z, x *element) {
	switch c.kind {
	case aZero:
		*z = element{}
	case aMinusThree:
		c.p.times3(z, x)
		c.p.sub(z, &element{}, z)
	default:
		c.p.mul(z, &c.a, x)
	}
}

// terms makes of the products xx = X1·X2, zz = Z1·Z2 and xz = X1·Z2 + X2·Z1
//
//	u = a·xz + 3b·zz
//	v = 3b·xz + a·(xx - a·zz)
//	w = 3·xx + a·zz
func (c *group) terms(u, v, w, xx, zz, xz *element) {
	f := c.p
	var azz, t element
	c.timesA(&azz, zz)
	c.timesA(u, xz)
	f.mul(&t, &c.b3, zz)
	f.add(u, u, &t)
	f.sub(&t, xx, &azz)
	c.timesA(&t, &t)
	f.mul(v, &c.b3, xz)
	f.add(v, v, &t)
	f.times3(w, xx)
	f.add(w, w, &azz)
}

// combine finishes an addition: given the products of the coordinates, named
// as for terms, it makes the sum of the points.
//
//	X = xy·(yy-u) - yz·v
//	Y = (yy-u)·(yy+u) + w·v
//	Z = yz·(yy+u) + xy·w
func (c *group) combine(r *point, xx, yy, zz, xy, xz, yz *element) {
	f := c.p
	var u, v, w, minus, plus, t element
	c.terms(&u, &v, &w, xx, zz, xz)
	f.sub(&minus, yy, &u)
	f.add(&plus, yy, &u)
	f.mul(&r.x, xy, &minus)
	f.mul(&t, yz, &v)
	f.sub(&r.x, &r.x, &t)
	f.mul(&r.y, &minus, &plus)
	f.mul(&t, &w, &v)
	f.add(&r.y, &r.y, &t)
	f.mul(&r.z, yz, &plus)
	f.mul(&t, xy, &w)
	f.add(&r.z, &r.z, &t)
}

// cross sets z to s1·t2 + s2·t1 = (s1+t1)(s2+t2) - s1·s2 - t1·t2.
func (f *modulus) cross(z, s1, t1, s2, t2, ss, tt *element) {
	var u, v element
	f.add(&u, s1, t1)
	f.add(&v, s2, t2)
	f.mul(&u, &u, &v)
	f.add(&v, ss, tt)
	f.sub(z, &u, &v)
}

// add sets r to p + q (algorithm 1 of the paper).
func (c *group) add(r, p, q *point) {
	f := c.p
	var xx, yy, zz, xy, xz, yz element
	f.mul(&xx, &p.x, &q.x)
	f.mul(&yy, &p.y, &q.y)
	f.mul(&zz, &p.z, &q.z)
	f.cross(&xy, &p.x, &p.y, &q.x, &q.y, &xx, &yy)
	f.cross(&xz, &p.x, &p.z, &q.x, &q.z, &xx, &zz)
	f.cross(&yz, &p.y, &p.z, &q.y, &q.z, &yy, &zz)
	c.combine(r, &xx, &yy, &zz, &xy, &xz, &yz)
}

// addAffine sets r to p + q (algorithm 2).
func (c *group) addAffine(r, p *point, q *affine) {
	f := c.p
	var xx, yy, zz, xy, xz, yz element
	f.mul(&xx, &p.x, &q.x)
	f.mul(&yy, &p.y, &q.y)
	zz = p.z
	f.cross(&xy, &p.x, &p.y, &q.x, &q.y, &xx, &yy)
	f.mul(&xz, &q.x, &p.z)
	f.add(&xz, &xz, &p.x)
	f.mul(&yz, &q.y, &p.z)
	f.add(&yz, &yz, &p.y)
	c.combine(r, &xx, &yy, &zz, &xy, &xz, &yz)
}

// double sets r to p + p (algorithm 3). It is combine but for Z, which for
// equal points is 8·Y³·Z and so costs a multiplication less.
func (c *group) double(r, p *point) {
	f := c.p
	var xx, yy, zz, xy, xz, yz, u, v, w, minus, plus, t element
	f.mul(&xx, &p.x, &p.x)
	f.mul(&yy, &p.y, &p.y)
	f.mul(&zz, &p.z, &p.z)
	f.mul(&xy, &p.x, &p.y)
	f.add(&xy, &xy, &xy)
	f.mul(&xz, &p.x, &p.z)
	f.add(&xz, &xz, &xz)
	f.mul(&yz, &p.y, &p.z)
	f.add(&yz, &yz, &yz)
	c.terms(&u, &v, &w, &xx, &zz, &xz)
	f.sub(&minus, &yy, &u)
	f.add(&plus, &yy, &u)
	f.mul(&r.x, &xy, &minus)
	f.mul(&t, &yz, &v)
	f.sub(&r.x, &r.x, &t)
	f.mul(&r.y, &minus, &plus)
	f.mul(&t, &w, &v)
	f.add(&r.y, &r.y, &t)
	f.mul(&t, &yz, &yy)
	f.add(&t, &t, &t)
	f.add(&r.z, &t, &t)
}

// onCurve reports whether y² = x³ + ax + b.
func (c *group) onCurve(q *affine) bool {
	f := c.p
	var left, right element
	f.mul(&left, &q.y, &q.y)
	f.mul(&right, &q.x, &q.x)
	f.add(&right, &right, &c.a)
	f.mul(&right, &right, &q.x)
	f.add(&right, &right, &c.b)
	return left.equal(&right) == 1
}

// affine divides by Z and reports whether p is not the neutral element.
func (c *group) affine(p *point) (q affine, ok bool) {
	var inverse element
	c.p.invert(&inverse, &p.z)
	c.p.mul(&q.x, &p.x, &inverse)
	c.p.mul(&q.y, &p.y, &inverse)
	return q, p.z.isZero() == 0
}

// encode writes 04||x||y.
func (c *group) encode(q *affine) []byte {
	var x, y element
	c.p.out(&x, &q.x)
	c.p.out(&y, &q.y)
	b := append(make([]byte, 0, 1+2*c.p.bytes), 4)
	b = x.appendBytes(b, c.p.bytes)
	return y.appendBytes(b, c.p.bytes)
}

// decode reads 04||x||y of exactly the field's width and reports whether it
// is a point of the curve.
func (c *group) decode(b []byte) (q affine, ok bool) {
	if len(b) != 1+2*c.p.bytes || b[0] != 4 {
		return affine{}, false
	}
	x, okX := c.p.parse(b[1 : 1+c.p.bytes])
	y, okY := c.p.parse(b[1+c.p.bytes:])
	if !okX || !okY {
		return affine{}, false
	}
	c.p.into(&q.x, &x)
	c.p.into(&q.y, &y)
	return q, c.onCurve(&q)
}
