package chip

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// UnmarshalJSON reads what AppendJSON wrote, and nothing that is not the state
// of a card. Errors: what encoding/json says of another form, and
// applet.ErrState, wrapped.
func (d *Durable) UnmarshalJSON(b []byte) error {
	type form Durable // which has no methods
	var read form
	strict := json.NewDecoder(bytes.NewReader(b))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&read); err != nil {
		return err
	}
	if err := Durable(read).Check(); err != nil {
		return err
	}
	*d = Durable(read)
	return nil
}

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
	if d.Broken != "" {
		name, err := json.Marshal(d.Broken)
		if err != nil {
			return nil, err
		}
		dst = append(append(dst, `,"broken":`...), name...)
	}
	if !d.Manager.IsZero() {
		kept, err := json.Marshal(d.Manager)
		if err != nil {
			return nil, err
		}
		dst = append(append(dst, `,"manager":`...), kept...)
	}
	return append(dst, '}'), nil
}
