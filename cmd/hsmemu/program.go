package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"hsmemu/emulator/program"
)

// exitExec is the exit code of exec where it failed itself.
const exitExec = 125

// execError is a failure of exec itself.
type execError struct{ error }

func (e execError) Unwrap() error { return e.error }

// packages are those of Debian and its kin that have the tools that people use
// cards with.
var packages = map[string]string{
	"eidenv": "opensc", "opensc-explorer": "opensc", "opensc-tool": "opensc", "pkcs11-tool": "opensc", "pkcs15-crypt": "opensc",
	"pkcs15-init": "opensc", "pkcs15-tool": "opensc", "sc-hsm-tool": "opensc",
	"gpg": "gnupg", "openssl": "openssl", "p11-kit": "p11-kit", "p11tool": "gnutls-bin", "certtool": "gnutls-bin", "pcsc_scan": "pcsc-tools",
	"scriptor": "pcsc-tools", "ssh": "openssh-client", "ssh-add": "openssh-client", "ssh-keygen": "openssh-client", "pesign": "pesign",
	"osslsigncode": "osslsigncode", "certutil": "libnss3-tools", "modutil": "libnss3-tools",
}

// notStarted says why a program could not be started, and what to do if there is no
// such program: the advice, or where the program is to be had. It makes the exit code
// alone of a *program.StartError; other errors, and none, stay what they are.
func (a *app) notStarted(err error, advice string) error {
	var failed *program.StartError
	if !errors.As(err, &failed) {
		return err
	}
	fmt.Fprintf(a.err, "hsmemu: start %s: %s\n", cmp.Or(oneLine(failed.Name), `""`), oneLine(failed.Error()))
	here, absent := os.Stat(failed.Name)
	switch in := packages[failed.Name]; {
	case !failed.Absent:
		advice = ""
	case in != "":
		advice = "it is in the package " + in
	case advice == "" && filepath.Base(failed.Name) == failed.Name && absent == nil && here.Mode().IsRegular():
		advice = "the one in this folder is ./" + oneLine(failed.Name)
	}
	if advice != "" {
		fmt.Fprintf(a.err, "hint: %s\n", advice)
	}
	return failed.Exit()
}
