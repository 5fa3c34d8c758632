package main

import "github.com/spf13/cobra"

// examples are what to type, for every command.
var examples = map[string]string{
	"hsmemu":            "hsmemu exec -- pkcs11-tool -L\nhsmemu card new lab\nhsmemu card show lab",
	"card":              "hsmemu card new lab\nhsmemu card list",
	"card new":          "hsmemu card new lab\nhsmemu card new old --firmware 3.4 --serial DENK0404144\nhsmemu card new safe --seal passphrase\nhsmemu card new hers --like so=7,user=2,options=0001\nhsmemu card new second --from lab:before",
	"card list":         "hsmemu card list\nhsmemu card list --json",
	"card show":         "hsmemu card show lab\nhsmemu card show lab --json",
	"card rm":           "hsmemu card rm lab",
	"card rename":       "hsmemu card rename lab archive",
	"card copy":         "hsmemu card copy lab second",
	"card authenticate": "hsmemu card authenticate --card lab --with alice --with bob",
	"card import-key":   "hsmemu card import-key --card lab --key-domain 0 --share dkek.pbe key.p12",
	"card fault":        "hsmemu card fault lab remove after=3\nhsmemu card fault lab slow sign=800ms\nhsmemu card fault lab --list\nhsmemu card fault lab --clear",
	"card snapshot":     "hsmemu card snapshot lab before",
	"card restore":      "hsmemu card restore lab before",
	"card snapshots":    "hsmemu card snapshots lab",
	"card export":       "hsmemu card export lab lab.hsmemu",
	"card import":       "hsmemu card import lab.hsmemu copy",
	"card reseal":       "hsmemu card reseal lab --seal passphrase",
	"card accept":       "hsmemu card accept lab",
	"card eject":        "hsmemu card eject lab",
	"card insert":       "hsmemu card insert lab",
	"card reset":        "hsmemu card reset lab",
	"exec":              "hsmemu exec -- pkcs11-tool -L\nhsmemu exec --card alice --card bob -- bash\nhsmemu exec --console -- bash",
	"run":               "hsmemu run --card lab\nhsmemu run --card lab --console\nhsmemu run --card lab --socket /run/hsm/pcscd.comm --socket-group signers\nhsmemu run --card lab --vpcd localhost:35963\nhsmemu run --card lab --ram http://localhost:8080/rt/paas",
	"ram":               "hsmemu ram --card lab http://localhost:8080/rt/paas\nhsmemu ram --reader Nitrokey --pin-file pin https://portal.example/rt/paas",
	"apdu":              "hsmemu apdu 00A4040C0BE82B0601040181C31F0201 0020008100\nhsmemu apdu --card lab - < commands",
	"trace":             "hsmemu trace --card lab",
	"status":            "hsmemu status --card lab\nhsmemu status --socket /run/hsm/pcscd.comm --wait 10s",
	"attest":            "hsmemu attest --card lab --key 1\nhsmemu attest device.cvc issuer.cvc",
	"conform":           "hsmemu conform\nhsmemu conform --card lab --report html --output lab.html\nhsmemu conform --reader Nitrokey",
	"conform client":    "hsmemu conform client -- ./login.sh\nhsmemu conform client --situations 'blocked|last' --report junit --output lockout.xml -- python3 sign.py",
	"portal":            "hsmemu portal serve",
	"portal serve":      "hsmemu portal serve\nhsmemu portal serve --listen 127.0.0.1:9000 --data portal",
	"lesson":            "hsmemu lesson list\nhsmemu lesson first-steps\nhsmemu lesson --dir mine",
	"lesson list":       "hsmemu lesson list",
	"lesson check":      "hsmemu lesson check --watch\nhsmemu lesson check first-steps mine",
	"lesson hint":       "hsmemu lesson hint",
	"lesson next":       "hsmemu lesson next",
	"lesson undo":       "hsmemu lesson undo",
	"lesson reset":      "hsmemu lesson reset",
	"lesson join":       "hsmemu lesson join",
	"lesson class":      "hsmemu lesson class\nhsmemu lesson class --listen 192.0.2.7:8080 --open",
	"lesson expect":     "hsmemu lesson expect --card lab so_pin.tries_left=7\nhsmemu lesson expect --card lab --seen 'subject=SO-PIN,sw=63C?'",
	"version":           "hsmemu version",
	"capabilities":      "hsmemu capabilities\nhsmemu capabilities --json | jq -e '.seals | index(\"tpm\")'",
	"completion":        "hsmemu completion bash > /etc/bash_completion.d/hsmemu\nsource <(hsmemu completion zsh)",
	"man":               "hsmemu man card new | man -l -\nhsmemu man --folder /usr/local/share/man/man1",
}

// exemplify gives a command and those below it their examples.
func exemplify(cmd *cobra.Command) {
	cmd.Example = indented(examples[nameOf(cmd)])
	for _, sub := range cmd.Commands() {
		exemplify(sub)
	}
}
