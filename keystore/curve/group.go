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
	b3      element // 3b
	g       affine
	neutral point
	window  recoding
	comb    comb
}

// newGroup takes the multiples of the base point that the comb needs from the
// head of table and returns its tail.
func newGroup(d *Parameters, table []byte) (*group, []byte) {
	c := &group{p: newModulus(d.P), n: newModulus(d.N)}
	c.a = c.p.reduce(d.A)
	c.b = c.p.reduce(d.B)
	c.p.times3(&c.b3, &c.b)
	c.neutral.y = c.p.one
	c.window = newRecoding(c.n, (c.n.bits+windowBits-1)/windowBits*windowBits)
	g, ok := c.decode(d.G)
	if !ok {
		panic("curve: base point is not on the curve")
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

// combine finishes an addition: given the products of the coordinates
// (xx = X1·X2, xy = X1·Y2+X2·Y1 and so on) it makes the sum of the points.
func (c *group) combine(r *point, xx, yy, zz, xy, xz, yz *element) {
	f := c.p
	var azz, u, v, w, t element
	f.mul(&azz, &c.a, zz)
	f.mul(&u, &c.a, xz)
	f.mul(&t, &c.b3, zz)
	f.add(&u, &u, &t) // u = a·xz + 3b·zz
	f.sub(&t, xx, &azz)
	f.mul(&t, &c.a, &t)
	f.mul(&v, &c.b3, xz)
	f.add(&v, &v, &t) // v = 3b·xz + a·(xx - a·zz)
	f.times3(&w, xx)
	f.add(&w, &w, &azz) // w = 3·xx + a·zz

	var minus, plus element
	f.sub(&minus, yy, &u)
	f.add(&plus, yy, &u)
	f.mul(&r.x, xy, &minus)
	f.mul(&t, yz, &v)
	f.sub(&r.x, &r.x, &t) // X = xy·(yy-u) - yz·v
	f.mul(&r.y, &minus, &plus)
	f.mul(&t, &w, &v)
	f.add(&r.y, &r.y, &t) // Y = (yy-u)(yy+u) + w·v
	f.mul(&r.z, yz, &plus)
	f.mul(&t, xy, &w)
	f.add(&r.z, &r.z, &t) // Z = yz·(yy+u) + xy·w
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

// double sets r to p + p (algorithm 3). The last coordinate of the sum is
// 8·Y³·Z, which is cheaper than what combine would do.
func (c *group) double(r, p *point) {
	f := c.p
	var xx, yy, zz, xy, xz, yz, azz, u, v, w, t element
	f.mul(&xx, &p.x, &p.x)
	f.mul(&yy, &p.y, &p.y)
	f.mul(&zz, &p.z, &p.z)
	f.mul(&xy, &p.x, &p.y)
	f.add(&xy, &xy, &xy)
	f.mul(&xz, &p.x, &p.z)
	f.add(&xz, &xz, &xz)
	f.mul(&yz, &p.y, &p.z)
	f.add(&yz, &yz, &yz)

	f.mul(&azz, &c.a, &zz)
	f.mul(&u, &c.a, &xz)
	f.mul(&t, &c.b3, &zz)
	f.add(&u, &u, &t)
	f.sub(&t, &xx, &azz)
	f.mul(&t, &c.a, &t)
	f.mul(&v, &c.b3, &xz)
	f.add(&v, &v, &t)
	f.times3(&w, &xx)
	f.add(&w, &w, &azz)

	var minus, plus element
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
