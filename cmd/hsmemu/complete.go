package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"hsmemu/applet"
	"hsmemu/cmd/hsmemu/commandline"
	"hsmemu/emulator"
	"hsmemu/emulator/conform"
	"hsmemu/emulator/lesson"
	"hsmemu/emulator/view"
	"hsmemu/keystore/seal"
)

// completion is what shells complete with.
func completion(a *app) commandline.Completion {
	cards := commandline.Choices(func([]string) []string { return cardNames(a) })
	snapshots := commandline.Choices(func(args []string) []string { return snapshotTags(a, args[0]) })
	faults := func(args []string) []string { return faultWords(args[1:]) } // behind the card
	from := func(cmd *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
		return snapshotsOrFiles(a, cmd, word)
	}
	return commandline.Completion{
		Arguments: map[string][]commandline.Choices{
			"card show": {cards, nil}, "card rm": {cards, nil}, "card accept": {cards, nil}, "card reseal": {cards, nil},
			"card eject": {cards, nil}, "card insert": {cards, nil}, "card reset": {cards, nil},
			"card snapshots": {cards, nil}, "card snapshot": {cards, nil}, "card restore": {cards, snapshots, nil},
			"card rename": {cards, nil}, "card copy": {cards, nil},
			"card new": {nil}, "card list": {nil}, "apdu": {nil}, "trace": {nil}, "run": {nil}, "status": {nil}, "version": {nil}, "card authenticate": {nil}, "conform": {nil},
			"card fault": {cards, faults, faults},
			"lesson":     {words(lesson.Ours), nil}, "lesson expect": {nil},
		},
		Flags: map[string]commandline.Choices{
			"card": cards, "with": cards, "firmware": words(applet.Firmwares), "seal": words(seal.Kinds), "answer": words(answerChoices), "like": words(situationWords),
			"report": words(conform.Formats), "reader": nil, "rules": nil, "situations": nil, "timeout": nil, "yes-destroy": nil, "keep-so-tries": nil,
			"socket-mode": words(socketModes), "key": nil, "key-domain": nil, "id": nil, "label": nil, "serial": nil, "seed": nil, "pcr": nil,
			"lesson --report": nil,
		},
		Parts: map[string]commandline.Parts{
			"fault": {Between: " ", By: faultWords},
			"only":  {Between: ",", By: words(view.Classes)},
		},
		Other: map[string]cobra.CompletionFunc{"exec --from": from, "card new --from": from},
	}
}

// words are choices that do not depend on what is before them.
func words(list func() []string) commandline.Choices {
	return func([]string) []string { return list() }
}

// subject is the card. A card is named in one way: where a command acts on a card, which
// is what the commands below `card` are for, its name is the argument NAME; where a card
// is one thing among others that a command takes, it is --card. What belongs to neither
// is none of a card: `card list` for one.
func (a *app) subject() commandline.Subject {
	return commandline.Subject{
		Flag: "card", Argument: "NAME", Usage: "name of the card", Noun: "card",
		Names: func() []string { return cardNames(a) },
	}
}

// cardNames are those of the state folder.
func cardNames(a *app) []string {
	d, err := a.cards()
	if err != nil {
		return nil
	}
	names, _ := d.Names() // nothing to complete with
	return names
}

func snapshotTags(a *app, card string) (tags []string) {
	d, err := a.cards()
	if err != nil {
		return nil
	}
	list, _ := d.Snapshots(card) // nothing to complete with
	for _, one := range list {
		tags = append(tags, one.Tag)
	}
	return tags
}

// faultWords are the faults, or the settings of the one that is named before.
func faultWords(before []string) (list []string) {
	for _, k := range emulator.FaultKinds() {
		switch {
		case len(before) == 0:
			list = append(list, k.Name+"\t"+k.Help)
		case before[0] == k.Name:
			return k.Settings
		}
	}
	return list
}

// snapshotsOrFiles completes --from: with the snapshots of the card that is named, by
// --card or before a colon, or else with files.
func snapshotsOrFiles(a *app, cmd *cobra.Command, word string) ([]string, cobra.ShellCompDirective) {
	card, _, colon := strings.Cut(word, ":")
	prefix := card + ":"
	if !colon {
		cards, _ := cmd.Flags().GetStringArray("card")      // not every command has it
		if cards = slices.Compact(cards); len(cards) != 1 { // cobra may have parsed them twice
			return nil, cobra.ShellCompDirectiveDefault
		}
		card, prefix = cards[0], ""
	}
	list, directive := commandline.Begun(func([]string) (named []string) {
		for _, tag := range snapshotTags(a, card) {
			named = append(named, prefix+tag)
		}
		return named
	}, nil, word)
	if !colon || len(list) == 0 {
		directive = cobra.ShellCompDirectiveDefault
	}
	return list, directive
}

func socketModes() []string { return []string{"0600", "0660", "0666"} }

func answerChoices() (list []string) {
	for _, c := range applet.AnswerChoices() {
		for _, sw := range c.Words {
			list = append(list, fmt.Sprintf("%s=%04X\t%s", c.Name, uint16(sw), c.To))
		}
	}
	return list
}

// situationWords are the first word of --like, or the next one.
func situationWords() (words []string) {
	for _, line := range view.SituationHelp() {
		name, _, _ := strings.Cut(line[0], "=")
		words = append(words, name+"=\t"+line[1])
	}
	return words
}
