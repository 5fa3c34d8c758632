//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"hsmemu/cmd/hsmemu/commandline"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

// outputs is docs/hsmemu.schema.json: what commands print with --json.
type outputs struct {
	defs map[string]json.RawMessage
	fits string // the program in testdata/fits
}

// schemaFile is where the schema is.
var schemaFile = filepath.Join("..", "..", "docs", "hsmemu.schema.json")

// readOutputs reads the schema.
func readOutputs() (*outputs, error) {
	text, err := os.ReadFile(schemaFile)
	if err != nil {
		return nil, err
	}
	var schema struct {
		Defs map[string]json.RawMessage `json:"$defs"`
	}
	if err := json.Unmarshal(text, &schema); err != nil {
		return nil, err
	}
	program, err := buildFits()
	return &outputs{schema.Defs, program}, err
}

// buildFits compiles testdata/fits once, beside the hsmemu that the tests start.
var buildFits = sync.OnceValues(func() (string, error) {
	program, err := exec.LookPath("hsmemu")
	if err != nil {
		return "", err
	}
	program = filepath.Join(filepath.Dir(program), "fits")
	if said, err := exec.Command("go", "build", "-o", program, "./testdata/fits").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build testdata/fits: %w: %s", err, said)
	}
	return program, nil
})

var errNoDefinition = errors.New("docs/hsmemu.schema.json has no such definition")

// definition is where the schema defines what a command prints, as card-show is
// for "card show".
func definition(command string) string { return strings.ReplaceAll(command, " ", "-") }

// lines are the definitions of which a command prints a document in each line.
var lines = []string{"apdu", "trace"}

// check compares what a command has printed with its definition.
func (o *outputs) check(definition, printed string) error {
	if o.defs[definition] == nil {
		return fmt.Errorf("%s: %w", definition, errNoDefinition)
	}
	documents := []string{printed}
	if slices.Contains(lines, definition) {
		documents = strings.Split(strings.TrimSpace(printed), "\n")
	}
	for _, one := range documents {
		cmd := exec.Command(o.fits, schemaFile, definition)
		cmd.Stdin = strings.NewReader(one)
		if said, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("it does not fit %s: %w: %s", definition, err, said)
		}
	}
	return nil
}

// printsJSON names the command of ours that a line of the documentation runs last
// for JSON, also by hsmemu exec or into a file; empty is none.
func printsJSON(line string) string {
	for _, before := range []string{" -- ", " && "} {
		if _, run, there := strings.Cut(line, before); there {
			line = run
		}
	}
	line, _, _ = strings.Cut(line, " > ")
	line = strings.TrimSuffix(line, "'")
	words := strings.Fields(line)
	if len(words) < 2 || words[0] != "hsmemu" || words[len(words)-1] != "--json" {
		return ""
	}
	cmd, _, err := rootCommand(&app{}).Find(words[1:])
	if err != nil {
		return ""
	}
	return commandline.Name(cmd)
}

// fits is a command for scripts.
func fits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: fits DEFINITION")
	}
	o, err := readOutputs()
	ts.Check(err)
	ts.Check(o.check(args[0], ts.ReadFile("stdout")))
}

// withJSON are the commands that have the flag.
func withJSON(cmd *cobra.Command) []string {
	var names []string
	if cmd.Flags().Lookup("json") != nil {
		names = append(names, commandline.Name(cmd))
	}
	for _, c := range cmd.Commands() {
		names = append(names, withJSON(c)...)
	}
	return names
}

func TestJSON_IsDescribedForEveryCommandThatHasIt(t *testing.T) {
	o, err := readOutputs()
	require.NoError(t, err)
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "json.md"))
	require.NoError(t, err)
	examples, err := readManual(string(page))
	require.NoError(t, err)
	shown := map[string]bool{}
	for _, e := range examples {
		shown[printsJSON(e.command)] = true
	}
	names := withJSON(rootCommand(&app{}))
	require.Contains(t, names, "card show")
	for _, name := range names {
		require.NotNil(t, o.defs[definition(name)], "docs/hsmemu.schema.json does not define %s", definition(name))
		require.True(t, shown[name], "docs/json.md has no example of hsmemu %s --json", name)
	}
}

// The comparison is none that everything passes.
func TestJSON_OtherOutputsAreRefused(t *testing.T) {
	o, err := readOutputs()
	require.NoError(t, err)
	a := newApp(t, t.TempDir())
	var out bytes.Buffer
	a.out = &out
	require.Zero(t, a.run(t.Context(), []string{"card", "new", "alice"}))
	require.Zero(t, a.run(t.Context(), []string{"card", "show", "alice", "--json"}))
	card := out.String()
	require.NoError(t, o.check("card-show", card))
	require.Error(t, o.check("card-list", card))
	require.ErrorIs(t, o.check("card-shows", card), errNoDefinition)
	for _, change := range []func(map[string]any){
		func(m map[string]any) { delete(m, "refused") },
		func(m map[string]any) { m["more"] = nil },
		func(m map[string]any) { m["schema"] = 2 },
		func(m map[string]any) { m["state"] = nil },
		func(m map[string]any) { m["state"] = "never initialised" },
		func(m map[string]any) { m["keys"] = nil },
		func(m map[string]any) { m["so_pin"].(map[string]any)["tries"] = 0 },
		func(m map[string]any) { m["options_hex"] = "1" },
	} {
		var m map[string]any
		require.NoError(t, json.Unmarshal([]byte(card), &m))
		change(m)
		text, err := json.Marshal(m)
		require.NoError(t, err)
		require.Error(t, o.check("card-show", string(text)), "%s", text)
	}
}
