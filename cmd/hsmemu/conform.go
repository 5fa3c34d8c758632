package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"hsmemu/cmd/hsmemu/commandline"
	"hsmemu/emulator/conform"
	"hsmemu/emulator/conform/trial"
)

// conformance is a call of hsmemu conform.
type conformance struct {
	*app
	card, reader, firmware         string
	fresh, list, destructive       bool
	rules, expect, statement       string
	rulesDirs                      []string
	report, output                 string
	serial                         string // --yes-destroy
	pinFile, soPINFile             string
	seed                           uint64
	keepSOTries                    int
	hasSeed, hasFirmware, hasFloor bool
}

func newConformCommand(a *app) *cobra.Command {
	c := conformance{app: a}
	cmd := &cobra.Command{
		Use:   "conform [--fresh | --card NAME | --reader NAME]",
		Short: "play the rules of lockout and judge a card by them",
		Long: "Plays the library of rules on a card and judges what it does. A new card is judged where none is named\n" +
			"(--fresh). Of a card by its name (--card), each rule gets a copy in memory: its file is left alone.\n" +
			"--reader plays on the card in a PC/SC reader, a real device too: then only rules that cost neither tries nor\n" +
			"data are played, unless --destructive is given and the serial number is typed, or given with --yes-destroy.\n" +
			"Exit code 0 says that rules were judged, and none is broken that --expect does not name.",
		Args: commandline.Exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c.hasSeed, c.hasFirmware, c.hasFloor = cmd.Flags().Changed("seed"), cmd.Flags().Changed("firmware"), cmd.Flags().Changed("keep-so-tries")
			if !cmd.Flags().Changed("card") && (c.reader != "" || c.fresh) {
				c.card = "" // that of the environment
			}
			if err := c.check(); err != nil {
				return commandline.Usage(err)
			}
			return c.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.BoolVar(&c.fresh, "fresh", false, "judge a new card, made for this")
	f.StringVar(&c.card, "card", "", "judge copies of this card")
	f.StringVar(&c.reader, "reader", "", "judge the card in the PC/SC reader whose `NAME` contains this")
	f.StringVar(&c.firmware, "firmware", "", "firmware of the new card: "+firmwareList())
	f.StringVar(&c.rules, "rules", "", "play the rules whose names match this `REGEX`")
	f.StringArrayVar(&c.rulesDirs, "rules-dir", nil, "add the rules of the files *.txt in this `FOLDER`; may be repeated")
	f.StringVar(&c.expect, "expect", "", "`FILE` of rules that are known to be broken or to be skipped")
	f.StringVar(&c.statement, "statement", "", "`FILE` with what the card is said to be, as JSON")
	f.StringVar(&c.report, "report", "text", "form of the report: "+strings.Join(conform.Formats(), ", "))
	f.StringVar(&c.output, "output", "", "write the report into this `FILE`")
	f.BoolVar(&c.destructive, "destructive", false, "play rules that cost tries or data in a reader, too")
	f.StringVar(&c.serial, "yes-destroy", "", "`SERIAL` number of the card that may be erased, instead of typing it")
	f.IntVar(&c.keepSOTries, "keep-so-tries", 5, "tries of the SO-PIN to keep in a reader, 1 to 15")
	f.StringVar(&c.pinFile, "pin-file", "", "file with the card's user PIN in its first line")
	f.StringVar(&c.soPINFile, "so-pin-file", "", "file with the card's SO-PIN in its first line, 16 hexadecimal digits")
	f.Uint64Var(&c.seed, "seed", 0, "make cards and randomness from this number; the report does not say when")
	f.BoolVar(&c.list, "list", false, "list the rules and play none")
	cmd.AddCommand(newConformClientCommand(a))
	return cmd
}

// check looks for mistakes in the command line.
func (c *conformance) check() error {
	targets := 0
	for _, named := range []bool{c.fresh, c.card != "", c.reader != ""} {
		if named {
			targets++
		}
	}
	switch {
	case targets > 1:
		return errors.New("name one of --fresh, --card and --reader")
	case !slices.Contains(conform.Formats(), c.report):
		return fmt.Errorf("--report %q: it is one of %s", c.report, strings.Join(conform.Formats(), ", "))
	case c.reader == "" && (c.destructive || c.serial != "" || c.hasFloor):
		return errors.New("--destructive, --yes-destroy and --keep-so-tries are for --reader: elsewhere nothing is lost")
	case c.serial != "" && !c.destructive && c.pinFile == "" && c.env("HSMEMU_PIN") == "":
		return errors.New("--yes-destroy is for --destructive, and for a PIN that is presented")
	case c.hasFirmware && (c.card != "" || c.reader != ""):
		return errors.New("--firmware is for a new card")
	case c.hasSeed && (c.card != "" || c.reader != ""):
		return errors.New("--seed is for a new card")
	case c.keepSOTries < 1 || c.keepSOTries > 15:
		return errors.New("--keep-so-tries takes 1 to 15: no command unblocks the SO-PIN")
	}
	return nil
}

func (c *conformance) run(ctx context.Context) error {
	library, err := c.library()
	if err != nil {
		return err
	}
	o := conform.Options{Program: version(), Destructive: c.destructive, KeepSOTries: c.keepSOTries, Clock: c.outside.Clock, Confirm: c.confirm}
	if isTerminal(c.err) {
		o.Progress = func(done, of int, _ conform.Result) {
			text := fmt.Sprintf("%d of %d rules", done, of)
			if done == of {
				text = "" // the report follows
			}
			c.showProgress(text)
		}
	}
	if c.rules != "" {
		if o.Only, err = regexp.Compile(c.rules); err != nil {
			return commandline.Usage(fmt.Errorf("--rules: %w", err))
		}
		if !slices.ContainsFunc(library.Rules, func(r conform.Rule) bool { return o.Only.MatchString(r.ID) }) {
			return commandline.Usage(fmt.Errorf("--rules %s: no rule is called so", c.rules))
		}
	}
	if c.list {
		return c.listed(library, o.Only)
	}
	if c.hasSeed {
		o.Seed = &c.seed
	}
	if c.expect != "" {
		text, err := c.readFile(c.expect)
		if err == nil {
			o.Expected, err = conform.ParseExpectations(c.expect, string(text))
		}
		if err != nil {
			return &fileError{"read expectations in", c.expect, err}
		}
	}
	if c.statement != "" {
		text, err := c.readFile(c.statement)
		if err == nil {
			o.Claim, err = conform.ParseClaim(text)
		}
		if err != nil {
			return &fileError{"read the statement in", c.statement, err}
		}
	}
	if err := c.secrets(&o); err != nil {
		return err
	}
	if err := c.writable(); err != nil {
		return err
	}
	target, end, err := c.target(ctx)
	if err != nil && ctx.Err() != nil {
		return errInterrupted
	}
	if err != nil {
		return err
	}
	report, err := conform.Judge(ctx, library, target, o)
	for _, secret := range o.Vars {
		clear(secret)
	}
	end()
	if report.Results == nil {
		return fmt.Errorf("judge %s: %w", target.Name, err)
	}
	return c.tell(report, err)
}

// library is the rules that come with the program and those of the user.
func (c *conformance) library() (conform.Library, error) {
	var folders []fs.FS
	for _, dir := range c.rulesDirs {
		if files, err := filepath.Glob(filepath.Join(dir, "*.txt")); err != nil || len(files) == 0 {
			return conform.Library{}, fmt.Errorf("read rules: no files *.txt in %s", dir)
		}
		folders = append(folders, os.DirFS(dir))
	}
	l, err := conform.Rules(folders...)
	if err != nil {
		return l, fmt.Errorf("read rules: %w", err)
	}
	return l, nil
}

func (c *conformance) listed(l conform.Library, only *regexp.Regexp) error {
	for _, r := range l.Rules {
		if only != nil && !only.MatchString(r.ID) {
			continue
		}
		says := r.Says
		if r.Withdrawn != "" {
			says = "withdrawn: " + r.Withdrawn
		}
		if _, err := fmt.Fprintf(c.out, "%-12s %-28s %s\n", r.ID, r.Costs, says); err != nil {
			return err
		}
	}
	return nil
}

// target is what is judged, and what ends its use.
func (c *conformance) target(ctx context.Context) (conform.Target, func(), error) {
	nothing := func() {}
	switch {
	case c.reader != "":
		return trial.Inserted(ctx, c.reader)
	case c.card != "":
		d, err := c.cards()
		if err != nil {
			return conform.Target{}, nil, err
		}
		state, _, err := d.Read(c.card)
		return trial.Copies(fmt.Sprintf("copies of card %q", c.card), state, c.outside), nothing, err
	}
	var seed *uint64
	if c.hasSeed {
		seed = &c.seed
	}
	state, err := trial.Made(c.firmware, seed, c.outside)
	return trial.Copies("a new card", state, c.outside), nothing, err
}

// secrets are those of the card. In a reader they are never guessed: what is not
// given is not known, except where all data is lost anyway.
func (c *conformance) secrets(o *conform.Options) error {
	o.Vars, o.PINIsNew = conform.TestSecrets(c.reader != "", c.destructive)
	if c.pinFile != "" || c.reader != "" && c.env("HSMEMU_PIN") != "" {
		pin, err := c.secret("user PIN", c.pinFile, "HSMEMU_PIN")
		if err != nil {
			return err
		}
		o.Vars["pin"], o.PINIsNew = pin, false
	}
	if c.soPINFile != "" || c.destructive {
		text, err := c.secret("SO-PIN", c.soPINFile, "HSMEMU_SO_PIN")
		if err != nil {
			return err
		}
		o.Vars["so-pin"], err = conform.ParseSOPIN(text)
		clear(text)
		if err != nil {
			return fmt.Errorf("read SO-PIN: %w", err)
		}
	}
	return nil
}

// confirm shows what a run costs and has its card named.
func (c *conformance) confirm(s conform.Statement, p conform.Plan, most conform.Costs) error {
	fmt.Fprintf(c.err, "hsmemu: the plan, %d of %d rules on card %s: %s\n", p.Played(), len(p), s.Serial, most.Spends(s))
	typed := c.serial
	if typed == "" {
		line, err := c.typed("type its serial number to go on: ", false)
		if errors.Is(err, errNoTerminal) {
			return commandline.Hint(errors.New("nobody confirms it"), "type the serial number at a terminal, or give --yes-destroy "+s.Serial)
		}
		if err != nil {
			return err
		}
		typed = strings.TrimSpace(string(line))
	}
	if s.Serial == "" || typed != s.Serial {
		return fmt.Errorf("the card is %q, not %q", s.Serial, typed)
	}
	return nil
}

// writable finds out, before a try is spent, whether the report can be written. What
// is in the file stays there until there is a report.
func (c *conformance) writable() error {
	if c.output == "" {
		return nil
	}
	file, err := os.OpenFile(c.output, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return file.Close()
}

// tell writes the report, and says by its error what became of it.
func (c *conformance) tell(r conform.Report, err error) error {
	out := c.out
	var file *os.File
	if c.output != "" {
		var failed error
		if file, failed = os.OpenFile(c.output, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600); failed != nil {
			return fmt.Errorf("write the report: %w", failed)
		}
		out = file
	}
	failed := r.Write(out, c.report)
	if file != nil {
		failed = errors.Join(failed, file.Close())
	}
	outcome := "does not conform"
	if r.Judged() == 0 && len(r.Conflicts) == 0 {
		outcome = "was not judged"
	}
	switch {
	case failed != nil:
		return fmt.Errorf("write the report: %w", failed)
	case r.Interrupted:
		return errInterrupted
	case err != nil:
		return err
	case !r.Passed():
		return fmt.Errorf("%s %s: %s", r.Target, outcome, strings.Join(append(r.Remarks(), r.Summary()), "; "))
	}
	return nil
}
