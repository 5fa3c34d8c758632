// Package seal keeps a 32-byte root key for a file that is encrypted with it:
// openly not at all, under a passphrase, or in a TPM 2.0. With a TPM it also
// keeps a counter that nobody can turn back.
//
// It encrypts no files; package store does, and writes the parameters that a
// Sealer returns into the file's header.
//
//	s := seal.Passphrase{Ask: prompt}
//	parameters, err := s.Seal(root, 0)
//	…
//	root, err := s.Unseal(parameters)
//
// Sealers are values without state of their own; each call stands alone and
// may be made from any goroutine.
package seal

import (
	"errors"
	"io"
	"slices"
)

// RootLen is the length of a root key in bytes.
const RootLen = 32

// The kinds of sealers of this package, as they stand in files and on the
// command line.
const (
	KindNone       = "none"
	KindPassphrase = "passphrase"
	KindTPM        = "tpm"
)

// Kinds lists the kinds of sealers of this package.
func Kinds() []string { return []string{KindNone, KindPassphrase, KindTPM} }

// The errors of this package, to be told apart with errors.Is.
var (
	// ErrRoot reports a root key that is not RootLen bytes long.
	ErrRoot = errors.New("root key is not 32 bytes long")
	// ErrParameters reports parameters that no Seal of this kind has returned.
	ErrParameters = errors.New("parameters make no sense")
	// ErrPassphrase reports a wrong passphrase.
	ErrPassphrase = errors.New("wrong passphrase")
	// ErrEmpty reports that somebody tried to seal under an empty passphrase.
	ErrEmpty = errors.New("passphrase is empty")
	// ErrOtherTPM reports a TPM that is not the one the key was sealed by, or
	// that was cleared since.
	ErrOtherTPM = errors.New("sealed by another TPM, or this one was cleared")
	// ErrPCR reports that the machine's measured state is not the one the key
	// was bound to.
	ErrPCR = errors.New("the machine's measured state (PCR) has changed")
	// ErrNoCounter reports that the counter is gone from the TPM.
	ErrNoCounter = errors.New("the counter is gone from the TPM")
	// ErrNoTPM reports that no TPM answers at the address.
	ErrNoTPM = errors.New("no TPM answers")
	// ErrTPMNotBuilt reports a TPM on a system for which this package cannot
	// reach one: all but Linux, macOS and Windows.
	ErrTPMNotBuilt = errors.New("there is no support for TPMs on this system")
)

// First puts the sealer of a kind before all others. It reports whether there is one.
func First(kind string, all []Sealer) bool {
	i := slices.IndexFunc(all, func(one Sealer) bool { return one.Kind() == kind })
	if i >= 0 {
		all[0], all[i] = all[i], all[0]
	}
	return i >= 0
}

// Sealer keeps root keys.
type Sealer interface {
	// Kind returns the word for this way of sealing: lower case, never empty,
	// the same for ever, because files name it.
	Kind() string
	// Seal protects a root key of RootLen bytes and returns what Unseal needs
	// to give it back, a JSON value without secrets. generation is the number of
	// saves that have gone before, where a counter starts to count. The caller
	// keeps root and may wipe it afterwards.
	Seal(root []byte, generation uint64) (parameters []byte, err error)
	// Unseal returns the root key, in memory that the caller wipes.
	Unseal(parameters []byte) (root []byte, err error)
}

// Counting is a Sealer that notices when an old copy of a file comes back.
type Counting interface {
	Sealer
	// Counter returns the counter that Seal made, for the holder of the root
	// key. It keeps nothing of root.
	Counter(parameters, root []byte) (Counter, error)
	// Recount makes a new counter for a seal that lost its own and returns the
	// seal's new parameters. The seal is otherwise as it was.
	Recount(parameters, root []byte, generation uint64) ([]byte, error)
	// Release removes the counter of parameters that will not be used again.
	// It is not an error if it is gone already.
	Release(parameters []byte) error
}

// Counter counts the saves of one file and cannot be turned back.
type Counter interface {
	// Count returns the generation that the counter stands at.
	Count() (uint64, error)
	// Increment adds one, durably.
	Increment() error
}

// Insecure does not seal: the file's content is readable for whoever can read
// the file. It is for cards without secrets worth the name, as in tests and
// lessons.
type Insecure struct{}

// Kind returns KindNone.
func (Insecure) Kind() string { return KindNone }

// Seal does nothing and returns nothing. The file's content is written in the
// open, and root is not used.
func (Insecure) Seal([]byte, uint64) ([]byte, error) { return nil, nil }

// Unseal returns no key.
func (Insecure) Unseal([]byte) ([]byte, error) { return nil, nil }

// DefaultTPM is Linux' TPM device with its resource manager.
const DefaultTPM = "/dev/tpmrm0"

// TPM seals the root key under a TPM 2.0's storage root key, so that the file
// opens on this machine only, and keeps a counter in the TPM, so that an old
// copy of the file is noticed. Secrets cross the way to the TPM encrypted, in
// both directions (TPM 2.0 Part 1, 21). The owner hierarchy's authorization
// must be empty, as it is unless someone has set it.
//
// It does not protect from whoever may use the TPM and read the file, unless
// PCRs say otherwise.
type TPM struct {
	// Address is the path of a device node or of a Unix socket, or HOST:PORT
	// for a TPM behind TCP, both speaking plain TPM commands as swtpm does.
	// Empty is DefaultTPM.
	Address string
	// PCRs are the registers of the SHA-256 bank, 0 to 23, that a new seal is
	// bound to. The key then comes out only while they are as they are now. An
	// existing seal has its own in its parameters.
	PCRs []int
	// Open reaches the TPM instead of Address, if set. What it returns carries
	// plain TPM commands and answers.
	Open func() (io.ReadWriteCloser, error)
}

// Kind returns KindTPM.
func (TPM) Kind() string { return KindTPM }

// LastPCR is the number of the last platform configuration register that a card can be
// bound to: a TPM for PCs has 24 of them (PC Client Platform TPM Profile).
const LastPCR = 23
