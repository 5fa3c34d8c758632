//go:build linux || darwin || windows

package seal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/go-tpm-tools/client"
	legacy "github.com/google/go-tpm/legacy/tpm2"
	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

type tpmParameters struct {
	Parent  []byte `json:"parent"`  // name of the storage root key
	Public  []byte `json:"public"`  // TPMT_PUBLIC of the sealed object
	Private []byte `json:"private"` // its private part, encrypted by the TPM
	PCRs    []int  `json:"pcrs,omitempty"`
	// Index is the counter's; it stood at Count when the file had Generation.
	Index      uint32 `json:"index"`
	Count      uint64 `json:"count"`
	Generation uint64 `json:"generation"`
}

const (
	sessionHash = tpm2.TPMAlgSHA256
	nonceLen    = 16
	aesBits     = 128 // what every TPM can
)

// Seal makes a sealed object for root and a counter that stands at generation.
// Errors: ErrRoot, ErrNoTPM, ErrParameters for PCRs that do not exist, or the
// TPM's.
func (t TPM) Seal(root []byte, generation uint64) ([]byte, error) {
	if len(root) != RootLen {
		return nil, ErrRoot
	}
	if err := checkPCRs(t.PCRs); err != nil {
		return nil, err
	}
	p := tpmParameters{PCRs: t.PCRs, Generation: generation}
	err := t.use(func(c *connection) error {
		srk, err := c.storageRoot()
		if err != nil {
			return err
		}
		defer srk.key.Close()
		p.Parent = srk.name.Buffer
		if err = c.create(&p, srk, root); err != nil {
			return err
		}
		return c.define(&p, srk, root)
	})
	if err != nil {
		return nil, fmt.Errorf("by TPM: %w", err)
	}
	return json.Marshal(p)
}

// Unseal returns the root key. Errors: ErrParameters, ErrNoTPM, ErrOtherTPM,
// ErrPCR, or the TPM's.
func (t TPM) Unseal(parameters []byte) ([]byte, error) {
	p, err := decodeTPM(parameters)
	if err != nil {
		return nil, err
	}
	var root []byte
	err = t.use(func(c *connection) error {
		srk, kerr := c.storageRoot()
		if kerr != nil {
			return kerr
		}
		defer srk.key.Close()
		if !bytes.Equal(srk.name.Buffer, p.Parent) {
			return ErrOtherTPM
		}
		root, kerr = c.unseal(p, srk)
		return kerr
	})
	if err != nil {
		return nil, fmt.Errorf("unseal by TPM: %w", err)
	}
	if len(root) != RootLen {
		return nil, ErrRoot
	}
	return root, nil
}

// use connects to the TPM for one operation.
func (t TPM) use(operation func(*connection) error) error {
	c, err := t.connect()
	if err != nil {
		return err
	}
	err = operation(c)
	if c.alone && full(err) {
		if err = c.empty(); err == nil {
			err = operation(c)
		}
	}
	return errors.Join(err, c.rwc.Close())
}

func (t TPM) connect() (*connection, error) {
	if t.Open == nil {
		return connect(t.Address)
	}
	return wrap(t.Open())
}

// storageRoot is a TPM's storage root key, ready for use as a parent and for
// salting sessions.
type storageRoot struct {
	key    *client.Key
	handle tpm2.TPMHandle
	public tpm2.TPMTPublic
	name   tpm2.TPM2BName
}

// storageRoot finds the storage root key at its usual place or makes it. A key
// of another kind at that place belongs to someone else and stays; go-tpm-tools
// would remove it.
func (c *connection) storageRoot() (*storageRoot, error) {
	rw := c.legacy()
	var key *client.Key
	there, _, _, err := legacy.ReadPublic(rw, client.SRKECCReservedHandle)
	if err == nil && !there.MatchesTemplate(client.SRKTemplateECC()) {
		key, err = client.NewKey(rw, legacy.HandleOwner, client.SRKTemplateECC())
	} else {
		key, err = client.StorageRootKeyECC(rw)
	}
	if err != nil {
		return nil, fmt.Errorf("storage root key: %w", err)
	}
	s := &storageRoot{key: key, handle: tpm2.TPMHandle(key.Handle())}
	if err := s.describe(); err != nil {
		key.Close()
		return nil, fmt.Errorf("storage root key: %w", err)
	}
	return s, nil
}

func (s *storageRoot) describe() error {
	encoded, err := s.key.PublicArea().Encode()
	if err != nil {
		return err
	}
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](encoded)
	if err != nil {
		return err
	}
	name, err := tpm2.ObjectName(public)
	if err != nil {
		return err
	}
	s.public, s.name = *public, *name
	return nil
}

// as returns the key's handle, used under the given authorization.
func (s *storageRoot) as(auth tpm2.Session) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: s.handle, Name: s.name, Auth: auth}
}

// salted makes a session's keys depend on a secret that only this TPM can read,
// so that whoever listens between us and the TPM learns nothing.
func (s *storageRoot) salted() tpm2.AuthOption { return tpm2.Salted(s.handle, s.public) }

// encryptIn encrypts the first parameter of a command.
func (s *storageRoot) encryptIn() tpm2.Session {
	return tpm2.HMAC(sessionHash, nonceLen, tpm2.AESEncryption(aesBits, tpm2.EncryptIn), s.salted())
}

// create makes the sealed object.
func (c *connection) create(p *tpmParameters, srk *storageRoot, root []byte) error {
	public := tpm2.TPMTPublic{
		Type:    tpm2.TPMAlgKeyedHash,
		NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, NoDA: true, UserWithAuth: len(p.PCRs) == 0,
		},
	}
	if len(p.PCRs) > 0 {
		digest, err := c.policy(p.PCRs)
		if err != nil {
			return err
		}
		public.AuthPolicy = *digest
	}
	made, err := tpm2.Create{
		ParentHandle: srk.as(srk.encryptIn()),
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			Data: tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: root}),
		}},
		InPublic: tpm2.New2B(public),
	}.Execute(c)
	if err != nil {
		return fmt.Errorf("create the sealed object: %w", err)
	}
	p.Public, p.Private = made.OutPublic.Bytes(), made.OutPrivate.Buffer
	return nil
}

// unseal loads the sealed object and takes the key out.
func (c *connection) unseal(p tpmParameters, srk *storageRoot) ([]byte, error) {
	loaded, err := tpm2.Load{
		ParentHandle: srk.as(tpm2.PasswordAuth(nil)),
		InPrivate:    tpm2.TPM2BPrivate{Buffer: p.Private},
		InPublic:     tpm2.BytesAs2B[tpm2.TPMTPublic](p.Public),
	}.Execute(c)
	if errors.Is(err, tpm2.TPMRCIntegrity) {
		return nil, ErrOtherTPM
	}
	if err != nil {
		return nil, fmt.Errorf("load the sealed object: %w", err)
	}
	out := tpm2.AESEncryption(aesBits, tpm2.EncryptOut)
	auth := tpm2.HMAC(sessionHash, nonceLen, out, srk.salted())
	if len(p.PCRs) > 0 {
		auth = tpm2.Policy(sessionHash, nonceLen, bind(p.PCRs), out, srk.salted())
	}
	content, err := tpm2.Unseal{
		ItemHandle: tpm2.AuthHandle{Handle: loaded.ObjectHandle, Name: loaded.Name, Auth: auth},
	}.Execute(c)
	_, ferr := tpm2.FlushContext{FlushHandle: loaded.ObjectHandle}.Execute(c)
	switch {
	case errors.Is(err, tpm2.TPMRCPolicyFail), errors.Is(err, tpm2.TPMRCPCRChanged):
		return nil, ErrPCR
	case err != nil:
		return nil, fmt.Errorf("unseal: %w", err)
	case ferr != nil:
		clear(content.OutData.Buffer)
		return nil, fmt.Errorf("flush the sealed object: %w", ferr)
	}
	return content.OutData.Buffer, nil
}

// policy returns the digest of "these registers as they are now".
func (c *connection) policy(pcrs []int) (*tpm2.TPM2BDigest, error) {
	s, end, err := tpm2.PolicySession(c, sessionHash, nonceLen, tpm2.Trial())
	if err != nil {
		return nil, fmt.Errorf("try the PCR policy: %w", err)
	}
	var digest *tpm2.PolicyGetDigestResponse
	if err = bind(pcrs)(c, s.Handle(), s.NonceTPM()); err == nil {
		digest, err = tpm2.PolicyGetDigest{PolicySession: s.Handle()}.Execute(c)
	}
	if err = errors.Join(err, end()); err != nil {
		return nil, fmt.Errorf("try the PCR policy: %w", err)
	}
	return &digest.PolicyDigest, nil
}

// bind makes a policy session depend on what the registers hold.
func bind(pcrs []int) tpm2.PolicyCallback {
	return func(c transport.TPM, session tpm2.TPMISHPolicy, _ tpm2.TPM2BNonce) error {
		registers := make([]uint, len(pcrs))
		for i, n := range pcrs {
			registers[i] = uint(n)
		}
		_, err := tpm2.PolicyPCR{
			PolicySession: session,
			Pcrs: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{
				Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(registers...),
			}}},
		}.Execute(c)
		return err
	}
}

func checkPCRs(pcrs []int) error {
	for _, n := range pcrs {
		if n < 0 || n > LastPCR {
			return fmt.Errorf("%w: there is no PCR %d", ErrParameters, n)
		}
	}
	return nil
}

func decodeTPM(parameters []byte) (tpmParameters, error) {
	var p tpmParameters
	if err := decode(parameters, &p); err != nil {
		return p, err
	}
	if p.Index < firstIndex || p.Index > lastIndex {
		return p, fmt.Errorf("%w: counter index %#x", ErrParameters, p.Index)
	}
	return p, checkPCRs(p.PCRs)
}
