package apdu_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/apdu"
)

// The words of APDU-39 and what a reader of a message sees.
func TestSW_ValuesAndMeanings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		sw   apdu.SW
		text string
	}{
		{apdu.OK, "success (9000)"},
		{apdu.KeyAuthenticated, "success, key is authenticated (9001)"},
		{apdu.EndOfFile, "end of file reached (6282)"},
		{apdu.VerificationFailed, "verification failed (6300)"},
		{apdu.MemoryFailure, "memory failure (6581)"},
		{apdu.WrongLength, "wrong length (6700)"},
		{apdu.ChannelNotSupported, "logical channel not supported (6881)"},
		{apdu.SecurityStatus, "security status not satisfied (6982)"},
		{apdu.AuthenticationBlocked, "authentication method blocked (6983)"},
		{apdu.ReferenceDataNotUsable, "reference data not usable (6984)"},
		{apdu.ConditionsNotSatisfied, "conditions of use not satisfied (6985)"},
		{apdu.CommandNotAllowed, "command not allowed, no current file (6986)"},
		{apdu.MissingSMObject, "secure messaging object missing (6987)"},
		{apdu.WrongSMObject, "secure messaging object wrong (6988)"},
		{apdu.WrongData, "wrong data (6A80)"},
		{apdu.FunctionNotSupported, "function not supported (6A81)"},
		{apdu.NotFound, "file, key or application not found (6A82)"},
		{apdu.NotEnoughMemory, "not enough memory (6A84)"},
		{apdu.IncorrectP1P2, "incorrect P1 or P2 (6A86)"},
		{apdu.ReferenceNotFound, "referenced data not found (6A88)"},
		{apdu.AlreadyExists, "already exists or still in use (6A89)"},
		{apdu.WrongOffset, "wrong offset (6B00)"},
		{apdu.InstructionNotSupported, "instruction not supported (6D00)"},
		{apdu.ClassNotSupported, "class not supported (6E00)"},
		{apdu.Internal, "internal error (6F00)"},
		{apdu.KeyTypeNotSupported, "algorithm of a key not supported (9484)"},
		{apdu.WrongKeyCheckValue, "key check value wrong (9485)"},
		{apdu.TriesLeft(3), "verification failed, 3 tries left (63C3)"},
		{apdu.TriesLeft(1), "verification failed, 1 try left (63C1)"},
		{apdu.TriesLeft(0), "verification failed, 0 tries left (63C0)"},
		// Words this card does not say, but a reader may meet.
		{0x6110, "more response data is waiting (6110)"},
		{0x6200, "warning, nothing was changed (6200)"},
		{0x6381, "warning, something was changed (6381)"},
		{0x6400, "execution failed, nothing was changed (6400)"},
		{0x6500, "execution failed, something was changed (6500)"},
		{0x6884, "function of the class byte not supported (6884)"},
		{0x6900, "command not allowed (6900)"},
		{0x6A87, "wrong parameters (6A87)"},
		{0x6C10, "wrong expected length (6C10)"},
		{0x1234, "unknown status word (1234)"},
	} {
		require.Equal(t, c.text, c.sw.Error())
		require.Contains(t, c.text, "("+c.sw.String()+")")
	}
}

func TestSW_TriesAreOneNibble(t *testing.T) {
	t.Parallel()
	for n := range 16 {
		sw := apdu.TriesLeft(n)
		require.Equal(t, apdu.SW(0x63C0+n), sw)
		got, ok := sw.Tries()
		require.True(t, ok)
		require.Equal(t, n, got)
	}
	require.Equal(t, apdu.SW(0x63CF), apdu.TriesLeft(99))
	require.Equal(t, apdu.SW(0x63C0), apdu.TriesLeft(-1))
	for _, sw := range []apdu.SW{apdu.OK, apdu.VerificationFailed, 0x63BF, 0x63D0, 0x62C3} {
		_, ok := sw.Tries()
		require.False(t, ok, sw.String())
	}
}

func TestSW_TravelsAsError(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("verify: %w", apdu.TriesLeft(2))
	require.ErrorIs(t, err, apdu.SW(0x63C2))
	var sw apdu.SW
	require.True(t, errors.As(err, &sw))
	require.Equal(t, "63C2", sw.String())
	require.Equal(t, "verify: verification failed, 2 tries left (63C2)", err.Error())
}
