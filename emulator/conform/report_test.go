package conform_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/conform"
)

// What is wrong with a target is said in a line, where something is.
func TestReport_Err(t *testing.T) {
	t.Parallel()
	held := conform.Report{Target: "a card", Results: []conform.Result{{Verdict: conform.Held}}, Counts: map[conform.Verdict]int{conform.Held: 1}}
	require.NoError(t, held.Err())
	broken, conflicting := held, held
	broken.Results, broken.Counts = []conform.Result{{Verdict: conform.Broken}}, map[conform.Verdict]int{conform.Broken: 1}
	require.EqualError(t, broken.Err(), "a card does not conform: 1 rule: 1 broken")
	conflicting.Conflicts = []string{"a letter"}
	require.EqualError(t, conflicting.Err(), "a card does not conform: conflict: a letter; 1 rule: 1 held")
	require.EqualError(t, conform.Report{Target: "a card"}.Err(), "a card was not judged: no rule was judged; no rules")
}
