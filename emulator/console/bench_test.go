//go:build linux

package console_test

import (
	"context"
	"net"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/apdu"
	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/control"
	"hsmemu/vsmartcard/pcscd"
)

// bare is a card in a private daemon that has no console, and a program that uses it.
func bare(b *testing.B) *class {
	dir := b.TempDir()
	l, socket, remove, err := pcscd.ListenIn("", b.TempDir())
	require.NoError(b, err)
	b.Cleanup(func() { _ = remove() })
	card, err := emulator.NewCard(chip.Order{Like: new(chip.Usual())}, emulator.System())
	require.NoError(b, err)
	ctx, cancel := context.WithCancel(b.Context())
	c := &class{}
	c.private, err = control.Start(ctx, l, socket, []control.Placement{{Name: "bare", Card: card, Kept: kept{}, Socket: dir + "/bare"}})
	require.NoError(b, err)
	client, err := pcscd.Dial(ctx, socket)
	require.NoError(b, err)
	c.program, err = client.Connect(ctx, c.private.Names[0], pcscd.Shared, pcscd.T0|pcscd.T1)
	require.NoError(b, err)
	b.Cleanup(func() {
		_ = client.Close()
		cancel()
		_ = c.private.Close()
	})
	return c
}

// BenchmarkStatus is a status query through a private daemon, one a millisecond as people's
// programs are at most, in turn of a card without console and of one with: median times, and how
// many times the first the second is.
func BenchmarkStatus(b *testing.B) {
	for _, listeners := range []int{0, 1, 200} {
		b.Run(map[int]string{0: "listeners=0", 1: "listeners=1", 200: "listeners=200"}[listeners], func(b *testing.B) {
			with, without := begin(b, "lab"), bare(b)
			pupil := visit(b, with.pupil)
			var hearing sync.WaitGroup
			for range listeners {
				conn := hear(b, pupil)
				require.NoError(b, told(conn, "retry:"))
				require.NoError(b, conn.SetReadDeadline(time.Time{}))
				hearing.Go(func() { drain(conn) })
			}
			with.send(b, selects)
			without.send(b, selects)
			query, err := apdu.ParseHex(ask)
			require.NoError(b, err)
			pace := time.NewTicker(time.Millisecond)
			defer pace.Stop()
			var times [2][]time.Duration
			both := []*class{without, with}
			for turn := 0; b.Loop(); turn++ {
				for k := range both {
					i := (turn + k) % 2 // neither is always the second
					c := both[i]
					<-pace.C
					began := time.Now()
					if _, err := c.program.Transmit(b.Context(), query); err != nil {
						b.Fatal(err)
					}
					times[i] = append(times[i], time.Since(began))
				}
			}
			slices.Sort(times[0])
			slices.Sort(times[1])
			one, other := times[0][len(times[0])/2], times[1][len(times[1])/2]
			b.ReportMetric(float64(one.Nanoseconds()), "ns-without")
			b.ReportMetric(float64(other.Nanoseconds()), "ns-with")
			b.ReportMetric(float64(other)/float64(one), "ratio")
		})
	}
}

func drain(conn net.Conn) {
	b := make([]byte, 1<<16)
	for {
		if _, err := conn.Read(b); err != nil {
			return
		}
	}
}

// BenchmarkEvent is the time from a wrong PIN's answer until 200 listeners have been
// told: the median and the last of them.
func BenchmarkEvent(b *testing.B) {
	c := begin(b, "lab")
	pupil := visit(b, c.pupil)
	all := make([]*ear, 200)
	for i := range all {
		all[i] = hear(b, pupil)
		require.NoError(b, told(all[i], "retry:"))
	}
	c.send(b, selects)
	var medians, lasts []time.Duration
	for b.Loop() {
		c.send(b, right)
		for _, conn := range all {
			require.NoError(b, told(conn, "VERIFY user PIN: done"))
		}
		began := time.Now()
		c.send(b, wrong)
		took := make([]time.Duration, len(all))
		var hearing sync.WaitGroup
		for i, conn := range all {
			hearing.Go(func() {
				if told(conn, "wrong, 2 tries left") == nil {
					took[i] = time.Since(began)
				}
			})
		}
		hearing.Wait()
		slices.Sort(took)
		require.Positive(b, took[0])
		medians, lasts = append(medians, took[len(took)/2]), append(lasts, took[len(took)-1])
	}
	slices.Sort(medians)
	slices.Sort(lasts)
	b.ReportMetric(float64(medians[len(medians)/2].Microseconds())/1000, "ms-median")
	b.ReportMetric(float64(lasts[len(lasts)/2].Microseconds())/1000, "ms-last")
}

// BenchmarkPage is the time until the page of a card has come, with 400 commands on it, beside an
// answer of the same length that is there already.
func BenchmarkPage(b *testing.B) {
	c := begin(b, "lab")
	trainer := visit(b, c.trainer)
	c.send(b, selects)
	for range 200 {
		c.send(b, ask, selects)
	}
	_, body := trainer.get(b, "/card/lab")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	plain := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) })}
	go func() { _ = plain.Serve(l) }()
	b.Cleanup(func() { _ = plain.Close() })
	other := &visitor{http.DefaultClient, "http://" + l.Addr().String()}
	var page, same time.Duration
	for b.Loop() {
		began := time.Now()
		trainer.get(b, "/card/lab")
		between := time.Now()
		other.get(b, "/")
		page, same = page+between.Sub(began), same+time.Since(between)
	}
	b.ReportMetric(float64(page.Microseconds())/1000/float64(b.N), "ms-page")
	b.ReportMetric(float64(same.Microseconds())/1000/float64(b.N), "ms-same-bytes")
	b.ReportMetric(float64(len(body))/1024, "KiB")
}

// BenchmarkMemory is what a listener takes in this process: goroutine, buffers and
// connection, with the little that the other end of it takes here.
func BenchmarkMemory(b *testing.B) {
	c := begin(b, "lab")
	pupil := visit(b, c.pupil)
	used := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	const n = 500
	before := used()
	for range n {
		require.NoError(b, told(hear(b, pupil), "retry:"))
	}
	for b.Loop() {
		b.ReportMetric(float64(used()-before)/n/1024, "KiB/listener")
	}
}
