// Command replay runs a command with four readers in a private daemon, and prints
// nothing. To clients they are alike. What differs is who makes a signature that was made
// already:
//
//   - A, the socket: the requests of the signature get the answers that they got, as soon
//     as they have been read, and no daemon knows of them.
//   - B, the daemon: it asks a card that gives the answer that it gave, at once.
//   - C, the socket with Go: as A, but before the answer Go's own operation is done once,
//     with another key.
//   - D, the card: it computes the signature again.
//
// What a program takes with A is its own time and the system's, which no daemon and no card
// can make shorter. B less A is the daemon's, and D less C all that is ours.
//
//	go run .ci/replay.go -pin 648219 command argument …
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"hsmemu/applet/apdu"
	"hsmemu/applet/client"
	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/vsmartcard"
	"hsmemu/vsmartcard/pcscd"
)

// The readers, by their names.
const (
	socket       = "A the socket"
	daemonAlone  = "B the daemon, null card"
	socketWithGo = "C the socket with Go"
	withCard     = "D the daemon and the card"
)

// replaying is a card that remembers what it signed last.
type replaying struct {
	*emulator.Card
	mu              sync.Mutex
	command, answer []byte
}

// Transmit implements vsmartcard.Card.
func (r *replaying) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	if len(command) < 2 || command[1] != apdu.InsSign {
		return r.Card.Transmit(ctx, command)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if bytes.Equal(r.command, command) {
		return r.answer, nil
	}
	answer, err := r.Card.Transmit(ctx, command)
	if err == nil && bytes.HasSuffix(answer, []byte{0x90, 0x00}) {
		r.command, r.answer = bytes.Clone(command), bytes.Clone(answer)
	}
	return answer, err
}

// The requests of pcsc-lite's protocol that are looked into, and where in their
// structures is what is needed here.
const (
	headerSize = 8 // size of the structure, command

	connect  = 0x04
	begin    = 0x07
	end      = 0x08
	transmit = 0x09

	nameAt, nameEnd       = headerSize + 4, headerSize + 4 + 128 // of connect
	handleEnd             = headerSize + 4                       // of the others
	lengthAt, transmitEnd = headerSize + 12, headerSize + 32     // of transmit
	answerEnd             = 32                                   // of the structure in the answer to transmit
	connectedAt           = 140                                  // the handle in the answer to connect
)

// listener gives connections that answer again.
type listener struct {
	net.Listener
	bare *bare
}

// Accept implements net.Listener.
func (l listener) Accept() (net.Conn, error) {
	stream, err := l.Listener.Accept()
	return &answering{Conn: stream, in: bufio.NewReader(stream), bare: l.bare, readers: map[string]*again{}}, err
}

// bare is Go's own operations.
type bare struct {
	rsa    *rsa.PrivateKey
	ec     *ecdsa.PrivateKey
	digest [sha256.Size]byte
}

func newBare() (*bare, error) {
	ofRSA, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	ofEC, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return &bare{ofRSA, ofEC, sha256.Sum256([]byte("measured"))}, err
}

// sign signs with the key of the kind that an answer of so many bytes is of.
func (b *bare) sign(length int) (err error) {
	if length > b.rsa.Size() {
		_, err = rsa.SignPKCS1v15(nil, b.rsa, crypto.SHA256, b.digest[:])
	} else {
		_, err = ecdsa.SignASN1(rand.Reader, b.ec, b.digest[:])
	}
	return err
}

// again is a reader without a daemon behind it.
type again struct {
	compute bool
	known   map[string][]byte // answers
	signed  bool              // and the transaction of it was ended
}

// answering is a connection of a client, whose requests the daemon reads unless they are
// of a signature that was made already, in a reader that has none behind it.
type answering struct {
	net.Conn
	in      *bufio.Reader
	bare    *bare
	asked   []byte            // the request that the daemon has
	rest    []byte            // what it has not read of that
	readers map[string]*again // by their handles
}

// Read implements net.Conn, for the daemon.
func (a *answering) Read(b []byte) (int, error) {
	for len(a.rest) == 0 {
		request, err := a.request()
		if err != nil {
			return 0, err
		}
		if r := a.reader(request); r != nil && r.signed && r.known[string(request)] != nil {
			answer := r.known[string(request)]
			if r.compute && request[4] == transmit {
				err = a.bare.sign(len(answer) - answerEnd)
			}
			if _, failed := a.Conn.Write(answer); failed != nil || err != nil {
				return 0, errors.Join(err, failed)
			}
			continue
		}
		a.asked, a.rest = request, request
	}
	n := copy(b, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// reader is the one that a request of a signature is about, or nil.
func (a *answering) reader(request []byte) *again {
	switch request[4] {
	case begin, end:
	case transmit:
		if request[transmitEnd+1] != apdu.InsSign {
			return nil
		}
	default:
		return nil
	}
	return a.readers[string(request[headerSize:handleEnd])]
}

// request reads one request.
func (a *answering) request() ([]byte, error) {
	request := make([]byte, headerSize, 512)
	if _, err := io.ReadFull(a.in, request); err != nil {
		return nil, err
	}
	more := func(n uint32) error {
		had := len(request)
		request = append(request, make([]byte, n)...)
		_, err := io.ReadFull(a.in, request[had:])
		return err
	}
	if err := more(binary.NativeEndian.Uint32(request)); err != nil {
		return nil, err
	}
	if request[4] == transmit {
		return request, more(binary.NativeEndian.Uint32(request[lengthAt:]))
	}
	return request, nil
}

// Write implements net.Conn: it is the daemon's answer.
func (a *answering) Write(b []byte) (int, error) {
	asked := a.asked
	a.asked = nil
	switch {
	case asked == nil:
	case asked[4] == connect:
		name, _, _ := bytes.Cut(asked[nameAt:nameEnd], []byte{0})
		if string(name) == socket || string(name) == socketWithGo {
			a.readers[string(b[connectedAt:connectedAt+4])] = &again{compute: string(name) == socketWithGo, known: map[string][]byte{}}
		}
	default:
		if r := a.reader(asked); r != nil {
			r.known[string(asked)] = bytes.Clone(b)
			r.signed = r.signed || asked[4] == end && len(r.known) > 2
		}
	}
	return a.Conn.Write(b)
}

func main() {
	pin := flag.String("pin", "", "user PIN of the cards, which are initialised with it")
	flag.Parse()
	if err := run(*pin, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "replay:", err)
		os.Exit(1)
	}
}

// newCard makes a card that is initialised.
func newCard(ctx context.Context, pin string) (*emulator.Card, error) {
	card, err := emulator.NewCard(chip.Order{}, emulator.System())
	if err != nil {
		return nil, err
	}
	c := client.New(card)
	if _, err := c.Select(ctx); err != nil {
		return nil, err
	}
	return card, c.Initialise(ctx, client.Setup{Options: 1, SOPIN: []byte("57621880"), PIN: []byte(pin), Tries: 3})
}

func run(pin string, command []string) (err error) {
	if len(command) == 0 {
		return errors.New("no command")
	}
	folder, err := os.MkdirTemp("", "replay-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	path := filepath.Join(folder, "pcscd.comm")
	l, err := pcscd.Listen(path)
	if err != nil {
		return err
	}
	operations, err := newBare()
	if err != nil {
		return err
	}
	daemon := pcscd.Run(listener{l, operations})
	defer func() { err = errors.Join(err, daemon.Close()) }()
	for i, name := range []string{socket, daemonAlone, socketWithGo, withCard} {
		card, err := newCard(context.Background(), pin)
		if err != nil {
			return err
		}
		about := pcscd.NitrokeyHSM(card.TokenSerial(), i)
		about.Name = name
		reader, err := daemon.Add(about)
		if err != nil {
			return err
		}
		inserted := vsmartcard.Card(card)
		if name != withCard {
			inserted = &replaying{Card: card}
		}
		if err := reader.Insert(inserted); err != nil {
			return err
		}
	}
	program := exec.Command(command[0], command[1:]...)
	program.Env = append(os.Environ(), pcscd.EnvSocket+"="+path)
	program.Stdout, program.Stderr = os.Stdout, os.Stderr
	return program.Run()
}
