//go:build linux || darwin || windows

package seal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/google/go-tpm-tools/client"
	legacy "github.com/google/go-tpm/legacy/tpm2"
	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpmutil"
)

const (
	answerWithin = 60 * time.Second // creating a key takes slow TPMs several
	busyPause    = 20 * time.Millisecond
	busyTries    = 500

	headerLen   = 10   // tag, size, response code: TPM 2.0 Part 1, 18
	maxResponse = 4096 // what the kernel's driver has room for
)

// connection is a TPM for the time of one operation. TPMs behind sockets serve
// one client at a time, so nobody keeps one.
type connection struct {
	rwc io.ReadWriteCloser
	// alone tells that no resource manager stands between us and the TPM:
	// what is left in it by a process that died stays there.
	alone bool
	// started tells that the TPM was told to start.
	started bool
}

// connect reaches the TPM at an address: the path of a device node or of a Unix
// socket, or HOST:PORT.
func connect(address string) (*connection, error) {
	if address == "" {
		address = DefaultTPM
	}
	if port, ok := strings.CutPrefix(address, "localhost:"); ok {
		address = "127.0.0.1:" + port // not every machine can look up localhost; it is always this one (RFC 6761, 6.3)
	}
	if !strings.ContainsRune(address, '/') {
		return dial("tcp", address)
	}
	info, err := os.Stat(address)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoTPM, err)
	}
	if info.Mode()&os.ModeSocket != 0 {
		return dial("unix", address)
	}
	f, err := os.OpenFile(address, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoTPM, err)
	}
	return &connection{rwc: f, alone: !strings.Contains(address, "tpmrm")}, nil
}

func dial(network, address string) (*connection, error) {
	d := net.Dialer{Timeout: answerWithin}
	return wrap(d.Dial(network, address))
}

// wrap takes what reaching for a stream came to.
func wrap[C io.ReadWriteCloser](stream C, err error) (*connection, error) {
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoTPM, err)
	}
	return &connection{rwc: framed{stream}, alone: true}, nil
}

// start makes a TPM behind a socket ready, as firmware does for one on a board.
func (c *connection) start() error {
	c.started = true
	_, err := tpm2.Startup{StartupType: tpm2.TPMSUClear}.Execute(c)
	return err
}

// Send sends one command and returns the answer; it implements transport.TPM.
// A TPM that says it is busy is asked again.
func (c *connection) Send(command []byte) ([]byte, error) {
	for try := 0; ; try++ {
		answer, err := tpmutil.RunCommandRaw(c.rwc, command)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNoTPM, err)
		}
		if len(answer) < headerLen {
			return nil, fmt.Errorf("%w: answer of %d bytes", ErrNoTPM, len(answer))
		}
		switch tpm2.TPMRC(binary.BigEndian.Uint32(answer[6:])) {
		case tpm2.TPMRCNVRate, tpm2.TPMRCYielded, tpm2.TPMRCTesting, tpm2.TPMRCRetry:
			if try < busyTries {
				<-time.NewTimer(busyPause).C
				continue
			}
		case tpm2.TPMRCInitialize:
			if !c.started {
				if err := c.start(); err != nil {
					return nil, fmt.Errorf("start the TPM: %w", err)
				}
				continue
			}
		}
		return answer, nil
	}
}

// legacy is the same TPM for the functions of go-tpm-tools. (go-tpm 0.9.8 has
// transport.ToReadWriter for this, but says EOF with the answer, which its own
// other half takes for a failure.)
func (c *connection) legacy() io.ReadWriter { return &conversation{tpm: c} }

// conversation gives the answer to each Write with one Read.
type conversation struct {
	tpm    transport.TPM
	answer []byte
}

func (c *conversation) Write(p []byte) (n int, err error) {
	c.answer, err = c.tpm.Send(p)
	return len(p), err
}

func (c *conversation) Read(p []byte) (int, error) {
	n := copy(p, c.answer)
	c.answer = c.answer[n:]
	return n, nil
}

// full reports whether an error says that the TPM has no room for another object
// or session.
func full(err error) bool {
	if w, ok := errors.AsType[legacy.Warning](err); ok {
		return w.Code == legacy.RCObjectMemory || w.Code == legacy.RCSessionMemory || w.Code == legacy.RCSessionHandles
	}
	return errors.Is(err, tpm2.TPMRCObjectMemory) || errors.Is(err, tpm2.TPMRCSessionMemory) ||
		errors.Is(err, tpm2.TPMRCSessionHandles)
}

// empty removes what processes that died have left loaded.
func (c *connection) empty() error {
	rw := c.legacy()
	for _, kind := range []legacy.HandleType{legacy.HandleTypeTransient, legacy.HandleTypeLoadedSession} {
		handles, err := client.Handles(rw, kind)
		if err != nil {
			return fmt.Errorf("what is loaded in the TPM: %w", err)
		}
		for _, h := range handles {
			if err := legacy.FlushContext(rw, h); err != nil {
				return fmt.Errorf("flush %#x: %w", h, err)
			}
		}
	}
	return nil
}

// framed makes one Read of one answer out of a stream, and gives up on a TPM
// that does not answer.
type framed struct{ io.ReadWriteCloser }

func (f framed) Write(p []byte) (int, error) {
	defer f.patience()()
	return f.ReadWriteCloser.Write(p)
}

func (f framed) Read(p []byte) (int, error) {
	defer f.patience()()
	if len(p) < headerLen {
		return 0, io.ErrShortBuffer
	}
	if _, err := io.ReadFull(f.ReadWriteCloser, p[:headerLen]); err != nil {
		return 0, err
	}
	size := int(binary.BigEndian.Uint32(p[2:]))
	if size < headerLen || size > maxResponse || size > len(p) {
		return 0, fmt.Errorf("answer claims %d bytes", size)
	}
	_, err := io.ReadFull(f.ReadWriteCloser, p[headerLen:size])
	return size, err
}

// patience closes the connection unless what it returns is called in time.
func (f framed) patience() (done func()) {
	ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
	stop := context.AfterFunc(ctx, func() {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			_ = f.Close()
		}
	})
	return func() { stop(); cancel() }
}
