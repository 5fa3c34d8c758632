package sm

import (
	"crypto/subtle"
	"fmt"
	"io"

	"hsmemu/applet/apdu"
	"hsmemu/applet/tlv"
	"hsmemu/keystore/curve"
)

// NonceLen is the size of the card's nonce in bytes.
const NonceLen = 8

// Nonce is the random number that the card contributes to a channel. It has
// to be a new one each time.
type Nonce [NonceLen]byte

// Objects of GENERAL AUTHENTICATE and its answer, and of the public key that
// the token is made over (BSI TR-03110-3 §B.2.2 and §D.3).
const (
	tagDynamic   tlv.Tag = 0x7C
	tagEphemeral tlv.Tag = 0x80
	tagNonce     tlv.Tag = 0x81
	tagToken     tlv.Tag = 0x82

	tagPublicKeyObject tlv.Tag = 0x7F49
	tagOID             tlv.Tag = 0x06
	tagPoint           tlv.Tag = 0x86
)

// Authenticate is the card's side of GENERAL AUTHENTICATE. It takes the key
// of the device, a fresh nonce and the command data 7C{80 point}, the host's
// ephemeral point as 04||x||y on the curve of the device key. It returns the
// channel, no message counted yet, and the response data 7C{81 nonce, 82
// token}.
//
// The answer itself is sent the way the command came: plain, or under the
// channel that was open before.
//
// Errors: ErrSuite for a suite that is none of the four, ErrData for other
// objects, and what [curve.Curve.Public] says about the point.
func (s Suite) Authenticate(device *curve.Private, nonce Nonce, data []byte) (Channel, []byte, error) {
	if !s.known() {
		return Channel{}, nil, ErrSuite
	}
	values, err := dynamic(data, tagEphemeral)
	if err != nil {
		return Channel{}, nil, err
	}
	host, err := device.Curve().Public(values[0])
	if err != nil {
		return Channel{}, nil, fmt.Errorf("ephemeral key: %w", err)
	}
	k, err := s.agree(device, host, nonce)
	if err != nil {
		return Channel{}, nil, err
	}
	answer := tlv.Append(nil, tagDynamic,
		tlv.Append(nil, tagNonce, nonce[:]),
		tlv.Append(nil, tagToken, k.token(s.publicKey(host))))
	return Channel{session{keys: k}}, answer, nil
}

// Open opens a secure channel to the card with a device key, which the caller took
// from a verified certificate. send has the card answer a command and returns the
// data of its answer; its error is the status word unless that is 9000. Errors:
// those of send, of rand and of [Suite.Confirm].
func (s Suite) Open(device *curve.Public, rand io.Reader, send func(apdu.Command) ([]byte, error)) (Host, error) {
	ephemeral, err := device.Curve().Generate(rand)
	if err != nil {
		return Host{}, err
	}
	if _, err := send(s.Select()); err != nil {
		return Host{}, err
	}
	answer, err := send(Present(ephemeral))
	if err != nil {
		return Host{}, err
	}
	return s.Confirm(ephemeral, device, answer)
}

// Present returns the command GENERAL AUTHENTICATE that hands the card the
// public point of an ephemeral key. The key belongs on the curve of the
// device key and is to be forgotten after [Suite.Confirm].
func Present(ephemeral *curve.Private) apdu.Command {
	point := tlv.Append(nil, tagEphemeral, ephemeral.Public().Bytes())
	return apdu.Command{INS: apdu.InsGeneralAuthenticate, Data: tlv.Append(nil, tagDynamic, point), Ne: 256}
}

// Confirm is the host's side: it checks the response data of the command made
// by [Present] against the public key of the device, which the caller took
// from a verified certificate, and returns the host's end of the channel.
//
// Errors: ErrSuite for a suite that is none of the four, ErrData for a
// malformed answer, ErrToken if whoever answered has not got the device's
// private key, and what the key agreement says if the keys are on different
// curves.
func (s Suite) Confirm(ephemeral *curve.Private, device *curve.Public, answer []byte) (Host, error) {
	if !s.known() {
		return Host{}, ErrSuite
	}
	values, err := dynamic(answer, tagNonce, tagToken)
	if err != nil {
		return Host{}, err
	}
	var nonce Nonce
	if len(values[0]) != len(nonce) || len(values[1]) != checksumLen {
		return Host{}, ErrData
	}
	copy(nonce[:], values[0])
	k, err := s.agree(ephemeral, device, nonce)
	if err != nil {
		return Host{}, err
	}
	token := k.token(s.publicKey(ephemeral.Public()))
	if subtle.ConstantTimeCompare(token, values[1]) != 1 {
		return Host{}, ErrToken
	}
	return Host{session{keys: k}}, nil
}

// agree makes the keys out of the shared point, of which the x-coordinate
// counts, as wide as the field.
func (s Suite) agree(own *curve.Private, peer *curve.Public, nonce Nonce) (*keys, error) {
	point, err := own.Shared(peer)
	if err != nil {
		return nil, fmt.Errorf("key agreement: %w", err)
	}
	return newKeys(s, point[1:1+own.Curve().FieldLen()], nonce), nil
}

// publicKey is the host's ephemeral key as the data object that the token is
// made over, without domain parameters.
func (s Suite) publicKey(host *curve.Public) []byte {
	return tlv.Append(nil, tagPublicKeyObject,
		tlv.Append(nil, tagOID, s.OID()),
		tlv.Append(nil, tagPoint, host.Bytes()))
}

// dynamic reads one object 7C and in it exactly the given objects, and
// returns their values.
func dynamic(data []byte, tags ...tlv.Tag) ([][]byte, error) {
	outer, err := tlv.ParseBER(data)
	if err != nil || len(outer) != 1 || outer[0].Tag != tagDynamic {
		return nil, ErrData
	}
	inner, err := tlv.ParseBER(outer[0].Value)
	if err != nil || len(inner) != len(tags) {
		return nil, ErrData
	}
	values := make([][]byte, len(tags))
	for i, n := range inner {
		if n.Tag != tags[i] {
			return nil, ErrData
		}
		values[i] = n.Value
	}
	return values, nil
}
