package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker"
)

// Odd is a kind that does nothing.
type Odd struct{}

func (Odd) Kind() string { return "odd" }

// A situation is where in its life an odd row is written.
type situation struct {
	name    string
	columns map[string]string // SQL literals, where they differ from those of a plain row
}

// situations are all that a row can be in. The dead worker's incarnation is $dead.
var situations = []situation{
	{"available", nil},
	{"scheduled", map[string]string{"state": `'scheduled'`, "scheduled_at": `now() - interval '1 second'`}},
	{"retryable", map[string]string{"state": `'retryable'`, "attempt": `1`, "scheduled_at": `now() - interval '1 second'`}},
	{"running", map[string]string{"state": `'running'`, "attempt": `1`, "attempted_at": `now()`, "attempted_by": `ARRAY['$dead:1']`}},
	{"pending", map[string]string{"state": `'pending'`}},
	{"completed", map[string]string{"state": `'completed'`, "attempt": `1`, "finalized_at": `now()`}},
	{"discarded", map[string]string{"state": `'discarded'`, "attempt": `3`, "finalized_at": `now()`}},
}

// extremes are SQL literals of each type, k of them alike but for a unique column.
func extremes(column, udt string, k int) []string {
	switch udt {
	case "int8":
		return []string{fmt.Sprintf("'-9223372036854775808'::bigint + %d", k), fmt.Sprintf("%d", -1-k), fmt.Sprintf("%d - 1", -7*k+1), fmt.Sprintf("9223372036854775807 - %d", k)}
	case "int2":
		return []string{"'-32768'", "'-1'", "0", "32766", "32767", "4"}
	case "timestamptz":
		return []string{"NULL", "'-infinity'", "'infinity'", "'4714-11-24 00:00:00+00 BC'", "'0044-03-15 BC'", "'0001-01-01 00:00:00+00'", "'10000-01-01'", "'294276-12-31 23:59:59.999999+00'"}
	case "text":
		return []string{"'x'", `E'two\nlines "quoted" \\u0000 %s'`, `repeat(U&'\+01F600', 127)`}
	case "jsonb":
		values := []string{"'null'", "'[]'", "'[1]'", "'{}'", "'5'", `'"job_uid"'`, `'["cancel_attempted_at", "job_uid"]'`, `jsonb_build_object('big', repeat('x', 300000))`, `(repeat('[', 1000) || repeat(']', 1000))::jsonb`}
		if column == "metadata" {
			values = append(values, oddMetadata...)
		}
		return values
	case "_jsonb":
		return []string{"NULL", "'{}'", "'{NULL}'", `'{"null","5","[]","{}"}'`, `ARRAY[ARRAY['1','2'],ARRAY['3','4']]::jsonb[]`, `'[7:7]={"{}"}'`, `ARRAY['{"at": "never", "attempt": "x"}']::jsonb[]`}
	case "_text", "_varchar":
		return []string{"NULL", "'{}'", "'{NULL}'", "'{{a,b},{c,d}}'", "'[7:8]={a,b}'", `'{"",","}'`, "array_fill('y'::text, ARRAY[500])"}
	case "bytea":
		return []string{"NULL", "''", `'\x00ff'`, "decode(repeat('00', 3000), 'hex')"}
	case "bit":
		return []string{"NULL", "B'00000000'", "B'11111111'", "B'00000001'"}
	case "river_job_state":
		return []string{"'available'", "'scheduled'", "'running'", "'retryable'", "'completed'", "'cancelled'", "'discarded'", "'pending'"}
	}
	return nil
}

// oddMetadata is what somebody may write under our keys; $acme is the tenant.
var oddMetadata = []string{
	`jsonb_build_object('tenant', '$acme', 'job_uid', repeat('-', 36))`,
	`jsonb_build_object('tenant', '$acme', 'job_uid', '0190aaaa00007000800000000000000a')`,
	`jsonb_build_object('tenant', '$acme', 'job_uid', upper('0190aaaa-0000-7000-8000-00000000000a'))`,
	`jsonb_build_object('tenant', '$acme', 'job_uid', '{0190aaaa-0000-7000-8000-00000000000b}')`,
	`jsonb_build_object('tenant', '$acme', 'JOB_UID', '0190aaaa-0000-7000-8000-00000000000c')`,
	`jsonb_build_object('tenant', '$acme', 'job_uid', 7)`,
	`jsonb_build_object('tenant', '$acme', 'job_uid', '{}'::text[])`,
	`jsonb_build_object('tenant', repeat('-', 36), 'database', repeat('-', 36))`,
	`jsonb_build_object('tenant', upper('$acme'))`,
	`jsonb_build_object('tenant', 7)`,
	`jsonb_build_object('tenant', repeat(U&'\+01F600', 500))`,
	`jsonb_build_object('tenant', '$acme', 'timeout_ms', 1e300)`,
	`jsonb_build_object('tenant', '$acme', 'timeout_ms', 9223372036854775807)`,
	`jsonb_build_object('tenant', '$acme', 'nominal', 'yesterday')`,
	`jsonb_build_object('tenant', '$acme', 'nominal', 'infinity'::timestamptz)`,
	`jsonb_build_object('tenant', '$acme', 'cancel_request', 'please')`,
	`jsonb_build_object('tenant', '$acme', 'cancel_attempted_at', 'never')`,
	`jsonb_build_object('tenant', '$acme', 'schedule', '{}'::jsonb)`,
}

// oddRows is a queue with odd rows of one tenant beside another's work.
type oddRows struct {
	*jobstest.Env
	t    *testing.T
	acme catalog.Tenant
	dead string
	rows map[int64]string // what is odd of each
	uids map[int64]string // of the rows, and of those that have left the queue
	log  *slog.Logger     // the worker's; nil: none, or the test's
}

func newOddRows(t *testing.T) *oddRows {
	t.Helper()
	env := jobstest.New(t)
	env.Database("s", jobstest.DatabaseOpts{Schema: schema})
	o := &oddRows{Env: env, t: t, acme: env.Tenant("acme", "s"), dead: uuid.Must(uuid.NewV7()).String(), rows: map[int64]string{}, uids: map[int64]string{}}
	env.Tenant("other", "s")
	_, err := env.Pool.Exec(context.Background(),
		`INSERT INTO headgate.workers (incarnation, worker, host, pid, kinds, queues) VALUES ($1, 'dead', '', 1, '{odd}', '{default}')`, o.dead)
	require.NoError(t, err)
	return o
}

// insert writes one row, unless the table refuses it.
func (o *oddRows) insert(what string, columns map[string]string) (id int64, ok bool) {
	o.t.Helper()
	row := map[string]string{
		"kind": `'odd'`, "args": `'{}'`, "max_attempts": `3`,
		"metadata": fmt.Sprintf(`jsonb_build_object('tenant', '$acme', 'job_uid', '%s')`, uuid.Must(uuid.NewV7())),
	}
	for name, value := range columns {
		row[name] = value
	}
	var names, values []string
	for name, value := range row {
		names, values = append(names, name), append(values, value)
	}
	sql := fmt.Sprintf(`INSERT INTO river_job (%s) VALUES (%s) RETURNING id, headgate.job_uid(metadata, id, created_at)::text`, strings.Join(names, ", "), strings.Join(values, ", "))
	sql = strings.NewReplacer("$acme", o.acme.ID, "$dead", o.dead).Replace(sql)
	var uid string
	err := o.Pool.QueryRow(context.Background(), sql).Scan(&id, &uid)
	var refused *pgconn.PgError
	if errors.As(err, &refused) && slices.Contains([]string{"23502", "23505", "23514", "54000"}, refused.Code) {
		return 0, false
	}
	require.NoError(o.t, err, sql)
	o.rows[id], o.uids[id] = what, uid
	o.exec(fmt.Sprintf(`
INSERT INTO headgate.outcomes (id, job_uid, job_id, kind, attempt, state, started_at, ended_at)
SELECT gen_random_uuid(), '%s', id, 'odd', 1, 'succeeded', now(), now() FROM river_job WHERE id = %d AND state = 'completed'`, uid, id)) // as whoever ends a job does
	return id, true
}

// work starts a worker that soon declares the dead one dead.
func (o *oddRows) work() *worker.Worker {
	o.t.Helper()
	cfg := withQueue(o.Config(), "default")
	cfg.Queues["default"], cfg.HeartbeatEvery, cfg.DeadAfter, cfg.Logger = 10, 200*time.Millisecond, 600*time.Millisecond, quietLogger()
	if testing.Verbose() {
		cfg.Logger = o.Log
	}
	if o.log != nil {
		cfg.Logger = o.log
	}
	return o.Work(&cfg, func(w *worker.Worker) {
		worker.InTx(w, func(context.Context, pgx.Tx, *jobs.Job[Odd]) error { return nil })
	})
}

// othersGoOn sees that another tenant's jobs end.
func (o *oddRows) othersGoOn(n int) {
	o.t.Helper()
	ctx := context.Background()
	var uids []string
	for range n {
		result, err := o.Client.Enqueue(ctx, "other", Odd{}, nil)
		require.NoError(o.t, err)
		uids = append(uids, result.UID)
	}
	for _, uid := range uids {
		require.Equal(o.t, jobs.Succeeded, o.Wait(uid).State)
	}
}

// longAgo says that a row may have ended so long ago that it has left the queue.
func longAgo(what string) bool { return strings.HasPrefix(what, "finalized_at") }

// left forgets a row that has left the queue, as the error of a question about it says,
// because it may have ended long ago.
func (o *oddRows) left(id int64, err error) bool {
	if !errors.Is(err, jobs.ErrUnknownJob) || !longAgo(o.rows[id]) {
		return false
	}
	delete(o.rows, id)
	return true
}

// answered sees that the lists and what is said of each row come.
func (o *oddRows) answered() {
	o.t.Helper()
	ctx := context.Background()
	for _, state := range append([]jobs.State{""}, jobs.States...) {
		for _, tenant := range []string{"", "acme", "other"} {
			list, _, err := o.Client.Jobs(ctx, jobs.JobFilter{State: state, Tenant: tenant, Page: jobs.Page{Limit: 1000}})
			require.NoError(o.t, err, "%s of %s", state, tenant)
			o.marshals(list)
			if state == "" && tenant == "" {
				listed := map[string]bool{}
				for _, job := range list {
					listed[job.UID] = true
				}
				for id, what := range o.rows {
					require.True(o.t, listed[o.uids[id]] || longAgo(what), "row %s is not listed", what)
				}
			}
		}
	}
	for _, tenant := range []string{"acme", "other"} {
		explained, err := o.Explain.ExplainTenant(ctx, tenant)
		require.NoError(o.t, err)
		o.marshals(explained)
	}
	for id, what := range o.rows {
		job, err := o.Client.Job(ctx, o.uids[id])
		if o.left(id, err) {
			continue
		}
		require.NoError(o.t, err, what)
		o.marshals(job)
		explained, err := o.Explain.Explain(ctx, o.uids[id])
		if o.left(id, err) {
			continue
		}
		require.NoError(o.t, err, what)
		require.NotEmpty(o.t, explained.Facts, what)
		o.marshals(explained)
	}
	_, _, err := o.Explain.Workers(ctx, jobs.Page{})
	require.NoError(o.t, err)
}

func (o *oddRows) marshals(value any) {
	o.t.Helper()
	_, err := json.Marshal(value)
	require.NoError(o.t, err)
}

// ended waits until each row has ended or rests, and ends those that rest.
func (o *oddRows) ended() {
	o.t.Helper()
	ctx := context.Background()
	finals := []jobs.State{jobs.Succeeded, jobs.Cancelled, jobs.Discarded}
	for id, what := range o.rows {
		var job jobs.Record
		var err error
		deadline := time.Now().Add(30 * time.Second)
		for tick := time.NewTicker(10 * time.Millisecond); ; <-tick.C {
			job, err = o.Client.Job(ctx, o.uids[id])
			if o.left(id, err) {
				break
			}
			require.NoError(o.t, err, what)
			if slices.Contains(finals, job.State) || o.rests(id) || time.Now().After(deadline) {
				break
			}
		}
		switch {
		case err != nil: // it has left
			continue
		case slices.Contains(finals, job.State):
			o.told(job, what)
		case o.rests(id):
			result, err := o.Client.Cancel(ctx, o.uids[id], &jobs.CancelOpts{Actor: "ana"})
			require.NoError(o.t, err, what)
			require.Contains(o.t, []jobs.State{jobs.Cancelled, jobs.Cancelling}, result.State, what)
		default:
			o.t.Errorf("%s: neither ended nor at rest: %s", what, job.State)
		}
		for _, again := range []func() error{
			func() error { _, err := o.Client.Retry(ctx, o.uids[id]); return err },
			func() error { _, err := o.Client.Cancel(ctx, o.uids[id], nil); return err },
		} {
			if err := again(); err != nil && !errors.Is(err, jobs.ErrRetryRefused) && !errors.Is(err, jobs.ErrJobFinished) && !errors.Is(err, jobs.ErrUnknownJob) {
				o.t.Errorf("%s: %v", what, err)
			}
		}
		if pgErr := (*pgconn.PgError)(nil); errors.As(func() error { _, err := o.Client.Rerun(ctx, o.uids[id], nil); return err }(), &pgErr) {
			o.t.Errorf("%s: rerun: %v", what, pgErr)
		}
	}
}

// rests says that a row waits for what never comes, by what stands in it: a time, a
// worker for its queue or kind, a confirmation, the worker of another River client.
func (o *oddRows) rests(id int64) (rests bool) {
	o.t.Helper()
	require.NoError(o.t, o.Pool.QueryRow(context.Background(), `
SELECT state = 'pending' OR scheduled_at > now() + interval '1 year' OR kind <> 'odd' OR queue <> 'default'
    OR state = 'running' AND split_part(attempted_by[array_upper(attempted_by, 1)], ':', 1) NOT IN (SELECT incarnation::text FROM headgate.workers)
    OR state = 'running' AND attempted_by[array_upper(attempted_by, 1)] IS NULL
FROM river_job WHERE id = $1`, id).Scan(&rests))
	return rests
}

// told sees that what did not succeed has its class and a sentence that names the column.
func (o *oddRows) told(job jobs.Record, what string) {
	o.t.Helper()
	if job.State == jobs.Succeeded || strings.Contains(what, " discarded") || strings.Contains(what, "state 'discarded'") || strings.Contains(what, "state 'cancelled'") {
		return
	}
	if len(job.Attempts) == 0 && job.State == "discarded" && strings.HasPrefix(what, "unique_key") {
		return // River's scheduler does so, and notes it in the metadata
	}
	if len(job.Attempts) == 0 {
		o.t.Errorf("%s: %s without an outcome", what, job.State)
		return
	}
	last, column := job.Attempts[len(job.Attempts)-1], strings.Fields(what)[0]
	switch {
	case last.State == jobs.Cancelled && last.Class == "": // somebody wanted it cancelled
	case last.Class == jobs.ClassUnsafe && column == "attempted_at": // so long ago that no ledger remembers
	default:
		if last.Class != jobs.ClassBadArgs || !strings.Contains(last.Message, column) {
			o.t.Errorf("%s: ended as %s: %s", what, last.Class, last.Message)
		}
		if len(job.Attempts) > 1 && column == "metadata" && !strings.Contains(what, "running") {
			o.t.Errorf("%s: %d attempts at what can never succeed", what, len(job.Attempts))
		}
	}
}

// A row of the queue with whatever its columns allow, wherever in its life it is,
// delays nobody else's job and breaks no list; it ends with a class, or runs.
func TestOddRowsDelayNobody(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	rows, err := env.Pool.Query(context.Background(), `
SELECT column_name, udt_name FROM information_schema.columns
WHERE table_schema = current_schema() AND table_name = 'river_job' ORDER BY ordinal_position`)
	require.NoError(t, err)
	columns, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct{ Name, Type string }])
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(columns), 18)
	for _, c := range columns {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			o := newOddRows(t)
			for k, s := range situations {
				values := extremes(c.Name, c.Type, k)
				require.NotEmpty(t, values, "no extremes are known of type %s: add them", c.Type)
				for _, value := range values {
					columns := map[string]string{c.Name: value}
					for name, literal := range s.columns {
						if name != c.Name {
							columns[name] = literal
						}
					}
					o.insert(fmt.Sprintf("%s %s %s", c.Name, value, s.name), columns)
				}
			}
			require.NotEmpty(t, o.rows)
			o.answered()
			o.work()
			o.othersGoOn(5)
			o.answered()
			o.ended()
			o.answered()
			o.othersGoOn(2)
		})
	}
}
