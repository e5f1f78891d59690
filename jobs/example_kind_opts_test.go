package jobs_test

import (
	"fmt"
	"time"

	"github.com/headgate/headgate/jobs"
)

// ImportFile is a kind that goes to a queue of its own and may take an hour.
type ImportFile struct {
	URL string `json:"url"`
}

// Kind names the kind.
func (ImportFile) Kind() string { return "import-file" }

// KindOpts are the kind's settings; whoever enqueues may overrule some of them.
func (ImportFile) KindOpts() jobs.KindOpts {
	return jobs.KindOpts{Queue: jobs.BulkQueue, Timeout: time.Hour, MaxAttempts: 3, Optimistic: true}
}

// Reminder is a kind without settings.
type Reminder struct{}

// Kind names the kind.
func (Reminder) Kind() string { return "reminder" }

// A kind declares its settings beside its arguments, so that clients and workers read the
// same ones. A kind without them has the defaults.
func Example_declareSettings() {
	opts := jobs.KindOptsOf(ImportFile{})
	fmt.Println(opts.Queue, opts.Timeout, opts.MaxAttempts, opts.Scope)
	fmt.Println(jobs.KindOptsOf(Reminder{}) == jobs.KindOpts{})
	// Output:
	// bulk 1h0m0s 3 tenant
	// true
}
