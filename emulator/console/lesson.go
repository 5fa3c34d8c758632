package console

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"sync"
	"time"

	"hsmemu/emulator/lesson"
	"hsmemu/emulator/view"
)

// lessonTime is how often is looked whether a lesson went on: here, in a shell, or by what
// happened to its cards.
const lessonTime = 200 * time.Millisecond

// desk is a lesson that somebody works through beside the cards.
type desk struct {
	of  *Console
	dir string // of the session

	acting sync.Mutex // one at a time does something to the session

	mu      sync.Mutex
	session *lesson.Session
	says    string // what the last verdict said, of the present step
	drawn   string // the panel as listeners have it
}

// at sits down at a session.
func (c *Console) at(dir string) (*desk, error) {
	s, err := lesson.Join(dir)
	if err != nil {
		return nil, fmt.Errorf("join the lesson: %w", err)
	}
	d := &desk{of: c, dir: dir, session: s}
	d.drawn = d.panel()
	return d, nil
}

// follow looks until the context ends whether the lesson goes on.
func (d *desk) follow(ctx context.Context) {
	tick := time.NewTicker(lessonTime)
	defer tick.Stop()
	judged := d.now().Changes()
	before, again := judged, false
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		changes := d.now().Changes()
		quiet := changes == before // a client is not in the middle of something
		before = changes
		judge := quiet && changes != judged
		if !judge && !d.now().Stale() {
			continue
		}
		d.look(ctx, judge)
		if !judge {
			continue
		}
		// What happened meanwhile is judged, too, but what a script does itself not for ever.
		judged = changes
		before = d.now().Changes()
		if again = before != changes && !again; !again {
			judged = before
		}
	}
}

// look takes up what was done to the session elsewhere, and judges the present step
// if it is told to.
func (d *desk) look(ctx context.Context, judge bool) {
	d.acting.Lock()
	defer d.acting.Unlock()
	s, err := lesson.Join(d.dir)
	if err != nil {
		return // it ends, or `lesson reset` has to mend it
	}
	if judge {
		_, _ = s.Notice(ctx) // who asks is told what is wrong
	}
	d.show(s, "", false)
}

// now is the session.
func (d *desk) now() *lesson.Session {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.session
}

// show tells listeners how it stands, with what a verdict said if there is a new one.
func (d *desk) show(s *lesson.Session, says string, fresh bool) {
	d.mu.Lock()
	if fresh || s.Number() != d.session.Number() || s.Solved() {
		d.says = says
	}
	d.session = s
	content := d.panel()
	same := content == d.drawn
	d.drawn = content
	d.mu.Unlock()
	if !same {
		d.of.say(message{ID: "lesson", HTML: content}, &d.of.staff, &d.of.class)
	}
}

// html is the panel as it is now.
func (d *desk) html() template.HTML {
	if d == nil {
		return ""
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return template.HTML(d.drawn) //nolint:gosec // made by a template
}

// panel is the lesson's panel, under the lock.
func (d *desk) panel() string {
	s := d.session
	p := struct {
		Title               string
		Number, Steps       int
		Intro, Text, Finish template.HTML
		Step                *lesson.Step
		Hints               []template.HTML
		More                int
		Solved              bool
		Says                []string
		Costs               []lesson.Step
	}{Title: s.Lesson.Title, Number: s.Number(), Steps: len(s.Lesson.Steps), Step: s.Step(), Solved: s.Solved()}
	written := func(text string) template.HTML {
		return template.HTML(lessons.page(lesson.Markdown(text))) //nolint:gosec // everything in it is escaped
	}
	if p.Step == nil {
		p.Finish, p.Costs = written(s.Lesson.Finish), s.Lesson.Steps
		return d.of.execute("panel-lesson", p)
	}
	if p.Number == 1 {
		p.Intro = written(s.Lesson.Intro)
	}
	p.Text = written(p.Step.Text)
	shown, more := s.Shown()
	p.More = more
	for _, h := range shown {
		p.Hints = append(p.Hints, written(h))
	}
	if !p.Solved {
		p.Says = lines(d.says)
	}
	return d.of.execute("panel-lesson", p)
}

// lines are the lines of what a script printed.
func lines(text string) (all []string) {
	for line := range strings.Lines(strings.TrimSpace(text)) {
		all = append(all, view.Printable(strings.TrimRight(line, "\r\n")))
	}
	return all
}

// verdict is what is said of a verdict.
func verdict(v lesson.Verdict, solved string) string {
	if v.Solved {
		return solved
	}
	return "This step is not solved yet."
}

// deeds are what somebody does at the desk. Each says in words what it did, and with
// what a verify script said if it was asked.
var deeds = map[string]func(context.Context, *lesson.Session) (said string, v *lesson.Verdict, err error){
	"check": func(ctx context.Context, s *lesson.Session) (string, *lesson.Verdict, error) {
		v, err := s.Judge(ctx)
		return verdict(v, "Solved."), &v, err
	},
	"hint": func(ctx context.Context, s *lesson.Session) (string, *lesson.Verdict, error) {
		hint, more, err := s.Hint(ctx)
		if hint == "" {
			return "There are no hints.", nil, err
		}
		return fmt.Sprintf("A hint is below; %d more.", more), nil, err
	},
	"undo": func(ctx context.Context, s *lesson.Session) (string, *lesson.Verdict, error) {
		err := s.Undo(ctx)
		said := "Cards and files are as they were when the step began, which no real card allows."
		unkept, listed := s.Unkept()
		if len(unkept) > 0 {
			said += " Left as they are, since only programs can make them: " + view.Printable(words(unkept)) + "."
		}
		return said, &lesson.Verdict{}, errors.Join(err, listed)
	},
	"next": func(ctx context.Context, s *lesson.Session) (string, *lesson.Verdict, error) {
		if s.Step() == nil {
			return "All steps are done.", nil, nil
		}
		v, err := s.Advance(ctx)
		return verdict(v, "On to the next step."), &v, err
	},
}

// act does one of the deeds.
func (d *desk) act(w http.ResponseWriter, r *http.Request) {
	do, is := deeds[r.PathValue("deed")]
	if !is {
		http.NotFound(w, r)
		return
	}
	d.acting.Lock()
	defer d.acting.Unlock()
	s, err := lesson.Join(d.dir)
	if err != nil {
		d.of.fail(w, r, http.StatusConflict, err)
		return
	}
	number, hints := s.Result().Step, s.Result().Hints
	said, v, err := do(r.Context(), s)
	var untold error
	if v == nil {
		d.show(s, "", false)
	} else {
		d.show(s, v.Says, true)
		untold = v.Untold
	}
	if now := s.Result(); err == nil && untold == nil && (now.Step != number || now.Hints != hints) {
		untold = s.Tell(r.Context())
	}
	if untold != nil {
		said += " The trainer was not told: " + untold.Error() + "."
	}
	if err != nil {
		d.of.fail(w, r, http.StatusConflict, err)
		return
	}
	d.of.show(w, r, "done", http.StatusOK, struct {
		page
		Name, Said string
	}{page{Title: "Done", Staff: true}, "", said})
}
