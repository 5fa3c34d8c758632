package chip

import (
	"strconv"
)

// AppendJSON appends the JSON form to dst: what encoding/json writes of a
// Durable, to the byte and without escapes for web pages, and faster; see the
// application's AppendJSON. Error: as there.
func (d Durable) AppendJSON(dst []byte) ([]byte, error) {
	dst, err := d.Applet.AppendJSON(append(dst, `{"applet":`...))
	if err != nil {
		return nil, err
	}
	if d.Seed != nil {
		dst = strconv.AppendUint(append(dst, `,"seed":`...), *d.Seed, 10)
	}
	if d.KeyPool {
		dst = append(dst, `,"key_pool":true`...)
	}
	return append(dst, '}'), nil
}
