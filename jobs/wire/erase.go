package wire

import (
	"regexp"
	"time"

	"github.com/headgate/headgate/jobs"
)

// Erase are the arguments of the job that deletes the rows of a removed tenant. They name the
// tenant and nothing else: whether it may be erased, and by which numbers its rows are found,
// the handler asks the central database.
type Erase struct {
	Tenant    string `json:"tenant"`               // UUID
	CountOnly bool   `json:"count_only,omitempty"` // counts, and writes nothing
}

// Kind returns "headgate.erase".
func (Erase) Kind() string { return "headgate.erase" }

// KindOpts makes it a job about the tenant's database, done by its owner in queue bulk, with
// four hours for each attempt.
func (Erase) KindOpts() jobs.KindOpts {
	return jobs.KindOpts{Queue: jobs.BulkQueue, Scope: jobs.ScopeDatabase, Login: jobs.LoginOwner, Idempotence: jobs.Idempotent, Timeout: 4 * time.Hour}
}

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// Check refuses what is no tenant's UUID.
func (e Erase) Check() error {
	if !uuidForm.MatchString(e.Tenant) {
		return jobs.Inputf("tenant", e.Tenant, "give the UUID of a removed tenant; `headgate tenant erase` asks for the job and fills it in")
	}
	return nil
}

// Erasing is what the central database says of a tenant that a job is to erase.
type Erasing struct {
	OrgID    int64
	OrgKey   string
	Name     string
	Database string // UUID; "" is none
	Removed  bool
	Job      string // UID of the job that was asked for; "" if nobody has
	Done     bool
	Jobs     int    // of the tenant that have not ended
	First    string // the UID of one of them

	// Late names a session of the central database whose open transaction may hold a job of
	// the tenant that nobody else sees; "" is none.
	Late string

	// Unconfirmed is the UID of one that another client of the queue holds back; "" is none.
	Unconfirmed string
}

// Cleared counts what was taken out of the central database.
type Cleared struct {
	Outcomes, Jobs, Keys int64
}
