package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"hsmemu/applet/client"
	"hsmemu/applet/cvc"
	"hsmemu/cmd/hsmemu/commandline"
	"hsmemu/emulator"
	"hsmemu/emulator/capability"
	"hsmemu/emulator/control"
	"hsmemu/emulator/lesson"
	"hsmemu/emulator/portal/cloudhsm"
	"hsmemu/emulator/ram"
	"hsmemu/emulator/statedir"
	"hsmemu/emulator/store"
	"hsmemu/emulator/view"
	"hsmemu/keystore/keyfile"
	"hsmemu/keystore/seal"
	"hsmemu/vsmartcard"
	"hsmemu/vsmartcard/pcscd"
)

// advice is what the command line says about an error of another package, in
// place of its own words or besides them.
type advice struct {
	is error
	// why replaces the error's words; empty keeps them.
	why string
	// hint is one thing to do about it; %s is the name of the card, or of the file
	// that was read.
	hint string
}

// fileError is an error about a file that somebody has named.
type fileError struct {
	op, file string
	err      error
}

func (e *fileError) Error() string { return e.op + " " + e.file + ": " + e.err.Error() }

func (e *fileError) Unwrap() error { return e.err }

const acceptHint = "hsmemu card accept %s takes it on purpose"

// advices is every error that is not simply printed. The first that fits is
// taken.
var advices = []advice{
	{is: statedir.ErrNoCard, hint: "hsmemu card new %s"},
	{is: statedir.ErrCardExists, hint: "hsmemu card show %s"},
	{is: syscall.EROFS, hint: "mount a volume there that can be written, or name another place"},
	{is: statedir.ErrReadOnly, hint: "mount a volume there, or name another folder with --state or $HSMEMU_STATE"},
	{is: statedir.ErrNoEntry, hint: "name another folder with --state or $HSMEMU_STATE"},
	{is: statedir.ErrDenied, hint: "name another folder with --state or $HSMEMU_STATE"},
	{is: statedir.ErrNoSnapshot, hint: "hsmemu card snapshots %s"},
	{is: store.ErrRolledBack, hint: acceptHint},
	{is: store.ErrAhead, hint: acceptHint},
	{is: seal.ErrNoCounter, hint: acceptHint},
	{is: seal.ErrPassphrase, why: "wrong passphrase"},
	{is: statedir.ErrNoHome, hint: "name one with --state or $HSMEMU_STATE"},
	{is: seal.ErrNoTPM, hint: "name the TPM with --tpm or $HSMEMU_TPM"},
	{is: keyfile.ErrPKCS12, hint: "openssl pkcs12 -in %s -nodes -out key.pem, then import key.pem"},
	{is: keyfile.ErrEncrypted, hint: "openssl pkey -in %s -out key.pem decrypts it"},
	{is: keyfile.ErrBlock, hint: "the card has RSA and EC keys, in PKCS #8, PKCS #1 or SEC 1"},
	{is: client.ErrNoKeyDomains, hint: "sc-hsm-tool --initialize --dkek-shares N, which erases it"},
	{is: client.ErrIncomplete, hint: "sc-hsm-tool --import-dkek-share FILE"},
	{is: cvc.ErrNoRequest, hint: "the request is in EF CExx from generation until a certificate replaces it"},
	{is: emulator.ErrCounted, hint: "--force restores it all the same"},
	{is: emulator.ErrForeign, hint: "--force puts it there all the same"},
	{is: emulator.ErrFault, hint: "there are " + faultList() + "; `hsmemu card fault --help` has their settings"},
	{is: control.ErrEjected, hint: "hsmemu card insert %s puts it back"},
	{is: control.ErrNobody, hint: "start it with `hsmemu run --card %s` or `hsmemu exec --card %[1]s`"},
	{is: ram.CodeURL, hint: "a portal's services have URLs as http://localhost:8080/rt/paas"},
	{is: ram.CodeStatus, hint: "a portal's services have URLs as http://localhost:8080/rt/paas"}, // those of its pages have others
	{is: ram.CodeNotInTime, hint: "its log may have the reason"},
	{is: ram.CodeAborted, hint: "its log may have the reason"},
	{
		is:   ram.NoticeError{Number: -1, Text: cloudhsm.TextFailed},
		hint: "a portal says so at /rt/hsm of a card that is not registered there: log in with it at the portal's page first",
	},
	{is: lesson.ErrGoneOn, hint: "hsmemu lesson"},
	{is: lesson.ErrProgress, hint: "`hsmemu lesson reset` begins it again, and `exit` in its shell ends it"},
	{is: lesson.ErrSeveral, hint: "in the shell of one it is that one, and elsewhere $HSMEMU_LESSON names its folder"},
	{is: lesson.ErrLost, hint: "`hsmemu lesson reset` begins the lesson again; where it cannot, `exit` in its shell ends it"},
	{is: client.ErrNoPIN, hint: "initialisation sets it, and erases the card: sc-hsm-tool --initialize"},
	{is: pcscd.ErrTooManyReaders, hint: "start another `hsmemu exec`, or another `hsmemu run --socket PATH`, with the cards that are left"},
	{is: pcscd.ErrReset, hint: "another program uses the reader, too: end it, and begin again"},
	{is: capability.ErrOwnService, hint: "`hsmemu run --vpcd HOST:PORT` reaches a virtual reader of that service; `hsmemu apdu` needs none"},
	{is: vsmartcard.ErrNoReader, hint: "is pcscd running, with the vpcd driver configured for this port?"},
	{is: context.Canceled, why: errInterrupted.Error()},
}

// oneLine is what an error says in one line. A stack stays as it is: that is for
// us, and not for people.
func oneLine(text string) string {
	if strings.Contains(text, "\n\t") {
		return text
	}
	return view.Printable(strings.ReplaceAll(text, "\n", "; ")) // the names of others' programs and files may be in it
}

// each is the errors that are joined in one, as those of several cards are, or that alone.
func each(err error) (all []error) {
	var joined interface {
		error
		Unwrap() []error
	}
	if !errors.As(err, &joined) || errors.Join(joined.Unwrap()...).Error() != err.Error() {
		return []error{err}
	}
	for _, one := range joined.Unwrap() {
		all = append(all, each(one)...)
	}
	return all
}

// explained is the message about an error, and one hint or none. Of errors that are joined
// each is explained, and the first hint is given.
func explained(err error) (message, hint string) {
	all := each(err)
	if len(all) == 1 {
		return explainedOne(err)
	}
	messages := make([]string, len(all))
	for i, one := range all {
		var its string
		messages[i], its = explainedOne(one)
		hint = cmp.Or(hint, its)
	}
	var own commandline.Hinted
	if errors.As(err, &own) {
		hint = cmp.Or(hint, own.Advice) // of all of them
	}
	return strings.Join(messages, "; "), hint
}

// plainly is the text of an error without the names of calls of the system, and of what package net
// was doing, which tell a programmer something and nobody else. An address is kept, unless it was named before.
func plainly(err error) string {
	text := err.Error()
	var op *net.OpError
	var call *os.SyscallError
	if !errors.As(err, &op) {
		if errors.As(err, &call) {
			text = strings.Replace(text, call.Error(), call.Err.Error(), 1)
		}
		return text
	}
	before, after, there := strings.Cut(text, op.Error())
	if !there {
		return text
	}
	why := op.Err
	if errors.As(why, &call) {
		why = call.Err
	}
	if op.Addr != nil && !strings.Contains(before, op.Addr.String()) {
		before += op.Addr.String() + ": "
	}
	return before + why.Error() + after
}

func explainedOne(err error) (message, hint string) {
	message = oneLine(plainly(err))
	var locked *store.LockedError
	var named *statedir.Error
	var own commandline.Hinted
	var writable *statedir.WritableError
	var foreign *client.KCVError
	errors.As(err, &named)
	if errors.As(err, &foreign) && foreign.Of != foreign.Shares {
		return message, fmt.Sprintf("it was made of %d shares, not %d", foreign.Of, foreign.Shares)
	}
	if errors.As(err, &writable) {
		return message, "chmod o-w " + writable.Folder
	}
	if errors.As(err, &locked) && named != nil {
		message = fmt.Sprintf("card %q is in use by another process", named.Card)
		if locked.PID > 0 {
			message = fmt.Sprintf("card %q is in use by process %d", named.Card, locked.PID)
		}
		errors.As(err, &own)
		return message, own.Advice
	}
	if errors.As(err, &own) {
		return message, own.Advice
	}
	i := slices.IndexFunc(advices, func(a advice) bool { return errors.Is(err, a.is) })
	if i < 0 {
		return message, ""
	}
	a := advices[i]
	var file *fileError
	switch hint = a.hint; {
	case !strings.Contains(hint, "%"):
	case named != nil:
		hint = fmt.Sprintf(hint, named.Card)
	case errors.As(err, &file):
		hint = fmt.Sprintf(hint, file.file)
	default:
		return message, ""
	}
	why := a.why
	if refused := control.RefusalOf(err); refused.Reason != view.CounterFailed { // it says how file and counter differ
		why = "refused: " + refused.Text
	}
	if why != "" && named != nil {
		message = fmt.Sprintf("%s card %q: %s", named.Op, named.Card, why)
	}
	return message, hint
}

// explained is the message about an error of a command, and one hint or none.
func (a *app) explained(err error, cmd *cobra.Command) (message, hint string) {
	message, hint = explained(err)
	first := each(err)[0]
	var secret *noSecretError
	var absent *statedir.Error
	switch {
	case errors.As(first, &secret):
		hint = secret.hint(cmd)
	case errors.Is(first, statedir.ErrNoCard) && errors.As(first, &absent):
		names := cardNames(a)
		if near := view.Nearest(absent.Card, names); near != "" {
			hint = fmt.Sprintf("did you mean %q? %s makes another", near, hint)
		} else if len(names) > 0 {
			hint = fmt.Sprintf("there are %s; %s makes another", strings.Join(names, ", "), hint)
		}
	}
	return message, hint
}

// inWords is the message about an error, without the hint.
func inWords(err error) string {
	message, _ := explained(err)
	return message
}
