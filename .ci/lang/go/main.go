// Command lang is a program as users of github.com/miekg/pkcs11 write them. It
// makes a key on the first token it finds, signs with it, and has Go's own
// cryptography verify the signature. Its arguments are a PKCS#11 module and a
// user PIN.
package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"os"

	"github.com/miekg/pkcs11"
)

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "go:", err)
		os.Exit(1)
	}
	fmt.Println("go: signed and verified")
}

func run(module, pin string) (err error) {
	t, err := open(module)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	if err := t.Login(t.session, pkcs11.CKU_USER, "000000"); !errors.Is(err, pkcs11.Error(pkcs11.CKR_PIN_INCORRECT)) {
		return fmt.Errorf("a wrong PIN: %w", err)
	}
	if err := t.Login(t.session, pkcs11.CKU_USER, pin); err != nil {
		return err
	}
	public, private, err := t.generateEC()
	if err != nil {
		return err
	}
	key, err := t.publicEC(public)
	if err != nil {
		return err
	}
	digest := sha256.Sum256([]byte("signed from Go"))
	signature, err := t.sign(pkcs11.CKM_ECDSA, private, digest[:])
	if err != nil {
		return err
	}
	if !verifyEC(key, digest[:], signature) {
		return errors.New("the signature does not verify")
	}
	random, err := t.GenerateRandom(t.session, 32)
	if err != nil || bytes.Equal(random, make([]byte, 32)) {
		return fmt.Errorf("random numbers: %w", err)
	}
	return t.DestroyObject(t.session, private)
}

// token is a session with the first token that the module finds.
type token struct {
	*pkcs11.Ctx
	session pkcs11.SessionHandle
}

func open(module string) (token, error) {
	p := pkcs11.New(module)
	if p == nil {
		return token{}, fmt.Errorf("cannot load %s", module)
	}
	t := token{Ctx: p}
	if err := p.Initialize(); err != nil {
		p.Destroy()
		return token{}, err
	}
	slots, err := p.GetSlotList(true)
	if err == nil && len(slots) == 0 {
		err = errors.New("no token")
	}
	if err == nil {
		t.session, err = p.OpenSession(slots[0], pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	}
	if err != nil {
		return token{}, errors.Join(err, t.close())
	}
	return t, nil
}

func (t token) close() error {
	defer t.Destroy()
	return t.Finalize()
}

// generateEC makes a key on P-256 and returns its public and its private part.
func (t token) generateEC() (public, private pkcs11.ObjectHandle, err error) {
	curve, err := asn1.Marshal(asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7})
	if err != nil {
		return 0, 0, err
	}
	return t.generate(pkcs11.CKM_EC_KEY_PAIR_GEN, 0x47, pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, curve))
}

func (t token) generate(mechanism uint, id byte, parameters ...*pkcs11.Attribute) (public, private pkcs11.ObjectHandle, err error) {
	ckaID := pkcs11.NewAttribute(pkcs11.CKA_ID, []byte{id})
	return t.GenerateKeyPair(t.session,
		[]*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)},
		append(parameters, ckaID, pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_VERIFY, true)),
		[]*pkcs11.Attribute{
			ckaID, pkcs11.NewAttribute(pkcs11.CKA_LABEL, "go"),
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),
		},
	)
}

// sign makes a signature as the mechanism wants it, without parameters.
func (t token) sign(mechanism uint, private pkcs11.ObjectHandle, data []byte) ([]byte, error) {
	if err := t.SignInit(t.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)}, private); err != nil {
		return nil, err
	}
	return t.Sign(t.session, data)
}

// publicEC reads a public key of P-256 from the token.
func (t token) publicEC(o pkcs11.ObjectHandle) (*ecdsa.PublicKey, error) {
	a, err := t.GetAttributeValue(t.session, o, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EC_POINT, nil)})
	if err != nil {
		return nil, err
	}
	var point []byte
	if _, err := asn1.Unmarshal(a[0].Value, &point); err != nil {
		return nil, err
	}
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
}

// verifyEC checks r || s.
func verifyEC(key *ecdsa.PublicKey, digest, signature []byte) bool {
	half := len(signature) / 2
	return ecdsa.Verify(key, digest, new(big.Int).SetBytes(signature[:half]), new(big.Int).SetBytes(signature[half:]))
}
