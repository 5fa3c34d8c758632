package console

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"hsmemu/emulator/view"
)

// secrets are what somebody fills into the gaps of a transcript. The console keeps no PIN,
// so it cannot do that by itself.
type secrets struct{ user, so []byte }

// transcript is the commands since the console started, as `hsmemu apdu -` takes
// them. What is secret is left out, or filled in where the PINs are given.
func transcript(w http.ResponseWriter, r *http.Request, k *card) {
	var s secrets
	if r.Method == http.MethodPost {
		s.user = []byte(r.PostFormValue("user"))
		so, err := hex.DecodeString(r.PostFormValue("so"))
		if err != nil {
			k.of.fail(w, r, http.StatusBadRequest, fmt.Errorf("the SO-PIN is 16 hexadecimal digits"))
			return
		}
		s.so = so
	}
	k.mu.Lock()
	events := slices.Clone(k.events)
	k.mu.Unlock()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="transcript.txt"`)
	_, _ = fmt.Fprint(w, written(k.running.Name, events, s)) // a browser that has gone
}

// written is a transcript.
func written(name string, events []*happened, s secrets) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Commands of card %s. To replay them: hsmemu apdu --card NAME - < transcript.txt\n", view.Printable(name))
	if len(s.user) > 0 || len(s.so) > 0 {
		b.WriteString("# The PINs that were filled in stand in it, so that it can be replayed: keep it as you keep them.\n")
	}
	for _, e := range events {
		fmt.Fprintf(&b, "# %s %s\n", e.At.Format(time.TimeOnly), e.String())
		switch {
		case e.Kind != view.Command:
		case e.Command != nil:
			fmt.Fprintf(&b, "%X\n", e.Seen.Command)
		case len(e.SentParts) == 0:
			b.WriteString("# its bytes are not known: it did not come through the reader\n")
		default:
			if whole, filled := s.fill(e.SentParts, e.Event); filled {
				fmt.Fprintf(&b, "%X\n", whole)
				continue
			}
			fmt.Fprintf(&b, "# left out, since it has what may be secret: %s\n", gaps(e.SentParts))
		}
	}
	return b.String()
}

// gaps is a command with two dots for every byte that is secret.
func gaps(parts []view.Part) string {
	var list []string
	for _, p := range parts {
		list = append(list, strings.ReplaceAll(p.Hex, " ", "")+strings.Repeat("..", map[bool]int{true: p.Bytes}[p.Secret()]))
	}
	return strings.Join(list, "")
}

// fill fills the gaps of a command with the PINs, such that the card answers as it did: where a
// PIN was wrong, with another of its length.
func (s secrets) fill(parts []view.Part, e view.Event) ([]byte, bool) {
	right := e.SW != nil && *e.SW == "9000"
	var whole []byte
	for _, p := range parts {
		if !p.Secret() {
			b, err := hex.DecodeString(strings.ReplaceAll(p.Hex, " ", ""))
			if err != nil {
				return nil, false
			}
			whole = append(whole, b...)
			continue
		}
		b, known := s.of(p, e, right)
		if !known || len(b) != p.Bytes {
			return nil, false
		}
		whole = append(whole, b...)
	}
	return whole, true
}

// of is a secret of a command.
func (s secrets) of(p view.Part, e view.Event, right bool) ([]byte, bool) {
	subject := ""
	if e.Subject != nil {
		subject = *e.Subject
	}
	user, so := s.user, s.so
	switch {
	case strings.HasPrefix(p.Words, "user PIN"):
		return user, len(user) > 0 // a new one in an initialisation: not compared
	case strings.HasPrefix(p.Words, "SO-PIN,"), strings.HasPrefix(p.Words, "the PIN") && subject == "SO-PIN":
		return as(so, p.Bytes, right), len(so) > 0
	case strings.HasPrefix(p.Words, "the PIN"):
		return as(user, p.Bytes, right), len(user) > 0
	case strings.HasPrefix(p.Words, "the old PIN") && subject == "SO-PIN":
		return append(as(so, len(so), right), so...), len(so) > 0
	case strings.HasPrefix(p.Words, "the old PIN") && subject == "user PIN":
		// Of two PINs one is filled in: it becomes itself, or what follows would cost tries.
		return append(as(user, len(user), right), user...), len(user) > 0
	case strings.HasPrefix(p.Words, "SO-PIN and new PIN") && len(so) > 0 && len(user) > 0:
		return append(as(so, len(so), right), user...), true
	}
	return nil, false
}

// as is a secret, or a wrong one of so many bytes.
func as(secret []byte, n int, right bool) []byte {
	if right {
		return bytes.Clone(secret)
	}
	wrong := bytes.Repeat([]byte{'0'}, n)
	if bytes.Equal(wrong, secret) {
		wrong[0] = '1'
	}
	return wrong
}
