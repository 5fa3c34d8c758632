package account

import (
	"errors"
	"fmt"
	"net/mail"
	"strings"
)

// ErrAddress says that a text is no e-mail address that the portal takes.
var ErrAddress = errors.New("that is no e-mail address")

// addressMax is the longest address that SMTP carries (RFC 5321, 4.5.3.1.3, without
// its angle brackets).
const addressMax = 254

// ParseAddress reads an e-mail address as a person types it, and returns it as
// accounts are known by: trimmed and in small letters, since hardly any mail server
// tells the letters of an address apart, and people do not. It takes addresses in
// the plain form of RFC 5322 alone, local@domain with a dot in the domain or
// "localhost": no display name, no comment, no quotation, no address literal, ASCII
// letters only. Whatever it returns can stand in a mail's header and in an SMTP
// command. Error: ErrAddress.
func ParseAddress(text string) (string, error) {
	text = strings.TrimSpace(text)
	if len(text) > addressMax {
		return "", fmt.Errorf("%w: it is longer than %d characters", ErrAddress, addressMax)
	}
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c >= 0x7F || strings.IndexByte(`"(),:;<>[\]`, c) >= 0 {
			return "", ErrAddress
		}
	}
	a, err := mail.ParseAddress(text)
	if err != nil || a.Address != text || a.Name != "" {
		return "", ErrAddress
	}
	local, domain, _ := strings.Cut(text, "@")
	if len(local) > 64 || !isDomain(domain) {
		return "", ErrAddress
	}
	return strings.ToLower(text), nil
}

// isDomain reports whether a text is a domain's name (RFC 1035, 2.3.1, and 1123 for
// digits) of two labels or more, or this machine's.
func isDomain(text string) bool {
	labels := strings.Split(text, ".")
	if len(labels) < 2 && !strings.EqualFold(text, "localhost") {
		return false
	}
	for _, label := range labels {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range label {
			if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' {
				return false
			}
		}
	}
	return true
}
