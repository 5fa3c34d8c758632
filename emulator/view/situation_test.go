package view_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/chip"
	"hsmemu/emulator/chiptest"
	"hsmemu/emulator/view"
)

// What is said of a card is what is then shown of it.
func TestSituation_IsShownAsItWasSaid(t *testing.T) {
	t.Parallel()
	for said, shown := range map[string]string{
		"so=7,user=2,options=0001":                   "operational 0001 so 7/15 user 2/3",
		"so=0,user=0":                                "user-pin-blocked 0001 so 0/15 user 0/3",
		"user=4/5":                                   "operational 0001 so 15/15 user 4/5",
		"options=0003":                               "transport-pin 0003 so 15/15 user 3/3",
		"options=0003,state=operational,user=1":      "operational 0003 so 15/15 user 1/3",
		"state=transport-pin":                        "transport-pin 0003 so 15/15 user 3/3",
		"state=transport-pin-blocked":                "transport-pin-blocked 0003 so 15/15 user 0/3",
		"state=user-pin-blocked,so=1,firmware=3.4":   "user-pin-blocked 0001 so 1/15 user 0/3",
		"user=none,pka=2/3":                          "public-keys-only 0001 so 15/15 user unset pka 2/3",
		"state=public-keys-only,pka=1/1":             "public-keys-only 0001 so 15/15 user unset pka 1/1",
		"state=uninitialised":                        "uninitialised 0000 so unset user unset",
		"options=001B,pka=1/2,shares=2,firmware=1.2": "transport-pin 001B so 15/15 user 3/3 pka 1/2 dkek 2 of 2",
		"domains=4":                                  "operational 0001 so 15/15 user 3/3 empty empty empty empty",
	} {
		s, firmware, err := view.ParseSituation(strings.Split(said, ","))
		require.NoError(t, err, said)
		d, err := chip.Manufacture(chiptest.World("said"), chip.Order{Firmware: firmware, Like: &s})
		require.NoError(t, err, said)
		require.NoError(t, d.Check(), said)
		require.Equal(t, shown, shortly(view.Of("x", d, "none", 1)), said)
		if firmware != "" {
			require.Equal(t, firmware, d.Applet.Firmware)
		}
	}
}

func shortly(c view.Card) string {
	pin := func(p *view.PIN) string {
		if p.Tries == nil {
			return "unset"
		}
		return fmt.Sprintf("%d/%d", *p.TriesLeft, *p.Tries)
	}
	text := fmt.Sprintf("%s %s so %s user %s", *c.State, *c.OptionsHex, pin(c.SOPIN), pin(c.UserPIN))
	if k := c.PublicKeys; k != nil {
		text += fmt.Sprintf(" pka %d/%d", k.Required, k.Total)
	}
	for _, d := range c.KeyDomains {
		text += " " + string(d.Kind)
		if d.Shares != nil {
			text += fmt.Sprintf(" %d of %d", *d.Missing, *d.Shares)
		}
	}
	return text
}

// What cannot be said is refused with what can.
func TestSituation_Refused(t *testing.T) {
	t.Parallel()
	for said, why := range map[string]string{
		"so=16":                            "so: a number from 0 to 15",
		"user=4":                           "user: a user PIN has 3 tries unless more are stated, as in user=4/5",
		"user=4/3":                         "user: more tries left than there are",
		"sso=7":                            `there is no word "sso", did you mean so? (there are firmware, options, so, user, pka, shares, domains, state)`,
		"user_pin=1":                       `there is no word "user_pin", did you mean user?`,
		"colour=1":                         `there is no word "colour" (there are`,
		"user=731946":                      "user: a number from 0 to 10",
		"731946":                           "there is no such word (there are",
		"so":                               "so wants a value",
		"so=1,so=2":                        "so is said twice",
		"options=1":                        "options: four hexadecimal digits",
		"pka=3/2":                          "pka: how many of how many",
		"state=blocked":                    "state: one of",
		"state=operationl":                 "did you mean operational?",
		"state=operational,user=0":         "contradicts",
		"state=user-pin-blocked,user=2":    "contradicts",
		"state=public-keys-only,user=2":    "contradicts",
		"state=transport-pin,options=0001": "takes option 0002",
		"state=uninitialised,so=7":         "a card as shipped has no PINs",
	} {
		_, _, err := view.ParseSituation(strings.Split(said, ","))
		require.ErrorContains(t, err, why, said)
		require.NotContains(t, err.Error(), "731946")
	}
}
