package console

import (
	"slices"

	"hsmemu/emulator/view"
)

// node is a state of the life cycle as it is drawn: its place in the drawing, in units of
// the SVG, and its words.
type node struct {
	State view.State
	X, Y  int
	Words string
	Lit   bool
}

// arrow leads from one state to another; its points, its words and where they stand. What it
// costs stands below them where it may come next.
type arrow struct {
	From   view.State
	Event  string // of those that may happen next in that state
	Path   string
	Words  string
	Costs  string // of the event, in two or three words
	X, Y   int
	CostsY int
	Lit    bool
}

// nodes and arrows are the life cycle (docs/protocol/pins.md).
var nodes = []node{
	{view.Uninitialised, 10, 100, "as shipped", false},
	{view.Operational, 300, 100, "operational", false},
	{view.TransportPIN, 300, 10, "transport PIN", false},
	{view.TransportPINBlocked, 590, 10, "transport PIN blocked", false},
	{view.UserPINBlocked, 590, 100, "user PIN blocked", false},
	{view.PublicKeysOnly, 300, 190, "public keys only", false},
}

var arrows = []arrow{
	{view.Uninitialised, "INITIALIZE DEVICE", "M170 120 H292", "INITIALIZE", "costs nothing", 231, 114, 136, false},
	{view.Uninitialised, "INITIALIZE DEVICE", "M90 100 V30 H292", "INITIALIZE, 0002", "costs nothing", 195, 24, 46, false},
	{view.Uninitialised, "INITIALIZE DEVICE", "M90 140 V215 H292", "INITIALIZE, 93", "costs nothing", 195, 209, 231, false},
	{view.TransportPIN, "CHANGE REFERENCE DATA, right transport PIN", "M320 50 V92", "CHANGE", "costs nothing", 370, 68, 83, false},
	{view.TransportPIN, "CHANGE REFERENCE DATA, wrong transport PIN", "M460 30 H582", "wrong ones", "a try each", 521, 24, 46, false},
	{view.TransportPINBlocked, "RESET RETRY COUNTER, right SO-PIN", "M620 50 V75 H440 V92", "SO-PIN", "costs nothing", 530, 69, 88, false},
	{view.Operational, "VERIFY, wrong user PIN", "M460 112 H582", "wrong ones", "a try each", 521, 106, 125, false},
	{view.UserPINBlocked, "RESET RETRY COUNTER, right SO-PIN", "M590 132 H468", "SO-PIN", "costs nothing", 521, 145, 158, false},
	{view.Operational, "INITIALIZE DEVICE, right SO-PIN", "M340 140 V165 H425 V148", "INITIALIZE", "costs all keys", 382, 159, 179, false},
	{view.UserPINBlocked, "INITIALIZE DEVICE, right SO-PIN", "M670 140 V170 H445 V148", "INITIALIZE", "costs all keys", 625, 164, 184, false},
	{view.PublicKeysOnly, "INITIALIZE DEVICE, right SO-PIN", "M315 190 V148", "INITIALIZE", "costs all keys", 265, 165, 179, false},
}

// nextEvent is something that may happen to a card in a state, and what it costs.
type nextEvent struct{ Event, Costs string }

// nexts are what may happen next, by state. What depends on counters is said beside the
// counters.
var nexts = map[view.State][]nextEvent{
	view.Uninitialised: {
		{"INITIALIZE DEVICE", "nothing: the first code becomes the SO-PIN for ever"},
	},
	view.Operational: {
		{"VERIFY, right user PIN", "nothing: the counter is full again"},
		{"VERIFY, wrong user PIN", "a try of the user PIN"},
		{"INITIALIZE DEVICE, right SO-PIN", "all keys, certificates and data"},
		{"INITIALIZE DEVICE, wrong SO-PIN", "a try of the SO-PIN, which nothing but the right one brings back"},
		{"reset or removal", "the login"},
	},
	view.TransportPIN: {
		{"CHANGE REFERENCE DATA, right transport PIN", "nothing: it becomes the user PIN"},
		{"CHANGE REFERENCE DATA, wrong transport PIN", "a try of the transport PIN"},
		{"VERIFY", "nothing: it is refused, right or wrong"},
	},
	view.TransportPINBlocked: {
		{"RESET RETRY COUNTER, right SO-PIN", "nothing, where the options allow it"},
		{"INITIALIZE DEVICE, right SO-PIN", "whatever is on the card"},
	},
	view.UserPINBlocked: {
		{"RESET RETRY COUNTER, right SO-PIN", "nothing, where the options allow it: the keys stay"},
		{"RESET RETRY COUNTER, wrong SO-PIN", "a try of the SO-PIN"},
		{"INITIALIZE DEVICE, right SO-PIN", "all keys, certificates and data"},
		{"VERIFY", "nothing: it is refused, also with the right PIN"},
	},
	view.PublicKeysOnly: {
		{"enough public keys authenticate", "nothing: the user is logged in"},
		{"INITIALIZE DEVICE, right SO-PIN", "all keys, certificates, data and registered public keys"},
	},
}

// soBlocked is what may happen next where the SO-PIN is blocked, besides what does not need
// it.
var soBlocked = []nextEvent{
	{"anything with the SO-PIN", "nothing: it is refused for ever"},
	{"the vendor's firmware update", "the keys and the identity: it is a new card"},
}

// cycle is the drawing for a card.
type cycle struct {
	Nodes  []node
	Arrows []arrow
	Words  string
	Next   []nextEvent
}

func cycleOf(c view.Card) cycle {
	d := cycle{Arrows: slices.Clone(arrows), Words: c.StateWords()}
	for _, n := range nodes {
		n.Lit = c.State != nil && *c.State == n.State
		d.Nodes = append(d.Nodes, n)
	}
	if c.State == nil {
		return d
	}
	blocked := c.SOPIN != nil && c.SOPIN.State == view.PINBlocked
	for _, n := range nexts[*c.State] {
		if !blocked || !needsSOPIN(n.Event) {
			d.Next = append(d.Next, n)
		}
	}
	for i, a := range d.Arrows {
		d.Arrows[i].Lit = a.From == *c.State && slices.ContainsFunc(d.Next, func(n nextEvent) bool { return n.Event == a.Event })
	}
	if blocked {
		d.Next = append(d.Next, soBlocked...)
	}
	return d
}

// needsSOPIN reports whether an event of the list needs the SO-PIN.
func needsSOPIN(event string) bool {
	for _, name := range []string{"INITIALIZE DEVICE, ", "RESET RETRY COUNTER, "} {
		if len(event) > len(name) && event[:len(name)] == name {
			return true
		}
	}
	return false
}
