package applet

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"hsmemu/keystore"
	"hsmemu/pinstate"
)

// AppendJSON appends the JSON form to dst: what encoding/json writes of a
// Durable, to the byte and without escapes for web pages, in a third of the
// time. Files and keys are nearly all of a card, and encoding/json reads every
// key twice to see whether it is JSON. Error: what a value that has no JSON form
// says; there is none.
func (d Durable) AppendJSON(dst []byte) ([]byte, error) {
	dst, err := appendValue(dst, struct {
		Firmware string        `json:"firmware"`
		Answers  Answers       `json:"answers,omitzero"`
		PINs     pinstate.Card `json:"pins"`
		Device   Device        `json:"device"`
	}{d.Firmware, d.Answers, d.PINs, d.Device})
	if err != nil {
		return nil, err
	}
	dst = append(dst[:len(dst)-1], `,"files":`...)
	dst = appendFiles(dst, d.Files)
	if len(d.Keys) > 0 {
		dst = appendKeys(append(dst, `,"keys":`...), d.Keys)
	}
	at := len(dst)
	dst, err = appendValue(dst, struct {
		Domains    []keystore.Domain `json:"domains,omitempty"`
		Custodians []Custodian       `json:"custodians,omitempty"`
	}{d.Domains, d.Custodians})
	if err != nil {
		return nil, err
	}
	if len(dst) == at+len("{}") {
		return append(dst[:at], '}'), nil
	}
	dst[at] = ','
	return dst, nil
}

// appendValue appends what encoding/json makes of v.
func appendValue(dst []byte, v any) ([]byte, error) {
	b := bytes.NewBuffer(dst)
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

func appendFiles(dst []byte, files []File) []byte {
	if files == nil {
		return append(dst, "null"...)
	}
	dst = append(dst, '[')
	for i, f := range files {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendUint(append(dst, `{"id":`...), uint64(f.ID), 10)
		if f.Data == nil {
			dst = append(dst, `,"data":null}`...)
			continue
		}
		dst = base64.StdEncoding.AppendEncode(append(dst, `,"data":"`...), f.Data)
		dst = append(dst, `"}`...)
	}
	return append(dst, ']')
}

// byText is every key id in the order of its decimal text, in which encoding/json
// writes the keys of a map.
var byText = func() []byte {
	ids := make([]byte, 256)
	for i := range ids {
		ids[i] = byte(i)
	}
	slices.SortFunc(ids, func(a, b byte) int { return strings.Compare(strconv.Itoa(int(a)), strconv.Itoa(int(b))) })
	return ids
}()

func appendKeys(dst []byte, keys map[byte]keystore.Key) []byte {
	separator := byte('{')
	for _, id := range byText {
		k, exists := keys[id]
		if !exists {
			continue
		}
		dst = strconv.AppendUint(append(dst, separator, '"'), uint64(id), 10)
		dst = k.AppendJSON(append(dst, `":`...))
		separator = ','
	}
	return append(dst, '}')
}
