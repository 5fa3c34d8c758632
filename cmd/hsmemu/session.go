package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"golang.org/x/term"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
)

// session sends commands to a card: through the process that runs it, in the
// session that its clients share, or else to a card of our own power-on.
type session struct {
	card     string
	transmit func(context.Context, []byte) ([]byte, error)
	close    func() error
	// shared tells that a process runs the card.
	shared bool
}

// session opens a card for commands.
func (a *app) session(ctx context.Context, name string) (*session, error) {
	conn, err := a.dial(ctx, name)
	switch {
	case err == nil:
		return &session{card: name, shared: true, close: conn.Close, transmit: overControl(conn)}, nil
	case !errors.Is(err, errNobody):
		return nil, fmt.Errorf("reach card %q: %w", name, err)
	}
	h, err := a.hold(name, refuseAbsent)
	if err != nil {
		return nil, err
	}
	return &session{card: name, close: h.Close, transmit: h.card.Transmit}, nil
}

// overControl sends commands through a control socket.
func overControl(conn net.Conn) func(context.Context, []byte) ([]byte, error) {
	requests, replies := json.NewEncoder(conn), json.NewDecoder(conn)
	return func(ctx context.Context, command []byte) ([]byte, error) {
		defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
		if err := requests.Encode(request{Do: doTransmit, APDU: hex.EncodeToString(command)}); err != nil {
			return nil, err
		}
		var r reply
		if err := replies.Decode(&r); err != nil {
			return nil, err
		}
		if r.Error != "" {
			return nil, errors.New(r.Error)
		}
		return hex.DecodeString(r.APDU)
	}
}

// send exchanges one command; the error is the status word, unless it is
// success or one of those that are answers, too.
func (s *session) send(ctx context.Context, c apdu.Command, answers ...apdu.SW) (apdu.Response, error) {
	raw, err := s.transmit(ctx, c.Bytes())
	if err != nil {
		return apdu.Response{}, fmt.Errorf("card %q: %w", s.card, err)
	}
	r, err := apdu.ParseResponse(raw)
	if err != nil {
		return apdu.Response{}, fmt.Errorf("card %q: %w", s.card, err)
	}
	for _, sw := range append(answers, apdu.OK) {
		if r.SW == sw {
			return r, nil
		}
	}
	return r, r.SW
}

// enter makes sure that commands reach the application. It selects it only
// where it is not selected yet, since that would end a login.
func (s *session) enter(ctx context.Context) error {
	r, err := s.send(ctx, apdu.Command{INS: 0x20, P2: 0x81})
	if r.SW != apdu.InstructionNotSupported && r.SW != apdu.ClassNotSupported {
		return nil // whatever the state of the PIN, it is the application that answered
	}
	if _, err = s.send(ctx, apdu.Command{INS: 0xA4, P1: 0x04, P2: 0x0C, Data: []byte(applet.AID)}); err != nil {
		return fmt.Errorf("select the application of card %q: %w", s.card, err)
	}
	return nil
}

// login presents the user PIN.
func (s *session) login(ctx context.Context, pin []byte) error {
	if _, err := s.send(ctx, apdu.Command{INS: 0x20, P2: 0x81, Data: pin}); err != nil {
		return fmt.Errorf("verify the user PIN of card %q: %w", s.card, err)
	}
	return nil
}

// file reads a whole elementary file; nil where there is none.
func (s *session) file(ctx context.Context, id uint16) ([]byte, error) {
	r, err := s.send(ctx, apdu.Command{
		INS: 0xB1, P1: byte(id >> 8), P2: byte(id), Data: []byte{0x54, 0x02, 0x00, 0x00}, Ne: 65536, Extended: true,
	}, apdu.EndOfFile, apdu.NotFound)
	if err != nil {
		return nil, fmt.Errorf("read EF %04X of card %q: %w", id, s.card, err)
	}
	return r.Data, nil
}

// secret gets a PIN or passphrase: from a file, from the environment, or typed
// at a terminal. The caller wipes it.
func (a *app) secret(what, file, variable string) ([]byte, error) {
	if file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", what, err)
		}
		line, _, _ := bytes.Cut(data, []byte("\n"))
		return bytes.TrimSuffix(line, []byte("\r")), nil
	}
	if v := a.env(variable); v != "" {
		return []byte(v), nil
	}
	in, ok := a.in.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		line, err := bufio.NewReader(a.in).ReadString('\n')
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			return []byte(line), nil
		}
		return nil, hinted{errors.Join(fmt.Errorf("no %s", what), err), "give it in a file, in $" + variable + " or at a terminal"}
	}
	fmt.Fprintf(a.err, "%s: ", what)
	typed, err := term.ReadPassword(int(in.Fd()))
	fmt.Fprintln(a.err)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	return typed, nil
}
