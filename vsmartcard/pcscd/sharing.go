package pcscd

import "time"

// handle is a client's hold on a card or reader. All but the fixed fields are
// under the reader's lock.
type handle struct {
	conn   *conn
	reader *Reader
	number uint32

	protocol  Protocol // as the client was told
	exclusive bool
	event     Code // ErrReset or ErrRemoved, until the client reconnects
}

// beginPatience is how long the start of a transaction waits for the end of
// another before it has the client ask again (PCSC-22).
const beginPatience = 100 * time.Millisecond

// handlesMax is how many handles a client can have, and how many a reader.
const handlesMax = 200

// foreign reports whether another handle holds the card.
func (r *Reader) foreign(h *handle) bool { return r.owner != nil && r.owner != h }

// check makes the checks that most requests have in common.
func (r *Reader) check(h *handle) Code {
	switch {
	case r.closed:
		return ErrInvalidValue // what pcscd says of the handles of a reader that is gone
	case r.foreign(h):
		return ErrSharingViolation
	}
	return h.event
}

// connect makes h one of the reader's handles (PCSC-18). It gives h the
// card's protocol as soon as that is chosen, even if it is refused after that.
func (r *Reader) connect(h *handle, share Share, protocols Protocol) Code {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		switch {
		case r.closed:
			return ErrUnknownReader
		case r.state.Sharing < 0:
			return ErrSharingViolation
		case r.owner != nil:
			if code := r.untilFree(h); code != OK {
				return code
			}
			continue
		}
		if share == Direct {
			break
		}
		if !r.present() {
			return ErrNoSmartcard
		}
		taken, code := r.takeUp(r.in)
		if code != OK {
			return code
		}
		if taken {
			break
		}
	}
	code := r.join(h, share, protocols)
	if code != OK {
		r.leave() // it may have got power for this
	}
	return code
}

// takeUp has a card in use that has power. One that has none it gives power, and
// reports that it is not taken up yet: it gave up the lock meanwhile.
func (r *Reader) takeUp(in *insertion) (taken bool, code Code) {
	if in.powered {
		if r.state.State&StatePowered == 0 {
			return false, ErrUnpowered
		}
		in.used = true
		r.disarm()
		return true, OK
	}
	if r.turn(in) != OK {
		return false, ErrNoSmartcard
	}
	if in.powered {
		return false, OK
	}
	if r.restart(in) == ErrNoSmartcard {
		return false, ErrNoSmartcard
	}
	// A card that once gave an ATR is believed to have power.
	in.powered = r.state.State&StatePowered != 0
	r.publish()
	if !in.powered {
		return false, ErrUnpowered
	}
	return false, OK
}

// join chooses the protocol and then counts h among the handles.
func (r *Reader) join(h *handle, share Share, protocols Protocol) Code {
	protocol, code := r.negotiate(share, protocols)
	if code != OK {
		return code
	}
	defer r.share()
	h.protocol = protocol
	switch {
	case share == Exclusive && len(r.handles) > 0:
		return ErrSharingViolation
	case len(r.handles) >= handlesMax:
		return ErrInternal
	}
	r.handles[h] = true
	if share == Exclusive {
		h.exclusive = true
		r.owner, r.locks = h, 1
	}
	return OK
}

// leave lets the card rest if there are no handles any more.
func (r *Reader) leave() {
	if len(r.handles) == 0 && r.in != nil {
		r.in.used = false
		r.arm()
	}
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
	switch {
	case wanted&Raw != 0:
		r.state.Protocol = Raw
	case share == Direct:
	case r.state.Protocol == 0:
		if wanted&anyOld != 0 {
			wanted = T0 | T1
		}
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

// reconnect renews a handle (PCSC-19) and returns the card's protocol as soon
// as that is chosen, even if it refuses after that.
func (r *Reader) reconnect(h *handle, share Share, protocols Protocol, how Disposition) (Protocol, Code) {
	switch {
	case how > Unpower || share != Exclusive && share != Shared && share != Direct:
		return 0, ErrInvalidValue
	case lacksProtocol(share, protocols):
		return 0, ErrProtocolMismatch
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		return 0, ErrInvalidValue
	case r.foreign(h):
		return 0, ErrSharingViolation
	}
	defer r.share()
	if code := r.renew(how); code != OK {
		return 0, code
	}
	if r.foreign(h) { // it took the card while that was reset, without the lock
		return 0, ErrSharingViolation
	}
	protocol, code := r.negotiate(share, protocols)
	if code != OK {
		return 0, code
	}
	if share != Direct && protocols&Raw == 0 {
		r.in.used, r.in.powered = true, true
		r.disarm()
	}
	switch {
	case share == Exclusive && !h.exclusive:
		if len(r.handles) > 1 {
			return protocol, ErrSharingViolation
		}
		h.exclusive = true
		r.owner, r.locks = h, r.locks+1
	case share != Exclusive && h.exclusive:
		h.exclusive = false
		if r.owner == h { // unless the card was taken out meanwhile
			r.lower()
		}
	}
	h.event = OK
	return protocol, OK
}

// renew does to the card what a client wants that takes it up again. To leave it
// does not give it power, although the card may be without.
func (r *Reader) renew(how Disposition) Code {
	if how != Leave {
		code := r.reset()
		if code == ErrUnpowered {
			return ErrUnresponsive
		}
		return code
	}
	switch {
	case !r.present():
		return ErrNoSmartcard
	case r.state.State&StateMute != 0:
		return ErrUnresponsive
	}
	return OK
}

// lower ends the innermost transaction of the owner.
func (r *Reader) lower() {
	r.locks--
	if r.locks == 0 {
		r.unlock(r.owner)
	}
}

// unlock ends all of h's transactions.
func (r *Reader) unlock(h *handle) {
	if r.owner == h {
		r.owner, r.locks = nil, 0
		r.wake()
	}
}

// disconnect gives up a handle (PCSC-20).
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
	switch how {
	case Reset:
		_ = r.reset()
	case Unpower:
		r.unpower()
	}
	r.unlock(h)
	delete(r.handles, h)
	r.share()
	r.leave()
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

// end ends a transaction, after doing to the card what the client wants, and
// even if that fails.
func (h *handle) end(how Disposition) Code {
	if how > Eject {
		return ErrInvalidValue
	}
	r := h.reader
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		return ErrInvalidValue
	case h.event != OK:
		return h.event
	case r.foreign(h):
		return ErrSharingViolation
	}
	code := OK
	switch how {
	case Reset, Unpower:
		code = r.reset()
		r.publish()
		switch code {
		case ErrNoSmartcard:
			code = ErrRemoved
		case ErrUnpowered:
			code = ErrNotTransacted
		}
	case Eject:
		code = ErrUnsupportedFeature // no reader of ours moves cards
	}
	held := 0
	if h.exclusive {
		held = 1
	}
	switch {
	case r.owner == h && r.locks > held:
		r.lower()
	case code == OK:
		code = ErrNotTransacted
	}
	return code
}

// status checks the handle; what a client wants to know is in the table.
func (h *handle) status() Code {
	h.reader.mu.Lock()
	defer h.reader.mu.Unlock()
	return h.reader.check(h)
}
