package pinstate

import (
	"encoding/json"
	"fmt"
	"io"
)

// Value is the bytes of a PIN. It prints as ••• with every verb of package fmt
// and as text; only its JSON form, base64 as encoding/json makes of any byte
// slice, holds the secret, for the state file. Package fmt calls no methods on
// unexported fields: a struct that hides a Value in one needs a Format method of
// its own. The nil Value is no PIN at all.
type Value []byte

const hidden = "•••"

// Format implements fmt.Formatter for every verb and flag.
func (v Value) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// MarshalText implements encoding.TextMarshaler, which loggers prefer to the
// bytes themselves. It never fails.
func (v Value) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// MarshalJSON implements json.Marshaler: base64 in a string, or null. It never
// fails. Reading back needs no method.
func (v Value) MarshalJSON() ([]byte, error) { return json.Marshal([]byte(v)) }
