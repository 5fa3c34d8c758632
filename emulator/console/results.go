package console

import (
	"context"
	"errors"
	"html/template"
	"net/http"
	"time"

	"hsmemu/emulator/lesson"
)

// report takes a student's result, which has the token of results in its path instead
// of a cookie. Nobody reads anything there.
func (c *Console) report(w http.ResponseWriter, r *http.Request) {
	if !c.results.is(r.PathValue("token")) {
		http.Error(w, "not the address that the trainer's program printed", http.StatusForbidden)
		return
	}
	c.options.Results.ServeHTTP(w, r)
}

// tellResults tells trainers how the class is doing whenever there are other results, but
// not too often, since the whole table is told. It ends with the context.
func (c *Console) tellResults(ctx context.Context) {
	tick := time.NewTicker(resultsTime)
	defer tick.Stop()
	for told := 0; ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if taken := c.options.Results.Taken(); taken != told {
			told = taken
			c.say(message{ID: "results", HTML: c.resultsHTML()}, &c.staff)
		}
	}
}

// resultsHTML is the table of the class.
func (c *Console) resultsHTML() string {
	all := c.options.Results.Standings()
	v := struct {
		All   []lesson.Standing
		Steps []struct{} // as many as the longest lesson has
	}{All: all}
	for _, s := range all {
		v.Steps = make([]struct{}, max(len(v.Steps), len(s.Steps)))
	}
	return c.execute("panel-results", v)
}

// classPage shows trainers how the class is doing. Students do not see each other's results.
func (c *Console) classPage(w http.ResponseWriter, r *http.Request) {
	if roleOf(r) != trainer {
		c.fail(w, r, http.StatusForbidden, errors.New("this page is for the trainer"))
		return
	}
	p := c.page(r, "Class")
	c.show(w, r, "results", http.StatusOK, struct {
		page
		Address string
		Results template.HTML
	}{p, "http://" + r.Host + reportPath + string(c.results), template.HTML(c.resultsHTML())}) //nolint:gosec // made by a template
}
