package lesson_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/lesson"
	"hsmemu/emulator/view"
)

// folder is a lesson that holds, of one step.
func folder() fstest.MapFS {
	files := fstest.MapFS{}
	for name, text := range map[string]string{
		"index.json": `{
  "title": "One",
  "details": {
    "intro": {"text": "intro.md"},
    "steps": [
      {"title": "Step", "text": "1/text.md", "verify": "1/verify.sh"}
    ]
  },
  "backend": {"imageid": "ubuntu"}
}`,
		"lesson.json": `{
  "schema": 1,
  "minutes": 5,
  "cards": ["lab"],
  "steps": [
    {"hints": "1/hints.md", "solution": "1/solution.sh", "cost": "nothing"}
  ]
}`,
		"intro.md": "Hello.\n", "1/text.md": "Do `it`{{exec}}.\n",
		"1/hints.md":  "## One\n\na\n\n## Two\n\nb\n\n## Three\n\n```\nc\n```\n",
		"1/verify.sh": "#!/bin/sh\ntest -e done\n", "1/solution.sh": "touch done\n",
	} {
		files[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o600}
	}
	return files
}

func folderText(name string) string { return string(folder()[name].Data) }

// Lines that end and texts that begin as in Windows' editors, and code that is marked or set in as other players take it, are the
// same lesson.
func TestLoad_OtherEditors(t *testing.T) {
	files := folder()
	for name, f := range files {
		if strings.HasSuffix(name, ".sh") {
			continue
		}
		files[name].Data = []byte("\ufeff" + strings.ReplaceAll(string(f.Data), "\n", "\r\n"))
	}
	l, err := lesson.Load(files)
	require.NoError(t, err)
	require.Equal(t, []string{"c"}, lesson.Commands(l.Steps[0].Hints[2]))
	require.Equal(t, "Hello.\n", l.Intro)
	for _, first := range []string{"#!/bin/sh", "#!/usr/bin/env bash", "#! /bin/bash -eu", "#!/usr/bin/env -S bash -e", "#!/bin/dash", "# a comment", "#!"} {
		files["1/verify.sh"].Data = []byte(first + "\ntest -e done\n")
		_, err := lesson.Load(files)
		require.NoError(t, err, first)
	}
	for _, text := range []string{"```\na\n```\n", "```bash\na\n```\n", "``` sh title=x\na\n```\n", "1. one\n   ```\n   a\n   ```\n", "```\na\n```{{exec}}\n", "```\na\n```{{execute interrupt}}\n", "````\na\n````\n"} {
		require.Equal(t, []string{"a"}, lesson.Commands(text), text)
		require.Contains(t, lesson.Plain(text), "    a", text)
		require.NotContains(t, lesson.Plain(text), "`", text)
	}
}

// Prose is in lines that a terminal of 80 columns does not break, code as it is.
func TestPlain_Width(t *testing.T) {
	word, long := strings.Repeat("ä", 39), strings.Repeat("x", 100)
	for _, c := range []struct{ text, want string }{
		{"a\nb", "a b"},
		{word + " " + word + " c\nd", word + " " + word + "\nc d"},
		{word + " " + word + "c d", word + " " + word + "c\nd"},
		{word + " " + word + "cc d", word + "\n" + word + "cc d"},
		{long + " a", long + "\na"},
		{"a " + long, "a\n" + long},
		{"a\n\nb", "a\n\nb"},
		{"a\n* b\n* c\n1. d", "a\n* b\n* c\n1. d"},
		{"a\n```\n" + long + " " + long + "\nb\n```\nc", "a\n    " + long + " " + long + "\n    b\nc"},
	} {
		require.Equal(t, c.want, lesson.Plain(c.text))
	}
}

func TestLoad(t *testing.T) {
	l, err := lesson.Load(folder())
	require.NoError(t, err)
	require.Equal(t, "One", l.Title)
	require.Equal(t, []string{"lab"}, l.Cards)
	require.Equal(t, []string{"a", "b", "```\nc\n```"}, l.Steps[0].Hints)
	require.Equal(t, []string{"it"}, lesson.Commands(l.Steps[0].Text))
	require.Equal(t, "Do `it`.", lesson.Plain(l.Steps[0].Text))
	require.Equal(t, "    c", lesson.Plain(l.Steps[0].Hints[2]))
}

// Every mistake in a lesson is told with its file and line.
func TestLoad_Mistakes(t *testing.T) {
	for _, c := range []struct{ name, file, old, text, want string }{
		{"syntax", "index.json", `"title": "One",`, `"title" "One",`, "index.json:2: invalid character '\"' after object key"},
		{"cut off", "index.json", "}\n}", "", "index.json:9: unexpected"},
		{"type", "index.json", `"One"`, "1", "index.json:2: "},
		{"no title", "index.json", `"One"`, `""`, "index.json: it has no title"},
		{"no steps", "index.json", `{"title": "Step", "text": "1/text.md", "verify": "1/verify.sh"}`, "", "index.json: it has 0 steps"},
		{"no verify script", "index.json", `, "verify": "1/verify.sh"`, "", `index.json:6: step "Step" has no verify script`},
		{"absent file", "index.json", "1/text.md", "2/text.md", "index.json:6: 2/text.md: there is no such file"},
		{"folder", "index.json", "1/text.md", "1", "index.json:6: 1: it is no file"},
		{"above the folder", "index.json", "1/verify.sh", "../verify.sh", `index.json:6: "../verify.sh" leaves the lesson's folder`},
		{"within a path", "index.json", "1/verify.sh", "1/../../verify.sh", `index.json:6: "1/../../verify.sh" leaves the lesson's folder`},
		{"absolute", "index.json", "1/verify.sh", "/bin/true", `index.json:6: "/bin/true" leaves the lesson's folder`},
		{"unknown member", "lesson.json", `"minutes"`, `"minuts"`, `lesson.json:3: unknown field "minuts"`},
		{"schema", "lesson.json", `"schema": 1`, `"schema": 2`, "lesson.json: schema 2, and not 1"},
		{"steps", "lesson.json", `{"hints": "1/hints.md", "solution": "1/solution.sh", "cost": "nothing"}`, "", "lesson.json: it is about 0 steps"},
		{"card's name", "lesson.json", `"lab"`, `"../lab"`, `lesson.json:4: card name "../lab"`},
		{"the same card twice", "lesson.json", `"lab"`, `"lab", "lab"`, `lesson.json:4: card "lab" is there twice`},
		{"minutes", "lesson.json", `"minutes": 5`, `"minutes": -5`, "lesson.json:3: -5 minutes"},
		{"kind of value", "lesson.json", `"minutes": 5`, `"minutes": "5"`, "lesson.json:3: minutes: a string does not fit"},
		{"a list", "lesson.json", folderText("lesson.json"), "[]", "lesson.json:1: an array, and not an object"},
		{"a list as a step", "lesson.json", `{"hints": "1/hints.md", "solution": "1/solution.sh", "cost": "nothing"}`, "[]", "lesson.json:6: steps: an array does not fit"},
		{"a word", "index.json", folderText("index.json"), `"a"`, "index.json:1: a string, and not an object"},
		{"empty", "lesson.json", folderText("lesson.json"), "", "lesson.json:1: unexpected end"},
		{"code without an end", "1/hints.md", "c\n```\n", "c\n", "1/hints.md:11: this block of code does not end"},
		{"code without an end in a text", "1/text.md", "Do", "```\nDo", "1/text.md:1: this block of code does not end"},
		{"escape sequence", "1/text.md", "Do", "Do\n\x1b[2J", "1/text.md:2: a control character"},
		{"escape sequence in the title", "index.json", `"One"`, `"One\u001b[2J"`, "index.json: a control character in the title"},
		{"bell in a step's title", "index.json", `"Step"`, `"Step\u0007"`, "index.json: a control character in the title of step 1"},
		{"escape sequence in a cost", "lesson.json", `"nothing"`, `"a\u001b[2J"`, "lesson.json: a control character in the cost of step 1"},
		{"no UTF-8", "intro.md", "Hello", "\xff", "intro.md:1: it is not UTF-8"},
		{"script from Windows", "1/verify.sh", "test -e done\n", "test -e done\r\n", "1/verify.sh:2: the line ends as in Windows"},
		{"script with a byte order mark", "1/verify.sh", "#!/bin/sh", "\ufeff#!/bin/sh", "1/verify.sh:1: a byte order mark"},
		{"script in another language", "1/verify.sh", "#!/bin/sh", "#!/usr/bin/python3", `1/verify.sh:1: a script for "python3"`},
		{"script in another language, by env", "1/verify.sh", "#!/bin/sh", "#! /usr/bin/env -S perl -w", `1/verify.sh:1: a script for "perl"`},
		{"script in another shell", "1/solution.sh", "touch done", "#!/bin/zsh\ntouch done", `1/solution.sh:1: a script for "zsh"`},
		{"hints", "1/hints.md", "## Two", "", "1/hints.md: 2 hints, and not 3"},
		{"script goes up", "1/verify.sh", "test -e done", "true\ncd .. && touch x", `1/verify.sh:3: ".." leads out of the lesson's folder`},
		{"script goes up deeper", "1/verify.sh", "test -e done", "cat a/../../x", `1/verify.sh:2: "a/../../x" leads out of the lesson's folder`},
		{"script goes home", "1/verify.sh", "test -e done", "cat ~/.ssh/id", `1/verify.sh:2: "~/.ssh/id" leads out of the lesson's folder`},
		{"script goes to the root", "1/verify.sh", "test -e done", "cd / && touch x", `1/verify.sh:2: "cd /" leads out of the lesson's folder`},
		{"script goes up by a variable", "1/verify.sh", "test -e done", `touch "$HOME"/../x`, `1/verify.sh:2: "$HOME\"/../x" leads out of the lesson's folder`},
		{"script names a path", "1/verify.sh", "test -e done", `x="/etc/passwd"`, `1/verify.sh:2: "/etc/passwd" leads out of the lesson's folder`},
		{"solution writes elsewhere", "1/solution.sh", "touch done", "echo a >/tmp/x", `1/solution.sh:1: "/tmp/x" leads out of the lesson's folder`},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := folder()
			text := string(files[c.file].Data)
			require.Contains(t, text, c.old)
			files[c.file].Data = []byte(strings.Replace(text, c.old, c.text, 1))
			_, err := lesson.Load(files)
			var p *lesson.Problem
			require.ErrorAs(t, err, &p)
			require.Contains(t, err.Error(), c.want)
		})
	}
}

// What a script needs in its folder is no way out.
func TestLoad_Harmless(t *testing.T) {
	files := folder()
	files["1/verify.sh"].Data = []byte("#!/bin/sh\n# see /etc/passwd and ..\nls a/b a/../b 2>/dev/null; tr / _ < a; cd a/..\ncat << END\na/../b\nEND\necho ... http://127.0.0.1:80/rt/paas 1..2\n")
	_, err := lesson.Load(files)
	require.NoError(t, err)
}

// A link in a lesson may lead anywhere.
func TestLoad_Link(t *testing.T) {
	dir := t.TempDir()
	for name, f := range folder() {
		at := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(at), 0o700))
		require.NoError(t, os.WriteFile(at, f.Data, 0o600))
	}
	_, err := lesson.Load(os.DirFS(dir))
	require.NoError(t, err)
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("x"), 0o600))
	if err := os.Symlink(secret, filepath.Join(dir, "1", "more.md")); err != nil {
		require.ErrorContains(t, err, "privilege") // Windows
		return
	}
	_, err = lesson.Load(os.DirFS(dir))
	require.EqualError(t, err, "1/more.md: a link, and no file: it may lead out of the lesson's folder")
}

func TestOurs(t *testing.T) {
	require.NotEmpty(t, lesson.Ours())
	for _, name := range lesson.Ours() {
		l, err := lesson.Own(name)
		require.NoError(t, err, name)
		require.NotEmpty(t, l.Finish, name)
		require.Positive(t, l.Minutes, name)
		for i, s := range l.Steps {
			require.Len(t, s.Hints, 3, "%s %d", name, i+1)
			require.NotEmpty(t, s.Cost, "%s %d", name, i+1)
			require.Len(t, lesson.Commands(s.Hints[2]), 1, "the third hint of %s %d says what to type", name, i+1)
		}
	}
	_, err := lesson.Own("../ours")
	require.ErrorIs(t, err, lesson.ErrNoLesson)
}

func TestExpect(t *testing.T) {
	c := view.Card{
		State: new(view.State("operational")), SOPIN: &view.PIN{TriesLeft: new(7), State: "ready"},
		Keys: []view.Key{{Label: new("first"), Reference: 1}, {Label: new("second"), Reference: 2}},
	}
	for _, e := range []struct{ expectation, why string }{
		{"state=operational", ""},
		{"state=oper*", ""},
		{"state=uninitialised", "state is operational, and not uninitialised"},
		{"so_pin.tries_left=7", ""},
		{"so_pin.tries_left>=7", ""},
		{"so_pin.tries_left<=6", "so_pin.tries_left is 7, and not <=6"},
		{"so_pin.tries_left!=7", "so_pin.tries_left is 7, and not !=7"},
		{"keys.count=2", ""},
		{"keys.*.label=second", ""},
		{"keys.*.label!=third", ""},
		{"keys.*.label!=first", "keys.*.label is first, second, and not !=first"},
		{"keys.*.label=first,reference=1", ""},
		{"keys.*.label=first,reference=2", "keys: none of 2 is label=first, reference=2"}, // each has one of them
		{"files.*.id=2F02,bytes>=1", "files: none of 0 is id=2F02, bytes>=1"},
		{"files.count=0", ""},
		{"files.*.id=2F02", "files.*.id: there is none"},
		{"user_pin.state=ready", "user_pin.state: there is none"},
		{"user_pin=null", ""},
	} {
		why, err := lesson.Expect(c, e.expectation)
		require.NoError(t, err, e.expectation)
		require.Equal(t, e.why, why, e.expectation)
	}
	for _, e := range []string{"", "state", "=1", "stat=operational", "keys.label=first", "state.x=1", "state=[", "so_pin.tries=1=2[", "keys.*.label=first,id", "keys.*.lable=a,id=1", "kees.*.label=a,id=1", "so_pin.*.label=a,id=1", "state.x.*.label=a,id=1"} {
		_, err := lesson.Expect(c, e)
		require.ErrorIs(t, err, lesson.ErrExpectation, e)
	}
	_, err := lesson.Expect(c, "so_pin.trys_left=7")
	require.ErrorContains(t, err, `did you mean "tries_left"?`)
}

func TestSeen(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lab.jsonl")
	found, err := lesson.Seen(file, time.Time{}, []string{"sw=9000"})
	require.NoError(t, err)
	require.False(t, found, "there is no file yet")
	require.NoError(t, os.WriteFile(file, []byte(`{"command":"VERIFY","subject":"user PIN","sw":"63C2","query":false}
{"command":"VERIFY","subject":"user PIN","sw":"9000","query":true}
{"command":"SELECT","subj`), 0o600))
	for _, c := range []struct {
		words []string
		want  bool
	}{
		{[]string{"command=VERIFY", "sw=63C?"}, true},
		{[]string{"subject=user*", "query=true"}, true},
		{[]string{"sw=63C2", "query=true"}, false}, // each in another event
		{[]string{"command=SELECT"}, false},        // still being written
	} {
		found, err := lesson.Seen(file, time.Time{}, c.words)
		require.NoError(t, err)
		require.Equal(t, c.want, found, c.words)
	}
	require.NoError(t, os.WriteFile(file, []byte(`{"at":"2026-01-02T03:04:05.1Z","sw":"9000"}`), 0o600))
	for since, want := range map[string]bool{"2026-01-02T03:04:05Z": true, "2026-01-02T03:04:05.1Z": true, "2026-01-02T03:04:06Z": false} {
		begun, err := time.Parse(time.RFC3339, since)
		require.NoError(t, err)
		found, err := lesson.Seen(file, begun, []string{"sw=9000"})
		require.NoError(t, err)
		require.Equal(t, want, found, "an event of the step before may be written in this one: %s", since)
	}
	for _, word := range []string{"sw", "statusword=9000", "sw=["} {
		_, err := lesson.Seen(file, time.Time{}, []string{word})
		require.ErrorIs(t, err, lesson.ErrExpectation, word)
	}
}
