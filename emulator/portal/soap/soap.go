// Package soap is the certificate service of the developer network: it certifies a
// key that a SmartCard-HSM has made for whoever reads the mail of an address. The
// protocol is the vendor's, SOAP 1.1 with one operation, so that his script
// requestcert.js gets its certificate here.
//
//	service, err := soap.New(soap.Config{
//		Issuer: func(context.Context) (*pki.Issuer, error) { return issuer, nil },
//		Codes:  codes, // sends activation codes, and checks them
//		Rand:   rand.Reader, Now: time.Now,
//	})
//	mux.Handle(soap.Path, service)
//
// What a card attests decides whether its key is certified (CVC-33), and the code
// decides for whom. Accounts, mail and what was issued are the caller's to keep. The
// service is described in docs/protocol/portal.md.
package soap

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"hsmemu/applet/cvc"
	"hsmemu/emulator/portal/pki"
)

const (
	// Path is where the vendor's service is.
	Path = "/se/caws"
	// Action is the SOAPAction of the one operation.
	Action = "http://www.openscdp.org/CAService/RequestCertificate"
	// Namespace is that of the request and the answer. Their children have none.
	Namespace = "http://www.openscdp.org/CAService"
)

// ReturnCode is how a request ended.
type ReturnCode string

// The return codes (PORTAL-31). There are no others.
const (
	OK                     ReturnCode = "ok"
	Syntax                 ReturnCode = "failure_syntax"
	Signature              ReturnCode = "failure_signature"
	NotAllowed             ReturnCode = "failure_not_allowed"
	ExcessiveTries         ReturnCode = "failure_excessive_tries_limit"
	ActivationCodeRequired ReturnCode = "activation_code_required"
	ActivationCodeWrong    ReturnCode = "activation_code_wrong"
	InternalError          ReturnCode = "failure_internal_error"
)

// Verdict is what became of an activation code.
type Verdict int

// The verdicts on an activation code. The zero value refuses.
const (
	CodeWrong     Verdict = iota
	CodeRight             // it is used up, and the certificate kept
	CodeExcessive         // there were too many wrong ones
)

// ErrExcessive is what Codes.Ask returns, or wraps, where an address was sent too many
// codes.
var ErrExcessive = errors.New("too many activation codes")

// Codes knows the activation codes that confirm an e-mail address. Its methods are
// called by several goroutines.
type Codes interface {
	// Ask sends a new code to an address. The error may be ErrExcessive.
	Ask(ctx context.Context, email string) error
	// Redeem judges a code that somebody says was sent to an address, and counts a
	// wrong one before it answers. For the right one it has issue make the certificate,
	// and keeps that the code is used up and the certificate, both or neither: after an
	// error, which may be that of issue, the code can be redeemed again.
	Redeem(ctx context.Context, email, code string, issue func() (Issued, error)) (Verdict, error)
}

// Issued is a certificate that a request ended with.
type Issued struct {
	// Certificate is in DER; Device is the path of the device that made the key, such
	// as /UTSRCAEM1/UTDICAEM01/DENK0404144, and Email the address that was confirmed.
	Certificate   []byte
	Device, Email string
}

// Config is what a service is made of.
type Config struct {
	// Issuer is who certifies now.
	Issuer func(context.Context) (*pki.Issuer, error)
	// Codes confirm addresses.
	Codes Codes
	// Roots are those that devices have to be below; nil for cvc.KnownRoots.
	Roots cvc.Roots
	// Profile is that of the certificates; its zero value stands for EmailAndTLSClient.
	Profile pki.Profile
	// CRL are the URLs of the issuer's revocation list.
	CRL []string
	// Ended is told how each request ended, with the reason of a failure; nil for nobody.
	Ended func(ReturnCode, error)
	// URL is the service's address in its description; without it the description has
	// the address by which it was asked for.
	URL string
	// Rand is where serial numbers come from, and Now the clock.
	Rand io.Reader
	Now  func() time.Time
}

// Service is the certificate service, an http.Handler.
type Service struct{ Config }

// New is a service. It refuses a Config without issuer, codes, randomness or clock.
func New(c Config) (*Service, error) {
	if c.Issuer == nil || c.Codes == nil || c.Rand == nil || c.Now == nil {
		return nil, errors.New("a certificate service needs an issuer, codes, randomness and a clock")
	}
	if c.Roots == nil {
		c.Roots = cvc.KnownRoots()
	}
	if c.Profile.Name == "" {
		var err error
		if c.Profile, err = pki.ProfileNamed("EmailAndTLSClient"); err != nil {
			return nil, err
		}
	}
	return &Service{c}, nil
}

// ServeHTTP answers a request for a certificate, or for the service's description
// where the query is ?wsdl.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodGet && strings.EqualFold(r.URL.RawQuery, "wsdl"):
		s.describe(w, r)
		return
	case r.Method == http.MethodGet:
		http.Error(w, "The description of this service is at ?wsdl.", http.StatusNotFound)
		return
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", "GET, POST")
		http.Error(w, "The certificate service takes POST.", http.StatusMethodNotAllowed)
		return
	}
	// A browser sends text/xml to another site only where that allows it.
	if t, params, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "text/xml" ||
		params["charset"] != "" && !strings.EqualFold(params["charset"], "utf-8") {
		http.Error(w, "The certificate service takes text/xml in UTF-8.", http.StatusUnsupportedMediaType)
		return
	}
	if action := strings.Trim(r.Header.Get("SOAPAction"), `"`); action != "" && action != Action {
		reply(w, http.StatusInternalServerError, faultBody(&fault{"Client", "unknown SOAPAction"}))
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, BodyMax))
	if err != nil {
		if errors.As(err, new(*http.MaxBytesError)) {
			http.Error(w, fmt.Sprintf("The certificate service takes %d bytes.", BodyMax), http.StatusRequestEntityTooLarge)
			return
		}
		http.Error(w, "The request did not come to its end.", http.StatusBadRequest)
		return
	}
	order, err := parse(body)
	var f *fault
	if errors.As(err, &f) {
		s.ended(Syntax, err)
		reply(w, http.StatusInternalServerError, faultBody(f))
		return
	}
	code := Syntax
	var certificates [][]byte
	if err == nil {
		code, certificates, err = s.request(r.Context(), order)
	}
	s.ended(code, err)
	reply(w, http.StatusOK, response(code, certificates))
}

func (s *Service) ended(code ReturnCode, err error) {
	if s.Ended != nil {
		s.Ended(code, err)
	}
}

// request carries out a request. The error says why it did not end well.
func (s *Service) request(ctx context.Context, o order) (ReturnCode, [][]byte, error) {
	key, err := pki.ParseCard(o.request, o.device, s.Roots)
	if err != nil {
		return codeOf(err), nil, err
	}
	subject := pki.Subject{CommonName: o.commonName, Email: o.email}
	if err := pki.CheckEmail(o.email); err != nil {
		return Syntax, nil, err
	}
	// A name that cannot be certified is refused before anybody gets a mail.
	if err := s.Profile.CheckSubject(subject); err != nil {
		return codeOf(err), nil, err
	}
	if o.code == "" {
		switch err := s.Codes.Ask(ctx, o.email); {
		case errors.Is(err, ErrExcessive):
			return ExcessiveTries, nil, err
		case err != nil:
			return InternalError, nil, err
		}
		return ActivationCodeRequired, nil, nil
	}
	// Nothing is issued without an issuer, and then the code is not used up.
	issuer, err := s.Issuer(ctx)
	if err != nil {
		return InternalError, nil, err
	}
	var certificate *x509.Certificate
	issue := func() (i Issued, err error) {
		certificate, err = issuer.Issue(s.Rand, pki.Order{Profile: s.Profile, Request: key, Subject: subject, At: s.Now(), CRL: s.CRL})
		if err != nil {
			return Issued{}, err
		}
		return Issued{Certificate: certificate.Raw, Device: key.Attestation.Path(), Email: o.email}, nil
	}
	switch verdict, err := s.Codes.Redeem(ctx, o.email, o.code, issue); {
	case err != nil:
		return codeOf(err), nil, err
	case verdict == CodeExcessive:
		return ExcessiveTries, nil, nil
	case verdict != CodeRight:
		return ActivationCodeWrong, nil, nil
	}
	return OK, append([][]byte{certificate.Raw}, issuer.Bundle()...), nil
}

// codeOf is the return code for an error of package pki.
func codeOf(err error) ReturnCode {
	for _, c := range []struct {
		err  error
		code ReturnCode
	}{
		{pki.ErrSyntax, Syntax},
		{pki.ErrName, Syntax},
		{pki.ErrSignature, Signature},
		{pki.ErrDevice, NotAllowed},
		{pki.ErrKey, NotAllowed},
		{pki.ErrAlgorithm, NotAllowed},
	} {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return InternalError
}

// reply sends XML.
func reply(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that has gone has no need of it
}

// text is a text as XML has it.
func text(s string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(s)) // a buffer takes everything
	return b.String()
}
