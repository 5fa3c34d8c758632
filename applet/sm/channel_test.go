package sm_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/apdu"
	"hsmemu/applet/sm"
	"hsmemu/applet/tlv"
)

// exchange is a command with data and Le, and an answer with data.
func exchange(ins byte) (apdu.Command, apdu.Response) {
	return apdu.Command{CLA: 0x80, INS: ins, P1: 1, P2: 0x81, Data: []byte("54 02 00 00"), Ne: 256},
		apdu.Response{Data: []byte("what was read"), SW: apdu.EndOfFile}
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestChannel_ZeroValueIsClosed(t *testing.T) {
	t.Parallel()
	var card sm.Channel
	var host sm.Host
	command, answer := exchange(0xB1)
	command.CLA = 0x0C
	require.False(t, card.Active())
	require.False(t, host.Active())
	_, _, err := card.Open(command)
	require.ErrorIs(t, err, sm.ErrClosed)
	_, _, err = card.Seal(0xB1, answer)
	require.ErrorIs(t, err, sm.ErrClosed)
	_, _, err = host.Wrap(command)
	require.ErrorIs(t, err, sm.ErrClosed)
	_, _, err = host.Unwrap(answer)
	require.ErrorIs(t, err, sm.ErrClosed)
}

// Every message that is wrong although its checksum is right (SM-23, SM-24).
func TestOpen_RefusesWrongObjectsWithRightChecksum(t *testing.T) {
	t.Parallel()
	for _, s := range suites {
		f := newForger(t, s)
		block := f.cryptogram(t, 1, f.padded([]byte("data")))
		data87 := tlv.Append(nil, 0x87, []byte{1}, block)
		data85 := tlv.Append(nil, 0x85, block)
		le := []byte{0x97, 0x01, 0x00}
		size := f.size()
		raw := func(b []byte) []byte { return tlv.Append(nil, 0x87, []byte{1}, f.cryptogram(t, 1, b)) }
		twoBlocks := make([]byte, 2*size)
		twoBlocks[0] = 0x80

		for _, c := range []struct {
			name    string
			ins     byte
			objects []byte
			want    error
		}{
			{"plain value object", 0x20, join([]byte{0x81, 0x01, 0x55}, le), sm.ErrMissing},
			{"status in a command", 0x20, []byte{0x99, 0x02, 0x90, 0x00}, sm.ErrMissing},
			{"Le before data", 0x20, join(le, data87), sm.ErrMissing},
			{"data twice", 0x20, join(data87, data87), sm.ErrMissing},
			{"data in both forms", 0x20, join(data85, data87), sm.ErrMissing},
			{"Le twice", 0x20, join(le, le), sm.ErrMissing},
			{"form of odd INS for an even one", 0x20, data85, sm.ErrMissing},
			{"form of even INS for an odd one", 0xB1, data87, sm.ErrMissing},
			{"checksum twice", 0x20, f.checksum(t, 1, []byte{0x0C, 0x20, 0, 0x81}, nil), sm.ErrMissing},
			{"indefinite length", 0x20, []byte{0x97, 0x80, 0x00, 0x00, 0x00}, sm.ErrMissing},
			{"object longer than the data", 0x20, []byte{0x97, 0x7F, 0x00}, sm.ErrMissing},
			{"tag 00", 0x20, []byte{0x00}, sm.ErrMissing},
			{"no indicator", 0x20, []byte{0x87, 0x00}, sm.ErrWrong},
			{"indicator 02", 0x20, tlv.Append(nil, 0x87, []byte{2}, block), sm.ErrWrong},
			{"indicator alone", 0x20, []byte{0x87, 0x01, 0x01}, sm.ErrWrong},
			{"no cryptogram", 0xB1, []byte{0x85, 0x00}, sm.ErrWrong},
			{"part of a block", 0x20, tlv.Append(nil, 0x87, []byte{1}, block[1:]), sm.ErrWrong},
			{"more than a block", 0xB1, tlv.Append(nil, 0x85, block, []byte{0}), sm.ErrWrong},
			{"no padding", 0x20, raw(bytes.Repeat([]byte{0x11}, size)), sm.ErrWrong},
			{"nothing but zeros", 0x20, raw(make([]byte, size)), sm.ErrWrong},
			{"padding longer than a block", 0x20, raw(twoBlocks), sm.ErrWrong},
			{"empty Le", 0x20, []byte{0x97, 0x00}, sm.ErrWrong},
			{"Le of three bytes", 0x20, []byte{0x97, 0x03, 0x00, 0x00, 0x00}, sm.ErrWrong},
		} {
			t.Run(s.String()+"/"+c.name, func(t *testing.T) {
				card, _ := open(t, s)
				got, after, err := card.Open(f.command(t, c.ins, c.objects))
				require.ErrorIs(t, err, c.want)
				require.Empty(t, got)
				require.False(t, after.Active())
				require.True(t, card.Active())
			})
		}
	}
}

// BER lets a length be longer than it needs to be; the checksum is over the
// objects as they came.
func TestOpen_TakesLongerLengths(t *testing.T) {
	t.Parallel()
	for _, s := range suites {
		f := newForger(t, s)
		short := append([]byte{1}, f.cryptogram(t, 1, f.padded([]byte("648219")))...)
		for _, objects := range [][]byte{
			join([]byte{0x87, 0x81, byte(len(short))}, short, []byte{0x97, 0x82, 0x00, 0x01, 0x00}),
			join([]byte{0x87, 0x83, 0x00, 0x00, byte(len(short))}, short, []byte{0x97, 0x84, 0x00, 0x00, 0x00, 0x01, 0x00}),
		} {
			card, _ := open(t, s)
			got, after, err := card.Open(f.command(t, 0x20, objects))
			require.NoError(t, err)
			require.True(t, after.Active())
			require.Equal(t, "648219", string(got.Data))
		}
	}
}

func TestOpen_RefusesWrongEnds(t *testing.T) {
	t.Parallel()
	f := newForger(t, sm.AES128)
	whole := f.command(t, 0x20, []byte{0x97, 0x01, 0x00})
	checksum := whole.Data[3:]
	for _, c := range []struct {
		name string
		data []byte
		want error
	}{
		{"nothing", nil, sm.ErrMissing},
		{"no checksum", whole.Data[:3], sm.ErrMissing},
		{"checksum without the Le it covers", checksum, sm.ErrWrong},
		{"object after the checksum", join(checksum, whole.Data[:3]), sm.ErrMissing},
		{"byte after the checksum", join(whole.Data, []byte{0x97}), sm.ErrMissing},
		{"last byte missing", whole.Data[:12], sm.ErrMissing},
		{"empty checksum", join(whole.Data[:3], []byte{0x8E, 0x00}), sm.ErrWrong},
		{"first half of the checksum", join(whole.Data[:3], tlv.Append(nil, 0x8E, checksum[2:6])), sm.ErrWrong},
		{"longer checksum", join(whole.Data[:3], tlv.Append(nil, 0x8E, checksum[2:], []byte{0})), sm.ErrWrong},
	} {
		t.Run(c.name, func(t *testing.T) {
			card, _ := open(t, sm.AES128)
			received := whole
			received.Data = c.data
			_, after, err := card.Open(received)
			require.ErrorIs(t, err, c.want)
			require.False(t, after.Active())
		})
	}
}

func TestOpen_TakesWhatClientsVary(t *testing.T) {
	t.Parallel()
	f := newForger(t, sm.AES128)
	padding := make([]byte, 16)
	padding[0] = 0x80
	empty := tlv.Append(nil, 0x87, []byte{1}, f.cryptogram(t, 1, padding))
	for _, c := range []struct {
		name     string
		objects  []byte
		outerNe  int
		ne       int
		extended bool
	}{
		{"case 1, which scsh sends", nil, 256, 0, false},
		{"case 2, which OpenSC sends instead", []byte{0x97, 0x01, 0x00}, 256, 256, false},
		{"no outer Le", []byte{0x97, 0x01, 0x04}, 0, 4, false},
		{"short Le in two bytes", []byte{0x97, 0x02, 0x00, 0x04}, 65536, 4, true},
		{"largest Le", []byte{0x97, 0x02, 0x00, 0x00}, 65536, 65536, true},
		{"data of no bytes", empty, 256, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			card, _ := open(t, sm.AES128)
			received := f.command(t, 0x20, c.objects)
			received.Ne = c.outerNe
			got, after, err := card.Open(received)
			require.NoError(t, err)
			require.True(t, after.Active())
			require.Empty(t, got.Data)
			got.Data = nil
			require.Equal(t, apdu.Command{INS: 0x20, P2: 0x81, Ne: c.ne, Extended: c.extended}, got)
		})
	}
}

func TestOpen_RefusesPlainCommands(t *testing.T) {
	t.Parallel()
	for _, class := range []byte{0x00, 0x04, 0x08, 0x80} {
		card, _ := open(t, sm.AES128)
		command, _ := exchange(0x20)
		command.CLA = class
		_, after, err := card.Open(command)
		require.ErrorIs(t, err, sm.ErrClass)
		require.False(t, after.Active())
	}
}

// The outer Le is the one field that the checksum does not cover.
func TestOpen_RefusesEveryFlippedBit(t *testing.T) {
	t.Parallel()
	for _, s := range suites {
		for _, ins := range []byte{0x20, 0xB1} {
			for _, ext := range []int{0, 300} {
				card, host := open(t, s)
				command, _ := exchange(ins)
				command.Ne += ext
				wrapped, _, err := host.Wrap(command)
				require.NoError(t, err)
				whole := wrapped.Bytes()
				le := 1
				if wrapped.Extended {
					le = 2
				}
				for bit := range 8 * (len(whole) - le) {
					b := bytes.Clone(whole)
					b[bit/8] ^= 1 << (bit % 8)
					refusesCommand(t, card, b, bit)
				}
				received, err := apdu.Parse(whole)
				require.NoError(t, err)
				_, _, err = card.Open(received)
				require.NoError(t, err)
			}
		}
	}
}

// refusesCommand takes it for a refusal too if b is no command at all.
func refusesCommand(t *testing.T, card sm.Channel, b []byte, bit int) {
	t.Helper()
	received, err := apdu.Parse(b)
	if err != nil {
		return
	}
	_, after, err := card.Open(received)
	require.Error(t, err, "bit %d", bit)
	require.False(t, after.Active())
}

func TestOpen_RefusesReplayAndReordering(t *testing.T) {
	t.Parallel()
	for _, s := range suites {
		t.Run(s.String(), func(t *testing.T) {
			card, host := open(t, s)
			command, answer := exchange(0x20)
			first, host, err := host.Wrap(command)
			require.NoError(t, err)
			_, card, err = card.Open(first)
			require.NoError(t, err)
			sealed, card, err := card.Seal(0x20, answer)
			require.NoError(t, err)
			_, host, err = host.Unwrap(sealed)
			require.NoError(t, err)

			_, _, err = card.Open(first)
			require.ErrorIs(t, err, sm.ErrWrong, "the first command again")

			second, host, err := host.Wrap(command)
			require.NoError(t, err)
			require.NotEqual(t, first, second)
			_, _, err = host.Unwrap(sealed)
			require.ErrorIs(t, err, sm.ErrWrong, "the first answer again")

			fresh, _ := open(t, s)
			_, _, err = fresh.Open(second)
			require.ErrorIs(t, err, sm.ErrWrong, "the second command before the first")
		})
	}
}

func TestChannel_KeepsTurns(t *testing.T) {
	t.Parallel()
	card, host := open(t, sm.AES128)
	command, answer := exchange(0x20)

	_, after, err := card.Seal(0x20, answer)
	require.ErrorIs(t, err, sm.ErrTurn)
	require.False(t, after.Active())
	_, hostAfter, err := host.Unwrap(answer)
	require.ErrorIs(t, err, sm.ErrTurn)
	require.False(t, hostAfter.Active())

	wrapped, host, err := host.Wrap(command)
	require.NoError(t, err)
	_, card, err = card.Open(wrapped)
	require.NoError(t, err)
	_, _, err = host.Wrap(command)
	require.ErrorIs(t, err, sm.ErrTurn)
	_, _, err = card.Open(wrapped)
	require.ErrorIs(t, err, sm.ErrTurn)
}

// A command that opens a channel is answered under the one before
// (SM-8).
func TestChannel_OldOneAnswersWhileNewOneIsMade(t *testing.T) {
	t.Parallel()
	device, terminal := parties(t)
	card, host := open(t, sm.TripleDES)
	wrapped, host, err := host.Wrap(sm.Present(terminal))
	require.NoError(t, err)
	plain, card, err := card.Open(wrapped)
	require.NoError(t, err)

	nonce := sm.Nonce{9, 9, 9}
	newCard, data, err := sm.AES256.Authenticate(device, nonce, plain.Data)
	require.NoError(t, err)
	sealed, _, err := card.Seal(plain.INS, apdu.Response{Data: data, SW: apdu.OK})
	require.NoError(t, err)
	answer, _, err := host.Unwrap(sealed)
	require.NoError(t, err)
	newHost, err := sm.AES256.Confirm(terminal, device.Public(), answer.Data)
	require.NoError(t, err)

	command, _ := exchange(0x20)
	wrapped, _, err = newHost.Wrap(command)
	require.NoError(t, err)
	got, _, err := newCard.Open(wrapped)
	require.NoError(t, err)
	require.Equal(t, command, got)
}

func TestSeal_RepeatsStatusWordInsideAndHasNoEmptyObject(t *testing.T) {
	t.Parallel()
	for _, sw := range []apdu.SW{apdu.OK, apdu.EndOfFile, apdu.TriesLeft(2), apdu.SecurityStatus, apdu.Internal} {
		card, host := open(t, sm.AES128)
		wrapped, _, err := host.Wrap(apdu.Command{INS: 0x20, P2: 0x81})
		require.NoError(t, err)
		_, card, err = card.Open(wrapped)
		require.NoError(t, err)
		sealed, _, err := card.Seal(0x20, apdu.Response{Data: []byte{}, SW: sw})
		require.NoError(t, err)
		require.Equal(t, sw, sealed.SW)
		list, err := tlv.Parse(sealed.Data)
		require.NoError(t, err)
		require.Len(t, list, 2)
		require.Equal(t, tlv.Tag(0x99), list[0].Tag)
		require.Equal(t, []byte{byte(sw >> 8), byte(sw)}, list[0].Value)
		require.Equal(t, tlv.Tag(0x8E), list[1].Tag)
		require.Len(t, list[1].Value, 8)
	}
}
