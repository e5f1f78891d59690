package jobs

import "time"

// EraseOpts say more of the erasure of a tenant.
type EraseOpts struct {
	Reason string // for the audit; up to 500 characters

	// CountOnly enqueues a job that only counts: nothing is erased, and nothing is noted.
	// The tenant may then have any status.
	CountOnly bool

	// Again erases a tenant that was erased: its database was restored to an earlier time, and
	// has the rows again.
	Again bool
}

// Erasure is the erasure of a removed tenant: who asked for it, and what became of it.
type Erasure struct {
	TenantID string     `json:"tenant_id"` // UUID
	OrgID    int64      `json:"org_id"`
	Name     string     `json:"name"`
	Database string     `json:"database"` // the database's name
	JobUID   string     `json:"job_uid"`  // the job that erases, or counts
	JobState string     `json:"job_state"`
	AskedAt  time.Time  `json:"asked_at"`
	AskedBy  string     `json:"asked_by"`
	Reason   string     `json:"reason"`
	DoneAt   *time.Time `json:"done_at"` // nil: it has not ended
	Rows     int64      `json:"rows"`    // that the last attempt has deleted in the tenant's database

	// Waiting is how many jobs of the tenant have not ended: the erasure waits for them.
	Waiting int `json:"waiting"`
}

// ErrNotRemoved: a tenant that was not removed is not erased.
var ErrNotRemoved = Sentinel("not_removed", "the tenant was not removed")
