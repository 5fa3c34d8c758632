package curve

// Signature is an ECDSA signature. Made by this package, R and S are both
// exactly OrderLen bytes long.
type Signature struct{ R, S []byte }

// Plain returns r||s, the plain format of BSI TR-03111 §5.2.1.
func (s Signature) Plain() []byte {
	return append(append(make([]byte, 0, len(s.R)+len(s.S)), s.R...), s.S...)
}

// DER returns the ASN.1 ECDSA-Sig-Value of SEC 1 §C.5: a SEQUENCE of the
// INTEGERs r and s, both of minimal length.
func (s Signature) DER() []byte {
	body := appendInteger(appendInteger(make([]byte, 0, 144), s.R), s.S)
	return append(appendLength(append(make([]byte, 0, len(body)+4), 0x30), len(body)), body...)
}

// PaddedDER is DER, but for leading zeros that keep r and s at OrderLen bytes
// or more. Only BER allows them (X.690 §8.3.2).
func (s Signature) PaddedDER() []byte {
	var body []byte
	for _, n := range [][]byte{s.R, s.S} {
		if len(n) > 0 && n[0] >= 0x80 {
			n = append([]byte{0}, n...)
		}
		body = append(appendLength(append(body, 0x02), len(n)), n...)
	}
	return append(appendLength([]byte{0x30}, len(body)), body...)
}

func appendInteger(dst, n []byte) []byte {
	for len(n) > 0 && n[0] == 0 {
		n = n[1:]
	}
	if len(n) == 0 || n[0] >= 0x80 {
		dst = appendLength(append(dst, 0x02), len(n)+1)
		return append(append(dst, 0), n...)
	}
	return append(appendLength(append(dst, 0x02), len(n)), n...)
}

func appendLength(dst []byte, n int) []byte {
	switch {
	case n < 0x80:
		return append(dst, byte(n))
	case n < 0x100:
		return append(dst, 0x81, byte(n))
	default:
		return append(dst, 0x82, byte(n>>8), byte(n))
	}
}

// ParsePlain reads r||s of twice OrderLen bytes. It returns ErrSignature for
// another length and unless r and s are between 1 and n-1.
func (c *Curve) ParsePlain(b []byte) (Signature, error) {
	if len(b) != 2*c.OrderLen() {
		return Signature{}, ErrSignature
	}
	return c.signature(b[:c.OrderLen()], b[c.OrderLen():])
}

// ParseDER reads the ASN.1 ECDSA-Sig-Value of SEC 1 §C.5. It returns
// ErrSignature for anything but distinguished encoding (minimal lengths and
// integers, nothing before, between or after them) and unless r and s are
// between 1 and n-1.
func (c *Curve) ParseDER(b []byte) (Signature, error) {
	body, rest, ok := readElement(b, 0x30)
	if !ok || len(rest) != 0 {
		return Signature{}, ErrSignature
	}
	r, body, okR := readInteger(body)
	s, rest, okS := readInteger(body)
	if !okR || !okS || len(rest) != 0 {
		return Signature{}, ErrSignature
	}
	return c.signature(r, s)
}

// readElement reads one DER element of the given tag. No signature needs a
// length of more than one extra byte.
func readElement(b []byte, tag byte) (value, rest []byte, ok bool) {
	if len(b) < 2 || b[0] != tag {
		return nil, nil, false
	}
	n, b := int(b[1]), b[2:]
	if n >= 0x80 {
		if n != 0x81 || len(b) == 0 || b[0] < 0x80 {
			return nil, nil, false
		}
		n, b = int(b[0]), b[1:]
	}
	if len(b) < n {
		return nil, nil, false
	}
	return b[:n], b[n:], true
}

// readInteger reads a minimal INTEGER that is not negative.
func readInteger(b []byte) (value, rest []byte, ok bool) {
	value, rest, ok = readElement(b, 0x02)
	if !ok || len(value) == 0 || value[0] >= 0x80 ||
		len(value) > 1 && value[0] == 0 && value[1] < 0x80 {
		return nil, nil, false
	}
	return value, rest, true
}

// signature checks the range of r and s and brings them to their width.
func (c *Curve) signature(r, s []byte) (Signature, error) {
	n := c.group.n
	x, okX := n.parse(r)
	y, okY := n.parse(s)
	if !okX || !okY || x.isZero() == 1 || y.isZero() == 1 {
		return Signature{}, ErrSignature
	}
	return c.encodeSignature(&x, &y), nil
}

// encodeSignature takes r and s out of Montgomery form.
func (c *Curve) encodeSignature(r, s *element) Signature {
	w := c.group.n.bytes
	b := s.appendBytes(r.appendBytes(make([]byte, 0, 2*w), w), w)
	return Signature{R: b[:w:w], S: b[w:]}
}
