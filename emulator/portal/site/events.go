package site

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"hsmemu/emulator/portal/account"
	"hsmemu/emulator/portal/service"
	"hsmemu/emulator/web"
)

const (
	// streamsOfAccount is how many streams of events one account has at a time: a page
	// of a request has one. streamsMax is how many there are in all.
	streamsOfAccount, streamsMax = 16, 1000
	// lookAgain is how long a silent stream outlives its session at most. What happens
	// then is not told in any case.
	lookAgain = 2 * time.Second
)

// streams counts those who listen. The zero value counts from none.
type streams struct {
	mu  sync.Mutex
	of  map[int64]int // by account
	all int
}

// enter counts one more. The status is not 200 where that would be one too many.
func (s *streams) enter(account int64) (status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.of[account] >= streamsOfAccount:
		return http.StatusTooManyRequests
	case s.all >= streamsMax:
		return http.StatusServiceUnavailable
	case s.of == nil:
		s.of = map[int64]int{}
	}
	s.of[account]++
	s.all++
	return http.StatusOK
}

func (s *streams) leave(account int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.of[account]--; s.of[account] == 0 {
		delete(s.of, account)
	}
}

// events streams what happens to a request, as server-sent events, for as long as the
// session lasts and the request is one that the person may see. To listen is no use of
// the session: a page that was left open does not keep it.
func (s *site) events(w http.ResponseWriter, r *http.Request, p account.Session) error {
	id, err := of(r)
	if err != nil {
		return err
	}
	happens, stop := s.Service.Watch(id)
	defer stop()
	request, err := s.Service.Get(r.Context(), p.Actor(), id)
	if err != nil {
		return err
	}
	if status := s.streams.enter(p.Account.ID); status != http.StatusOK {
		w.Header().Set("Retry-After", "5")
		http.Error(w, "Too many are listening.", status)
		return nil
	}
	defer s.streams.leave(p.Account.ID)
	feed := web.Feed{Recall: true} // how it stands may be said before anybody listens
	say := func(percent int, word service.Word, text string) {
		line, _ := json.Marshal(struct { // strings and numbers
			Percent int          `json:"percent"`
			Word    service.Word `json:"word"`
			Text    string       `json:"text"`
			End     bool         `json:"end"`
		}{percent, word, text, word != service.Submit && word != service.Running})
		feed.Say("progress", string(line))
	}
	ctx, end := context.WithCancel(r.Context())
	pumped := make(chan struct{})
	defer func() { end(); <-pumped }()
	go func() {
		defer close(pumped)
		defer end() // a browser that has fallen behind comes again and reads how far it is
		again := time.NewTicker(lookAgain)
		defer again.Stop()
		say(-1, request.Word, "")
		for {
			var e service.Progress
			told := false
			select {
			case e, told = <-happens:
				if !told {
					return
				}
			case <-again.C:
			case <-ctx.Done():
				return
			}
			if !s.listens(ctx, r, p, id) {
				return
			}
			if told {
				say(e.Percent, e.Word, e.Text)
			}
		}
	}()
	listener := r.Clone(ctx)
	listener.Header.Del("Last-Event-ID") // of another stream, with numbers of its own
	_ = feed.Serve(w, listener)          // the listener has gone, or is too slow: its browser comes again
	return nil
}

// listens reports whether the session of a request still is the person's, who may still
// see a service request.
func (s *site) listens(ctx context.Context, r *http.Request, p account.Session, request int64) bool {
	_, now, err := s.look(r)
	if err != nil || !now.Renewed || now.Account.ID != p.Account.ID {
		return false
	}
	_, err = s.Service.Get(ctx, now.Actor(), request)
	return err == nil
}
