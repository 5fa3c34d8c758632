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
	p := pkcs11.New(module)
	if p == nil {
		return fmt.Errorf("cannot load %s", module)
	}
	defer p.Destroy()
	if err := p.Initialize(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Finalize()) }()
	slots, err := p.GetSlotList(true)
	if err != nil {
		return err
	}
	if len(slots) == 0 {
		return errors.New("no token")
	}
	s, err := p.OpenSession(slots[0], pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return err
	}
	if err := p.Login(s, pkcs11.CKU_USER, "000000"); !errors.Is(err, pkcs11.Error(pkcs11.CKR_PIN_INCORRECT)) {
		return fmt.Errorf("a wrong PIN: %w", err)
	}
	if err := p.Login(s, pkcs11.CKU_USER, pin); err != nil {
		return err
	}
	curve, err := asn1.Marshal(asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7})
	if err != nil {
		return err
	}
	id := pkcs11.NewAttribute(pkcs11.CKA_ID, []byte{0x47})
	public, private, err := p.GenerateKeyPair(s,
		[]*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil)},
		[]*pkcs11.Attribute{
			id, pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, curve),
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_VERIFY, true),
		},
		[]*pkcs11.Attribute{
			id, pkcs11.NewAttribute(pkcs11.CKA_LABEL, "go"),
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),
		},
	)
	if err != nil {
		return err
	}
	key, err := publicKey(p, s, public)
	if err != nil {
		return err
	}
	digest := sha256.Sum256([]byte("signed from Go"))
	if err := p.SignInit(s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_ECDSA, nil)}, private); err != nil {
		return err
	}
	signature, err := p.Sign(s, digest[:])
	if err != nil {
		return err
	}
	half := len(signature) / 2
	if !ecdsa.Verify(key, digest[:], new(big.Int).SetBytes(signature[:half]), new(big.Int).SetBytes(signature[half:])) {
		return errors.New("the signature does not verify")
	}
	random, err := p.GenerateRandom(s, 32)
	if err != nil || bytes.Equal(random, make([]byte, 32)) {
		return fmt.Errorf("random numbers: %w", err)
	}
	return p.DestroyObject(s, private)
}

// publicKey reads a public key of P-256 from the token.
func publicKey(p *pkcs11.Ctx, s pkcs11.SessionHandle, o pkcs11.ObjectHandle) (*ecdsa.PublicKey, error) {
	a, err := p.GetAttributeValue(s, o, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EC_POINT, nil)})
	if err != nil {
		return nil, err
	}
	var point []byte
	if _, err := asn1.Unmarshal(a[0].Value, &point); err != nil {
		return nil, err
	}
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
}
