package emulator

import (
	"crypto/sha256"
	"encoding/binary"
	"io"
	"math/rand/v2"
)

// Seeded is an endless stream of bytes that depends on nothing but the seed and
// the state it starts from: the randomness of a card that has to do the same
// thing every time. It protects nothing.
func Seeded(seed uint64, state [32]byte) io.Reader {
	key := binary.BigEndian.AppendUint64([]byte("hsmemu seed "), seed)
	return rand.NewChaCha8(sha256.Sum256(append(key, state[:]...)))
}
