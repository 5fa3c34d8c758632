package site_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/cvc"
	"hsmemu/emulator/chiptest"
	"hsmemu/emulator/portal/site"
	"hsmemu/emulator/ram"
	"hsmemu/keystore/curve"
)

// below makes a device of a card below another root, which it returns.
func below(t *testing.T, c *chiptest.Card) cvc.Roots {
	t.Helper()
	on, _ := curve.ByName("brainpoolP256r1")
	key := func(seed string) *curve.Private {
		k, err := on.Generate(chiptest.Seeded(seed))
		require.NoError(t, err)
		return k
	}
	day := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	root, err := cvc.NewRoot(key("root"), "XXDEVROOT00001", day, nil)
	require.NoError(t, err)
	issuer, err := root.NewIssuer(key("issuer"), "XXDEVICA00001", day, nil)
	require.NoError(t, err)
	d := &c.State.Applet.Durable
	chain, err := cvc.ParseChain(d.Files[0].Data)
	require.NoError(t, err)
	verified, err := chain.Verify(cvc.EmulatorRoots())
	require.NoError(t, err)
	public, err := verified.DeviceKey().EC()
	require.NoError(t, err)
	d.Files[0].Data, err = issuer.IssueDevice(public, chain.Device.CHR, day, nil)
	require.NoError(t, err)
	return cvc.Roots{root.Certificate}
}

// Devices for developers log in where the portal's owner allows it, and nothing is loaded
// onto them.
func TestPortal_DevelopmentDevices(t *testing.T) {
	t.Parallel()
	require.Len(t, site.DevelopmentRoots(), 1)
	require.Equal(t, cvc.Name("UTSRCACC100001"), site.DevelopmentRoots()[0].CHR)
	device := made(t, "3.5", 95001)
	roots := below(t, device)

	strict := open(t).person()
	at := ramURL.FindString(strict.post("/se/begin").text)
	require.Error(t, (&ram.Agent{Card: device.Copy()}).Run(t.Context(), at))
	require.Contains(t, strict.get("/se/paas").text, "Waiting for a card")

	p := openWith(t, site.Options{Development: roots}).person()
	at = ramURL.FindString(p.post("/se/begin").text)
	require.NoError(t, (&ram.Agent{Card: device.Copy()}).Run(t.Context(), at))
	require.Contains(t, p.get("/se/paas").text, "/XXDEVROOT/XXDEVICA/")
	p = p.portal.person()
	p.register(card(t, "DENK0000001", "4.1"), "owner@example.org") // the emulator's own still do
	r := p.post("/se/requests", "type", "FirmwareUpdate")
	at = ramURL.FindString(p.post(r.path, "action", "Submit", "token", "0").text)
	before := device.Durable().Serial()
	err := (&ram.Agent{Card: device}).Run(t.Context(), at)
	require.Error(t, err)
	require.Equal(t, before, device.Durable().Serial())
	require.Equal(t, "3.5", device.Durable().Firmware)
	require.Equal(t, 0, p.count("SELECT COUNT(*) FROM devices")+p.count("SELECT COUNT(*) FROM requests WHERE state IN ('Running', 'Completed')"))
}
