package jobs

import "time"

// SucceededFilter says which succeeded jobs to list: those of a database whose last attempt
// ended from Margin before To on, by the clocks of their workers.
type SucceededFilter struct {
	// Database is its name or UUID.
	Database string

	// To is the time whose state the database was restored to. It must lie in the past, in
	// what the history still has, and within LedgerRetention.
	To time.Time

	// Margin is how far the clocks of workers and of the backup may differ. 0 means not at
	// all.
	Margin time.Duration

	// Until leaves out what ended from then on. The zero time leaves out nothing.
	Until time.Time
}

// MostSucceeded bounds the jobs that one SucceededFilter may select.
const MostSucceeded = 200_000

// SucceededJob is a job that has succeeded in a database.
type SucceededJob struct {
	UID       string    `json:"uid"`
	Kind      string    `json:"kind"`
	Tenant    string    `json:"tenant,omitempty"` // slug; "" for a job of scope database
	OrgID     int64     `json:"org_id,omitempty"` // 0 for a job of scope database: it keys the ledger
	StartedAt time.Time `json:"started_at"`
	EndedAt   time.Time `json:"ended_at"`

	Parent      string `json:"parent,omitempty"`   // UID of the job whose handler asked for this one
	RerunAs     string `json:"rerun_as,omitempty"` // UID of the job that Client.RerunOnce has made of it
	ParentRerun bool   `json:"-"`                  // RerunOnce has made a job of its parent
	Gone        bool   `json:"gone,omitempty"`     // its row has left the queue, and its arguments with it
}

// MaxRerunOnce is how many jobs one call of Client.RerunOnce takes.
const MaxRerunOnce = 1_000

// RerunOnceResult is what became of one job of a Client.RerunOnce.
type RerunOnceResult struct {
	UID    string        // of the first job
	Result EnqueueResult // the new job; its Status is StatusSame if an earlier call has made it
	Err    error         // why there is none
}
