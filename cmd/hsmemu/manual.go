package main

import "hsmemu/cmd/hsmemu/commandline"

// manual is what every manual page says.
var manual = commandline.Manual{
	Status: `0 when it is done, 1 when it failed, with a line about why, 2 for a mistake in the command line, 130 when it was
interrupted before it was done.
hsmemu exec hands over the exit status of its program. Its own are
`,
	Statuses: [][2]string{ // of exec itself
		{"2", "a mistake in exec's own command line; the program was not run"},
		{"125", "exec itself failed, as for a card that is in use, or with --keep-going a card was missing from a program that ended with 0"},
		{"126", "the program cannot be run"},
		{"127", "there is no such program"},
		{"128+n", "signal n ended the program"},
	},
	Files: `$HSMEMU_STATE, $XDG_STATE_HOME/hsmemu or ~/.local/state/hsmemu: the cards, each in NAME.card, with their
snapshots in snapshots/NAME. A process that runs a card listens at NAME.sock.
`,
}
