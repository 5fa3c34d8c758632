// Package client is the host's side of a SmartCard-HSM: every command of the
// card as a typed function.
//
// It drives whatever takes command APDUs: an emulated card in the same
// process, one behind a control socket, any card in a PC/SC reader, or one at
// the other end of a network. It knows no files, no terminal and no reader.
//
//	c := client.New(card)
//	if err := c.Login(ctx, pin); err != nil {
//		if left, known := client.TriesLeft(err); known { … }
//		return err
//	}
//	signature, err := c.Sign(ctx, 1, keystore.ECDSASHA256, message)
//
// A status word other than success is an error in which errors.As finds an
// apdu.SW. A Client is not safe for use by several goroutines at the same time.
package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"hsmemu/applet/apdu"
	"hsmemu/applet/sm"
	"hsmemu/applet/tlv"
	"hsmemu/pinstate"
)

// Card is what a Client speaks to. Every vsmartcard.Card is one.
type Card interface {
	// Transmit has the card execute a command APDU and returns its response
	// APDU. An error means that no response came.
	Transmit(ctx context.Context, command []byte) ([]byte, error)
}

// ErrAnswer says that an answer with a good status word does not hold what it
// has to.
var ErrAnswer = errors.New("the card's answer is malformed")

// ErrNothing says that a function was given an empty PIN, share or request. With
// it the command would be a question, which the card answers with success.
var ErrNothing = errors.New("it is empty")

// Client is the host's side of one card.
type Client struct {
	card Card
	// channel protects commands and answers while it is open.
	channel sm.Host
	// pin is what the user was logged in with, until Leave; opened reports
	// whether nobody was logged in before.
	pin    []byte
	opened bool
}

// leavePatience is how long an end may take that is made after the end of a
// context.
const leavePatience = 10 * time.Second

// New is a client of a card. It sends nothing.
func New(card Card) *Client { return &Client{card: card} }

// TriesLeft returns the number of tries that the status word of an error
// reports: x of 63Cx, and 0 of 6983. It is not known for any other error.
func TriesLeft(err error) (n int, known bool) {
	var sw apdu.SW
	if !errors.As(err, &sw) {
		return 0, false
	}
	if sw == apdu.AuthenticationBlocked {
		return 0, true
	}
	return sw.Tries()
}

// is reports whether an error is one of some status words.
func is(err error, words ...apdu.SW) bool {
	var sw apdu.SW
	return errors.As(err, &sw) && slices.Contains(words, sw)
}

// Send exchanges one command, through the secure channel while one is open.
// The error is the status word unless it is 9000 or one of those in also; the
// response is returned in either case. A status word that came beside an open
// channel is sm.ErrUnprotected and no status word.
func (c *Client) Send(ctx context.Context, command apdu.Command, also ...apdu.SW) (apdu.Response, error) {
	secure := c.channel.Active()
	if secure {
		var err error
		if command, c.channel, err = c.channel.Wrap(command); err != nil {
			return apdu.Response{}, err
		}
	}
	raw, err := c.card.Transmit(ctx, command.Bytes())
	if err != nil {
		c.channel = sm.Host{}
		return apdu.Response{}, err
	}
	r, err := apdu.ParseResponse(raw)
	if err != nil {
		c.channel = sm.Host{}
		return apdu.Response{}, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	if secure {
		var sw apdu.SW
		r, c.channel, err = c.channel.Unwrap(r)
		switch {
		case errors.As(err, &sw): // anybody may have said it, so nobody shall take it for an answer
			return apdu.Response{}, fmt.Errorf("%w: %s", sm.ErrUnprotected, sw.String())
		case err != nil:
			return apdu.Response{}, err
		}
	}
	if r.SW == apdu.OK || slices.Contains(also, r.SW) {
		return r, nil
	}
	return r, r.SW
}

// losses is how often the power may be lost during one command. Once it is pcscd's doing,
// half a second after its last client has gone; and once more if another program came
// and went meanwhile.
const losses = 2

// send exchanges one command like Send, and again after Enter where no application was
// selected, since a reader took the power away meanwhile. The card has not executed a
// command that it refused so, hence it costs no try.
func (c *Client) send(ctx context.Context, command apdu.Command, also ...apdu.SW) (apdu.Response, error) {
	return c.resend(ctx, command, deselected, c.Enter, also...)
}

// ask is send for a command that belongs to the session begun by Enter or Login: where
// the login went with the power, ask first logs in again.
func (c *Client) ask(ctx context.Context, command apdu.Command, also ...apdu.SW) (apdu.Response, error) {
	if c.pin == nil {
		return c.send(ctx, command, also...)
	}
	lost := func(err error) bool { return deselected(err) || is(err, apdu.SecurityStatus) }
	return c.resend(ctx, command, lost, c.loginAgain, also...)
}

// resend sends a command, and again after begin as long as the answer says that the
// session is lost. What came through a secure channel is not sent again, and no PIN is
// sent without one after it: whoever broke the channel may be listening.
func (c *Client) resend(
	ctx context.Context, command apdu.Command, lost func(error) bool, begin func(context.Context) error, also ...apdu.SW,
) (apdu.Response, error) {
	secure := c.channel.Active()
	r, err := c.Send(ctx, command, also...)
	for i := 0; i < losses && !secure && lost(err); i++ {
		if beginning := begin(ctx); beginning != nil {
			return r, fmt.Errorf("%w: %w", err, beginning)
		}
		r, err = c.Send(ctx, command, also...)
	}
	return r, err
}

// loginAgain presents the PIN of Login once more where the user is not logged in.
// A PIN that is wrong by now, since somebody changed it, is forgotten: it costs
// one try and no more.
func (c *Client) loginAgain(ctx context.Context) error {
	if err := c.Enter(ctx); err != nil {
		return err
	}
	s, err := c.PINStatus(ctx, UserPIN)
	if err != nil || s.State == Verified {
		return err
	}
	if err = c.VerifyPIN(ctx, UserPIN, c.pin); err != nil {
		c.forget()
	}
	c.opened = c.opened || err == nil
	return err
}

// forget wipes the PIN of Login.
func (c *Client) forget() {
	clear(c.pin)
	c.pin = nil
}

// deselected reports whether an error is the answer of a card on which no
// application is selected, 6D00 or 6E00. Both can have other reasons, too.
func deselected(err error) bool {
	return is(err, apdu.InstructionNotSupported, apdu.ClassNotSupported)
}

// Info is what the card says of itself when its application is selected.
type Info struct {
	// Major and Minor are the version of the firmware.
	Major, Minor byte
	// Options are the options of the last initialisation, and Platform is the
	// chip's. Firmware 1 tells neither: then Short is set.
	Options  pinstate.Options
	Platform byte
	Short    bool
}

// Data objects of the answer to SELECT.
const (
	tagFCI        tlv.Tag = 0x6F
	tagAttributes tlv.Tag = 0x85
)

// selection selects the application. It ends a login.
func selection(p2 byte) apdu.Command {
	c := apdu.Command{INS: apdu.InsSelect, P1: apdu.SelectByName, P2: p2, Data: []byte(apdu.AID)}
	if p2 == 0 {
		c.Ne = 256
	}
	return c
}

// Select selects the application and reads what it says of itself. It ends
// every login, and a secure channel.
func (c *Client) Select(ctx context.Context) (Info, error) {
	c.channel, c.opened = sm.Host{}, false
	c.forget()
	r, err := c.Send(ctx, selection(0))
	if err != nil {
		return Info{}, fmt.Errorf("select the application: %w", err)
	}
	info, err := parseInfo(r.Data)
	if err != nil {
		return Info{}, fmt.Errorf("select the application: %w", err)
	}
	return info, nil
}

func parseInfo(fci []byte) (Info, error) {
	n, _, err := tlv.Next(fci)
	if err != nil || n.Tag != tagFCI {
		return Info{}, ErrAnswer
	}
	parts, err := n.Children()
	if err != nil {
		return Info{}, ErrAnswer
	}
	a, _ := parts.Find(tagAttributes)
	switch v := a.Value; len(v) {
	case 2:
		return Info{Major: v[0], Minor: v[1], Short: true}, nil
	case 5:
		return Info{Options: pinstate.Options(uint16(v[0])<<8 | uint16(v[1])), Platform: v[2], Major: v[3], Minor: v[4]}, nil
	}
	return Info{}, ErrAnswer
}

// Enter makes sure that commands reach the application. It selects the
// application only where it is not selected yet, since that would end a login.
func (c *Client) Enter(ctx context.Context) error {
	r, err := c.Send(ctx, apdu.Command{INS: apdu.InsVerify, P2: apdu.RefUserPIN})
	switch {
	case r.SW == 0:
		return err
	case !deselected(err) && !is(err, 0x6900): // which some cards answer in place of 6E00
		return nil // whatever the state of the PIN, it is the application that answered
	}
	if _, err := c.Send(ctx, selection(0x0C)); err != nil {
		return fmt.Errorf("select the application: %w", err)
	}
	return nil
}

// Login makes sure that the application is selected and presents the user PIN.
// The client keeps the PIN until Leave, to log in again should the reader take
// the power away meanwhile.
func (c *Client) Login(ctx context.Context, pin []byte) error {
	if err := c.Enter(ctx); err != nil {
		return err
	}
	before, err := c.PINStatus(ctx, UserPIN)
	if err != nil {
		return err
	}
	if err := c.VerifyPIN(ctx, UserPIN, pin); err != nil {
		return err
	}
	c.opened = c.opened || before.State != Verified
	if !bytes.Equal(c.pin, pin) {
		clear(c.pin)
		c.pin = bytes.Clone(pin)
	}
	return nil
}

// Leave ends what Login began: it wipes the PIN, and where nobody was logged
// in before it ends the login, so that programs that share the card do not find
// it open. It does so also after the end of ctx, for a few seconds.
func (c *Client) Leave(ctx context.Context) error {
	opened := c.opened
	c.forget()
	c.opened = false
	if !opened {
		return nil
	}
	c.channel = sm.Host{}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leavePatience)
	defer cancel()
	if _, err := c.Send(ctx, selection(0x0C)); err != nil {
		return fmt.Errorf("log out: %w", err)
	}
	return nil
}
