package chip_test

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
	"hsmemu/emulator/chip"
	"hsmemu/keystore"
)

// APDU-17, APDU-45, APDU-46: the longest command by platform.
// With an answer to come, 1231 bytes pass and 1232 do not on JCOP 3, which is
// SIGN of 1222 and 1223 bytes as OpenSC sends it (OpenSC 2469, Nitrokey forum
// 6152).
func TestStep_TakesCommandsAsLongAsTheChipDoes(t *testing.T) {
	t.Parallel()
	longest := map[byte]int{1: 1462, 2: 1462, 3: 1232, 4: 1454}
	for _, p := range applet.Profiles() {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			env := applet.Env{Rand: rand.Reader, Now: time.Unix(1.7e9, 0), RSA: keystore.SystemGenerator{Rand: rand.Reader}}
			d, err := chip.Manufacture(env, chip.Order{Firmware: p.Name})
			require.NoError(t, err)
			selected, r := chip.Step(env, chip.Boot(d), apdu.Command{INS: 0xA4, P1: 4, P2: 0x0C, Data: []byte(apdu.AID)}.Bytes())
			require.Equal(t, []byte{0x90, 0x00}, r.Response)

			most := longest[p.Major]
			for _, c := range []struct {
				name string
				size int
				ne   int
				want apdu.SW
			}{
				{"longest", most, 0, apdu.SecurityStatus},
				{"too long", most + 1, 0, apdu.WrongData},
				{"with Le longest", most - 1, 512, apdu.SecurityStatus},
				{"with Le too long", most, 512, apdu.WrongData},
				{"much too long", 65000, 65536, apdu.WrongData},
			} {
				command := apdu.Command{INS: 0xD7, P1: 0xCF, Ne: c.ne, Extended: true}
				overhead := 7 // header and length
				if c.ne > 0 {
					overhead += 2
				}
				command.Data = make([]byte, c.size-overhead)
				b := command.Bytes()
				require.Len(t, b, c.size)
				next, r := chip.Step(env, selected, b)
				require.Equal(t, c.want, r.Event.SW, c.name)
				require.Empty(t, r.Commits, c.name)
				require.Equal(t, selected, next, "%s changes nothing", c.name)
			}
			// What is no APDU at all is too long first.
			_, r = chip.Step(env, selected, make([]byte, most+1))
			require.Equal(t, apdu.WrongData, r.Event.SW)
			_, r = chip.Step(env, selected, make([]byte, most))
			require.Equal(t, apdu.WrongLength, r.Event.SW)
		})
	}
}

// A blob that somebody made who knows the DKEK can have any list, and the file for
// long blobs has room for one that no command can give a key. With it the card
// would be in a state that Check refuses (DOM-50).
func TestUnwrap_TakesNoLongerListThanACommandHas(t *testing.T) {
	t.Parallel()
	share := []byte("a DKEK share that somebody knows")
	for n, want := range map[int]apdu.SW{1462: apdu.OK, 1463: apdu.ExecutionFailed, 20_000: apdu.ExecutionFailed} {
		c := start(t, "4.1", false)
		c.ok(t, selectApplication)
		c.ok(t, setup(1, userPIN, soPIN, 3, []byte{0x92, 1, 1}))
		c.ok(t, apdu.Command{INS: apdu.InsManageKeyDomain, Data: share})
		c.ok(t, verify(0x81, userPIN))
		domain, err := keystore.NewDKEK(1).Import(share)
		require.NoError(t, err)
		k, err := keystore.GenerateEC(rand.Reader, named(t, "secp256r1"))
		require.NoError(t, err)
		k.Algorithms = append([]keystore.Algorithm{keystore.Wrap}, make([]keystore.Algorithm, n-1)...)
		blob, err := domain.Wrap(rand.Reader, k)
		require.NoError(t, err)
		for at := 0; at < len(blob); at += 1000 {
			c.ok(t, write(0x2F10, at, blob[at:min(at+1000, len(blob))]))
		}
		require.Equal(t, want, c.send(apdu.Command{INS: apdu.InsUnwrapKey, P1: 1, P2: 0x93}).SW, n)
		require.NoError(t, c.State.Durable().Check())
	}
}

// A query of a PIN's status is the most frequent command there is. The profile of
// the firmware has several hundred bytes, and no step needs a copy of it.
func TestStep_TakesLittleMemoryForAStatus(t *testing.T) {
	c := start(t, "4.1", true)
	c.ok(t, selectApplication)
	c.Env.Observed = false
	query := apdu.Command{INS: apdu.InsVerify, P2: apdu.RefUserPIN}.Bytes()
	bytes := testing.Benchmark(func(b *testing.B) {
		for b.Loop() {
			chip.Step(c.Env, c.State, query)
		}
	}).AllocedBytesPerOp()
	require.Less(t, bytes, int64(1100))
}
