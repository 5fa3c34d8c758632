//go:build linux || darwin || windows

package seal_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-tpm-tools/client"
	legacy "github.com/google/go-tpm/legacy/tpm2"
	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"hsmemu/keystore/seal"
)

// tpmParameters are what a test may know of a sealed key.
type tpmParameters struct {
	Parent, Public, Private []byte
	Index                   uint32
	Count, Generation       uint64
}

func reveal(t testing.TB, parameters []byte) tpmParameters {
	t.Helper()
	var p tpmParameters
	require.NoError(t, json.Unmarshal(parameters, &p))
	return p
}

// directly runs commands on the TPM without the package under test.
func (s *swtpm) directly(t testing.TB, do func(transport.TPM, io.ReadWriter)) {
	t.Helper()
	c, err := net.Dial("unix", s.socket())
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()
	do(transport.FromReadWriter(c), c)
}

func TestTPM_GivesTheKeyBack(t *testing.T) {
	t.Parallel()
	tpm := newTPM(t)
	s := tpm.sealer()
	require.Equal(t, "tpm", s.Kind())
	p, err := s.Seal(root, 7)
	require.NoError(t, err)
	for _, secret := range []string{string(root), hex.EncodeToString(root)} {
		require.NotContains(t, string(p), secret)
	}
	got, err := s.Unseal(p)
	require.NoError(t, err)
	require.Equal(t, root, got)
	tpm.restart(t)
	got, err = s.Unseal(p)
	require.NoError(t, err, "the TPM's restart changes nothing")
	require.Equal(t, root, got)
	tpm.directly(t, func(_ transport.TPM, rw io.ReadWriter) {
		for _, kind := range []legacy.HandleType{legacy.HandleTypeTransient, legacy.HandleTypeLoadedSession, legacy.HandleTypeSavedSession} {
			left, err := client.Handles(rw, kind)
			require.NoError(t, err)
			require.Empty(t, left, "nothing is left loaded")
		}
	})
}

func TestTPM_AnotherOneIsRefused(t *testing.T) {
	t.Parallel()
	p, err := newTPM(t).sealer().Seal(root, 0)
	require.NoError(t, err)
	other := newTPM(t)
	_, err = other.sealer().Unseal(p)
	require.ErrorIs(t, err, seal.ErrOtherTPM)
	// A TPM that shows another storage root key than the one of before is not
	// trusted with a session either.
	own, err := other.sealer().Seal(root, 0)
	require.NoError(t, err)
	_, err = other.sealer().Unseal([]byte(strings.Replace(string(own), encoded(t, reveal(t, own).Parent), encoded(t, reveal(t, p).Parent), 1)))
	require.ErrorIs(t, err, seal.ErrOtherTPM)
	// And if the parameters are made to name the other one.
	q, err := other.sealer().Seal(root, 0)
	require.NoError(t, err)
	mixed := strings.Replace(string(q), encoded(t, reveal(t, q).Private), encoded(t, reveal(t, p).Private), 1)
	mixed = strings.Replace(mixed, encoded(t, reveal(t, q).Public), encoded(t, reveal(t, p).Public), 1)
	require.NotEqual(t, string(q), mixed)
	_, err = other.sealer().Unseal([]byte(mixed))
	require.ErrorIs(t, err, seal.ErrOtherTPM)
}

func encoded(t testing.TB, b []byte) string {
	t.Helper()
	e, err := json.Marshal(b)
	require.NoError(t, err)
	return string(e)
}

func TestTPM_OverTCP(t *testing.T) {
	t.Parallel()
	tpm := newTPM(t)
	p, err := tpm.sealer().Seal(root, 0)
	require.NoError(t, err)
	tpm.stop(t)
	var port, address string
	for free := false; !free; { // below those that Linux hands out by itself, so that it stays free
		port = strconv.Itoa(20000 + rand.IntN(12000))
		address = "127.0.0.1:" + port
		if l, err := net.Listen("tcp", address); err == nil {
			free = true
			require.NoError(t, l.Close())
		}
	}
	tpm.run(t, "tcp", address, "type=tcp,port="+port+",bindaddr=127.0.0.1")
	got, err := seal.TPM{Address: "localhost:" + port}.Unseal(p)
	require.NoError(t, err)
	require.Equal(t, root, got)
}

func TestTPM_NobodyAnswers(t *testing.T) {
	t.Parallel()
	for _, address := range []string{filepath.Join(t.TempDir(), "none"), "127.0.0.1:1", "localhost"} {
		_, err := seal.TPM{Address: address}.Seal(root, 0)
		require.ErrorIs(t, err, seal.ErrNoTPM, address)
	}
	failed := errors.New("not today")
	_, err := seal.TPM{Open: func() (io.ReadWriteCloser, error) { return nil, failed }}.Seal(root, 0)
	require.ErrorIs(t, err, failed)
	_, err = seal.TPM{}.Seal(root[:31], 0)
	require.ErrorIs(t, err, seal.ErrRoot)
	_, err = seal.TPM{PCRs: []int{24}}.Seal(root, 0)
	require.ErrorIs(t, err, seal.ErrParameters)
}

// A TPM that takes a command and never answers it is given up.
func TestTPM_SilentOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		_, err := seal.TPM{Open: func() (io.ReadWriteCloser, error) { return ours, nil }}.Seal(root, 0)
		require.ErrorIs(t, err, seal.ErrNoTPM)
		require.NoError(t, theirs.Close())
	})
}

// answering is a TPM that says the same to everything.
func answering(t *testing.T, answer string) seal.TPM {
	t.Helper()
	raw, err := hex.DecodeString(answer)
	require.NoError(t, err)
	return seal.TPM{Open: func() (io.ReadWriteCloser, error) {
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			for err := error(nil); err == nil; {
				if _, err = theirs.Read(make([]byte, 4096)); err == nil {
					_, err = theirs.Write(raw)
				}
				if len(raw) < 10 || raw[2] != 0 || raw[5] != byte(len(raw)) {
					return // and leave the reader with a part of an answer
				}
			}
		}()
		return ours, nil
	}}
}

func TestTPM_NonsenseFromIt(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{
		"", "80", "800100000009000000", "80010000000900000000", "8001ffffffff00000000",
		"80010000000b00000000", "8001000000ff0000010100",
	} {
		_, err := answering(t, answer).Seal(root, 0)
		require.ErrorIs(t, err, seal.ErrNoTPM, answer)
	}
	_, err := answering(t, "80010000000a00000101").Seal(root, 0) // TPM_RC_FAILURE
	require.ErrorContains(t, err, "0x1")
	require.NotErrorIs(t, err, seal.ErrNoTPM)
	_, err = answering(t, "80010000000a00000100").Seal(root, 0) // TPM_RC_INITIALIZE, also after starting it
	require.ErrorContains(t, err, "not initialized")
}

// recorded is a connection that keeps all that crosses it and splits the
// answers into single bytes, as a network may.
type recorded struct {
	net.Conn
	wire     *bytes.Buffer
	commands *[][]byte
}

func (r recorded) Write(p []byte) (int, error) {
	r.wire.Write(p)
	*r.commands = append(*r.commands, bytes.Clone(p))
	return r.Conn.Write(p)
}

func (r recorded) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p[:min(1, len(p))])
	r.wire.Write(p[:n])
	return n, err
}

func TestTPM_NoSecretCrossesTheWire(t *testing.T) {
	t.Parallel()
	tpm := newTPM(t)
	var wire bytes.Buffer
	var commands [][]byte
	s := seal.TPM{Open: func() (io.ReadWriteCloser, error) {
		c, err := net.Dial("unix", tpm.socket())
		return recorded{c, &wire, &commands}, err
	}}
	crossed := func(secret []byte) bool {
		return bytes.Contains(wire.Bytes(), secret) || bytes.Contains(wire.Bytes(), secret[:16]) || bytes.Contains(wire.Bytes(), secret[16:])
	}
	for _, s.PCRs = range [][]int{nil, {16}} {
		p, err := s.Seal(root, 0)
		require.NoError(t, err)
		got, err := s.Unseal(p)
		require.NoError(t, err)
		require.Equal(t, root, got)
		c, err := s.Counter(p, root)
		require.NoError(t, err)
		require.NoError(t, c.Increment())
		_, err = c.Count()
		require.NoError(t, err)
		require.True(t, bytes.Contains(wire.Bytes(), reveal(t, p).Private), "the wire is listened to")
		require.False(t, crossed(root))
	}
	salted := 0
	for i, c := range commands {
		switch tpm2.TPMCC(binary.BigEndian.Uint32(c[6:])) {
		case tpm2.TPMCCCreate, tpm2.TPMCCUnseal, tpm2.TPMCCNVDefineSpace:
			require.Equal(t, uint32(client.SRKECCReservedHandle), saltedTo(t, commands[:i]), "command %d", i)
			salted++
		}
	}
	require.Equal(t, 6, salted, "three commands that carry secrets, without and with registers")
	// The same key, taken out as it was not meant to be, is seen to cross.
	p, err := tpm.sealer().Seal(root, 0)
	require.NoError(t, err)
	c, err := net.Dial("unix", tpm.socket())
	require.NoError(t, err)
	defer c.Close()
	srk, err := client.StorageRootKeyECC(c)
	require.NoError(t, err)
	loaded, err := tpm2.Load{
		ParentHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(srk.Handle()), Name: tpm2.TPM2BName{Buffer: reveal(t, p).Parent}, Auth: tpm2.PasswordAuth(nil)},
		InPrivate:    tpm2.TPM2BPrivate{Buffer: reveal(t, p).Private},
		InPublic:     tpm2.BytesAs2B[tpm2.TPMTPublic](reveal(t, p).Public),
	}.Execute(transport.FromReadWriter(c))
	require.NoError(t, err)
	wire.Reset()
	out, err := tpm2.Unseal{
		ItemHandle: tpm2.AuthHandle{Handle: loaded.ObjectHandle, Name: loaded.Name, Auth: tpm2.PasswordAuth(nil)},
	}.Execute(listening{transport.FromReadWriter(c), &wire})
	require.NoError(t, err)
	require.Equal(t, root, out.OutData.Buffer)
	require.True(t, crossed(root), "the search finds what is there")
}

// saltedTo returns the key that the last session was salted to. Without one,
// who listens can compute the session's key.
func saltedTo(t *testing.T, commands [][]byte) uint32 {
	t.Helper()
	for _, c := range slices.Backward(commands) {
		if tpm2.TPMCC(binary.BigEndian.Uint32(c[6:])) == tpm2.TPMCCStartAuthSession {
			return binary.BigEndian.Uint32(c[10:])
		}
	}
	return 0
}

// listening is a TPM whose answers are kept.
type listening struct {
	transport.TPM
	wire *bytes.Buffer
}

func (l listening) Send(command []byte) ([]byte, error) {
	answer, err := l.TPM.Send(command)
	l.wire.Write(answer)
	return answer, err
}

func TestTPM_BoundToPCRs(t *testing.T) {
	t.Parallel()
	tpm := newTPM(t)
	s := tpm.sealer()
	s.PCRs = []int{7, 16}
	p, err := s.Seal(root, 0)
	require.NoError(t, err)
	got, err := tpm.sealer().Unseal(p)
	require.NoError(t, err, "an existing seal knows its registers")
	require.Equal(t, root, got)
	tpm.directly(t, func(_ transport.TPM, rw io.ReadWriter) {
		require.NoError(t, legacy.PCRExtend(rw, 8, legacy.AlgSHA256, make([]byte, 32), ""))
	})
	_, err = s.Unseal(p)
	require.NoError(t, err, "another register does not matter")
	tpm.directly(t, func(_ transport.TPM, rw io.ReadWriter) {
		require.NoError(t, legacy.PCRExtend(rw, 16, legacy.AlgSHA256, make([]byte, 32), ""))
	})
	_, err = s.Unseal(p)
	require.ErrorIs(t, err, seal.ErrPCR)
	tpm.restart(t)
	got, err = s.Unseal(p)
	require.NoError(t, err, "the registers are as before after a restart")
	require.Equal(t, root, got)
}

// Leaving the registers out of the parameters does not open what is bound to
// them.
func TestTPM_PCRsCannotBeLeftOut(t *testing.T) {
	t.Parallel()
	tpm := newTPM(t)
	s := tpm.sealer()
	s.PCRs = []int{16}
	p, err := s.Seal(root, 0)
	require.NoError(t, err)
	free := strings.Replace(string(p), `"pcrs":[16],`, "", 1)
	require.NotEqual(t, string(p), free)
	_, err = s.Unseal([]byte(free))
	require.Error(t, err)
}

func TestTPM_ForeignKeyAtTheUsualPlaceStays(t *testing.T) {
	t.Parallel()
	tpm := newTPM(t)
	var foreign legacy.Public
	tpm.directly(t, func(_ transport.TPM, rw io.ReadWriter) {
		require.NoError(t, legacy.Startup(rw, legacy.StartupClear))
		k, err := client.NewCachedKey(rw, legacy.HandleOwner, client.AKTemplateECC(), client.SRKECCReservedHandle)
		require.NoError(t, err)
		foreign = k.PublicArea()
	})
	s := tpm.sealer()
	p, err := s.Seal(root, 0)
	require.NoError(t, err)
	got, err := s.Unseal(p)
	require.NoError(t, err)
	require.Equal(t, root, got)
	tpm.directly(t, func(_ transport.TPM, rw io.ReadWriter) {
		there, _, _, err := legacy.ReadPublic(rw, client.SRKECCReservedHandle)
		require.NoError(t, err)
		require.Equal(t, foreign, there)
		loaded, err := client.Handles(rw, legacy.HandleTypeTransient)
		require.NoError(t, err)
		require.Empty(t, loaded)
	})
}

// What killed processes leave in a TPM without a resource manager does not
// stop those that come after them.
func TestTPM_FullOfLeftovers(t *testing.T) {
	t.Parallel()
	tpm := newTPM(t)
	s := tpm.sealer()
	p, err := s.Seal(root, 0)
	require.NoError(t, err)
	c, err := s.Counter(p, root)
	require.NoError(t, err)
	fill := func() {
		tpm.directly(t, func(direct transport.TPM, rw io.ReadWriter) {
			var failed error
			for failed == nil {
				_, failed = client.NewKey(rw, legacy.HandleOwner, client.AKTemplateECC())
			}
			for failed = nil; failed == nil; {
				_, _, failed = tpm2.HMACSession(direct, tpm2.TPMAlgSHA256, 16)
			}
		})
	}
	fill()
	got, err := s.Unseal(p)
	require.NoError(t, err)
	require.Equal(t, root, got)
	fill()
	require.NoError(t, c.Increment())
	fill()
	_, err = c.Count()
	require.NoError(t, err)
	fill()
	_, err = s.Seal(root, 0)
	require.NoError(t, err)
	tpm.directly(t, func(_ transport.TPM, rw io.ReadWriter) {
		require.NoError(t, legacy.EvictControl(rw, "", legacy.HandleOwner, client.SRKECCReservedHandle, client.SRKECCReservedHandle))
	})
	fill()
	_, err = s.Unseal(p)
	require.NoError(t, err, "also where the storage root key has to be made again")
}

func TestTPM_HostileParameters(t *testing.T) {
	t.Parallel()
	tpm := newTPM(t)
	s := tpm.sealer()
	p, err := s.Seal(root, 0)
	require.NoError(t, err)
	for name, bad := range map[string]string{
		"empty":        "",
		"null":         "null",
		"extra field":  strings.Replace(string(p), `{`, `{"more":1,`, 1),
		"no index":     strings.Replace(string(p), `"index":`, `"index":1,"count":`, 1),
		"platform's":   `{"index":20971520}`,
		"no such PCR":  strings.Replace(string(p), `{`, `{"pcrs":[24],`, 1),
		"negative PCR": strings.Replace(string(p), `{`, `{"pcrs":[-1],`, 1),
	} {
		_, err := s.Unseal([]byte(bad))
		require.ErrorIs(t, err, seal.ErrParameters, name)
		_, err = s.Counter([]byte(bad), root)
		require.ErrorIs(t, err, seal.ErrParameters, name)
		require.ErrorIs(t, s.Release([]byte(bad)), seal.ErrParameters, name)
	}
	_, err = s.Counter(p, nil)
	require.ErrorIs(t, err, seal.ErrRoot)
	rapid.Check(t, func(t *rapid.T) {
		q := bytes.Clone(p)
		at := rapid.IntRange(0, len(q)-1).Draw(t, "at")
		q[at] ^= rapid.ByteRange(1, 255).Draw(t, "bits")
		if got, err := s.Unseal(q); err == nil {
			require.Equal(t, root, got)
		}
	})
}

func BenchmarkTPM(b *testing.B) {
	tpm := newTPM(b)
	s := tpm.sealer()
	p, err := s.Seal(root, 0)
	require.NoError(b, err)
	c, err := s.Counter(p, root)
	require.NoError(b, err)
	b.Run("unseal", func(b *testing.B) {
		for b.Loop() {
			_, err := s.Unseal(p)
			require.NoError(b, err)
		}
	})
	b.Run("increment", func(b *testing.B) {
		for b.Loop() {
			require.NoError(b, c.Increment())
		}
	})
	b.Run("count", func(b *testing.B) {
		for b.Loop() {
			_, err := c.Count()
			require.NoError(b, err)
		}
	})
}
