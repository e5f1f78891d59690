package claim_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/rivershared/baseservice"
	"github.com/riverqueue/river/rivershared/riverpilot"
	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker/claim"
)

// fleet is a central database with a catalog, and processes that claim from it
// as a worker does, without River's loops: a job "runs" for as long as the test
// says.
type fleet struct {
	t    testing.TB
	pool *pgxpool.Pool

	mu      sync.Mutex
	running map[string]int // by what is counted: "tenant t1", "server s2", …
	most    map[string]int // the highest that running has been
	done    int
	servers map[string]string // by tenant

	limits  map[string]int           // that must be reached before what counts against them ends
	reached map[string]chan struct{} // by the same, closed when it has been
}

// reaches lets no job end that counts against a limit until so many run at once. A test
// that compares with the limit then proves something, however slow the machine is.
func (f *fleet) reaches(what string, limit int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.limits == nil {
		f.limits, f.reached = map[string]int{}, map[string]chan struct{}{}
	}
	f.limits[what], f.reached[what] = limit, make(chan struct{})
}

// awaitLimits waits until the limits of a job have been reached.
func (f *fleet) awaitLimits(ctx context.Context, job *rivertype.JobRow) {
	for _, what := range []string{"queue " + job.Queue, "kind " + job.Kind} {
		f.mu.Lock()
		reached := f.reached[what]
		f.mu.Unlock()
		if reached == nil {
			continue
		}
		select {
		case <-reached:
		case <-ctx.Done():
		}
	}
}

// makeCatalog makes $1 tenants in a database each, spread over $2 servers.
const makeCatalog = `
WITH s AS (
    INSERT INTO headgate.servers (id, name, hosts, connection_budget)
    SELECT gen_random_uuid(), 's' || n, ARRAY['h' || n], 10000 FROM generate_series(1, $2::int) n RETURNING id, name
), d AS (
    INSERT INTO headgate.databases (id, name, server_id, dbname, kind, job_login, owner_login, signing_key)
    SELECT gen_random_uuid(), 'd' || n, s.id, 'd' || n, 'shared', '', '', '' FROM generate_series(1, $1::int) n JOIN s ON s.name = 's' || 1 + n % $2::int
    RETURNING id, name
)
INSERT INTO headgate.tenants (id, org_id, slug, name, database_id, database_kind)
SELECT gen_random_uuid(), n, 't' || n, 't' || n, d.id, 'shared' FROM generate_series(1, $1::int) n JOIN d ON d.name = 'd' || n`

// addJobs inserts $1 jobs of a kind, spread over tenants $3 to $4.
const addJobs = `
INSERT INTO river_job (kind, args, max_attempts, queue, metadata)
SELECT $2, '{}', 25, 'default', jsonb_build_object('job_uid', gen_random_uuid(), 'tenant', t.id)
FROM generate_series(0, $1::int - 1) n JOIN headgate.tenants t ON t.org_id = $3::int + n % ($4::int - $3::int + 1)`

func newFleet(t testing.TB, tenants, servers int) *fleet {
	cfg, err := pgxpool.ParseConfig(jobstest.Central(t))
	require.NoError(t, err)
	cfg.MaxConns = 20
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	f := &fleet{t: t, pool: pool, running: map[string]int{}, most: map[string]int{}, servers: map[string]string{}}
	f.exec(makeCatalog, tenants, servers)
	f.exec(`ALTER TABLE headgate.tenants DISABLE TRIGGER begin_move, DISABLE TRIGGER check_move`) // these tests move tenants by a statement
	rows, err := pool.Query(context.Background(), `SELECT t.id::text, s.name FROM headgate.tenants t JOIN headgate.databases d ON d.id = t.database_id JOIN headgate.servers s ON s.id = d.server_id`)
	require.NoError(t, err)
	for rows.Next() {
		var tenant, server string
		require.NoError(t, rows.Scan(&tenant, &server))
		f.servers[tenant] = server
	}
	require.NoError(t, rows.Err())
	return f
}

func (f *fleet) exec(sql string, args ...any) {
	f.t.Helper()
	_, err := f.pool.Exec(context.Background(), sql, args...)
	require.NoError(f.t, err)
}

// process is one worker process's claiming, for one queue.
type process struct {
	f     *fleet
	queue string
	lease *claim.Lease
	pilot riverpilot.Pilot
	exec  riverdriver.Executor
	state riverpilot.ProducerState
	kinds []string
	slots int
	busy  int
	apart bool // takes its turns without regard to others
	ended chan *rivertype.JobRow
}

func (f *fleet) process(slots int, kinds ...string) *process {
	lease := claim.NewLease()
	driver := claim.NewDriver(f.pool, nil, lease)
	p := &process{f: f, lease: lease, pilot: driver.PluginPilot(), exec: driver.GetExecutor(), kinds: kinds, slots: slots}
	p.pilot.PilotInit(&baseservice.Archetype{Logger: slog.New(slog.DiscardHandler)}, &riverpilot.PilotInitParams{})
	f.exec(`INSERT INTO headgate.workers (incarnation, worker, host, pid, kinds, queues) VALUES ($1, 'w', '', 1, $2, '{default}')`, lease.Incarnation(), kinds)
	return p.beside("default")
}

// beside is the same process, claiming for another queue with slots of its own.
func (p *process) beside(queue string) *process {
	other := *p
	other.queue, other.ended = queue, make(chan *rivertype.JobRow, p.slots)
	var err error
	_, other.state, err = p.pilot.ProducerInit(context.Background(), p.exec, &riverpilot.ProducerInitParams{ClientID: "test", Queue: queue})
	require.NoError(p.f.t, err)
	p.f.t.Cleanup(func() {
		require.NoError(p.f.t, p.pilot.ProducerShutdown(context.Background(), p.exec, &riverpilot.ProducerShutdownParams{Queue: queue}))
	})
	return &other
}

// claim claims up to n jobs.
func (p *process) claim(ctx context.Context, n int) []*rivertype.JobRow {
	result, err := p.pilot.JobGetAvailable(ctx, p.exec, p.state, &riverdriver.JobGetAvailableParams{
		ClientID: "test", Kind: p.kinds, MaxAttemptedBy: 100, MaxToLock: n, Queue: p.queue,
	})
	if p.apart && err != nil { // claims that do not take turns may deadlock
		return nil
	}
	require.NoError(p.f.t, err)
	for _, job := range result.Jobs {
		p.f.count(job, 1)
	}
	return result.Jobs
}

const endRows = `WITH ours AS MATERIALIZED (SELECT ` + claim.OwnSQL + `) UPDATE river_job SET state = 'completed', finalized_at = now() FROM ours WHERE id = ANY ($1)`

// finish ends jobs: what counts is free as soon as the attempt is over, not when
// its row is written.
func (p *process) finish(jobs ...*rivertype.JobRow) {
	ids := make([]int64, len(jobs))
	for i, job := range jobs {
		ids[i] = job.ID
		p.f.count(job, -1)
		p.state.JobFinish(job)
	}
	p.f.exec(endRows, ids)
}

// work claims and runs jobs, each for as long as length says, until total jobs of
// the fleet are done or ctx ends.
func (p *process) work(ctx context.Context, total int, length func(job *rivertype.JobRow) time.Duration) {
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for p.f.finished() < total {
		if p.busy < p.slots {
			for _, job := range p.claim(context.WithoutCancel(ctx), p.slots-p.busy) {
				p.busy++
				time.AfterFunc(length(job), func() {
					p.f.awaitLimits(ctx, job)
					p.ended <- job
				})
			}
		}
		select {
		case job := <-p.ended:
			p.busy--
			p.finish(job)
		case <-poll.C:
		case <-ctx.Done():
			for ; p.busy > 0; p.busy-- {
				p.finish(<-p.ended)
			}
			return
		}
	}
}

func (f *fleet) finished() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.done
}

// tenantOf reads the tenant from a job's metadata.
func tenantOf(job *rivertype.JobRow) string {
	var meta struct {
		Tenant string `json:"tenant"`
	}
	_ = json.Unmarshal(job.Metadata, &meta) // the test wrote it
	return meta.Tenant
}

func (f *fleet) count(job *rivertype.JobRow, by int) {
	tenant := tenantOf(job)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, what := range []string{"all", "queue " + job.Queue, "tenant " + tenant, "kind " + job.Kind, "kind " + job.Kind + " of " + tenant, "server " + f.servers[tenant]} {
		f.running[what] += by
		if f.most[what] = max(f.most[what], f.running[what]); f.reached[what] != nil && f.most[what] >= f.limits[what] {
			close(f.reached[what])
			delete(f.reached, what)
		}
	}
	if by < 0 {
		f.done++
	}
}

func (f *fleet) tenant(n int) (id string) {
	require.NoError(f.t, f.pool.QueryRow(context.Background(), `SELECT id::text FROM headgate.tenants WHERE org_id = $1`, n).Scan(&id))
	return id
}
