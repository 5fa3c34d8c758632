//go:build linux

package console_test

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/applet/apdu"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/control"
)

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	require.Eventually(t, is, time.Minute, 10*time.Millisecond, what)
}

func TestConsole_WhoMayIn(t *testing.T) {
	c := begin(t, "lab")
	stranger := &visitor{http.DefaultClient, c.base}
	for _, path := range []string{"/", "/card/lab", "/events", "/rules/pins", "/card/lab/transcript", "/?token=" + strings.Repeat("0", 32), "/?token=x"} {
		status, body := stranger.get(t, path)
		require.Contains(t, []int{http.StatusUnauthorized, http.StatusForbidden}, status, path)
		require.NotContains(t, body, "user PIN")
	}
	status, _ := stranger.post(t, "/card/lab/eject")
	require.Equal(t, http.StatusUnauthorized, status)

	pupil := visit(t, c.pupil)
	status, body := pupil.get(t, "/card/lab")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, `data-type="large"`)
	require.NotContains(t, body, "<form")
	require.NotContains(t, body, "token=")
	for path := range map[string]bool{"eject": true, "reset": true, "back": true, "hold": true, "release": true, "transcript": true} {
		status, _ = pupil.post(t, "/card/lab/"+path)
		require.Equal(t, http.StatusForbidden, status, path)
	}
	status, _ = pupil.get(t, "/card/lab/transcript")
	require.Equal(t, http.StatusOK, status)

	trainer := visit(t, c.trainer)
	status, body = trainer.get(t, "/card/lab")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "<form")
	require.Contains(t, body, strings.ReplaceAll(c.pupil, "=", "="))
	require.NotContains(t, body, c.trainer[strings.Index(c.trainer, "=")+1:])
	require.Contains(t, body, "operational")
	status, _ = trainer.get(t, "/card/lab/eject")
	require.Equal(t, http.StatusMethodNotAllowed, status)
	status, _ = trainer.get(t, "/card/other")
	require.Equal(t, http.StatusNotFound, status)

	// Another site's page asks a trainer's browser.
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.base+"/card/lab/eject", nil)
	require.NoError(t, err)
	r.Header.Set("Origin", "http://attacker.example")
	answer, err := trainer.Do(r)
	require.NoError(t, err)
	status, _ = read(t, answer)
	require.Equal(t, http.StatusForbidden, status)
	require.False(t, c.private.Cards[0].Show().Running.Ejected)

	// The cookie is for the browser alone.
	answer, err = http.Get(c.trainer)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	set := answer.Header.Get("Set-Cookie")
	require.Contains(t, set, "HttpOnly")
	require.Contains(t, set, "SameSite=Strict")
}

func TestConsole_OneConsoleForACard(t *testing.T) {
	c := begin(t, "lab")
	_, err := c.private.Cards[0].Tap(nil)
	require.ErrorIs(t, err, control.ErrBusy)
}

func TestConsole_CommandsInWordsAndBytes(t *testing.T) {
	c := begin(t, "lab")
	trainer := visit(t, c.trainer)
	require.Equal(t, "63C2", c.send(t, selects, selects, ask, wrong))
	var body string
	eventually(t, "the try is told", func() bool {
		_, body = trainer.get(t, "/card/lab")
		return strings.Contains(body, "VERIFY user PIN: wrong, 2 tries left (63C2)")
	})
	require.Contains(t, body, "status of user PIN: not verified, 3 tries left (63C3)")
	require.Contains(t, body, "2 reads")
	require.Contains(t, body, "Wrong user PIN") // what just happened
	require.Contains(t, body, "the next wrong one leaves 1")

	paths := regexp.MustCompile(`/card/lab/event/\d+`).FindAllString(body, -1)
	require.NotEmpty(t, paths)
	_, bytes := trainer.get(t, paths[0]+"?part")
	require.NotContains(t, bytes, "<html")
	for _, word := range []string{"CLA: command of ISO 7816-4", "INS: VERIFY", "the user PIN", "Lc: 6 bytes of data follow", "the PIN, not shown", "status word: wrong, 2 tries left", "/rules/pins#PIN-" + "39"} {
		require.Contains(t, bytes, word)
	}
	require.NotContains(t, bytes, "<span>31</span>")

	_, rules := trainer.get(t, "/rules/pins")
	require.Contains(t, rules, `id="PIN-`+`39"`)
}

func TestConsole_TranscriptHasNoSecretsAndReplays(t *testing.T) {
	c := begin(t, "lab")
	trainer := visit(t, c.trainer)
	c.send(t, selects, ask, wrong, right, "8050000000", "80580000000000")
	var text string
	eventually(t, "all is told", func() bool {
		_, text = trainer.get(t, "/card/lab/transcript")
		return strings.Contains(text, "\n80580000000000\n")
	})
	require.Contains(t, text, "\n"+selects+"\n")
	require.Contains(t, text, "\n"+ask+"\n")
	require.NotContains(t, text, "363438323139")
	require.NotContains(t, text, "313131")
	require.Contains(t, text, "# left out, since it has what may be secret: 0020008106............\n")
	status, text := trainer.post(t, "/card/lab/transcript", "user", "648219", "so", "3537363231383830")
	require.Contains(t, text, "# The PINs that were filled in stand in it")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, text, "\n"+right+"\n")
	require.Contains(t, text, "\n0020008106303030303030\n")
	status, _ = trainer.post(t, "/card/lab/transcript", "so", "no digits")
	require.Equal(t, http.StatusBadRequest, status)
}

func TestConsole_BackToAnyMoment(t *testing.T) {
	c := begin(t, "lab")
	trainer := visit(t, c.trainer)
	c.send(t, selects, wrong, wrong)
	var body string
	eventually(t, "both tries are told", func() bool {
		_, body = trainer.get(t, "/card/lab")
		return strings.Contains(body, "after VERIFY user PIN: wrong, 1 try left")
	})
	require.Contains(t, body, "A real card never allows this")
	status, said := trainer.post(t, "/card/lab/back", "moment", "1")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, said, "user PIN tries that were spent came back, which no real card can do")
	require.Equal(t, 3, *c.private.Cards[0].Show().UserPIN.TriesLeft)
	status, _ = trainer.post(t, "/card/lab/back", "moment", "999")
	require.Equal(t, http.StatusConflict, status)

	serial := *c.private.Cards[0].Show().Serial
	status, _ = trainer.post(t, "/card/lab/new", "situation", "so=7 user=2")
	require.Equal(t, http.StatusOK, status)
	v := c.private.Cards[0].Show()
	require.Equal(t, 7, *v.SOPIN.TriesLeft)
	require.NotEqual(t, serial, *v.Serial)
	status, said = trainer.post(t, "/card/lab/new", "situation", "so=x")
	require.Equal(t, http.StatusConflict, status)
	require.Contains(t, said, "a number from 0 to 15")
	status, _ = trainer.post(t, "/card/lab/back", "moment", "1")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, serial, *c.private.Cards[0].Show().Serial)
	status, _ = trainer.post(t, "/card/lab/snapshot", "name", "")
	require.Equal(t, http.StatusConflict, status)
	status, _ = trainer.post(t, "/card/lab/snapshot", "name", `<b>"now"</b>`)
	require.Equal(t, http.StatusOK, status)
	_, body = trainer.get(t, "/card/lab")
	require.Contains(t, body, "&lt;b&gt;")
	require.NotContains(t, body, "<b>")
}

func TestConsole_ReaderAndFaults(t *testing.T) {
	c := begin(t, "lab")
	trainer := visit(t, c.trainer)
	for _, do := range []struct {
		path    string
		ejected bool
	}{{"eject", true}, {"eject", true}, {"insert", false}, {"insert", false}, {"reset", false}} {
		status, body := trainer.post(t, "/card/lab/"+do.path)
		require.Equal(t, http.StatusOK, status, body)
		require.Equal(t, do.ejected, c.private.Cards[0].Show().Running.Ejected)
	}
	status, _ := trainer.post(t, "/card/lab/fault", "name", "remove", "settings", "after=3")
	require.Equal(t, http.StatusOK, status)
	_, body := trainer.get(t, "/card/lab")
	require.Contains(t, body, "remove after=3")
	status, _ = trainer.post(t, "/card/lab/fault", "name", "nothing")
	require.Equal(t, http.StatusConflict, status)
	status, _ = trainer.post(t, "/card/lab/clear")
	require.Equal(t, http.StatusOK, status)
	require.Empty(t, c.private.Cards[0].Faults.List())
}

// A card whose PIN is the one that is filled in answers as the card did whose PIN was changed,
// and no try is spent.
func TestConsole_TranscriptOfAChangeReplays(t *testing.T) {
	c := begin(t, "lab", "second")
	trainer := visit(t, c.trainer)
	const other = "363534333231"
	change := "002400810C" + right[10:] + other
	require.Equal(t, "63C2", c.send(t, selects, "002400810C"+other+other))
	require.Equal(t, "9000", c.send(t, change))
	require.Equal(t, "9000", c.send(t, "0020008106"+other, "80580000000000", "0020008106"+other))
	var text string
	eventually(t, "all is told", func() bool {
		_, text = trainer.post(t, "/card/lab/transcript", "user", "648219")
		return strings.Count(text, "VERIFY user PIN → 9000") == 2
	})
	var answers []string
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		command, err := apdu.ParseHex(strings.TrimSpace(line))
		require.NoError(t, err)
		answer, err := c.private.Cards[1].Card.Transmit(t.Context(), command)
		require.NoError(t, err)
		answers = append(answers, strings.ToUpper(hexOf(answer[len(answer)-2:])))
	}
	require.Equal(t, []string{"9000", "63C2", "9000", "9000", "9000", "9000"}, answers)
	require.Equal(t, 3, *c.private.Cards[1].Show().UserPIN.TriesLeft)
}

// The beginning and what somebody gave a name are there however much has happened since.
func TestConsole_TheTimelineKeepsTheBeginning(t *testing.T) {
	c := begin(t, "lab")
	trainer := visit(t, c.trainer)
	c.send(t, selects)
	status, _ := trainer.post(t, "/card/lab/snapshot", "name", "mine")
	require.Equal(t, http.StatusOK, status)
	for range 60 {
		require.Equal(t, "63C2", c.send(t, wrong))
		require.Equal(t, "9000", c.send(t, right))
	}
	var body string
	eventually(t, "all is told", func() bool {
		_, body = trainer.get(t, "/card/lab")
		return strings.Contains(body, `name="moment" value="122"`)
	})
	require.Equal(t, 102, strings.Count(body, `name="moment"`))
	require.Contains(t, body, `name="moment" value="1"`, "the console started")
	require.Contains(t, body, `name="moment" value="2"`, "mine")
	require.NotContains(t, body, `name="moment" value="3"`)
}

// A command that is held has not reached the card; released, or when the console ends, it
// does.
func TestConsole_PredictThenReveal(t *testing.T) {
	c := begin(t, "lab")
	trainer := visit(t, c.trainer)
	status, _ := trainer.post(t, "/card/lab/hold", "what", "pin")
	require.Equal(t, http.StatusOK, status)
	c.send(t, selects, ask) // not held
	answered := make(chan string, 1)
	var held time.Time
	try := func() {
		held = time.Now()
		go func() { answered <- c.send(t, wrong) }()
		eventually(t, "it waits", func() bool {
			_, body := visit(t, c.pupil).get(t, "/card/lab")
			return strings.Contains(body, "What will the counter of the user PIN show?")
		})
		require.Equal(t, 3, *c.private.Cards[0].Show().UserPIN.TriesLeft)
	}
	try()
	c.kept["before"] = c.private.Cards[0].Moment()
	for _, do := range [][]string{{"eject"}, {"reset"}, {"new", "situation", "so=7"}, {"back", "moment", "1"}, {"restore", "tag", "before"}} {
		status, body := trainer.post(t, "/card/lab/"+do[0], do[1:]...)
		require.Equal(t, http.StatusConflict, status, do)
		require.Contains(t, body, "let the held command go first", do)
	}
	require.Empty(t, answered, "it still waits")
	status, _ = trainer.post(t, "/card/lab/release")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "63C2", <-answered)
	status, _ = trainer.post(t, "/card/lab/release")
	require.Equal(t, http.StatusConflict, status)
	require.Equal(t, "9000", c.release(t, trainer, right))
	try()
	c.end()
	require.Equal(t, "63C2", <-answered)
	require.Less(t, time.Since(held), hold, "before it would have gone by itself")
	require.Equal(t, "63C1", c.send(t, wrong)) // nothing is held any more
}

// release sends a command that is held and lets it go.
func (c *class) release(t *testing.T, trainer *visitor, command string) string {
	t.Helper()
	answered := make(chan string, 1)
	go func() { answered <- c.send(t, command) }()
	for {
		select {
		case a := <-answered:
			return a
		case <-time.NewTimer(20 * time.Millisecond).C:
			trainer.post(t, "/card/lab/release")
		}
	}
}

// What is held is named as what has it calls it: INITIALIZE UPDATE of the card manager tries no
// PIN, though it has the instruction of INITIALIZE DEVICE. A command that waits is seen on the page
// of all cards, too, and is let go where commands are held.
func TestConsole_HeldForTheCardManager(t *testing.T) {
	c := begin(t, "lab", "second")
	trainer := visit(t, c.trainer)
	status, _ := trainer.post(t, "/card/lab/hold", "what", "pin")
	require.Equal(t, http.StatusOK, status)
	update := fmt.Sprintf("8050%02X0008AABBCCDDEEFF001100", chip.KeyVersion)
	require.NotEmpty(t, c.send(t, "00A4040000", update), "it is not held")
	status, _ = trainer.post(t, "/card/lab/hold", "what", "all")
	require.Equal(t, http.StatusOK, status)
	answered := make(chan string, 1)
	go func() { answered <- c.send(t, update) }()
	var body string
	eventually(t, "it waits", func() bool {
		_, body = trainer.get(t, "/card/lab")
		return strings.Contains(body, "The card has not seen this yet")
	})
	require.Contains(t, body, "INITIALIZE UPDATE: not answered yet")
	require.Contains(t, body, "What will the card answer?")
	require.Equal(t, 2, strings.Count(body, `action="/card/lab/release"`))
	_, body = trainer.get(t, "/")
	require.Contains(t, body, "a command waits")
	status, _ = trainer.post(t, "/card/lab/release")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "9000", last(<-answered))
	_, body = trainer.get(t, "/")
	require.NotContains(t, body, "a command waits")
}

// last is the status word of an answer.
func last(answer string) string { return answer[max(0, len(answer)-4):] }

// So many moments have names, and no more; what they are called is counted in characters.
func TestConsole_NamedMomentsEnd(t *testing.T) {
	c := begin(t, "lab")
	trainer := visit(t, c.trainer)
	status, _ := trainer.post(t, "/card/lab/snapshot", "name", strings.Repeat("ä", 80))
	require.Equal(t, http.StatusOK, status)
	status, _ = trainer.post(t, "/card/lab/snapshot", "name", strings.Repeat("ä", 81))
	require.Equal(t, http.StatusConflict, status)
	for range 99 {
		status, _ = trainer.post(t, "/card/lab/snapshot", "name", "one of many")
		require.Equal(t, http.StatusOK, status)
	}
	status, said := trainer.post(t, "/card/lab/snapshot", "name", "one too many")
	require.Equal(t, http.StatusConflict, status)
	require.Contains(t, said, "100 moments have names already")
	status, _ = trainer.post(t, "/card/lab/back", "moment", "2")
	require.Equal(t, http.StatusOK, status)
}
