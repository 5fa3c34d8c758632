package site_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/stretchr/testify/require"

	"hsmemu/applet/client"
)

// program speaks to the portal as programs do. Every request and answer is checked
// against the description that the portal serves.
type program struct {
	*portal
	router  routers.Router
	session string
}

func (p *portal) program() *program {
	description, err := openapi3.NewLoader().LoadFromData([]byte(p.person().get("/api/openapi.json").text))
	require.NoError(p.t, err)
	require.NoError(p.t, description.Validate(p.t.Context()))
	router, err := gorillamux.NewRouter(description)
	require.NoError(p.t, err)
	return &program{portal: p, router: router}
}

// call makes a request with a body that becomes JSON, or with none, and reads the
// answer into out.
func (p *program) call(status int, method, path string, in, out any) {
	p.t.Helper()
	var sent []byte
	if in != nil {
		var err error
		sent, err = json.Marshal(in)
		require.NoError(p.t, err)
	}
	r, err := http.NewRequestWithContext(p.t.Context(), method, p.url+path, bytes.NewReader(sent))
	require.NoError(p.t, err)
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if p.session != "" {
		r.Header.Set("Authorization", "Bearer "+p.session)
	}
	route, at, err := p.router.FindRoute(r)
	require.NoError(p.t, err, path)
	asked := &openapi3filter.RequestValidationInput{Request: r, PathParams: at, Route: route, Options: &openapi3filter.Options{
		AuthenticationFunc: openapi3filter.NoopAuthenticationFunc,
	}}
	if status < 400 {
		require.NoError(p.t, openapi3filter.ValidateRequest(p.t.Context(), asked))
	}
	r.Body = io.NopCloser(bytes.NewReader(sent))
	answer, err := http.DefaultClient.Do(r)
	require.NoError(p.t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(p.t, err)
	require.Equal(p.t, status, answer.StatusCode, string(text))
	require.NoError(p.t, openapi3filter.ValidateResponse(p.t.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: asked, Status: answer.StatusCode, Header: answer.Header, Body: io.NopCloser(bytes.NewReader(text)),
	}), string(text))
	if out != nil {
		require.NoError(p.t, json.Unmarshal(text, out))
	}
}

type object = map[string]any

// What the pages do, programs can do: spec of the interface as it is served.
func TestAPI(t *testing.T) {
	t.Parallel()
	p := open(t).program()
	p.call(http.StatusUnauthorized, "GET", "/api/sessions/current", nil, nil)
	var begun struct{ SessionID, RAMURL string }
	p.call(http.StatusCreated, "POST", "/api/sessions", nil, &begun)
	p.session = begun.SessionID
	var s struct{ State, Path, Email string }
	p.call(http.StatusOK, "GET", "/api/sessions/"+begun.SessionID, nil, &s)
	require.Equal(t, "anonymous", s.State)
	p.call(http.StatusUnauthorized, "GET", "/api/tokens", nil, nil)
	p.call(http.StatusConflict, "POST", "/api/sessions/current/enroll", object{"email": "a@example.org"}, nil)
	_, err := p.connect(card(t, "DENK0000001", "4.1"), begun.RAMURL)
	require.NoError(t, err)
	p.call(http.StatusOK, "GET", "/api/sessions/current", nil, &s)
	require.Equal(t, "device-authenticated", s.State)
	p.call(http.StatusUnprocessableEntity, "POST", "/api/sessions/current/enroll", object{"email": "nobody"}, nil)
	p.call(http.StatusOK, "POST", "/api/sessions/current/enroll", object{"email": "a@example.org"}, nil)
	p.call(http.StatusUnprocessableEntity, "POST", "/api/sessions/current/activate", object{"code": "x"}, nil)
	var mails []struct{ To, Body string }
	p.call(http.StatusOK, "GET", "/api/admin/outbox", nil, &mails)
	require.Equal(t, "a@example.org", mails[0].To)
	code := digits.FindString(mails[0].Body)
	p.call(http.StatusOK, "POST", "/api/sessions/current/activate", object{"code": code}, &s)
	require.Equal(t, "logged-in", s.State)
	require.Equal(t, "a@example.org", s.Email)
	var tokens []struct{ Path string }
	p.call(http.StatusOK, "GET", "/api/tokens", nil, &tokens)
	require.Equal(t, s.Path, tokens[0].Path)

	blocked := card(t, "DENK0000002", "4.1")
	k := client.New(blocked)
	for range 15 {
		require.Error(t, k.VerifyPIN(t.Context(), client.SOPIN, []byte("00000000")))
	}
	var q struct {
		ID      int64
		State   string
		Actions []string
		Log     []struct{ Text string }
	}
	p.call(http.StatusNotFound, "POST", "/api/servicerequests", object{"type": "Tea"}, nil)
	p.call(http.StatusUnprocessableEntity, "POST", "/api/servicerequests", object{"type": "FirmwareUpdate", "tea": 1}, nil)
	p.call(http.StatusCreated, "POST", "/api/servicerequests", object{"type": "FirmwareUpdate"}, &q)
	at := "/api/servicerequests/" + strconv.FormatInt(q.ID, 10)
	require.Contains(t, q.Actions, "submit")
	p.call(http.StatusConflict, "POST", at+"/approve-request", object{}, nil)
	p.call(http.StatusOK, "POST", "/api/admin/dica", object{"ready": false}, nil)
	p.call(http.StatusOK, "POST", at+"/submit", object{}, &q)
	_, err = p.connect(blocked, begun.RAMURL)
	require.Error(t, err, "S8: the issuer is not ready")
	p.call(http.StatusOK, "POST", "/api/admin/dica", object{"ready": true, "licences": 3}, nil)
	p.call(http.StatusOK, "GET", at, nil, &q)
	if q.State == "Edit" {
		p.call(http.StatusOK, "POST", at+"/submit", object{}, &q)
	}
	_, err = p.connect(blocked, begun.RAMURL)
	require.NoError(t, err)
	p.call(http.StatusOK, "GET", at, nil, &q)
	require.Equal(t, "Completed", q.State)
	var issuers []struct{ Licences int }
	p.call(http.StatusOK, "GET", "/api/admin/dica", nil, &issuers)
	require.Equal(t, 2, issuers[0].Licences)
	var all []object
	p.call(http.StatusOK, "GET", "/api/servicerequests?open=true", nil, &all)
	require.Empty(t, all)
	p.call(http.StatusNotFound, "GET", "/api/servicerequests/99", nil, nil)
	p.call(http.StatusNoContent, "POST", "/api/sessions/current/logout", nil, nil)
	p.call(http.StatusUnauthorized, "GET", "/api/servicerequests", nil, nil)
}

// What is wrong with a body is said in words for whoever wrote it, and not in those of the
// portal's code.
func TestAPI_WrongBodies(t *testing.T) {
	t.Parallel()
	p := open(t)
	session := p.enrolled(card(t, "DENK0000001", "4.1"), "a@example.org").session
	for body, want := range map[string]string{
		`{`:                        "it ends in the middle",
		`{"type"}`:                 "invalid character '}' after object key",
		`[]`:                       "it is no object",
		`{"type":5}`:               "type has a value of the wrong kind",
		`{"data":{"token":1e30}}`:  "token has a value of the wrong kind",
		`{"data":{"token":"one"}}`: "token has a value of the wrong kind",
		`{"data":[]}`:              "data has a value of the wrong kind",
		`{"data":{"request":"!"}}`: "a value is not in Base64",
		`{"type":"x","tea":1}`:     `unknown field "tea"`,
		`{"type":"x"}{"type":"x"}`: "there is more after the object",
		`{"type":"x"} and so on`:   "there is more after the object",
		`{"type":"x"}` + "\n\t\r ": "",
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+"/api/servicerequests", strings.NewReader(body))
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+session)
		answer, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		var said struct{ Error string }
		require.NoError(t, errors.Join(json.NewDecoder(answer.Body).Decode(&said), answer.Body.Close()))
		if want == "" {
			require.Equal(t, http.StatusNotFound, answer.StatusCode, "there is no such request, which is another matter")
			continue
		}
		require.Equal(t, http.StatusUnprocessableEntity, answer.StatusCode, body)
		require.Equal(t, "The form is not as it should be: "+want+".", said.Error, body)
	}
}
