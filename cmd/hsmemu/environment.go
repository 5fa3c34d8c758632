package main

import "hsmemu/cmd/hsmemu/commandline"

// variables are the environment variables that stand for flags, and those for secrets.
var variables = commandline.Variables{
	Prefix:  "HSMEMU_",
	Default: "card",

	// What asks for help; what destroys or makes another command of one, and is for
	// somebody who has looked at the line, as --force and --rm; and what means one thing
	// here and another there, as --wait.
	Not: []string{
		"help", "version",
		"force", "destructive", "yes-destroy", "rm", "clear", "list", "unprotected",
		"expect", "wait",
	},
	Rivals: [][]string{
		{"card", "socket"},
		{"card", "reader", "fresh"},
		{"card", "root"},
		{"socket", "vpcd", "vpcd-listen"},
		{"from", "socket"},
		{"from", "init"},
		{"json", "verbose"},
		{"from", "like"},
		{"from", "firmware"},
		{"from", "serial"},
		{"from", "seed"},
		{"from", "key-pool"},
		{"from", "answer"},
		{"from", "broken"},
		{"from", "blank"},
		{"blank", "like"},
		{"from", "portal"},
		{"blank", "portal"},
		{"seed", "portal"},
		{"card", "firmware"},
		{"reader", "firmware"},
		{"card", "seed"},
		{"reader", "seed"},
	},
	Needing: map[string]commandline.Need{
		"socket-mode": {Flag: "socket"}, "socket-group": {Flag: "socket"},
		"keep-so-tries": {In: "conform", Flag: "reader"},
		"json":          {In: "card fault", Flag: "list"},

		"pin-file": {In: "card new", Flag: "like", Refused: true}, "so-pin-file": {In: "card new", Flag: "like", Refused: true},
		"snapshot-passphrase-file": {In: "card new", Flag: "from", Refused: true}, "file-passphrase-file": {In: "card new", Flag: "from", Refused: true},
	},
	Secrets: map[string]string{
		"HSMEMU_PASSPHRASE":          "passphrase of the card, or of the portal's records",
		"HSMEMU_NEW_PASSPHRASE":      "new passphrase of the card, for `card reseal`",
		"HSMEMU_FILE_PASSPHRASE":     "passphrase of an exported file",
		"HSMEMU_SNAPSHOT_PASSPHRASE": "passphrase that the card had when the snapshot was taken",
		"HSMEMU_PIN":                 "user PIN, for `conform` with --reader alone and for `lesson expect --takes`; of `conform client`, what the program is given",
		"HSMEMU_SO_PIN":              "SO-PIN in hexadecimal: of a new card for `card new --like`, of the card to be judged for `conform --reader`, the one that `lesson expect --takes` wants, and what `conform client` gives its program",
		"HSMEMU_PASSWORD":            "password of a PKCS #12 file",
		"HSMEMU_SHARE_PASSWORD":      "password of a DKEK share",
		"HSMEMU_MAIL_PASSWORD":       "password of the mail server, for `portal serve`",
	},
}
