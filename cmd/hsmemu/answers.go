package main

import (
	"fmt"
	"strings"

	"hsmemu/applet"
)

// chosenAnswers reads the answers that a new card is told to give, each as in
// "not-selected=6E00".
func chosenAnswers(words []string) (answers applet.Answers, err error) {
	for _, w := range words {
		name, sw, _ := strings.Cut(w, "=")
		if answers, err = answers.With(name, sw); err != nil {
			return applet.Answers{}, usageError{fmt.Errorf("answer %q: one of %s", w, answerList())}
		}
	}
	return answers, nil
}

// answerList names every answer that can be chosen for help texts and errors.
func answerList() string {
	var list []string
	for _, a := range applet.AnswerChoices() {
		for _, sw := range a.Words {
			list = append(list, a.Name+"="+sw.String())
		}
	}
	return strings.Join(list, ", ")
}
