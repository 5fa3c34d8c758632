package start_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/applet"
	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/conform"
	"hsmemu/emulator/start"
	"hsmemu/emulator/statedir"
	"hsmemu/emulator/store"
	"hsmemu/emulator/view"
	"hsmemu/keystore/seal"
)

// folder writes files into a new folder.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	return dir
}

func state(t *testing.T) (*statedir.Dir, store.Options) {
	t.Helper()
	opt := store.Options{Sealers: []seal.Sealer{seal.Insecure{}}}
	d, err := statedir.Open(t.TempDir(), opt)
	require.NoError(t, err)
	return d, opt
}

const login = "00A4040C0BE82B0601040181C31F0201\n0020008106363438323139\n"

func TestMake_PlaysInTheOrderOfNames(t *testing.T) {
	t.Parallel()
	dir := folder(t, map[string]string{
		"card.json":  `{"firmware": "3.4", "serial": "DENK0404144", "like": "so=7"}`,
		"10-one.txt": login + "00d7cd0108540200005302aabb\n", // of any case
		"20-two.txt": "select\n00200081 => 63C3\n0020008106363438323139\n00 B1 CD 01 04 54 02 00 00 00 => AABB 9000\n",
		"notes.md":   "not of the start state",
	})
	s, err := start.Read(dir, "lab")
	require.NoError(t, err)
	require.Equal(t, []string{"card.json", "10-one.txt", "20-two.txt"}, s.Files)
	d, opt := state(t)
	require.NoError(t, s.Make(t.Context(), d, "lab", opt, emulator.System()))
	made, _, err := d.Read("lab")
	require.NoError(t, err)
	require.Equal(t, "3.4", made.Applet.Firmware)
	require.Equal(t, "DENK0404144", made.Applet.Serial())
	require.ErrorIs(t, s.Make(t.Context(), d, "lab", opt, emulator.System()), statedir.ErrCardExists)
}

// Files that begin and lines that end as Windows' editors write them are the same start state.
func TestRead_OtherEditors(t *testing.T) {
	t.Parallel()
	const mark = "\ufeff"
	s, err := start.Read(folder(t, map[string]string{
		"card.json": mark + "{\r\n\"serial\": \"DENK0404144\"\r\n}\r\n", "a.txt": mark + "select\r\n00200081 => 6A88\r\n",
	}), "lab")
	require.NoError(t, err)
	d, opt := state(t)
	require.NoError(t, s.Make(t.Context(), d, "lab", opt, emulator.System()))
}

func TestRead_FolderOfTheCardGoesFirst(t *testing.T) {
	t.Parallel()
	dir := folder(t, map[string]string{"card.json": `{}`, "lab/shared.txt": "select\n"})
	s, err := start.Read(dir, "lab")
	require.NoError(t, err)
	require.Equal(t, []string{"shared.txt"}, s.Files)
	s, err = start.Read(dir, "other")
	require.NoError(t, err)
	require.Equal(t, []string{"card.json"}, s.Files)
}

// A PIN that a card refuses is in no message.
func TestMake_SaysNoPIN(t *testing.T) {
	t.Parallel()
	d, opt := state(t)
	for _, line := range []string{"0020008106363438323138", "00 20 00 81 06 36 34 38 32 31 38", `00 20 00 81 Lc("648218")`, `00200081 Lc("648218") => 9000`} {
		s, err := start.Read(folder(t, map[string]string{"card.json": `{"like": "user=3"}`, "lab.txt": "select\n" + line + "\n"}), "lab")
		require.NoError(t, err)
		err = s.Make(t.Context(), d, "lab", opt, emulator.System())
		require.ErrorContains(t, err, "lab.txt: line 2: 00200081 ")
		require.ErrorContains(t, err, ": the card answers 63C2, and not 9000")
		require.NotContains(t, err.Error(), "648218")
		require.NotContains(t, err.Error(), "38323138")
	}
}

// Neither is one that stands where none belongs, in a scenario or in card.json, with the
// line and what is wrong.
func TestRead_SaysNoPIN(t *testing.T) {
	t.Parallel()
	for _, pin := range []string{"731946", "373331393436", "9182736455463728"} {
		for _, c := range []struct{ file, text, says string }{
			{"a.txt", "select\n0020008106 373331393436 => 90x\n" + pin + "x", "line 2: column 30: not understood: an answer"},
			{"a.txt", "select\n0020008106" + pin + "x", "line 2: column "},
			{"a.txt", "select\n00 20 00 81 Lc(\"" + pin + ")", "line 2: column 16: not understood: a command"},
			{"a.txt", "select\n\npin " + pin, "line 3: column 1: not understood: a command"},
			{"a.txt", "select " + pin, "line 1: select takes other words behind it"},
			{"card.json", "{\n\"" + pin + "\": 1}", "line 2: there is no member of this name"},
			{"card.json", "{\n\"serial\": \"" + pin + "\"}", "line 2: serial: two capital letters"},
			{"card.json", "{\n\"serial\": " + pin + "}", "line 2: serial has to be text in quotation marks"},
			{"card.json", "{\n\"seed\": -" + pin + "}", "line 2: seed has to be"},
			{"card.json", "{\n\"seed\": \"" + pin + "\"}", "line 2: seed has to be"},
			{"card.json", "{\n\"firmware\": \"" + pin + "\"}", "line 2: firmware: there is none called so"},
			{"card.json", "{\"firmware\": \"" + pin + "\",\n\"like\": \"firmware=4.1\"}", "line 2: like: its firmware contradicts"},
			{"card.json", "{\n\"broken\": \"" + pin + "\"}", "line 2: broken: no such defect"},
			{"card.json", "{\n\"answers\": [\"" + pin + "=6700\"]}", "line 2: answers: each is one of"},
			{"card.json", "{\n\"like\": \"user=" + pin + "\"}", "line 2: like: user: a number from 0 to 10"},
			{"card.json", "{\n\"like\": \"user=1/" + pin + "\"}", "line 2: like: user: a number from 0 to 10"},
			{"card.json", "{\n\"like\": \"pin=" + pin + "\"}", "line 2: like: there is no word \"pin\""},
			{"card.json", "{\n\"like\": \"" + pin + "\"}", "line 2: like: there is no such word"},
			{"card.json", "{\n\"like\": \"state=" + pin + "\"}", "line 2: like: state: one of"},
			{"card.json", "{\n\"like\": \"options=" + pin + "\"}", "line 2: like: options: four"},
			{"card.json", "{\n\"like\": \"firmware=" + pin + "\"}", "line 2: like: there is none called so"},
			{"card.json", "{\n\"key_pool\": \"" + pin + "\"}", "line 2: key_pool has to be"},
			{"card.json", "{\n" + pin + "}", "line 2: "},
		} {
			_, err := start.Read(folder(t, map[string]string{c.file: c.text}), "lab")
			require.ErrorContains(t, err, c.file+": "+c.says, c.text)
			require.NotContains(t, err.Error(), pin)
		}
	}
}

// Whoever stops waiting has no card.
func TestMake_EndsWithItsContext(t *testing.T) {
	t.Parallel()
	d, opt := state(t)
	s, err := start.Read(folder(t, map[string]string{"lab.txt": "select\n"}), "lab")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, s.Make(ctx, d, "lab", opt, emulator.System()), context.Canceled)
	names, err := d.Names()
	require.NoError(t, err)
	require.Empty(t, names)
}

// A card whose scenario fails is not kept, and the line is told.
func TestMake_AllOrNothing(t *testing.T) {
	t.Parallel()
	d, opt := state(t)
	for text, says := range map[string]string{
		login + "00200081 => 63C1\n":       "lab.txt: line 3: 00200081: the card answers 9000, and not 63C1",
		"select\ncard B 4.1\n":             "lab.txt: line 2: card: " + start.ErrCards.Error(),
		"select\n00A40000 Lc({nothing})\n": "lab.txt: line 2: 00A40000 Lc({nothing}): no variable nothing",
	} {
		s, err := start.Read(folder(t, map[string]string{"card.json": `{"like": "user=3"}`, "lab.txt": text}), "lab")
		require.NoError(t, err)
		err = s.Make(t.Context(), d, "lab", opt, emulator.System())
		require.ErrorContains(t, err, says)
		names, err := d.Names()
		require.NoError(t, err)
		require.Empty(t, names)
	}
}

func TestRead_MistakesHaveALine(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ file, text, says string }{
		"unknown member": {"card.json", "{\n  \"seed\": 1,\n  \"sed\": 2\n}", `card.json: line 3: there is no member "sed", there are answers, broken, firmware, key_pool, like, seed, serial`},
		"another type":   {"card.json", "{\n\n\"seed\": \"x\"}", "card.json: line 3: seed has to be a whole number from 0 to 18446744073709551615"},
		"negative":       {"card.json", "{\n\"seed\": -1}", "card.json: line 2: seed has to be a whole number from 0 to 18446744073709551615"},
		"too large":      {"card.json", "{\n\"seed\": 18446744073709551616}", "card.json: line 2: seed has to be a whole number from 0 to 18446744073709551615"},
		"one in a list":  {"card.json", "{\"answers\": [\n1]}", "card.json: line 2: answers has to be a list of texts, as in [\"bad-blob=6400\"]"},
		"another case":   {"card.json", "{\"SEED\": 1}", `card.json: line 1: there is no member "SEED"`},
		"said twice":     {"card.json", "{\"seed\": 1,\n\"seed\": 2}", "card.json: line 2: seed is there twice"},
		"said elsewhere": {"card.json", "{\"like\":\n\"user=3\", \n\"serial\": \"firmware\"}", "card.json: line 3: serial: "},
		"nothing":        {"card.json", "", "card.json: line 1: an object is needed"},
		"null":           {"card.json", "null", "card.json: line 1: an object is needed"},
		"a list":         {"card.json", "[]", "card.json: line 1: an object is needed"},
		"two marks":      {"card.json", "\ufeff\ufeff{}", "card.json: line 1: invalid character"},
		"one brace more": {"card.json", "{}\n}", "card.json: line 1: something follows the object"},
		"a bracket more": {"card.json", "{}]", "card.json: line 1: something follows the object"},
		"no comma":       {"card.json", "{\"seed\": 1\n\"serial\": \"\"}", "card.json: line 2: invalid character"},
		"a comma more":   {"card.json", "{\"seed\": 1,\n}", "card.json: line 2: invalid character"},
		"defect":         {"card.json", "{\n\"broken\": \"x\"}", "card.json: line 2: broken: "},
		"contradiction":  {"card.json", "{\"firmware\": \"3.4\",\n\"like\": \"firmware=4.1,user=3\"}", `card.json: line 2: like: its firmware contradicts the member firmware`},
		"no JSON":        {"card.json", "{\n\"seed\": 1\n,}", "card.json: line 3: invalid character"},
		"an open end":    {"card.json", "{\n\"seed\": 1\n", "card.json: line 3: the object has no end"},
		"more":           {"card.json", "{}\n{}", "card.json: line"},
		"situation":      {"card.json", "{\"seed\": 1,\n\"like\": \"so=16\"}", "card.json: line 2: like: so: a number from 0 to 15"},
		"firmware":       {"card.json", "{\n\"firmware\": \"9\"}", `card.json: line 2: firmware: there is none called so, the nearest is 4.1`},
		"serial":         {"card.json", "{\n\"serial\": \"x\"}", "card.json: line 2: serial: "},
		"answer":         {"card.json", "{\n\"answers\": [\"x=6700\"]}", "card.json: line 2: answers: "},
		"no command":     {"a.txt", "# one\n\nnonsense\n", "a.txt: line 3: "},
		"half a byte":    {"a.txt", "00A\n", "a.txt: line 1: "},
		"too long":       {"a.txt", strings.Repeat("#\n", 1<<20), "a.txt: " + start.ErrFile.Error()},
	} {
		dir := folder(t, map[string]string{c.file: c.text})
		_, err := start.Read(dir, "lab")
		require.ErrorContains(t, err, filepath.Join(dir, c.file)[len(dir)+1:], name)
		require.ErrorContains(t, err, c.says, name)
	}
	_, err := start.Read(t.TempDir(), "lab")
	require.ErrorIs(t, err, start.ErrNothing)
	_, err = start.Read(filepath.Join(t.TempDir(), "absent"), "lab")
	require.ErrorIs(t, err, os.ErrNotExist)
	odd := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(odd, "a.txt"), 0o700))
	_, err = start.Read(odd, "lab")
	require.ErrorIs(t, err, start.ErrFile)
}

// What cannot be made is refused with the word that says so, before anything is made.
func TestWords_SayWhatIsWrong(t *testing.T) {
	t.Parallel()
	for word, c := range map[string]struct {
		words start.Words
		says  string
	}{
		"like":     {start.Words{Like: []string{"so=16"}}, "like: so: a number from 0 to 15"},
		"firmware": {start.Words{Like: []string{"firmware=3.9"}}, `firmware: there is none called "3.9", the nearest is `},
		"serial":   {start.Words{Serial: "1"}, "serial: "},
		"broken":   {start.Words{Broken: "melts"}, `broken: no such defect: "melts"`},
		"answers":  {start.Words{Answers: []string{"x=6700"}}, "answers: "},
	} {
		_, err := c.words.Order()
		var its *start.WordError
		require.ErrorAs(t, err, &its, word)
		require.Equal(t, word, its.Word)
		require.ErrorContains(t, err, c.says)
	}
	_, err := start.Words{Firmware: "2.6", Like: []string{"firmware=3.4"}}.Order()
	var two *start.ContradictionError
	require.ErrorAs(t, err, &two)
	require.Equal(t, &start.ContradictionError{Firmware: "2.6", Like: "3.4"}, two)
	_, err = start.Words{Serial: "1"}.Order()
	require.ErrorIs(t, err, chip.ErrSerial)
}

func TestWords_TheSituationCountsFirst(t *testing.T) {
	t.Parallel()
	o, err := start.Words{Firmware: "3.4", Like: []string{"firmware=3.4", "so=7"}}.Order()
	require.NoError(t, err)
	require.Equal(t, "3.4", o.Firmware)
	require.Equal(t, 7, o.Like.SOTries)
	o, err = start.Words{}.Order()
	require.NoError(t, err)
	require.Equal(t, applet.DefaultFirmware, o.Firmware)
	require.Nil(t, o.Like)
}

// PINs that somebody has chosen are in the card and are not told; those of the
// documentation are. Nobody is asked for a PIN that the card does not have.
func TestChoosePINs(t *testing.T) {
	t.Parallel()
	text := func(s string) func() ([]byte, error) {
		return func() ([]byte, error) {
			if s == "" {
				return nil, nil
			}
			return []byte(s), nil
		}
	}
	never := func() ([]byte, error) { t.Error("nobody is to be asked"); return nil, nil }
	const own = "0102030405060708"
	for _, c := range []struct {
		like, so, user, told string
	}{
		{"so=7", "", "", "the SO-PIN 3537363231383830 and the user PIN 648219"},
		{"user=4/5", "", "", "the SO-PIN 3537363231383830 and the user PIN 64821973"},
		{"so=7", own, "", "the user PIN 648219"},
		{"so=7", "", "123456", "the SO-PIN 3537363231383830"},
		{"so=7", own, "123456", ""},
	} {
		s, _, err := view.ParseSituation([]string{c.like})
		require.NoError(t, err)
		documented := s
		told, err := start.ChoosePINs(&s, text(c.so), text(c.user))
		require.NoError(t, err)
		require.Equal(t, c.told, told)
		if c.so != "" {
			documented.SOPIN = []byte{1, 2, 3, 4, 5, 6, 7, 8}
		}
		if c.user != "" {
			documented.UserPIN = []byte(c.user)
		}
		require.Equal(t, documented, s)
	}
	none, _, err := view.ParseSituation([]string{"user=none", "pka=1/2"})
	require.NoError(t, err)
	told, err := start.ChoosePINs(&none, text(""), never)
	require.NoError(t, err)
	require.Equal(t, "the SO-PIN 3537363231383830", told)
	for _, s := range []*chip.Situation{nil, {}} {
		told, err = start.ChoosePINs(s, never, never)
		require.NoError(t, err)
		require.Empty(t, told)
	}
	s := chip.Usual()
	_, err = start.ChoosePINs(&s, text("short"), never)
	require.ErrorIs(t, err, conform.ErrSOPIN)
	_, err = start.ChoosePINs(&s, text(""), func() ([]byte, error) { return nil, os.ErrNotExist })
	require.ErrorIs(t, err, os.ErrNotExist)
}
