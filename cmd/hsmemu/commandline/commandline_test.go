package commandline_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"hsmemu/cmd/hsmemu/commandline"
)

// boats is a program with a fleet, as a harbour master would have it.
type boats struct {
	env map[string]string
	did string // by the last command
	out bytes.Buffer
}

func (b *boats) line() *commandline.Line {
	root := &cobra.Command{Use: "boats", Short: "keep boats"}
	do := func(cmd *cobra.Command, args []string) error {
		b.did = commandline.Name(cmd) + " " + strings.Join(args, ",")
		for _, flag := range []string{"boat", "colour", "crew", "engine", "sails"} {
			if f := cmd.Flags().Lookup(flag); f != nil && (f.Changed || f.Value.String() != f.DefValue) {
				b.did += fmt.Sprintf(" %s=%s", flag, f.Value)
			}
		}
		return nil
	}
	boat := &cobra.Command{Use: "boat", Short: "keep a boat", RunE: commandline.HelpOrUnknown}
	paint := &cobra.Command{Use: "paint NAME PART", Short: "paint a boat", Args: commandline.Exactly(2), RunE: do}
	paint.Flags().String("colour", "white", "the `COLOUR`")
	paint.Flags().Bool("force", false, "whatever is there")
	sail := &cobra.Command{Use: "sail [PORT]", Short: "sail away", Args: commandline.AtMost(1), RunE: do}
	sail.Flags().String("boat", "dory", "the boat")
	sail.Flags().Int("crew", 1, "hands on board")
	sail.Flags().Bool("sails", false, "by the wind")
	sail.Flags().String("engine", "", "by the engine of this `KIND`")
	sail.Flags().String("fuel", "", "what the engine takes")
	sail.Flags().StringArray("load", nil, "what is on board")
	sail.Flags().String("colour", "", "of the flag")
	moor := &cobra.Command{Use: "moor PIER NAME", Short: "moor a boat", Args: commandline.Exactly(2), RunE: do}
	boat.AddCommand(paint, moor)
	root.AddCommand(boat, sail)
	fleet := func([]string) []string { return []string{"dory", "ketch"} }
	colours := func([]string) []string { return []string{"red", "rose", "blue="} }
	return commandline.New(root, &b.out, commandline.Tables{
		Env: func(name string) string { return b.env[name] },
		Variables: commandline.Variables{
			Prefix: "BOATS_", Not: []string{"force", "help"}, Default: "boat",
			Rivals: [][]string{{"sails", "engine"}},
			Needing: map[string]commandline.Need{
				"fuel": {In: "sail", Flag: "engine", Refused: true},
			},
			Secrets: map[string]string{"BOATS_KEY": "where the key hangs"},
		},
		Complete: commandline.Completion{
			Arguments: map[string][]commandline.Choices{"boat paint": {fleet, func(args []string) []string { return []string{args[0] + "-hull"} }, nil}},
			Flags:     map[string]commandline.Choices{"colour": colours, "sail --colour": nil},
			Parts: map[string]commandline.Parts{"load": {Between: ",", By: func(before []string) []string {
				return []string{fmt.Sprintf("after%d", len(before))}
			}}},
		},
		Manual:   commandline.Manual{Status: "0 when afloat.\n", Statuses: [][2]string{{"3", "it sank"}}, Files: ".logbook\n"},
		Subject:  commandline.Subject{Flag: "boat", Argument: "NAME", Usage: "name of the boat", Noun: "boat", Names: func() []string { return fleet(nil) }},
		Examples: map[string]string{"sail": "boats sail Brest\nboats sail --crew 3"},
	})
}

// called runs one command line with variables.
func called(t *testing.T, env map[string]string, args ...string) (b *boats, err error) {
	t.Helper()
	b = &boats{env: env}
	_, err = b.line().Execute(t.Context(), args)
	return b, err
}

func TestExecute_SaysWhatWasMeant(t *testing.T) {
	for line, want := range map[string][2]string{
		"sial":              {`unknown command "sial"`, "did you mean sail?"},
		"boat pain":         {`unknown command "boat pain"`, "did you mean paint?"},
		"paint":             {`unknown command "paint"`, "did you mean boat paint?"},
		"help sial":         {`unknown command "sial"`, "did you mean sail?"},
		"boat pant --help":  {`unknown command "boat pant"`, "did you mean paint?"},
		"boat paint dory":   {"boat paint takes 2 arguments, not 1", ""},
		"sail a b":          {"sail takes 1 argument or less, not 2", ""},
		"sail ketch dory":   {"sail takes 1 argument or less, not 2", "--boat ketch names the boat"},
		"sail --crew many":  {`--crew takes a number, not "many"`, ""},
		"sail --sails=when": {`--sails takes true or false, not "when"`, ""},
		"sail --fuel oil":   {"--fuel goes with --engine", ""},
		"man sial":          {`no command "sial"`, ""},
	} {
		_, err := called(t, nil, strings.Fields(line)...)
		require.ErrorAs(t, err, new(commandline.UsageError), line)
		require.EqualError(t, err, want[0], line)
		var hinted commandline.Hinted
		errors.As(err, &hinted)
		require.Equal(t, want[1], hinted.Advice, line)
	}
}

func TestExecute_TheSubjectIsNamedInTwoWays(t *testing.T) {
	for _, line := range []string{"boat paint dory hull", "boat paint --boat dory hull"} {
		b, err := called(t, nil, strings.Fields(line)...)
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(b.did, "boat paint dory,hull"), b.did)
	}
	b, err := called(t, nil, "boat", "moor", "east", "--boat", "dory")
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(b.did, "boat moor east,dory"), b.did)
	b, err = called(t, nil, "boat", "paint", "--help")
	require.NoError(t, err)
	require.NotContains(t, b.out.String(), "--boat")
	_, err = called(t, map[string]string{"BOATS_BOAT": "dory"}, "boat", "paint", "hull")
	require.EqualError(t, err, "boat paint takes 2 arguments, not 1", "that of the environment is no argument")
}

func TestExecute_FlagsComeFromTheEnvironment(t *testing.T) {
	env := map[string]string{"BOATS_CREW": "4", "BOATS_BOAT": "ketch", "BOATS_ENGINE": "diesel", "BOATS_FORCE": "true", "BOATS_LOAD": "fish\nice"}
	b, err := called(t, env, "sail")
	require.NoError(t, err)
	require.Equal(t, "sail  boat=ketch crew=4 engine=diesel", b.did)
	b, err = called(t, env, "sail", "--crew", "2", "--sails")
	require.NoError(t, err)
	require.Equal(t, "sail  boat=ketch crew=2 sails=true", b.did, "the command line goes before, and drops its rivals")
	b, err = called(t, map[string]string{"BOATS_FUEL": "oil"}, "sail")
	require.NoError(t, err, "it says nothing without the engine")
	require.Equal(t, "sail ", b.did)

	b = &boats{env: map[string]string{"BOATS_CREW": "many"}}
	line := b.line()
	_, err = line.Execute(t.Context(), []string{"sail"})
	require.ErrorAs(t, err, new(commandline.UsageError))
	require.EqualError(t, err, `$BOATS_CREW: --crew takes a number, not "many"`)
	require.Equal(t, "--crew comes from $BOATS_CREW", line.FromVariables("no --crew: of that size"))
	require.Empty(t, line.FromVariables("no --crews"))
}

func TestSettings_AreThoseOfTheFlags(t *testing.T) {
	var names []string
	for _, s := range (&boats{}).line().Settings() {
		names = append(names, strings.Join([]string{s.Name, s.Flag, s.Commands, s.Usage}, "|"))
	}
	require.Contains(t, names, "BOATS_CREW|--crew|sail|hands on board")
	require.Contains(t, names, "BOATS_COLOUR|--colour|boat paint|the COLOUR")
	require.Contains(t, names, "BOATS_COLOUR|--colour|sail|of the flag")
	require.Contains(t, names, "BOATS_KEY|||where the key hangs")
	require.NotContains(t, strings.Join(names, "\n"), "BOATS_FORCE")
}

func TestCompletion_IsThatOfTheTables(t *testing.T) {
	for line, want := range map[string]string{
		"boat paint ":              "dory ketch :4",
		"boat paint k":             "ketch :4",
		"boat paint dory ":         "dory-hull :4",
		"boat paint dory hull ":    ":4",
		"boat paint --colour r":    "red rose :4",
		"boat paint --colour b":    "blue= :6",
		"sail --colour r":          ":4", // what the flag means to this command
		"sail --load af":           "after0 :4",
		"sail --load fish,ice,aft": "fish,ice,after2 :4",
		"sail --engine d":          ":0", // files
	} {
		b, err := called(t, nil, append([]string{cobra.ShellCompNoDescRequestCmd}, strings.Split(line, " ")...)...)
		require.NoError(t, err)
		require.Equal(t, want, strings.Join(strings.Fields(b.out.String()), " "), line)
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		b, err := called(t, nil, "completion", shell)
		require.NoError(t, err)
		require.Contains(t, b.out.String(), "__boats", shell)
	}
	_, err := called(t, nil, "completion", "sh")
	require.ErrorAs(t, err, new(commandline.UsageError))
}

func TestManual_HasAPageForEveryCommand(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "man1")
	_, err := called(t, nil, "man", "--folder", folder)
	require.NoError(t, err)
	for _, page := range []string{"boats", "boats-boat", "boats-boat-paint", "boats-sail", "boats-man", "boats-completion"} {
		text, err := os.ReadFile(filepath.Join(folder, page+".1"))
		require.NoError(t, err)
		for _, section := range []string{"ENVIRONMENT", "EXIT STATUS", "FILES"} {
			require.Equal(t, 1, strings.Count(string(text), ".SH "+section+"\n"), "%s: %s", page, section)
		}
		require.Contains(t, string(text), "it sank")
		require.Contains(t, string(text), "\n\\&.logbook\n", "a line that would be a request")
		require.Contains(t, string(text), `"`+strings.ToUpper(page)+`"`)
	}
	b, err := called(t, nil, "man", "sail")
	require.NoError(t, err)
	require.Contains(t, b.out.String(), "\\fBBOATS_CREW\\fP\n\\-\\-crew: hands on board\n")
	require.Contains(t, b.out.String(), ".SH EXAMPLES\n")
	require.Contains(t, b.out.String(), "boats sail --crew 3")
}

func TestExecute_SaysThatHelpCannotBePrinted(t *testing.T) {
	root := &cobra.Command{Use: "boats"}
	closed, err := os.Open(os.DevNull)
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	_, err = commandline.New(root, closed, commandline.Tables{}).Execute(t.Context(), []string{"--help"})
	require.EqualError(t, err, "print: file already closed")
}
