package jobs

import "time"

// Held counts the attempts in a row that ended for a reason that is not the
// job's own, and used none. An attempt that ends otherwise takes it away.
type Held struct {
	Class Class     `json:"class"` // of the last of them
	Since time.Time `json:"since"` // the end of the first in a row of that class
	Times int       `json:"times"` // how many in a row of that class

	// BegunSince and Begun are the same for those whose handler had begun, of
	// whatever class: after Config.UnblamedMost of them attempts are used.
	BegunSince time.Time `json:"begun_since,omitzero"`
	Begun      int       `json:"begun,omitempty"`
}

// CancelRequest says that somebody wants a job to end, and who.
type CancelRequest struct {
	By     string    `json:"by,omitempty"`
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at"` // by the central database's clock
}

// String is the request as the message of an outcome.
func (r CancelRequest) String() string {
	text := "cancelled"
	if r.By != "" {
		text += " by " + r.By
	}
	if r.Reason != "" {
		text += ": " + r.Reason
	}
	return text
}
