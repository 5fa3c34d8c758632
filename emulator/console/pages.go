package console

import (
	"embed"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"hsmemu/emulator"
	"hsmemu/emulator/view"
	"hsmemu/emulator/web"
)

//go:embed page
var files embed.FS

// parse reads the templates; rule is where a statement stands.
func parse(rule func(string) string) (*template.Template, error) {
	return template.New("").Funcs(template.FuncMap{
		"words": words, "printable": view.Printable, "path": url.PathEscape, "rule": rule,
		"known":     func(p *int) int { return *p },
		"text":      func(p *string) string { return *p },
		"tries":     func(n int) []struct{} { return make([]struct{}, max(0, min(n, 16))) },
		"clock":     func(t time.Time) string { return t.Format(time.TimeOnly) },
		"times":     func(a, b int) int { return a * b },
		"plus":      func(a, b int) int { return a + b },
		"low":       func(p *view.PIN) bool { return *p.TriesLeft <= max(1, *p.Tries/4) },
		"gauge":     func(name string, p *view.PIN, next string) gauge { return gauge{name, p, next} },
		"direction": func(title string, parts []linked) direction { return direction{title, parts} },
	}).ParseFS(files, "page/*.html")
}

// direction is a command or an answer.
type direction struct {
	Title string
	Parts []linked
}

// gauge is a retry counter as it is drawn.
type gauge struct {
	Name string
	PIN  *view.PIN
	Next string
}

// page is what every page has.
type page struct {
	Title string
	Staff bool
	Class string // the address for the class, for trainers
	Taken bool   // results are taken, and whoever asks may see them
	After uint64 // the last message that it needs not be told, since it was made later
}

func (c *Console) pages() http.Handler {
	p := &web.Pages{}
	p.Read("/style.css", web.Style)
	p.Read("/console.css", c.file)
	p.Read("/console.js", c.file)
	p.Read("/{$}", c.index)
	p.Read("/events", c.listen)
	p.Read("/rules/{page}", c.chapter)
	p.Read("/card/{card}", c.of(c.cardPage))
	p.Read("/card/{card}/event/{number}", c.of(c.eventPage))
	p.Read("/card/{card}/transcript", c.of(transcript))
	p.Change("/card/{card}/transcript", c.of(transcript))
	if c.options.Results != nil {
		p.Read("/class", c.classPage)
		p.Change(reportPath+"{token}", c.report)
	}
	if c.desk != nil {
		p.Change("/lesson/{deed}", c.desk.act)
	}
	for name, do := range actions {
		p.Change("/card/{card}/"+name, c.of(func(w http.ResponseWriter, r *http.Request, k *card) {
			said, err := do(r, k)
			if err != nil {
				c.fail(w, r, http.StatusConflict, err)
				return
			}
			k.touch()
			c.show(w, r, "done", http.StatusOK, struct {
				page
				Name, Said string
			}{page{Title: "Done", Staff: true}, k.running.Name, said})
		}))
	}
	return p
}

func (c *Console) file(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-cache")
	http.ServeFileFS(w, r, files, "page"+r.URL.Path)
}

// show writes a page.
func (c *Console) show(w http.ResponseWriter, _ *http.Request, name string, status int, data any) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(c.execute(name, data))) // a browser that has gone
}

// fail says what went wrong.
func (c *Console) fail(w http.ResponseWriter, r *http.Request, status int, err error) {
	c.show(w, r, "failed", status, struct {
		page
		Why string
	}{page{Title: "That did not work"}, err.Error()})
}

// page is made before what it shows is asked for.
func (c *Console) page(r *http.Request, title string) page {
	c.shown.Store(c.options.Clock().UnixNano())
	p := page{Title: title, Staff: roleOf(r) == trainer, After: c.feed(r).Last()}
	if p.Staff {
		p.Taken = c.options.Results != nil
		p.Class = "http://" + r.Host + "/?token=" + string(c.pupil)
	}
	return p
}

func (c *Console) index(w http.ResponseWriter, r *http.Request) {
	v := struct {
		page
		Cards  []pageOf
		Lesson template.HTML
	}{page: c.page(r, "Cards"), Lesson: c.desk.html()}
	for _, k := range c.cards {
		v.Cards = append(v.Cards, k.page(v.page))
	}
	c.show(w, r, "index", http.StatusOK, v)
}

// of is a page about a card.
func (c *Console) of(show func(http.ResponseWriter, *http.Request, *card)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		k, is := c.card(r.PathValue("card"))
		if !is {
			c.fail(w, r, http.StatusNotFound, fmt.Errorf("no card %q here", r.PathValue("card")))
			return
		}
		show(w, r, k)
	}
}

func (c *Console) cardPage(w http.ResponseWriter, r *http.Request, k *card) {
	c.show(w, r, "card", http.StatusOK, k.page(c.page(r, "Card "+k.running.Name)))
}

// linked is a part of a command or an answer with its place on the page.
type linked struct {
	view.Part
	ID, Link string
	Each     []string // its bytes
}

func (c *Console) linked(prefix string, parts []view.Part) []linked {
	list := make([]linked, len(parts))
	for i, p := range parts {
		list[i] = linked{p, prefix + strconv.Itoa(i), c.rules.link(p.Rule), strings.Fields(p.Hex)}
		if p.Secret() {
			list[i].Each = make([]string, p.Bytes)
			for j := range list[i].Each {
				list[i].Each[j] = "••"
			}
		}
	}
	return list
}

func (c *Console) eventPage(w http.ResponseWriter, r *http.Request, k *card) {
	n, err := strconv.Atoi(r.PathValue("number"))
	e, is := k.event(n)
	if err != nil || !is {
		c.fail(w, r, http.StatusNotFound, errors.New("this event is not kept any more"))
		return
	}
	p := fmt.Sprintf("e%d", e.Number)
	name := "event"
	if r.URL.Query().Has("part") {
		name = "bytes"
	}
	c.show(w, r, name, http.StatusOK, struct {
		page
		Name           string
		Event          *happened
		Words          string
		Sent, Answered []linked
		Why            *explanation
		Link           string
	}{
		page: c.page(r, "Event"), Name: k.running.Name, Event: e, Words: e.Phrase(),
		Sent: c.linked(p+"s", e.SentParts), Answered: c.linked(p+"a", e.AnsweredParts),
	})
}

func (c *Console) chapter(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("page")
	text, is := c.rules.pages[name]
	if !is {
		c.fail(w, r, http.StatusNotFound, fmt.Errorf("no chapter %q", name))
		return
	}
	c.show(w, r, "chapter", http.StatusOK, struct {
		page
		Text template.HTML
	}{c.page(r, name), text})
}

func (c *Console) listen(w http.ResponseWriter, r *http.Request) {
	_ = c.feed(r).Serve(w, r) // the browser comes back by itself
}

// feed is what whoever asks is told.
func (c *Console) feed(r *http.Request) *web.Feed {
	if roleOf(r) == trainer {
		return &c.staff
	}
	return &c.class
}

// actions are what a trainer can do to a card. Each says in words what it did.
var actions = map[string]func(*http.Request, *card) (string, error){
	"eject": func(r *http.Request, k *card) (string, error) {
		return "The card is out.", k.running.Eject(r.Context())
	},
	"insert": func(r *http.Request, k *card) (string, error) {
		return "The card is in.", k.running.Insert(r.Context())
	},
	"reset": func(r *http.Request, k *card) (string, error) {
		return "The card was reset.", k.running.Reset(r.Context())
	},
	"fault": func(r *http.Request, k *card) (string, error) {
		name := r.PostFormValue("name")
		return "The fault is set: " + name + ".", k.running.Faults.Set(name, strings.Fields(r.PostFormValue("settings")))
	},
	"clear": func(_ *http.Request, k *card) (string, error) {
		k.running.Faults.Clear()
		return "No fault is set.", nil
	},
	"snapshot": func(r *http.Request, k *card) (string, error) {
		name := strings.TrimSpace(r.PostFormValue("name"))
		if n := utf8.RuneCountInString(name); n == 0 || n > 80 {
			return "", errors.New("a snapshot has a name of 1 to 80 characters")
		}
		return "The state is kept.", k.name("snapshot: " + view.Printable(name))
	},
	"back": func(r *http.Request, k *card) (string, error) {
		n, _ := strconv.Atoi(r.PostFormValue("moment"))
		m, is := k.moment(n)
		if !is {
			return "", errors.New("this moment is not kept any more")
		}
		return k.become(r, "The card is as it was then", m)
	},
	"restore": func(r *http.Request, k *card) (string, error) {
		if k.of.options.Read == nil {
			return "", errors.New("no snapshots are kept here")
		}
		tag := r.PostFormValue("tag")
		state, err := k.of.options.Read(k.running.Name, tag)
		if err != nil {
			return "", err
		}
		return k.become(r, "The card is as in the snapshot "+view.Printable(tag), moment{state: state})
	},
	"new": func(r *http.Request, k *card) (string, error) {
		if k.of.options.Make == nil {
			return "", errors.New("no cards are made here")
		}
		state, err := k.of.options.Make(r.PostFormValue("situation"))
		if err != nil {
			return "", err
		}
		return k.become(r, "Another card is in the reader", moment{state: state})
	},
	"hold": func(r *http.Request, k *card) (string, error) {
		what := holding(r.PostFormValue("what"))
		switch what {
		case holdNothing:
			k.gate.hold(what)
			return "Nothing is held back.", nil
		case holdPINs, holdAll:
			k.gate.hold(what)
			return "Commands wait from now on, each 15 seconds at most.", nil
		}
		return "", errors.New("hold back nothing, pin or all")
	},
	"release": func(_ *http.Request, k *card) (string, error) {
		if !k.gate.release() {
			return "", errors.New("no command waits")
		}
		return "The card has the command.", nil
	},
}

// become brings the card to a state, and says what that took back.
func (k *card) become(r *http.Request, said string, m moment) (string, error) {
	undone, err := k.running.Return(r.Context(), m.state)
	if err != nil {
		return "", err
	}
	k.mu.Lock()
	k.why, k.whyOf = nil, nil // it happened to a card that is not there any more
	k.mu.Unlock()
	if len(undone) == 0 {
		return said + ".", nil
	}
	return said + ": " + strings.Join(undone, ", ") + ", which no real card can do.", nil
}

// FaultKinds are the faults that can be set.
func (page) FaultKinds() []emulator.FaultKind { return emulator.FaultKinds() }

// Situations are the words that state a card's situation.
func (page) Situations() [][2]string { return view.SituationHelp() }
