package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"hsmemu/applet"
	"hsmemu/cmd/hsmemu/commandline"
	"hsmemu/emulator/conform"
	"hsmemu/emulator/conform/trial"
	"hsmemu/emulator/statedir"
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
	err := oneOf("--report", c.report, conform.Formats())
	if err == nil && c.hasFirmware {
		err = oneOf("--firmware", c.firmware, applet.Firmwares())
	}
	return err
}

// oneOf refuses a value that a flag does not take.
func oneOf(flag, value string, of []string) error {
	if slices.Contains(of, value) {
		return nil
	}
	return fmt.Errorf("%s %q: it is one of %s", flag, value, strings.Join(of, ", "))
}

func (c *conformance) run(ctx context.Context) error {
	library, err := conform.RulesIn(c.rulesDirs...)
	if err != nil {
		return fmt.Errorf("read rules: %w", err)
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
	var rules []listed
	for _, r := range library.Rules {
		says := r.Says
		if r.Withdrawn != "" {
			says = "withdrawn: " + r.Withdrawn
		}
		rules = append(rules, listed{r.ID, fmt.Sprintf("%-12s %-28s %s", r.ID, r.Costs, says)})
	}
	if o.Only, err = chosen("--rules", c.rules, "no rule", rules); err != nil {
		return err
	}
	if c.list {
		return c.print(o.Only, rules)
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
	var pin, soPIN func() ([]byte, error)
	if c.pinFile != "" || c.reader != "" && c.env("HSMEMU_PIN") != "" {
		pin = func() ([]byte, error) { return c.pin("user PIN", c.pinFile, "HSMEMU_PIN") }
	}
	if c.soPINFile != "" || c.destructive {
		soPIN = func() ([]byte, error) { return c.pin("SO-PIN", c.soPINFile, "HSMEMU_SO_PIN") }
	}
	if err := o.TakeSecrets(c.reader != "", pin, soPIN); err != nil {
		return err
	}
	if err := c.writable(); err != nil {
		return err
	}
	target, end, err := c.target(ctx, o.Seed)
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
	return c.tell(report, err)
}

// listed is what can be played, and a line about it.
type listed struct{ id, line string }

// chosen is the expression of a flag that says which of all are played, by their names.
func chosen(flag, text, none string, all []listed) (*regexp.Regexp, error) {
	only, err := regexp.Compile(text)
	switch {
	case err != nil:
		return nil, commandline.Usage(fmt.Errorf("%s: %w", flag, err))
	case !slices.ContainsFunc(all, func(l listed) bool { return only.MatchString(l.id) }):
		return nil, commandline.Usage(fmt.Errorf("%s %s: %s is called so", flag, text, none))
	}
	return only, nil
}

// print lists what was chosen.
func (a *app) print(only *regexp.Regexp, all []listed) error {
	for _, l := range all {
		if !only.MatchString(l.id) {
			continue
		}
		if _, err := fmt.Fprintln(a.out, l.line); err != nil {
			return err
		}
	}
	return nil
}

// target is what is judged, and what ends its use.
func (c *conformance) target(ctx context.Context, seed *uint64) (t conform.Target, end func(), err error) {
	switch {
	case c.reader != "":
		return trial.Inserted(ctx, c.reader)
	case c.card != "":
		var d *statedir.Dir
		if d, err = c.cards(); err == nil {
			t, err = trial.Copies(d, c.card, c.outside)
		}
	default:
		t, err = trial.Made(c.firmware, seed, c.outside)
	}
	return t, func() {}, err
}

// confirm shows what a run costs and has its card named.
func (c *conformance) confirm(s conform.Statement, p conform.Plan, most conform.Costs) (string, error) {
	fmt.Fprintf(c.err, "hsmemu: the plan, %d of %d rules on card %s: %s\n", p.Played(), len(p), s.Serial, most.Spends(s))
	if c.serial != "" {
		return c.serial, nil
	}
	line, err := c.typed("type its serial number to go on: ", false)
	if errors.Is(err, errNoTerminal) {
		err = commandline.Hint(errors.New("nobody confirms it"), "type the serial number at a terminal, or give --yes-destroy "+s.Serial)
	}
	return strings.TrimSpace(string(line)), err
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
	if r.Results == nil {
		return err
	}
	var text bytes.Buffer
	failed := r.Write(&text, c.report)
	switch {
	case failed != nil:
	case c.output != "":
		failed = os.WriteFile(c.output, text.Bytes(), 0o600)
	default:
		_, failed = c.out.Write(text.Bytes())
	}
	switch {
	case failed != nil:
		return fmt.Errorf("write the report: %w", failed)
	case r.Interrupted:
		return errInterrupted
	case err != nil:
		return err
	}
	return r.Err()
}
