package capability_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/capability"
)

// Programs of macOS and Windows use the service of the system; pcsc-lite is the one of
// the others.
func TestCheck(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"exec", "run", "lesson", "conform client"} {
		for _, system := range []string{"linux", "freebsd", "openbsd"} {
			require.NoError(t, capability.Check(command, system))
		}
		for system, name := range map[string]string{"darwin": "macOS", "windows": "Windows"} {
			err := capability.Check(command, system)
			require.ErrorIs(t, err, capability.ErrOwnService)
			require.EqualError(t, err, command+" needs programs that use pcsc-lite, as on Linux and FreeBSD: those of "+name+" speak to its own smart-card service")
		}
	}
	require.NoError(t, capability.Check("card new", "darwin"), "a part of it, by a flag")
	require.NoError(t, capability.Check("conform", "darwin"))
}
