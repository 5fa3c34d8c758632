//go:build linux || darwin || windows

package seal

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// The NV indices that an owner may use as he likes: TCG, Registry of Reserved
// TPM 2.0 Handles and Localities, 2.2.
const (
	firstIndex = 0x01800000
	lastIndex  = 0x01BFFFFF

	indexTries = 16
	counterLen = 8
	authLen    = 16
)

// nvCounter is a counter of a TPM. Its authorization value comes from the root
// key: only who has that can count on, and answers are authenticated by it, so
// that nobody between us and the TPM can make one up.
type nvCounter struct {
	tpm  TPM
	p    tpmParameters
	auth []byte
}

// Counter returns the counter that Seal made. Errors: ErrParameters, ErrRoot.
func (t TPM) Counter(parameters, root []byte) (Counter, error) {
	p, err := decodeTPM(parameters)
	if err != nil {
		return nil, err
	}
	if len(root) != RootLen {
		return nil, ErrRoot
	}
	auth, err := counterAuth(root)
	if err != nil {
		return nil, err
	}
	return nvCounter{tpm: t, p: p, auth: auth}, nil
}

// Recount makes a new counter that stands at generation; the sealed object and
// its PCRs stay. Errors are those of Seal.
func (t TPM) Recount(parameters, root []byte, generation uint64) ([]byte, error) {
	p, err := decodeTPM(parameters)
	if err != nil {
		return nil, err
	}
	if len(root) != RootLen {
		return nil, ErrRoot
	}
	p.Generation = generation
	err = t.use(func(c *connection) error {
		srk, kerr := c.storageRoot()
		if kerr != nil {
			return kerr
		}
		defer srk.key.Close()
		return c.define(&p, srk, root)
	})
	if err != nil {
		return nil, fmt.Errorf("by TPM: %w", err)
	}
	return json.Marshal(p)
}

// Release removes the counter of parameters from the TPM. Errors:
// ErrParameters, ErrNoTPM, or the TPM's.
func (t TPM) Release(parameters []byte) error {
	p, err := decodeTPM(parameters)
	if err != nil {
		return err
	}
	index, err := p.index(written)
	if err != nil {
		return err
	}
	err = t.use(func(c *connection) error { return c.undefine(index) })
	// Another index by that number has another name, and the authorization
	// over the name then fails; it is not ours to remove.
	if gone(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove the counter: %w", err)
	}
	return nil
}

// Count reads the counter. Errors: ErrNoCounter, ErrNoTPM, or the TPM's.
func (n nvCounter) Count() (uint64, error) {
	index, err := n.p.index(written)
	if err != nil {
		return 0, err
	}
	var count uint64
	err = n.tpm.use(func(c *connection) (rerr error) {
		count, rerr = c.read(index, n.auth)
		return rerr
	})
	if err != nil {
		return 0, n.explain("read", err)
	}
	// Modulo 2⁶⁴; a counter that is not this one gives nonsense, and the caller
	// finds that it does not fit.
	return n.p.Generation + (count - n.p.Count), nil
}

// Increment adds one. Errors: ErrNoCounter, ErrNoTPM, or the TPM's.
func (n nvCounter) Increment() error {
	index, err := n.p.index(written)
	if err != nil {
		return err
	}
	err = n.tpm.use(func(c *connection) error { return c.increment(index, n.auth) })
	if err != nil {
		return n.explain("increment", err)
	}
	return nil
}

func (n nvCounter) explain(what string, err error) error {
	if gone(err) {
		return fmt.Errorf("%w: index %#x: %w", ErrNoCounter, n.p.Index, err)
	}
	return fmt.Errorf("%s the counter: %w", what, err)
}

// gone reports whether an error says that there is no such index, or another one
// by its number.
func gone(err error) bool {
	return errors.Is(err, tpm2.TPMRCHandle) || errors.Is(err, tpm2.TPMRCAuthFail) || errors.Is(err, tpm2.TPMRCBadAuth)
}

// counterAuth derives the counter's authorization value. It is text without
// zero bytes, because go-tpm 0.9.8 cuts a value at the first zero byte and not
// only the ones at the end that TPM 2.0 Part 1, 19.6.5 takes away.
func counterAuth(root []byte) ([]byte, error) {
	key, err := hkdf.Expand(sha256.New, root, "hsmemu counter", authLen)
	if err != nil {
		return nil, err
	}
	return hex.AppendEncode(nil, key), nil
}

// history reports whether an index was ever written; its name depends on it.
type history int

const (
	fresh history = iota
	written
)

// public describes the index, with the attributes that no index of anyone else
// has all of.
func (p tpmParameters) public(h history) tpm2.TPMSNVPublic {
	return tpm2.TPMSNVPublic{
		NVIndex: tpm2.TPMHandle(p.Index),
		NameAlg: tpm2.TPMAlgSHA256,
		Attributes: tpm2.TPMANV{
			NT: tpm2.TPMNTCounter, AuthWrite: true, AuthRead: true, NoDA: true, Written: h == written,
		},
		DataSize: counterLen,
	}
}

// index computes the name instead of asking the TPM for it: an answer that
// authenticates under this name comes from a counter and nothing else.
func (p tpmParameters) index(h history) (tpm2.NamedHandle, error) {
	public := p.public(h)
	name, err := tpm2.NVName(&public)
	if err != nil {
		return tpm2.NamedHandle{}, fmt.Errorf("name of the counter: %w", err)
	}
	return tpm2.NamedHandle{Handle: public.NVIndex, Name: *name}, nil
}

// define makes a counter at a free index and notes where it starts.
func (c *connection) define(p *tpmParameters, srk *storageRoot, root []byte) error {
	auth, err := counterAuth(root)
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		if p.Index, err = someIndex(); err != nil {
			return err
		}
		public := p.public(fresh)
		_, err = tpm2.NVDefineSpace{
			AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: srk.encryptIn()},
			Auth:       tpm2.TPM2BAuth{Buffer: auth},
			PublicInfo: tpm2.New2B(public),
		}.Execute(c)
		if err == nil {
			break
		}
		if !errors.Is(err, tpm2.TPMRCNVDefined) || try == indexTries {
			return fmt.Errorf("make the counter: %w", err)
		}
	}
	if err = c.begin(p, auth); err != nil {
		return fmt.Errorf("start the counter: %w", err)
	}
	return nil
}

// begin notes where a new counter starts, or removes it. A counter has to be
// counted once before it can be read. It then stands above the highest counter
// that this TPM ever had (TPM 2.0 Part 3, 31.8), so that making it anew turns
// nothing back.
func (c *connection) begin(p *tpmParameters, auth []byte) error {
	first, err := p.index(fresh)
	if err != nil {
		return err
	}
	now, err := p.index(written)
	if err != nil {
		return err
	}
	if err = c.increment(first, auth); err != nil {
		return errors.Join(err, c.undefine(first))
	}
	if p.Count, err = c.read(now, auth); err != nil {
		return errors.Join(err, c.undefine(now))
	}
	return nil
}

func someIndex() (uint32, error) {
	var b [4]byte
	if _, err := rand.Read(b[:]); err != nil {
		return 0, err
	}
	return firstIndex + binary.BigEndian.Uint32(b[:])%(lastIndex-firstIndex+1), nil
}

func (c *connection) increment(index tpm2.NamedHandle, auth []byte) error {
	_, err := tpm2.NVIncrement{AuthHandle: with(index, auth), NVIndex: index}.Execute(c)
	return err
}

func (c *connection) read(index tpm2.NamedHandle, auth []byte) (uint64, error) {
	answer, err := tpm2.NVRead{AuthHandle: with(index, auth), NVIndex: index, Size: counterLen}.Execute(c)
	if err != nil {
		return 0, err
	}
	if len(answer.Data.Buffer) != counterLen {
		return 0, fmt.Errorf("counter of %d bytes", len(answer.Data.Buffer))
	}
	return binary.BigEndian.Uint64(answer.Data.Buffer), nil
}

func (c *connection) undefine(index tpm2.NamedHandle) error {
	_, err := tpm2.NVUndefineSpace{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.HMAC(sessionHash, nonceLen)},
		NVIndex:    index,
	}.Execute(c)
	return err
}

func with(index tpm2.NamedHandle, auth []byte) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: index.Handle, Name: index.Name, Auth: tpm2.HMAC(sessionHash, nonceLen, tpm2.Auth(auth))}
}
