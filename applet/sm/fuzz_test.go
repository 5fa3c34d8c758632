package sm_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/apdu"
	"hsmemu/applet/sm"
	"hsmemu/keystore/curve"
)

// opener is a channel with someone who can forge on it.
type opener struct {
	card  sm.Channel
	host  sm.Host
	forge forger
}

func openers(t testing.TB) []opener {
	t.Helper()
	var out []opener
	for _, s := range suites {
		card, host := open(t, s)
		out = append(out, opener{card, host, newForger(t, s)})
	}
	return out
}

// FuzzOpen gives a fresh channel any command: as it is, or as the objects of a
// command with a right checksum, behind which the rest of the parser hides.
func FuzzOpen(f *testing.F) {
	for _, row := range rows(f, "messages.txt") {
		if row[1] == "C" {
			b := unhex(f, row[3])
			f.Add(row[0][0]-'1', false, b[1], b)
			f.Add(row[0][0]-'1', true, b[1], b[5:len(b)-11])
		}
	}
	f.Add(byte(1), true, byte(0x20), unhex(f, "978100"))
	f.Add(byte(1), true, byte(0x20), unhex(f, "9784000000010087820000"))
	ends := openers(f)
	f.Fuzz(func(t *testing.T, which byte, forged bool, ins byte, b []byte) {
		end := ends[int(which)%len(ends)]
		received, err := apdu.Parse(b)
		switch {
		case forged && len(b) <= 4096:
			received = end.forge.command(t, ins, b)
		case err != nil:
			return
		}
		plain, after, err := end.card.Open(received)
		if err != nil {
			require.True(t, errors.Is(err, sm.ErrMissing) || errors.Is(err, sm.ErrWrong) || errors.Is(err, sm.ErrClass), "%v", err)
			require.False(t, after.Active())
			require.Empty(t, plain)
			return
		}
		require.True(t, after.Active())
		require.Zero(t, plain.CLA&0x0C)
		require.Less(t, len(plain.Data), len(received.Data))

		// Whatever was opened can be said again by our host.
		wrapped, _, err := end.host.Wrap(plain)
		require.NoError(t, err)
		again, _, err := end.card.Open(wrapped)
		require.NoError(t, err)
		require.Equal(t, plain.Bytes(), again.Bytes())
	})
}

// FuzzUnwrap is the same for the host.
func FuzzUnwrap(f *testing.F) {
	for _, row := range rows(f, "messages.txt") {
		if row[1] != "C" {
			b := unhex(f, row[3])
			f.Add(row[0][0]-'1', false, b)
			f.Add(row[0][0]-'1', true, b[:len(b)-12])
		}
	}
	ends := openers(f)
	for i := range ends {
		var err error
		_, ends[i].host, err = ends[i].host.Wrap(apdu.Command{INS: 0x20})
		require.NoError(f, err)
	}
	f.Fuzz(func(t *testing.T, which byte, forged bool, b []byte) {
		end := ends[int(which)%len(ends)]
		received, err := apdu.ParseResponse(b)
		switch {
		case forged:
			received = end.forge.response(t, b, apdu.OK)
		case err != nil:
			return
		}
		plain, after, err := end.host.Unwrap(received)
		require.Equal(t, err == nil, after.Active())
		if err != nil {
			require.True(t, errors.Is(err, sm.ErrMissing) || errors.Is(err, sm.ErrWrong) || errors.Is(err, sm.ErrUnprotected), "%v", err)
			require.Empty(t, plain)
			return
		}
		require.Equal(t, received.SW, plain.SW)
		require.Less(t, len(plain.Data), len(received.Data))
	})
}

func BenchmarkExchange(b *testing.B) {
	for _, end := range openers(b) {
		for _, n := range []int{16, 1024} {
			command := apdu.Command{INS: 0xD7, Data: make([]byte, n), Ne: 256}
			wrapped, _, err := end.host.Wrap(command)
			require.NoError(b, err)
			answer := apdu.Response{Data: make([]byte, n), SW: apdu.OK}
			b.Run(end.forge.suite.String()+"/"+map[int]string{16: "16", 1024: "1024"}[n], func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					_, card, err := end.card.Open(wrapped)
					if err != nil {
						b.Fatal(err)
					}
					if _, _, err = card.Seal(command.INS, answer); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	device, terminal := parties(b)
	data := sm.Present(terminal).Data
	for b.Loop() {
		if _, _, err := sm.AES128.Authenticate(device, sm.Nonce{}, data); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzAuthenticate has any data for the choice of a suite and for both ends of
// the key agreement; a host never believes who has not got the device's key.
func FuzzAuthenticate(f *testing.F) {
	device, terminal := parties(f)
	present := sm.Present(terminal).Data
	for i, s := range suites {
		selection := append([]byte{0x80, byte(len(s.OID()))}, s.OID()...)
		_, answer, err := s.Authenticate(device, sm.Nonce{byte(i)}, present)
		require.NoError(f, err)
		f.Add(selection, present, answer)
		f.Add(append(selection, 0x83, 1, 0, 0x84, 1, 0), present[2:], answer[2:])
	}
	f.Fuzz(func(t *testing.T, selection, present, answer []byte) {
		suite, err := sm.ParseSelection(selection)
		if err != nil {
			require.True(t, errors.Is(err, sm.ErrData) || errors.Is(err, sm.ErrSuite), "%v", err)
			return
		}
		require.Contains(t, suites, suite)
		channel, said, err := suite.Authenticate(device, sm.Nonce{}, present)
		require.Equal(t, err == nil, channel.Active())
		if err != nil {
			require.True(t, errors.Is(err, sm.ErrData) || errors.Is(err, curve.ErrPoint), "%v", err)
			require.Empty(t, said)
		}
		if _, err = suite.Confirm(terminal, device.Public(), answer); err != nil {
			require.True(t, errors.Is(err, sm.ErrData) || errors.Is(err, sm.ErrToken), "%v", err)
		}
		if err == nil { // only the device makes this token, and the nonce is in the open
			nonce := sm.Nonce(answer[4:])
			_, honest, err := suite.Authenticate(device, nonce, sm.Present(terminal).Data)
			require.NoError(t, err)
			require.Equal(t, honest, answer)
		}
	})
}
