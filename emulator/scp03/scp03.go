// Package scp03 is secure channel protocol 03 of GlobalPlatform (Card
// Specification, Amendment D), for the card and for the host: AES-128, codes of
// 8 bytes (S8), a pseudo-random card challenge, and protected answers where the
// host asks for them (option i = 70).
//
// Both ends are values: a method returns the end as it is after the message and
// leaves its receiver as it was. The package draws no random numbers, sends
// nothing, and keeps no counter of sessions: the card has to make its sequence
// counter durable before it answers.
//
// The card:
//
//	card, answer, err := keys.Begin(div, version, counter, name, challenge) // INITIALIZE UPDATE
//	card, err = card.Authenticate(received)                                // EXTERNAL AUTHENTICATE
//	plain, card, err := card.Unwrap(received)
//	protected, card, err := card.Wrap(answerToPlain)
//
// The host:
//
//	send(scp03.Begin(keyVersion, challenge))
//	a, err := scp03.ParseAnswer(data)
//	host, err := scp03.Derive(master, a.Diversification).Open(challenge, a)
//	command, host, err := host.Authenticate(level)
//	protected, host, err := host.Wrap(command)
//	response, host, err := host.Unwrap(received)
//
// New keys are sent through a channel, encrypted once more with the third of the keys that
// it was opened with:
//
//	command, check, err := host.PutKey(replaced, version, keys)
//	version, keys, check, err := card.NewKeys(plain.Data)
package scp03

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"hsmemu/applet/apdu"
	"hsmemu/keystore/cmac"
)

// Errors of both ends. The comment of each names the status word that a card
// answers with.
var (
	// ErrClosed says that there is no channel: none was opened, or an error
	// ended it (6985).
	ErrClosed = errors.New("no channel is open")
	// ErrTurn says that the methods of one end were not called in turn (6985).
	ErrTurn = errors.New("message is out of turn")
	// ErrLength says that a message has not the length it needs, or no room to
	// be protected (6700).
	ErrLength = errors.New("wrong length")
	// ErrLevel says that there is no such security level (6A86).
	ErrLevel = errors.New("unknown security level")
	// ErrCryptogram says that the other end does not have the keys (6300).
	ErrCryptogram = errors.New("cryptogram is wrong")
	// ErrMAC says that a message is not protected as the level asks, or was
	// altered (6988).
	ErrMAC = errors.New("message authentication code is wrong")
	// ErrKeyData says that new keys are not in the form that they are sent in (6A80).
	ErrKeyData = errors.New("keys are not in the form for PUT KEY")
	// ErrKeyType says that a new key is not one for AES (9484).
	ErrKeyType = errors.New("a key is not one for AES")
	// ErrKeyCheck says that a new key does not have its check value (9485): it was
	// altered, or encrypted with another key than this channel's.
	ErrKeyCheck = errors.New("check value of a key is wrong")
)

// Level says what of the messages after EXTERNAL AUTHENTICATE is protected.
type Level byte

// The levels that there are. Each is the sum of what it protects.
const (
	Plain       Level = 0x00 // the ends know each other, and that is all
	MAC         Level = 0x01 // commands have a code
	Encrypted   Level = 0x03 // and their data are encrypted
	BothMAC     Level = 0x11 // commands and answers have a code
	AnswerMAC   Level = 0x13 // both, and the data of commands are encrypted
	All         Level = 0x33 // everything, both ways
	commandMAC  Level = 0x01
	commandData Level = 0x02
	answerMAC   Level = 0x10
	answerData  Level = 0x20
)

// valid reports whether there is such a level.
func (l Level) valid() bool {
	switch l {
	case Plain, MAC, Encrypted, BothMAC, AnswerMAC, All:
		return true
	}
	return false
}

// Sizes in bytes.
const (
	// KeyLen is that of a key.
	KeyLen = 16
	// ChallengeLen is that of challenges and cryptograms.
	ChallengeLen = 8
	// DiversificationLen is that of what makes the keys of one card.
	DiversificationLen = 10
	// answerLen is that of the answer to INITIALIZE UPDATE.
	answerLen = DiversificationLen + 3 + 2*ChallengeLen + counterLen

	counterLen = 3
	macLen     = 8

	maxShortData = 255
	maxShortNe   = 256
	maxData      = 65535
)

// MaxCounter is the highest sequence counter; a card that has come there opens
// no more channels.
const MaxCounter = 1<<(8*counterLen) - 1

// Challenge is a challenge or a cryptogram.
type Challenge [ChallengeLen]byte

// Diversification is what makes the keys of one card from a master key.
type Diversification [DiversificationLen]byte

// Protocol is the number of the protocol, and Option what of it is in use: a
// pseudo-random card challenge, codes and encryption of answers.
const (
	Protocol = 0x03
	Option   = 0x70
)

// sum is the AES-CMAC of several parts.
func sum(key []byte, parts ...[]byte) []byte {
	var message []byte
	for _, p := range parts {
		message = append(message, p...)
	}
	code, err := cmac.Sum(key, message)
	if err != nil {
		panic("a key of this package has the wrong size")
	}
	return code
}

// Constants of the key derivation function.
const (
	forCardCryptogram byte = 0x00
	forHostCryptogram byte = 0x01
	forChallenge      byte = 0x02
	forEncryption     byte = 0x04
	forMAC            byte = 0x06
	forAnswerMAC      byte = 0x07
)

// derive is the key derivation function of NIST SP 800-108 in counter mode with
// AES-CMAC, for up to 16 bytes (Amendment D §4.1.5).
func derive(key []byte, what byte, length int, context ...[]byte) []byte {
	label := make([]byte, 16)
	label[11] = what
	binary.BigEndian.PutUint16(label[13:], uint16(8*length))
	label[15] = 1
	return sum(key, append([][]byte{label}, context...)...)[:length]
}

// sessionKeys are those of one channel, never changed, behind pointers for the
// same reason.
type sessionKeys struct {
	block          cipher.Block
	mac, answerMAC *[KeyLen]byte
	forKeys        cipher.Block // the static key for new keys; a session has none of its own
	card, host     Challenge    // cryptograms, which are no secrets
}

func (k Keys) session(host, card Challenge) *sessionKeys {
	s := &sessionKeys{
		block:     blocks(derive(k.k.enc[:], forEncryption, KeyLen, host[:], card[:])),
		forKeys:   blocks(k.k.dek[:]),
		mac:       (*[KeyLen]byte)(derive(k.k.mac[:], forMAC, KeyLen, host[:], card[:])),
		answerMAC: (*[KeyLen]byte)(derive(k.k.mac[:], forAnswerMAC, KeyLen, host[:], card[:])),
	}
	s.card = Challenge(derive(s.mac[:], forCardCryptogram, ChallengeLen, host[:], card[:]))
	s.host = Challenge(derive(s.mac[:], forHostCryptogram, ChallengeLen, host[:], card[:]))
	return s
}

// blocks is AES with a key of this package.
func blocks(key []byte) cipher.Block {
	b, err := aes.NewCipher(key)
	if err != nil {
		panic("a key of this package has the wrong size")
	}
	return b
}

// stage is what the next message of an end has to be.
type stage byte

const (
	closed stage = iota
	authenticating
	ready    // for a command
	answered // a command is waiting for its answer
)

// end is what both ends keep.
type end struct {
	keys  *sessionKeys
	stage stage
	level Level
	chain [cmac.Size]byte // the last code of a command in full
	count uint64          // commands after EXTERNAL AUTHENTICATE
}

// in refuses a message at another stage than it belongs to.
func (e end) in(s stage) error {
	switch e.stage {
	case s:
		return nil
	case closed:
		return ErrClosed
	}
	return ErrTurn
}

// describe tells what may be told of an end, whatever the verb.
func (e end) describe(w io.Writer, which string) {
	switch e.stage {
	case closed:
		_, _ = fmt.Fprintf(w, "%s channel, closed", which)
	case authenticating:
		_, _ = fmt.Fprintf(w, "%s channel, not authenticated", which)
	default:
		_, _ = fmt.Fprintf(w, "%s channel, level %02X, command %d", which, byte(e.level), e.count)
	}
}

// code is the code of a command as it is sent, without the code itself, in full:
// the length that it covers includes the code, in the form that is sent.
func (e end) code(c apdu.Command, data []byte) [cmac.Size]byte {
	n := len(data) + macLen
	header := []byte{c.CLA, c.INS, c.P1, c.P2, byte(n)}
	if c.Extended || n > maxShortData || c.Ne > maxShortNe {
		header = append(header[:4], 0, byte(n>>8), byte(n))
	}
	return [cmac.Size]byte(sum(e.keys.mac[:], e.chain[:], header, data))
}

// answerCode is the code of an answer.
func (e end) answerCode(data []byte, sw apdu.SW) []byte {
	return sum(e.keys.answerMAC[:], e.chain[:], data, []byte{byte(sw >> 8), byte(sw)})[:macLen]
}

// Sides that a message comes from, the first byte of the counter block.
const (
	fromHost byte = 0x00
	fromCard byte = 0x80
)

func (e end) iv(side byte) []byte {
	b := make([]byte, aes.BlockSize)
	binary.BigEndian.PutUint64(b[8:], e.count)
	b[0] = side
	e.keys.block.Encrypt(b, b)
	return b
}

// encrypt pads with 80 00… to whole blocks; nothing stays nothing.
func (e end) encrypt(side byte, plain []byte) []byte {
	if len(plain) == 0 {
		return nil
	}
	b := append(append(make([]byte, 0, len(plain)+aes.BlockSize), plain...), 0x80)
	for len(b)%aes.BlockSize != 0 {
		b = append(b, 0)
	}
	cipher.NewCBCEncrypter(e.keys.block, e.iv(side)).CryptBlocks(b, b)
	return b
}

// decrypt is the reverse. Its caller has verified the code, so how it fails is
// no secret.
func (e end) decrypt(side byte, data []byte) ([]byte, error) {
	if len(data) == 0 {
		return nil, nil
	}
	if len(data)%aes.BlockSize != 0 {
		return nil, ErrMAC
	}
	b := make([]byte, len(data))
	cipher.NewCBCDecrypter(e.keys.block, e.iv(side)).CryptBlocks(b, data)
	for i := len(b) - 1; i >= len(b)-aes.BlockSize; i-- {
		switch b[i] {
		case 0x00:
		case 0x80:
			if i == 0 { // nothing is not encrypted
				return nil, ErrMAC
			}
			return b[:i:i], nil
		default:
			return nil, ErrMAC
		}
	}
	return nil, ErrMAC
}

func equal(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

// protectedSW reports whether an answer with this word is protected: an error
// is not (Amendment D §6.2.6).
func protectedSW(sw apdu.SW) bool { return sw == apdu.OK || sw>>8 == 0x62 || sw>>8 == 0x63 }

// Instructions and the class of protected commands.
const (
	// InsInitializeUpdate is INITIALIZE UPDATE, class 80.
	InsInitializeUpdate = 0x50
	// InsExternalAuthenticate is EXTERNAL AUTHENTICATE, class 84.
	InsExternalAuthenticate = 0x82
	// ClassSecure is the bit of the class byte of a command with a code.
	ClassSecure = 0x04
)
