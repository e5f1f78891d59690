package catalog

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// FreshFor bounds how long ResolveTenant may go on with an answer after somebody
// else has changed the tenant, its database or its server. What this Catalog
// changes itself counts at once, in a transaction of the caller's within
// FreshFor of its commit.
const FreshFor = 500 * time.Millisecond

const (
	keepFor   = 10 * time.Second // an answer that nobody asked for again
	maxRecent = 10_000           // answers, some hundred bytes each
)

// recent remembers the answers of ResolveTenant, so that a busy worker does not
// ask for each job. An answer is believed for FreshFor from when its query
// began. Half way one caller asks about all of them with one query, by the
// versions of their rows that Postgres itself keeps (xmin); those that have
// changed are dropped. If that fails or is slow they age, and are resolved one
// by one as if there were no memory. It has no goroutine.
type recent struct {
	now func() time.Time // the tests' own, or time.Now

	mu      sync.Mutex // guards what follows; no query runs while it is held
	answers map[recentKey]*answer
	epoch   int       // rises with forget: answers to older questions are not kept
	asked   time.Time // when the last question about all began
}

type recentKey struct {
	tenant uuid.UUID
	login  jobs.Login
}

// rowVersions are xmin of the tenant, its database and its server.
type rowVersions struct{ tenant, database, server uint32 }

type answer struct {
	tenant   jobs.Tenant
	place    address.Place
	versions rowVersions
	checked  time.Time // when the question that last confirmed it began
	used     time.Time
}

func newRecent() *recent { return &recent{now: time.Now, answers: map[recentKey]*answer{}} }

// forget drops everything, after a change of our own.
func (r *recent) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.answers)
	r.epoch++
}

// find returns a fresh answer, and whether its finder is to confirm all of them.
func (r *recent) find(key recentKey) (found answer, ok, confirm bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	a := r.answers[key]
	if a == nil {
		return answer{}, false, false
	}
	a.used = now
	if now.Sub(a.checked) >= FreshFor {
		return answer{}, false, false
	}
	if confirm = now.Sub(a.checked) >= FreshFor/2 && now.Sub(r.asked) >= FreshFor/4; confirm {
		r.asked = now
	}
	found = *a
	found.tenant.Labels = maps.Clone(a.tenant.Labels) // a handler may write into its own
	return found, true, confirm
}

// ask begins a question; keep needs what it returns.
func (r *recent) ask() (began time.Time, epoch int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now(), r.epoch
}

func (r *recent) keep(key recentKey, a answer, began time.Time, epoch int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if epoch != r.epoch || r.answers[key] == nil && len(r.answers) >= maxRecent {
		return
	}
	a.checked, a.used = began, r.now()
	a.tenant.Labels = maps.Clone(a.tenant.Labels)
	r.answers[key] = &a
}

// wanted are the tenants whose answers are worth confirming; the others are
// dropped.
func (r *recent) wanted() (tenants []uuid.UUID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	for key, a := range r.answers {
		if now.Sub(a.used) >= keepFor {
			delete(r.answers, key)
			continue
		}
		tenants = append(tenants, key.tenant)
	}
	return tenants
}

const rowVersionsSQL = `
SELECT t.id, t.xmin, d.xmin, s.xmin
FROM headgate.tenants t
JOIN headgate.databases d ON d.id = t.database_id
JOIN headgate.servers s ON s.id = d.server_id
WHERE t.id = ANY ($1)`

// confirm asks about all answers. What goes wrong is no matter: they age.
func (r *recent) confirm(ctx context.Context, pool *pgxpool.Pool) {
	began, epoch := r.ask()
	tenants := r.wanted()
	rows, err := pool.Query(ctx, rowVersionsSQL, tenants)
	if err != nil {
		return
	}
	found := make(map[uuid.UUID]rowVersions, len(tenants))
	var id uuid.UUID
	var v rowVersions
	_, err = pgx.ForEachRow(rows, []any{&id, &v.tenant, &v.database, &v.server}, func() error { found[id] = v; return nil })
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if epoch != r.epoch {
		return
	}
	for _, id := range tenants {
		for _, login := range []jobs.Login{jobs.LoginJob, jobs.LoginOwner} {
			key := recentKey{id, login}
			a := r.answers[key]
			switch {
			case a == nil || a.checked.After(began): // newer than the question
			case a.versions != found[id]:
				delete(r.answers, key)
			default:
				a.checked = began
			}
		}
	}
}
