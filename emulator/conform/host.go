package conform

import (
	"context"
	"errors"
	"fmt"
	"io"

	"hsmemu/applet/apdu"
	"hsmemu/applet/cvc"
	"hsmemu/applet/pkcs15"
	"hsmemu/applet/sm"
	"hsmemu/keystore/curve"
	"hsmemu/vsmartcard"
)

// Host is the other end of a card: it sends commands as they are, or through a
// secure channel while one is open.
type Host struct {
	Card vsmartcard.Card
	// Channel is the host's end of secure messaging.
	Channel sm.Host

	firmware string // that was asked for, empty for any
}

// Send gives the card a command and returns the answer as an application sees it.
// While a channel is open the command is protected, unless it is no APDU or says
// itself that it is protected: such bytes are sent as they are. An answer without
// protection ends the channel and is returned as it came. Errors: those of the
// card, and those of an answer whose protection is wrong.
func (h *Host) Send(ctx context.Context, command []byte) ([]byte, error) {
	plain, err := apdu.Parse(command)
	if err != nil || plain.CLA&0x0C != 0 || !h.Channel.Active() {
		return h.Card.Transmit(ctx, command)
	}
	wrapped, channel, err := h.Channel.Wrap(plain)
	if err != nil {
		return nil, err
	}
	raw, err := h.Card.Transmit(ctx, wrapped.Bytes())
	if err != nil {
		return nil, err
	}
	received, err := apdu.ParseResponse(raw)
	if err != nil {
		return nil, err
	}
	answer, channel, err := channel.Unwrap(received)
	h.Channel = channel
	switch {
	case err == nil:
		return answer.Bytes(), nil
	case errors.Is(err, sm.ErrUnprotected):
		return raw, nil
	}
	return nil, err
}

// cut takes the card's power away and gives it back.
func (h *Host) cut() error {
	h.Channel = sm.Host{}
	return h.Card.Reset()
}

// openChannel opens a secure channel, with the key of a device certificate that
// leads to a root that is known. Send gives the card the two commands it takes.
func (h *Host) openChannel(ctx context.Context, suite sm.Suite, rand io.Reader, send func([]byte) ([]byte, error)) error {
	device, err := h.deviceKey(ctx)
	if err != nil {
		return fmt.Errorf("device certificate: %w", err)
	}
	channel, err := suite.Open(device, rand, func(command apdu.Command) ([]byte, error) {
		return succeed(send(command.Bytes()))
	})
	if err != nil {
		return err
	}
	h.Channel = channel
	return nil
}

func (h *Host) deviceKey(ctx context.Context) (*curve.Public, error) {
	certificates, err := succeed(h.Send(ctx, apdu.ReadFile(pkcs15.FileDevice).Bytes()))
	if err != nil {
		return nil, err
	}
	chain, err := cvc.ParseChain(certificates)
	if err != nil {
		return nil, err
	}
	verified, err := chain.Verify(cvc.KnownRoots())
	if err != nil {
		return nil, err
	}
	return verified.DeviceKey().EC()
}

// succeed returns the data of an answer. The error is its status word unless that
// is 9000.
func succeed(answer []byte, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	r, err := apdu.ParseResponse(answer)
	if err == nil && r.SW != apdu.OK {
		err = r.SW
	}
	return r.Data, err
}
