package cvc_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/cvc"
	"hsmemu/applet/tlv"
)

// Evidence for two keys is no evidence: the good one would vouch for the other.
func TestEvidence_IsForOneKey(t *testing.T) {
	certificate, request := tlv.Append(nil, 0x7F21, []byte{1}), tlv.Append(nil, 0x67, []byte{1})
	var e cvc.Evidence
	require.NoError(t, e.Add(append(certificate, certificate...)))
	require.NoError(t, e.Add(append(request, certificate...)), "certificates may come in any order")
	require.Len(t, e.Chain, 3*len(certificate))
	require.ErrorIs(t, e.Add(request), cvc.ErrStructure)
	require.ErrorIs(t, e.Add([]byte{0x30, 0x00}), cvc.ErrStructure)
	require.ErrorIs(t, (&cvc.Evidence{}).Add([]byte{0x04, 0x00}), cvc.ErrStructure)
	require.ErrorIs(t, (&cvc.Evidence{}).Add([]byte{0x67}), cvc.ErrStructure)
}

// A file may hold the bytes, or hexadecimal digits in lines.
func TestEvidence_IsReadInDigits(t *testing.T) {
	certificate := tlv.Append(nil, 0x7F21, []byte{1})
	for _, file := range []string{string(certificate), "7F21 01\r\n\t01\n", "7f210101"} {
		var e cvc.Evidence
		require.NoError(t, e.Add([]byte(file)))
		require.Equal(t, certificate, e.Chain)
	}
	require.ErrorIs(t, (&cvc.Evidence{}).Add([]byte(" \n")), cvc.ErrStructure)
	root := cvc.EmulatorRoot().Certificate
	roots, err := cvc.ParseRoots([]byte(fmt.Sprintf("%X\n%X\n", root.Raw, root.Raw)))
	require.NoError(t, err)
	require.Len(t, roots, 2)
}
