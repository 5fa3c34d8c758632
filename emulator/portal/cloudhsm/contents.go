package cloudhsm

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"hsmemu/applet/apdu"
	"hsmemu/applet/client"
	"hsmemu/applet/cvc"
	"hsmemu/applet/pkcs15"
	"hsmemu/applet/tlv"
	"hsmemu/keystore"
)

func hexOf(b []byte) string { return strings.ToUpper(fmt.Sprintf("%x", b)) }

// domain is a key domain on a card, in a slot.
type domain struct {
	slot byte
	id   string
}

// readDomains finds the key domains that have an identifier: an XKEK domain that of
// its group, and a DKEK domain the check value of its key once no share is missing.
func readDomains(ctx context.Context, c *client.Client) ([]domain, error) {
	var all []domain
	for slot := 0; slot <= 0xFF; slot++ {
		d, err := c.KeyDomain(ctx, byte(slot))
		switch {
		case errors.Is(err, client.ErrNoKeyDomains), errors.Is(err, client.ErrNoSlot):
			return all, nil
		case err != nil:
			return nil, err
		case d.Empty:
		case d.UID != nil:
			all = append(all, domain{byte(slot), hexOf(d.UID)})
		case d.Missing == 0:
			all = append(all, domain{byte(slot), hexOf(d.KCV[:])})
		}
	}
	return all, nil
}

// key is a key of the user on a card.
type key struct {
	ref         byte
	description pkcs15.Key
	attributes  attributes
	// certificate is the content of EF CExx, and public a SubjectPublicKeyInfo; nil
	// where there is none.
	certificate, public []byte
}

// modulusLen is the length of an RSA key in bytes, by the public key where there is one.
func (k key) modulusLen() int {
	public, _ := x509.ParsePKIXPublicKey(k.public)
	if r, ok := public.(*rsa.PublicKey); ok {
		return r.Size()
	}
	return (k.description.Bits + 7) / 8
}

// attributes are what a card tells of a key when it is selected.
type attributes struct {
	uses       *uint32
	algorithms []keystore.Algorithm // nil allows all
	slot       *byte                // of its key domain
}

// readKeys finds the keys that have a description, as PKCS #11 programs do.
func readKeys(ctx context.Context, c *client.Client) ([]key, error) {
	objects, err := c.Objects(ctx)
	if err != nil {
		return nil, err
	}
	var all []key
	for _, id := range objects {
		ref := byte(id)
		if byte(id>>8) != pkcs15.PrefixKey || ref == 0 {
			continue
		}
		description, err := c.ReadFile(ctx, pkcs15.File(pkcs15.PrefixKeyDescription, ref))
		if err != nil {
			return nil, err
		}
		k := key{ref: ref}
		if k.description, err = pkcs15.ParseKey(description); err != nil || len(k.description.ID) == 0 {
			continue // nobody can name it
		}
		if k.certificate, err = c.ReadFile(ctx, pkcs15.File(pkcs15.PrefixCertificate, ref)); err != nil {
			return nil, err
		}
		k.public = publicKey(k.certificate)
		if k.attributes, err = readAttributes(ctx, c, ref); err != nil {
			return nil, err
		}
		all = append(all, k)
	}
	return all, nil
}

// Objects in the answer of a card to the selection of a key.
const (
	tagControl    tlv.Tag = 0x62
	tagAttributes tlv.Tag = 0xA5
)

// readAttributes selects a key. A firmware that has no files of keys tells nothing.
func readAttributes(ctx context.Context, c *client.Client, ref byte) (attributes, error) {
	r, err := c.Send(ctx, apdu.Command{INS: apdu.InsSelect, P2: 0x04, Data: []byte{pkcs15.PrefixKey, ref}, Ne: 256})
	if errors.As(err, new(apdu.SW)) {
		return attributes{}, nil
	}
	if err != nil {
		return attributes{}, fmt.Errorf("select key %d: %w", ref, err)
	}
	n, _, err := tlv.NextBER(r.Data)
	if err != nil || n.Tag != tagControl {
		return attributes{}, nil
	}
	list, err := tlv.ParseBER(n.Value)
	if err != nil {
		return attributes{}, nil
	}
	node, found := list.Find(tagAttributes)
	if !found {
		return attributes{}, nil
	}
	if list, err = tlv.ParseBER(node.Value); err != nil {
		return attributes{}, nil
	}
	var a attributes
	if n, ok := list.Find(apdu.KeyUses); ok && len(n.Value) == 4 {
		left := binary.BigEndian.Uint32(n.Value)
		a.uses = &left
	}
	if n, ok := list.Find(apdu.KeyAlgorithms); ok {
		a.algorithms = []keystore.Algorithm{}
		for _, b := range n.Value {
			a.algorithms = append(a.algorithms, keystore.Algorithm(b))
		}
	}
	if n, ok := list.Find(apdu.KeyDomain); ok && len(n.Value) == 1 {
		a.slot = &n.Value[0]
	}
	return a, nil
}

// publicKey is the SubjectPublicKeyInfo of what is in EF CExx: an X.509 certificate, or
// the card's own request. It is nil for anything else.
func publicKey(certificate []byte) []byte {
	if len(certificate) == 0 {
		return nil
	}
	if certificate[0] == 0x30 {
		// What crypto/x509 refuses, such as a key on a curve of Brainpool, is read as well.
		var c struct {
			Body struct {
				Version                            int `asn1:"optional,explicit,default:0,tag:0"`
				Serial                             *big.Int
				Algorithm                          pkix.AlgorithmIdentifier
				Issuer, Validity, Subject, KeyInfo asn1.RawValue
			}
		}
		if _, err := asn1.Unmarshal(certificate, &c); err != nil {
			return nil
		}
		return c.Body.KeyInfo.FullBytes
	}
	r, err := cvc.ParseAuthenticated(certificate)
	if err != nil {
		return nil
	}
	info, err := keyInfo(r.Request.Key)
	if err != nil {
		return nil
	}
	return info
}

// keyInfo is the SubjectPublicKeyInfo of a key in a card's request (RFC 3279, RFC 5480).
func keyInfo(k cvc.PublicKey) ([]byte, error) {
	if k.Scheme.RSA() {
		return x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: new(big.Int).SetBytes(k.Modulus), E: int(new(big.Int).SetBytes(k.Exponent).Int64())})
	}
	point, err := k.EC()
	if err != nil {
		return nil, err
	}
	oid, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagOID, Bytes: point.Curve().OID()})
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}{
		pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}, Parameters: asn1.RawValue{FullBytes: oid}},
		asn1.BitString{Bytes: point.Bytes(), BitLength: 8 * len(point.Bytes())},
	})
}

// key is the key with a reference.
func (h *hsm) key(ref byte) (key, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := slices.IndexFunc(h.keys, func(k key) bool { return k.ref == ref })
	if i < 0 {
		return key{}, false
	}
	return h.keys[i], true
}

// note keeps what a card told of a key.
func (h *hsm) note(ref byte, a attributes) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.keys {
		if h.keys[i].ref == ref {
			h.keys[i].attributes = a
		}
	}
}

// HSM is a card as programs see it. Identifiers are in hexadecimal digits.
type HSM struct {
	ID               string      `json:"id"`
	DefaultKeyDomain string      `json:"defaultKeyDomain"`
	KeyDomains       []DomainRef `json:"keyDomains"`
	Keys             []Key       `json:"keys"`
}

// DomainRef names a key domain.
type DomainRef struct {
	ID string `json:"id"`
}

// Key is a key as programs see it: ID is the PKCS #15 identifier in hexadecimal digits,
// Cert the content of EF CExx and PubKey a SubjectPublicKeyInfo, both in base64. HSMs
// are where it is, in lists of keys that are not those of one HSM.
type Key struct {
	ID            string   `json:"id"`
	Label         string   `json:"label"`
	Type          string   `json:"type"`
	Size          int      `json:"size"`
	KeyUseCounter *uint32  `json:"keyUseCounter,omitempty"`
	Algorithms    []string `json:"algorithms,omitempty"`
	KeyDomain     string   `json:"keyDomain"`
	Cert          string   `json:"cert,omitempty"`
	PubKey        string   `json:"pubkey,omitempty"`
	HSMs          []string `json:"hsms,omitempty"`

	places []place
}

// place is where a key is: its reference on an HSM.
type place struct {
	hsm string
	ref byte
}

// KeyDomain is a key domain as programs see it, with the HSMs and keys that are in it.
type KeyDomain struct {
	ID   string   `json:"id"`
	HSMs []string `json:"hsms"`
	Keys []Key    `json:"keys"`
}

// view is a card at a moment; ok is false for one that programs cannot use.
func (h *hsm) view() (v HSM, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	v = HSM{ID: h.id, DefaultKeyDomain: h.domain, KeyDomains: []DomainRef{}, Keys: []Key{}}
	names := map[byte]string{}
	for _, d := range h.domains {
		v.KeyDomains, names[d.slot] = append(v.KeyDomains, DomainRef{d.id}), d.id
	}
	for _, k := range h.keys {
		d := h.domain
		if slot := k.attributes.slot; slot != nil && names[*slot] != "" {
			d = names[*slot]
		}
		seen := Key{
			ID: hexOf(k.description.ID), Label: k.description.Label, Type: k.description.Kind.String(), Size: k.description.Bits,
			KeyUseCounter: k.attributes.uses, KeyDomain: d,
			Cert: base64.StdEncoding.EncodeToString(k.certificate), PubKey: base64.StdEncoding.EncodeToString(k.public),
			places: []place{{h.id, k.ref}},
		}
		for _, a := range k.attributes.algorithms {
			seen.Algorithms = append(seen.Algorithms, nameOf(a))
		}
		v.Keys = append(v.Keys, seen)
	}
	return v, h.loggedIn
}

// algorithms are the names of the service's description, and like ones for what it
// does not name.
var algorithms = map[keystore.Algorithm]string{
	keystore.RSASignRaw: "RSA", keystore.RSADecryptRaw: "RSA_DEC", keystore.RSADecryptPKCS1: "RSA_PKCS1_DEC", keystore.RSADecryptOAEP: "RSA_OAEP_DEC",
	keystore.RSASignPKCS1: "RSA_PKCS1", keystore.RSASignSHA1: "RSA_PKCS1_SHA1", keystore.RSASignSHA224: "RSA_PKCS1_SHA224",
	keystore.RSASignSHA256: "RSA_PKCS1_SHA256", keystore.RSASignSHA384: "RSA_PKCS1_SHA384", keystore.RSASignSHA512: "RSA_PKCS1_SHA512",
	keystore.RSAPSS: "RSA_PSS", keystore.RSAPSSSHA1: "RSA_PSS_SHA1", keystore.RSAPSSSHA224: "RSA_PSS_SHA224",
	keystore.RSAPSSSHA256: "RSA_PSS_SHA256", keystore.RSAPSSSHA384: "RSA_PSS_SHA384", keystore.RSAPSSSHA512: "RSA_PSS_SHA512",
	keystore.ECDSA: "ECDSA", keystore.ECDSASHA1: "ECDSA_SHA1", keystore.ECDSASHA224: "ECDSA_SHA224",
	keystore.ECDSASHA256: "ECDSA_SHA256", keystore.ECDSASHA384: "ECDSA_SHA384", keystore.ECDSASHA512: "ECDSA_SHA512",
}

func nameOf(a keystore.Algorithm) string {
	if name, known := algorithms[a]; known {
		return name
	}
	return fmt.Sprintf("%02X", byte(a))
}
