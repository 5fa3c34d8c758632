package pcscd

import "errors"

// dispatch carries out one request whose structure is complete.
func (c *conn) dispatch(command uint32, body structure) error {
	switch command {
	case commandVersion:
		return c.version(body)
	case commandEstablish:
		return c.establish(body)
	case commandRelease:
		return c.releaseContext(body)
	case commandConnect:
		return c.connect(body)
	case commandReconnect:
		return c.reconnect(body)
	case commandDisconnect:
		return c.disconnect(body)
	case commandBegin:
		return c.simple(body, beginCodeAt, (*handle).begin)
	case commandEnd:
		how := Disposition(body.number(endHowAt))
		return c.simple(body, endCodeAt, func(h *handle) Code { return h.end(how) })
	case commandStatus:
		return c.simple(body, statusCodeAt, (*handle).status)
	case commandTransmit:
		return c.transmit(body)
	case commandControl:
		return c.control(body)
	case commandAttribGet:
		return c.attrib(body)
	case commandAttribSet:
		return c.attribSet(body)
	case commandCancel:
		return c.cancel(body)
	case commandReaders:
		return c.reply(c.snapshot(), nil)
	case commandWait:
		return c.wait()
	case commandStopWaiting:
		return c.stopWaiting()
	case commandReaderEvents:
		return c.readerEvents()
	case commandReadersLength:
		// Constant, because it must not shrink while a client lives (PCSC-17).
		length := make(structure, readersLengthSize)
		length.set(0, tableLength)
		return c.reply(length, nil)
	case commandReadersArray:
		return c.readersArray()
	}
	return errDrop
}

// version agrees on the client's own minor, for a newer client of an older
// daemon loses its way (PCSC-11).
func (c *conn) version(body structure) error {
	code := OK
	if body.number(versionMajorAt) != versionMajor {
		code = ErrServiceStopped
	}
	minor := int32(body.number(versionMinorAt))
	c.minor = uint32(min(max(minor, minorOldest), minorNewest))
	body.set(versionMajorAt, versionMajor)
	body.set(versionMinorAt, c.minor)
	body.set(versionCodeAt, uint32(code))
	return c.reply(body, nil)
}

func (c *conn) establish(body structure) error {
	number, code := uint32(0), ErrInvalidValue
	if body.number(establishScopeAt) <= scopeMax {
		var err error
		number, err = c.server.establish(c)
		code = codeOf(err)
	}
	body.set(establishContextAt, number)
	body.set(establishCodeAt, uint32(code))
	return c.reply(body, nil)
}

// owns checks the number of a context.
func (c *conn) owns(context uint32) Code {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	switch {
	case c.context == 0:
		return ErrInvalidHandle
	case c.context != context:
		return ErrInvalidValue
	}
	return OK
}

func (c *conn) releaseContext(body structure) error {
	code := c.owns(body.number(releaseContextAt))
	if code == OK {
		c.server.mu.Lock()
		c.server.forget(c)
		c.server.mu.Unlock()
		c.release()
	}
	body.set(releaseCodeAt, uint32(code))
	return c.reply(body, nil)
}

func (c *conn) connect(body structure) error {
	h := &handle{conn: c, protocol: Protocol(body.number(connectActiveAt))}
	code := c.open(h,
		body.text(connectReaderAt, nameMax+1),
		Share(body.number(connectShareAt)),
		Protocol(body.number(connectProtocolsAt)),
	)
	if code == OK {
		code = c.keep(h, body.number(connectContextAt))
	}
	body.set(connectHandleAt, h.number)
	body.set(connectActiveAt, uint32(h.protocol))
	body.set(connectCodeAt, uint32(code))
	return c.reply(body, nil)
}

// open makes the checks of a connection that need no reader, in their order
// (PCSC-18), has the reader make the others, and numbers the handle.
func (c *conn) open(h *handle, name string, share Share, protocols Protocol) Code {
	switch {
	case lacksProtocol(share, protocols):
		return ErrProtocolMismatch
	case share != Exclusive && share != Shared && share != Direct:
		return ErrInvalidValue
	}
	h.reader = c.server.find(name)
	if h.reader == nil {
		return ErrUnknownReader
	}
	number, err := c.server.reserve()
	if err != nil {
		return codeOf(err)
	}
	if code := h.reader.connect(h, share, protocols); code != OK {
		c.server.unreserve(number)
		return code
	}
	h.number = number
	return OK
}

// keep makes the client the handle's owner. Whose the context is, is looked at
// only now, as pcscd does it: a client that is wrong about it may have powered
// the card.
func (c *conn) keep(h *handle, context uint32) Code {
	code := c.owns(context)
	if code == OK && len(c.handles) >= handlesMax {
		code = ErrNoMemory
	}
	if code != OK {
		_ = h.reader.disconnect(h, Leave)
		c.server.unreserve(h.number)
		return code
	}
	c.handles[h.number] = h
	return OK
}

// lacksProtocol reports whether a card is wanted, but none of the protocols by
// which one can be had.
func lacksProtocol(share Share, protocols Protocol) bool {
	return share != Direct && protocols&(T0|T1|Raw|anyOld) == 0
}

func (c *conn) reconnect(body structure) error {
	h, err := c.handle(body.number(reconnectHandleAt))
	if err != nil {
		return err
	}
	protocol, code := h.reader.reconnect(h,
		Share(body.number(reconnectShareAt)),
		Protocol(body.number(reconnectProtocolsAt)),
		Disposition(body.number(reconnectInitAt)))
	body.set(reconnectActiveAt, uint32(protocol))
	body.set(reconnectCodeAt, uint32(code))
	return c.reply(body, nil)
}

func (c *conn) disconnect(body structure) error {
	h, err := c.handle(body.number(disconnectHandleAt))
	if err != nil {
		return err
	}
	code := h.reader.disconnect(h, Disposition(body.number(disconnectHowAt)))
	if code == OK {
		delete(c.handles, h.number)
		c.server.unreserve(h.number)
	}
	body.set(disconnectCodeAt, uint32(code))
	return c.reply(body, nil)
}

// simple answers a request that begins with a handle and has no result but
// its return code.
func (c *conn) simple(body structure, codeAt int, do func(*handle) Code) error {
	h, err := c.handle(body.number(0))
	if err != nil {
		return err
	}
	body.set(codeAt, uint32(do(h)))
	return c.reply(body, nil)
}

func (c *conn) transmit(body structure) error {
	h, err := c.handle(body.number(transmitHandleAt))
	if err != nil {
		return err
	}
	command, err := c.payload(body.number(transmitSendLengthAt))
	if err != nil {
		return err
	}
	room := body.number(transmitReceiveLengthAt)
	body.set(transmitReceiveLengthAt, 0)
	answer, code, err := h.reader.transmit(h, Protocol(body.number(transmitSendProtocolAt)), command, body)
	if err != nil {
		return err
	}
	// The client's protocol and length for the answer go back as they came:
	// readers on USB leave them alone.
	body.set(transmitReceiveLengthAt, uint32(len(answer)))
	if uint32(len(answer)) > room {
		answer, code = nil, ErrInsufficientBuffer
	}
	body.set(transmitCodeAt, uint32(code))
	return c.reply(body, answer)
}

func (c *conn) control(body structure) error {
	h, err := c.handle(body.number(controlHandleAt))
	if err != nil {
		return err
	}
	if _, err := c.payload(body.number(controlSendLengthAt)); err != nil {
		return err
	}
	answer, code := h.control(body.number(controlFunctionAt))
	body.set(controlReturnedAt, uint32(len(answer)))
	if uint32(len(answer)) > body.number(controlReceiveLengthAt) {
		answer, code = nil, ErrInsufficientBuffer
	}
	body.set(controlCodeAt, uint32(code))
	return c.reply(body, answer)
}

func (c *conn) attrib(body structure) error {
	h, err := c.handle(body.number(attribHandleAt))
	if err != nil {
		return err
	}
	room := body.number(attribLengthAt)
	if room > attribMax {
		return errDrop
	}
	value, code := h.attrib(body.number(attribTagAt))
	if code == OK {
		body.set(attribLengthAt, uint32(len(value)))
		if uint32(len(value)) > room {
			code = ErrInsufficientBuffer
		} else {
			copy(body[attribValueAt:], value)
		}
	}
	body.set(attribCodeAt, uint32(code))
	return c.reply(body, nil)
}

// attribSet refuses: nothing of a reader can be set.
func (c *conn) attribSet(body structure) error {
	if body.number(attribLengthAt) > attribMax {
		return errDrop
	}
	return c.simple(body, attribCodeAt, func(h *handle) Code {
		if code := h.status(); code != OK {
			return code
		}
		return ErrNotTransacted
	})
}

func (c *conn) cancel(body structure) error {
	s := c.server
	s.mu.Lock()
	other, code := s.contexts[body.number(cancelContextAt)], OK
	switch {
	case other == nil:
		code = ErrInvalidHandle
	case s.waiting[other]:
		s.notify(other, ErrCancelled)
	}
	s.mu.Unlock()
	body.set(cancelCodeAt, uint32(code))
	return c.reply(body, nil)
}

func (c *conn) snapshot() structure {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	return table(c.server.states[:])
}

// wait registers the client for one event. Up to version 4.5 the table is the
// reply, and nothing may change between it and the registration; from 4.6 on
// the client fetches it, and until it has, an event would be taken for a part
// of it (PCSC-15).
func (c *conn) wait() error {
	s := c.server
	s.mu.Lock()
	s.waiting[c] = true
	c.fetching, c.owed = c.minor >= minorNewest, false
	if !c.fetching {
		c.out.put(table(s.states[:]))
	}
	s.mu.Unlock()
	return c.out.flush(c.stream)
}

func (c *conn) readersArray() error {
	s := c.server
	s.mu.Lock()
	c.out.put(table(s.states[:]))
	if c.fetching {
		c.fetching = false
		if c.owed {
			c.owed = false
			s.notify(c, c.owedCode)
		}
	}
	s.mu.Unlock()
	return c.out.flush(c.stream)
}

// stopWaiting answers unless the event is out: then that is the answer.
func (c *conn) stopWaiting() error {
	s := c.server
	s.mu.Lock()
	if s.waiting[c] {
		delete(s.waiting, c)
		c.fetching, c.owed = false, false
		c.out.put(make(structure, waitSize))
	}
	s.mu.Unlock()
	return c.out.flush(c.stream)
}

func (c *conn) readerEvents() error {
	c.server.mu.Lock()
	arrivals := c.server.arrivals
	c.server.mu.Unlock()
	events := make(structure, readerEventsSize)
	events.set(readerEventsAt, arrivals)
	return c.reply(events, nil)
}

// codeOf is the return code for an error of this package.
func codeOf(err error) Code {
	var code Code
	if err != nil && !errors.As(err, &code) {
		return ErrUnsupportedFeature
	}
	return code
}
