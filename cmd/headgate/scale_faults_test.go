//go:build faults && linux

package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/jobstest"
)

// The commands that show, with 20,000 tenants, 200,000 schedules, 2,000,000 outcomes, as
// many answers and 1,000,000 rows in the queue: each reads a bounded number of the
// database's blocks, and the log has a table of their times. The smoke has a twentieth of
// all that, and the same bounds.
func TestFaultsCommandsAtScale(t *testing.T) {
	c, env := setup(t)
	part := 1
	if testing.Short() {
		part = 20
	}
	fillCentral(t, env, part)
	one := func(sql string) (text string) {
		require.NoError(t, env.Pool.QueryRow(context.Background(), sql).Scan(&text), sql)
		return text
	}
	waiting := one(`SELECT metadata->>'job_uid' FROM river_job WHERE state = 'available' ORDER BY id LIMIT 1`)
	retried := one(`SELECT metadata->>'job_uid' FROM river_job WHERE state = 'retryable' ORDER BY id LIMIT 1`)
	done := one(`SELECT headgate.job_uid(j.metadata, j.id, j.created_at)::text FROM river_job j JOIN headgate.outcomes o ON o.job_id = j.id WHERE j.state = 'completed' LIMIT 1`)
	gone := one(`SELECT job_uid::text FROM headgate.outcomes WHERE job_id < 0 LIMIT 1`)

	var table tableLog
	for _, args := range [][]string{
		{"tenant", "list", "--limit", "50"},
		{"tenant", "explain", "t00002"},
		{"database", "list"},
		{"server", "list"},
		{"limit", "list"},
		{"limit", "list", "--tenant", "t00002"},
		{"pause", "list"},
		{"worker", "list"},
		{"job", "list"},
		{"job", "show", waiting},
		{"job", "show", done},
		{"job", "show", gone},
		{"job", "explain", waiting},
		{"job", "explain", retried},
		{"job", "explain", gone},
		{"schedule", "list"},
		{"schedule", "list", "--tenant", "t00002"},
		{"schedule", "show", "s1", "--tenant", "t00002"},
		{"schedule", "why", "s1", "--tenant", "t00002", "--at", "03:00"},
		{"schedule", "list", "--templates"},
		{"schedule", "calendar", "list"},
		{"schedule", "blackout", "list"},
		{"schedule", "maintenance-window", "list"},
	} {
		blocks, took := cost(t, c, env, args)
		table.add(args, blocks, took)
		if blocks > mostBlocks {
			t.Errorf("%v reads %d blocks of the central database, %d at most", args, blocks, mostBlocks)
		}
	}
	// These read all of something, or walk the queue back until they have found enough.
	for _, args := range [][]string{
		{"tenant", "list"}, {"job", "list", "--state", "failed"}, {"schedule", "list", "--limit", "0", "-o", "jsonl"}, {"schedule", "list", "--failing"}, {"schedule", "forecast"},
		{"job", "list", "--tenant", "t00002"}, {"job", "list", "--state", "discarded"}, {"job", "list", "--kind", "none"}, {"doctor", "--databases", "0"},
	} {
		blocks, took := cost(t, c, env, args)
		table.add(args, blocks, took)
	}
	t.Logf("\n%s", table.String())
}

// mostBlocks is for a command with its session, whose look at Postgres's own catalogs is
// most of it.
const mostBlocks = 6000

// cost runs a command and says how many blocks of the central database it has read, from
// its cache or not, and how long it took. Autovacuum may read beside it, so a command that
// seems to read too many is measured again.
func cost(t *testing.T, c *commandLine, env *jobstest.Env, args []string) (blocks int64, took time.Duration) {
	t.Helper()
	var known []int32
	require.NoError(t, env.Pool.QueryRow(context.Background(), `
SELECT array_agg(pid) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'`).Scan(&known))
	fetched := func() (n int64) {
		awaitEndOfSessions(t, env, `NOT pid = ANY ($1)`, known) // a session tells of its blocks when it ends
		require.NoError(t, env.Pool.QueryRow(context.Background(), `SELECT pg_stat_get_db_blocks_fetched(oid) FROM pg_database WHERE datname = current_database()`).Scan(&n))
		return n
	}
	c.run(args...) // what the first run makes (the catalog's blocks in a new session are counted each time)
	for range 3 {
		before, began := fetched(), time.Now()
		r := c.run(args...)
		took = time.Since(began)
		require.Contains(t, []int{cli.ExitOK, cli.ExitFailed}, r.code, "%v: %s", args, r.err)
		if blocks = fetched() - before; blocks <= mostBlocks {
			break
		}
	}
	return blocks, took
}

// awaitEndOfSessions waits until no other session of the central database is such that
// where says so.
func awaitEndOfSessions(t *testing.T, env *jobstest.Env, where string, arg any) {
	t.Helper()
	require.Eventually(t, func() bool {
		var some bool
		err := env.Pool.QueryRow(context.Background(), `
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND `+where+`)`, arg).Scan(&some)
		return err == nil && !some
	}, time.Minute, 10*time.Millisecond)
}

type tableLog struct{ lines [][3]string }

func (l *tableLog) add(args []string, blocks int64, took time.Duration) {
	l.lines = append(l.lines, [3]string{fmt.Sprint(args), fmt.Sprint(blocks), took.Round(time.Millisecond).String()})
}

func (l *tableLog) String() string {
	var text writer
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, line := range l.lines {
		_, _ = fmt.Fprintf(w, "%s\t%s blocks\t%s\n", line[0], line[1], line[2]) // memory
	}
	_ = w.Flush() // memory
	return string(text)
}

type writer []byte

func (w *writer) Write(p []byte) (int, error) { *w = append(*w, p...); return len(p), nil }

// fillCentral makes a part of the whole by SQL, without triggers.
func fillCentral(t *testing.T, env *jobstest.Env, part int) {
	t.Helper()
	env.Database("db", jobstestShared)
	pooled, err := env.Pool.Acquire(context.Background())
	require.NoError(t, err)
	conn := pooled.Hijack()
	defer func() { // an idle session tells of its blocks some seconds later: they would be counted
		require.NoError(t, conn.Close(context.Background()))
		awaitEndOfSessions(t, env, `pid = $1`, conn.PgConn().PID())
	}()
	for _, sql := range []string{
		`SET session_replication_role = replica`,
		`DO $$ DECLARE t regclass; BEGIN -- whose blocks would be counted
    FOR t IN SELECT c.oid FROM pg_class c WHERE relkind = 'r' AND relnamespace IN ('public'::regnamespace, 'headgate'::regnamespace) LOOP
        EXECUTE format('ALTER TABLE %s SET (autovacuum_enabled = off)', t);
    END LOOP;
END $$`,
		`INSERT INTO headgate.databases (id, server_id, name, dbname, kind, job_login, owner_login, signing_key)
SELECT gen_random_uuid(), d.server_id, 'd' || n, 'd' || n, 'shared', d.job_login, d.owner_login, d.signing_key FROM headgate.databases d, generate_series(1, 200) n`,
		`INSERT INTO headgate.plans (name) VALUES ('free'), ('pro'), ('enterprise') ON CONFLICT DO NOTHING`, // no trigger begins them here
		`INSERT INTO headgate.tenants (id, org_id, slug, name, plan, database_id, database_kind)
SELECT gen_random_uuid(), n, 't' || lpad(n::text, 5, '0'), 'Tenant', (ARRAY['free', 'pro', 'enterprise'])[n % 3 + 1], d.id, d.kind
FROM generate_series(1, 20000 / PART) n JOIN (SELECT id, kind, row_number() OVER () AS r FROM headgate.databases) d ON d.r = n % 200 + 1`,
		`INSERT INTO headgate.schedules (id, tenant_id, name, kind, cron, zone, next_run_at, answered_at)
SELECT gen_random_uuid(), t.id, 's' || n, 'headgate.report', '0 3 * * *', 'UTC', now() + interval '1 hour', now() FROM headgate.tenants t, generate_series(1, 10) n`,
		`UPDATE headgate.schedules SET error = 'broken' WHERE id IN (SELECT id FROM headgate.schedules LIMIT 20)`,
		`INSERT INTO headgate.occurrences (schedule_id, nominal_at, last_at, count, origin, outcome, decided_at, job_uid)
SELECT s.id, at, at, 1, 'clock', 'fired', at, gen_random_uuid() FROM headgate.schedules s, generate_series(date_trunc('day', now()) - interval '9 days', now(), '1 day') AS d(day), LATERAL (SELECT day + interval '3 hours' AS at) a`,
		`INSERT INTO river_job (kind, queue, args, max_attempts, attempt, metadata, state, scheduled_at, finalized_at)
SELECT 'headgate.report', 'default', '{"name": "n", "query": "SELECT 1"}', 25, CASE WHEN state = 'available' THEN 0 ELSE 1 END,
       jsonb_build_object('tenant', t.id, 'job_uid', gen_random_uuid()), state::river_job_state,
       now() + CASE WHEN state IN ('scheduled', 'retryable') THEN interval '1 hour' ELSE interval '-1 hour' END, CASE WHEN state = 'completed' THEN now() END
FROM headgate.tenants t, generate_series(1, 50) n, LATERAL (SELECT CASE WHEN n <= 5 THEN 'available' WHEN n <= 7 THEN 'scheduled' WHEN n = 8 THEN 'retryable' ELSE 'completed' END AS state) s`,
		`INSERT INTO headgate.lanes (queue, lane, kind, active, vtime, cost, server_id, database_id, held, weight)
SELECT 'default', t.id::text, 'headgate.report', true, t.org_id, 1, d.server_id, d.id, '', 1 FROM headgate.tenants t JOIN headgate.databases d ON d.id = t.database_id`,
		`INSERT INTO headgate.lane_groups (queue, server_id, kind) SELECT DISTINCT queue, server_id, kind FROM headgate.lanes`,
		`INSERT INTO headgate.outcomes (id, job_uid, job_id, tenant_id, kind, attempt, state, started_at, ended_at)
SELECT gen_random_uuid(), (metadata->>'job_uid')::uuid, id, (metadata->>'tenant')::uuid, kind, 1, 'succeeded', now(), now() - random() * interval '30 days' FROM river_job WHERE state = 'completed'
UNION ALL
SELECT gen_random_uuid(), gen_random_uuid(), -n, (SELECT id FROM headgate.tenants LIMIT 1), 'headgate.report', 1, 'succeeded', now(), now() - random() * interval '30 days' FROM generate_series(1, 1160000 / PART) n`,
		`INSERT INTO headgate.workers (incarnation, worker, host, pid, kinds, queues, beat_at, ended_at)
SELECT gen_random_uuid(), 'w' || n, 'here', n, '{headgate.report}', '{default}', now(), CASE WHEN n > 8 THEN now() END FROM generate_series(1, 1000) n`,
		`SET session_replication_role = origin`,
		`VACUUM ANALYZE`,
	} {
		_, err := conn.Exec(context.Background(), strings.ReplaceAll(sql, "PART", strconv.Itoa(part)))
		require.NoError(t, err, sql)
	}
}
