package sm_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/apdu"
	"hsmemu/applet/sm"
	"hsmemu/applet/tlv"
	"hsmemu/keystore/cmac"
)

// forger knows the keys of a channel and puts right checksums on wrong
// messages. It is written anew from SM-13 to SM-17, as a second opinion.
type forger struct {
	suite    sm.Suite
	enc, mac []byte
}

func newForger(t testing.TB, s sm.Suite) forger {
	t.Helper()
	v := agreement(t)
	name := string('0' + rune(s))
	return forger{suite: s, enc: v(name + ".enc"), mac: v(name + ".mac")}
}

func (f forger) size() int {
	if f.suite == sm.TripleDES {
		return 8
	}
	return 16
}

func (f forger) counter(n uint64) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, f.size()-8, f.size()), n)
}

// cryptogram encrypts whole blocks in the n-th message.
func (f forger) cryptogram(t testing.TB, n uint64, blocks []byte) []byte {
	t.Helper()
	var b cipher.Block
	var err error
	iv := make([]byte, f.size())
	if f.suite == sm.TripleDES {
		b, err = des.NewTripleDESCipher(append(bytes.Clone(f.enc), f.enc[:8]...))
		require.NoError(t, err)
	} else {
		b, err = aes.NewCipher(f.enc)
		require.NoError(t, err)
		b.Encrypt(iv, f.counter(n))
	}
	out := bytes.Clone(blocks)
	cipher.NewCBCEncrypter(b, iv).CryptBlocks(out, out)
	return out
}

// sum is the checksum over whole blocks. A retail MAC is single DES in CBC
// mode up to the last block and two-key 3DES for that one.
func (f forger) sum(t testing.TB, blocks []byte) []byte {
	t.Helper()
	if f.suite != sm.TripleDES {
		sum, err := cmac.Sum(f.mac, blocks)
		require.NoError(t, err)
		return sum[:8]
	}
	single, err := des.NewCipher(f.mac[:8])
	require.NoError(t, err)
	triple, err := des.NewTripleDESCipher(append(bytes.Clone(f.mac), f.mac[:8]...))
	require.NoError(t, err)
	state := make([]byte, 8)
	last := len(blocks) - 8
	if last > 0 {
		out := make([]byte, last)
		cipher.NewCBCEncrypter(single, state).CryptBlocks(out, blocks[:last])
		state = out[last-8:]
	}
	out := make([]byte, 8)
	cipher.NewCBCEncrypter(triple, state).CryptBlocks(out, blocks[last:])
	return out
}

func (f forger) padded(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	out := append(bytes.Clone(b), 0x80)
	for len(out)%f.size() != 0 {
		out = append(out, 0)
	}
	return out
}

// checksum is the 8E object of the n-th message.
func (f forger) checksum(t testing.TB, n uint64, header, objects []byte) []byte {
	t.Helper()
	return tlv.Append(nil, 0x8E, f.sum(t, bytes.Join([][]byte{
		f.counter(n), f.padded(header), f.padded(objects),
	}, nil)))
}

// command is the first message with the given objects and a right checksum.
func (f forger) command(t testing.TB, ins byte, objects []byte) apdu.Command {
	t.Helper()
	c := apdu.Command{CLA: 0x0C, INS: ins, P2: 0x81, Ne: 256}
	c.Data = append(bytes.Clone(objects), f.checksum(t, 1, []byte{c.CLA, c.INS, c.P1, c.P2}, objects)...)
	return c
}

// response is the second message with the given objects and a right checksum.
func (f forger) response(t testing.TB, objects []byte, sw apdu.SW) apdu.Response {
	t.Helper()
	return apdu.Response{Data: append(bytes.Clone(objects), f.checksum(t, 2, nil, objects)...), SW: sw}
}
