//go:build linux

package control

import (
	"bytes"
	"context"
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
	"hsmemu/emulator/view"
)

// still is a reader in which nothing happens, and what keeps its card.
type still struct{}

func (still) Eject(context.Context) error        { return nil }
func (still) Insert(context.Context) error       { return nil }
func (still) Reset() error                       { return nil }
func (still) Name() string                       { return "Reader 0" }
func (still) Place() string                      { return "here" }
func (still) Turn(context.Context) (Turn, error) { return nobodys{}, nil }
func (still) Save(chip.Durable) error            { return nil }
func (still) Counts() bool                       { return false }
func (still) Generation() uint64                 { return 1 }
func (still) Seal() string                       { return "none" }

// FuzzControl says any lines to a running card: every line that is a request gets
// one line back, and whatever was asked, the card is one afterwards and the next
// who asks is answered.
func FuzzControl(f *testing.F) {
	w := emulator.System()
	made, err := emulator.NewCard(chip.Order{Serial: "DENK9900001"}, w)
	require.NoError(f, err)
	d := made.Snapshot().Durable()
	args, err := json.Marshal(restoration{State: d})
	require.NoError(f, err)
	whole, err := json.Marshal(request{Version: Version, Do: verbRestore, Args: args})
	require.NoError(f, err)
	f.Add(whole)
	line := func(do, args string) string {
		if args == "" {
			return `{"version":1,"do":"` + do + `"}` + "\n"
		}
		return `{"version":1,"do":"` + do + `","args":` + args + "}\n"
	}
	for _, said := range []string{
		line("eject", "") + line("show", "") + line("insert", "") + line("reset", `{"force":true}`),
		line("transmit", `{"apdu":"AKQEDAvoKwYBBAGBwx8CAQ=="}`) + line("transmit", `{"apdu":"ACAAgQA="}`),
		line("fault", `{"name":"transmit","settings":["after=1","at=sign"]}`) + line("faults", "") + line("clear", ""),
		line("fault", `{"name":"remove"}`) + line("fault", `{"name":"slow","settings":["sign=2s"]}`) + line("fault", ""),
		line("watch", "") + line("eject", ""), line("restore", ""), line("restore", `{"state":null}`), line("restore", `{"state":{}}`),
		line("nothing", ""), "[]", "null", "\n", line("transmit", `{"apdu":"zz"}`), `{"do":"show"}`, `{"version":2}`,
	} {
		f.Add([]byte(said))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		synctest.Test(t, func(t *testing.T) {
			card, err := emulator.New(d, still{}, emulator.World{Rand: rand.NewChaCha8([32]byte{1}), RSA: w.RSA, Clock: time.Now})
			require.NoError(t, err)
			c := New("alice", card, still{})
			c.Reader = still{}

			lines := talked(t, c, said)
			for _, line := range lines {
				var r reply
				require.NoError(t, json.Unmarshal(line, &r), "%s", line)
			}
			require.LessOrEqual(t, len(lines), bytes.Count(said, []byte("\n"))+1)
			require.NoError(t, card.Snapshot().Durable().Check())
			lines = talked(t, c, []byte(`{"version":1,"do":"show"}`))
			require.Len(t, lines, 1)
			var r reply
			require.NoError(t, json.Unmarshal(lines[0], &r))
			shown, err := unmarshal[view.Card](r.Result)
			require.NoError(t, err)
			require.Equal(t, "alice", shown.Name)
		})
	})
}

// talked gives the lines that come back, until nothing moves any more.
func talked(t *testing.T, c *Card, said []byte) [][]byte {
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
	time.Sleep(time.Hour) //nolint:forbidigo // of a clock that moves on when nothing else does
	require.NoError(t, client.Close())
	<-ended
	<-read
	return bytes.Split(bytes.TrimSuffix(out.Bytes(), []byte("\n")), []byte("\n"))
}
