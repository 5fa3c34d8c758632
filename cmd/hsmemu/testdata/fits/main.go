// Command fits is a part of the tests: it exits with 0 if the JSON document on its standard
// input fits a definition of a schema, and else says why not.
//
//	fits SCHEMA DEFINITION
//
// What the schema does not name is an error to us, though not to its readers.
//
// It is a program of its own because the library that it needs compiles the schemas of all
// drafts before main, and the test binary is started as hsmemu some two thousand times.
package main

import (
	"fmt"
	"os"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: fits SCHEMA DEFINITION")
		os.Exit(2)
	}
	if err := fits(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func fits(schema, definition string) error {
	f, err := os.Open(schema)
	if err != nil {
		return err
	}
	defer f.Close()
	doc, err := jsonschema.UnmarshalJSON(f)
	if err != nil {
		return err
	}
	top, _ := doc.(map[string]any)
	defs, _ := top["$defs"].(map[string]any)
	for _, d := range defs {
		if d, isObject := d.(map[string]any); isObject && d["type"] == "object" {
			d["additionalProperties"] = false
		}
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("strict.json", doc); err != nil {
		return err
	}
	s, err := c.Compile("strict.json#/$defs/" + definition)
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(os.Stdin)
	if err != nil {
		return err
	}
	return s.Validate(value)
}
