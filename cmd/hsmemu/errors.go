package main

import (
	"errors"
	"fmt"
	"strings"

	"hsmemu/emulator"
	"hsmemu/emulator/control"
	"hsmemu/emulator/statedir"
	"hsmemu/emulator/store"
	"hsmemu/emulator/view"
	"hsmemu/keystore/seal"
	"hsmemu/vsmartcard"
)

// advice is what the command line says about an error of another package, in
// place of its own words or besides them.
type advice struct {
	is error
	// why replaces the error's words; empty keeps them.
	why string
	// hint is one thing to do about it; %s is the card's name.
	hint string
}

const acceptHint = "hsmemu card accept %s takes it on purpose"

// advices is every error that is not simply printed. The first that fits is
// taken.
var advices = []advice{
	{is: statedir.ErrNoCard, hint: "hsmemu card new %s"},
	{is: statedir.ErrCardExists, hint: "hsmemu card show %s"},
	{is: statedir.ErrNoSnapshot, hint: "hsmemu card snapshots %s"},
	{is: store.ErrRolledBack, why: "refused: this file is older than the card's counter", hint: acceptHint},
	{is: store.ErrAhead, why: "refused: this file is newer than the card's counter, which was turned back", hint: acceptHint},
	{is: seal.ErrNoCounter, why: "refused: the card's counter is gone from the TPM", hint: acceptHint},
	{is: seal.ErrPassphrase, why: "wrong passphrase"},
	{is: seal.ErrNoTPM, hint: "name the TPM with --tpm or $HSMEMU_TPM"},
	{is: emulator.ErrCounted, hint: "--force restores it all the same"},
	{is: emulator.ErrForeign, hint: "--force puts it there all the same"},
	{is: control.ErrEjected, hint: "hsmemu card insert %s puts it back"},
	{is: control.ErrNobody, hint: "start it with `hsmemu run --card %s` or `hsmemu exec --card %[1]s`"},
	{is: vsmartcard.ErrNoReader, hint: "is pcscd running, with the vpcd driver configured for this port?"},
}

// oneLine is what an error says in one line. A stack stays as it is: that is for
// us, and not for people.
func oneLine(text string) string {
	if strings.Contains(text, "\n\t") {
		return text
	}
	return view.Printable(strings.ReplaceAll(text, "\n", "; ")) // the names of others' programs and files may be in it
}

// explained is the message about an error, and one hint or none.
func explained(err error) (message, hint string) {
	message = oneLine(err.Error())
	var locked *store.LockedError
	var named *statedir.Error
	var own hinted
	var writable *statedir.WritableError
	errors.As(err, &named)
	if errors.As(err, &writable) {
		return message, "chmod o-w " + writable.Folder
	}
	if errors.As(err, &own) {
		return message, own.hint
	}
	if errors.As(err, &locked) && named != nil {
		if locked.PID > 0 {
			return fmt.Sprintf("card %q is in use by process %d", named.Card, locked.PID), ""
		}
		return fmt.Sprintf("card %q is in use by another process", named.Card), ""
	}
	for _, a := range advices {
		if !errors.Is(err, a.is) {
			continue
		}
		hint = a.hint
		if strings.Contains(hint, "%") {
			if named == nil {
				return message, ""
			}
			hint = fmt.Sprintf(hint, named.Card)
		}
		if a.why != "" && named != nil {
			message = fmt.Sprintf("%s card %q: %s", named.Op, named.Card, a.why)
		}
		return message, hint
	}
	return message, ""
}

// refusal says why a file does not fit its counter.
func refusal(err error) view.Refusal {
	reason := view.CounterFailed
	switch {
	case errors.Is(err, store.ErrRolledBack):
		reason = view.OlderThanCounter
	case errors.Is(err, store.ErrAhead):
		reason = view.NewerThanCounter
	case errors.Is(err, seal.ErrNoCounter):
		reason = view.CounterGone
	}
	why, _ := explained(&statedir.Error{Err: err})
	_, why, _ = strings.Cut(why, ": ")
	return view.Refusal{Reason: reason, Text: strings.TrimPrefix(why, "refused: ")}
}
