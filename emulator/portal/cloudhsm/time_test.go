package cloudhsm_test

import (
	"crypto/sha256"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/client"
	"hsmemu/emulator/portal/cloudhsm"
	"hsmemu/emulator/ram"
)

// An HSM that nobody asks anything stays for hours, and one whose client dies during a
// signature is given up after a minute.
func TestService_Time(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		house := newHouse(t, cloudhsm.Config{})
		forever := make(chan struct{})
		dies := false
		card := breaking{newCard(t, "hours", ec(1, "secp256r1", client.KeySpec{})), func() error {
			if dies {
				<-forever
			}
			return nil
		}}
		house.connect(t.Context(), card, "/rt/hsm")
		synctest.Wait()
		p := newProgram(t, house.service)
		sum := sha256.Sum256(nil)
		time.Sleep(5 * time.Hour)
		status, _ := p.sign(t, "keys/A001", sum[:], "ECDSA")
		require.Equal(t, http.StatusOK, status)
		dies = true
		start := time.Now()
		status, _ = p.sign(t, "keys/A001", sum[:], "ECDSA")
		require.Equal(t, http.StatusServiceUnavailable, status)
		require.LessOrEqual(t, time.Since(start), ram.IdleTime)
		require.ErrorIs(t, <-house.ended, ram.ErrIdle)
		require.Empty(t, house.service.Connections())
		close(forever)
		require.NoError(t, house.server.Close())
	})
}
