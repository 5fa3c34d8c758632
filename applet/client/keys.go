package client

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"hsmemu/applet/apdu"
	"hsmemu/applet/cvc"
	"hsmemu/applet/sm"
	"hsmemu/applet/tlv"
	"hsmemu/keystore"
	"hsmemu/keystore/curve"
)

// KeySpec is what the card is told of a new key beside its kind.
type KeySpec struct {
	// Holder is the name in the certificate request, 1 to 16 bytes; Authority
	// the one that is asked, the holder where it is empty. AES keys have none.
	Holder, Authority cvc.Name
	// Algorithms is what the key may be used for; nil allows everything.
	Algorithms []keystore.Algorithm
	// Uses limits how often the key may be used; nil does not.
	Uses *uint32
	// KeyDomain is the slot of the key's domain; nil says nothing, which means
	// slot 0.
	KeyDomain *byte
	// Countersign is the reference of the key that vouches for the new one, 0
	// for the device key; Countersigner is its name where it is not the device
	// key.
	Countersign   byte
	Countersigner cvc.Name
}

// Data objects of key generation.
const (
	tagRequestVersion tlv.Tag = 0x5F29
	tagAuthority      tlv.Tag = 0x42
	tagHolder         tlv.Tag = 0x5F20
	tagOuter          tlv.Tag = 0x45
)

// GenerateEC makes an EC key in place of one that may have the reference, and
// returns the request for its certificate: signed by the new key with ECDSA and
// SHA-256, and countersigned by the device, which makes it an attestation. The
// request is not stored on the card; clients write it to EF CExx.
func (c *Client) GenerateEC(ctx context.Context, ref byte, on *curve.Curve, spec KeySpec) (cvc.Authenticated, error) {
	if on == nil { // as curve.ByName returns for a name that it does not know
		return cvc.Authenticated{}, fmt.Errorf("generate key %d: no curve", ref)
	}
	return c.generate(ctx, ref, cvc.ECTemplate(cvc.ECDSASHA256, on), spec)
}

// GenerateRSA makes an RSA key with the exponent 65537, see [Client.GenerateEC];
// the request is signed with PKCS #1 v1.5 and SHA-256.
func (c *Client) GenerateRSA(ctx context.Context, ref byte, bits int, spec KeySpec) (cvc.Authenticated, error) {
	return c.generate(ctx, ref, cvc.RSATemplate(cvc.RSASHA256, bits), spec)
}

func (c *Client) generate(ctx context.Context, ref byte, template []byte, spec KeySpec) (cvc.Authenticated, error) {
	authority := spec.Authority
	if authority == "" {
		authority = spec.Holder
	}
	data := tlv.Append(nil, tagRequestVersion, []byte{0})
	data = tlv.Append(data, tagAuthority, []byte(authority))
	data = append(data, template...)
	data = tlv.Append(data, tagHolder, []byte(spec.Holder))
	if spec.Countersigner != "" {
		data = tlv.Append(data, tagOuter, []byte(spec.Countersigner))
	}
	r, err := c.ask(ctx, apdu.Command{
		INS: apdu.InsGenerateKeyPair, P1: ref, P2: spec.Countersign, Data: append(data, spec.attributes()...), Ne: 65536, Extended: true,
	})
	if err != nil {
		return cvc.Authenticated{}, fmt.Errorf("generate key %d: %w", ref, err)
	}
	request, err := cvc.ParseAuthenticated(r.Data)
	if err != nil {
		return cvc.Authenticated{}, fmt.Errorf("generate key %d: %w: %w", ref, ErrAnswer, err)
	}
	return request, nil
}

func (s KeySpec) attributes() []byte {
	var data []byte
	if s.Uses != nil {
		data = tlv.Append(data, apdu.KeyUses, binary.BigEndian.AppendUint32(nil, *s.Uses))
	}
	if s.Algorithms != nil {
		list := make([]byte, len(s.Algorithms))
		for i, a := range s.Algorithms {
			list[i] = byte(a)
		}
		data = tlv.Append(data, apdu.KeyAlgorithms, list)
	}
	if s.KeyDomain != nil {
		data = tlv.Append(data, apdu.KeyDomain, []byte{*s.KeyDomain})
	}
	return data
}

// GenerateAES makes an AES key of 128, 192 or 256 bits, from firmware 3 on. The
// vendor's clients always give a list of algorithms.
func (c *Client) GenerateAES(ctx context.Context, ref byte, bits int, spec KeySpec) error {
	size, ok := map[int]byte{128: 0xB0, 192: 0xB1, 256: 0xB2}[bits]
	if !ok {
		return fmt.Errorf("generate key %d: AES has no keys of %d bits", ref, bits)
	}
	if _, err := c.ask(ctx, apdu.Command{INS: apdu.InsGenerateSymmetricKey, P1: ref, P2: size, Data: spec.attributes()}); err != nil {
		return fmt.Errorf("generate key %d: %w", ref, err)
	}
	return nil
}

// use has the card use a key: the reference in P1, the algorithm in P2.
func (c *Client) use(ctx context.Context, ins, ref byte, a keystore.Algorithm, data []byte) ([]byte, error) {
	r, err := c.ask(ctx, apdu.Command{
		CLA: apdu.ClassProprietary, INS: ins, P1: ref, P2: byte(a), Data: data, Ne: 65536, Extended: true,
	})
	if err != nil {
		return nil, fmt.Errorf("%v with key %d: %w", a, ref, err)
	}
	return r.Data, nil
}

// Sign signs with a key. Whether data is a message, a hash value or a padded
// block depends on the algorithm. ECDSA signatures come as DER of r and s.
func (c *Client) Sign(ctx context.Context, ref byte, a keystore.Algorithm, data []byte) ([]byte, error) {
	return c.use(ctx, apdu.InsSign, ref, a, data)
}

// Decipher decrypts with an RSA key, or agrees with an EC key: then data is
// the peer's point 04 || x || y, and the answer is of the same form.
func (c *Client) Decipher(ctx context.Context, ref byte, a keystore.Algorithm, data []byte) ([]byte, error) {
	return c.use(ctx, apdu.InsDecipher, ref, a, data)
}

// Cipher encrypts, decrypts, authenticates or derives with an AES key.
func (c *Client) Cipher(ctx context.Context, ref byte, a keystore.Algorithm, data []byte) ([]byte, error) {
	return c.use(ctx, apdu.InsSymmetricCipher, ref, a, data)
}

// DeriveEC makes key next from an EC key and a parameter.
func (c *Client) DeriveEC(ctx context.Context, ref, next byte, parameter []byte) error {
	_, err := c.ask(ctx, apdu.Command{
		CLA: apdu.ClassProprietary, INS: apdu.InsDeriveECKey, P1: ref, P2: next,
		Data: append([]byte{byte(keystore.DeriveEC)}, parameter...),
	})
	if err != nil {
		return fmt.Errorf("derive key %d from key %d: %w", next, ref, err)
	}
	return nil
}

// WrapKey returns a key encrypted under the key encryption key of its domain.
func (c *Client) WrapKey(ctx context.Context, ref byte) ([]byte, error) {
	return c.use(ctx, apdu.InsWrapKey, ref, keystore.Wrap, nil)
}

// UnwrapKey takes in a wrapped key. The longest one, RSA with 4096 bits, has
// 1099 bytes, which one command of every firmware has room for.
func (c *Client) UnwrapKey(ctx context.Context, ref byte, blob []byte) error {
	_, err := c.ask(ctx, apdu.Command{
		CLA: apdu.ClassProprietary, INS: apdu.InsUnwrapKey, P1: ref, P2: byte(keystore.Unwrap), Data: blob, Extended: true,
	})
	if err != nil {
		return fmt.Errorf("unwrap key %d: %w", ref, err)
	}
	return nil
}

// OpenChannel authenticates the chip with its device key, which the caller took
// from a verified certificate, and opens a secure channel to it. All further
// commands go through the channel until Select, Leave, or an answer that breaks
// it. Errors: sm.ErrToken where the card does not hold the key.
func (c *Client) OpenChannel(ctx context.Context, suite sm.Suite, device *curve.Public, rand io.Reader) error {
	host, err := suite.Open(device, rand, func(command apdu.Command) ([]byte, error) {
		r, err := c.Send(ctx, command)
		return r.Data, err
	})
	if err != nil {
		return fmt.Errorf("open a channel: %w", err)
	}
	c.channel = host
	return nil
}

// SessionPIN draws a PIN that replaces the user's until the next reset. The
// card gives it through a secure channel only, and with the option for it.
func (c *Client) SessionPIN(ctx context.Context) ([]byte, error) {
	r, err := c.Send(ctx, apdu.Command{CLA: apdu.ClassProprietary, INS: apdu.InsGenerateSessionPIN, P1: 0x01, P2: byte(UserPIN), Ne: 256})
	if err != nil {
		return nil, fmt.Errorf("draw a session PIN: %w", err)
	}
	return r.Data, nil
}
