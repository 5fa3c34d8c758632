package conform_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/conform"
	"hsmemu/vsmartcard"
)

// pins are values that stand for secrets, with everything of them that may be in no
// message. The second is a user PIN typed as text where digits are meant.
var pins = []struct {
	name    string
	traces  []string
	written []string // how somebody writes it, rightly or not
}{
	{"digits", []string{"731946", "373331393436", "31393436"}, []string{`"731946"`, "373331393436", "37 33 31 39 34 36", "731946", `"731946`, "Lc(731946", "06 373331393436)", "{731946}", "{731946", "{pin|731946}", "{731946|flip}", "731946(00)", "54(731946)", "head 731946", "!731946", "=> 731946", "'731946'", "0x373331393436"}},
	{"letters", []string{"xaver7", "787661766572", "786176657237"}, []string{`"xaver7"`, "786176657237", "xaver7", `"xaver7`, "{pin|xaver7}", "Lc(xaver7)", "'xaver7'"}},
	{"SO-PIN", []string{"9182736455463728", "91827364"}, []string{"9182736455463728", "91 82 73 64 55 46 37 28", "82(9182736455463728)", "9182736455463728(", "918273645546372", `"9182736455463728"`}},
}

// places are lines with a gap where a value can stand, rightly or by mistake.
var places = []string{
	"%s",
	"00 20 00 81 Lc(%s)",
	"00 20 00 81 Lc(%s) => 63C2",
	"> 00 20 00 81 Lc(%s)\n< 63C0",
	"00 20 00 81 06 %s",
	"00200081 %s => 63C7",
	"00 20 00 81 Lc({gone} %s)",
	"00 20 00 81 Lc({short|head 9} %s)",
	"00 20 00 81 Lc(%s) => {gone} 9000",
	"00 20 00 81 Lc(%s => 9000",
	"00 20 00 81 Lc(%s)) => 9000",
	"00 20 00 81 Lc(%s) => 90 0",
	"00 20 00 81 Lc(%s) => what",
	"00 20 00 81 Lc(%s) => 9000 !x",
	"00 20 00 81 Lc(%s) => 63C2 |",
	"00 20 00 81 Lc(%s) => 9000 (differs: )",
	"00 20 00 81 %s(00)",
	"00 20 00 81 => %s",
	"00 20 00 81 => %s 9000",
	"00 20 00 81 => 9000 %s",
	"00 20 00 81 => {kept:%s}",
	"00 20 00 81 => 9000 !%s",
	"> 00 20 00 81\n< %s",
	"> 00 20 00 81\n< 9000 %s",
	"> 00 20 00 81\n= %s",
	"> 00 20 00 81\n! %s",
	"> 00 20 00 81\n~ %s",
	"> 00 20 00 81\n%s",
	"00 24 01 81 Lc(%s) => 6A80",
	"00 24 00 81 Lc(%s %[1]s) => 6A80",
	"00 2C 00 81 Lc(%s) => 6A80",
	"80 50 00 00 Lc(80(0001) 81(%s) 82(%[1]s) 91(03)) => 6A80",
	"80 50 00 00 Lc(81(%s) 91(3)",
	"80 52 00 00 Lc(%s) => 6A80",
	"00 B1 CD 00 Lc(54(0000) %s) => 6A80",
	"00 D7 CD 00 Lc(54(0000) 53(%s)) => 6A80",
	"84 20 00 81 Lc(%s) => 6A80",
	"FF 20 00 81 Lc(%s) => 6A80",
	"00 20 %s",
	"let pin = %s",
	"let %s = 00",
	"let pin %s",
	"let a = Lc(%s",
	"let a = {short|head 9} %s",
	"let a = %s\nlet b = %[1]s\ndiffer a b",
	"differ %s",
	"differ a %s",
	"differ %s %[1]s",
	"card %s 9.9 x",
	"card A %s",
	"cut %s",
	"select %s",
	"holds %s",
	"sm %s",
	"sm on %s",
	"sm on aes128\n< %s",
	"sm on aes128\n%s",
}

// clean fails where a text has something of a PIN.
func clean(t *testing.T, text string, traces []string, of string) {
	t.Helper()
	plain := strings.ToLower(strings.NewReplacer(" ", "", ":", "").Replace(text))
	for _, trace := range traces {
		require.NotContains(t, plain, trace, "of %q: %s", of, text)
	}
}

// repeating is a card that repeats what it is told, and has one told nothing of it.
type repeating struct{ echo }

func (repeating) Seen() conform.Seen { return conform.Seen{Event: "event", Users: "U=3/3 S=15 nobody"} }

// Whatever is wrong with a line of a scenario, and whatever a card does with it, the
// error has its line, and nothing of a PIN in it.
func TestErrors_HaveNoSecrets(t *testing.T) {
	t.Parallel()
	unread, otherwise := 0, 0
	cards := map[string]conform.Make{
		"none":      func(string, string) (vsmartcard.Card, error) { return nil, errors.New("there are no cards") },
		"echo":      func(string, string) (vsmartcard.Card, error) { return echo{}, nil },
		"witness":   func(string, string) (vsmartcard.Card, error) { return repeating{}, nil },
		"gone":      func(string, string) (vsmartcard.Card, error) { return &fake{err: errors.New("it is gone")}, nil },
		"no status": func(string, string) (vsmartcard.Card, error) { return &fake{answer: []byte{0x90}}, nil },
		"refusing":  func(string, string) (vsmartcard.Card, error) { return &fake{answer: []byte{0x6F, 0x00}}, nil },
	}
	for _, pin := range pins {
		for _, place := range places {
			for _, written := range pin.written {
				if pin.name == "letters" && (strings.HasPrefix(place, "differ") || strings.HasPrefix(place, "let %s")) {
					continue // names of variables are quoted
				}
				text := "card A 4.1\nlet short = 00\n" + fmt.Sprintf(place, written) + "\n"
				if !strings.Contains(place, "[1]") {
					text = "card A 4.1\nlet short = 00\n" + strings.Replace(place, "%s", written, 1) + "\n"
				}
				script, err := conform.Parse(text)
				if err != nil {
					unread++
					require.Regexp(t, `^line [3-5]: `, err.Error(), text)
					clean(t, err.Error(), pin.traces, text)
					continue
				}
				for name, maker := range cards {
					player := conform.NewPlayer(maker)
					err := player.Play(t.Context(), script)
					if err == nil {
						continue
					}
					otherwise++
					require.Regexp(t, `^line [1-5]: `, err.Error(), text)
					clean(t, err.Error(), pin.traces, name+" "+text)
					if m := (*conform.Mismatch)(nil); errors.As(err, &m) {
						clean(t, fmt.Sprintf("%+v", *m), pin.traces, name+" "+text)
					}
					for _, d := range player.Differences {
						clean(t, d.Text+d.Want+d.Got, pin.traces, name+" "+text)
					}
				}
			}
		}
	}
	require.Greater(t, unread, 200, "lines that cannot be read")
	require.Greater(t, otherwise, 1000, "lines that are played otherwise")
}

// The same of files with rules, and of all forms of a report of them.
func TestReports_HaveNoSecrets(t *testing.T) {
	t.Parallel()
	reported := 0
	for _, pin := range pins {
		for _, written := range pin.written {
			for _, line := range []string{
				"%s", " %s", "rule %s", "rule X-R1 %s", "setup %s", "setup a b %s",
				heading + " %s", heading + " costs %s", heading + " costs nothing\n clause %s\nsteps\n select", heading + " costs nothing\n evidence %s\nsteps\n select",
				heading + " costs nothing\n applies %s\nsteps\n select", heading + " costs nothing\n applies option %s\nsteps\n select", heading + " costs nothing\n power %s\nsteps\n select",
				heading + " costs nothing\n setup %s\nsteps\n select", heading + " costs nothing\n 00 20 00 81 Lc(%s)\nsteps\n select", heading + " costs nothing\n00 20 00 81 Lc(%s)\nsteps\n select",
			} {
				if _, err := conform.ParseRules("f.txt", strings.Replace(line, "%s", written, 1)); err != nil {
					clean(t, err.Error(), pin.traces, line)
				}
			}
			if _, err := conform.ParseExpectations("known", "broken "+written+" # why\nskip "+written+"\n"+written); err != nil {
				clean(t, err.Error(), pin.traces, written)
			}
			for _, place := range places {
				if pin.name == "letters" && (strings.HasPrefix(place, "differ") || strings.HasPrefix(place, "let %s")) {
					continue
				}
				line := strings.ReplaceAll(strings.ReplaceAll(place, "%[1]s", written), "%s", written)
				l, err := conform.ParseRules("f.txt", heading+" costs all data, 9 user tries, 9 SO tries\nsteps\n "+strings.ReplaceAll(line, "\n", "\n ")+"\n 00 20 00 81 => 6F00\nafter\n "+strings.ReplaceAll(line, "\n", "\n "))
				if err != nil {
					clean(t, err.Error(), pin.traces, line)
					continue
				}
				r, err := conform.Judge(t.Context(), l, shipped(t, "4.1"), options())
				require.NoError(t, err)
				for _, format := range conform.Formats() {
					var out strings.Builder
					require.NoError(t, r.Write(&out, format))
					said := out.String()
					for _, sum := range []string{r.PlanSHA256, r.StatementSHA256, r.Statement.Serial} {
						said = strings.ReplaceAll(said, sum, "")
					}
					for _, one := range r.Plan {
						said = strings.ReplaceAll(said, one.SHA256, "")
					}
					clean(t, said, pin.traces, format+" "+line)
					reported++
				}
			}
		}
	}
	require.Greater(t, reported, 500)
}

// What is quoted of a line is enough to find what is meant.
func TestErrors_SayWhatAndWhere(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		`00 20 00 81 Lc("731946") => 6A80`:               "line 3: 00200081 Lc(…)\nwant 6A80\ngot  (11 bytes, not shown) 9000",
		"0020008106373331393436":                         "line 3: 00200081 …\nwant 9000\ngot  (11 bytes, not shown) 9000",
		`80500000 Lc(80(0001) 81("x") 82({pin|flip}))`:   "line 3: 80500000 Lc(80(…) 81(…) 82({pin|flip})): no variable pin",
		"00 E4 02 00 Lc(CF05) => 6A82":                   "line 3: 00E40200 Lc(CF05)\nwant 6A82\ngot  (7 bytes, not shown) 9000",
		"select => 6A82":                                 "line 3: select takes other words behind it",
		"00 A4 04 0C Lc(AABB) => CC * 9000":              "line 3: 00A4040C Lc(…)\nwant CC * 9000\ngot  00A4040C02AABB 9000",
		"00 B1 CD 00 Lc(54(0000)) => AA .. 9000 | 69 ..": "line 3: 00B1CD00 Lc(54(…))\nwant (1 byte, not shown) .. 9000 | 69 ..\ngot  (9 bytes, not shown) 9000",
		"let b = Lc({short|head 2} 00)":                  "line 3: let b = Lc({short|head 2} …): {short|head 2}: too few bytes",
		"differ short short":                             "line 3: differ short short\nwant two values\ngot  the same 1 bytes twice",
		"\tä 00":                                         "line 3: column 2: not understood: a command has",
		"00 =>  9000 | ä":                                "line 3: column 15: not understood: an answer has",
	} {
		script, err := conform.Parse("card A\nlet short = 00\n" + line)
		if err == nil {
			err = conform.NewPlayer(func(string, string) (vsmartcard.Card, error) { return echo{}, nil }).Play(t.Context(), script)
		}
		require.ErrorContains(t, err, want, line)
	}
}
