package conform_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/conform"
)

// Nothing that may spend a try or change a card is sent under a rule that costs
// nothing: whatever its class, hidden or not, and where nobody knows what it does.
func TestGuard_SendsNothingThatIsNotDeclared(t *testing.T) {
	t.Parallel()
	var lines []string
	for _, class := range []string{"00", "80", "01", "10", "A0", "0C", "8C", "04"} {
		for _, rest := range []string{
			"20 00 88 Lc({so-pin|flip})", "20 00 81 Lc({pin|flip})", "20 01 81 Lc({pin|flip})", "20 00 85 Lc({pin})", "20 00 81 06",
			"24 00 81 Lc({pin} {pin})", "24 00 88 Lc({so-pin} {so-pin})", "24 00 88", "2C 00 81 Lc({so-pin} {pin})", "2C 01 81 Lc({so-pin})",
			"2C 02 81 Lc({pin})", "2C 03 81", "50 00 00 Lc(80(0001) 81({pin}) 82({so-pin}) 91(03))", "48 07 B0", "46 01 00 Lc(42(00))",
			"52 03 00", "52 04 00", "52 00 00 Lc({long|head 32})", "54 00 00 Lc(00)", "5A 01 81 00", "68 00 73 Lc(00)", "72 00 92 00",
			"74 01 93", "76 00 01 Lc(98)", "D7 CF 00 Lc(54(0000) 53(00))", "E4 02 00 Lc(CC00)", "E4 00 00", "82 00 00 Lc(00)", "99 00 00",
			"20 00 88 08 00",
		} {
			lines = append(lines, "select\n"+class+" "+rest+" => *")
		}
	}
	lines = append(lines, "00 46 01 00 Lc(00) => 6F00", "select\nsm on aes128\n00 20 00 88 Lc({so-pin|flip}) => *", "select\nsm on aes128\n80 20 00 88 Lc({so-pin|flip}) => *",
		"select\n00 A4 04 00 Lc(A000000151000000) => *\n00 50 00 00 Lc({long|head 8}) => *", "select\ncut\n80 50 00 00 Lc({long|head 8}) => *")
	for _, class := range []string{"01", "10", "A0", "0C", "8C", "04"} { // what a right PIN and a list are allowed in plain
		lines = append(lines, "select\n"+class+" 20 00 81 Lc({pin}) => *", "select\n"+class+" 58 00 00 00 => *")
	}
	lines = append(lines, "select\ncut\n00 20 00 81 Lc({pin}) => *", "select\n00 A4 04 00 Lc(A000000151000000) => *\n00 A4 04 00 00 => *\n00 20 00 88 Lc({so-pin}) => *")
	var texts []string
	for i, steps := range lines {
		texts = append(texts, rule("X-R"+strings.Repeat("1", i+1), "nothing", steps))
	}
	card, o := initialised(t), options()
	o.Confirm = yes
	r, err := conform.Judge(t.Context(), ruleLibrary(t, texts...), card.target(), o)
	require.NoError(t, err)
	for i, one := range r.Results {
		require.Equal(t, conform.NotJudged, one.Verdict, "%s: %+v", lines[i], one)
		require.Contains(t, one.Why, "the", lines[i])
		require.NotContains(t, one.Why, "does not answer", lines[i])
	}
	require.Empty(t, r.Stopped)
	require.Zero(t, card.presented(), card.sent)
	require.Equal(t, r.Before, r.After)
}

// A card that takes a try and does not say so spends no more than was declared, in the
// rule and in the run.
func TestGuard_CountsRefusalsThatTellNothing(t *testing.T) {
	t.Parallel()
	for _, answer := range [][]byte{{0x69, 0x82}, {0x67, 0x00}, {0x6F, 0x00}, {0x63, 0x00}, {0x90, 0x00}, {0x90}} {
		card := initialised(t)
		card.answer = func(sent string) []byte {
			if strings.HasPrefix(sent, "0020008808") || strings.HasPrefix(sent, "8020008808") {
				_, err := card.Card.Transmit(t.Context(), []byte("\x00\x20\x00\x88\x0800000000")) // charged
				require.NoError(t, err)
				return answer
			}
			return nil
		}
		wrong := strings.Repeat("\n80 20 00 88 Lc({so-pin|flip}) => *", 14)
		o := options()
		o.Destructive, o.Confirm = true, yes
		r, err := conform.Judge(t.Context(), ruleLibrary(t, rule("X-R1", "1 SO try", "select"+wrong), rule("X-R2", "1 SO try", "select"+strings.ReplaceAll(wrong, "|flip", ""))), card.target(), o)
		require.NoError(t, err)
		require.GreaterOrEqual(t, r.After.SOPIN.Left, 12, "%X", answer)
	}
}

// What was there before a rule is not its own.
func TestGuard_KeepsTheObjectsOfTheOwner(t *testing.T) {
	t.Parallel()
	card, o := initialised(t), options()
	o.Destructive, o.Confirm = true, yes
	l := ruleLibrary(t,
		rule("X-R1", "own objects", "select\n00 20 00 81 Lc({pin})\n00 D7 CF 01 Lc(54(0000) 53(\"x\"))"), // stays
		rule("X-R2", "own objects", "select\n00 20 00 81 Lc({pin})\n00 E4 02 00 Lc(CF01)"),
		rule("X-R3", "own objects", "select\n00 20 00 81 Lc({pin})\n00 D7 CF 01 Lc(54(0000) 53(\"y\"))"),
		rule("X-R4", "own objects", "select\n00 20 00 81 Lc({pin})\n00 D7 CF 02 Lc(54(0000) 53(\"x\"))\n00 E4 02 00 Lc(CF02)"),
		rule("X-R5", "own objects", "select\n00 20 00 81 Lc({pin})\n00 46 00 00 Lc(00) => *"),
	)
	r, err := conform.Judge(t.Context(), l, card.target(), o)
	require.NoError(t, err)
	require.Equal(t, []conform.Verdict{conform.Held, conform.NotJudged, conform.NotJudged, conform.Held, conform.NotJudged}, verdicts(r))
	for _, i := range []int{1, 2, 4} {
		require.Contains(t, r.Results[i].Why, "what the card held before the rule")
	}
}

// A plan costs what its rules cost together, and one try more of a PIN that may be wrong.
func TestPlan_CostIsTheSum(t *testing.T) {
	t.Parallel()
	l := ruleLibrary(t, rule("X-R1", "1 SO try", "select"), rule("X-R2", "2 SO tries, 1 user try", "select"), rule("X-R3", "nothing", "select"))
	require.Equal(t, conform.Costs{UserTries: 2, SOTries: 4}, conform.Plan{{}, {}, {}}.Cost(l))
	require.Equal(t, conform.Costs{}, conform.Plan{{Why: "no"}, {Why: "no"}, {}}.Cost(l))
}

// What may be a secret goes into no report: a key that a card gives away, a PIN that it
// repeats.
func TestJudge_ReportsNoSecrets(t *testing.T) {
	t.Parallel()
	card, o := initialised(t), options()
	card.answer = func(sent string) []byte {
		switch {
		case strings.HasPrefix(sent, "00B1CC00"):
			return []byte("the device key\x90\x00")
		case strings.HasPrefix(sent, "00B1CE00"):
			return []byte("it is 648219\x90\x00")
		}
		return nil
	}
	l := ruleLibrary(t, rule("X-R1", "nothing", "select\n00 B1 CC 00 Lc(54(0000)) 00 => 6982"), rule("X-R2", "nothing", "select\n00 B1 CE 00 Lc(54(0000)) 00 => 6982"),
		rule("X-R3", "nothing", "select\n00 B1 2F 02 Lc(54(0000)) 00 => 6982"))
	r, err := conform.Judge(t.Context(), l, card.target(), o)
	require.NoError(t, err)
	require.Equal(t, "(14 bytes, not shown) 9000", r.Results[0].Failures[0].Got)
	require.Equal(t, "(12 bytes, not shown) 9000", r.Results[1].Failures[0].Got)
	require.Regexp(t, "^7F21", r.Results[2].Failures[0].Got)
}
