package jobs

import "time"

// LedgerRetention is how long a tenant database's ledger remembers a job, from
// its creation: for so long the same UID can never have its effect twice, and
// may be tried again.
const LedgerRetention = 30 * 24 * time.Hour

// Tombstone are the arguments of the internal kind that stops a job in its
// tenant's ledger. It is enqueued for a cancelled job whose worker may still be
// at work, out of reach: with the tombstone in the ledger, whatever that worker
// does is rolled back. It waits for a transaction of the job's that is open, and
// finds out if the job was done before.
type Tombstone struct {
	UID  string `json:"uid"`            // of the job to be stopped
	Step string `json:"step,omitempty"` // of its ledger row; "" is the job itself
}

// Kind returns "headgate.tombstone".
func (Tombstone) Kind() string { return "headgate.tombstone" }

// KindOpts bounds an attempt: it is one statement, and the wait for a lock.
func (Tombstone) KindOpts() KindOpts { return KindOpts{Timeout: time.Minute} }

// DatabaseTombstone is [Tombstone] for a job of scope database.
type DatabaseTombstone struct{ Tombstone }

// Kind returns "headgate.tombstone-database".
func (DatabaseTombstone) Kind() string { return "headgate.tombstone-database" }

// KindOpts makes it a job about a database, like the one it stops.
func (DatabaseTombstone) KindOpts() KindOpts {
	return KindOpts{Scope: ScopeDatabase, Login: LoginOwner, Timeout: time.Minute}
}
