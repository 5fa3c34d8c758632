package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Where programs speak to the system's own PC/SC service and not to pcsc-lite, a
// private daemon would wait for clients that never come.
func TestNeedPCSCLite(t *testing.T) {
	t.Parallel()
	for _, system := range []string{"linux", "freebsd", "openbsd"} {
		require.NoError(t, needPCSCLite("exec", system))
	}
	for system, says := range map[string]string{
		"darwin":  "run needs programs that use pcsc-lite, as on Linux and FreeBSD: those of macOS speak to its own smart-card service",
		"windows": "run needs programs that use pcsc-lite, as on Linux and FreeBSD: those of Windows speak to its own smart-card service",
	} {
		message, hint := explained(needPCSCLite("run", system))
		require.Equal(t, says, message)
		require.Contains(t, hint, "--vpcd")
	}
}
