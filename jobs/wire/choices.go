package wire

import (
	"cmp"
	"strconv"

	"github.com/headgate/headgate/jobs"
)

// Choices are what whoever asks for a job may choose of its row.
type Choices struct {
	Queue       string `json:"queue"`
	Priority    int    `json:"priority"`
	MaxAttempts int    `json:"max_attempts"`
}

// Complete takes the kind's own settings, then the defaults, where nothing was chosen.
func (c Choices) Complete(kind jobs.KindOpts) Choices {
	return Choices{
		Queue:       cmp.Or(c.Queue, kind.Queue, "default"),
		Priority:    cmp.Or(c.Priority, kind.Priority, 1),
		MaxAttempts: cmp.Or(c.MaxAttempts, kind.MaxAttempts, 25),
	}
}

// Check says which choice is not allowed, or that the name of the kind is not.
func (c Choices) Check(kind string) error {
	if err := jobs.CheckKind(kind); err != nil {
		return err
	}
	if err := jobs.CheckQueue(c.Queue); err != nil {
		return err
	}
	switch {
	case c.Priority < 1 || c.Priority > 4:
		return jobs.Inputf("priority", strconv.Itoa(c.Priority), "give 1 (first) to 4")
	case c.MaxAttempts < 1 || c.MaxAttempts > 1000:
		return jobs.Inputf("max attempts", strconv.Itoa(c.MaxAttempts), "give 1 to 1000")
	}
	return nil
}
