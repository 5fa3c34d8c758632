package docs_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The tables of docs/json.md are made from the schema.
func TestDocs_JSONListsEveryMember(t *testing.T) {
	text, err := os.ReadFile("hsmemu.schema.json")
	require.NoError(t, err)
	type member struct {
		Name        string
		Const       any
		Description string
	}
	var b strings.Builder
	var commands strings.Builder
	commands.WriteString("\n| Command | Definition |\n|---|---|\n")
	for _, d := range inOrder(t, inOrder(t, text).of("$defs")) {
		var def struct {
			Type, Description string
			OneOf             []member
			Properties        json.RawMessage
		}
		require.NoError(t, json.Unmarshal(d.value, &def))
		switch {
		case def.OneOf != nil:
			fmt.Fprintf(&b, "\n### %s\n\n%s\n\n| Word | Meaning |\n|---|---|\n", d.name, def.Description)
			for _, w := range def.OneOf {
				fmt.Fprintf(&b, "| `%s` | %s |\n", w.Const, w.Description)
			}
		case def.Properties != nil:
			fmt.Fprintf(&b, "\n### %s\n\n%s\n\n| Member | Value | What it is |\n|---|---|---|\n", d.name, def.Description)
			for _, p := range inOrder(t, def.Properties) {
				fmt.Fprintf(&b, "| `%s` | %s | %s |\n", p.name, valueWords(t, p.value), p.description(t))
			}
		default:
			fmt.Fprintf(&commands, "| `%s` | `%s` |\n", def.Description, d.name)
		}
	}
	commands.WriteString("\n")
	b.WriteString("\n")
	generated(t, "json.md", "commands", commands.String())
	generated(t, "json.md", "members", b.String())
}

// named is a member of a JSON object.
type named struct {
	name  string
	value json.RawMessage
}

func (n named) description(t *testing.T) string {
	t.Helper()
	var d struct{ Description string }
	require.NoError(t, json.Unmarshal(n.value, &d))
	require.NotEmpty(t, d.Description, n.name)
	return d.Description
}

type members []named

func (m members) of(name string) json.RawMessage {
	for _, one := range m {
		if one.name == name {
			return one.value
		}
	}
	return nil
}

// inOrder are the members of an object in the order in which they stand.
func inOrder(t *testing.T, object json.RawMessage) members {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(object))
	_, err := d.Token()
	require.NoError(t, err)
	var all members
	for d.More() {
		name, err := d.Token()
		require.NoError(t, err)
		var value json.RawMessage
		require.NoError(t, d.Decode(&value))
		all = append(all, named{name.(string), value})
	}
	return all
}

// valueWords says what a member may be: its types, or the definition that it has.
func valueWords(t *testing.T, schema json.RawMessage) string {
	t.Helper()
	var s struct {
		Ref   string `json:"$ref"`
		Type  any
		Const any
		AnyOf []json.RawMessage
		Items json.RawMessage
	}
	require.NoError(t, json.Unmarshal(schema, &s))
	var words []string
	switch types := s.Type.(type) {
	case string:
		words = append(words, types)
	case []any:
		for _, one := range types {
			words = append(words, one.(string))
		}
	}
	if s.Ref != "" {
		name := strings.TrimPrefix(s.Ref, "#/$defs/")
		words = append(words, fmt.Sprintf("[%s](#%s)", name, name))
	}
	if s.Const != nil {
		words = append(words, fmt.Sprint(s.Const))
	}
	for _, one := range s.AnyOf {
		words = append(words, valueWords(t, one))
	}
	if s.Items != nil {
		words[0] += " of " + valueWords(t, s.Items)
	}
	return strings.Join(words, " or ")
}
