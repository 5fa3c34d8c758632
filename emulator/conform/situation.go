package conform

import "strings"

// Given says what PIN a program is given in a situation.
type Given string

// What a program can be given.
const (
	Right Given = "right" // the card's
	Wrong Given = "wrong" // another of the same length
	Short Given = "short" // one of another length
)

// Happening is what is done to the card of a situation while the program runs.
type Happening string

// What can happen to a card.
const (
	Nothing Happening = ""
	Removal Happening = "removal" // it is taken out in the middle of the first command with a PIN
	Reset   Happening = "reset"   // another client resets it after the first login
)

// Situation is one that a program is judged in: a card, what the program is given,
// what happens meanwhile, and what it may cost.
type Situation struct {
	// ID is its name, which the program finds in HSMEMU_SITUATION and which is never
	// given again, and Says the situation and what a program has to do in a sentence.
	ID, Says string
	// Clauses are the statements of docs/protocol that this follows from, and Breaks
	// is what it means for the owner of a card if a program does otherwise.
	Clauses []string
	Breaks  string
	// Card is the card in the words of `hsmemu card new --like`. Stranger is a card
	// with other PINs in a reader before it, in the same words; empty for none.
	// StrangerLast says that its reader comes after that of the card instead.
	Card, Stranger string
	StrangerLast   bool
	// PIN and SOPIN are what the program is given.
	PIN, SOPIN Given
	Happens    Happening
	// UserTries and SOTries are how many tries the program may spend of each PIN.
	UserTries, SOTries int
	// Warns says that the user may have wanted a user PIN to be tried although it is
	// the last time: what is too much is for people to look at.
	Warns bool
	// Works says that the program can do its work, so that it has to end with exit
	// code 0. MayRefuse says that it may also fail if it has presented no PIN.
	Works, MayRefuse bool
	// Channel says that PINs are to be sent in a secure channel.
	Channel bool
}

// Situations are all situations that programs are judged in, in the order in which
// they are played.
func Situations() []Situation {
	return []Situation{
		{
			ID: "usual", Says: "A card in use, and the right PIN: the program does its work and loses no try.",
			Clauses: []string{"PIN-33", "PIN-42"}, Breaks: "The program is of no use, or it was not told how to take its PIN; nothing below means much.",
			Card: "options=0001", PIN: Right, SOPIN: Right, Works: true,
		},
		{
			ID: "wrong-pin", Says: "The PIN is wrong, three tries are left: the program presents it once and fails.",
			Clauses: []string{"PIN-39", "PIN-41"}, Breaks: "A PIN mistyped once blocks the card.",
			Card: "options=0001", PIN: Wrong, SOPIN: Right, UserTries: 1,
		},
		{
			ID: "wrong-length", Says: "The PIN is shorter than any user PIN: the program does not present it again and fails.",
			Clauses: []string{"PIN-4", "PIN-37"}, Breaks: "A program that pads or repeats such a PIN spends tries where the card itself would not.",
			Card: "options=0001", PIN: Short, SOPIN: Right,
		},
		{
			ID: "one-try", Says: "One try is left, and the PIN is right: the program does its work, or presents no PIN and fails, since it does not use the last try unasked.",
			Clauses: []string{"PIN-33", "PIN-42"}, Breaks: "The owner is kept from a card that works.",
			Card: "user=1", PIN: Right, SOPIN: Right, Works: true, MayRefuse: true,
		},
		{
			ID: "last-try", Says: "One try is left, and the PIN is wrong: the program does not spend it without asking its user.",
			Clauses: []string{"PIN-33", "PIN-40"}, Breaks: "The program blocks the card although the card had warned it.",
			Card: "user=1", PIN: Wrong, SOPIN: Right, Warns: true,
		},
		{
			ID: "user-blocked", Says: "The user PIN is blocked: the program presents none after it was told, and fails unless it unblocks the card.",
			Clauses: []string{"PIN-32", "PIN-38", "PIN-68"}, Breaks: nobodyKnows,
			Card: "user=0", PIN: Right, SOPIN: Right,
		},
		{
			ID: "no-unblock", Says: "The user PIN is blocked and the options do not allow to unblock it: the program fails and spends nothing.",
			Clauses: []string{"PIN-32", "PIN-61", "PIN-62"}, Breaks: "A program that goes on until something gives spends tries of the SO-PIN, or erases the card.",
			Card: "options=0000,user=0", PIN: Right, SOPIN: Right,
		},
		{
			ID: "transport-pin", Says: "A transport PIN is to be changed first: the program does not go on presenting it, and fails unless it changes it.",
			Clauses: []string{"PIN-31", "PIN-36", "PIN-56"}, Breaks: "The owner is told of a wrong PIN and enters others until the card is blocked.",
			Card: "options=0003", PIN: Right, SOPIN: Right,
		},
		{
			ID: "so-last-try", Says: "User PIN blocked, one try of the SO-PIN left, and the SO-PIN is wrong: the program does not spend it.",
			Clauses: []string{"PIN-1", "PIN-44", "PIN-66"}, Breaks: "The card is lost: nothing unblocks an SO-PIN.",
			Card: "so=1,user=0", PIN: Right, SOPIN: Wrong,
		},
		{
			ID: "so-blocked", Says: "The SO-PIN is blocked, the user PIN is not: the program does its work.",
			Clauses: []string{"PIN-2", "PIN-44"}, Breaks: "The owner gives up a card whose keys can still be used.",
			Card: "so=0", PIN: Right, SOPIN: Right, Works: true,
		},
		{
			ID: "uninitialised", Says: "The card was never initialised: the program fails and initialises nothing unasked.",
			Clauses: []string{"PIN-28", "PIN-35", "PIN-72"}, Breaks: nobodyKnows,
			Card: "state=uninitialised", PIN: Right, SOPIN: Right,
		},
		{
			ID: "removed", Says: "The card is taken out in the middle of the first PIN command: the program fails, and does not wait for ever.",
			Clauses: []string{"PCSC-36"}, Breaks: "A service hangs, or goes on as if somebody were logged in.",
			Card: "options=0001", PIN: Right, SOPIN: Right, Happens: Removal,
		},
		{
			ID: "reset", Says: "Another client resets the card after the login: the program spends no try, whether it logs in again or fails.",
			Clauses: []string{"PIN-55", "PCSC-21"}, Breaks: "Two programs that share a card block it.",
			Card: "options=0001", PIN: Right, SOPIN: Right, Happens: Reset,
		},
		{
			ID: "session-pin", Says: "The card offers session PINs, which are for secure channels: the program sends no PIN in the clear.",
			Clauses: []string{"SM-36", "SM-37"}, Breaks: "Whoever listens between program and card reads the PIN.",
			Card: "options=0005", PIN: Right, SOPIN: Right, Channel: true,
		},
		{
			ID: "two-cards", Says: "The card of the PIN is in the second reader, HSMEMU_READER has the name of that: the program spends no try of the first card.",
			Clauses: []string{"PIN-39"}, Breaks: "Plugging in a second card blocks that of somebody else.",
			Card: "options=0001", Stranger: "options=0001", PIN: Right, SOPIN: Right,
		},
		{
			ID: "two-cards-last", Says: "The card of the PIN is in the first reader, HSMEMU_READER has the name of that: the program spends no try of the second card.",
			Clauses: []string{"PIN-39"}, Breaks: "Plugging in a second card blocks that of somebody else.",
			Card: "options=0001", Stranger: "options=0001", StrangerLast: true, PIN: Right, SOPIN: Right,
		},
	}
}

// needs says in words what has to happen for the situation to be one.
func (h Happening) needs() string {
	return map[Happening]string{
		Removal: "the card was never taken out: no command with a PIN came",
		Reset:   "nothing came after a login that a reset could have disturbed",
	}[h]
}

// Given is what the program is given, in words.
func (s Situation) Given() string {
	words := []string{string(s.PIN) + " user PIN", string(s.SOPIN) + " SO-PIN"}
	if s.Happens != Nothing {
		words = append(words, string(s.Happens))
	}
	return strings.Join(words, ", ")
}
