package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"hsmemu/applet"
	"hsmemu/emulator"
	"hsmemu/emulator/conform"
	"hsmemu/emulator/lesson"
	"hsmemu/emulator/view"
	"hsmemu/keystore/seal"
)

// choices are words that complete what is being typed after args.
type choices func(a *app, args []string) []string

// completedArgs are the commands whose arguments are no files, with what
// completes them: the first argument, the second, and the last for all that
// follow. Nothing completes those of nil.
var completedArgs = map[string][]choices{
	"card show": {cardNames, nil}, "card rm": {cardNames, nil}, "card accept": {cardNames, nil}, "card reseal": {cardNames, nil},
	"card eject": {cardNames, nil}, "card insert": {cardNames, nil}, "card reset": {cardNames, nil},
	"card snapshots": {cardNames, nil}, "card snapshot": {cardNames, nil}, "card restore": {cardNames, snapshotTags, nil},
	"card rename": {cardNames, nil}, "card copy": {cardNames, nil},
	"card new": {nil}, "card list": {nil}, "apdu": {nil}, "trace": {nil}, "run": {nil}, "status": {nil}, "version": {nil}, "card authenticate": {nil}, "conform": {nil},
	"card fault": {cardNames, faultNames, faultSettings},
	"lesson":     {lessonNames, nil}, "lesson expect": {nil},
}

// completedFlags are the flags whose values are no files.
var completedFlags = map[string]choices{
	"card": cardNames, "with": cardNames, "firmware": firmwares, "seal": seals, "answer": answerChoices, "like": situationWords,
	"report": reportForms, "reader": nil, "rules": nil, "situations": nil, "timeout": nil, "yes-destroy": nil, "keep-so-tries": nil,
	"socket-mode": socketModes, "key": nil, "key-domain": nil, "id": nil, "label": nil, "serial": nil, "seed": nil, "pcr": nil,
}

func lessonNames(*app, []string) []string { return lesson.Ours() }

func reportForms(*app, []string) []string { return conform.Formats() }

func cardNames(a *app, _ []string) []string {
	d, err := a.cards()
	if err != nil {
		return nil
	}
	names, _ := d.Names() // nothing to complete with
	return names
}

func snapshotTags(a *app, args []string) (tags []string) {
	d, err := a.cards()
	if err != nil {
		return nil
	}
	list, _ := d.Snapshots(args[0]) // nothing to complete with
	for _, one := range list {
		tags = append(tags, one.Tag)
	}
	return tags
}

func faultNames(*app, []string) (names []string) {
	for _, k := range emulator.FaultKinds() {
		names = append(names, k.Name+"\t"+k.Help)
	}
	return names
}

// faultSettings are those of the fault in the second argument.
func faultSettings(_ *app, args []string) []string {
	kinds := emulator.FaultKinds()
	if i := slices.IndexFunc(kinds, func(k emulator.FaultKind) bool { return k.Name == args[1] }); i >= 0 {
		return kinds[i].Settings
	}
	return nil
}

// completedParts are the flags whose value has several words, with what completes
// the last of them.
var completedParts = map[string]struct {
	between string
	by      choices // with the words before it for arguments
}{
	"fault": {" ", func(a *app, before []string) []string {
		if len(before) == 0 {
			return faultNames(a, nil)
		}
		return faultSettings(a, []string{"", before[0]})
	}},
	"only": {",", func(*app, []string) []string { return view.Classes() }},
}

// lastPart completes the last part of a word.
func lastPart(a *app, between string, by choices, word string) (list []string, directive cobra.ShellCompDirective) {
	at := strings.LastIndex(word, between) + 1
	list, directive = begun(a, by, strings.FieldsFunc(word[:at], func(r rune) bool { return string(r) == between }), word[at:])
	for i, one := range list {
		list[i] = word[:at] + one
	}
	return list, directive
}

// snapshotsOrFiles completes --from: with the snapshots of the card that is named, by
// --card or before a colon, or else with files.
func snapshotsOrFiles(a *app, cmd *cobra.Command, word string) ([]string, cobra.ShellCompDirective) {
	if card, _, some := strings.Cut(word, ":"); some {
		list, directive := begun(a, func(a *app, args []string) (named []string) {
			for _, tag := range snapshotTags(a, args) {
				named = append(named, card+":"+tag)
			}
			return named
		}, []string{card}, word)
		if len(list) > 0 {
			return list, directive
		}
	}
	cards, err := cmd.Flags().GetStringArray("card")
	cards = slices.Compact(cards) // cobra may have parsed them twice
	if err != nil || len(cards) != 1 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	list, _ := begun(a, snapshotTags, cards, word)
	return list, cobra.ShellCompDirectiveDefault
}

func firmwares(*app, []string) []string { return applet.Firmwares() }

func seals(*app, []string) []string {
	return seal.Kinds()
}

func socketModes(*app, []string) []string { return []string{"0600", "0660", "0666"} }

func answerChoices(*app, []string) (list []string) {
	for _, c := range applet.AnswerChoices() {
		for _, sw := range c.Words {
			list = append(list, fmt.Sprintf("%s=%04X\t%s", c.Name, uint16(sw), c.To))
		}
	}
	return list
}

// situationWords are the first word of --like, or the next one.
func situationWords(*app, []string) (words []string) {
	for _, line := range view.SituationHelp() {
		name, _, _ := strings.Cut(line[0], "=")
		words = append(words, name+"=\t"+line[1])
	}
	return words
}

// complete gives a command and those below it what shells complete with.
func complete(a *app, cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		complete(a, sub)
	}
	if by, ours := completedArgs[nameOf(cmd)]; ours {
		cmd.ValidArgsFunction = func(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			return begun(a, by[min(len(args), len(by)-1)], args, word)
		}
	}
	for name, p := range completedParts {
		if cmd.LocalFlags().Lookup(name) != nil {
			_ = cmd.RegisterFlagCompletionFunc(name, func(_ *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
				return lastPart(a, p.between, p.by, word)
			})
		}
	}
	if name := nameOf(cmd); name == "exec" || name == "card new" {
		_ = cmd.RegisterFlagCompletionFunc("from", func(cmd *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
			return snapshotsOrFiles(a, cmd, word)
		})
	}
	for name, by := range completedFlags {
		if cmd.LocalFlags().Lookup(name) == nil {
			continue
		}
		// It fails for a flag that is not there or that has one already.
		_ = cmd.RegisterFlagCompletionFunc(name, func(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			return begun(a, by, args, word)
		})
	}
}

// begun are the choices that begin with a word. One that ends in "=" waits for
// its value, without a blank.
func begun(a *app, by choices, args []string, word string) (list []string, directive cobra.ShellCompDirective) {
	directive = cobra.ShellCompDirectiveNoFileComp
	if by == nil {
		return nil, directive
	}
	for _, one := range by(a, args) {
		if !strings.HasPrefix(one, word) {
			continue
		}
		if strings.HasSuffix(one, "=") {
			directive |= cobra.ShellCompDirectiveNoSpace
		}
		list = append(list, one)
	}
	return list, directive
}
