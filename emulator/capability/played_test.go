package capability_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/client"
	"hsmemu/emulator"
	"hsmemu/emulator/capability"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/view"
	"hsmemu/keystore"
	"hsmemu/keystore/curve"
)

// rsaLengths are those that clients ask for.
var rsaLengths = []int{1024, 1536, 2048, 3072, 4096}

// signing are the algorithms of signatures, and how many bytes they take; 0 is for
// messages, which have any length.
var signing = map[keystore.Kind]map[keystore.Algorithm]int{
	keystore.RSA: {
		keystore.RSASignRaw: 256, keystore.RSASignPKCS1: 51, keystore.RSAPSS: 32,
		keystore.RSASignSHA1: 0, keystore.RSASignSHA224: 0, keystore.RSASignSHA256: 0, keystore.RSASignSHA384: 0, keystore.RSASignSHA512: 0,
		keystore.RSAPSSSHA1: 0, keystore.RSAPSSSHA224: 0, keystore.RSAPSSSHA256: 0, keystore.RSAPSSSHA384: 0, keystore.RSAPSSSHA512: 0,
	},
	keystore.EC: {
		keystore.ECDSA: 32, keystore.ECDSASHA1: 0, keystore.ECDSASHA224: 0, keystore.ECDSASHA256: 0, keystore.ECDSASHA384: 0, keystore.ECDSASHA512: 0,
	},
}

// What is listed of a firmware a card of it does, and what is not listed it refuses:
// keys of each curve and length, AES, and a signature by each algorithm.
func TestOf_IsWhatCardsDo(t *testing.T) {
	t.Parallel()
	all := capability.Of(view.Program{}, "linux", nil)
	for _, version := range []string{"2.5", "3.4", "4.1"} {
		i := slices.IndexFunc(all.Firmware, func(f view.FirmwareCapability) bool { return f.Version == version })
		require.GreaterOrEqual(t, i, 0, version)
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			plays(t, all.Firmware[i])
		})
	}
}

// plays tries everything on a card.
func plays(t *testing.T, f view.FirmwareCapability) {
	t.Helper()
	made, err := emulator.NewCard(chip.Order{Firmware: f.Version}, emulator.System())
	require.NoError(t, err)
	c, ctx := client.New(made), t.Context()
	_, err = c.Select(ctx)
	require.NoError(t, err)
	pin := []byte("648219")
	require.NoError(t, c.Initialise(ctx, client.Setup{Options: 1, SOPIN: []byte("57621880"), PIN: pin, Tries: 3}))
	require.NoError(t, c.Login(ctx, pin))
	agrees := func(listed bool, err error, what string) {
		t.Helper()
		if listed {
			require.NoError(t, err, "firmware %s: %s is listed", f.Version, what)
		} else {
			require.Error(t, err, "firmware %s: %s is not listed", f.Version, what)
		}
	}
	const ref = 1
	for _, on := range curve.All() {
		_, err := c.GenerateEC(ctx, ref, on, client.KeySpec{Holder: "UTKEY00001"})
		agrees(slices.Contains(f.Curves, on.Name()), err, on.Name())
	}
	for _, bits := range rsaLengths {
		_, err := c.GenerateRSA(ctx, ref, bits, client.KeySpec{Holder: "UTKEY00001"})
		agrees(slices.Contains(f.RSA, bits), err, "RSA")
	}
	agrees(slices.ContainsFunc(f.Algorithms, func(a string) bool { return strings.Contains(a, "CMAC") }),
		c.GenerateAES(ctx, ref, 256, client.KeySpec{Algorithms: []keystore.Algorithm{keystore.AESCMAC}}), "AES")
	p256, known := curve.ByName("secp256r1")
	require.True(t, known)
	_, err = c.GenerateEC(ctx, ref, p256, client.KeySpec{Holder: "UTKEY00001"})
	require.NoError(t, err)
	_, err = c.GenerateRSA(ctx, ref+1, 2048, client.KeySpec{Holder: "UTKEY00002"})
	require.NoError(t, err)
	for kind, algorithms := range signing {
		key := map[keystore.Kind]byte{keystore.EC: ref, keystore.RSA: ref + 1}[kind]
		for a, length := range algorithms {
			data := bytes.Repeat([]byte{0x20}, 40)
			if length > 0 {
				data = make([]byte, length)
				data[length-1] = 2
			}
			_, err := c.Sign(ctx, key, a, data)
			agrees(slices.Contains(f.Algorithms, a.String()), err, a.String())
		}
	}
}
