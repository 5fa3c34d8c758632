package ram

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"time"

	"hsmemu/vsmartcard"
)

// What goes over HTTP in both directions.
const (
	typeOfResult  = "application/org.openscdp-content-mgt-response;version=1.0"
	typeOfRequest = "application/org.openscdp-content-mgt-request;version=1.0"
	protocolName  = "X-Admin-Protocol"
	protocol      = "openscdp-remote-admin/1.0"
)

// farewellTime is how long an agent that is ended tries to tell the server so.
const farewellTime = 2 * time.Second

// Agent connects a card to a server, as ram-client does. Unlike that it reads a
// request to its end before it carries out the first command.
type Agent struct {
	// Card is what the server commands. Its power is the caller's: ram-client gives
	// it a session of its own, and takes the power away at the end.
	Card vsmartcard.Card
	// Notice is told what the server has to say to the person at the card, whatever
	// is in it; nil for nobody.
	Notice func(Notice)
	// Connected is told once that the server has answered with a request, or that there
	// is nothing to do; nil for nobody.
	Connected func()
	// Transport speaks HTTP. By default it is of Go's, with the system's roots and the
	// proxy that the environment names.
	Transport http.RoundTripper
}

// Host is where a URL leads, HOST or HOST:PORT, without the rest, in which a session may
// be named. Error: CodeURL, for what is no URL of http or https with a host.
func Host(at string) (string, error) {
	u, err := url.Parse(at)
	if err != nil {
		var of *url.Error
		if errors.As(err, &of) {
			err = of.Err // without the URL
		}
		return "", &Error{Code: CodeURL, Err: err}
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "", &Error{Code: CodeURL, Err: errors.New("a URL of http or https with a host is needed")}
	}
	return u.Host, nil
}

// Run connects to the server at a URL and does what it asks for, until it says that
// this is all, which is nil. The error is an [Error], or the one of ctx.
func (a *Agent) Run(ctx context.Context, at string) error {
	if _, err := Host(at); err != nil {
		return err
	}
	atr := a.Card.ATR()
	if !isATR(atr) {
		return &Error{Code: CodeCard, Err: errors.New("it has no answer to reset")}
	}
	c := &connection{Agent: a, url: at, client: client(a.Transport)}
	defer c.client.CloseIdleConnections()
	err := c.run(ctx, Opening(atr))
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// client is one run's HTTP: cookies last as long as that.
func client(t http.RoundTripper) *http.Client {
	if t == nil {
		t = &http.Transport{
			Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true,
			DisableCompression:     true, // no header Accept-Encoding
			MaxResponseHeaderBytes: 1 << 16, MaxIdleConns: 1,
		}
	}
	jar, _ := cookiejar.New(nil) // never fails
	return &http.Client{
		Transport: t, Jar: jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// connection is one run of an agent.
type connection struct {
	*Agent
	url      string
	client   *http.Client
	answered bool // the server has
	served   bool // there was a request
}

func (c *connection) run(ctx context.Context, body []byte) error {
	var failed error // of the card, in the last request
	for {
		status, answer, err := c.post(ctx, body, AnswerTime)
		if err != nil {
			return &Error{Code: codeOf(err), Err: plain(err)}
		}
		if !c.answered && (status == http.StatusOK || status == http.StatusNoContent) && c.Connected != nil {
			c.Connected()
		}
		c.answered = true
		switch status {
		case http.StatusOK:
		case http.StatusNoContent:
			return failed
		case http.StatusNotFound:
			return &Error{Code: CodeURL}
		case http.StatusGatewayTimeout:
			if c.served {
				return &Error{Code: CodeAborted}
			}
			return &Error{Code: CodeNotInTime}
		default:
			return &Error{Code: CodeStatus, Err: errors.New(strings.TrimSpace(fmt.Sprint(status, " ", http.StatusText(status))))}
		}
		request, err := ParseRequest(answer)
		if err != nil {
			var code Code
			errors.As(err, &code)
			return &Error{Code: code}
		}
		c.served = true
		var result Result
		var done bool
		if result, done, failed = c.carryOut(ctx, request); done {
			return failed
		}
		if body, err = result.Bytes(); err != nil {
			return err // carryOut keeps it short enough
		}
		if ctx.Err() != nil {
			// Whoever waits for the card need not wait for its time-out.
			_, _, _ = c.post(context.WithoutCancel(ctx), body, farewellTime)
			return ctx.Err()
		}
	}
}

// post sends one body and reads what comes back. A connection that the server has closed
// meanwhile is replaced by a new one. If that crosses with the body, post fails: a result
// has no number, so that one that is sent again could be taken for the answer to the next
// request.
func (c *connection) post(ctx context.Context, body []byte, patience time.Duration) (status int, answer []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	r.Header.Set("Content-Type", typeOfResult)
	r.Header.Set("Accept", "*/*")
	r.Header.Set(protocolName, protocol)
	r.Header["User-Agent"] = nil // ram-client has none
	w, err := c.client.Do(r)
	if err != nil {
		return 0, nil, err
	}
	if w.StatusCode == http.StatusOK {
		answer, err = io.ReadAll(io.LimitReader(w.Body, maxBody))
	}
	return w.StatusCode, answer, errors.Join(err, w.Body.Close())
}

// carryOut does what a request asks for. failed is how the card failed, if it did;
// done reports whether the server wants to hear nothing more.
func (c *connection) carryOut(ctx context.Context, request Request) (result Result, done bool, failed error) {
	size := 0
	for _, o := range request {
		answer := Object{Tag: TagAnswer}
		var err error
		switch o.Tag {
		case TagCommand:
			answer.Value, err = c.Card.Transmit(ctx, bytes.Clone(o.Value))
		case TagReset:
			answer.Tag = TagReset
			if err = c.Card.Reset(); err == nil {
				if answer.Value = c.Card.ATR(); !isATR(answer.Value) {
					err = errors.New("it has no answer to reset")
				}
			}
		case TagNotice:
			n, _ := ParseNotice(o.Value) // ParseRequest has read it
			if c.Notice != nil {
				c.Notice(n)
			}
			if Code(n.Number) == CodeCard {
				return result, false, NoticeError(n)
			}
			if n.Number < 0 {
				return result, true, NoticeError(n)
			}
			continue
		}
		if size += len(answer.Value) + 4; err == nil && size > maxValue-maxShort-16 {
			err = errors.New("its answers are too long for one result")
		}
		if err != nil {
			result.Closed, result.Text = true, short(err.Error())
			return result, false, &Error{Code: CodeCard, Err: err}
		}
		result.Answers = append(result.Answers, answer)
		if o.Tag == TagCommand {
			result.Done++
		}
	}
	return result, false, nil
}

// maxShort is the longest reason that a server is given.
const maxShort = 1024

func short(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), maxShort)], "")
}

// codeOf is the code for an error of HTTP. A certificate that does not hold is, for
// libcurl and so for ram-client, another one than a handshake that fails.
func codeOf(err error) Code {
	var dns *net.DNSError
	var op *net.OpError
	var alert tls.AlertError
	var record tls.RecordHeaderError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return CodeTimeout
	case errors.As(err, &dns):
		return CodeHost
	case errors.As(err, &op) && op.Op == "dial", errors.As(err, &alert), errors.As(err, &record),
		errors.Is(err, http.ErrSchemeMismatch):
		return CodeUnreachable
	}
	return CodeNetwork
}

// plain is an error of HTTP without the URL, in which a session may be named.
func plain(err error) error {
	var of *url.Error
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}
