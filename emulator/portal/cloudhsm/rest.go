package cloudhsm

import (
	"context"
	"crypto"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"hsmemu/applet/apdu"
	"hsmemu/applet/client"
	"hsmemu/applet/pkcs15"
	"hsmemu/keystore"
)

// Prefix is what the paths of resources begin with.
const Prefix = "/se/api/"

// bodyMax is the longest request to sign, in bytes.
const bodyMax = 4 << 10

//go:embed openapi.json
var description []byte

// problem is an answer that tells why there is no other.
type problem struct {
	status  int
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Error says why.
func (p *problem) Error() string { return p.Message }

func refuse(status int, code, format string, args ...any) *problem {
	return &problem{status, code, fmt.Sprintf(format, args...)}
}

// ServeHTTP answers a program.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer, err := s.answer(w, r)
	status := http.StatusOK
	var p *problem
	if errors.As(err, &p) {
		answer, status = p, p.status
	}
	var body []byte
	if raw, ok := answer.([]byte); ok {
		body = raw
	} else {
		body, _ = json.Marshal(answer) // of texts and numbers
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body) // a program that has gone has no need of it
}

// answer is what a request is answered with. The error is a *problem.
func (s *Service) answer(w http.ResponseWriter, r *http.Request) (any, error) {
	parts, err := split(r.URL)
	if err != nil {
		return nil, err
	}
	describes := len(parts) == 1 && parts[0] == "openapi.json"
	// The handshake has verified the chain, by the authorities of TLS.
	if !describes && !s.WithoutCertificate && (r.TLS == nil || len(r.TLS.VerifiedChains) == 0) {
		return nil, refuse(http.StatusUnauthorized, "certificate_required", "a client certificate is needed")
	}
	last := len(parts) - 1
	signs := last >= 2 && parts[last] == "signhash" && (len(parts) == 3 && parts[0] == "keys" || len(parts) == 5)
	want := http.MethodGet
	if signs {
		want, parts = http.MethodPost, parts[:last]
	}
	if describes {
		return description, method(w, r, want)
	}
	offered := func(string) bool { return true }
	if s.Offered != nil {
		if offered, err = s.Offered(r); err != nil {
			return nil, refuse(http.StatusInternalServerError, "internal", "the service could not do that")
		}
	}
	found, err := s.find(parts, offered)
	if err != nil {
		return nil, err
	}
	if err := method(w, r, want); err != nil {
		return nil, err
	}
	if !signs {
		return found, nil
	}
	k, ok := found.(Key)
	if !ok {
		return nil, refuse(http.StatusNotFound, "not_found", "only keys sign")
	}
	o, err := readOrder(w, r)
	if err != nil {
		return nil, err
	}
	return s.sign(r.Context(), k, o)
}

// split takes a path apart.
func split(u *url.URL) ([]string, error) {
	rest, ok := strings.CutPrefix(u.EscapedPath(), Prefix)
	if !ok {
		return nil, refuse(http.StatusNotFound, "not_found", "there is nothing here")
	}
	parts := strings.Split(rest, "/")
	for i, p := range parts {
		var err error
		if parts[i], err = url.PathUnescape(p); err != nil {
			return nil, refuse(http.StatusBadRequest, "bad_path", "the path is malformed")
		}
	}
	return parts, nil
}

func method(w http.ResponseWriter, r *http.Request, want string) error {
	if r.Method == want || want == http.MethodGet && r.Method == http.MethodHead {
		return nil
	}
	w.Header().Set("Allow", want)
	return refuse(http.StatusMethodNotAllowed, "method_not_allowed", "only %s is for this resource", want)
}

// views are the cards that a program can use.
func (s *Service) views(offered func(path string) bool) []HSM {
	all := []HSM{}
	for _, h := range s.connected() {
		if v, ok := h.view(); ok && offered(h.path) {
			all = append(all, v)
		}
	}
	return all
}

// merged are the keys of several HSMs, each key once: keys are one where identifier
// and public key are.
func merged(hsms []HSM, in func(Key) bool) []Key {
	all := []Key{}
	for _, h := range hsms {
		for _, k := range h.Keys {
			if !in(k) {
				continue
			}
			i := slices.IndexFunc(all, func(o Key) bool { return o.ID == k.ID && o.PubKey == k.PubKey && k.PubKey != "" })
			if i < 0 {
				i, all = len(all), append(all, k)
			}
			all[i].HSMs = append(all[i].HSMs, h.ID)
			if all[i].HSMs[0] != h.ID {
				all[i].places = append(slices.Clip(all[i].places), k.places...)
			}
		}
	}
	return all
}

// domains are the key domains of the HSMs, their default ones among them.
func domains(hsms []HSM) []KeyDomain {
	all := []KeyDomain{}
	add := func(id, h string) {
		i := slices.IndexFunc(all, func(d KeyDomain) bool { return d.ID == id })
		if i < 0 {
			i, all = len(all), append(all, KeyDomain{ID: id})
		}
		if !slices.Contains(all[i].HSMs, h) {
			all[i].HSMs = append(all[i].HSMs, h)
		}
	}
	for _, h := range hsms {
		add(h.DefaultKeyDomain, h.ID)
		for _, d := range h.KeyDomains {
			add(d.ID, h.ID)
		}
	}
	for i := range all {
		all[i].Keys = merged(hsms, func(k Key) bool { return k.KeyDomain == all[i].ID })
	}
	return all
}

// find is the resource of a path: a list, an HSM, a key domain or a Key.
func (s *Service) find(parts []string, offered func(path string) bool) (any, error) {
	hsms := s.views(offered)
	everything := merged(hsms, func(Key) bool { return true })
	nothing := refuse(http.StatusNotFound, "not_found", "there is nothing here")
	var keys []Key
	switch parts[0] {
	case "keys":
		keys, parts = everything, parts[1:]
	case "hsms":
		if len(parts) == 1 {
			return hsms, nil
		}
		i := slices.IndexFunc(hsms, func(h HSM) bool { return h.ID == parts[1] })
		if i < 0 {
			return nil, refuse(http.StatusNotFound, "not_found", "no such HSM is connected and logged in")
		}
		if len(parts) == 2 {
			return hsms[i], nil
		}
		keys = hsms[i].Keys
		if parts[2] != "keys" {
			return nil, nothing
		}
		parts = parts[3:]
	case "keydomains":
		all := domains(hsms)
		if len(parts) == 1 {
			return all, nil
		}
		i := slices.IndexFunc(all, func(d KeyDomain) bool { return strings.EqualFold(d.ID, parts[1]) })
		if i < 0 {
			return nil, refuse(http.StatusNotFound, "not_found", "no HSM that is connected and logged in has such a key domain")
		}
		if len(parts) == 2 {
			return all[i], nil
		}
		keys = all[i].Keys
		if parts[2] != "keys" {
			return nil, nothing
		}
		parts = parts[3:]
	default:
		return nil, nothing
	}
	if len(parts) == 0 {
		return keys, nil
	}
	if len(parts) > 1 {
		return nil, nothing
	}
	var found []Key
	for _, k := range keys {
		if strings.EqualFold(k.ID, parts[0]) {
			found = append(found, k)
		}
	}
	switch len(found) {
	case 0:
		return nil, refuse(http.StatusNotFound, "not_found", "there is no such key")
	case 1:
		return found[0], nil
	}
	return nil, refuse(http.StatusConflict, "ambiguous", "%d different keys have this identifier: name the HSM", len(found))
}

// order is what is to be signed, and how.
type order struct {
	hash []byte
	kind crypto.Hash
	how  way
	algo string
}

// way is how a card signs a hash value: with the first algorithm that the key allows.
type way struct {
	kind    pkcs15.Kind
	choices []choice
}

type choice struct {
	algorithm keystore.Algorithm
	// input makes the card's input of a hash value, for a modulus of n bytes.
	input func(h crypto.Hash, hash []byte, n int) ([]byte, error)
}

func asItIs(_ crypto.Hash, hash []byte, _ int) ([]byte, error) { return hash, nil }

// ways are the algorithms that the service's code knows. Clients of the card pad for
// PKCS #1 themselves; the card's own way is taken where a key allows that alone.
var ways = map[string]way{
	"ECDSA":     {pkcs15.EC, []choice{{keystore.ECDSA, asItIs}}},
	"RSA_PSS":   {pkcs15.RSA, []choice{{keystore.RSAPSS, asItIs}}},
	"RSA_PKCS1": {pkcs15.RSA, []choice{{keystore.RSASignRaw, padded}, {keystore.RSASignPKCS1, digestInfo}}},
}

// hashes are the hash functions, by the length of their values.
var hashes = map[int]crypto.Hash{20: crypto.SHA1, 28: crypto.SHA224, 32: crypto.SHA256, 48: crypto.SHA384, 64: crypto.SHA512}

// prefixes are what stands before a hash value in a DigestInfo (RFC 8017 §9.2, note 1).
var prefixes = map[crypto.Hash]string{
	crypto.SHA1:   "\x30\x21\x30\x09\x06\x05\x2B\x0E\x03\x02\x1A\x05\x00\x04\x14",
	crypto.SHA224: "\x30\x2D\x30\x0D\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x04\x05\x00\x04\x1C",
	crypto.SHA256: "\x30\x31\x30\x0D\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20",
	crypto.SHA384: "\x30\x41\x30\x0D\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30",
	crypto.SHA512: "\x30\x51\x30\x0D\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40",
}

func digestInfo(h crypto.Hash, hash []byte, _ int) ([]byte, error) {
	return append([]byte(prefixes[h]), hash...), nil
}

// padded is a block of PKCS #1 v1.5 (RFC 8017 §9.2).
func padded(h crypto.Hash, hash []byte, n int) ([]byte, error) {
	info, _ := digestInfo(h, hash, n)
	fill := n - len(info) - 3
	if fill < 8 {
		return nil, refuse(http.StatusBadRequest, "bad_hash", "the key is too short for this hash value")
	}
	return slices.Concat([]byte{0, 1}, slices.Repeat([]byte{0xFF}, fill), []byte{0}, info), nil
}

// readOrder reads a request to sign.
func readOrder(w http.ResponseWriter, r *http.Request) (order, error) {
	// A browser sends JSON to another site only where that allows it.
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return order{}, refuse(http.StatusUnsupportedMediaType, "bad_type", "a request to sign is application/json")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyMax))
	if err != nil {
		return order{}, refuse(http.StatusBadRequest, "bad_body", "the request is longer than %d bytes, or not complete", bodyMax)
	}
	var in struct {
		Hash *string `json:"hash"`
		Algo *string `json:"algo"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return order{}, refuse(http.StatusBadRequest, "bad_body", "the request is not JSON of two texts, hash and algo")
	}
	if in.Hash == nil || in.Algo == nil {
		return order{}, refuse(http.StatusBadRequest, "bad_body", "hash and algo are needed")
	}
	o := order{algo: *in.Algo}
	var known bool
	if o.how, known = ways[o.algo]; !known {
		return order{}, refuse(http.StatusBadRequest, "bad_algo", "algo is ECDSA, RSA_PKCS1 or RSA_PSS")
	}
	if o.hash, err = hex.DecodeString(*in.Hash); err != nil {
		return order{}, refuse(http.StatusBadRequest, "bad_hash", "hash is not in hexadecimal digits")
	}
	if o.kind, known = hashes[len(o.hash)]; !known {
		return order{}, refuse(http.StatusBadRequest, "bad_hash", "hash has %d bytes, not 20, 28, 32, 48 or 64", len(o.hash))
	}
	return o, nil
}

// Signature is the answer to a request to sign: DER of r and s, or a block as long as
// the modulus, in hexadecimal digits.
type Signature struct {
	Signature string `json:"signature"`
}

// sign has one of the HSMs sign that have the key. Where one goes away meanwhile,
// another signs.
func (s *Service) sign(ctx context.Context, k Key, o order) (any, error) {
	last := ErrGone
	for _, p := range k.places {
		s.mu.Lock()
		h := s.hsms[p.hsm]
		s.mu.Unlock()
		if h == nil {
			continue
		}
		signature, err := h.sign(ctx, p.ref, k.ID, o)
		if err == nil {
			return Signature{hexOf(signature)}, nil
		}
		if !errors.Is(err, ErrGone) {
			return nil, err
		}
		if last = err; ctx.Err() != nil {
			break
		}
	}
	return nil, refuse(http.StatusServiceUnavailable, "gone", "%v", last)
}

// sign has the card sign with a key that still has its identifier.
func (h *hsm) sign(ctx context.Context, ref byte, id string, o order) ([]byte, error) {
	k, found := h.key(ref)
	if !found || hexOf(k.description.ID) != id {
		return nil, ErrGone
	}
	if k.description.Kind != o.how.kind {
		return nil, refuse(http.StatusBadRequest, "bad_algo", "%s is not for %s keys", o.algo, k.description.Kind)
	}
	n := slices.IndexFunc(o.how.choices, func(c choice) bool {
		return k.attributes.algorithms == nil || slices.Contains(k.attributes.algorithms, c.algorithm)
	})
	if n < 0 {
		return nil, refuse(http.StatusBadRequest, "bad_algo", "the key does not allow %s", o.algo)
	}
	by := o.how.choices[n]
	input, err := by.input(o.kind, o.hash, k.modulusLen())
	if err != nil {
		return nil, err
	}
	var signature []byte // read when the job has ended, and not if this one does not wait for it
	err = h.do(ctx, func(ctx context.Context, c *client.Client) error {
		made, err := c.Sign(ctx, ref, by.algorithm, input)
		signature = made
		if err != nil || k.attributes.uses == nil {
			return err
		}
		a, err := readAttributes(ctx, c, ref)
		if err == nil {
			h.note(ref, a)
		}
		return err
	})
	var sw apdu.SW
	switch {
	case err == nil:
		return signature, nil
	case errors.As(err, &sw):
		return nil, refuse(http.StatusConflict, "card_refused", "the card refuses: %v", sw)
	}
	return nil, err
}
