package portal

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"hsmemu/applet/apdu"
	"hsmemu/applet/client"
	"hsmemu/emulator/scp03"
)

// masterKey is what the keys of every card manager are derived from, and
// keyVersion their version: GlobalPlatform's published key for tests (UPDATE-16).
var masterKey = [scp03.KeyLen]byte{
	0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4A, 0x4B, 0x4C, 0x4D, 0x4E, 0x4F,
}

const keyVersion = 0x30

// transportVersion is the version of the keys that a blank chip comes with, each of which is
// masterKey itself (UPDATE-31).
const transportVersion = 0x01

// keys are those of the card manager of a chip, and transportKeys those that each blank one
// has. What the keys are derived from is told by the chip's serial number alone (UPDATE-15): a
// channel with transport keys does not prove what the card answers about it.
func (id ChipID) keys() scp03.Keys { return scp03.Derive(masterKey, id.diversification()) }

func transportKeys() scp03.Keys { return scp03.NewKeys(masterKey, masterKey, masterKey) }

func (id ChipID) diversification() scp03.Diversification {
	d := scp03.Diversification{0x00, 0x00, 0x55, 0x4D}
	_, _ = hex.Decode(d[4:], []byte(id)) // it is the form of six bytes
	return d
}

// channel is the host's end of a secure channel with the card manager, or with an
// application in production.
type channel struct {
	card Card
	host scp03.Host
}

// open opens a channel with what is selected, if it is on that chip, with the keys of a
// version. Error: ErrManagerKeys.
func open(ctx context.Context, card Card, chip ChipID, rand io.Reader, version byte, keys scp03.Keys) (*channel, error) {
	var challenge scp03.Challenge
	if _, err := io.ReadFull(rand, challenge[:]); err != nil {
		return nil, fmt.Errorf("open a secure channel: %w", err)
	}
	plain := client.New(card)
	r, err := plain.Send(ctx, scp03.Begin(version, challenge))
	for _, none := range []error{apdu.InstructionNotSupported, apdu.ClassNotSupported, apdu.ReferenceNotFound} {
		if errors.Is(err, none) {
			return nil, fmt.Errorf("%w: none of version %02X: %w", ErrManagerKeys, version, err)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open a secure channel: %w", err)
	}
	a, err := scp03.ParseAnswer(r.Data)
	if err != nil {
		return nil, untrusted(err)
	}
	if a.Diversification != chip.diversification() {
		return nil, untrusted(errOtherChip)
	}
	host, err := keys.Open(challenge, a)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrManagerKeys, err)
	}
	authenticate, host, err := host.Authenticate(scp03.All)
	if err == nil {
		_, err = plain.Send(ctx, authenticate)
	}
	if err != nil {
		return nil, fmt.Errorf("open a secure channel: %w", err)
	}
	return &channel{card, host}, nil
}

// rekey replaces the transport keys, with which the channel was opened, by the keys of the
// chip. The channel goes on.
func (c *channel) rekey(ctx context.Context, chip ChipID) error {
	command, expected, err := c.host.PutKey(transportVersion, keyVersion, chip.keys())
	var answer []byte
	if err == nil {
		answer, err = c.send(ctx, command)
	}
	if err != nil {
		return fmt.Errorf("replace the transport keys: %w", err)
	}
	if !bytes.Equal(answer, expected) {
		return untrusted(errOtherKeys)
	}
	return nil
}

// send exchanges one command through the channel and returns the data of its
// answer. The error is the status word unless it is 9000.
func (c *channel) send(ctx context.Context, command apdu.Command) ([]byte, error) {
	wrapped, host, err := c.host.Wrap(command)
	if err != nil {
		return nil, err
	}
	c.host = host
	raw, err := c.card.Transmit(ctx, wrapped.Bytes())
	if err != nil {
		return nil, err
	}
	received, err := apdu.ParseResponse(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", client.ErrAnswer, err)
	}
	answer, host, err := c.host.Unwrap(received)
	c.host = host
	if errors.Is(err, scp03.ErrMAC) {
		return nil, untrusted(err)
	}
	if err != nil {
		return nil, err
	}
	if answer.SW != apdu.OK {
		return nil, answer.SW
	}
	return answer.Data, nil
}
