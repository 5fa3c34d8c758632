package cvc

import (
	"fmt"

	"hsmemu/applet/tlv"
)

// PKAFile is what a key custodian exports to have a key registered for public
// key authentication on another device: the key's authenticated request and
// the chain of the device that holds it (PKA-30).
type PKAFile struct {
	Request Authenticated
	Chain   Chain
}

// pkaFileOID marks the newer format, 1.3.6.1.4.1.24991.4.3.1.
const pkaFileOID = "\x2B\x06\x01\x04\x01\x81\xC3\x1F\x04\x03\x01"

const (
	tagSequence    = tlv.Tag(0x30)
	tagFileIssuer  = tlv.Tag(0x61)
	tagFileDevice  = tlv.Tag(0x62)
	tagFileRequest = tlv.Tag(0x63)
)

// Bytes is the file as the Key Manager of the Smart Card Shell writes it:
// 30{06, 61{issuer}, 62{device}, 63{request}}.
func (p PKAFile) Bytes() []byte {
	return tlv.Append(nil, tagSequence,
		tlv.Append(nil, tagOID, []byte(pkaFileOID)),
		tlv.Append(nil, tagFileIssuer, p.Chain.Issuer.Raw),
		tlv.Append(nil, tagFileDevice, p.Chain.Device.Raw),
		tlv.Append(nil, tagFileRequest, p.Request.Raw))
}

// PlainBytes is the file as sc-hsm-tool writes it: 30{request, device, issuer}.
func (p PKAFile) PlainBytes() []byte {
	return tlv.Append(nil, tagSequence, p.Request.Raw, p.Chain.Device.Raw, p.Chain.Issuer.Raw)
}

// ParsePKAFile reads either format. Which certificate is the device's is
// decided by who names whom, because writers disagree about the order. Nothing
// is verified: use Attest with the parts.
func ParsePKAFile(b []byte) (PKAFile, error) {
	n, rest, err := tlv.Next(b)
	if err != nil {
		return PKAFile{}, fmt.Errorf("PKA file: %w: %w", ErrStructure, err)
	}
	if n.Tag != tagSequence || len(rest) != 0 {
		return PKAFile{}, fmt.Errorf("PKA file: %w: not one sequence", ErrStructure)
	}
	l, err := n.Children()
	if err != nil {
		return PKAFile{}, fmt.Errorf("PKA file: %w: %w", ErrStructure, err)
	}
	var request, first, second []byte
	switch {
	case hasTags(l, tagAuthenticated, tagCertificate, tagCertificate):
		request, first, second = l[0].Raw, l[1].Raw, l[2].Raw
	case hasTags(l, tagOID, tagFileIssuer, tagFileDevice, tagFileRequest) && string(l[0].Value) == pkaFileOID:
		request, first, second = l[3].Value, l[2].Value, l[1].Value
	default:
		return PKAFile{}, fmt.Errorf("PKA file: %w: unknown format", ErrStructure)
	}
	var p PKAFile
	if p.Request, err = ParseAuthenticated(request); err != nil {
		return PKAFile{}, fmt.Errorf("PKA file: request: %w", err)
	}
	p.Chain, err = parsePair(first, second)
	return p, err
}

// parsePair reads two certificates of which one issued the other; the first is
// the device if that cannot be told.
func parsePair(first, second []byte) (Chain, error) {
	a, err := ParseCertificate(first)
	if err != nil {
		return Chain{}, fmt.Errorf("PKA file: certificate: %w", err)
	}
	b, err := ParseCertificate(second)
	if err != nil {
		return Chain{}, fmt.Errorf("PKA file: certificate: %w", err)
	}
	if a.CAR != b.CHR && b.CAR == a.CHR {
		a, b = b, a
	}
	return Chain{Device: a, Issuer: b}, nil
}

func hasTags(l tlv.List, tags ...tlv.Tag) bool {
	if len(l) != len(tags) {
		return false
	}
	for i, t := range tags {
		if l[i].Tag != t {
			return false
		}
	}
	return true
}
