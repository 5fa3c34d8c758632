package curve

// SignByGroup signs deterministically by the package's own group, also on the
// curves whose signatures the standard library makes.
func (k *Private) SignByGroup(digest []byte) Signature {
	return k.sign(newNonces(k.curve.group.n, k.d, digest, nil), digest)
}

// VerifyByGroup verifies by the package's own group.
func (k *Public) VerifyByGroup(digest []byte, s Signature) bool {
	r, _ := k.curve.group.n.parse(s.R)
	t, _ := k.curve.group.n.parse(s.S)
	return k.verify(digest, &r, &t)
}

// Sums adds two points 04||x||y, nil standing for the neutral element, by
// every formula that applies and returns the results.
func (c *Curve) Sums(p, q []byte) [][]byte {
	g := c.group
	read := func(b []byte) (point, affine) {
		if b == nil {
			return g.neutral, affine{}
		}
		a, ok := g.decode(b)
		if !ok {
			panic("not on the curve")
		}
		// Some other representative of the same point.
		z := g.p.reduce([]byte("any number but zero"))
		var x, y element
		g.p.mul(&x, &a.x, &z)
		g.p.mul(&y, &a.y, &z)
		return point{x, y, z}, a
	}
	write := func(r *point) []byte {
		a, ok := g.affine(r)
		if !ok {
			return nil
		}
		return g.encode(&a)
	}
	a, _ := read(p)
	b, flat := read(q)
	var r point
	g.add(&r, &a, &b)
	sums := [][]byte{write(&r)}
	if q != nil {
		g.addAffine(&r, &a, &flat)
		sums = append(sums, write(&r))
	}
	if string(p) == string(q) && (p == nil) == (q == nil) {
		g.double(&r, &a)
		sums = append(sums, write(&r))
	}
	return sums
}

// Build does what the start of a program does.
func Build() { build() }
