package soap

import (
	"bytes"
	_ "embed"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// The limits of a request. The longest that a card of ours makes has 3 kB.
const (
	// BodyMax is the longest body, in bytes.
	BodyMax = 64 << 10
	// depthMax is how deep elements may be in each other: a child of the request is at 4.
	depthMax = 8
	// elementsMax is how many elements there may be, a header's among them.
	elementsMax = 64
	// textMax is the longest content of an element.
	textMax = 32 << 10
)

// envelope is the namespace of SOAP 1.1.
const envelope = "http://schemas.xmlsoap.org/soap/envelope/"

// fault is what SOAP has for a request that is none (SOAP 1.1 §4.4).
type fault struct{ code, text string }

// Error says what is wrong with the request.
func (f *fault) Error() string { return "SOAP fault " + f.code + ": " + f.text }

func malformed(format string, args ...any) error {
	return &fault{"Client", fmt.Sprintf(format, args...)}
}

// order is a request for a certificate.
type order struct {
	request, device         []byte
	commonName, email, code string
}

// errContent says that an envelope holds no request for a certificate: failure_syntax.
var errContent = errors.New("it is no request for a certificate")

// node is an element of a request.
type node struct {
	name     xml.Name
	attrs    []xml.Attr
	text     strings.Builder
	children []*node
}

// parse reads a request. The error is a *fault where the envelope is none, or
// errContent.
func parse(body []byte) (order, error) {
	root, err := tree(body)
	if err != nil {
		return order{}, err
	}
	operation, err := operation(root)
	if err != nil {
		return order{}, err
	}
	if operation.name != (xml.Name{Space: Namespace, Local: "RequestCertificate"}) {
		return order{}, fmt.Errorf("%w: element %q", errContent, operation.name.Local)
	}
	return operation.order()
}

// tree reads XML without document type, processing instructions and entities beyond
// the five of XML itself, in UTF-8, within the limits.
func tree(body []byte) (*node, error) {
	d := xml.NewDecoder(bytes.NewReader(body))
	var root *node
	var open []*node
	elements := 0
	for first := true; ; first = false {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, malformed("the body is not XML: %v", err)
		}
		switch t := token.(type) {
		case xml.StartElement:
			n := &node{name: t.Name, attrs: t.Attr}
			switch elements++; {
			case elements > elementsMax:
				return nil, malformed("more than %d elements", elementsMax)
			case len(open) >= depthMax:
				return nil, malformed("elements are more than %d deep", depthMax)
			case len(open) > 0:
				parent := open[len(open)-1]
				parent.children = append(parent.children, n)
			case root != nil:
				return nil, malformed("a second document")
			default:
				root = n
			}
			open = append(open, n)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			switch {
			case len(open) > 0:
				n := open[len(open)-1]
				if n.text.Len()+len(t) > textMax {
					return nil, malformed("more than %d bytes in an element", textMax)
				}
				n.text.Write(t)
			case len(bytes.TrimSpace(bytes.TrimPrefix(t, []byte("\uFEFF")))) > 0:
				return nil, malformed("text outside of the envelope")
			}
		case xml.ProcInst:
			if t.Target != "xml" || !first {
				return nil, malformed("processing instructions are not taken")
			}
		case xml.Directive:
			return nil, malformed("document types are not taken")
		}
	}
	if root == nil {
		return nil, malformed("the body is empty")
	}
	return root, nil
}

// operation is the one element of the body.
func operation(root *node) (*node, error) {
	if root.name.Local != "Envelope" {
		return nil, malformed("no envelope")
	}
	if root.name.Space != envelope {
		return nil, &fault{"VersionMismatch", "the envelope is not SOAP 1.1"}
	}
	parts := root.children
	if len(parts) > 0 && parts[0].name == (xml.Name{Space: envelope, Local: "Header"}) {
		for _, h := range parts[0].children {
			for _, a := range h.attrs {
				if a.Name == (xml.Name{Space: envelope, Local: "mustUnderstand"}) && a.Value != "0" {
					return nil, &fault{"MustUnderstand", "a header is not understood"}
				}
			}
		}
		parts = parts[1:]
	}
	if len(parts) != 1 || parts[0].name != (xml.Name{Space: envelope, Local: "Body"}) || len(parts[0].children) != 1 {
		return nil, malformed("the envelope has no body with one element")
	}
	return parts[0].children[0], nil
}

// order reads the children in the order of the service's description.
func (n *node) order() (order, error) {
	var o order
	take := func(name string, optional bool) (string, error) {
		if len(n.children) == 0 || n.children[0].name.Local != name {
			if optional {
				return "", nil
			}
			return "", fmt.Errorf("%w: no %s in its place", errContent, name)
		}
		c := n.children[0]
		n.children = n.children[1:]
		// The description has them without a namespace. A client that writes xmlns on
		// the operation puts them into the service's.
		if c.name.Space != "" && c.name.Space != Namespace || len(c.children) > 0 {
			return "", fmt.Errorf("%w: %s holds something else", errContent, name)
		}
		return strings.TrimSpace(c.text.String()), nil
	}
	decode := func(name string) ([]byte, error) {
		text, err := take(name, false)
		if err != nil {
			return nil, err
		}
		b, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", errContent, name, err)
		}
		return b, nil
	}
	var err error
	if o.request, err = decode("CertificateSigningRequest"); err != nil {
		return order{}, err
	}
	if o.device, err = decode("DeviceCertificate"); err != nil {
		return order{}, err
	}
	if o.commonName, err = take("CommonName", false); err != nil {
		return order{}, err
	}
	if o.email, err = take("eMailAddress", false); err != nil {
		return order{}, err
	}
	if o.code, err = take("ActivationCode", true); err != nil {
		return order{}, err
	}
	if len(n.children) > 0 {
		return order{}, fmt.Errorf("%w: a superfluous %q", errContent, n.children[0].name.Local)
	}
	return o, nil
}

// wrapped puts an element into an envelope.
func wrapped(element string) []byte {
	return []byte(xml.Header + `<soapenv:Envelope xmlns:soapenv="` + envelope + `"><soapenv:Body>` + element + `</soapenv:Body></soapenv:Envelope>` + "\n")
}

// response is the answer to a request: the certificate first, then those of its
// issuers.
func response(code ReturnCode, certificates [][]byte) []byte {
	var b strings.Builder
	b.WriteString(`<ca:RequestCertificateResponse xmlns:ca="` + Namespace + `"><ReturnCode>` + string(code) + `</ReturnCode><Certificates>`)
	for _, der := range certificates {
		b.WriteString("<Certificate>" + base64.StdEncoding.EncodeToString(der) + "</Certificate>")
	}
	b.WriteString(`</Certificates></ca:RequestCertificateResponse>`)
	return wrapped(b.String())
}

func faultBody(f *fault) []byte {
	return wrapped(`<soapenv:Fault><faultcode>soapenv:` + f.code + `</faultcode><faultstring>` + text(f.text) + `</faultstring></soapenv:Fault>`)
}

//go:embed caservice.wsdl
var description string

// describe serves the description of the service (WSDL 1.1).
func (s *Service) describe(w http.ResponseWriter, r *http.Request) {
	at := s.URL
	if at == "" {
		scheme := "http"
		if r.TLS != nil {
			scheme = "https"
		}
		at = scheme + "://" + r.Host + r.URL.EscapedPath()
	}
	reply(w, http.StatusOK, []byte(strings.ReplaceAll(description, "@URL@", text(at))))
}
