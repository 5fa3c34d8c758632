package keystore

import (
	"fmt"
	"io"
	"log/slog" // only for the type of LogValue; nothing here logs
)

// Secret is a byte string that shows itself as three dots wherever package
// fmt or log/slog print it. It protects against carelessness only: a
// conversion to []byte, encoding/json, an unexported field of a struct that
// is printed, and %w (which is for errors) give the bytes.
type Secret []byte

const hidden = "•••"

// Format writes three dots for every verb and flag.
func (Secret) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, hidden) }

// String returns three dots.
func (Secret) String() string { return hidden }

// LogValue returns three dots.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// veil keeps a value out of reach of package fmt. In a struct of somebody
// else that holds a Key in an unexported field, fmt cannot call methods and
// prints what it finds; with a verb that does not fit, such as %s, it follows
// one pointer on the way. It does not follow two.
type veil[T any] struct{ p **T }

func veiled[T any](v *T) veil[T] { return veil[T]{&v} }

// lift returns the value, nil if there is none.
func (v veil[T]) lift() *T {
	if v.p == nil {
		return nil
	}
	return *v.p
}

// String names the key by kind and size, as in "RSA 2048" or "EC secp256r1".
func (k Key) String() string {
	switch k.Kind() {
	case EC:
		return "EC " + k.Curve().Name()
	case RSA, AES:
		return fmt.Sprintf("%v %d", k.Kind(), k.Bits())
	}
	return "no key"
}

// Format writes String for every verb and flag.
func (k Key) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, k.String()) }

// LogValue returns String.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// String names the domain by kind and key check value, as in
// "DKEK 97E303855DC1C54D"; while it is not ready, "DKEK not ready".
func (d Domain) String() string {
	name := "no key domain"
	switch d.kind {
	case domainDKEK:
		name = "DKEK"
	case domainXKEK:
		name = "XKEK"
	default:
		return name
	}
	if !d.Ready() {
		return name + " not ready"
	}
	return fmt.Sprintf("%s %X", name, d.KCV())
}

// Format writes String for every verb and flag.
func (d Domain) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, d.String()) }

// LogValue returns String.
func (d Domain) LogValue() slog.Value { return slog.StringValue(d.String()) }
