package queue

import (
	"fmt"

	"github.com/headgate/headgate/jobs"
)

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
