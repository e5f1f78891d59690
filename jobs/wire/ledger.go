package wire

import (
	"time"

	"github.com/headgate/headgate/jobs"
)

// ledgerMargin is taken off jobs.LedgerRetention: two databases' clocks are compared.
const ledgerMargin = 24 * time.Hour

// LedgerForgets says whether the ledger may have forgotten, at a time by the
// central database's clock, what a job's attempts have come to. openSince is
// Meta.OpenSince.
func LedgerForgets(openSince int64, now time.Time) bool {
	return openSince != 0 && now.Sub(time.Unix(openSince, 0)) > jobs.LedgerRetention-ledgerMargin
}

// Tombstone are the arguments of the internal kind that stops a job in its
// tenant's ledger. It is enqueued for a job that is being cancelled and that no
// attempt of its own has ended: with the tombstone in the ledger, whatever an
// attempt does is rolled back. It waits for a transaction of the job's that is
// open, finds out if the job was done before, and ends its row accordingly.
type Tombstone struct {
	UID   string `json:"uid"`             // of the job to be stopped
	Step  string `json:"step,omitempty"`  // of its ledger row; "" is the job itself
	ID    int64  `json:"id,omitempty"`    // of its row in the queue; 0: no row is ended
	Token string `json:"token,omitempty"` // of the claim that the row was last under: another one ends the row itself
}

// Kind returns "headgate.tombstone".
func (Tombstone) Kind() string { return "headgate.tombstone" }

// KindOpts bounds an attempt: it is one statement, and the wait for a lock.
func (Tombstone) KindOpts() jobs.KindOpts { return jobs.KindOpts{Timeout: time.Minute} }

// DatabaseTombstone is [Tombstone] for a job of scope database.
type DatabaseTombstone struct{ Tombstone }

// Kind returns "headgate.tombstone-database".
func (DatabaseTombstone) Kind() string { return "headgate.tombstone-database" }

// KindOpts makes it a job about a database, like the one it stops.
func (DatabaseTombstone) KindOpts() jobs.KindOpts {
	return jobs.KindOpts{Scope: jobs.ScopeDatabase, Login: jobs.LoginOwner, Timeout: time.Minute}
}
