package applet

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"hsmemu/applet/apdu"
)

// Answers are the answers a card was told to give where what is known of
// hardware and what clients expect disagree. The zero status word leaves the
// answer to the firmware profile; so the zero Answers are those of the profile.
type Answers struct {
	NotSelected      apdu.SW `json:"not_selected,omitzero"`
	DomainDeleted    apdu.SW `json:"domain_deleted,omitzero"`
	NoMatchingDomain apdu.SW `json:"no_matching_domain,omitzero"`
	BadBlob          apdu.SW `json:"bad_blob,omitzero"`
	LastTry          apdu.SW `json:"last_try,omitzero"`
	TooLong          apdu.SW `json:"too_long,omitzero"`
}

// ErrAnswer says that there is no such answer to choose.
var ErrAnswer = errors.New("no such answer")

// answer is one answer that can be chosen for a card.
type answer struct {
	name  string
	to    string
	words []apdu.SW
	// chosen is its place among the answers of a card, profile in a firmware
	// profile.
	chosen  func(*Answers) *apdu.SW
	profile func(*Profile) *apdu.SW
}

var answers = []answer{
	{
		name: "not-selected", to: "any command before the application is selected",
		words:   []apdu.SW{apdu.InstructionNotSupported, apdu.ClassNotSupported},
		chosen:  func(a *Answers) *apdu.SW { return &a.NotSelected },
		profile: func(p *Profile) *apdu.SW { return &p.NotSelected },
	},
	{
		name: "domain-deleted", to: "MANAGE KEY DOMAIN that deleted a key domain",
		words:   []apdu.SW{apdu.ReferenceNotFound, apdu.OK},
		chosen:  func(a *Answers) *apdu.SW { return &a.DomainDeleted },
		profile: func(p *Profile) *apdu.SW { return &p.DomainDeleted },
	},
	{
		name: "no-matching-domain", to: "UNWRAP KEY of a blob that no key domain fits",
		words:   []apdu.SW{apdu.ReferenceNotFound, apdu.WrongData},
		chosen:  func(a *Answers) *apdu.SW { return &a.NoMatchingDomain },
		profile: func(p *Profile) *apdu.SW { return &p.NoMatchingDomain },
	},
	{
		name: "bad-blob", to: "UNWRAP KEY of a blob that is malformed or was altered",
		words:   []apdu.SW{apdu.ExecutionFailed, apdu.WrongData},
		chosen:  func(a *Answers) *apdu.SW { return &a.BadBlob },
		profile: func(p *Profile) *apdu.SW { return &p.BadBlob },
	},
	{
		name: "last-try", to: "the wrong PIN or SO-PIN that empties its counter",
		words:   []apdu.SW{apdu.AuthenticationBlocked, apdu.TriesLeft(0)},
		chosen:  func(a *Answers) *apdu.SW { return &a.LastTry },
		profile: func(p *Profile) *apdu.SW { return &p.LastTry },
	},
	{
		name: "too-long", to: "a command longer than the chip takes",
		words:   []apdu.SW{apdu.WrongData, apdu.WrongLength},
		chosen:  func(a *Answers) *apdu.SW { return &a.TooLong },
		profile: func(p *Profile) *apdu.SW { return &p.TooLong },
	},
}

// AnswerInfo is an answer that can be chosen, for help texts.
type AnswerInfo struct {
	// Name is what to choose it by, "not-selected".
	Name string
	// To says which command the answer is to.
	To string
	// Words are the status words to choose from.
	Words []apdu.SW
}

// AnswerChoices lists the answers that can be chosen for a card.
func AnswerChoices() []AnswerInfo {
	list := make([]AnswerInfo, len(answers))
	for i, a := range answers {
		list[i] = AnswerInfo{Name: a.name, To: a.to, Words: slices.Clone(a.words)}
	}
	return list
}

// With chooses one of the answers of [AnswerChoices] by its name and four
// hexadecimal digits. Error: ErrAnswer.
func (a Answers) With(name, word string) (Answers, error) {
	for _, one := range answers {
		for _, sw := range one.words {
			if one.name == name && strings.EqualFold(sw.String(), word) {
				*one.chosen(&a) = sw
				return a, nil
			}
		}
	}
	return a, fmt.Errorf("%w: %s=%s", ErrAnswer, name, word)
}

// Chosen lists what was chosen, as in "not-selected=6E00".
func (a Answers) Chosen() []string {
	var list []string
	for _, one := range answers {
		if sw := *one.chosen(&a); sw != 0 {
			list = append(list, one.name+"="+sw.String())
		}
	}
	return list
}

// with is the profile of a card that was told what to answer.
func (p *Profile) with(a Answers) *Profile {
	if a == (Answers{}) {
		return p // as nearly always, and at no cost
	}
	return p.changed(a)
}

func (p *Profile) changed(a Answers) *Profile {
	told := *p
	for _, one := range answers {
		if sw := *one.chosen(&a); sw != 0 {
			*one.profile(&told) = sw
		}
	}
	return &told
}

// AnswerWords lists every answer that can be chosen as ParseAnswers reads it.
func AnswerWords() []string {
	var list []string
	for _, a := range AnswerChoices() {
		for _, sw := range a.Words {
			list = append(list, a.Name+"="+sw.String())
		}
	}
	return list
}

// ParseAnswers reads the answers that a card is to give, each as in
// "not-selected=6E00". Error: ErrAnswer, with those that there are.
func ParseAnswers(words []string) (answers Answers, err error) {
	for _, w := range words {
		name, sw, _ := strings.Cut(w, "=")
		if answers, err = answers.With(name, sw); err != nil {
			return Answers{}, answerError(w)
		}
	}
	return answers, nil
}

// answerError is an answer that cannot be chosen.
type answerError string

func (e answerError) Error() string {
	return fmt.Sprintf("answer %q: one of %s", string(e), strings.Join(AnswerWords(), ", "))
}

func (answerError) Unwrap() error { return ErrAnswer }
