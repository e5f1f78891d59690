package queue

import "github.com/headgate/headgate/jobs"

// StateOf is the state of a row of river_job, by its word there. Words that both sides
// have stay as they are.
func StateOf(word string) jobs.State {
	switch word {
	case "available":
		return jobs.Waiting
	case "retryable":
		return jobs.Failed
	case "completed":
		return jobs.Succeeded
	case "pending":
		return jobs.Unconfirmed
	}
	return jobs.State(word)
}

// rowState is the word of river_job for a state, "" for "". A snoozed job is scheduled.
// Cancelling has none: a row's metadata says it.
func rowState(state jobs.State) string {
	switch state {
	case jobs.Waiting:
		return "available"
	case jobs.Failed:
		return "retryable"
	case jobs.Succeeded:
		return "completed"
	case jobs.Unconfirmed:
		return "pending"
	case jobs.Snoozed:
		return "scheduled"
	}
	return string(state)
}
