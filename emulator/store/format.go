package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
)

const (
	// magic begins every file of every version.
	magic = "hsmemu-state "
	// version is the one this program writes. It reads all from 1.
	version = 1
	// sumLen is the length of the checksum in the first line.
	sumLen = 2 * sha256.Size
	// unsealed is the word for a content that is kept in the open.
	unsealed = "none"
)

// header is the second line of a file.
type header struct {
	Generation uint64 `json:"generation"`
	Seal       string `json:"seal"`
}

// encode appends the whole file to dst.
func encode(dst []byte, h header, v any) ([]byte, error) {
	head, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("store: encode: %w", err)
	}
	dst = append(dst, magic...)
	dst = strconv.AppendInt(dst, version, 10)
	dst = append(dst, ' ')
	sumAt := len(dst)
	dst = append(dst, make([]byte, sumLen)...)
	dst = append(dst, '\n')
	rest := len(dst)
	dst = append(dst, head...)
	dst = append(dst, '\n')

	b := bytes.NewBuffer(dst)
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false) // the file is for programs and people, not for web pages
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("store: encode: %w", err)
	}
	dst = b.Bytes()
	sum := sha256.Sum256(dst[rest:])
	hex.Encode(dst[sumAt:], sum[:])
	return dst, nil
}

// parse takes a file apart and checks all that can be checked without knowing
// what it holds.
func parse(path string, raw []byte) (v int, h header, content []byte, err error) {
	first, rest, found := bytes.Cut(raw, []byte{'\n'})
	fields, isOurs := bytes.CutPrefix(first, []byte(magic))
	if !isOurs || !found {
		return 0, header{}, nil, corrupt(path, "not a state file of this program")
	}
	number, sum, _ := bytes.Cut(fields, []byte{' '})
	// ParseUint takes neither sign nor blank; a leading zero is written by nobody.
	n, err := strconv.ParseUint(string(number), 10, 31)
	if err != nil || n == 0 || number[0] == '0' {
		return 0, header{}, nil, corrupt(path, "no version number in the first line")
	}
	if n > version {
		return 0, header{}, nil, fmt.Errorf("%w: %s: version %d, this program knows %d", ErrVersion, path, n, version)
	}
	want := sha256.Sum256(rest)
	if hex.EncodeToString(want[:]) != string(sum) {
		return 0, header{}, nil, corrupt(path, "the checksum does not match")
	}
	head, content, found := bytes.Cut(rest, []byte{'\n'})
	if !found {
		return 0, header{}, nil, corrupt(path, "no header")
	}
	d := json.NewDecoder(bytes.NewReader(head))
	d.DisallowUnknownFields()
	if err := d.Decode(&h); err != nil {
		return 0, header{}, nil, corrupt(path, "the header cannot be read: "+err.Error())
	}
	if h.Generation == 0 {
		return 0, header{}, nil, corrupt(path, "the generation is 0")
	}
	if h.Seal != unsealed {
		return 0, header{}, nil, fmt.Errorf("%w: %s: unknown seal %q", ErrVersion, path, h.Seal)
	}
	return int(n), h, content, nil
}
