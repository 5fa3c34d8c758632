package pkcs15

import (
	"fmt"

	"hsmemu/applet/tlv"
)

// ParseKey reads the description of a key. Attributes that are not there stay
// empty. It returns ErrDescription if b is not one object that begins as such
// a description does.
func ParseKey(b []byte) (Key, error) {
	n, parts, err := open(b)
	if err != nil {
		return Key{}, err
	}
	switch Kind(n.Tag) {
	case RSA, EC, AES:
	default:
		return Key{}, fmt.Errorf("%w: tag %s", ErrDescription, n.Tag)
	}
	k := Key{Kind: Kind(n.Tag), Label: label(parts[0])}
	if id, ok := parts[1].Find(tagOctetString); ok {
		k.ID = id.Value
	}
	// The first bit string is the usage, the second one the access flags.
	if usage, ok := parts[1].Find(tagBitString); ok {
		k.Usage = parseUsage(usage.Value)
	}
	for _, part := range parts[2:] {
		if size, ok := part.Find(tagInteger); ok {
			if v, fits := size.Uint(); fits && v <= 1<<16 {
				k.Bits = int(v)
			}
		}
	}
	return k, nil
}

// open reads the object and its parts: the attributes of all objects, those of
// the class, then, in lists of their own, what is inside every further part,
// and inside the sequence that it may consist of.
func open(b []byte) (tlv.Node, []tlv.List, error) {
	n, rest, err := tlv.Next(b)
	if err != nil {
		return tlv.Node{}, nil, fmt.Errorf("%w: %w", ErrDescription, err)
	}
	if len(rest) != 0 {
		return tlv.Node{}, nil, fmt.Errorf("%w: something behind it", ErrDescription)
	}
	children, err := n.Children()
	if err != nil {
		return tlv.Node{}, nil, fmt.Errorf("%w: %w", ErrDescription, err)
	}
	if len(children) < 2 || children[0].Tag != tagSequence || children[1].Tag != tagSequence {
		return tlv.Node{}, nil, fmt.Errorf("%w: no attributes", ErrDescription)
	}
	var parts []tlv.List
	for i, child := range children {
		part, err := child.Children()
		if err != nil {
			return tlv.Node{}, nil, fmt.Errorf("%w: %w", ErrDescription, err)
		}
		if i >= 2 && len(part) == 1 && part[0].Tag == tagSequence {
			if part, err = part[0].Children(); err != nil {
				return tlv.Node{}, nil, fmt.Errorf("%w: %w", ErrDescription, err)
			}
		}
		parts = append(parts, part)
	}
	return n, parts, nil
}

func label(attributes tlv.List) string {
	n, _ := attributes.Find(tagUTF8)
	return string(n.Value)
}
