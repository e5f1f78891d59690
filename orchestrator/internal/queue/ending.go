package queue

import (
	"fmt"

	"github.com/headgate/headgate/jobs"
)

// Last is the last attempt of those that Attempts holds; nil if there is none.
func (j *Job) Last() *jobs.Outcome {
	if len(j.Attempts) == 0 {
		return nil
	}
	return &j.Attempts[len(j.Attempts)-1]
}

// Ending says how an attempt ended, after "its last attempt".
func Ending(o jobs.Outcome) string {
	text := "was " + string(o.State)
	switch o.State {
	case jobs.Succeeded, jobs.Failed:
		text = string(o.State)
	}
	switch {
	case o.Class != "" && o.Message != "":
		return fmt.Sprintf("%s (%s: %s)", text, o.Class, o.Message)
	case o.Class != "" || o.Message != "":
		return fmt.Sprintf("%s (%s%s)", text, o.Class, o.Message)
	}
	return text
}
