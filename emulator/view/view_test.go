package view_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"hsmemu/applet"
	"hsmemu/applet/pkcs15"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/conform"
	"hsmemu/emulator/scp03"
	"hsmemu/emulator/view"
	"hsmemu/pinstate"
)

// full is a card with every kind of content.
func full(t *testing.T) chip.Durable {
	t.Helper()
	text, err := os.ReadFile("../chip/testdata/golden/card-2.json")
	require.NoError(t, err)
	var d chip.Durable
	require.NoError(t, json.Unmarshal(text, &d))
	return d
}

// filled is a card with a file in every place for which there is a word.
func filled(t *testing.T) chip.Durable {
	t.Helper()
	d := full(t)
	d.Applet.Files = d.Applet.Files[:1] // the device certificate
	for _, id := range []uint16{0x2F03, 0x2F10, 0xC802, 0xC902, 0xCA02, 0xCB02, 0xCD02, 0xCF02} {
		d.Applet.Files = append(d.Applet.Files, applet.File{ID: id})
	}
	described := pkcs15.Key{Kind: pkcs15.RSA, Label: "sign\xFFing", ID: []byte{0xAB, 1}, Usage: pkcs15.UsageRSA, Bits: 2048}
	d.Applet.Files = append(d.Applet.Files,
		applet.File{ID: 0xC401, Data: described.Bytes()}, applet.File{ID: 0xC402, Data: []byte("no description")},
		applet.File{ID: 0xCE01, Data: []byte{0x67, 0}}, applet.File{ID: 0xCE02, Data: []byte{0x30, 0}})
	return d
}

// pinned is a card of every life cycle, with every counter and combination of options.
func pinned(t *testing.T) []chip.Durable {
	t.Helper()
	bare, secret := full(t), pinstate.Value("648219")
	bare.Applet.Keys, bare.Applet.Files, bare.Applet.Domains = nil, nil, nil
	var all []chip.Durable
	for options := range pinstate.Options(0x80) { // one bit more than there are names
		for so := range uint8(3) {
			for user := range uint8(3) {
				for _, transport := range []bool{false, true} {
					d := bare
					d.Applet.PINs = pinstate.Card{
						Initialised: true, Options: options, Transport: transport,
						SO: pinstate.Reference{Value: secret, Left: so, Max: 15}, User: pinstate.Reference{Value: secret, Left: user, Max: 3},
					}
					all = append(all, d)
				}
			}
		}
	}
	keysOnly, blank := all[len(all)-2], all[0]
	keysOnly.Applet.PINs.User = pinstate.Reference{}
	keysOnly.Applet.PINs.Keys = pinstate.KeyPolicy{Total: 2, Required: 1}
	blank.Applet.PINs = pinstate.Card{}
	return append(all, keysOnly, blank)
}

// cards are as different as they come.
func cards(t *testing.T) []view.Card {
	t.Helper()
	var all []view.Card
	for _, d := range append(pinned(t), full(t), filled(t)) {
		all = append(all, view.Of("lab", d, "none", 1))
	}
	d := filled(t)
	s := chip.Boot(d)
	all = append(all, view.Of("lab", d, "tpm", 1<<63).Runs(7, "reader 0", false, s))
	s.Selected = true
	all = append(all, view.Of("lab", d, "passphrase", 2).Runs(7, "reader 0", true, s))
	s.Applet.Login.SO = true
	all = append(all, view.Of("lab", d, "tpm", 3).Runs(7, "reader 0", false, s))
	s.Applet.Login.User = true
	all = append(all, view.Of("lab", d, "tpm", 3).Runs(7, "reader 0", false, s))
	for _, reason := range []view.Reason{view.OlderThanCounter, view.NewerThanCounter, view.CounterGone, view.CounterFailed} {
		c := view.Of("lab", d, "tpm", 3)
		c.Refused = &view.Refusal{Reason: reason, Text: "in words"}
		all = append(all, c)
	}
	blank := full(t)
	blank.Manager.Stage = chip.Empty
	blank.Manager.KeySets = []chip.KeySet{
		{Version: chip.TransportVersion, Keys: scp03.NewKeys(chip.MasterKey, chip.MasterKey, chip.MasterKey)},
		{Version: 0x7F, Keys: scp03.NewKeys([16]byte{}, [16]byte{}, [16]byte{})},
	}
	all = append(all, view.Of("raw", blank, "none", 1))
	return append(all, view.Closed("lab", "passphrase", 3), view.Broken("lab", "no card"))
}

const schemaFile = "../../docs/hsmemu.schema.json"

// schema is docs/hsmemu.schema.json as JSON, and its definition of a card. What
// the schema does not name is an error here, though not for its readers.
func schema(t *testing.T) (map[string]any, *jsonschema.Schema) {
	t.Helper()
	text, err := os.ReadFile(schemaFile)
	require.NoError(t, err)
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	require.NoError(t, err)
	defs := doc.(map[string]any)["$defs"].(map[string]any)
	for name, d := range defs {
		if d := d.(map[string]any); d["type"] == "object" {
			members := slices.Sorted(maps.Keys(d["properties"].(map[string]any)))
			var required []string
			for _, r := range d["required"].([]any) {
				required = append(required, r.(string))
			}
			slices.Sort(required)
			require.Equal(t, members, required, "%s: a member that may be absent", name)
			d["additionalProperties"] = false
		}
	}
	c := jsonschema.NewCompiler()
	require.NoError(t, c.AddResource("strict.json", doc))
	card, err := c.Compile("strict.json#/$defs/card")
	require.NoError(t, err)
	return defs, card
}

func TestCard_FitsTheSchema(t *testing.T) {
	_, card := schema(t)
	for _, c := range cards(t) {
		text, err := json.Marshal(c)
		require.NoError(t, err)
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		require.NoError(t, err)
		require.NoError(t, card.Validate(value), "%s", text)
		var back view.Card
		require.NoError(t, json.Unmarshal(text, &back))
		require.Equal(t, c, back)
	}
}

// A word of the schema that no card has is one that nobody can rely on.
func TestCard_EveryWordOfTheSchemaComesUp(t *testing.T) {
	defs, _ := schema(t)
	used := map[string]bool{}
	use := func(enum string, words ...any) {
		for _, w := range words {
			used[fmt.Sprint(enum, " ", w)] = true
		}
	}
	for _, c := range cards(t) {
		if c.Seal != nil {
			use("seal", *c.Seal)
		}
		if c.State != nil {
			use("state", *c.State)
			for _, p := range []*view.PIN{c.SOPIN, c.UserPIN} {
				use("pin-state", p.State)
				use("next-wrong", p.NextWrong)
				if p.Unblock != nil {
					use("unblock", *p.Unblock)
				}
			}
		}
		for _, o := range c.Options {
			use("option", o)
		}
		for _, k := range c.Keys {
			use("key-kind", k.Kind)
		}
		for _, f := range c.Files {
			use("content", f.Holds)
		}
		for _, d := range c.KeyDomains {
			use("domain-kind", d.Kind)
		}
		for _, s := range c.ManagerKeys {
			use("key-origin", s.Origin)
		}
		if c.Refused != nil {
			use("refusal-reason", c.Refused.Reason)
		}
		if c.Running != nil {
			use("session", c.Running.Session)
		}
	}
	for _, a := range attested() {
		use("origin", a.Origin)
	}
	use("event-kind", view.Command, view.Reset, view.Eject, view.Insert, view.Restore, view.FaultSet, view.Struck, view.CutShort)
	use("verdict", conform.Held, conform.Broken, conform.Differs, conform.Review, conform.NotJudged)
	known := map[string]bool{}
	for name, d := range defs {
		words, _ := d.(map[string]any)["oneOf"].([]any)
		for _, w := range words {
			known[fmt.Sprint(name, " ", w.(map[string]any)["const"])] = true
		}
	}
	require.Equal(t, known, used)
}

func TestCard_WhatIsNotKnownIsNull(t *testing.T) {
	for name, c := range map[string]struct {
		card  view.Card
		known []string
	}{
		"closed": {view.Closed("lab", "tpm", 3), []string{"generation", "name", "schema", "seal"}},
		"broken": {view.Broken("lab", "no card"), []string{"name", "refused", "schema"}},
	} {
		text, err := json.Marshal(c.card)
		require.NoError(t, err)
		var members map[string]any
		require.NoError(t, json.Unmarshal(text, &members))
		require.Len(t, members, 27, "%s: null is written", name)
		maps.DeleteFunc(members, func(_ string, v any) bool { return v == nil })
		require.Equal(t, c.known, slices.Sorted(maps.Keys(members)), name)
	}
}

func TestKey_HasReferenceAndPKCS11ID(t *testing.T) {
	keys := view.Of("lab", filled(t), "none", 1).Keys
	require.Equal(t, 1, keys[0].Reference)
	require.Equal(t, "AB01", *keys[0].ID)
	require.Equal(t, "sign\uFFFDing", *keys[0].Label)
	require.Equal(t, 2, keys[1].Reference)
	require.Nil(t, keys[1].ID, "its file holds no description")
	require.Nil(t, keys[1].Label)
	require.Nil(t, keys[2].Algorithms, "no list is no limit")
	require.NotNil(t, keys[1].Algorithms)
	require.Empty(t, keys[1].Algorithms, "an empty list allows nothing")
}

// Every option that pinstate has a name for is one that programs can find.
func TestOptions_HaveAllTheirWords(t *testing.T) {
	for bit := range 16 {
		d := full(t)
		d.Applet.PINs.Options = 1 << bit
		named := !strings.Contains(d.Applet.PINs.Options.String(), "unknown")
		c := view.Of("lab", d, "none", 1)
		require.Equal(t, named, len(c.Options) == 1, "option %04X", 1<<bit)
		require.Equal(t, fmt.Sprintf("%04X", 1<<bit), *c.OptionsHex)
	}
}
