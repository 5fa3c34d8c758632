package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hsmemu/applet"
	"hsmemu/cmd/hsmemu/commandline"
	"hsmemu/emulator/capability"
	"hsmemu/emulator/conform"
	"hsmemu/emulator/conform/trial"
	"hsmemu/emulator/program"
)

// audition is a program on its way to be judged.
type audition struct {
	conformance // of which it has the report and the firmware
	situations  string
	limit       time.Duration
	args        []string
}

func newConformClientCommand(a *app) *cobra.Command {
	c := audition{conformance: conformance{app: a}}
	cmd := &cobra.Command{
		Use:   "client [flags] -- PROGRAM [ARG]...",
		Short: "judge a program in situations of lockout",
		Long: "Runs a program once in each situation, with throw-away cards in a private PC/SC daemon, as `hsmemu exec` does,\n" +
			"and judges it by what the cards see of it, and by its exit code: whether it spends tries that it should not,\n" +
			"repeats a PIN that was refused, claims success, or hangs. The program should log in with the user PIN and do\n" +
			"something that takes a login, as to sign with the key 01 (secp256r1) that is on each card.\n\n" +
			"It finds in its environment: HSMEMU_PIN, the user PIN; HSMEMU_SO_PIN, the SO-PIN in hexadecimal digits;\n" +
			"HSMEMU_READER, the name of the reader with the card that they are meant for; HSMEMU_SITUATION, the name of the\n" +
			"situation. In some situations the PINs are wrong; each run has PINs of its own. It has no input and no terminal;\n" +
			"what it prints goes to standard error. Exit code 0 says that situations were judged, and nothing is broken, 127\n" +
			"that there is no such program, and 126 that it cannot be run.",
		Args: func(cmd *cobra.Command, args []string) error {
			if c.list && len(args) > 0 {
				return commandline.Usage(errors.New("--list plays no situation, so it takes no program"))
			}
			if c.list {
				return nil
			}
			return commandline.OneOrMore(cmd, args)
		},
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			c.args = args
			return c.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.StringVar(&c.situations, "situations", "", "play the situations whose names match this `REGEX`")
	f.BoolVar(&c.list, "list", false, "list the situations and play none")
	f.StringVar(&c.firmware, "firmware", "", "firmware of the cards: "+firmwareList())
	f.StringVar(&c.report, "report", "text", "form of the report: "+strings.Join(conform.Formats(), ", "))
	f.StringVar(&c.output, "output", "", "write the report into this `FILE`")
	f.DurationVar(&c.limit, "timeout", 30*time.Second, "how long the program may take in a situation, with all that it has started")
	return cmd
}

func (c *audition) run(ctx context.Context) error {
	all := conform.Situations()
	var situations []listed
	for _, s := range all {
		situations = append(situations, listed{s.ID, fmt.Sprintf("%-14s %s", s.ID, s.Says)})
	}
	err := oneOf("--report", c.report, conform.Formats())
	if err == nil && c.firmware != "" {
		err = oneOf("--firmware", c.firmware, applet.Firmwares())
	}
	if err == nil && c.limit <= 0 {
		err = errors.New("--timeout is more than no time")
	}
	if err != nil {
		return commandline.Usage(err)
	}
	only, err := chosen("--situations", c.situations, "none", situations)
	if err != nil {
		return err
	}
	if c.list {
		return c.print(only, situations)
	}
	if err := capability.Check("conform client", runtime.GOOS); err != nil {
		return err
	}
	if err := program.Find(c.args[0]); err != nil {
		return c.notStarted(err, "")
	}
	if err := c.writable(); err != nil {
		return err
	}
	of := trial.Trial{
		World: c.outside, Firmware: c.firmware, Limit: c.limit, Args: c.args, Env: os.Environ(), Out: c.err,
		Folders: []string{c.env("XDG_RUNTIME_DIR"), os.TempDir()},
		Begin:   func(s conform.Situation) { fmt.Fprintf(c.err, "hsmemu: situation %s\n", s.ID) },
	}
	report, err := of.Judge(ctx, all, conform.Audition{Program: version(), Only: only})
	if errors.Is(err, conform.ErrUnstarted) {
		return c.notStarted(err, "")
	}
	return c.tell(report, err)
}
