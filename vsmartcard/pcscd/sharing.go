package pcscd

import "time"

// handle is a client's hold on a card or reader. All but the fixed fields are
// under the reader's lock.
type handle struct {
	conn   *conn
	reader *Reader
	number uint32

	protocol  Protocol // as the client was told; used by its goroutine only
	exclusive bool
	event     Code // ErrReset or ErrRemoved, until the client reconnects
}

// beginPatience is how long the start of a transaction waits for the end of
// another before it has the client ask again (spec 08 C5).
const beginPatience = 100 * time.Millisecond

// foreign reports whether another handle holds the card.
func (r *Reader) foreign(h *handle) bool { return r.owner != nil && r.owner != h }

// check makes the checks that most requests have in common.
func (r *Reader) check(h *handle) Code {
	switch {
	case r.closed:
		return ErrReaderUnavailable
	case r.foreign(h):
		return ErrSharingViolation
	}
	return h.event
}

// connect makes h one of the reader's handles (spec 08 C3).
func (r *Reader) connect(h *handle, share Share, protocols Protocol) Code {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		switch {
		case r.closed:
			return ErrReaderUnavailable
		case r.state.Sharing < 0:
			return ErrSharingViolation
		case r.owner != nil:
			if code := r.untilFree(h); code != OK {
				return code
			}
			continue
		case share == Exclusive && r.state.Sharing > 0:
			return ErrSharingViolation
		}
		if share == Direct {
			break
		}
		if r.in == nil || !r.in.shown {
			return ErrNoSmartcard
		}
		if r.in.powered {
			break
		}
		code := r.powerUp(r.in)
		r.publish()
		if code != OK {
			return code
		}
	}
	protocol, code := r.negotiate(share, protocols)
	if code != OK {
		r.arm() // it may have got power for this
		return code
	}
	h.protocol = protocol
	r.disarm()
	r.handles[h] = true
	if share == Exclusive {
		h.exclusive = true
		r.owner, r.locks = h, 1
	}
	r.share()
	return OK
}

// untilFree waits for the end of another's transaction. A client that holds
// the card itself, by another handle, would wait for ever.
func (r *Reader) untilFree(h *handle) Code {
	if r.owner.conn == h.conn {
		return ErrSharingViolation
	}
	lost, stop := h.conn.watch()
	defer stop()
	for r.foreign(h) && !r.closed {
		if !r.await(lost, nil) {
			return ErrComm // nobody is there to read it
		}
	}
	return OK
}

// negotiate chooses the protocol for a handle and, if it is the first, for the
// card: T=1 where there is a choice.
func (r *Reader) negotiate(share Share, wanted Protocol) (Protocol, Code) {
	if wanted&anyOld != 0 {
		wanted |= T0 | T1
	}
	switch {
	case share == Direct:
		return r.state.Protocol, OK
	case wanted&Raw != 0:
		r.state.Protocol = Raw
	case r.state.Protocol == 0:
		available := protocolsOf(r.state.ATR) & wanted
		switch {
		case available&T1 != 0:
			r.state.Protocol = T1
		case available&T0 != 0:
			r.state.Protocol = T0
		default:
			return 0, ErrProtocolMismatch
		}
	case r.state.Protocol&wanted == 0:
		return 0, ErrProtocolMismatch
	}
	return r.state.Protocol, OK
}

// share publishes how many hold the card.
func (r *Reader) share() {
	r.state.Sharing = int32(len(r.handles))
	for h := range r.handles {
		if h.exclusive {
			r.state.Sharing = -1
		}
	}
	r.publish()
}

// reconnect renews a handle (spec 08 C4).
func (r *Reader) reconnect(h *handle, share Share, protocols Protocol, how Disposition) Code {
	if how != Leave && how != Reset && how != Unpower {
		return ErrInvalidValue
	}
	if code := checkSharing(share, protocols); code != OK {
		return code
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		switch {
		case r.closed:
			return ErrReaderUnavailable
		case r.foreign(h):
			return ErrSharingViolation
		case r.in == nil || !r.in.shown:
			return ErrNoSmartcard
		case share == Exclusive && len(r.handles) > 1:
			return ErrSharingViolation
		}
		if r.in.busy {
			r.await(nil, nil)
			continue
		}
		if how == Leave && (r.in.powered || share == Direct) {
			break
		}
		code := r.renew(h, how)
		if code == OK {
			break
		}
		r.share()
		return code
	}
	protocol, code := r.negotiate(share, protocols)
	if code != OK {
		r.publish()
		return code
	}
	h.protocol, h.event = protocol, OK
	switch {
	case share == Exclusive && !h.exclusive:
		h.exclusive = true
		r.owner, r.locks = h, r.locks+1
	case share != Exclusive && h.exclusive:
		h.exclusive = false
		r.unlock(h)
	}
	r.share()
	return OK
}

// renew resets or powers the card for a handle that takes it up again.
func (r *Reader) renew(h *handle, how Disposition) Code {
	var code Code
	if how == Leave {
		code = r.powerUp(r.in)
	} else {
		code = r.reset(r.in)
	}
	switch {
	case code == ErrUnpowered:
		return ErrUnresponsive
	case code == OK && r.foreign(h):
		return ErrSharingViolation // while the card was busy
	}
	return code
}

// unlock ends all of h's transactions.
func (r *Reader) unlock(h *handle) {
	if r.owner == h {
		r.owner, r.locks = nil, 0
		r.wake()
	}
}

// dispose does to the card what a client wants done with it.
func (r *Reader) dispose(how Disposition) {
	if r.in == nil || !r.in.shown {
		return
	}
	switch how {
	case Leave:
		return
	case Reset:
		_ = r.reset(r.in)
	default:
		r.unpower(r.in)
	}
	r.publish()
}

// disconnect gives up a handle (spec 08 C5).
func (r *Reader) disconnect(h *handle, how Disposition) Code {
	if how > Eject {
		return ErrInvalidValue
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if how != Leave && r.foreign(h) {
		if code := r.untilFree(h); code != OK {
			return code
		}
	}
	r.quit(h, how)
	return OK
}

// release gives up the handle of a client that is gone. One that goes in the
// middle of a transaction leaves a card in an unknown state.
func (r *Reader) release(h *handle) {
	r.mu.Lock()
	defer r.mu.Unlock()
	how := Leave
	if r.owner == h && h.event == OK {
		how = Reset
	}
	r.quit(h, how)
}

func (r *Reader) quit(h *handle, how Disposition) {
	// The lock goes last, lest another client's transaction begins between.
	r.dispose(how)
	r.unlock(h)
	delete(r.handles, h)
	r.share()
	r.arm()
}

// begin starts a transaction, or one more within it.
func (h *handle) begin() Code {
	r := h.reader
	r.mu.Lock()
	defer r.mu.Unlock()
	var limit <-chan time.Time
	for {
		code := r.check(h)
		if h.event != OK && !r.closed {
			code = h.event // comes before another's transaction
		}
		if code == OK {
			r.owner = h
			r.locks++
		}
		if code != ErrSharingViolation {
			return code
		}
		if limit == nil {
			t := time.NewTimer(beginPatience)
			defer t.Stop()
			limit = t.C
		}
		if !r.await(nil, limit) {
			return ErrSharingViolation
		}
	}
}

// end ends a transaction.
func (h *handle) end(how Disposition) Code {
	if how > Eject {
		return ErrInvalidValue
	}
	r := h.reader
	r.mu.Lock()
	defer r.mu.Unlock()
	if h.event != OK {
		// The client has to reconnect, but does not hold up the others until it
		// does.
		if !h.exclusive {
			r.unlock(h)
		}
		return h.event
	}
	if code := r.check(h); code != OK {
		return code
	}
	r.dispose(how)
	held := 0
	if h.exclusive {
		held = 1
	}
	if r.owner != h || r.locks <= held {
		return ErrNotTransacted
	}
	r.locks--
	if r.locks == 0 {
		r.unlock(h)
	}
	return OK
}

// status checks the handle; what a client wants to know is in the table.
func (h *handle) status() Code {
	h.reader.mu.Lock()
	defer h.reader.mu.Unlock()
	return h.reader.check(h)
}
