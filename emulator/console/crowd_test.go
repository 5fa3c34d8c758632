//go:build linux

package console_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// ear is a bare connection with what was read of it and not used yet.
type ear struct {
	net.Conn
	lines *bufio.Reader
}

func (e *ear) Read(b []byte) (int, error) { return e.lines.Read(b) }

// hear opens the events of somebody who was let in.
func hear(t testing.TB, v *visitor) *ear { return hearAt(t, v, "/events") }

func hearAt(t testing.TB, v *visitor, path string) *ear {
	t.Helper()
	host := strings.TrimPrefix(v.base, "http://")
	conn, err := net.Dial("tcp", host)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, v.base+path, nil)
	require.NoError(t, err)
	cookies := v.Jar.Cookies(r.URL)
	require.NotEmpty(t, cookies)
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nCookie: %s=%s\r\n\r\n", path, host, cookies[0].Name, cookies[0].Value)
	require.NoError(t, err)
	return &ear{conn, bufio.NewReaderSize(conn, 512)}
}

// told waits until a connection is told something.
func told(conn *ear, what string) error {
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	for {
		line, err := conn.lines.ReadString('\n')
		if err != nil {
			return fmt.Errorf("waiting for %q: %w", what, err)
		}
		if strings.Contains(line, what) {
			return nil
		}
	}
}

// A thousand look, and one more is refused; the card and the trainer do not notice. Those who look
// and do not read are dropped.
func TestConsole_AThousandListeners(t *testing.T) {
	c := begin(t, "lab")
	pupil, trainer := visit(t, c.pupil), visit(t, c.trainer)
	all := make([]*ear, 1000)
	for i := range all {
		all[i] = hear(t, pupil)
	}
	for _, conn := range all {
		require.NoError(t, told(conn, "retry:"))
	}
	require.NoError(t, told(hear(t, pupil), " 503 "))
	own := hear(t, trainer)
	require.NoError(t, told(own, "retry:"))
	require.Equal(t, "63C2", c.send(t, selects, wrong))
	require.NoError(t, told(own, "wrong, 2 tries left"))
	var hearing sync.WaitGroup
	failed := make(chan error, len(all))
	for _, conn := range all {
		hearing.Go(func() { failed <- told(conn, "wrong, 2 tries left") })
	}
	hearing.Wait()
	for range all {
		require.NoError(t, <-failed)
	}
	status, _ := trainer.get(t, "/card/lab")
	require.Equal(t, http.StatusOK, status)
}

// Somebody who does not read holds up nobody.
func TestConsole_ASlowListener(t *testing.T) {
	c := begin(t, "lab")
	pupil := visit(t, c.pupil)
	slow := hear(t, pupil) // reads nothing
	require.NoError(t, slow.Conn.(*net.TCPConn).SetReadBuffer(1024))
	fast := hear(t, pupil)
	require.NoError(t, told(fast, "retry:"))
	for range 40 {
		c.send(t, selects, ask, selects, ask, selects, ask, selects, ask, wrong, right)
		require.NoError(t, told(fast, "VERIFY user PIN: done")) // or it would be a slow one, too, where all comes at once
	}
	c.send(t, wrong, wrong)
	require.NoError(t, told(fast, "wrong, 1 try left"))
}

// What happens between a page and its events is told, whether somebody else listens or not.
func TestConsole_APageMissesNothingUntilItListens(t *testing.T) {
	c := begin(t, "lab")
	trainer, pupil := visit(t, c.trainer), visit(t, c.pupil)
	c.send(t, selects)
	try := func(v *visitor, left string) {
		_, body := v.get(t, "/card/lab")
		after := regexp.MustCompile(`data-after="(\d+)"`).FindStringSubmatch(body)
		require.NotNil(t, after)
		require.NotContains(t, body, left)
		c.send(t, wrong)
		eventually(t, "it is noted", func() bool {
			_, text := v.get(t, "/card/lab/transcript")
			return strings.Contains(text, left)
		})
		for _, what := range []string{`"id":"row-`, `"id":"counters"`} {
			require.NoError(t, told(hearAt(t, v, "/events?after="+after[1]), what))
		}
	}
	try(pupil, "wrong, 2 tries left")
	try(trainer, "wrong, 1 try left")
}

// The page of a card that is out is there, and buttons say why they do not work.
func TestConsole_ACardTakenOutWhileItsPageIsOpen(t *testing.T) {
	c := begin(t, "lab")
	trainer := visit(t, c.trainer)
	own := hear(t, trainer)
	require.NoError(t, told(own, "retry:"))
	require.NoError(t, c.private.Cards[0].Eject(t.Context()))
	require.NoError(t, told(own, "out of its reader"))
	for _, path := range []string{"reset", "snapshot", "back", "clear", "hold"} {
		status, body := trainer.post(t, "/card/lab/"+path, "name", "out", "moment", "1", "what", "pin")
		require.Contains(t, []int{http.StatusOK, http.StatusConflict}, status, body)
		require.Contains(t, body, `id="said"`)
	}
	require.True(t, c.private.Cards[0].Show().Running.Ejected)
	require.NoError(t, c.private.Cards[0].Insert(t.Context()))
	require.NoError(t, own.SetReadDeadline(time.Time{}))
	_, err := io.WriteString(own, "") // still open
	require.NoError(t, err)
}
