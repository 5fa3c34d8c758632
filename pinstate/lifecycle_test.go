package pinstate_test

import (
	"fmt"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/pinstate"
)

func itoa(n int) string { return strconv.Itoa(n) }

// TestLifeCycle_Transitions holds the 35 transitions of PIN-74. A
// transition from several states has a row for each.
func TestLifeCycle_Transitions(t *testing.T) {
	const user, so = pinstate.User, pinstate.SO
	rows := []row{
		{"PIN-74 #1", stateF(), initialise(order()), "9000", []mod{made()}},
		{"PIN-74 #2", stateF(), initialise(order(orderOptions(0x0003))), "9000", []mod{made(), options(0x0003), transport(true)}},
		{"PIN-74 #3", stateF(), initialise(order(noPIN, orderKeys(3, 2))), "9000", []mod{func(d *desk) { *d = stateP().with(justUser()) }}},
		{"PKA-25 #3 then 6300 in a new session", stateF(), series(initialise(order(noPIN, orderKeys(3, 2))), cleared(), query(user)), "6300", []mod{func(d *desk) { *d = stateP() }}},
		{"PIN-74 #4 rule", stateF(), initialise(order(orderPIN(newPIN, 4))), "6A80", nil},
		{"PIN-74 #4 length", stateF(), initialise(order(orderCode("1"))), "6700", nil},
		{"PIN-74 #5 VERIFY 81", stateF(), verify(user, pin), "6A88", nil},
		{"PIN-74 #5 VERIFY 88", stateF(), verify(so, code), "6A88", nil},
		{"PIN-74 #5 CHANGE 81", stateF(), change(user, pin+newPIN), "6A88", nil},
		{"PIN-74 #5 CHANGE 88", stateF(), change(so, code+newCode), "6A88", nil},
		{"PIN-73 #6 nobody can log in", stateF(), series(authenticated(90), query(user)), "6A88", []mod{keys(90)}},
		{"PIN-36 #7 right", stateT(), verify(user, pin), "6984", nil},
		{"PIN-36 #7 wrong", stateT(), verify(user, badPIN), "6984", nil},
		{"PIN-74 #8", stateT().with(u(2)), change(user, pin+newPIN), "9000", []mod{transport(false), pinIs(newPIN), u(3), in()}},
		{"PIN-74 #9", stateT(), change(user, badPIN+newPIN), "63C2", []mod{u(2)}},
		{"PIN-74 #10", stateT().with(u(1)), change(user, badPIN+newPIN), "6983", []mod{u(0)}},
		{"PIN-74 #10 is blocked then", stateT().with(u(1)), series(change(user, badPIN+newPIN), change(user, pin+newPIN)), "6983", []mod{u(0)}},
		{"PIN-74 #11", stateO().with(u(2)), verify(user, pin), "9000", []mod{u(3), in()}},
		{"PIN-74 #12", stateO().with(in()), verify(user, badPIN), "63C2", []mod{u(2), out()}},
		{"PIN-74 #13", stateO().with(u(1), in()), verify(user, badPIN), "6983", []mod{u(0), out()}},
		{"PIN-74 #14", stateO().with(in()), verify(user, pin+"1"), "6700", nil},
		{"PIN-74 #15", stateO().with(u(2)), change(user, pin+newPIN), "9000", []mod{pinIs(newPIN), u(3), in()}},
		{"PIN-74 #16 O", stateO().with(in()), change(user, badPIN+newPIN), "63C2", []mod{u(2), out()}},
		{"PIN-74 #16 B", stateO().with(u(1), in()), change(user, badPIN+newPIN), "6983", []mod{u(0), out()}},
		{"PIN-74 #17", stateO().with(in()), change(user, pin+"12345"), "6A80", nil},
		{"PIN-74 #18 O", stateO().with(u(1), s(4), in()), reset(withNew, code+newPIN), "9000", []mod{pinIs(newPIN), u(3), s(15), out()}},
		{"PIN-74 #18 B", stateB().with(s(4)), reset(withNew, code+newPIN), "9000", []mod{pinIs(newPIN), u(3), s(15)}},
		{"PIN-74 #18 T", stateT().with(u(1), s(4), justUser()), reset(withNew, code+newPIN), "9000", []mod{transport(false), pinIs(newPIN), u(3), s(15), out()}},
		{"PIN-74 #19 O", stateO().with(u(1), s(4), in()), reset(counter, code), "9000", []mod{u(3), s(15)}},
		{"PIN-74 #19 B", stateB().with(s(4)), reset(counter, code), "9000", []mod{u(3), s(15)}},
		{"PIN-74 #20", stateT().with(u(0), s(4)), reset(counter, code), "9000", []mod{u(3), s(15)}},
		{"PIN-64 #24 VERIFY 88", stateO().with(s(0)), verify(so, code), "6983", nil},
		{"PIN-74 #25 VERIFY 81", stateB(), verify(user, pin), "6983", nil},
		{"PIN-74 #25 CHANGE 81", stateB(), change(user, pin+newPIN), "6983", nil},
		{"PKA-25 #31 not yet", stateP(), authenticated(1), "9000", []mod{keys(1)}},
		{"PKA-25 #31", stateP().with(keys(1)), authenticated(2), "9000", []mod{keys(2), inByKeys()}},
		{"PIN-43 #32 VERIFY 81", stateP().with(inByKeys()), verify(user, pin), "6A88", nil},
		{"PIN-43 #32 VERIFY 81 with a session PIN", stateP().with(inByKeys(), drawn(session)), verify(user, session), "6A88", nil},
		{"PIN-43 #32 CHANGE 81", stateP().with(inByKeys()), change(user, pin+newPIN), "6A88", nil},
		{"PIN-2 #35 VERIFY 81", stateO().with(s(0)), verify(user, pin), "9000", []mod{in()}},
		{"PIN-2 #35 CHANGE 81", stateO().with(s(0)), change(user, pin+newPIN), "9000", []mod{pinIs(newPIN), in()}},
		{"PIN-2 #35 T", stateT().with(s(0)), change(user, pin+newPIN), "9000", []mod{transport(false), pinIs(newPIN), in()}},
		{"PIN-2 #35 B", stateB().with(s(0)), verify(user, pin), "6983", nil},
		{"PIN-2 #35 P", stateP().with(s(0)), authenticated(2), "9000", []mod{keys(2), inByKeys()}},
		{"PIN-2 #35 query", stateO().with(s(0)), query(user), "63C3", nil},
	}
	for _, f := range resetForms {
		rows = append(rows, row{"PIN-74 #5 RESET " + f.name, stateF(), reset(f.mode, f.data), "6A88", nil})
	}
	base := map[string]desk{"O": stateO(), "B": stateB(), "T": stateT(), "P": stateP()}
	wrongResets := map[string]event{"P1=00": reset(withNew, badCode+newPIN), "P1=01": reset(counter, badCode)}
	setups := map[string]struct {
		setup pinstate.Setup
		then  []mod
	}{
		"to O": {order(), []mod{made()}},
		"to T": {order(orderOptions(0x0003)), []mod{made(), options(0x0003), transport(true)}},
		"to P": {order(noPIN, orderKeys(3, 2)), []mod{func(d *desk) { *d = stateP().with(justUser()) }}},
	}
	for state, from := range base {
		add := func(number, what string, from desk, e event, word string, then ...mod) {
			rows = append(rows, row{fmt.Sprintf("PIN-74 #%s %s %s", number, state, what), from, e, word, then})
		}
		for what, e := range wrongResets {
			if state != "P" {
				add("21", what, from.with(s(2)), e, "63C1", s(1))
				add("22", what, from.with(s(1)), e, "6983", s(0))
			}
		}
		for _, f := range resetForms {
			off := from.with(options(from.Card.Options&^pinstate.OptionResetEnabled), soIn())
			add("23", f.name, off, reset(f.mode, f.data), "6985")
			add("24", "RESET "+f.name, from.with(s(0), soIn()), reset(f.mode, f.data), "6983")
		}
		x := from.with(s(0))
		add("24", "INITIALIZE", x, initialise(order()), "6983")
		add("24", "VERIFY 88 again", x, verify(so, code), "6983")
		add("24", "CHANGE 88", x, change(so, code+newCode), "6983")
		for what, o := range setups {
			add("26", what, from.with(s(2)), initialise(o.setup), "9000", o.then...)
		}
		add("27", "", from.with(s(2)), initialise(order(orderCode(badCode))), "63C1", s(1))
		add("28", "", from.with(s(1)), initialise(order(orderCode(badCode))), "6983", s(0))
		add("29", "", from.with(s(2)), change(so, code+newCode), "9000", codeIs(newCode), s(15))
		add("30", "CHANGE 88", from.with(s(2)), change(so, badCode+newCode), "63C1", s(1))
		add("30", "CHANGE 88, last try", from.with(s(1)), change(so, badCode+newCode), "6983", s(0))
		add("30", "VERIFY 88", from.with(s(2)), verify(so, badCode), "63C1", s(1))
		add("30", "VERIFY 88, last try", from.with(s(1)), verify(so, badCode), "6983", s(0))
		everybody := from.with(in(), soIn(), keys(2), drawn(session))
		add("33", "", everybody, cleared(), "9000", nobody())
		add("34", "", everybody, cleared(), "9000", nobody())
	}
	play(t, rows)

	number := regexp.MustCompile(`#(\d+)`)
	seen := map[string]bool{}
	for _, r := range rows {
		seen[number.FindStringSubmatch(r.name)[1]] = true
	}
	for n := 1; n <= 35; n++ {
		require.True(t, seen[itoa(n)], "transition %d has no row", n)
	}
}

// series is several events one after the other; the last one answers.
func series(events ...event) event {
	return func(t require.TestingT, d *desk) (word string) {
		for _, e := range events {
			word = e(t, d)
		}
		return word
	}
}
