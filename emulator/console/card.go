package console

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"hsmemu/emulator/control"
	"hsmemu/emulator/view"
	"hsmemu/emulator/web"
)

// How much of a card's past is kept.
const (
	mostRows    = 400  // lines of the stream
	mostEvents  = 4000 // events with their bytes
	mostMoments = 100  // states, besides those that were given a name
	mostNamed   = 100  // states that were given a name
	mostFolded  = 50   // reads that one line names
)

// card is a card on the page.
type card struct {
	of      *Console
	running *control.Card
	tap     *control.Tap
	gate    *gate

	mu      sync.Mutex
	events  []*happened // the last ones, the newest last
	rows    []row       // those of them that are shown, reads folded
	last    int         // number of the newest event
	moments []moment
	told    int // moments so far
	named   int // of those that are kept
	why     *explanation
	whyOf   *happened
	drawn   map[string]string // panels as listeners have them
	stale   bool              // something happened since they were drawn
	when    time.Time         // they were drawn

	kept    []string // tags of snapshots in files
	keptErr error
	listed  time.Time // they were
}

// listTime is how often snapshots in files are listed at most while a card is drawn.
const listTime = time.Second

// happened is an event of a card with its number.
type happened struct {
	Number int
	control.Seen
}

// row is a line of the stream: an event, or several reads.
type row struct {
	Number int // of its first event; it names the row
	Events []*happened
	Count  int
}

// moment is a state that the card can be brought back to.
type moment struct {
	Number int
	At     time.Time
	Words  string
	Named  bool // by somebody, so that it is kept
	state  control.Moment
}

func (c *Console) follow(running *control.Card) (*card, error) {
	one := &card{of: c, running: running, drawn: map[string]string{}, stale: true}
	one.gate = &gate{changed: one.touch, clock: c.options.Clock, limit: cmp.Or(c.options.Hold, holdTime)}
	tap, err := running.Tap(one.gate)
	if err != nil {
		return nil, err
	}
	one.tap = tap
	one.keep(moment{At: c.options.Clock(), Words: "the console started", Named: true, state: running.Moment()})
	return one, nil
}

// touch has it drawn again, though nothing happened to the card.
func (k *card) touch() {
	k.mu.Lock()
	k.stale, k.when = true, time.Time{}
	k.mu.Unlock()
	k.of.changed()
}

// keep keeps a moment, under the lock or before anybody has the card.
func (k *card) keep(m moment) {
	k.told++
	m.Number = k.told
	k.moments = append(k.moments, m)
	if m.Named {
		k.named++
	}
	if len(k.moments)-k.named > mostMoments {
		i := slices.IndexFunc(k.moments, func(m moment) bool { return !m.Named })
		k.moments = slices.Delete(k.moments, i, i+1)
	}
}

// errNamed says that no more moments are kept under a name: each is a whole card in memory.
var errNamed = fmt.Errorf("%d moments have names already, which is the most; of those without one the last %d are there, too", mostNamed, mostMoments)

// name keeps the card's state now under a name.
func (k *card) name(words string) error {
	k.mu.Lock()
	defer k.touch()
	defer k.mu.Unlock()
	if k.named > mostNamed { // the beginning is one of them
		return errNamed
	}
	k.keep(moment{At: k.of.options.Clock(), Words: words, Named: true, state: k.running.Moment()})
	return nil
}

// moment finds one by its number.
func (k *card) moment(number int) (moment, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	i := slices.IndexFunc(k.moments, func(m moment) bool { return m.Number == number })
	if i < 0 {
		return moment{}, false
	}
	return k.moments[i], true
}

// event finds one by its number.
func (k *card) event(number int) (*happened, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	i := slices.IndexFunc(k.events, func(e *happened) bool { return e.Number == number })
	if i < 0 {
		return nil, false
	}
	return k.events[i], true
}

// update takes what happened and tells listeners.
func (k *card) update() {
	seen := k.tap.Next()
	k.mu.Lock()
	defer k.mu.Unlock()
	first := len(k.rows)
	if n := len(k.rows); n > 0 {
		first = n - 1 // more reads may go into it
	}
	from := 0
	if first < len(k.rows) {
		from = k.rows[first].Count
	}
	for _, s := range seen {
		k.take(s)
	}
	if k.of.heard() {
		for i := first; i < len(k.rows); i++ {
			if i > first || k.rows[i].Count != from {
				k.of.say(message{k.running.Name, k.rows[i].id(), k.rowHTML(k.rows[i])}, &k.of.staff, &k.of.class)
			}
		}
		k.draw()
	}
	if extra := len(k.rows) - mostRows; extra > 0 {
		k.rows = slices.Clone(k.rows[extra:])
	}
	if extra := len(k.events) - mostEvents; extra > 0 {
		k.events = slices.Clone(k.events[extra:])
	}
}

// take notes something that happened.
func (k *card) take(s control.Seen) {
	k.last++
	e := &happened{k.last, s}
	k.events = append(k.events, e)
	k.stale = true
	if s.After != nil {
		k.keep(moment{At: s.At, Words: "after " + s.Phrase(), state: *s.After})
	}
	if why := explain(s.Event); why != nil {
		k.why, k.whyOf = why, e
	}
	if n := len(k.rows); s.Reads() && n > 0 && k.rows[n-1].reads() && k.rows[n-1].Count < mostFolded {
		k.rows[n-1].Events = append(k.rows[n-1].Events, e)
		k.rows[n-1].Count++
		return
	}
	k.rows = append(k.rows, row{e.Number, []*happened{e}, 1})
}

// reads reports whether the row is one of reads.
func (r row) reads() bool { return r.Events[0].Reads() }

func (r row) id() string { return fmt.Sprintf("row-%d", r.Number) }

// Folded reports whether the row stands for several events, and Words what is said of
// it.
func (r row) Folded() bool { return r.Count > 1 }

// Words is what is said of the row.
func (r row) Words() string {
	if r.Folded() {
		return fmt.Sprintf("%d reads", r.Count)
	}
	return r.Events[0].Phrase()
}

// Class is how the row is drawn: a question is not to be mistaken for a try.
func (r row) Class() string {
	e := r.Events[0]
	switch {
	case e.Kind == view.Struck || e.Kind == view.CutShort:
		return "bad"
	case e.Kind != view.Command:
		return "warn"
	case e.Query:
		return "query"
	case e.AboutPIN() && *e.SW == "9000":
		return "good"
	case e.AboutPIN():
		return "bad"
	case r.reads():
		return "faint"
	}
	return ""
}

// Mark says the class of the row without colour.
func (r row) Mark() string {
	return map[string]string{"bad": "✗", "warn": "▲", "query": "?", "good": "✓", "faint": "·"}[r.Class()]
}

// At is when it began.
func (r row) At() time.Time { return r.Events[0].At }

// message is what listeners are told: another content for an element of a page.
type message struct {
	Card string `json:"card"` // empty for what is about no card
	ID   string `json:"id"`
	HTML string `json:"html"`
}

func (c *Console) say(m message, feeds ...*web.Feed) {
	b, err := json.Marshal(m)
	if err != nil {
		return // of strings alone: it cannot be
	}
	for _, f := range feeds {
		if m.kind() == "panel" {
			f.Replace(m.Card+" "+m.ID, m.kind(), string(b))
		} else {
			f.Say(m.kind(), string(b))
		}
	}
}

// kind is the event that it comes as.
func (m message) kind() string {
	if strings.HasPrefix(m.ID, "row-") {
		return "row"
	}
	return "panel"
}

// draw tells listeners of the panels that are another than they have, not too often.
func (k *card) draw() {
	now := k.of.options.Clock()
	if !k.stale || now.Sub(k.when) < drawTime {
		return
	}
	k.stale, k.when = false, now
	for id, content := range k.panels(true) {
		if k.drawn[id] == content {
			continue
		}
		k.drawn[id] = content
		to := []*web.Feed{&k.of.staff, &k.of.class}
		if staffOnly[id] {
			to = to[:1]
		}
		k.of.say(message{k.running.Name, id, content}, to...)
	}
}

// staffOnly are the panels that the class does not have.
var staffOnly = map[string]bool{"timeline": true, "kept": true, "held": true, "faults": true}

// about is what the panels are made from.
type about struct {
	Name     string
	Card     view.Card
	Standing view.Standing
	Cycle    cycle
	Why      *explanation
	WhyOf    *happened
	Moments  []moment
	Faults   []string
	Hold     holding
	Waits    *waiter
	Asks     string
	Certs    []view.Certificate
	Ejected  bool
	Kept     []string // tags of snapshots in files
	KeptErr  error    // they cannot be listed
}

func (k *card) about() about {
	a := about{
		Name: k.running.Name, Card: k.running.Show(), Standing: k.running.Standing(), Why: k.why, WhyOf: k.whyOf,
		Faults: k.running.Faults.List(), Certs: k.running.Certificates(k.of.options.Clock()),
	}
	if now := k.of.options.Clock(); k.of.options.Kept != nil && now.Sub(k.listed) > listTime {
		k.kept, k.keptErr = k.of.options.Kept(k.running.Name)
		k.listed = now
	}
	a.Kept, a.KeptErr = k.kept, k.keptErr
	a.Cycle = cycleOf(a.Card)
	a.Ejected = a.Card.Running != nil && a.Card.Running.Ejected
	a.Hold, a.Waits = k.gate.now()
	if a.Waits != nil {
		a.Asks = question(a.Waits.Event)
	}
	a.Moments = slices.Clone(k.moments)
	slices.Reverse(a.Moments)
	return a
}

// panelNames are the templates of the panels.
var panelNames = []string{"summary", "cycle", "counters", "session", "keys", "domains", "certificates", "files", "why", "waits", "timeline", "kept", "held", "faults"}

// panels are all panels as they are now, by their names; staff has those of trainers,
// too. Under the lock.
func (k *card) panels(staff bool) map[string]string {
	a := k.about()
	all := map[string]string{}
	for _, name := range panelNames {
		if staff || !staffOnly[name] {
			all[name] = k.of.execute("panel-"+name, a)
		}
	}
	return all
}

func (k *card) rowHTML(r row) string {
	return k.of.execute("row", struct {
		row
		Name string
	}{r, k.running.Name})
}

// execute is a template as text.
func (c *Console) execute(name string, data any) string {
	var b bytes.Buffer
	if err := c.templates.ExecuteTemplate(&b, name, data); err != nil {
		return template.HTMLEscapeString("The page could not be made: " + err.Error())
	}
	return b.String()
}

// pageOf is what the page of a card shows.
type pageOf struct {
	page
	Name   string
	Panels map[string]template.HTML
	Rows   []template.HTML
	Make   bool
	Read   bool          // snapshots in files can be restored
	Lesson template.HTML // empty for none
}

func (k *card) page(p page) pageOf {
	k.mu.Lock()
	defer k.mu.Unlock()
	v := pageOf{
		page: p, Name: k.running.Name, Panels: map[string]template.HTML{}, Make: k.of.options.Make != nil,
		Read: k.of.options.Read != nil, Lesson: k.of.desk.html(),
	}
	all := k.panels(p.Staff)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		v.Panels[name] = template.HTML(all[name]) //nolint:gosec // made by a template
	}
	for i := len(k.rows) - 1; i >= 0; i-- {
		v.Rows = append(v.Rows, template.HTML(k.rowHTML(k.rows[i]))) //nolint:gosec // made by a template
	}
	return v
}

// words joins words for people.
func words(list []string) string { return strings.Join(list, ", ") }
