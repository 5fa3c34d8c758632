package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/term"

	"hsmemu/applet"
	"hsmemu/applet/apdu"
	"hsmemu/applet/tlv"
)

// session sends commands to a card: through the process that runs it, in the
// session that its clients share, or else to a card of our own power-on.
type session struct {
	card     string
	transmit func(context.Context, []byte) ([]byte, error)
	close    func() error
	// shared tells that a process runs the card.
	shared bool
	// opened tells that the user was logged in by this session and by nobody
	// before; pin is what that took, until the end of the session.
	opened bool
	pin    []byte
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

// selection is the command that selects the application. It ends a login.
var selection = apdu.Command{INS: 0xA4, P1: 0x04, P2: 0x0C, Data: []byte(applet.AID)}

// enter makes sure that commands reach the application. It selects it only
// where it is not selected yet, since that would end a login.
func (s *session) enter(ctx context.Context) error {
	r, _ := s.send(ctx, apdu.Command{INS: 0x20, P2: 0x81})
	if !deselected(r.SW) {
		return nil // whatever the state of the PIN, it is the application that answered
	}
	if _, err := s.send(ctx, selection); err != nil {
		return fmt.Errorf("select the application of card %q: %w", s.card, err)
	}
	return nil
}

// deselected tells the answers of a card that has no application selected to
// commands that the application has.
func deselected(sw apdu.SW) bool {
	return sw == apdu.InstructionNotSupported || sw == apdu.ClassNotSupported
}

// login presents the user PIN.
func (s *session) login(ctx context.Context, pin []byte) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	before, _ := s.send(ctx, apdu.Command{INS: 0x20, P2: 0x81})
	if _, err := s.send(ctx, apdu.Command{INS: 0x20, P2: 0x81, Data: pin}); err != nil {
		return fmt.Errorf("verify the user PIN of card %q: %w", s.card, err)
	}
	s.pin, s.opened = pin, s.opened || before.SW != apdu.OK
	return nil
}

// ask sends a command that goes on after enter or login. A reader may have
// taken the power away since, and the login with it: pcscd does half a second
// after its last client has gone. Then ask does again what came before.
func (s *session) ask(ctx context.Context, c apdu.Command, answers ...apdu.SW) (apdu.Response, error) {
	r, err := s.send(ctx, c, answers...)
	var again error
	switch {
	case s.pin != nil && (deselected(r.SW) || r.SW == apdu.SecurityStatus):
		again = s.login(ctx, s.pin)
	case deselected(r.SW):
		again = s.enter(ctx)
	default:
		return r, err
	}
	if again != nil {
		return r, errors.Join(err, again)
	}
	return s.send(ctx, c, answers...)
}

// leave closes the session. Where it logged the user in, it ends that login,
// so that the programs that share the card do not find it open.
func (s *session) leave(ctx context.Context) error {
	var err error
	if s.opened {
		if _, err = s.send(context.WithoutCancel(ctx), selection); err != nil {
			err = fmt.Errorf("log out of card %q: %w", s.card, err)
		}
	}
	s.pin, s.opened = nil, false
	return errors.Join(err, s.close())
}

// file reads a whole elementary file; nil where there is none.
func (s *session) file(ctx context.Context, id uint16) ([]byte, error) {
	r, err := s.ask(ctx, apdu.Command{
		INS: 0xB1, P1: byte(id >> 8), P2: byte(id), Data: []byte{0x54, 0x02, 0x00, 0x00}, Ne: 65536, Extended: true,
	}, apdu.EndOfFile, apdu.NotFound)
	if err != nil {
		return nil, fmt.Errorf("read EF %04X of card %q: %w", id, s.card, err)
	}
	return r.Data, nil
}

// updateMax is how much of a file one command writes: less than what the
// buffers of readers for the real card take.
const updateMax = 512

// update writes a whole elementary file.
func (s *session) update(ctx context.Context, id uint16, content []byte) error {
	for at := 0; at == 0 || at < len(content); at += updateMax {
		offset := tlv.Append(nil, 0x54, []byte{byte(at >> 8), byte(at)})
		part := content[at:min(at+updateMax, len(content))]
		_, err := s.ask(ctx, apdu.Command{
			INS: 0xD7, P1: byte(id >> 8), P2: byte(id), Data: tlv.Append(offset, 0x53, part), Extended: true,
		})
		if err != nil {
			return fmt.Errorf("write EF %04X of card %q: %w", id, s.card, err)
		}
	}
	return nil
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
		line, err := readLine(a.in)
		if len(line) > 0 {
			return line, nil
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

// pick is the file for the i-th of several things: files are one for each of
// them, one for all, or none.
func pick(files []string, i int) string {
	switch len(files) {
	case 0:
		return ""
	case 1:
		return files[0]
	}
	return files[i]
}

// wipe overwrites secrets.
func wipe(secrets [][]byte) {
	for _, s := range secrets {
		clear(s)
	}
}

// readLine reads a line and nothing behind it: the next one may be another
// secret.
func readLine(r io.Reader) ([]byte, error) {
	line := make([]byte, 0, 1024) // growing would leave copies
	for b := make([]byte, 1); ; {
		n, err := r.Read(b)
		if n > 0 && b[0] == '\n' || err != nil {
			return bytes.TrimSuffix(line, []byte("\r")), err
		}
		line = append(line, b[:n]...)
	}
}

// typed tells whether secrets are typed at a terminal.
func (a *app) typed() bool {
	in, ok := a.in.(*os.File)
	return ok && term.IsTerminal(int(in.Fd()))
}
