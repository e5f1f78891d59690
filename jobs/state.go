package jobs

import (
	"slices"
	"strings"
)

// State is where a job stands, or how an attempt at it ended.
type State string

// The states of a job. The last five are also how an attempt ends; a job stands as its
// last attempt has left it, except that a snoozed job is scheduled.
const (
	Waiting     State = "waiting"     // it is due, and no worker has taken it yet
	Scheduled   State = "scheduled"   // its time has not come: it was asked for later, or snoozed
	Running     State = "running"     // a worker is at work on it
	Cancelling  State = "cancelling"  // somebody wants it cancelled, and what an attempt has come to is not known yet
	Unconfirmed State = "unconfirmed" // another client of the queue has written it, and holds it back
	Succeeded   State = "succeeded"   // the effect is committed
	Failed      State = "failed"      // will be tried again
	Snoozed     State = "snoozed"     // will be tried again, no attempt used
	Cancelled   State = "cancelled"   // never again: cancelled
	Discarded   State = "discarded"   // never again: it was the last attempt
)

// States are all of them.
var States = []State{Waiting, Scheduled, Running, Cancelling, Unconfirmed, Succeeded, Failed, Snoozed, Cancelled, Discarded}

// ParseState reads the word of a state.
func ParseState(word string) (State, error) {
	if state := State(word); slices.Contains(States, state) {
		return state, nil
	}
	return "", Inputf("state", word, "give one of %s", strings.Join(StateWords(), ", "))
}

// StateWords are the words of the states.
func StateWords() []string {
	words := make([]string, len(States))
	for i, state := range States {
		words[i] = string(state)
	}
	return words
}

// Phrase is the state as a sentence about a job has it: is running, has succeeded.
func (s State) Phrase() string {
	switch s {
	case Succeeded, Failed:
		return "has " + string(s)
	}
	return "is " + string(s)
}
