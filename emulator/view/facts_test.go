package view_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/cvc"
	"hsmemu/emulator/view"
)

// attested is a chain for each kind of root there is.
func attested() []view.Attestation {
	all := []view.Attestation{view.AttestationOf(cvc.Verified{}, nil, time.Time{})}
	for _, root := range cvc.KnownRoots() {
		all = append(all, view.AttestationOf(cvc.Verified{Root: root}, nil, time.Time{}))
	}
	return all
}

func TestFaultOf_TakesSettingsApart(t *testing.T) {
	require.Equal(t, view.Fault{Schema: 1, Name: "cut", Settings: []string{"bytes=500"}}, view.FaultOf("cut bytes=500"))
	require.Equal(t, view.Fault{Schema: 1, Name: "atr", Settings: []string{}}, view.FaultOf("atr"))
	require.Equal(t, []string{"realistic", "sign=1s"}, view.FaultOf("slow realistic sign=1s").Settings)
}

func TestExchange_IsJudgedByItsStatusWord(t *testing.T) {
	for _, c := range []struct {
		answer []byte
		want   string
		is     bool
	}{
		{[]byte{0x90, 0x00}, "9000", true},
		{[]byte{0x63, 0xC2}, "63cx", true},
		{[]byte{1, 2, 0x61, 0x10}, "61XX", true},
		{[]byte{0x63, 0xC2}, "63C3", false},
		{[]byte{0x63, 0xC2}, "64CX", false},
		{[]byte{0x90}, "XXXX", false},
		{nil, "XXXX", false},
	} {
		x := view.ExchangeOf([]byte{0, 0x20}, c.answer, nil)
		require.True(t, x.IsExpected(), "nothing was expected")
		p, err := view.Pattern(c.want)
		require.NoError(t, err)
		x.Expected = &p
		require.Equal(t, c.is, x.IsExpected(), "%X, %s", c.answer, c.want)
	}
	for _, wrong := range []string{"", "900", "90000", "900G", "0x9000"} {
		_, err := view.Pattern(wrong)
		require.Error(t, err, wrong)
	}
}

func TestExchange_Words(t *testing.T) {
	require.Equal(t, "> 0020\n< 01029000\n  no account of this command: the card did not see it, or failed in it\n",
		view.ExchangeOf([]byte{0, 0x20}, []byte{1, 2, 0x90, 0}, nil).Words())
	require.Equal(t, "> 00\n< 90\n  no account of this command: the card did not see it, or failed in it\n", view.ExchangeOf([]byte{0}, []byte{0x90}, nil).Words())
}

func TestExpectations(t *testing.T) {
	e, err := view.ParseExpectations([]string{"9000", "63cx"})
	require.NoError(t, err)
	for number, want := range map[int]string{1: "9000", 2: "63CX", 3: "63CX"} {
		require.Equal(t, want, *e.Of(number))
	}
	require.EqualError(t, e.Told(1), "2 answers expected, and only 1 command")
	require.NoError(t, e.Told(2))
	require.NoError(t, e.Told(3))
	none, err := view.ParseExpectations(nil)
	require.NoError(t, err)
	require.Nil(t, none.Of(1))
	_, err = view.ParseExpectations([]string{"9000", "ok"})
	require.ErrorContains(t, err, "no status word")
}
