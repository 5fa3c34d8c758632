package client

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"hsmemu/applet/apdu"
	"hsmemu/applet/cvc"
	"hsmemu/applet/pkcs15"
	"hsmemu/applet/tlv"
)

// writeMax is how many bytes of a file one command writes: less than what
// every firmware and the buffers of readers take.
const writeMax = 512

// Objects lists the identifiers of the files and keys on the card, in the
// card's order.
func (c *Client) Objects(ctx context.Context) ([]uint16, error) {
	r, err := c.ask(ctx, apdu.Command{CLA: apdu.ClassProprietary, INS: apdu.InsEnumerateObjects, Ne: 65536, Extended: true})
	if err != nil {
		return nil, fmt.Errorf("list the objects: %w", err)
	}
	if len(r.Data)%2 != 0 {
		return nil, fmt.Errorf("list the objects: %w", ErrAnswer)
	}
	var list []uint16
	for d := r.Data; len(d) > 0; d = d[2:] {
		list = append(list, uint16(d[0])<<8|uint16(d[1]))
	}
	return list, nil
}

// ReadFile reads a whole elementary file; nil where there is none.
func (c *Client) ReadFile(ctx context.Context, id uint16) ([]byte, error) {
	r, err := c.ask(ctx, apdu.ReadFile(id), apdu.EndOfFile, apdu.NotFound)
	if err != nil {
		return nil, fmt.Errorf("read EF %04X: %w", id, err)
	}
	return r.Data, nil
}

// fileMax is how much the two bytes of an offset reach.
const fileMax = 1 << 16

// WriteFile writes a whole elementary file of at most 65536 bytes, in parts where
// it has to; a part that fails leaves the parts before it.
func (c *Client) WriteFile(ctx context.Context, id uint16, content []byte) error {
	if len(content) > fileMax {
		return fmt.Errorf("write EF %04X: %d bytes, at most %d", id, len(content), fileMax)
	}
	for at := 0; at == 0 || at < len(content); at += writeMax {
		part := content[at:min(at+writeMax, len(content))]
		_, err := c.ask(ctx, apdu.Command{
			INS: apdu.InsUpdateBinary, P1: byte(id >> 8), P2: byte(id), Data: tlv.Append(offset(at), apdu.FileData, part), Extended: true,
		})
		if err != nil {
			return fmt.Errorf("write EF %04X: %w", id, err)
		}
	}
	return nil
}

func offset(at int) []byte { return tlv.Append(nil, apdu.FileOffset, []byte{byte(at >> 8), byte(at)}) }

// Delete removes a file or a key. One that is not there is no error.
func (c *Client) Delete(ctx context.Context, id uint16) error {
	remove := apdu.Command{INS: apdu.InsDeleteFile, P1: 0x02, Data: []byte{byte(id >> 8), byte(id)}}
	if _, err := c.ask(ctx, remove, apdu.NotFound); err != nil {
		return fmt.Errorf("delete %04X: %w", id, err)
	}
	return nil
}

// Device reads the certificates of the device. It verifies nothing: that takes
// roots, see cvc.Chain.Verify.
func (c *Client) Device(ctx context.Context) (cvc.Chain, error) {
	ef, err := c.ReadFile(ctx, pkcs15.FileDevice)
	if err != nil {
		return cvc.Chain{}, err
	}
	chain, err := cvc.ParseChain(ef)
	if err != nil {
		return cvc.Chain{}, fmt.Errorf("certificates of the device: %w", err)
	}
	return chain, nil
}

// Attestation reads the request that the device made for key ref, 1 to 255, as
// it stands in the place of the key's certificate until there is one; nil where
// there is something else, or nothing. Together with [Client.Device] it is what
// cvc.Attest judges.
func (c *Client) Attestation(ctx context.Context, ref byte) ([]byte, error) {
	request, err := c.ReadFile(ctx, pkcs15.File(pkcs15.PrefixCertificate, ref))
	if err != nil {
		return nil, err
	}
	if _, err := cvc.ParseAuthenticated(request); err != nil {
		return nil, nil
	}
	return request, nil
}

// Evidence reads what cvc.Attest judges of key ref, 1 to 255: the device's
// certificates and the request that it made for the key; of key 0 the certificates
// alone. Error: cvc.ErrNoRequest.
func (c *Client) Evidence(ctx context.Context, ref byte) (cvc.Evidence, error) {
	if err := c.Enter(ctx); err != nil {
		return cvc.Evidence{}, err
	}
	device, err := c.Device(ctx)
	if err != nil || ref == 0 {
		return cvc.Evidence{Chain: device.Bytes()}, err
	}
	request, err := c.Attestation(ctx, ref)
	if err == nil && request == nil {
		err = cvc.ErrNoRequest
	}
	return cvc.Evidence{Chain: device.Bytes(), Request: request}, err
}

// Errors of KeyReference.
var (
	// ErrTaken says that a key, a description or a certificate has a key reference.
	ErrTaken = errors.New("it is taken")
	// ErrNoneFree says that all key references are taken.
	ErrNoneFree = errors.New("no key reference is free")
)

// KeyReference is the reference for a new key: the one that is wanted, or the
// lowest that is free if that is 0. Errors: ErrTaken, ErrNoneFree.
func (c *Client) KeyReference(ctx context.Context, wanted byte) (byte, error) {
	if wanted == 0 {
		free, err := c.FreeKey(ctx)
		if err == nil && free == 0 {
			err = ErrNoneFree
		}
		return free, err
	}
	taken, err := c.KeyTaken(ctx, wanted)
	if err == nil && taken {
		err = fmt.Errorf("key reference %d: %w", wanted, ErrTaken)
	}
	return wanted, err
}

// FreeKey is the lowest key reference from 1 to 255 that neither a key nor a
// description or certificate has taken; 0 if all are taken.
func (c *Client) FreeKey(ctx context.Context) (byte, error) {
	list, err := c.Objects(ctx)
	if err != nil {
		return 0, err
	}
	for ref := 1; ref <= 0xFF; ref++ {
		if !taken(list, byte(ref)) {
			return byte(ref), nil
		}
	}
	return 0, nil
}

// KeyTaken reports whether a key, a description or a certificate has a key
// reference.
func (c *Client) KeyTaken(ctx context.Context, ref byte) (bool, error) {
	list, err := c.Objects(ctx)
	return taken(list, ref), err
}

func taken(list []uint16, ref byte) bool {
	return slices.ContainsFunc([]byte{pkcs15.PrefixKey, pkcs15.PrefixKeyDescription, pkcs15.PrefixCertificate}, func(prefix byte) bool {
		return slices.Contains(list, pkcs15.File(prefix, ref))
	})
}
