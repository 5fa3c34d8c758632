package console

import (
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

// arrow leads from one state to another; its points, its words and where they stand.
type arrow struct {
	Path  string
	Words string
	X, Y  int
}

// nodes and arrows are the life cycle (docs/protocol/pins.md).
var nodes = []node{
	{view.Uninitialised, 10, 90, "as shipped", false},
	{view.Operational, 270, 90, "operational", false},
	{view.TransportPIN, 270, 10, "transport PIN", false},
	{view.TransportPINBlocked, 530, 10, "transport PIN blocked", false},
	{view.UserPINBlocked, 530, 90, "user PIN blocked", false},
	{view.PublicKeysOnly, 270, 170, "public keys only", false},
}

var arrows = []arrow{
	{"M170 110 H262", "INITIALIZE", 216, 104},
	{"M110 90 V32 H262", "INITIALIZE, 0002", 176, 26},
	{"M110 130 V192 H262", "INITIALIZE, 93", 180, 208},
	{"M350 52 V82", "CHANGE", 384, 72},
	{"M430 30 H522", "tries spent", 476, 24},
	{"M430 102 H522", "tries spent", 476, 97},
	{"M530 120 H438", "SO-PIN", 484, 137},
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
	d := cycle{Arrows: arrows, Words: c.StateWords()}
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
