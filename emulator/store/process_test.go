package store_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/store"
	"hsmemu/keystore/seal"
)

// The environment variable that makes of this test program a process that
// opens a file and saves it for ever, saying the generation of each save.
const childFile = "STORE_TEST_FILE"

func TestMain(m *testing.M) {
	path := os.Getenv(childFile)
	if path == "" {
		os.Exit(m.Run())
	}
	if err := saveForEver(path); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func saveForEver(path string) error {
	f, err := store.Open[value](path, store.Options{Sealers: []seal.Sealer{cheap}})
	if err != nil {
		return err
	}
	fmt.Println("open")
	v, err := f.Load()
	for err == nil {
		v.Tries++
		if err = f.Save(v); err == nil {
			fmt.Println(f.Generation(), v.Tries)
		}
	}
	return err
}

type child struct {
	cmd *exec.Cmd
	out *bufio.Reader
}

func start(t *testing.T, path string) *child {
	t.Helper()
	c := &child{cmd: exec.Command(os.Args[0])}
	c.cmd.Env = append(os.Environ(), childFile+"="+path)
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	require.NoError(t, err)
	c.out = bufio.NewReader(out)
	require.NoError(t, c.cmd.Start())
	t.Cleanup(func() { c.kill() })
	line, err := c.out.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "open\n", line)
	return c
}

// kill ends the process at once and returns what it had said until then.
func (c *child) kill() string {
	if c.cmd.ProcessState != nil {
		return ""
	}
	_ = c.cmd.Process.Kill()
	said, _ := io.ReadAll(c.out)
	_ = c.cmd.Wait()
	return string(said)
}

func TestOpen_AnotherProcess(t *testing.T) {
	t.Parallel()
	path := place(t)
	opt := store.Options{Sealers: []seal.Sealer{cheap}}
	f, err := store.Create(path, value{}, opt)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	c := start(t, path)
	_, err = store.Open[value](path, opt)
	var held *store.LockedError
	require.ErrorAs(t, err, &held)
	require.Equal(t, c.cmd.Process.Pid, held.PID)
	require.ErrorIs(t, store.Remove(path, opt), store.ErrLocked)
	_, err = c.out.ReadString('\n') // it saves while we read
	require.NoError(t, err)
	for range 100 {
		v, info, err := store.Read[value](path, opt)
		require.NoError(t, err)
		require.Equal(t, int(info.Generation), v.Tries+1)
	}
	c.kill()
	g, err := store.Open[value](path, opt)
	require.NoError(t, err, "the lock died with its process")
	require.NoError(t, g.Close())
}

// A process killed at any moment leaves a file that opens and holds at least
// what was acknowledged.
func TestFile_Killed(t *testing.T) {
	t.Parallel()
	path := place(t)
	opt := store.Options{Sealers: []seal.Sealer{cheap}}
	f, err := store.Create(path, value{Files: map[string][]byte{"f": make([]byte, 50_000)}}, opt)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	for range 40 {
		c := start(t, path)
		for range rand.IntN(8) {
			_, err := c.out.ReadString('\n')
			require.NoError(t, err)
		}
		<-time.NewTimer(time.Duration(rand.IntN(2000)) * time.Microsecond).C // somewhere in a save
		var acknowledged int
		for line := range strings.Lines(c.kill()) {
			if generation, _, whole := strings.Cut(line, " "); whole && strings.HasSuffix(line, "\n") {
				acknowledged, err = strconv.Atoi(generation)
				require.NoError(t, err)
			}
		}
		f, err := store.Open[value](path, opt)
		require.NoError(t, err)
		v, err := f.Load()
		require.NoError(t, err)
		require.Equal(t, int(f.Generation()), v.Tries+1)
		require.GreaterOrEqual(t, int(f.Generation()), acknowledged)
		require.NoFileExists(t, path+".tmp")
		require.NoError(t, f.Close())
	}
}

// A program that is just being started has a copy of every open file, until it
// turns into what it is to be. It must not keep a lock that was given back.
func TestFS_LockIsGivenBackWhileProgramsStart(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "card")
	require.NoError(t, store.Write(path, 1, store.Options{}))
	var starting sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		starting.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					_ = exec.Command("true").Run()
				}
			}
		})
	}
	defer starting.Wait()
	defer close(done)
	for range 500 {
		f, err := store.Open[int](path, store.Options{})
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
}

// A lock on a lock file that someone removed in between is no lock.
func TestFS_LockIsRemovedUnderneath(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	var held atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1500 {
				lock, err := store.System.Lock(path)
				if err != nil {
					continue
				}
				if held.Add(1) != 1 {
					t.Error("two hold the lock")
				}
				for range 10 {
					runtime.Gosched()
				}
				held.Add(-1) // from here on another may make the file anew
				_ = os.Remove(path)
				_ = lock.Close()
			}
		})
	}
	wg.Wait()
}

// Only one of many that want a file at the same moment gets it, also while
// others remove it and make it anew.
func TestOpen_ManyAtOnce(t *testing.T) {
	t.Parallel()
	path := place(t)
	var holders sync.Map
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				f, err := store.Open[value](path, store.Options{})
				if err != nil {
					f, err = store.Create(path, value{}, store.Options{})
				}
				if err != nil {
					_ = store.Remove(path, store.Options{})
					continue
				}
				if _, twice := holders.LoadOrStore("holder", f); twice {
					t.Error("two hold the file")
				}
				if err := f.Save(value{Tries: 1}); err != nil {
					t.Error(err)
				}
				holders.Delete("holder")
				if err := f.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// One File serves several goroutines.
func TestFile_ManyGoroutines(t *testing.T) {
	t.Parallel()
	f := create(t, place(t), value{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				if err := f.Save(value{Tries: 1}); err != nil {
					t.Error(err)
				}
				if _, err := f.Load(); err != nil {
					t.Error(err)
				}
				_, _ = f.Generation(), f.Seal()
			}
		})
	}
	wg.Wait()
	require.Equal(t, uint64(81), f.Generation())
}

// A number left in the lock file by a process that is gone, or nonsense, is not
// passed on.
func TestLockedError_UnknownProcess(t *testing.T) {
	t.Parallel()
	path := place(t)
	f := create(t, path, value{})
	cmd := exec.Command("true")
	require.NoError(t, cmd.Run())
	for _, said := range []string{"", "x", "-1", "0", strconv.Itoa(cmd.Process.Pid), strings.Repeat("9", 40)} {
		require.NoError(t, os.WriteFile(path+".lock", []byte(said), 0o600))
		_, err := store.Open[value](path, store.Options{})
		var held *store.LockedError
		require.ErrorAs(t, err, &held)
		require.Zero(t, held.PID, "%q", said)
		require.ErrorContains(t, err, "by another process")
	}
	require.NoError(t, f.Close())
}
