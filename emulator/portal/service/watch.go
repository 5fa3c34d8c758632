package service

// Progress is something that happened to a request.
type Progress struct {
	Request int64
	// Percent is how far the work on a card is, and −1 for everything else.
	Percent int
	Word    Word
	Text    string
}

// Room is how many things a listener may be behind.
const Room = 64

// watcher is somebody who listens.
type watcher struct{ events chan Progress }

// Watch listens to a request; the caller has seen that the person may see it. The
// channel is closed by stop, and for a listener that is more than Room behind: whoever
// reads slowly does not hold up a card, and looks at the log instead.
func (s *Service) Watch(request int64) (events <-chan Progress, stop func()) {
	w := &watcher{make(chan Progress, Room)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watching[request] == nil {
		s.watching[request] = map[*watcher]bool{}
	}
	s.watching[request][w] = true
	return w.events, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.drop(request, w)
	}
}

// drop ends a listener, once.
func (s *Service) drop(request int64, w *watcher) {
	if !s.watching[request][w] {
		return
	}
	close(w.events)
	if delete(s.watching[request], w); len(s.watching[request]) == 0 {
		delete(s.watching, request)
	}
}

// tell tells everybody who listens, and waits for nobody.
func (s *Service) tell(p Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.watching[p.Request] {
		select {
		case w.events <- p:
		default:
			s.drop(p.Request, w)
		}
	}
}
