package lesson

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"hsmemu/emulator/control"
	"hsmemu/emulator/statedir"
	"hsmemu/emulator/view"
)

// ErrExpectation says that an expectation cannot be understood, or is about a member
// that a card does not have.
var ErrExpectation = errors.New("not an expectation")

// operators, the longer ones first.
var operators = []string{">=", "<=", "!=", "="}

// Expect compares a card with an expectation such as "so_pin.tries_left=7": the path
// of a member in the card's JSON form (docs/json.md), an operator and a value. In the
// path "*" stands for any element of a list, and "count" behind a list for its
// length. The operators are =, !=, >= and <=; with = and != a value is a pattern in
// which * and ? stand for any characters. With commas further members of the same
// element follow, as in "keys.*.label=first,id=10": one element has to have them all.
// It returns why the expectation does not hold, in words, and "" if it does. Error:
// ErrExpectation.
func Expect(c view.Card, expectation string) (string, error) {
	form, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	d := json.NewDecoder(bytes.NewReader(form))
	d.UseNumber()
	var whole any
	if err := d.Decode(&whole); err != nil {
		return "", err
	}
	if list, conditions, ok := strings.Cut(expectation, ".*."); ok && strings.Contains(conditions, ",") {
		return together(whole, list, strings.Split(conditions, ","))
	}
	return one(whole, expectation)
}

// together is why no element of a list is as all conditions say.
func together(whole any, list string, conditions []string) (string, error) {
	at := whole
	for _, name := range strings.Split(list, ".") {
		if _, err := follow(at, []string{name}); err != nil {
			return "", fmt.Errorf("%w: %s: %w", ErrExpectation, list, err)
		}
		at, _ = at.(map[string]any)[name]
	}
	elements, isList := at.([]any)
	if !isList && at != nil {
		return "", fmt.Errorf("%w: %s is no list", ErrExpectation, list)
	}
	for _, c := range conditions {
		if _, _, _, err := parse(c); err != nil {
			return "", err
		}
	}
	for _, e := range elements {
		fits := true
		for _, c := range conditions {
			why, err := one(e, c)
			if err != nil {
				return "", err
			}
			fits = fits && why == ""
		}
		if fits {
			return "", nil
		}
	}
	return fmt.Sprintf("%s: none of %d is %s", list, len(elements), strings.Join(conditions, ", ")), nil
}

// parse takes an expectation apart.
func parse(expectation string) (name, op, want string, err error) {
	at := -1
	for _, o := range operators {
		if i := strings.Index(expectation, o); i > 0 && (at < 0 || i < at) {
			at, op = i, o
		}
	}
	if at < 0 {
		return "", "", "", fmt.Errorf("%w: %q has none of %s", ErrExpectation, expectation, strings.Join(operators, " "))
	}
	name, want = expectation[:at], expectation[at+len(op):]
	if _, err := path.Match(want, ""); err != nil {
		return "", "", "", fmt.Errorf("%w: %q: %w", ErrExpectation, want, err)
	}
	return name, op, want, nil
}

// one is why a single expectation does not hold.
func one(whole any, expectation string) (string, error) {
	name, op, want, err := parse(expectation)
	if err != nil {
		return "", err
	}
	values, err := follow(whole, strings.Split(name, "."))
	if err != nil {
		return "", fmt.Errorf("%w: %s: %w", ErrExpectation, name, err)
	}
	holds := func(v string) bool { return compare(v, op, want) }
	if op == "!=" && len(values) > 0 && !slices.ContainsFunc(values, func(v string) bool { return !holds(v) }) {
		return "", nil // none of them is
	}
	if op != "!=" && slices.ContainsFunc(values, holds) {
		return "", nil
	}
	if len(values) == 0 {
		return fmt.Sprintf("%s: there is none", name), nil
	}
	return fmt.Sprintf("%s is %s, and not %s%s", name, strings.Join(values, ", "), strings.TrimPrefix(op, "="), want), nil
}

// follow collects the values at a path as texts.
func follow(v any, names []string) (values []string, err error) {
	if len(names) == 0 {
		switch v := v.(type) {
		case nil:
			return []string{"null"}, nil
		case string:
			return []string{v}, nil
		case map[string]any:
			return []string{"object"}, nil
		case []any:
			return []string{strconv.Itoa(len(v)) + " elements"}, nil
		}
		return []string{fmt.Sprint(v)}, nil
	}
	switch v := v.(type) {
	case nil:
		if names[0] == "count" {
			return []string{"0"}, nil
		}
		return nil, nil
	case map[string]any:
		member, ok := v[names[0]]
		if !ok {
			all := make([]string, 0, len(v))
			for name := range v {
				all = append(all, name)
			}
			return nil, fmt.Errorf("there is no %q; did you mean %q?", names[0], view.Nearest(names[0], all))
		}
		return follow(member, names[1:])
	case []any:
		if names[0] == "count" {
			return []string{strconv.Itoa(len(v))}, nil
		}
		if names[0] != "*" {
			return nil, fmt.Errorf("a list takes * or count, not %q", names[0])
		}
		for _, one := range v {
			more, err := follow(one, names[1:])
			if err != nil {
				return nil, err
			}
			values = append(values, more...)
		}
		return values, nil
	}
	return nil, fmt.Errorf("there is no %q in a value", names[0])
}

func compare(have, op, want string) bool {
	switch op {
	case "=", "!=":
		same, _ := path.Match(want, have) // the pattern has been tried
		return same == (op == "=")
	}
	h, err1 := strconv.ParseFloat(have, 64)
	w, err2 := strconv.ParseFloat(want, 64)
	return err1 == nil && err2 == nil && (op == ">=" && h >= w || op == "<=" && h <= w)
}

// Seen reports whether one of the events in a file, JSON of a view.Event in each
// line, happened at the time since or later and is as all the words say: "sw=63C?"
// compares a member with a pattern. A file that is not there has none. Error:
// ErrExpectation.
func Seen(file string, since time.Time, words []string) (bool, error) {
	_, found, err := seen(file, since, words)
	return found, err
}

// seen is Seen that also returns when the first of these events happened.
func seen(file string, since time.Time, words []string) (at time.Time, found bool, err error) {
	type want struct{ name, pattern string }
	var wants []want
	known, err := members(view.Event{})
	if err != nil {
		return at, false, err
	}
	for _, w := range words {
		name, pattern, ok := strings.Cut(w, "=")
		if _, err := path.Match(pattern, ""); !ok || err != nil || known[name] == nil {
			return at, false, fmt.Errorf("%w: %q of an event", ErrExpectation, w)
		}
		wants = append(wants, want{name, pattern})
	}
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return at, false, nil
	} else if err != nil {
		return at, false, err
	}
	defer func() { _ = f.Close() }() // only read
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var e map[string]json.RawMessage
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue // the last line may be about to be written
		}
		at = time.Time{}
		_ = json.Unmarshal(e["at"], &at) // without one it is of no step
		fits := !at.Before(since)
		for _, w := range wants {
			text := string(e[w.name])
			var s string
			if json.Unmarshal(e[w.name], &s) == nil && text != "null" {
				text = s
			}
			same, _ := path.Match(w.pattern, text) // the pattern has been tried
			fits = fits && same
		}
		if fits {
			return at, true, nil
		}
	}
	return at, false, nil
}

func members(v any) (map[string]json.RawMessage, error) {
	form, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var m map[string]json.RawMessage
	return m, json.Unmarshal(form, &m)
}

// Wanted is what ExpectAll wants of a card.
type Wanted struct {
	// Expectations are about the card, see Expect, and Kept are those which, if they do not
	// hold, will not by going on: whoever is told of one is told of undo.
	Expectations, Kept []string
	// Seen are the words of an event that has to have happened in this step, see Seen,
	// After those of one that has to have happened before that, and Unseen those of one
	// that must not have; nil for none.
	Seen, After, Unseen []string
	// Takes is the PIN that the card has to take, user-pin or so-pin, which is in
	// HSMEMU_PIN, or in HSMEMU_SO_PIN in hexadecimal, of Env; empty for none.
	Takes string
	// Env is the environment of who asks.
	Env func(string) string
}

// ExpectAll compares a card, and what was recorded of it in this step, with what is
// wanted, in the folder that EnvEvents names. It returns why something does not hold, and
// "" if all does. Error: ErrExpectation.
func ExpectAll(ctx context.Context, d *statedir.Dir, card string, w Wanted) (string, error) {
	events := w.Env(EnvEvents)
	v, err := control.Show(ctx, d, card)
	if err != nil {
		return "", err
	}
	for _, e := range w.Kept {
		if why, err := Expect(v, e); why != "" || err != nil {
			return why + "; `hsmemu lesson undo` takes that back", err
		}
	}
	for _, e := range w.Expectations {
		if why, err := Expect(v, e); why != "" || err != nil {
			return why, err
		}
	}
	since, err := begun(events)
	if err != nil {
		return "", err
	}
	file := filepath.Join(events, card+".jsonl")
	if len(w.After) > 0 && len(w.Seen) == 0 {
		return "", fmt.Errorf("%w: after %s, and nothing is to be seen then", ErrExpectation, strings.Join(w.After, " "))
	}
	if len(w.After) > 0 {
		found, err := await(ctx, file, since, w.After)
		if !found || err != nil {
			return "it has not happened in this step: " + strings.Join(w.After, " "), err
		}
		if since, _, err = seen(file, since, w.After); err != nil {
			return "", err
		}
	}
	if len(w.Seen) > 0 {
		found, err := await(ctx, file, since, w.Seen)
		if err == nil {
			err = ctx.Err()
		}
		if !found || err != nil {
			when := "in this step"
			if len(w.After) > 0 {
				when = "after " + strings.Join(w.After, " ")
			}
			return "it has not happened " + when + ": " + strings.Join(w.Seen, " "), err
		}
	}
	if len(w.Unseen) > 0 { // without waiting: it is earlier than what has changed the card or was seen
		found, err := Seen(file, since, w.Unseen)
		if found || err != nil {
			return "this must not happen in this step, `hsmemu lesson undo` takes it back: " + strings.Join(w.Unseen, " "), err
		}
	}
	if w.Takes != "" {
		return refuses(ctx, d, card, w.Takes, w.Env)
	}
	return "", nil
}

// await is Seen which waits for an event that is about to be written: that is done just
// after its answer. In a folder that is not a session's, nobody says when.
func await(ctx context.Context, file string, since time.Time, words []string) (bool, error) {
	switch err := recorded(ctx, filepath.Dir(file)); {
	case err == nil:
		return Seen(file, since, words)
	case !errors.Is(err, errUnrecorded):
		return false, err
	}
	settled, cancel := context.WithTimeout(ctx, settling)
	defer cancel()
	again := time.NewTicker(settling / 10)
	defer again.Stop()
	for {
		if found, err := Seen(file, since, words); found || err != nil {
			return found, err
		}
		select {
		case <-settled.Done():
			return false, nil
		case <-again.C:
		}
	}
}

// begunFile is in the folder of events and says when the step began, as RFC 3339 does.
const begunFile = "begun"

// begun is when the step began whose events are in a folder; the zero time if the folder
// does not say so, as one that somebody writes events into does not.
func begun(events string) (at time.Time, err error) {
	text, err := os.ReadFile(filepath.Join(events, begunFile))
	if errors.Is(err, os.ErrNotExist) {
		return at, nil
	} else if err != nil {
		return at, err
	}
	err = at.UnmarshalText(text)
	return at, err
}

// settling is how long an event may take to be written down by somebody else, such as
// hsmemu trace.
const settling = 300 * time.Millisecond
