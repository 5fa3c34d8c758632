package pcscd

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// receiveMax is the room for a response, as large as the protocol has it.
const receiveMax = payloadMax

// Handle is a client's hold on the card in a reader. It is a vsmartcard.Card,
// so that whatever drives a card of our own can drive one in any reader.
type Handle struct {
	client   *Client
	card     uint32
	share    Share
	wanted   Protocol
	protocol Protocol
	atr      []byte
}

// Connect takes up the card in the named reader. With [Direct] there need not
// be one. If another client has the card exclusively the error is
// [ErrSharingViolation].
func (c *Client) Connect(ctx context.Context, reader string, share Share, protocols Protocol) (*Handle, error) {
	s := make(structure, connectSize)
	s.set(connectContextAt, c.context)
	if len(reader) > nameMax {
		return nil, ErrUnknownReader
	}
	copy(s[connectReaderAt:], reader)
	s.set(connectShareAt, uint32(share))
	s.set(connectProtocolsAt, uint32(protocols))
	if err := c.call(ctx, commandConnect, s, connectCodeAt); err != nil {
		return nil, err
	}
	h := &Handle{
		client: c, card: s.number(connectHandleAt), share: share, wanted: protocols,
		protocol: Protocol(s.number(connectActiveAt)),
	}
	readers, err := c.Readers(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range readers {
		if r.Name == reader {
			h.atr = r.ATR
		}
	}
	return h, nil
}

// Protocol returns the protocol in use with the card, 0 for none.
func (h *Handle) Protocol() Protocol { return h.protocol }

// ATR returns the card's answer to reset as it was when the handle was made.
func (h *Handle) ATR() []byte { return h.atr }

// Reset resets the card and keeps the handle.
func (h *Handle) Reset() error { return h.Reconnect(context.Background(), Reset) }

// Transmit has the card execute one command APDU, waiting while another client
// holds the card in a transaction.
func (h *Handle) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	if len(command) > payloadMax {
		return nil, fmt.Errorf("%w: command of %d bytes", ErrInvalidParameter, len(command))
	}
	var answer []byte
	err := patiently(ctx, func() (err error) {
		s := make(structure, transmitSize)
		s.set(transmitHandleAt, h.card)
		s.set(transmitSendProtocolAt, uint32(h.protocol))
		s.set(transmitSendPCIAt, 16)
		s.set(transmitSendLengthAt, uint32(len(command)))
		s.set(transmitReceivePCIAt, 16)
		s.set(transmitReceiveLengthAt, receiveMax)
		h.client.mu.Lock()
		defer h.client.mu.Unlock()
		answer, err = h.client.exchange(ctx, commandTransmit, s, command, transmitCodeAt, transmitReceiveLengthAt)
		return err
	})
	return answer, err
}

// Reconnect takes the card up again, after resetting it or interrupting its
// power if how says so, and clears the mark of a reset or removal.
func (h *Handle) Reconnect(ctx context.Context, how Disposition) error {
	return patiently(ctx, func() error {
		s := make(structure, reconnectSize)
		s.set(reconnectHandleAt, h.card)
		s.set(reconnectShareAt, uint32(h.share))
		s.set(reconnectProtocolsAt, uint32(h.wanted))
		s.set(reconnectInitAt, uint32(how))
		if err := h.client.call(ctx, commandReconnect, s, reconnectCodeAt); err != nil {
			return err
		}
		h.protocol = Protocol(s.number(reconnectActiveAt))
		return nil
	})
}

// Disconnect gives the card back.
func (h *Handle) Disconnect(ctx context.Context, how Disposition) error {
	s := make(structure, disconnectSize)
	s.set(disconnectHandleAt, h.card)
	s.set(disconnectHowAt, uint32(how))
	return h.client.call(ctx, commandDisconnect, s, disconnectCodeAt)
}

// Begin starts a transaction, waiting for the end of another client's.
// Transactions nest.
func (h *Handle) Begin(ctx context.Context) error {
	return patiently(ctx, func() error {
		s := make(structure, beginSize)
		s.set(beginHandleAt, h.card)
		return h.client.call(ctx, commandBegin, s, beginCodeAt)
	})
}

// End ends a transaction.
func (h *Handle) End(ctx context.Context, how Disposition) error {
	s := make(structure, endSize)
	s.set(endHandleAt, h.card)
	s.set(endHowAt, uint32(how))
	return h.client.call(ctx, commandEnd, s, endCodeAt)
}

// Status reports whether the handle is good, as an error if the card was reset
// or removed since.
func (h *Handle) Status(ctx context.Context) error {
	return patiently(ctx, func() error {
		s := make(structure, statusSize)
		s.set(statusHandleAt, h.card)
		return h.client.call(ctx, commandStatus, s, statusCodeAt)
	})
}

// Control calls a function of the reader, see [ControlFeatures].
func (h *Handle) Control(ctx context.Context, function uint32, send []byte) ([]byte, error) {
	if len(send) > payloadMax {
		return nil, fmt.Errorf("%w: %d bytes", ErrInvalidParameter, len(send))
	}
	s := make(structure, controlSize)
	s.set(controlHandleAt, h.card)
	s.set(controlFunctionAt, function)
	s.set(controlSendLengthAt, uint32(len(send)))
	s.set(controlReceiveLengthAt, receiveMax)
	h.client.mu.Lock()
	defer h.client.mu.Unlock()
	return h.client.exchange(ctx, commandControl, s, send, controlCodeAt, controlReturnedAt)
}

// Attrib returns an attribute of the reader or card, see [AttribVendorName].
func (h *Handle) Attrib(ctx context.Context, tag uint32) ([]byte, error) {
	s := make(structure, attribSize)
	s.set(attribHandleAt, h.card)
	s.set(attribTagAt, tag)
	s.set(attribLengthAt, attribMax)
	if err := h.client.call(ctx, commandAttribGet, s, attribCodeAt); err != nil {
		return nil, err
	}
	n := min(s.number(attribLengthAt), attribMax)
	return s[attribValueAt : attribValueAt+n], nil
}

// patiently repeats do while another client holds the card, as pcsc-lite's
// own library does.
func patiently(ctx context.Context, do func() error) error {
	for {
		err := do()
		if !errors.Is(err, ErrSharingViolation) {
			return err
		}
		t := time.NewTimer(retryPause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return err
		}
	}
}
