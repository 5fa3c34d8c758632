package curve

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
)

// nonces is the generator of RFC 6979 §3.2, the HMAC_DRBG of SP 800-90A.
type nonces struct {
	n       *modulus
	newHash func() hash.Hash
	k, v    []byte
	drawn   bool
}

// hashOfLength is the hash function a digest of that length is taken to come
// from. RFC 6979 §3.1 wants the one that made the digest, which is not known
// here; for lengths no common function has, the generator runs on SHA-256,
// which §3.6 permits.
func hashOfLength(n int) func() hash.Hash {
	switch n {
	case sha1.Size:
		return sha1.New
	case sha256.Size224:
		return sha256.New224
	case sha512.Size384:
		return sha512.New384
	case sha512.Size:
		return sha512.New
	default:
		return sha256.New
	}
}

// newNonces starts the generator with the private key d, the digest and extra
// entropy, which may be empty (RFC 6979 §3.6, "additional data").
func newNonces(n *modulus, d *element, digest, extra []byte) *nonces {
	g := &nonces{n: n, newHash: hashOfLength(len(digest))}
	size := g.newHash().Size()
	g.k, g.v = make([]byte, size), make([]byte, size)
	for i := range g.v {
		g.v[i] = 1
	}
	z := n.leftmost(digest)
	n.reduceOnce(&z, &z, 0)
	seed := z.appendBytes(d.appendBytes(make([]byte, 0, 2*n.bytes+len(extra)), n.bytes), n.bytes)
	seed = append(seed, extra...)
	g.update(0, seed)
	g.update(1, seed)
	return g
}

func (g *nonces) update(separator byte, seed []byte) {
	m := hmac.New(g.newHash, g.k)
	m.Write(g.v)
	m.Write([]byte{separator})
	m.Write(seed)
	g.k = m.Sum(g.k[:0])
	m = hmac.New(g.newHash, g.k)
	m.Write(g.v)
	g.v = m.Sum(g.v[:0])
}

// next returns the next scalar between 1 and n-1, not in Montgomery form.
func (g *nonces) next() element {
	for {
		if g.drawn {
			g.update(0, nil)
		}
		g.drawn = true
		m := hmac.New(g.newHash, g.k)
		t := make([]byte, 0, g.n.bytes+sha512.Size)
		for len(t) < g.n.bytes {
			m.Reset()
			m.Write(g.v)
			g.v = m.Sum(g.v[:0])
			t = append(t, g.v...)
		}
		k := g.n.leftmost(t)
		if g.n.less(&k) == 1 && k.isZero() == 0 {
			return k
		}
	}
}

// leftmost is bits2int of RFC 6979 §2.3.2: the leading bits of b, at most as
// many as m has, as a number, which may therefore exceed m.
func (f *modulus) leftmost(b []byte) element {
	if len(b) < f.bytes {
		return words(b)
	}
	x := words(b[:f.bytes])
	excess := 8*f.bytes - f.bits
	for i := range f.limbs {
		up := uint64(0)
		if i+1 < f.limbs {
			up = x[i+1]
		}
		x[i] = x[i]>>excess | up<<(64-excess)
	}
	return x
}
