package view

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Writer writes events as they come.
type Writer interface {
	// Event writes an event. card names its card where there are several, and is
	// empty where there is one.
	Event(card string, e Event) error
	// End writes what is left, and nothing comes after it.
	End() error
}

type lines struct{ io.Writer }

// Lines writes a line for people for each event.
func Lines(w io.Writer) Writer { return lines{w} }

// Event writes a line.
func (l lines) Event(card string, e Event) error {
	if card != "" {
		card += "  "
	}
	_, err := fmt.Fprintln(l.Writer, card+e.Line())
	return err
}

// End has nothing left.
func (lines) End() error { return nil }

type objects struct{ *json.Encoder }

// Objects writes a line with a JSON object for each event.
func Objects(w io.Writer) Writer { return objects{json.NewEncoder(w)} }

// Event writes an object.
func (o objects) Event(_ string, e Event) error { return o.Encode(e) }

// End has nothing left.
func (objects) End() error { return nil }

type drawn struct {
	Drawing
	w io.Writer
}

// Drawn draws events on a terminal.
func Drawn(w io.Writer, d Drawing) Writer { return &drawn{d, w} }

// Event draws an event.
func (d *drawn) Event(card string, e Event) error {
	_, err := io.WriteString(d.w, d.Of(card, e))
	return err
}

// End draws what is left.
func (d *drawn) End() error {
	_, err := io.WriteString(d.w, d.Rest())
	return err
}

type chosen struct {
	Writer
	only Selection
}

// Chosen writes only the events of some classes; none is all.
func Chosen(classes []string, w Writer) Writer {
	if len(classes) == 0 {
		return w
	}
	return &chosen{w, Selection{Classes: classes}}
}

// Event writes an event that was chosen.
func (c *chosen) Event(card string, e Event) error {
	if !c.only.Takes(&e) {
		return nil
	}
	return c.Writer.Event(card, e)
}

type captured struct {
	Writer
	capture io.WriteCloser
	failed  error // of the capture
	told    bool  // that it failed
}

// Captured writes a capture for Wireshark, too, which End closes. That it could not be
// written is told once, by the next Event or by End.
func Captured(capture io.WriteCloser, w Writer) Writer {
	c := &captured{Writer: w, capture: capture}
	_, c.failed = capture.Write(CaptureStart())
	return c
}

// Event writes an event, also where it could not be captured.
func (c *captured) Event(card string, e Event) error {
	if c.failed == nil {
		_, c.failed = c.capture.Write(e.Packet())
	}
	return errors.Join(c.tell(), c.Writer.Event(card, e))
}

// tell is the error of the capture, once.
func (c *captured) tell() error {
	if c.told {
		return nil
	}
	c.told = c.failed != nil
	return c.failed
}

// End writes what is left, and closes the capture.
func (c *captured) End() error { return errors.Join(c.tell(), c.Writer.End(), c.capture.Close()) }
