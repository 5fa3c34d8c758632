package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// voice is a log handler that speaks as the command line does: a line for each
// record, with its values behind colons.
//
//	hsmemu: card "alice": state could not be saved: store: save: no space left on device
type voice struct {
	out   io.Writer
	about string // with a colon and a blank behind it
}

// Enabled reports whether records of a level are printed: those of warnings and errors.
func (v voice) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }

// Handle says one record.
func (v voice) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString("hsmemu: " + v.about + r.Message)
	r.Attrs(func(a slog.Attr) bool {
		b.WriteString(": " + oneLine(a.Value.Resolve().String()))
		return true
	})
	b.WriteByte('\n')
	_, err := io.WriteString(v.out, b.String())
	return err
}

// WithAttrs says more about what all further records are about.
func (v voice) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		v.about += fmt.Sprintf("%v: ", a.Value.Resolve())
	}
	return v
}

// WithGroup changes nothing: lines for people have no groups.
func (v voice) WithGroup(string) slog.Handler { return v }
