//go:build linux

package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet"
)

// Variables set what nobody looks at: they turn no command into another, give way to
// what is typed, and are named where they are at fault.
func TestEnvironment_GivesWay(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	env := func(more ...string) map[string]string {
		all := map[string]string{"HSMEMU_STATE": state}
		for i := 0; i < len(more); i += 2 {
			all[more[i]] = more[i+1]
		}
		return all
	}
	for _, line := range [][]string{{"card", "new", "lab"}, {"card", "snapshot", "lab", "kept"}} {
		_, said, code := called(t, env(), line...)
		require.Zero(t, code, said)
	}
	_, said, code := called(t, env("HSMEMU_RM", "1"), "card", "snapshot", "lab", "kept")
	require.Equal(t, exitFailed, code, "there is one")
	require.Contains(t, said, "there is one")
	require.FileExists(t, filepath.Join(state, "snapshots", "lab", "kept.card"))

	_, said, _ = called(t, env("HSMEMU_SOCKET", "/x"), "status", "--card", "lab")
	require.Contains(t, said, "no process runs this card")
	_, said, _ = called(t, env("HSMEMU_WAIT", "3s"), "trace", "--card", "lab")
	require.Contains(t, said, "no process runs this card")

	_, said, code = called(t, env("HSMEMU_VPCD", "x:1", "HSMEMU_VPCD_LISTEN", "y:2"), "run", "--card", "lab")
	require.Equal(t, exitUsage, code)
	require.Contains(t, said, "hint: --vpcd comes from $HSMEMU_VPCD, --vpcd-listen comes from $HSMEMU_VPCD_LISTEN")
}

// A key reference is 1 to 255 where one is typed: 0 would be no key, and all well.
func TestAttest_RefusesKey0(t *testing.T) {
	t.Parallel()
	env := map[string]string{"HSMEMU_STATE": t.TempDir()}
	_, said, code := called(t, env, "card", "new", "lab")
	require.Zero(t, code, said)
	for _, line := range [][]string{
		{"attest", "--card", "lab", "--key", "0"},
		{"card", "authenticate", "--card", "lab", "--with", "lab", "--key", "0"},
	} {
		_, said, code = called(t, env, line...)
		require.Equal(t, exitUsage, code, line)
		require.Contains(t, said, "key reference 0: 1 to 255")
	}
}

// Asking for help on what is no command is the same mistake as calling it.
func TestHelp_RefusesWhatIsNoCommand(t *testing.T) {
	t.Parallel()
	for _, line := range [][]string{{"nosuch", "--help"}, {"help", "nosuch"}, {"card", "nosuch", "--help"}, {"help", "card", "nosuch"}} {
		out, said, code := called(t, nil, line...)
		require.Equal(t, exitUsage, code, line)
		require.Empty(t, out)
		require.Contains(t, said, "unknown command")
	}
	for _, line := range [][]string{{"--help"}, {"help", "card", "new"}, {"card", "--help"}, {"card", "show", "x", "--help"}} {
		out, said, code := called(t, nil, line...)
		require.Equal(t, exitDone, code, said)
		require.NotEmpty(t, out)
	}
}

// A state folder that was named from where somebody stood has its whole name for others.
func TestCards_FolderHasItsWholeName(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	d, err := (&app{state: "relative", env: os.Getenv}).cards()
	require.NoError(t, err)
	require.True(t, filepath.IsAbs(d.Path()), d.Path())
}

// What would be taken without any effect is refused, and named.
func TestFlags_AreNotTakenInSilence(t *testing.T) {
	t.Parallel()
	env := map[string]string{"HSMEMU_STATE": t.TempDir()}
	for said, line := range map[string][]string{
		"--pin-file goes with --like":                       {"card", "new", "x", "--pin-file", "/nonexistent"},
		"--so-pin-file goes with --like":                    {"card", "new", "x", "--so-pin-file", "/nonexistent"},
		"--snapshot-passphrase-file goes with --from":       {"card", "new", "x", "--snapshot-passphrase-file", "/nonexistent"},
		"--file-passphrase-file goes with --from":           {"card", "new", "x", "--file-passphrase-file", "/nonexistent"},
		"--like takes a situation":                          {"card", "new", "x", "--like", ""},
		"--pcr takes registers from 0 to 23":                {"card", "new", "x", "--seal", "tpm", "--pcr", "-1"},
		"--trace= takes a file":                             {"exec", "--trace=", "--", "true"},
		"--reader-name is given more often":                 {"exec", "--reader-name", "a", "--reader-name", "b", "--", "true"},
		"after=-1 is no number for it":                      {"exec", "--fault", "remove after=-1", "--", "true"},
		"a word is missing beside a comma":                  {"card", "new", "x", "--like", "so=7,"},
		"--broken foo: no such defect\n":                    {"card", "new", "x", "--broken", "foo"},
		"did you mean forgets-charge-on-power-cut?":         {"card", "new", "x", "--broken", "forgets-charge"},
		"--wait takes a time as in 2s, not \"5\"":           {"status", "--wait", "5"},
		"completion takes 1 argument, not 0":                {"completion"},
		"invalid argument \"tcsh\" for \"hsmemu completion": {"completion", "tcsh"},
	} {
		_, got, code := called(t, env, line...)
		require.Equal(t, exitUsage, code, line)
		require.Contains(t, got, said)
	}
	names, err := filepath.Glob(filepath.Join(env["HSMEMU_STATE"], "x.card"))
	require.NoError(t, err)
	require.Empty(t, names)
}

// filledDisk is a disk without space.
type filledDisk struct{}

func (filledDisk) Write([]byte) (int, error) {
	return 0, &os.PathError{Op: "write", Path: "out", Err: syscall.ENOSPC}
}

// Help that nobody can read is not done.
func TestHelp_FailsWhereItCannotBePrinted(t *testing.T) {
	t.Parallel()
	for _, line := range [][]string{{"--help"}, {"help", "card"}, {"--version"}, {"card", "show", "--help"}} {
		a := newApp(t, t.TempDir())
		var said strings.Builder
		a.out, a.err = filledDisk{}, &said
		require.Equal(t, exitFailed, a.run(t.Context(), line), line)
		require.Equal(t, "hsmemu: print: no space left on device\n", said.String())
	}
}

// Manual pages list the commands, and say nothing of what made them.
func TestMan_ListsCommands(t *testing.T) {
	t.Parallel()
	page, said, code := called(t, nil, "man")
	require.Zero(t, code, said)
	require.Contains(t, page, ".SH COMMANDS\n.TP\n")
	require.Contains(t, page, "\\fBhsmemu trace\\fP\nfollow the commands of a running card in words\n")
	require.NotContains(t, page, "Auto generated")
	page, said, code = called(t, nil, "man", "trace")
	require.Zero(t, code, said)
	require.NotContains(t, page, "COMMANDS\n.TP")
}

// What a shell offers is what the command takes.
func TestComplete_OffersWhatIsTaken(t *testing.T) {
	t.Parallel()
	for _, choice := range answerChoices() {
		value, _, _ := strings.Cut(choice, "\t")
		_, err := applet.ParseAnswers([]string{value})
		require.NoError(t, err)
	}
	env := map[string]string{"HSMEMU_STATE": t.TempDir()}
	for _, line := range [][]string{{"card", "new", "lab"}, {"card", "snapshot", "lab", "kept"}} {
		_, said, code := called(t, env, line...)
		require.Zero(t, code, said)
	}
	for _, line := range [][]string{{"exec", "--from", "lab:"}, {"card", "new", "x", "--from", "lab:k"}} {
		out, said, code := called(t, env, append([]string{"__complete"}, line...)...)
		require.Zero(t, code, said)
		require.Contains(t, out, "lab:kept\n")
	}
}

// The flag that a missing secret is asked for with is one that some command has.
func TestSecrets_HaveAFlag(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	_, line := newRootCommand(newApp(t, ""))
	for _, s := range line.Settings() {
		known[s.Name] = true
	}
	for secret := range variables.Secrets {
		require.True(t, known[secret+"_FILE"], secret)
	}
}
