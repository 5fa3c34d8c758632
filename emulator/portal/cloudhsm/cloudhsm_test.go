package cloudhsm_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/stretchr/testify/require"

	"hsmemu/applet/apdu"
	"hsmemu/applet/client"
	"hsmemu/applet/cvc"
	"hsmemu/applet/pkcs15"
	"hsmemu/emulator/chiptest"
	"hsmemu/emulator/portal"
	"hsmemu/emulator/portal/cloudhsm"
	"hsmemu/emulator/portal/pki"
	"hsmemu/emulator/ram"
	"hsmemu/keystore"
	"hsmemu/keystore/curve"
	"hsmemu/pinstate"
	"hsmemu/vsmartcard"
)

var (
	pin   = []byte("648219")
	soPIN = []byte("57621880")
)

// within hands requests to a server without a network, which bubbles of synctest
// do not have.
type within struct{ http.Handler }

func (w within) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := httptest.NewRecorder()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.ServeHTTP(answer, r)
	}()
	select {
	case <-done:
		return answer.Result(), nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// house has a service, its server for cards, and the clients that connect them.
type house struct {
	service *cloudhsm.Service
	server  *ram.Server
	ended   chan error
}

func newHouse(t testing.TB, c cloudhsm.Config) *house {
	t.Helper()
	if c.Roots == nil {
		c.Roots = cvc.EmulatorRoots()
	}
	c.Rand, c.WithoutCertificate = rand.Reader, true
	s, err := cloudhsm.New(c)
	require.NoError(t, err)
	h := &house{service: s, ended: make(chan error, 16)}
	h.server = &ram.Server{
		Services: map[string]ram.Service{"hsm": s.Serve}, Known: func(session string) bool { return session == "one" },
		Ended: func(_ string, _ *ram.Session, err error) { h.ended <- err },
	}
	return h
}

// connect connects a card, and returns how its client ended and what it was told.
func (h *house) connect(ctx context.Context, card vsmartcard.Card, path string) (ended <-chan error, told *[]ram.Notice) {
	done, notices := make(chan error, 1), new([]ram.Notice)
	go func() {
		done <- (&ram.Agent{Card: card, Transport: within{h.server}, Notice: func(n ram.Notice) { *notices = append(*notices, n) }}).Run(ctx, "http://localhost"+path)
	}()
	return done, notices
}

// wait waits for a number of cards that are connected.
func (h *house) wait(t testing.TB, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return len(h.service.Connections()) == n }, 2*time.Minute, time.Millisecond)
}

// newCard is a card in use, whose user is logged in, with keys.
func newCard(t testing.TB, name string, keys ...func(context.Context, testing.TB, *client.Client)) *chiptest.Card {
	t.Helper()
	ctx := t.Context()
	card, err := chiptest.Manufacture("4.1", name)
	require.NoError(t, err)
	c := client.New(card)
	_, err = c.Select(ctx)
	require.NoError(t, err)
	require.NoError(t, c.Initialise(ctx, client.Setup{Options: pinstate.OptionResetEnabled, SOPIN: soPIN, PIN: pin, Tries: 3, KeyDomains: 2}))
	require.NoError(t, c.VerifyPIN(ctx, client.UserPIN, pin))
	_, err = c.CreateKeyDomain(ctx, 0, 1)
	require.NoError(t, err)
	_, err = c.ImportShare(ctx, 0, bytes.Repeat([]byte{7}, 32))
	require.NoError(t, err)
	for _, k := range keys {
		k(ctx, t, c)
	}
	return card
}

func describe(ctx context.Context, t testing.TB, c *client.Client, ref byte, kind pkcs15.Kind, bits int, label string) {
	t.Helper()
	require.NoError(t, c.WriteFile(ctx, pkcs15.File(pkcs15.PrefixKeyDescription, ref), pkcs15.Key{
		Kind: kind, Label: label, ID: []byte{0xA0, ref}, Usage: pkcs15.Sign, Bits: bits,
	}.Bytes()))
}

// ec makes an EC key that is not in a key domain, and stores its request.
func ec(ref byte, on string, spec client.KeySpec) func(context.Context, testing.TB, *client.Client) {
	return func(ctx context.Context, t testing.TB, c *client.Client) {
		known, ok := curve.ByName(on)
		require.True(t, ok)
		spec.Holder = "UTCC00001"
		r, err := c.GenerateEC(ctx, ref, known, spec)
		require.NoError(t, err)
		require.NoError(t, c.WriteFile(ctx, pkcs15.File(pkcs15.PrefixCertificate, ref), r.Raw))
		describe(ctx, t, c, ref, pkcs15.EC, known.Bits(), on)
	}
}

func rsaKey(ref byte, spec client.KeySpec) func(context.Context, testing.TB, *client.Client) {
	return func(ctx context.Context, t testing.TB, c *client.Client) {
		spec.Holder = "UTCC00001"
		r, err := c.GenerateRSA(ctx, ref, 2048, spec)
		require.NoError(t, err)
		require.NoError(t, c.WriteFile(ctx, pkcs15.File(pkcs15.PrefixCertificate, ref), r.Raw))
		describe(ctx, t, c, ref, pkcs15.RSA, 2048, "an RSA key")
	}
}

func aes(ref byte) func(context.Context, testing.TB, *client.Client) {
	return func(ctx context.Context, t testing.TB, c *client.Client) {
		require.NoError(t, c.GenerateAES(ctx, ref, 256, client.KeySpec{Algorithms: []keystore.Algorithm{keystore.AESCBCEncrypt, 0x99}}))
		describe(ctx, t, c, ref, pkcs15.AES, 256, "an AES key")
	}
}

// program asks the service, and holds every request and answer against its
// description.
type program struct {
	handler http.Handler
	router  routers.Router
}

func newProgram(t testing.TB, handler http.Handler) *program {
	t.Helper()
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/se/api/openapi.json", nil))
	require.Equal(t, http.StatusOK, w.Code)
	doc, err := openapi3.NewLoader().LoadFromData(w.Body.Bytes())
	require.NoError(t, err)
	require.NoError(t, doc.Validate(t.Context()))
	doc.Servers = openapi3.Servers{{URL: "http://example.com/se/api"}}
	router, err := legacy.NewRouter(doc)
	require.NoError(t, err)
	return &program{handler, router}
}

// ask sends a request. good reports whether the description allows it.
func (p *program) ask(t testing.TB, method, path, body string) (status int, answer []byte, good bool) {
	t.Helper()
	make := func() *http.Request {
		r := httptest.NewRequestWithContext(t.Context(), method, "http://example.com/se/api/"+path, strings.NewReader(body))
		if body != "" {
			r.Header.Set("Content-Type", "application/json")
		}
		return r
	}
	w := httptest.NewRecorder()
	p.handler.ServeHTTP(w, make())
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	r := make()
	route, params, err := p.router.FindRoute(r)
	if err != nil {
		return w.Code, w.Body.Bytes(), false
	}
	in := &openapi3filter.RequestValidationInput{
		Request: r, PathParams: params, Route: route, Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	}
	good = openapi3filter.ValidateRequest(t.Context(), in) == nil
	out := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: w.Code, Header: w.Header(), Options: &openapi3filter.Options{IncludeResponseStatus: true},
	}
	out.SetBodyBytes(w.Body.Bytes())
	require.NoError(t, openapi3filter.ValidateResponse(t.Context(), out), "%s", w.Body)
	return w.Code, w.Body.Bytes(), good
}

// get is a resource that is there.
func get[T any](t testing.TB, p *program, path string) (v T) {
	t.Helper()
	status, answer, good := p.ask(t, http.MethodGet, path, "")
	require.Equal(t, http.StatusOK, status, "%s", answer)
	require.True(t, good)
	require.NoError(t, json.Unmarshal(answer, &v))
	return v
}

func (p *program) sign(t testing.TB, path string, hash []byte, algo string) (status int, signature []byte) {
	t.Helper()
	status, answer, good := p.ask(t, http.MethodPost, path+"/signhash", fmt.Sprintf(`{"hash":"%x","algo":%q}`, hash, algo))
	require.True(t, good)
	if status != http.StatusOK {
		return status, answer
	}
	var v cloudhsm.Signature
	require.NoError(t, json.Unmarshal(answer, &v))
	signature, err := hex.DecodeString(v.Signature)
	require.NoError(t, err)
	return status, signature
}

// public is the public key of a key.
func public(t testing.TB, k cloudhsm.Key) any {
	t.Helper()
	der, err := base64.StdEncoding.DecodeString(k.PubKey)
	require.NoError(t, err)
	key, err := x509.ParsePKIXPublicKey(der)
	require.NoError(t, err)
	return key
}

const theHSM = "UTSRCAEM1.UTDICAEM01.DENK99"

// PORTAL-33: a card of every kind of key is listed as the service's description says, and its
// signatures hold.
func TestService_ListsAndSigns(t *testing.T) {
	t.Parallel()
	house := newHouse(t, cloudhsm.Config{})
	card := newCard(t, "all", ec(1, "secp256r1", client.KeySpec{}), rsaKey(2, client.KeySpec{}), aes(3),
		ec(4, "brainpoolP384r1", client.KeySpec{Uses: new(uint32(3)), Algorithms: []keystore.Algorithm{keystore.ECDSA, keystore.ECDSASHA256}, KeyDomain: new(byte(0))}),
		ec(5, "secp521r1", client.KeySpec{Algorithms: []keystore.Algorithm{keystore.ECDSASHA512}}),
		rsaKey(6, client.KeySpec{Algorithms: []keystore.Algorithm{keystore.RSASignPKCS1, keystore.RSAPSS}}),
	)
	house.connect(t.Context(), card, "/rt/hsm")
	house.wait(t, 1)
	p := newProgram(t, house.service)

	hsms := get[[]cloudhsm.HSM](t, p, "hsms")
	require.Len(t, hsms, 1)
	h := hsms[0]
	require.True(t, strings.HasPrefix(h.ID, theHSM), h.ID)
	device, err := cvc.ParseChain(card.File(pkcs15.FileDevice))
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintf("%X", device.Device.Key.Point[1:33]), h.DefaultKeyDomain)
	require.Len(t, h.KeyDomains, 1, "an empty slot is none")
	require.Len(t, h.KeyDomains[0].ID, 16)
	require.Equal(t, h, get[cloudhsm.HSM](t, p, "hsms/"+h.ID))
	require.Equal(t, h.Keys, get[[]cloudhsm.Key](t, p, "hsms/"+h.ID+"/keys"))
	require.Len(t, h.Keys, 6)
	byID := map[string]cloudhsm.Key{}
	for _, k := range h.Keys {
		byID[k.ID] = k
		require.Equal(t, k, get[cloudhsm.Key](t, p, "hsms/"+h.ID+"/keys/"+k.ID))
		everywhere := get[cloudhsm.Key](t, p, "keys/"+strings.ToLower(k.ID))
		require.Equal(t, []string{h.ID}, everywhere.HSMs)
		everywhere.HSMs = nil
		require.Equal(t, k, everywhere)
	}
	for id, want := range map[string]struct {
		kind       string
		size       int
		uses       int64
		algorithms []string
		domain     string
	}{
		"A001": {"EC", 256, -1, nil, h.DefaultKeyDomain},
		"A002": {"RSA", 2048, -1, nil, h.DefaultKeyDomain},
		"A003": {"AES", 256, -1, []string{"10", "99"}, h.KeyDomains[0].ID},
		"A004": {"EC", 384, 3, []string{"ECDSA", "ECDSA_SHA256"}, h.KeyDomains[0].ID},
		"A005": {"EC", 521, -1, []string{"ECDSA_SHA512"}, h.KeyDomains[0].ID},
		"A006": {"RSA", 2048, -1, []string{"RSA_PKCS1", "RSA_PSS"}, h.KeyDomains[0].ID},
	} {
		k := byID[id]
		require.Equal(t, want.kind, k.Type, id)
		require.Equal(t, want.size, k.Size, id)
		require.Equal(t, want.algorithms, k.Algorithms, id)
		require.Equal(t, want.domain, k.KeyDomain, id)
		require.Equal(t, want.uses >= 0, k.KeyUseCounter != nil, id)
		require.Equal(t, k.Type == "AES", k.PubKey == "", id)
	}
	require.Equal(t, uint32(3), *byID["A004"].KeyUseCounter)

	domains := get[[]cloudhsm.KeyDomain](t, p, "keydomains")
	require.Len(t, domains, 2)
	require.Equal(t, h.DefaultKeyDomain, domains[0].ID)
	require.Equal(t, []string{h.ID}, domains[0].HSMs)
	require.Len(t, domains[0].Keys, 2)
	require.Equal(t, domains[1], get[cloudhsm.KeyDomain](t, p, "keydomains/"+strings.ToLower(domains[1].ID)))
	require.Equal(t, domains[1].Keys, get[[]cloudhsm.Key](t, p, "keydomains/"+domains[1].ID+"/keys"))
	require.Equal(t, domains[1].Keys[0], get[cloudhsm.Key](t, p, "keydomains/"+domains[1].ID+"/keys/"+domains[1].Keys[0].ID))

	sum256, sum512 := sha256.Sum256([]byte("a message")), sha512.Sum512([]byte("a message"))
	for _, path := range []string{"keys/A001", "hsms/" + h.ID + "/keys/A001", "keydomains/" + h.DefaultKeyDomain + "/keys/A001"} {
		status, signature := p.sign(t, path, sum256[:], "ECDSA")
		require.Equal(t, http.StatusOK, status)
		require.True(t, ecdsa.VerifyASN1(public(t, byID["A001"]).(*ecdsa.PublicKey), sum256[:], signature))
	}
	for _, id := range []string{"A002", "A006"} {
		key := public(t, byID[id]).(*rsa.PublicKey)
		status, signature := p.sign(t, "keys/"+id, sum512[:], "RSA_PKCS1")
		require.Equal(t, http.StatusOK, status, "%s", signature)
		require.NoError(t, rsa.VerifyPKCS1v15(key, crypto.SHA512, sum512[:], signature))
		status, signature = p.sign(t, "keys/"+id, sum256[:], "RSA_PSS")
		require.Equal(t, http.StatusOK, status, "%s", signature)
		require.NoError(t, rsa.VerifyPSS(key, crypto.SHA256, sum256[:], signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}))
	}
	// A key with a counter is used up, and says so.
	known, _ := curve.ByName("brainpoolP384r1")
	request, err := cvc.ParseAuthenticated(card.File(0xCE04))
	require.NoError(t, err)
	point, err := known.Public(request.Request.Key.Point)
	require.NoError(t, err)
	for left := range 3 {
		status, signature := p.sign(t, "keys/A004", sum256[:], "ECDSA")
		require.Equal(t, http.StatusOK, status)
		rs, err := known.ParseDER(signature)
		require.NoError(t, err)
		require.True(t, point.Verify(sum256[:], rs))
		require.Equal(t, uint32(2-left), *get[cloudhsm.Key](t, p, "keys/A004").KeyUseCounter)
	}
	status, answer := p.sign(t, "keys/A004", sum256[:], "ECDSA")
	require.Equal(t, http.StatusConflict, status)
	require.Contains(t, string(answer), "6984")

	for name, c := range map[string]struct {
		method, path, body string
		status             int
	}{
		"no HSM":            {"GET", "hsms/UTSRCAEM1.UTDICAEM01.DENK0000000", "", 404},
		"no key":            {"GET", "keys/A009", "", 404},
		"no domain":         {"GET", "keydomains/00", "", 404},
		"no resource":       {"GET", "passwords", "", 404},
		"below a key":       {"GET", "keys/A001/secret", "", 404},
		"below an HSM":      {"GET", "hsms/" + h.ID + "/pins", "", 404},
		"a slash":           {"GET", "hsms/", "", 404},
		"post to a list":    {"POST", "hsms", "{}", 405},
		"put":               {"PUT", "keys/A001", "{}", 405},
		"get a signature":   {"GET", "keys/A001/signhash", "", 405},
		"sign with none":    {"POST", "keys/A009/signhash", `{"hash":"00","algo":"ECDSA"}`, 404},
		"another operation": {"POST", "keys/A001/decrypt", `{}`, 404},
		"sign with an HSM":  {"POST", "hsms/" + h.ID + "/signhash", `{}`, 404},
		"no JSON":           {"POST", "keys/A001/signhash", "hash", 400},
		"an array":          {"POST", "keys/A001/signhash", "[]", 400},
		"two":               {"POST", "keys/A001/signhash", `{"hash":"` + strings.Repeat("00", 32) + `","algo":"ECDSA"}{}`, 400},
		"no hash":           {"POST", "keys/A001/signhash", `{"algo":"ECDSA"}`, 400},
		"no algorithm":      {"POST", "keys/A001/signhash", `{"hash":"` + strings.Repeat("00", 32) + `"}`, 400},
		"unknown algorithm": {"POST", "keys/A001/signhash", `{"hash":"` + strings.Repeat("00", 32) + `","algo":"ECDSA_SHA256"}`, 400},
		"odd digits":        {"POST", "keys/A001/signhash", `{"hash":"000","algo":"ECDSA"}`, 400},
		"no digits":         {"POST", "keys/A001/signhash", `{"hash":"xx","algo":"ECDSA"}`, 400},
		"short":             {"POST", "keys/A001/signhash", `{"hash":"00","algo":"ECDSA"}`, 400},
		"EC by RSA":         {"POST", "keys/A001/signhash", `{"hash":"` + strings.Repeat("00", 32) + `","algo":"RSA_PSS"}`, 400},
		"RSA by ECDSA":      {"POST", "keys/A002/signhash", `{"hash":"` + strings.Repeat("00", 32) + `","algo":"ECDSA"}`, 400},
		"AES":               {"POST", "keys/A003/signhash", `{"hash":"` + strings.Repeat("00", 32) + `","algo":"ECDSA"}`, 400},
		"not in its list":   {"POST", "keys/A005/signhash", `{"hash":"` + strings.Repeat("00", 32) + `","algo":"ECDSA"}`, 400},
		"too long":          {"POST", "keys/A001/signhash", `{"hash":"` + strings.Repeat("00", 5000) + `","algo":"ECDSA"}`, 400},
	} {
		status, answer, _ := p.ask(t, c.method, c.path, c.body)
		require.Equal(t, c.status, status, "%s: %s", name, answer)
		require.Contains(t, string(answer), `"message":`, name)
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/se/api/keys/A001/signhash", strings.NewReader(`{}`))
	r.Header.Set("Content-Type", "text/plain")
	w := httptest.NewRecorder()
	house.service.ServeHTTP(w, r)
	require.Equal(t, http.StatusUnsupportedMediaType, w.Code)
	require.NoError(t, house.server.Close())
	require.Empty(t, get[[]cloudhsm.HSM](t, p, "hsms"))
}

// Two programs share a card: each gets its own signatures.
func TestService_TwoProgramsOneCard(t *testing.T) {
	t.Parallel()
	house := newHouse(t, cloudhsm.Config{})
	house.connect(t.Context(), newCard(t, "shared", ec(1, "secp256r1", client.KeySpec{})), "/rt/hsm")
	house.wait(t, 1)
	p := newProgram(t, house.service)
	key := public(t, get[cloudhsm.Key](t, p, "keys/A001")).(*ecdsa.PublicKey)
	var all sync.WaitGroup
	failed := make(chan string, 40)
	for n := range 2 {
		all.Go(func() {
			for i := range 20 {
				sum := sha256.Sum256([]byte{byte(n), byte(i)})
				r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/se/api/keys/A001/signhash", strings.NewReader(fmt.Sprintf(`{"hash":"%x","algo":"ECDSA"}`, sum)))
				r.Header.Set("Content-Type", "application/json")
				w := httptest.NewRecorder()
				house.service.ServeHTTP(w, r)
				var v cloudhsm.Signature
				_ = json.Unmarshal(w.Body.Bytes(), &v)
				if der, _ := hex.DecodeString(v.Signature); w.Code != http.StatusOK || !ecdsa.VerifyASN1(key, sum[:], der) {
					failed <- w.Body.String()
				}
			}
		})
	}
	all.Wait()
	require.Empty(t, failed)
	require.NoError(t, house.server.Close())
}

// breaking is a card that does something else when it is to sign.
type breaking struct {
	*chiptest.Card
	sign func() error
}

func (b breaking) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	if len(command) > 1 && command[1] == apdu.InsSign {
		if err := b.sign(); err != nil {
			return nil, err
		}
	}
	return b.Card.Transmit(ctx, command)
}

var errPulled = errors.New("the card was pulled")

// A card that leaves during a signature is gone for programs; where another HSM has
// the same key, that one signs.
func TestService_CardLeavesDuringASignature(t *testing.T) {
	t.Parallel()
	house := newHouse(t, cloudhsm.Config{})
	first := newCard(t, "leaves", ec(1, "secp256r1", client.KeySpec{KeyDomain: new(byte(0))}))
	from := client.New(first)
	blob, err := from.WrapKey(t.Context(), 1)
	require.NoError(t, err)
	request := first.File(0xCE01)
	leaving := breaking{first, func() error { return errPulled }}
	left, _ := house.connect(t.Context(), leaving, "/rt/hsm")
	house.wait(t, 1)
	p := newProgram(t, house.service)
	key := get[cloudhsm.Key](t, p, "keys/A001")
	sum := sha256.Sum256([]byte("a message"))
	status, answer := p.sign(t, "keys/A001", sum[:], "ECDSA")
	require.Equal(t, http.StatusServiceUnavailable, status, "%s", answer)
	require.ErrorIs(t, <-left, ram.CodeCard)
	closed := new(ram.ClosedError)
	require.ErrorAs(t, <-house.ended, &closed)
	require.Contains(t, closed.Text, errPulled.Error())
	house.wait(t, 0)
	status, _ = p.sign(t, "keys/A001", sum[:], "ECDSA")
	require.Equal(t, http.StatusNotFound, status)

	second := newCard(t, "stays", func(ctx context.Context, t testing.TB, c *client.Client) {
		require.NoError(t, c.UnwrapKey(ctx, 1, blob))
		require.NoError(t, c.WriteFile(ctx, 0xCE01, request))
		describe(ctx, t, c, 1, pkcs15.EC, 256, "the same")
	})
	require.NoError(t, first.Reset())
	c := client.New(first)
	require.NoError(t, c.Login(t.Context(), pin))
	house.connect(t.Context(), leaving, "/rt/hsm")
	house.connect(t.Context(), second, "/rt/hsm")
	house.wait(t, 2)
	both := get[cloudhsm.Key](t, p, "keys/A001")
	require.Len(t, both.HSMs, 2)
	require.Equal(t, key.PubKey, both.PubKey)
	require.Len(t, get[[]cloudhsm.Key](t, p, "keys"), 1)
	require.Len(t, get[[]cloudhsm.KeyDomain](t, p, "keydomains"), 3, "two default ones, and the DKEK's")
	for range 2 {
		status, signature := p.sign(t, "keys/A001", sum[:], "ECDSA")
		require.Equal(t, http.StatusOK, status, "%s", signature)
		require.True(t, ecdsa.VerifyASN1(public(t, key).(*ecdsa.PublicKey), sum[:], signature))
	}
	require.NoError(t, house.server.Close())
}

// Two keys with one identifier are not taken for each other.
func TestService_AmbiguousKeys(t *testing.T) {
	t.Parallel()
	house := newHouse(t, cloudhsm.Config{})
	for _, name := range []string{"X", "Y"} {
		house.connect(t.Context(), newCard(t, name, ec(1, "secp256r1", client.KeySpec{})), "/rt/hsm")
	}
	house.wait(t, 2)
	p := newProgram(t, house.service)
	sum := sha256.Sum256(nil)
	status, _ := p.sign(t, "keys/A001", sum[:], "ECDSA")
	require.Equal(t, http.StatusConflict, status)
	require.Len(t, get[[]cloudhsm.Key](t, p, "keys"), 2)
	for _, h := range get[[]cloudhsm.HSM](t, p, "hsms") {
		status, signature := p.sign(t, "hsms/"+h.ID+"/keys/A001", sum[:], "ECDSA")
		require.Equal(t, http.StatusOK, status)
		require.True(t, ecdsa.VerifyASN1(public(t, h.Keys[0]).(*ecdsa.PublicKey), sum[:], signature))
	}
	require.NoError(t, house.server.Close())
}

// A card whose user is not logged in is connected and of no use, until its operator
// unlocks it; the PIN goes through the secure channel.
func TestService_Login(t *testing.T) {
	t.Parallel()
	house := newHouse(t, cloudhsm.Config{})
	card := newCard(t, "locked", ec(1, "secp256r1", client.KeySpec{}))
	require.NoError(t, card.Reset())
	var seen bytes.Buffer
	house.connect(t.Context(), watched{card, &seen}, "/rt/hsm")
	house.wait(t, 1)
	p := newProgram(t, house.service)
	require.Empty(t, get[[]cloudhsm.HSM](t, p, "hsms"))
	id := house.service.Connections()[0].ID
	require.False(t, house.service.Connections()[0].LoggedIn)
	err := house.service.Login(t.Context(), id, []byte("000000"))
	left, known := client.TriesLeft(err)
	require.True(t, known)
	require.Equal(t, 2, left)
	require.NoError(t, house.service.Login(t.Context(), id, pin))
	require.True(t, house.service.Connections()[0].LoggedIn)
	require.Len(t, get[[]cloudhsm.HSM](t, p, "hsms"), 1)
	require.ErrorIs(t, house.service.Login(t.Context(), "nobody", pin), cloudhsm.ErrUnknown)
	require.NoError(t, house.server.Close())
	require.NotEmpty(t, seen.Bytes())
	require.NotContains(t, seen.String(), string(pin))
}

// watched keeps what is sent to a card.
type watched struct {
	*chiptest.Card
	seen *bytes.Buffer
}

func (w watched) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	w.seen.Write(command)
	return w.Card.Transmit(ctx, command)
}

// lying is a card that shows the certificates of another one.
type lying struct {
	*chiptest.Card
	other *chiptest.Card
}

func (l lying) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	c, err := apdu.Parse(command)
	if err == nil && c.INS == apdu.InsReadBinary && c.CLA == 0 {
		return l.other.Transmit(ctx, command)
	}
	return l.Card.Transmit(ctx, command)
}

// mute is a card without the application.
type mute struct{}

func (mute) ATR() []byte                                      { return []byte{0x3B, 0x00} }
func (mute) Reset() error                                     { return nil }
func (mute) Transmit(context.Context, []byte) ([]byte, error) { return []byte{0x6A, 0x82}, nil }

// PORTAL-34: whoever is not the device that is expected is told so in the vendor's words, with −1,
// and is no HSM.
func TestService_RefusesCards(t *testing.T) {
	t.Parallel()
	mine, other := newCard(t, "mine"), newCard(t, "other")
	for name, c := range map[string]struct {
		card   vsmartcard.Card
		config cloudhsm.Config
		path   string
		err    error
	}{
		"a foreign root":     {mine, cloudhsm.Config{Roots: cvc.VendorRoots()}, "/rt/hsm", cvc.ErrUnknownRoot},
		"another's identity": {lying{mine.Copy(), other.Copy()}, cloudhsm.Config{}, "/rt/hsm", portal.ErrNotTrusted},
		"no SmartCard-HSM":   {mute{}, cloudhsm.Config{}, "/rt/hsm", nil},
		"another device": {other.Copy(), cloudhsm.Config{Admit: func(_ context.Context, session, path string, _ []byte) (string, error) {
			if session != "one" || path != "/UTSRCAEM1/UTDICAEM01/DENK9900000" {
				return "", fmt.Errorf("%w: %s in %q", cloudhsm.ErrOtherDevice, path, session)
			}
			return "", nil
		}}, "/rt/hsm/one", cloudhsm.ErrOtherDevice},
	} {
		house := newHouse(t, c.config)
		ended, told := house.connect(t.Context(), c.card, c.path)
		require.ErrorIs(t, <-ended, ram.NoticeError{Number: -1, Text: cloudhsm.TextFailed}, name)
		require.Equal(t, []ram.Notice{{Number: -1, Text: cloudhsm.TextFailed}}, *told, name)
		err := <-house.ended
		require.Error(t, err, name)
		if c.err != nil {
			require.ErrorIs(t, err, c.err, name)
		}
		require.Empty(t, house.service.Connections(), name)
	}
	// The one that is expected gets in.
	house := newHouse(t, cloudhsm.Config{Admit: func(_ context.Context, session, path string, _ []byte) (string, error) {
		if session != "one" || !strings.HasPrefix(path, "/UTSRCAEM1/UTDICAEM01/DENK99") {
			return "", cloudhsm.ErrOtherDevice
		}
		return "", nil
	}})
	house.connect(t.Context(), newCard(t, "expected"), "/rt/hsm/one")
	house.wait(t, 1)
	require.NoError(t, house.server.Close())
	require.Error(t, errorOf(cloudhsm.New(cloudhsm.Config{})))
}

func errorOf(_ *cloudhsm.Service, err error) error { return err }

// A card is asked for again before every use: one that is not admitted any more, or for
// something else, is gone for every way of using it, and is logged out. Where nobody can
// tell, that use alone is refused.
func TestService_AdmitsAgain(t *testing.T) {
	t.Parallel()
	type answer struct {
		right string
		err   error
	}
	other := newCard(t, "custodian")
	sum := sha256.Sum256(nil)
	for what, use := range map[string]func(*house, *program, string) bool{
		"list": func(h *house, _ *program, _ string) bool { return len(h.service.Connections()) > 0 },
		"keys": func(_ *house, p *program, _ string) bool { return len(get[[]cloudhsm.Key](t, p, "keys")) > 0 },
		"sign": func(_ *house, p *program, _ string) bool {
			status, _ := p.sign(t, "keys/A001", sum[:], "ECDSA")
			return status == http.StatusOK
		},
		"login":  func(h *house, _ *program, id string) bool { return h.service.Login(t.Context(), id, pin) == nil },
		"logout": func(h *house, _ *program, id string) bool { return h.service.Logout(t.Context(), id) == nil },
		"authenticate": func(h *house, _ *program, id string) bool {
			_, err := h.service.Authenticate(t.Context(), id, other.Copy(), nil)
			return !errors.Is(err, cloudhsm.ErrUnknown) // it has no custodians
		},
	} {
		for name, later := range map[string]answer{"removed": {"", cloudhsm.ErrNotAdmitted}, "another's": {"two", nil}} {
			var now atomic.Pointer[answer]
			now.Store(&answer{"one", nil})
			house := newHouse(t, cloudhsm.Config{Admit: func(context.Context, string, string, []byte) (string, error) { return now.Load().right, now.Load().err }})
			card := newCard(t, "asked", ec(1, "secp256r1", client.KeySpec{}))
			house.connect(t.Context(), card, "/rt/hsm")
			house.wait(t, 1)
			p, id := newProgram(t, house.service), house.service.Connections()[0].ID
			now.Store(&answer{"", errors.New("the disk is full")})
			require.False(t, use(house, p, id), what)
			now.Store(&answer{"one", nil})
			require.True(t, use(house, p, id), what)

			now.Store(&later)
			require.False(t, use(house, p, id), "%s: %s", what, name)
			require.ErrorIs(t, <-house.ended, cloudhsm.ErrNotAdmitted)
			now.Store(&answer{"one", nil})
			require.Empty(t, house.service.Connections(), "%s: %s", what, name)
			house.connect(t.Context(), card, "/rt/hsm")
			house.wait(t, 1)
			require.False(t, house.service.Connections()[0].LoggedIn, "%s: %s", what, name)
			require.NoError(t, house.server.Close())
		}
	}
}

// A use that waits for the card is asked for when its turn comes.
func TestService_AdmitsWhenTheTurnComes(t *testing.T) {
	t.Parallel()
	var removed atomic.Bool
	var asked atomic.Int32
	house := newHouse(t, cloudhsm.Config{Admit: func(context.Context, string, string, []byte) (string, error) {
		now := removed.Load()
		asked.Add(1)
		if now {
			return "", cloudhsm.ErrNotAdmitted
		}
		return "", nil
	}})
	signing, goOn := make(chan struct{}, 1), make(chan struct{})
	card := breaking{newCard(t, "turn", ec(1, "secp256r1", client.KeySpec{})), func() error { signing <- struct{}{}; <-goOn; return nil }}
	house.connect(t.Context(), card, "/rt/hsm")
	house.wait(t, 1)
	order := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/se/api/keys/A001/signhash",
		strings.NewReader(fmt.Sprintf(`{"hash":"%x","algo":"ECDSA"}`, sha256.Sum256(nil))))
	order.Header.Set("Content-Type", "application/json")
	statuses := make(chan int, 1)
	go func() {
		w := httptest.NewRecorder()
		house.service.ServeHTTP(w, order)
		statuses <- w.Code
	}()
	<-signing
	id := house.service.Connections()[0].ID
	before, waits := asked.Load(), make(chan error, 1)
	go func() { waits <- house.service.Login(t.Context(), id, pin) }()
	require.Eventually(t, func() bool { return asked.Load() > before }, 2*time.Minute, time.Millisecond)
	removed.Store(true)
	close(goOn)
	require.Equal(t, http.StatusOK, <-statuses, "it had begun")
	require.Error(t, <-waits)
	require.ErrorIs(t, <-house.ended, cloudhsm.ErrNotAdmitted)
	require.NoError(t, house.server.Close())
}

// A device that connects anew takes the place of its older connection.
func TestService_Reconnects(t *testing.T) {
	t.Parallel()
	house := newHouse(t, cloudhsm.Config{})
	card := newCard(t, "again", ec(1, "secp256r1", client.KeySpec{}))
	house.connect(t.Context(), card.Copy(), "/rt/hsm")
	house.wait(t, 1)
	house.connect(t.Context(), card.Copy(), "/rt/hsm")
	require.ErrorIs(t, <-house.ended, ram.ErrReplaced)
	house.wait(t, 1)
	p := newProgram(t, house.service)
	sum := sha256.Sum256(nil)
	status, _ := p.sign(t, "keys/A001", sum[:], "ECDSA")
	require.Equal(t, http.StatusOK, status)
	require.NoError(t, house.server.Close())
}

// Programs have a certificate of an authority that the service trusts: without one the
// answer is 401, with one that it does not trust there is no TLS.
func TestTLS_ProgramsHaveCertificates(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC().Truncate(time.Second)
	authority := func(name string) *pki.Issuer {
		a, err := pki.NewRoot(rand.Reader, pki.Root{Subject: "CN=" + name, Kind: pki.P256, At: now})
		require.NoError(t, err)
		i, err := a.Open()
		require.NoError(t, err)
		return i
	}
	pair := func(by *pki.Issuer, profile string) tls.Certificate {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		require.NoError(t, err)
		r, err := pki.ParsePKCS10(der)
		require.NoError(t, err)
		p, err := pki.ProfileNamed(profile)
		require.NoError(t, err)
		c, err := by.Issue(rand.Reader, pki.Order{Profile: p, Request: r, Subject: pki.Subject{CommonName: "x", Hosts: []string{"127.0.0.1"}}, At: now})
		require.NoError(t, err)
		return tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: key, Leaf: c}
	}
	ours, theirs := authority("ours"), authority("theirs")
	pool := x509.NewCertPool()
	pool.AddCert(ours.Certificate)
	service, err := cloudhsm.New(cloudhsm.Config{Rand: rand.Reader})
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(service)
	server.TLS = cloudhsm.TLS(pair(ours, "TLSServer"), pool)
	server.StartTLS()
	defer server.Close()
	ask := func(path string, certificates ...tls.Certificate) (int, error) {
		transport := &http.Transport{TLSClientConfig: &tls.Config{
			RootCAs: pool,
			// A client gives whatever it has, whoever the server asks for.
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				if len(certificates) == 0 {
					return &tls.Certificate{}, nil
				}
				return &certificates[0], nil
			},
		}}
		defer transport.CloseIdleConnections()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/se/api/"+path, nil)
		require.NoError(t, err)
		w, err := transport.RoundTrip(r)
		if err != nil {
			return 0, err
		}
		_, err = io.Copy(io.Discard, w.Body)
		return w.StatusCode, errors.Join(err, w.Body.Close())
	}
	status, err := ask("hsms", pair(ours, "TLSClient"))
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status)
	status, err = ask("hsms")
	require.NoError(t, err)
	require.Equal(t, http.StatusUnauthorized, status)
	status, err = ask("openapi.json")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status)
	for name, c := range map[string]tls.Certificate{"another authority": pair(theirs, "TLSClient"), "a server's": pair(ours, "TLSServer")} {
		_, err = ask("hsms", c)
		require.Error(t, err, name)
	}
	// Without TLS nobody is a client.
	w := httptest.NewRecorder()
	service.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/se/api/keys", nil))
	require.Equal(t, http.StatusUnauthorized, w.Code)
}

// No request panics, and every answer is JSON.
func FuzzService(f *testing.F) {
	house := newHouse(f, cloudhsm.Config{})
	house.connect(f.Context(), newCard(f, "fuzz", ec(1, "secp256r1", client.KeySpec{}), aes(2)), "/rt/hsm")
	house.wait(f, 1)
	f.Cleanup(func() { require.NoError(f, house.server.Close()) })
	id := house.service.Connections()[0].ID
	f.Add("GET", "hsms/"+id+"/keys/A001", "")
	f.Add("POST", "keys/A001/signhash", `{"hash":"0000000000000000000000000000000000000000","algo":"ECDSA"}`)
	f.Add("POST", "keydomains/%41/keys/A002/signhash", `{"hash":null,"algo":[]}`)
	f.Fuzz(func(t *testing.T, method, path, body string) {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "http://localhost/se/api/"+path, strings.NewReader(body))
		if err != nil {
			return
		}
		r.Method = method
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		house.service.ServeHTTP(w, r)
		if !json.Valid(w.Body.Bytes()) {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	})
}
