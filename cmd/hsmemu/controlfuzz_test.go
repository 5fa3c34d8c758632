//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator"
	"hsmemu/emulator/chip"
)

// unkept is the store of a card that ends with a test.
type unkept struct{}

func (unkept) Save(chip.Durable) error { return nil }
func (unkept) Counts() bool            { return false }

// FuzzControl says any lines to a running card: every line that is a request
// gets one line back, and whatever was asked, the card is one afterwards and
// the next who asks is answered.
func FuzzControl(f *testing.F) {
	state := f.TempDir()
	a := &app{in: &bytes.Buffer{}, out: io.Discard, err: io.Discard, outside: emulator.System(), env: func(name string) string {
		return map[string]string{"HSMEMU_STATE": state}[name]
	}}
	require.Zero(f, a.run(f.Context(), []string{"card", "new", "alice", "--seed", "1"}))
	h, err := a.hold("alice", refuseAbsent)
	require.NoError(f, err)
	f.Cleanup(func() { require.NoError(f, h.Close()) })
	d := h.card.Snapshot().Durable()
	whole, err := json.Marshal(request{Do: doRestore, State: mustJSON(f, d)})
	require.NoError(f, err)
	f.Add(whole)
	for _, line := range []string{
		`{"do":"eject"}` + "\n" + `{"do":"show"}` + "\n" + `{"do":"insert"}` + "\n" + `{"do":"reset"}`,
		`{"do":"transmit","apdu":"00A4040C0BE82B0601040181C31F0201"}` + "\n" + `{"do":"transmit","apdu":"0020008100"}`,
		`{"do":"fault","words":["transmit","after=1","at=sign"]}` + "\n" + `{"do":"faults"}` + "\n" + `{"do":"clear"}`,
		`{"do":"fault","words":["remove"]}`, `{"do":"fault","words":["latency","sign=2s"]}`, `{"do":"fault"}`,
		`{"do":"trace"}` + "\n" + `{"do":"eject"}`, `{"do":"restore"}`, `{"do":"restore","state":null}`, `{"do":"restore","state":{}}`,
		`{"do":"nothing"}`, "[]", "null", "\n", `{"do":"transmit","apdu":"zz"}`,
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		synctest.Test(t, func(t *testing.T) {
			w := emulator.World{Rand: rand.NewChaCha8([32]byte{1}), RSA: a.outside.RSA, Clock: time.Now}
			c := *h
			var err error
			c.card, err = emulator.New(d, unkept{}, w)
			require.NoError(t, err)
			c.faults = emulator.NewFaults(c.card)
			control := &control{app: a, held: &c, reader: &shelf{}}

			lines := answered(t, control, said)
			for _, line := range lines {
				var r reply
				require.NoError(t, json.Unmarshal(line, &r), "%s", line)
			}
			require.LessOrEqual(t, len(lines), bytes.Count(said, []byte("\n"))+1)
			require.NoError(t, c.card.Snapshot().Durable().Check())
			lines = answered(t, control, []byte(`{"do":"show"}`))
			require.Len(t, lines, 1)
			var r reply
			require.NoError(t, json.Unmarshal(lines[0], &r))
			require.NotNil(t, r.View)
		})
	})
}

func mustJSON(t testing.TB, d chip.Durable) []byte {
	t.Helper()
	b, err := json.Marshal(d)
	require.NoError(t, err)
	return b
}

// answered gives the lines that come back, until nothing moves any more.
func answered(t *testing.T, c *control, said []byte) [][]byte {
	t.Helper()
	client, server := net.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.talk(t.Context(), server)
	}()
	var out bytes.Buffer
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(&out, client)
	}()
	go func() {
		_, _ = client.Write(append(bytes.Clone(said), '\n'))
	}()
	time.Sleep(time.Hour) // of a clock that moves on when nothing else does
	require.NoError(t, client.Close())
	<-ended
	<-read
	return bytes.Split(bytes.TrimSuffix(out.Bytes(), []byte("\n")), []byte("\n"))
}
