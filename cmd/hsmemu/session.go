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

	"hsmemu/applet/client"
)

// session is a client of a card: through the process that runs it, in the
// session that its clients share, or else of a card of our own power-on.
type session struct {
	*client.Client
	card string
	// shared reports whether a process runs the card.
	shared bool
	close  func() error
}

// session opens a card for commands.
func (a *app) session(ctx context.Context, name string) (*session, error) {
	conn, err := a.dial(ctx, name)
	switch {
	case err == nil:
		return &session{Client: client.New(newOverControl(conn)), card: name, shared: true, close: conn.Close}, nil
	case !errors.Is(err, errNobody):
		return nil, fmt.Errorf("reach card %q: %w", name, err)
	}
	h, err := a.hold(name, refuseAbsent)
	if err != nil {
		return nil, err
	}
	return &session{Client: client.New(h.card), card: name, close: h.Close}, nil
}

// leave logs out where this session has logged in, and closes it.
func (s *session) leave(ctx context.Context) error {
	return errors.Join(s.about(s.Leave(ctx)), s.close())
}

// about says which card an error is about.
func (s *session) about(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("card %q: %w", s.card, err)
}

// overControl is a card behind a control socket.
type overControl struct {
	conn     net.Conn
	requests *json.Encoder
	replies  *json.Decoder
}

func newOverControl(conn net.Conn) overControl {
	return overControl{conn, json.NewEncoder(conn), json.NewDecoder(conn)}
}

// Transmit has the process that runs the card transmit a command.
func (o overControl) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	defer context.AfterFunc(ctx, func() { _ = o.conn.Close() })()
	if err := o.requests.Encode(request{Do: doTransmit, APDU: hex.EncodeToString(command)}); err != nil {
		return nil, err
	}
	var r reply
	if err := o.replies.Decode(&r); err != nil {
		return nil, err
	}
	if r.Error != "" {
		return nil, errors.New(r.Error)
	}
	return hex.DecodeString(r.APDU)
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

// typed reports whether secrets are typed at a terminal.
func (a *app) typed() bool {
	in, ok := a.in.(*os.File)
	return ok && term.IsTerminal(int(in.Fd()))
}
