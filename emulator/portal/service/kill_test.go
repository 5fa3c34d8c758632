//go:build linux

package service_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/portal/records"
	"hsmemu/emulator/portal/service"
	"hsmemu/emulator/ram"
)

// Variables of the process that is killed: the folder of the portal, and how many bytes
// more than it has its files may grow to.
const (
	victimFolder = "HSMEMU_TEST_PORTAL"
	victimLimit  = "HSMEMU_TEST_PORTAL_LIMIT"
)

// TestMain is also the portal that tests kill.
func TestMain(m *testing.M) {
	if folder := os.Getenv(victimFolder); folder != "" {
		if err := victim(folder); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// victim is a portal in which one person has asked for an update. It ends when it is
// killed.
func victim(folder string) error {
	w, err := openFolder(folder)
	if err != nil {
		return err
	}
	by := service.Actor{Account: 1}
	err = w.store.Write(context.Background(), func(tx *records.Tx) error {
		_, err := tx.Exec("INSERT OR IGNORE INTO accounts (id, email, created) VALUES (1, 'alice@example.org', 0)")
		if err == nil {
			_, err = tx.Exec("INSERT OR IGNORE INTO roles (account, role) VALUES (1, 'Subscriber')")
		}
		return err
	})
	if err != nil {
		return err
	}
	list, err := w.List(context.Background(), by, service.Page{Most: 1})
	if err != nil {
		return err
	}
	if len(list) == 0 || list[0].Word != service.Submit && list[0].Word != service.Running {
		r, err := w.Start(context.Background(), by, service.FirmwareUpdate, service.Data{})
		if err == nil {
			_, err = w.Do(context.Background(), by, r.ID, service.DoSubmit, service.Data{})
		}
		if err != nil {
			return err
		}
	}
	if text := os.Getenv(victimLimit); text != "" {
		if err := limit(folder, text); err != nil {
			return err
		}
	}
	w.sessions.users["alice"] = by
	s := &ram.Server{Services: map[string]ram.Service{"paas": w.Serve}, Known: func(session string) bool { return session == "alice" }}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("http://%s/rt/paas\n", l.Addr())
	return ram.NewHTTPServer(s).Serve(l)
}

// limit lets no file grow by more than so many bytes, as a full disk does.
func limit(folder, text string) error {
	more, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return err
	}
	var size uint64
	for _, name := range []string{"records.db", "records.db-wal"} {
		if info, err := os.Stat(filepath.Join(folder, name)); err == nil {
			size = max(size, uint64(info.Size()))
		}
	}
	signal.Ignore(syscall.SIGXFSZ)
	return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: size + more, Max: size + more})
}

// portalProcess is a victim.
type portalProcess struct {
	command *exec.Cmd
	url     string
}

func start(t *testing.T, folder string, environment ...string) portalProcess {
	t.Helper()
	p := portalProcess{command: exec.Command(os.Args[0])}
	p.command.Env = append(append(os.Environ(), victimFolder+"="+folder), environment...)
	p.command.Stderr = os.Stderr
	out, err := p.command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.command.Start())
	p.url, err = bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err, "the portal does not open its folder")
	p.url = strings.TrimSpace(p.url)
	return p
}

// kill ends it as kill -9 does.
func (p portalProcess) kill() {
	_ = p.command.Process.Kill()
	_ = p.command.Wait()
}

// connect has a card updated, and returns what the person hears last.
func (p portalProcess) connect(ctx context.Context, r *reader, session string) (last ram.Notice, err error) {
	agent := &ram.Agent{Card: r, Notice: func(n ram.Notice) { last = n }}
	return last, agent.Run(ctx, p.url+session)
}

// The portal is killed at any moment, again and again: its folder opens each time, and
// the request can be finished, in the session of its owner or without one. This takes
// up to 40 seconds, or 5 in short mode.
func TestKilled(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "portal")
	until := time.Now().Add(map[bool]time.Duration{true: 5 * time.Second, false: 40 * time.Second}[testing.Short()])
	random := rand.New(rand.NewPCG(1, 2))
	kills, cards := 0, 1
	r := &reader{Card: situation{firmware: "4.0"}.card(t, "card 0")}
	for kills < 400 && time.Now().Before(until) {
		p := start(t, folder)
		session := "/alice"
		if random.IntN(3) == 0 {
			session = ""
		}
		if random.IntN(8) > 0 {
			kills++
			killer := time.AfterFunc(time.Duration(random.IntN(250))*time.Millisecond, func() { _ = p.command.Process.Kill() })
			_, err := p.connect(t.Context(), r, session)
			killer.Stop()
			p.kill()
			if err != nil {
				continue
			}
		} else {
			_, err := p.connect(t.Context(), r, "/alice")
			require.NoError(t, err)
			p.kill()
		}
		if r.Durable().Firmware == "4.1" && r.State.Durable().Manager.Stage == "" {
			r = &reader{Card: situation{firmware: "4.0"}.card(t, fmt.Sprint("card ", cards))}
			cards++
		}
	}
	p := start(t, folder)
	_, err := p.connect(t.Context(), r, "/alice")
	require.NoError(t, err)
	p.kill()
	require.Equal(t, "4.1", r.Durable().Firmware)
	w, err := openFolder(folder)
	require.NoError(t, err)
	defer func() { require.NoError(t, w.store.Close()) }()
	require.Zero(t, w.count(t, "SELECT COUNT(*) FROM updates"))
	require.Zero(t, w.count(t, "SELECT COUNT(*) FROM requests WHERE state = 'Running'"))
	require.Equal(t, 2*cards, w.count(t, "SELECT COUNT(*) FROM devices"), "each of the cards has two identities, and no more")
	require.Equal(t, 1000-cards, w.count(t, "SELECT licences FROM issuers"))
	// A name that was chosen before the card heard of anything is not used again.
	require.GreaterOrEqual(t, w.count(t, "SELECT COUNT(*) FROM names"), cards)
	t.Logf("killed %d times over %d cards", kills, cards)
}

// A disk is full at any moment: nothing is said that could not be saved, and with room
// again the same request is finished. RLIMIT_FSIZE stands for the disk, so this needs
// no privilege and no file system of its own.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "portal")
	failed := 0
	for n, more := range []int{0, 4 << 10, 8 << 10, 16 << 10, 32 << 10, 48 << 10, 64 << 10, 96 << 10, 128 << 10, 192 << 10, 1 << 20} {
		r := &reader{Card: situation{firmware: "4.0"}.card(t, fmt.Sprint("card ", n))}
		p := start(t, folder, victimLimit+"="+strconv.Itoa(more))
		_, err := p.connect(t.Context(), r, "/alice")
		p.kill()
		if err != nil {
			failed++
			require.False(t, errors.Is(err, ram.CodeUnreachable), "the portal goes on: %v", err)
		}
		p = start(t, folder)
		_, err = p.connect(t.Context(), r, "/alice")
		require.NoError(t, err)
		p.kill()
		require.Equal(t, "4.1", r.Durable().Firmware, "%d bytes", more)
		require.Empty(t, r.State.Durable().Manager.Stage)
	}
	require.Greater(t, failed, 3)
	w, err := openFolder(folder)
	require.NoError(t, err)
	defer func() { require.NoError(t, w.store.Close()) }()
	require.Zero(t, w.count(t, "SELECT COUNT(*) FROM updates"))
	require.Equal(t, 22, w.count(t, "SELECT COUNT(*) FROM devices"))
}
