package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/cmd/hsmemu/commandline"

	"hsmemu/applet/client"
	"hsmemu/applet/cvc"
	"hsmemu/emulator"
	"hsmemu/emulator/capability"
	"hsmemu/emulator/control"
	"hsmemu/emulator/lesson"
	"hsmemu/emulator/portal/cloudhsm"
	"hsmemu/emulator/ram"
	"hsmemu/emulator/statedir"
	"hsmemu/emulator/store"
	"hsmemu/keystore/keyfile"
	"hsmemu/keystore/seal"
	"hsmemu/vsmartcard"
	"hsmemu/vsmartcard/pcscd"
)

// Every error of another package that has words or a hint of the command line's
// own, as people read it.
func TestExplained(t *testing.T) {
	t.Parallel()
	about := func(op string, err error) error { return &statedir.Error{Op: op, Card: "alice", Err: err} }
	told := map[error]bool{}
	for _, c := range []struct {
		err           error
		message, hint string
	}{
		{about("open", statedir.ErrNoCard), `open card "alice": there is no such card`, "hsmemu card new alice"},
		{about("make", statedir.ErrCardExists), `make card "alice": it exists already`, "hsmemu card show alice"},
		{about("restore", fmt.Errorf("%w %q", statedir.ErrNoSnapshot, "x")), `restore card "alice": no snapshot "x"`, "hsmemu card snapshots alice"},
		{
			fmt.Errorf("make the state folder /nonexistent: %w", statedir.ErrDenied), "make the state folder /nonexistent: this user may not write there",
			"name another folder with --state or $HSMEMU_STATE",
		},
		{
			fmt.Errorf("look at /cards/snapshots: %w", statedir.ErrNoEntry), "look at /cards/snapshots: this user may not look into it",
			"name another folder with --state or $HSMEMU_STATE",
		},
		{
			about("make", fmt.Errorf("state folder /cards: %w", statedir.ErrReadOnly)), `make card "alice": state folder /cards: no volume that can be written is mounted there`,
			"mount a volume there, or name another folder with --state or $HSMEMU_STATE",
		},
		{
			fmt.Errorf("make the private socket: %w", &os.SyscallError{Syscall: "bind", Err: syscall.EROFS}), "make the private socket: " + syscall.EROFS.Error(),
			"mount a volume there that can be written, or name another place",
		},
		{
			fmt.Errorf("make the private socket: %w", &net.OpError{Op: "listen", Net: "unix", Addr: &net.UnixAddr{Name: "/x/y"}, Err: os.NewSyscallError("bind", syscall.ENOENT)}),
			"make the private socket: /x/y: no such file or directory", "",
		},
		{
			fmt.Errorf("127.0.0.1:9: no answer: %w", &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9}, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}),
			"127.0.0.1:9: no answer: connection refused", "",
		},
		{fmt.Errorf("listen for browsers: %w", &net.OpError{Op: "listen", Net: "tcp", Err: &net.AddrError{Err: "invalid port", Addr: "99999"}}), "listen for browsers: address 99999: invalid port", ""},
		{about("open", store.ErrRolledBack), `open card "alice": refused: this file is older than the card's counter`, "hsmemu card accept alice takes it on purpose"},
		{about("open", fmt.Errorf("x: %w", store.ErrAhead)), `open card "alice": refused: this file is newer than the card's counter, which was turned back`, "hsmemu card accept alice takes it on purpose"},
		{about("open", seal.ErrNoCounter), `open card "alice": refused: the card's counter is gone from the TPM`, "hsmemu card accept alice takes it on purpose"},
		{about("reseal", fmt.Errorf("open: %w", seal.ErrPassphrase)), `reseal card "alice": wrong passphrase`, ""},
		{about("open", seal.ErrNoTPM), `open card "alice": no TPM answers`, "name the TPM with --tpm or $HSMEMU_TPM"},
		{about("restore", fmt.Errorf("%w, X", emulator.ErrForeign)), `restore card "alice": the state is that of another device, X`, "--force puts it there all the same"},
		{about("restore", emulator.ErrCounted), `restore card "alice": the card's counter is there to prevent this`, "--force restores it all the same"},
		{
			about("set a fault on", fmt.Errorf("%w: %q", emulator.ErrFault, "x")), `set a fault on card "alice": no such fault: "x"`,
			"there are " + faultList() + "; `hsmemu card fault --help` has their settings",
		},
		{about("use", control.ErrEjected), `use card "alice": the card is out of its reader`, "hsmemu card insert alice puts it back"},
		{about("eject", control.ErrNobody), `eject card "alice": no process runs this card`, "start it with `hsmemu run --card alice` or `hsmemu exec --card alice`"},
		{&fileError{"read the key in", "k.p12", keyfile.ErrPKCS12}, "read the key in k.p12: this PKCS #12 file cannot be read", "openssl pkcs12 -in k.p12 -nodes -out key.pem, then import key.pem"},
		{&fileError{"read the key in", "k.pem", keyfile.ErrEncrypted}, "read the key in k.pem: the private key is encrypted", "openssl pkey -in k.pem -out key.pem decrypts it"},
		{keyfile.ErrBlock, "a form of private key that cards do not have", "the card has RSA and EC keys, in PKCS #8, PKCS #1 or SEC 1"},
		{client.ErrNoKeyDomains, "the card was initialised without key domains", "sc-hsm-tool --initialize --dkek-shares N, which erases it"},
		{client.ErrIncomplete, "it is not complete", "sc-hsm-tool --import-dkek-share FILE"},
		{cvc.ErrNoRequest, "there is no request for it", "the request is in EF CExx from generation until a certificate replaces it"},
		{fmt.Errorf("connect: %w", &ram.Error{Code: ram.CodeURL}), "connect: there is no service at this URL", "a portal's services have URLs as http://localhost:8080/rt/paas"},
		{
			&ram.Error{Code: ram.CodeStatus, Err: errors.New("405 Method Not Allowed")}, "the server's answer has an unexpected status: 405 Method Not Allowed",
			"a portal's services have URLs as http://localhost:8080/rt/paas",
		},
		{ram.NoticeError{Number: -10, Text: "no"}, "the server ended it with notice -10", ""},
		{
			fmt.Errorf("connect: %w", ram.NoticeError{Number: -1, Text: cloudhsm.TextFailed}), "connect: the server ended it with notice -1",
			"a portal says so at /rt/hsm of a card that is not registered there: log in with it at the portal's page first",
		},
		{fmt.Errorf("verify the user PIN: %w", client.ErrNoPIN), "verify the user PIN: there is none", "initialisation sets it, and erases the card: sc-hsm-tool --initialize"},
		{&ram.Error{Code: ram.CodeNotInTime}, "the server sent no request in its time", "its log may have the reason"},
		{&ram.Error{Code: ram.CodeAborted}, "the server gave up", "its log may have the reason"},
		{
			fmt.Errorf("connect reader %q to %s: %w: %w", "R 00", "localhost:1", ram.CodeCard, pcscd.ErrReset), `connect reader "R 00" to localhost:1: the card failed: card was reset`,
			"another program uses the reader, too: end it, and begin again",
		},
		{
			fmt.Errorf("run card %q: %w", "c17", pcscd.ErrTooManyReaders), `run card "c17": no room for another reader: a daemon has 16 at most`,
			"start another `hsmemu exec`, or another `hsmemu run --socket PATH`, with the cards that are left",
		},
		{capability.Check("exec", "darwin"), "exec needs programs that use pcsc-lite, as on Linux and FreeBSD: those of macOS speak to its own smart-card service", "`hsmemu run --vpcd HOST:PORT` reaches a virtual reader of that service; `hsmemu apdu` needs none"},
		{fmt.Errorf("find the state folder: %w", statedir.ErrNoHome), "find the state folder: no home folder", "name one with --state or $HSMEMU_STATE"},
		{lesson.ErrGoneOn, "somebody else has gone on in this lesson", "hsmemu lesson"},
		{
			fmt.Errorf("the lesson in /tmp/x: %w: %w", lesson.ErrProgress, errors.New("it burns")), "the lesson in /tmp/x: how far it is cannot be read: it burns",
			"`hsmemu lesson reset` begins it again, and `exit` in its shell ends it",
		},
		{
			fmt.Errorf("%w: %q in /tmp/x", lesson.ErrSeveral, "One"), `several lessons go on: "One" in /tmp/x`,
			"in the shell of one it is that one, and elsewhere $HSMEMU_LESSON names its folder",
		},
		{
			fmt.Errorf("undo: %w", lesson.ErrLost), "undo: how it was then is not kept any more",
			"`hsmemu lesson reset` begins the lesson again; where it cannot, `exit` in its shell ends it",
		},
		{notBegun(pcscd.ErrPath), "begin the lesson: socket path too long", "set TMPDIR to a folder with a shorter name"},
		{vsmartcard.ErrNoReader, "no vpcd reader answers", "is pcscd running, with the vpcd driver configured for this port?"},
		{about("make", context.Canceled), `make card "alice": interrupted`, ""},
		{about("open", &store.LockedError{PID: 7}), `card "alice" is in use by process 7`, ""},
		{about("open", &store.LockedError{}), `card "alice" is in use by another process`, ""},
		{commandline.Hint(errors.New("no"), "try this"), "no", "try this"},
		{commandline.Hint(about("open", &store.LockedError{PID: 7}), "wait"), `card "alice" is in use by process 7`, "wait"},
		{errors.Join(errors.New("one"), errors.New("two")), "one; two", ""},
		{
			execError{errors.Join(&statedir.Error{Op: "open", Card: "bob", Err: errors.New("it burns")}, errors.Join(about("open", &store.LockedError{PID: 7})))},
			`open card "bob": it burns; card "alice" is in use by process 7`, "",
		},
		{
			commandline.Hint(errors.Join(fmt.Errorf("%w: %w", errors.New("one"), seal.ErrPassphrase), about("open", statedir.ErrNoCard)), "wait"),
			`one: wrong passphrase; open card "alice": there is no such card`, "hsmemu card new alice",
		},
		{errors.New("read \x1b[31mred\r"), "read �[31mred�", ""},
		{errors.New("panic\nf\n\tx.go:1"), "panic\nf\n\tx.go:1", ""},
	} {
		message, hint := explained(c.err)
		require.Equal(t, c.message, message)
		require.Equal(t, c.hint, hint)
		for _, a := range advices {
			told[a.is] = told[a.is] || errors.Is(c.err, a.is)
		}
	}
	for _, a := range advices {
		require.True(t, told[a.is], "no case for %v", a.is)
		require.NotContains(t, a.why, "\n")
		require.LessOrEqual(t, strings.Count(a.hint, "%s"), 1)
	}
}
