package site_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"path"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/portal/records"
	"hsmemu/emulator/portal/service"
)

// listen begins a stream of events of a request, and reads until the first event.
func (p *person) listen(ctx context.Context, request string) (status int, stream *bufio.Reader) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+request+"/events", http.NoBody)
	require.NoError(p.t, err)
	answer, err := p.Do(r)
	require.NoError(p.t, err)
	p.t.Cleanup(func() { _ = answer.Body.Close() }) // the test has ended it
	stream = bufio.NewReader(answer.Body)
	if answer.StatusCode == http.StatusOK {
		for line := ""; !strings.HasPrefix(line, "data: "); {
			line, err = stream.ReadString('\n')
			require.NoError(p.t, err)
		}
	}
	return answer.StatusCode, stream
}

// ends reads what is still told, and reports the end of a stream.
func ends(t testing.TB, stream *bufio.Reader) (told string) {
	rest, err := io.ReadAll(stream)
	require.NoError(t, err, "it goes on")
	return string(rest)
}

// submitted is a person of his own, with a request that waits for a card.
func (p *portal) submitted(n int) (v *person, request string) {
	v = p.registered(n)
	request = v.post("/se/requests", "type", "FirmwareUpdate").path
	require.Equal(p.t, http.StatusOK, v.post(request, "action", "Submit", "token", "0").status)
	return v, request
}

// One account has no more than 16 streams of events, and others have theirs.
func TestEvents_LimitOfAnAccount(t *testing.T) {
	t.Parallel()
	p := open(t)
	v, request := p.submitted(1)
	other, another := p.submitted(2)
	ctx, end := context.WithTimeout(t.Context(), patience)
	defer end()
	first, leave := context.WithCancel(ctx)
	for n := range 16 {
		at := ctx
		if n == 0 {
			at = first
		}
		status, _ := v.listen(at, request)
		require.Equal(t, http.StatusOK, status)
	}
	status, _ := v.listen(ctx, request)
	require.Equal(t, http.StatusTooManyRequests, status)
	status, _ = other.listen(ctx, another)
	require.Equal(t, http.StatusOK, status)
	leave()
	require.Eventually(t, func() bool {
		status, _ := v.listen(ctx, request)
		return status == http.StatusOK
	}, patience, 20*time.Millisecond)
}

// A stream ends with its session, however that ends, and with the right to see the
// request. Whatever happens to the request afterwards is not told.
func TestEvents_EndWithTheSession(t *testing.T) {
	t.Parallel()
	for name, does := range map[string]func(*portal, *person, string){
		"log-out": func(p *portal, v *person, request string) {
			require.Equal(p.t, http.StatusOK, v.post("/se/logout").status)
			id, err := strconv.ParseInt(path.Base(request), 10, 64)
			require.NoError(p.t, err)
			_, err = p.Service.Do(p.t.Context(), service.Actor{Account: 1}, id, service.DoCancel, service.Data{})
			require.NoError(p.t, err)
		},
		"expiry": func(p *portal, _ *person, _ string) {
			require.NoError(p.t, p.Records.Write(p.t.Context(), func(tx *records.Tx) error {
				_, err := tx.Exec("UPDATE sessions SET expires = expires - 1000000")
				return err
			}))
		},
		"no longer the person's": func(p *portal, _ *person, _ string) {
			require.NoError(p.t, p.Records.Write(p.t.Context(), func(tx *records.Tx) error {
				_, err := tx.Exec("UPDATE requests SET account = NULL")
				if err == nil {
					_, err = tx.Exec("DELETE FROM roles")
				}
				return err
			}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := open(t)
			v, request := p.submitted(1)
			ctx, end := context.WithTimeout(t.Context(), patience)
			defer end()
			status, stream := v.listen(ctx, request)
			require.Equal(t, http.StatusOK, status)
			does(p, v, request)
			require.NotContains(t, ends(t, stream), "event:")
			require.NoError(t, ctx.Err())
		})
	}
}

// A browser that listens, or comes again, does not keep a session that nobody uses.
func TestEvents_DoNotProlong(t *testing.T) {
	t.Parallel()
	p := open(t)
	v, request := p.submitted(1)
	require.NoError(t, p.Records.Write(t.Context(), func(tx *records.Tx) error {
		_, err := tx.Exec("UPDATE sessions SET expires = expires - 600")
		return err
	}))
	before := p.count("SELECT expires FROM sessions")
	status, _ := v.listen(t.Context(), request)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, before, p.count("SELECT expires FROM sessions"))
	require.Equal(t, http.StatusOK, v.get(request).status)
	require.Greater(t, p.count("SELECT expires FROM sessions"), before)
}
