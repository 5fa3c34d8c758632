package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"regexp"
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

// Enabled tells that only failures are spoken of.
func (v voice) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelError }

// Handle says one record.
func (v voice) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString("hsmemu: " + v.about + r.Message)
	r.Attrs(func(a slog.Attr) bool {
		b.WriteString(": " + spoken(a.Value.Resolve().String()))
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

// packages begins what an error of ours says: which package it is from, for those
// who read the source.
var packages = regexp.MustCompile(`(^|: |; )(?:(?:apdu|applet|chip|cmac|curve|cvc|emulator|keystore|pcscd|pinstate|pkcs15|seal|sm|store|tlv|vsmartcard): )+`)

// spoken is what an error says to the people at the command line, in one line and
// without the names of packages. A stack stays as it is: that is for us, and not
// for people.
func spoken(text string) string {
	if strings.Contains(text, "\n\t") {
		return text
	}
	return packages.ReplaceAllString(strings.ReplaceAll(text, "\n", "; "), "$1")
}
