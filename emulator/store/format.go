package store

import (
	"bytes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
)

const (
	// magic begins every file of every version.
	magic = "hsmemu-state "
	// version is the one this program writes. It reads all from 1.
	version = 1
	// maxGeneration is more than anyone comes to by saving.
	maxGeneration = 1<<63 - 1
	// sumLen is the length of the checksum in the first line.
	sumLen = 2 * sha256.Size
)

// header is the second line of a file.
type header struct {
	Generation uint64          `json:"generation"`
	Seal       string          `json:"seal"`
	Parameters json.RawMessage `json:"parameters,omitempty"`
	Retired    *retired        `json:"retired,omitempty"`
}

// retired is a seal that a Reseal replaced and whose counter may still be there.
type retired struct {
	Seal       string          `json:"seal"`
	Parameters json.RawMessage `json:"parameters"`
}

// appender is a value that knows a faster way to its JSON form than
// encoding/json.
type appender interface {
	AppendJSON(dst []byte) ([]byte, error)
}

// encode appends a value as JSON, and a line feed, to dst.
func encode(dst []byte, v any) ([]byte, error) {
	if a, ok := v.(appender); ok {
		out, err := a.AppendJSON(dst)
		if err != nil {
			return dst, fmt.Errorf("encode: %w", err)
		}
		return append(out, '\n'), nil
	}
	b := bytes.NewBuffer(dst)
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false) // the file is for programs and people, not for web pages
	if err := e.Encode(v); err != nil {
		return dst, fmt.Errorf("encode: %w", err)
	}
	return b.Bytes(), nil
}

// compose appends a whole file to dst; its content is sealed if aead is there.
func compose(dst []byte, h header, content []byte, aead cipher.AEAD, random io.Reader) ([]byte, error) {
	head, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	head = append(head, '\n')
	dst = append(dst, magic...)
	dst = strconv.AppendInt(dst, version, 10)
	dst = append(dst, ' ')
	sumAt := len(dst)
	dst = append(dst, make([]byte, sumLen)...)
	dst = append(dst, '\n')
	rest := len(dst)
	dst = append(dst, head...)
	if aead == nil {
		dst = append(dst, content...)
	} else {
		var nonce [maxNonce]byte
		n := nonce[:aead.NonceSize()]
		if _, err := io.ReadFull(random, n); err != nil {
			return nil, fmt.Errorf("nonce: %w", err)
		}
		dst = append(dst, n...)
		dst = aead.Seal(dst, n, content, associated(version, head))
	}
	sum := sha256.Sum256(dst[rest:])
	hex.Encode(dst[sumAt:], sum[:])
	return dst, nil
}

const maxNonce = 24

// associated is what a sealed content vouches for besides itself.
func associated(version int, head []byte) []byte {
	return append(strconv.AppendInt([]byte(magic), int64(version), 10), append([]byte{'\n'}, head...)...)
}

// parsed is a file taken apart.
type parsed struct {
	path    string
	version int
	header  header
	head    []byte // the header's line with its line feed
	body    []byte // the content, sealed or not
}

// parse takes a file apart and checks all that can be checked without a key and
// without knowing what it holds.
func parse(path string, raw []byte) (parsed, error) {
	first, rest, found := bytes.Cut(raw, []byte{'\n'})
	fields, isOurs := bytes.CutPrefix(first, []byte(magic))
	if !isOurs || !found {
		return parsed{}, corrupt(path, "not a state file of this program")
	}
	number, sum, _ := bytes.Cut(fields, []byte{' '})
	// ParseUint takes neither sign nor blank; a leading zero is written by nobody.
	n, err := strconv.ParseUint(string(number), 10, 31)
	if err != nil || n == 0 || number[0] == '0' {
		return parsed{}, corrupt(path, "no version number in the first line")
	}
	if n > version {
		return parsed{}, fmt.Errorf("%w: %s: version %d, this program knows %d", ErrVersion, path, n, version)
	}
	want := sha256.Sum256(rest)
	if hex.EncodeToString(want[:]) != string(sum) {
		return parsed{}, corrupt(path, "the checksum does not match")
	}
	end := bytes.IndexByte(rest, '\n') + 1
	if end == 0 {
		return parsed{}, corrupt(path, "no header")
	}
	p := parsed{path: path, version: int(n), head: rest[:end], body: rest[end:]}
	d := json.NewDecoder(bytes.NewReader(p.head))
	d.DisallowUnknownFields()
	if err := d.Decode(&p.header); err != nil {
		return parsed{}, corrupt(path, "the header cannot be read: "+err.Error())
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return parsed{}, corrupt(path, "more than a header in its line")
	}
	if g := p.header.Generation; g == 0 || g > maxGeneration {
		return parsed{}, corrupt(path, fmt.Sprintf("the generation is %d", g))
	}
	return p, nil
}

// content appends the content to dst, unsealed if aead is there.
func (p parsed) content(dst []byte, aead cipher.AEAD) ([]byte, error) {
	if aead == nil {
		return append(dst, p.body...), nil
	}
	n := aead.NonceSize()
	if len(p.body) < n {
		return dst, corrupt(p.path, "the sealed content is cut off")
	}
	content, err := aead.Open(dst, p.body[:n], p.body[n:], associated(p.version, p.head))
	if err != nil {
		return dst, corrupt(p.path, "the sealed content or the header was altered")
	}
	return content, nil
}

// impossible is what T says of a value that has the form of T and yet cannot be.
type impossible interface {
	error
	Impossible() bool
}

// decode reads the one JSON value in content. The checksum has vouched for
// content, so JSON that does not fit T comes from a program with another T, and
// a value that T calls impossible from nobody's program.
func decode[T any](path string, content []byte) (T, error) {
	var v, none T
	d := json.NewDecoder(bytes.NewReader(content))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		if _, bad := errors.AsType[*json.SyntaxError](err); bad || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return none, corrupt(path, "the content is not JSON: "+err.Error())
		}
		if i, ours := errors.AsType[impossible](err); ours && i.Impossible() {
			return none, fmt.Errorf("%w: %s: %w", ErrCorrupt, path, err)
		}
		return none, fmt.Errorf("%w: %s: the content does not fit: %w", ErrVersion, path, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return none, corrupt(path, "more than one value")
	}
	return v, nil
}
