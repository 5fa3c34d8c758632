package seal

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/chacha20poly1305"
)

// What Passphrase costs if its fields say nothing else: the second choice of
// RFC 9106 §4, for machines where 2 GiB for one key are too many.
const (
	DefaultTime    = 3
	DefaultMemory  = 64 * 1024
	DefaultThreads = 4
)

// What a file may ask for, so that a hostile one cannot stop the machine.
const (
	maxTime   = 64
	maxMemory = 1024 * 1024
	saltLen   = 16 // RFC 9106 §3.1
)

// Passphrase encrypts the root key under a key that Argon2id (RFC 9106) makes
// from a passphrase. Whoever knows the passphrase and has the file has the
// content; old copies of the file are as good as new ones.
type Passphrase struct {
	// Ask returns the passphrase, each time it is needed. The bytes are wiped
	// after use, so they must be a copy.
	Ask func() ([]byte, error)
	// Time, Memory (in KiB) and Threads are the costs of a new seal; zero
	// values are DefaultTime, DefaultMemory and DefaultThreads. An existing
	// seal has its own costs in its parameters.
	Time    uint32
	Memory  uint32
	Threads uint8
	// Rand gives the salt; nil is crypto/rand.
	Rand io.Reader
}

type passphraseParameters struct {
	KDF     string `json:"kdf"`
	Time    uint32 `json:"time"`
	Memory  uint32 `json:"memory"` // KiB
	Threads uint8  `json:"threads"`
	Salt    []byte `json:"salt"`
	Key     []byte `json:"key"` // XChaCha20-Poly1305 of the root key
}

const argon2id = "argon2id"

// Kind returns KindPassphrase.
func (Passphrase) Kind() string { return KindPassphrase }

// Seal asks for a passphrase and encrypts root under it. Errors: ErrRoot,
// ErrEmpty, what Ask and Rand return.
func (p Passphrase) Seal(root []byte, _ uint64) ([]byte, error) {
	if len(root) != RootLen {
		return nil, ErrRoot
	}
	q := passphraseParameters{
		KDF:     argon2id,
		Time:    orDefault(p.Time, DefaultTime),
		Memory:  orDefault(p.Memory, DefaultMemory),
		Threads: orDefault(p.Threads, DefaultThreads),
		Salt:    make([]byte, saltLen),
	}
	if err := q.check(); err != nil {
		return nil, err
	}
	src := p.Rand
	if src == nil {
		src = rand.Reader
	}
	if _, err := io.ReadFull(src, q.Salt); err != nil {
		return nil, fmt.Errorf("salt: %w", err)
	}
	kek, err := p.derive(q)
	if err != nil {
		return nil, err
	}
	defer clear(kek)
	aead, err := chacha20poly1305.NewX(kek)
	if err != nil {
		return nil, err
	}
	// The salt makes a key that encrypts this one message, so the nonce need
	// not differ from anything.
	q.Key = aead.Seal(nil, make([]byte, chacha20poly1305.NonceSizeX), root, nil)
	return json.Marshal(q)
}

// Unseal asks for the passphrase and returns the root key. Errors:
// ErrParameters, ErrPassphrase, what Ask returns.
func (p Passphrase) Unseal(parameters []byte) ([]byte, error) {
	var q passphraseParameters
	if err := decode(parameters, &q); err != nil {
		return nil, err
	}
	if err := q.check(); err != nil {
		return nil, err
	}
	if len(q.Salt) != saltLen || len(q.Key) != RootLen+chacha20poly1305.Overhead {
		return nil, fmt.Errorf("%w: salt or key of a wrong length", ErrParameters)
	}
	kek, err := p.derive(q)
	if errors.Is(err, ErrEmpty) {
		return nil, ErrPassphrase // nothing is sealed under it
	}
	if err != nil {
		return nil, err
	}
	defer clear(kek)
	aead, err := chacha20poly1305.NewX(kek)
	if err != nil {
		return nil, err
	}
	root, err := aead.Open(nil, make([]byte, chacha20poly1305.NonceSizeX), q.Key, nil)
	if err != nil {
		return nil, ErrPassphrase
	}
	return root, nil
}

// derive asks for the passphrase and makes the key out of it.
func (p Passphrase) derive(q passphraseParameters) ([]byte, error) {
	if p.Ask == nil {
		return nil, errors.New("nobody to ask for the passphrase")
	}
	word, err := p.Ask()
	defer clear(word)
	if err != nil {
		return nil, fmt.Errorf("ask for the passphrase: %w", err)
	}
	if len(word) == 0 {
		return nil, ErrEmpty
	}
	return argon2.IDKey(word, q.Salt, q.Time, q.Memory, q.Threads, chacha20poly1305.KeySize), nil
}

func (q passphraseParameters) check() error {
	switch {
	case q.KDF != argon2id:
		return fmt.Errorf("%w: unknown key derivation %q", ErrParameters, q.KDF)
	case q.Time < 1 || q.Time > maxTime:
		return fmt.Errorf("%w: Argon2id time %d is not in 1 to %d", ErrParameters, q.Time, maxTime)
	case q.Threads < 1:
		return fmt.Errorf("%w: Argon2id without threads", ErrParameters)
	case q.Memory < 8*uint32(q.Threads) || q.Memory > maxMemory: // RFC 9106 §3.1: at least 8 per lane
		return fmt.Errorf("%w: Argon2id memory %d KiB is not in %d to %d", ErrParameters, q.Memory, 8*uint32(q.Threads), maxMemory)
	}
	return nil
}

func orDefault[N uint32 | uint8](n, otherwise N) N {
	if n == 0 {
		return otherwise
	}
	return n
}

// decode reads parameters and nothing else.
func decode(parameters []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(parameters))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%w: %w", ErrParameters, err)
	}
	return nil
}
