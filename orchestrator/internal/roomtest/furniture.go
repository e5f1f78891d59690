package roomtest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/retention"
	"github.com/headgate/headgate/orchestrator/schedule"
)

// Note is a job that nobody works in these tests.
type Note struct {
	Text string `json:"text"`
}

// Kind is the kind of a Note.
func (Note) Kind() string { return "note" }

// Tidy is one of scope database.
type Tidy struct{}

// Kind is the kind of a Tidy.
func (Tidy) Kind() string { return "tidy" }

// KindOpts are those of a Tidy.
func (Tidy) KindOpts() jobs.KindOpts {
	return jobs.KindOpts{Scope: jobs.ScopeDatabase, Login: jobs.LoginOwner}
}

// Setup is a central database with two tenants in one database.
func Setup(t *testing.T) *jobstest.Env {
	t.Helper()
	return furnish(jobstest.New(t))
}

// SetupDirect is setup past a pooler, whose sessions would outlive a change of
// the database's settings.
func SetupDirect(t *testing.T) *jobstest.Env {
	t.Helper()
	return furnish(jobstest.NewOn(t, jobstest.Direct(t)))
}

func furnish(env *jobstest.Env) *jobstest.Env {
	env.Database("shared", jobstest.DatabaseOpts{})
	env.Tenant("acme", "shared")
	env.Tenant("brick", "shared")
	return env
}

// Count is the number that a query returns.
func Count(t *testing.T, env *jobstest.Env, sql string, args ...any) (n int) {
	t.Helper()
	require.NoError(t, env.Pool.QueryRow(context.Background(), sql, args...).Scan(&n))
	return n
}

// Do executes a statement at the centre.
func Do(t *testing.T, env *jobstest.Env, sql string, args ...any) {
	t.Helper()
	_, err := env.Pool.Exec(context.Background(), sql, args...)
	require.NoError(t, err)
}

// Enqueue makes a Note of tenant acme.
func Enqueue(t *testing.T, env *jobstest.Env) jobs.EnqueueResult {
	t.Helper()
	result, err := env.Client.Enqueue(context.Background(), "acme", Note{"x"}, nil)
	require.NoError(t, err)
	return result
}

// PutInto brings a job's row into a state, as River and its workers would.
func PutInto(t *testing.T, env *jobstest.Env, id int64, state string) {
	t.Helper()
	Do(t, env, `
UPDATE river_job SET state = $2::river_job_state,
    attempt = CASE WHEN $2 IN ('available', 'scheduled', 'pending') THEN 0 ELSE 1 END,
    attempted_at = CASE WHEN $2 IN ('available', 'scheduled', 'pending') THEN NULL ELSE now() END,
    scheduled_at = CASE WHEN $2 IN ('scheduled', 'retryable') THEN now() + interval '1 hour' ELSE scheduled_at END,
    finalized_at = CASE WHEN $2 IN ('completed', 'cancelled', 'discarded') THEN now() END
WHERE id = $1`, id, state)
	if state == "completed" { // with its outcome, as workers do it
		Do(t, env, `
INSERT INTO headgate.outcomes (id, job_uid, job_id, kind, attempt, state, started_at, ended_at)
SELECT gen_random_uuid(), (metadata->>'job_uid')::uuid, id, kind, 1, 'succeeded', now(), now() FROM river_job WHERE id = $1`, id)
	}
}

// RunUnder puts a job's row into the hands of a worker that this test only
// claims to have, and returns its incarnation.
func RunUnder(t *testing.T, env *jobstest.Env, id int64) string {
	t.Helper()
	incarnation := uuid.NewString()
	PutInto(t, env, id, "running")
	Do(t, env, `UPDATE river_job SET attempted_by = ARRAY[$2::text || ':1'] WHERE id = $1`, id, incarnation)
	Register(t, env, incarnation, []string{"note"}, []string{"default"})
	return incarnation
}

// Register makes the row of a worker that lives.
func Register(t *testing.T, env *jobstest.Env, incarnation string, kinds, queues []string) {
	t.Helper()
	Do(t, env, `INSERT INTO headgate.workers (incarnation, worker, host, pid, kinds, queues) VALUES ($1::text::uuid, 'w-' || left($1::text, 4), 'here', 7, $2, $3)`,
		incarnation, kinds, queues)
}

// JobOf reads a job.
func JobOf(t *testing.T, env *jobstest.Env, uid string) jobs.Record {
	t.Helper()
	job, err := env.Client.Job(context.Background(), uid)
	require.NoError(t, err)
	return job
}

// Age makes a wish to cancel older than a worker is given.
func Age(t *testing.T, env *jobstest.Env, id int64) {
	t.Helper()
	Do(t, env, `
UPDATE river_job SET metadata = jsonb_set(metadata, '{cancel_request,at}', to_jsonb(now() - $2::interval)) WHERE id = $1`, id, 2*jobs.TombstoneAfter)
}

// Outcome writes an ended attempt of a job into the history.
func Outcome(t *testing.T, env *jobstest.Env, job jobs.EnqueueResult, state string, class jobs.Class, message string, at time.Time) {
	t.Helper()
	Do(t, env, `
INSERT INTO headgate.outcomes (id, job_uid, job_id, kind, attempt, state, class, message, started_at, ended_at)
VALUES (gen_random_uuid(), $1, $2, 'note', 1, $3, $4, $5, $6, $6)`, job.UID, env.RowOf(job.UID), state, string(class), message, at)
}

// FactsOf are the facts about a job, one a line, with what can be done.
func FactsOf(t *testing.T, env *jobstest.Env, name string) string {
	t.Helper()
	e, err := env.Explain.Explain(context.Background(), name)
	require.NoError(t, err)
	require.NotEmpty(t, e.Facts)
	lines := make([]string, len(e.Facts))
	for i, f := range e.Facts {
		lines[i] = f.Fact + " → " + f.Next
	}
	return strings.Join(lines, "\n")
}

// Holds says that a worker which this test only claims to have, and which does all
// work, holds so much; hand is in the form of worker/claim, with A for the id of
// tenant acme, B for brick's, and S for their server's.
func Holds(t *testing.T, env *jobstest.Env, hand string) {
	t.Helper()
	incarnation := uuid.NewString()
	Register(t, env, incarnation, []string{"note", "tidy"}, []string{"default"})
	Do(t, env, `
INSERT INTO headgate.hands (incarnation, hand, waiting)
SELECT $1, replace(replace(replace($2, '"A"', '"' || a.id || '"'), '"B"', '"' || b.id || '"'), '"S"', '"' || d.server_id || '"')::jsonb, false
FROM headgate.tenants a, headgate.tenants b, headgate.databases d WHERE a.slug = 'acme' AND b.slug = 'brick' AND d.id = a.database_id`, incarnation, hand)
}

// InMonth is the middle of a month, counted from the present one.
func InMonth(n int) time.Time {
	year, month, _ := time.Now().UTC().Date()
	return time.Date(year, month+time.Month(n), 15, 0, 0, 0, 0, time.UTC)
}

// Month is the name of the partition of a time.
func Month(at time.Time) string { return "outcomes_" + at.UTC().Format("2006_01") }

// CreateWith is create for a schedule of acme's with policies.
func CreateWith(t *testing.T, env *jobstest.Env, name, cron string, policy schedule.Policy) schedule.Schedule {
	t.Helper()
	s, err := env.Schedules.Create(context.Background(), schedule.Params{
		Tenant: "acme", Name: name, Args: Note{name}, Spec: schedule.Spec{Cron: cron, Zone: "Europe/Paris", Policy: policy}, Actor: "ines",
	})
	require.NoError(t, err)
	return s
}

// ShadowClock puts a clock before the database's own that a test can set, by what
// stands in skew.clock.
func ShadowClock(t *testing.T, env *jobstest.Env) {
	t.Helper()
	_, err := env.Pool.Exec(context.Background(), `
CREATE SCHEMA skew;
CREATE TABLE skew.clock (by interval NOT NULL);
INSERT INTO skew.clock VALUES ('0');
CREATE FUNCTION skew.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT pg_catalog.clock_timestamp() + by FROM skew.clock';
GRANT USAGE ON SCHEMA skew TO PUBLIC;
GRANT SELECT ON skew.clock TO PUBLIC;
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = skew, pg_catalog, public', current_database()); END $$`)
	require.NoError(t, err)
	env.Reset() // a session has the path that it began with
}

// Janitor is one that does nothing until it is told to.
func Janitor(t *testing.T, env *jobstest.Env, cfg retention.Config) *retention.Janitor {
	t.Helper()
	cfg.Pool, cfg.Selectors, cfg.Logger = env.Pool, env.Schedules.Templates, env.Log
	j, err := retention.New(cfg)
	require.NoError(t, err)
	return j
}

// Sweep is one pass of a janitor.
func Sweep(t *testing.T, j *retention.Janitor) retention.Swept {
	t.Helper()
	swept, err := j.RunOnce(context.Background())
	require.NoError(t, err)
	return swept
}

// Node is a step of a plan.
type Node struct {
	Type     string  `json:"Node Type"`
	Relation string  `json:"Relation Name"`
	Index    string  `json:"Index Name"`
	Function string  `json:"Function Name"`
	Rows     float64 `json:"Actual Rows"`
	Loops    float64 `json:"Actual Loops"`
	Removed  float64 `json:"Rows Removed by Filter"`
	Plans    []Node  `json:"Plans"`
}

// Walk visits the step and all below it.
func (n Node) Walk(visit func(Node)) {
	visit(n)
	for _, inner := range n.Plans {
		inner.Walk(visit)
	}
}

// JobsAmongMany makes a job in each of six states, the last completed, among 20,000
// that are done, and returns their UIDs.
func JobsAmongMany(t *testing.T, env *jobstest.Env) (uids []string) {
	t.Helper()
	Do(t, env, `
WITH done AS (
    INSERT INTO river_job (state, queue, kind, args, metadata, max_attempts, attempt, finalized_at)
    SELECT 'completed', 'default', 'note', '{}', jsonb_build_object('job_uid', gen_random_uuid()), 1, 1, now() FROM generate_series(1, 20000)
    RETURNING id, kind, metadata
)
INSERT INTO headgate.outcomes (id, job_uid, job_id, kind, attempt, state, started_at, ended_at)
SELECT gen_random_uuid(), (metadata->>'job_uid')::uuid, id, kind, 1, 'succeeded', now(), now() FROM done`)
	for _, state := range []string{"available", "running", "retryable", "discarded", "cancelled", "completed"} {
		job := Enqueue(t, env)
		PutInto(t, env, env.RowOf(job.UID), state)
		require.Equal(t, env.RowOf(job.UID), env.RowOf(JobOf(t, env, job.UID).UID), state)
		uids = append(uids, job.UID)
	}
	Do(t, env, `ANALYZE river_job`)
	Do(t, env, `ANALYZE headgate.outcomes`)
	return uids
}

// FoundByUIDs looks that a query walks the index of UIDs.
func FoundByUIDs(t *testing.T, env *jobstest.Env, sql string, arg any) {
	t.Helper()
	rows, err := env.Pool.Query(context.Background(), `EXPLAIN (COSTS OFF) `+sql, arg)
	require.NoError(t, err)
	plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	text := strings.Join(plan, "\n")
	require.Contains(t, text, "river_job_headgate_uid")
	require.NotContains(t, text, "Seq Scan on river_job", text)
	require.NotContains(t, text, "Seq Scan on "+Month(time.Now()), text)
}
