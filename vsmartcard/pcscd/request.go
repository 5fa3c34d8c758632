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
		return c.simple(body, attribCodeAt, func(*handle) Code { return ErrUnsupportedFeature })
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
		// Constant, because it must not shrink while a client lives (spec 08 B5).
		length := make(structure, readersLengthSize)
		length.set(0, tableLength)
		return c.reply(length, nil)
	case commandReadersArray:
		return c.readersArray()
	}
	return errDrop
}

// version agrees on the client's own minor, for a newer client of an older
// daemon loses its way (spec 08 B2).
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
	number, err := c.server.establish(c)
	body.set(establishContextAt, number)
	body.set(establishCodeAt, uint32(codeOf(err)))
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
	code := c.owns(body.number(connectContextAt))
	if code == OK {
		var h *handle
		h, code = c.open(
			body.text(connectReaderAt, nameMax+1),
			Share(body.number(connectShareAt)),
			Protocol(body.number(connectProtocolsAt)),
		)
		if code == OK {
			c.handles[h.number] = h
			body.set(connectHandleAt, h.number)
			body.set(connectActiveAt, uint32(h.protocol))
		}
	}
	body.set(connectCodeAt, uint32(code))
	return c.reply(body, nil)
}

// open makes the checks of a connection that need no reader, in their order
// (spec 08 C3), and has the reader make the others.
func (c *conn) open(name string, share Share, protocols Protocol) (*handle, Code) {
	if code := checkSharing(share, protocols); code != OK {
		return nil, code
	}
	r := c.server.find(name)
	if r == nil {
		return nil, ErrUnknownReader
	}
	number, err := c.server.reserve()
	if err != nil {
		return nil, codeOf(err)
	}
	h := &handle{conn: c, reader: r, number: number}
	if code := r.connect(h, share, protocols); code != OK {
		c.server.unreserve(number)
		return nil, code
	}
	return h, OK
}

func checkSharing(share Share, protocols Protocol) Code {
	if share != Direct && protocols&(T0|T1|Raw|anyOld) == 0 {
		return ErrProtocolMismatch
	}
	if share != Exclusive && share != Shared && share != Direct {
		return ErrInvalidValue
	}
	return OK
}

func (c *conn) reconnect(body structure) error {
	h, err := c.handle(body.number(reconnectHandleAt))
	if err != nil {
		return err
	}
	code := h.reader.reconnect(h,
		Share(body.number(reconnectShareAt)),
		Protocol(body.number(reconnectProtocolsAt)),
		Disposition(body.number(reconnectInitAt)))
	if code == OK {
		body.set(reconnectActiveAt, uint32(h.protocol))
	}
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
	command, err := c.payload(body.number(transmitSendLengthAt))
	if err != nil {
		return err
	}
	h, err := c.handle(body.number(transmitHandleAt))
	if err != nil {
		return err
	}
	room := body.number(transmitReceiveLengthAt)
	if room < 2 {
		body.set(transmitCodeAt, uint32(ErrInsufficientBuffer))
		return c.reply(body, nil)
	}
	answer, code, err := h.reader.transmit(h, Protocol(body.number(transmitSendProtocolAt)), command, body)
	if err != nil {
		return err
	}
	if code == OK {
		body.set(transmitReceiveProtocolAt, uint32(h.protocol))
		body.set(transmitReceiveLengthAt, uint32(len(answer)))
		if uint32(len(answer)) > room {
			answer, code = nil, ErrInsufficientBuffer
		}
	}
	body.set(transmitCodeAt, uint32(code))
	return c.reply(body, answer)
}

func (c *conn) control(body structure) error {
	if _, err := c.payload(body.number(controlSendLengthAt)); err != nil {
		return err
	}
	h, err := c.handle(body.number(controlHandleAt))
	if err != nil {
		return err
	}
	answer, code := h.control(body.number(controlFunctionAt))
	if code == OK && uint32(len(answer)) > body.number(controlReceiveLengthAt) {
		code = ErrInsufficientBuffer
	}
	if code != OK {
		answer = nil
	}
	body.set(controlReturnedAt, uint32(len(answer)))
	body.set(controlCodeAt, uint32(code))
	return c.reply(body, answer)
}

func (c *conn) attrib(body structure) error {
	h, err := c.handle(body.number(attribHandleAt))
	if err != nil {
		return err
	}
	value, code := h.attrib(body.number(attribTagAt))
	if code == OK && uint32(len(value)) > min(body.number(attribLengthAt), attribMax) {
		code = ErrInsufficientBuffer
	}
	if code == OK {
		copy(body[attribValueAt:], value)
		body.set(attribLengthAt, uint32(len(value)))
	}
	body.set(attribCodeAt, uint32(code))
	return c.reply(body, nil)
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
// of it (spec 08 B5).
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
