//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// readers is Debian's PC/SC daemon with virtual readers of its own. The daemon
// gets its listening socket from us, in the way a service manager would hand it
// over, and so needs neither root nor /run/pcscd: any number of them run side by
// side, also beside the machine's own. Clients find it by env.
type readers struct {
	dir  string // socket, configuration and log
	port int    // of the first reader; the others follow
	n    int    // how many, even: vpcd makes two at a time
	dial bool   // vpcd connects to the cards instead of waiting for them
	cmd  *exec.Cmd
}

const (
	pcscdPath = "/usr/sbin/pcscd"
	vpcdPath  = "/usr/lib/pcsc/drivers/serial/libifdvpcd.so"
	patience  = time.Minute // far more than anything needs on a loaded machine
	interval  = 20 * time.Millisecond
)

var errPatience = errors.New("it did not happen in time")

// newReaders prepares n readers, at least one, on free ports; start makes them appear.
func newReaders(n int, dial bool) (*readers, error) {
	dir, err := os.MkdirTemp("", "hsmemu-pcscd") // a short path: a socket's name has 107 characters at most
	if err != nil {
		return nil, err
	}
	r := &readers{dir: dir, n: n + n%2, dial: dial}
	if r.port, err = freePorts(r.n); err == nil {
		err = r.configure()
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return r, nil
}

// close stops the daemon and removes its folder.
func (r *readers) close() error { return errors.Join(r.stop(), os.RemoveAll(r.dir)) }

func (r *readers) socket() string { return filepath.Join(r.dir, "pcscd.comm") }

// address is where the first card goes.
func (r *readers) address() string { return net.JoinHostPort("localhost", strconv.Itoa(r.port)) }

// env is what a PC/SC client needs to find these readers, and hsmemu run to fill them.
func (r *readers) env() []string {
	return []string{"PCSCLITE_CSOCK_NAME=" + r.socket(), "VPCD=" + r.address()}
}

// found are ports that freePorts has handed out: others are not to have them before the
// daemon takes them, however long that is.
var found sync.Map

// freePorts finds n consecutive ports that nobody has. They lie below those that
// Linux hands out by itself, so that they stay free until the daemon takes them.
func freePorts(n int) (int, error) {
	for range 100 {
		first, own := 20000+rand.IntN(12000), true
		for port := first; port < first+n; port++ {
			_, others := found.LoadOrStore(port, nil)
			own = own && !others
		}
		if own && free(first, n) {
			return first, nil
		}
	}
	return 0, fmt.Errorf("find %d free ports: %w", n, syscall.EADDRINUSE)
}

func free(first, n int) bool {
	for port := first; port < first+n; port++ {
		l, err := net.Listen("tcp4", ":"+strconv.Itoa(port))
		if err != nil {
			return false
		}
		if l.Close() != nil {
			return false
		}
	}
	return true
}

// configure writes a stanza for each pair of readers. The driver keeps its
// readers in a table of its own, hence a copy of it for every further pair.
func (r *readers) configure() error {
	conf := filepath.Join(r.dir, "reader.conf.d")
	if err := os.Mkdir(conf, 0o755); err != nil {
		return err
	}
	host := "/dev/null"
	if r.dial {
		host = "127.0.0.1" // the driver asks the system, which may not know localhost
	}
	var b strings.Builder
	for i := 0; i < r.n; i += 2 {
		name, driver := "Virtual PCD", vpcdPath
		if i > 0 {
			name = fmt.Sprintf("Virtual PCD %c", 'A'+i/2)
			driver = filepath.Join(r.dir, fmt.Sprintf("vpcd%d.so", i))
			code, err := os.ReadFile(vpcdPath)
			if err != nil {
				return fmt.Errorf("%w: install the package vsmartcard-vpcd", err)
			}
			if err := os.WriteFile(driver, code, 0o644); err != nil {
				return err
			}
		}
		fmt.Fprintf(&b, "FRIENDLYNAME %q\nDEVICENAME %s:%#X\nLIBPATH %s\nCHANNELID %#X\n\n", name, host, r.port+i, driver, r.port+i)
	}
	return os.WriteFile(filepath.Join(conf, "vpcd"), []byte(b.String()), 0o644)
}

// start starts the daemon and returns when it shows all readers.
func (r *readers) start() error {
	for _, needed := range [][2]string{{pcscdPath, "pcscd"}, {vpcdPath, "vsmartcard-vpcd"}} {
		if _, err := os.Stat(needed[0]); err != nil {
			return fmt.Errorf("%w: install the package %s", err, needed[1])
		}
	}
	// It makes this folder even if it needs nothing there, and ends where it may not.
	if _, err := os.Stat("/run/pcscd"); err != nil && os.Geteuid() != 0 {
		return fmt.Errorf("%w: pcscd needs this folder, which systemd makes, and else .ci/install test", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: r.socket()})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	inherited, err := l.File()
	if err != nil {
		return err
	}
	defer inherited.Close()
	log, err := os.OpenFile(filepath.Join(r.dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	// The daemon takes the socket only if it finds its own process number.
	cmd := exec.Command("sh", "-c", `LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"`, "sh",
		pcscdPath, "--foreground", "--config", filepath.Join(r.dir, "reader.conf.d"))
	cmd.ExtraFiles = []*os.File{inherited}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	r.cmd = cmd
	if err := await(func() bool { n, _, err := r.count(); return err == nil && n == r.n }); err != nil {
		said, _ := os.ReadFile(log.Name())
		return errors.Join(fmt.Errorf("wait for %d readers: %w; pcscd said: %s", r.n, err, said), r.stop())
	}
	return nil
}

// stop ends the daemon; its clients and the cards lose their connections.
func (r *readers) stop() error {
	if r.cmd == nil {
		return nil
	}
	cmd := r.cmd
	r.cmd = nil
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	late := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return err
	}
	return os.Remove(r.socket()) // else its clients would wait for an answer
}

// cards waits until exactly n readers hold a card.
func (r *readers) cards(n int) error {
	last := -1
	err := await(func() bool {
		_, present, err := r.count()
		if err == nil {
			last = present
		}
		return present == n && err == nil
	})
	if err != nil {
		return fmt.Errorf("wait for %d cards, seen %d: %w", n, last, err)
	}
	return nil
}

// count asks the daemon for its readers, and how many of them hold a card, in
// version 4.4 of its protocol, which every later one understands.
func (r *readers) count() (readers, cards int, err error) {
	const (
		cmdVersion, cmdStates = 0x11, 0x12
		entries, entrySize    = 16, 184
		stateOffset           = 132
		statePresent          = 0x04
	)
	conn, err := net.Dial("unix", r.socket())
	if err != nil {
		return 0, 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, 0, err
	}
	word := binary.NativeEndian.AppendUint32
	var ask []byte
	for _, w := range []uint32{12, cmdVersion, 4, 4, 0} {
		ask = word(ask, w)
	}
	if _, err := conn.Write(ask); err != nil {
		return 0, 0, err
	}
	if _, err := io.ReadFull(conn, make([]byte, 12)); err != nil {
		return 0, 0, err
	}
	if _, err := conn.Write(word(word(nil, 0), cmdStates)); err != nil {
		return 0, 0, err
	}
	states := make([]byte, entries*entrySize)
	if _, err := io.ReadFull(conn, states); err != nil {
		return 0, 0, err
	}
	for e := states; len(e) > 0; e = e[entrySize:] {
		if e[0] == 0 {
			continue
		}
		readers++
		if binary.NativeEndian.Uint32(e[stateOffset:])&statePresent != 0 {
			cards++
		}
	}
	return readers, cards, nil
}

// await asks until it is so.
func await(so func() bool) error {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(interval) {
		if so() {
			return nil
		}
	}
	return errPatience
}

// runInReaders is the program that the test binary is under the name "readers":
// it starts private readers, two or as many as the first argument says, runs a
// command among them, and hands over its exit code. The demonstration uses it.
//
//	readers [N] -- COMMAND [ARGUMENT]...
func runInReaders() {
	n, args := 2, os.Args[1:]
	if len(args) > 0 && args[0] != "--" {
		v, err := strconv.Atoi(args[0])
		if err != nil {
			fail(2, fmt.Errorf("number of readers: %w", err))
		}
		n, args = v, args[1:]
	}
	if len(args) < 2 || n < 1 || n > 16 {
		fail(2, errors.New("usage: readers [N] -- COMMAND [ARGUMENT]..."))
	}
	code, err := withReaders(n, args[1:])
	if err != nil {
		fail(1, err)
	}
	os.Exit(code)
}

func withReaders(n int, command []string) (code int, err error) {
	r, err := newReaders(n, false)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	if err := r.start(); err != nil {
		return 0, err
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), r.env()...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	signal.Notify(make(chan os.Signal, 1), os.Interrupt) // the command's to answer; what we have started is stopped after it
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		return 0, err
	}
	return cmd.ProcessState.ExitCode(), nil
}

func fail(code int, err error) {
	fmt.Fprintf(os.Stderr, "readers: %v\n", err)
	os.Exit(code)
}
