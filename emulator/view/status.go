package view

import (
	"fmt"
	"strings"
)

// Status says whether served cards answer. Process and Place are those of a card
// that was asked for by its name, Socket is that of a daemon; the others are nil.
type Status struct {
	Schema  int      `json:"schema"`
	Answers bool     `json:"answers"` // all of them do
	Why     *string  `json:"why"`     // they do not, in words
	Process *int     `json:"process"`
	Place   *string  `json:"place"` // the reader, in words
	Socket  *string  `json:"socket"`
	Cards   []Served `json:"cards"`
}

// Served is a card in a reader, by its name or by that of the reader alone: a
// program that asks at a socket is not told the name.
type Served struct {
	Card    *string `json:"card"`
	Serial  *string `json:"serial"`
	Reader  *string `json:"reader"`
	Answers bool    `json:"answers"`
	// Start are the files of the start state that its process has made the card with.
	// It is empty if the card was there before, and for a card at a socket.
	Start []string `json:"start"`
}

// Words is the status of cards that answer in one line for people.
func (s Status) Words() string {
	if s.Socket != nil {
		var readers []string
		for _, c := range s.Cards {
			readers = append(readers, known(c.Reader))
		}
		return fmt.Sprintf("%s: a card answers in %s", *s.Socket, strings.Join(readers, " and in "))
	}
	c := s.Cards[0]
	start := ""
	if len(c.Start) > 0 {
		start = ", made with " + strings.Join(c.Start, ", ")
	}
	return fmt.Sprintf("card %q, serial %s, answers: process %d, %s%s", known(c.Card), known(c.Serial), known(s.Process), known(s.Place), start)
}
