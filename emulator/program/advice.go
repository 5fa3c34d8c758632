package program

import (
	"os"
	"path/filepath"
)

// packages are those of Debian and its kin that have the tools that people use
// cards with.
var packages = map[string]string{
	"eidenv": "opensc", "opensc-explorer": "opensc", "opensc-tool": "opensc", "pkcs11-tool": "opensc", "pkcs15-crypt": "opensc",
	"pkcs15-init": "opensc", "pkcs15-tool": "opensc", "sc-hsm-tool": "opensc",
	"gpg": "gnupg", "openssl": "openssl", "p11-kit": "p11-kit", "p11tool": "gnutls-bin", "certtool": "gnutls-bin", "pcsc_scan": "pcsc-tools",
	"scriptor": "pcsc-tools", "ssh": "openssh-client", "ssh-add": "openssh-client", "ssh-keygen": "openssh-client", "pesign": "pesign",
	"osslsigncode": "osslsigncode", "certutil": "libnss3-tools", "modutil": "libnss3-tools",
}

// Advice is what to do about it, for people: where a tool is to be had that people use
// cards with, or else what is given, or else that the program is in this folder. It is empty
// for nothing, and for a program that is there.
func (e *StartError) Advice(given string) string {
	in := packages[e.Name]
	switch here, err := os.Stat(e.Name); {
	case !e.Absent:
		return ""
	case in != "":
		return "it is in the package " + in
	case given == "" && filepath.Base(e.Name) == e.Name && err == nil && here.Mode().IsRegular():
		return "the one in this folder is ./" + e.Name
	}
	return given
}
