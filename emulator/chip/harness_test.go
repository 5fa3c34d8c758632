package chip_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/apdu"
	"hsmemu/applet/cvc"
	"hsmemu/applet/tlv"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/chiptest"
	"hsmemu/emulator/conform"
	"hsmemu/keystore/curve"
	"hsmemu/vsmartcard"
)

// card is a chip with somebody who talks to it.
type card struct{ *chiptest.Card }

func manufacture(t require.TestingT, firmware, name string) card {
	c, err := chiptest.Manufacture(firmware, name)
	require.NoError(t, err)
	return card{c}
}

// boot is a card from what was kept of it, in a world of its own.
func boot(d chip.Durable, seed string) card {
	return card{&chiptest.Card{Env: chiptest.World(seed), State: chip.Boot(d)}}
}

// send gives the card a command.
func (c card) send(command apdu.Command) apdu.Response {
	r, _ := apdu.ParseResponse(c.Step(command.Bytes()))
	return r
}

// ok gives the card a command that it must not refuse.
func (c card) ok(t require.TestingT, command apdu.Command) []byte {
	r := c.send(command)
	require.Equal(t, apdu.OK, r.SW, c.Result.Event.String())
	return r.Data
}

func (c card) cut() { c.State = chip.Boot(c.State.Durable()) }

// play plays a script with this card as the only one.
func (c card) play(t *testing.T, script string) {
	t.Helper()
	s, err := conform.Parse("card A\n" + script)
	require.NoError(t, err)
	p := conform.NewPlayer(func(string, string) (vsmartcard.Card, error) { return c.Card, nil })
	require.NoError(t, p.Play(t.Context(), s))
}

func lines(l ...string) string { return strings.Join(l, "\n") }

// The commands that tests need most.
var selectApplication = apdu.Command{INS: 0xA4, P1: 0x04, P2: 0x0C, Data: []byte(apdu.AID)}

const (
	userPIN = "648219"
	soPIN   = "57621880"
)

func verify(reference byte, pin string) apdu.Command {
	return apdu.Command{INS: 0x20, P2: reference, Data: []byte(pin)}
}

// setup is INITIALIZE DEVICE with further objects.
func setup(options uint16, pin, so string, tries byte, more ...[]byte) apdu.Command {
	data := tlv.Append(nil, 0x80, []byte{byte(options >> 8), byte(options)})
	if pin != "" {
		data = tlv.Append(data, 0x81, []byte(pin))
		data = tlv.Append(data, 0x91, []byte{tries})
	}
	data = tlv.Append(data, 0x82, []byte(so))
	for _, m := range more {
		data = append(data, m...)
	}
	return apdu.Command{CLA: 0x80, INS: 0x50, Data: data}
}

// generate is GENERATE ASYMMETRIC KEY PAIR on a curve, with further objects.
func generate(id byte, name string, more ...[]byte) apdu.Command {
	c, _ := curve.ByName(name)
	return generation(id, cvc.ECTemplate(cvc.ECDSASHA256, c), more...)
}

func generateRSA(id byte, bits int, more ...[]byte) apdu.Command {
	return generation(id, cvc.RSATemplate(cvc.RSASHA256, bits), more...)
}

func generation(id byte, template []byte, more ...[]byte) apdu.Command {
	data := tlv.Append(nil, 0x42, []byte("UTCA00001"))
	data = append(data, template...)
	data = tlv.Append(data, 0x5F20, fmt.Appendf(nil, "UTKEY%02X00001", id))
	for _, m := range more {
		data = append(data, m...)
	}
	return apdu.Command{INS: 0x46, P1: id, Data: data, Ne: 65536, Extended: true}
}

func write(id uint16, offset int, data []byte) apdu.Command {
	body := tlv.Append(nil, 0x54, []byte{byte(offset >> 8), byte(offset)})
	return apdu.Command{INS: 0xD7, P1: byte(id >> 8), P2: byte(id), Data: tlv.Append(body, 0x53, data)}
}

func stored(t require.TestingT, d any) string {
	form, err := chiptest.Stored(d)
	require.NoError(t, err)
	return form
}
