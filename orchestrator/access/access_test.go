package access_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/access"
	"github.com/headgate/headgate/orchestrator/admission"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/schedule"
)

func TestMain(m *testing.M) { jobstest.Main(m) }

func TestQueriesPrepare(t *testing.T) {
	t.Parallel()
	jobstest.PrepareQueries(t, ".", jobstest.New(t).Pool)
}

func audit(t *testing.T, env *jobstest.Env, filter access.AuditFilter) []access.Entry {
	t.Helper()
	entries, _, err := access.Audit(context.Background(), env.Pool, filter)
	require.NoError(t, err)
	return entries
}

func fields(e access.Entry) map[string]string {
	all := map[string]string{}
	for _, c := range e.Changes {
		all[c.Field] = string(c.Before) + " " + string(c.After)
	}
	return all
}

// Whoever changes a row is recorded: by Go, with what the program says of who acts, and by
// psql, with the login. Only what differs stands in the entry.
func TestEveryWriteIsRecorded(t *testing.T) {
	t.Parallel()
	env := roomtest.SetupDirect(t)
	ctx := access.With(context.Background(), access.Actor{Name: "ines", Surface: "shop", Reason: "invoice 4711"})
	require.NoError(t, env.Catalog.SetStatus(ctx, "acme", catalog.Suspended))
	roomtest.Do(t, env, `UPDATE headgate.tenants SET labels = labels || '{"tier": "gold"}', name = 'Acme & Sons' WHERE slug = 'acme'`)
	roomtest.Do(t, env, `UPDATE headgate.tenants SET name = name`)
	acme, err := env.Catalog.Tenant(ctx, "acme")
	require.NoError(t, err)

	entries := audit(t, env, access.AuditFilter{TenantID: acme.ID, Object: "tenant"})
	require.Len(t, entries, 3, "added, by Go, by psql; nothing of the statement that changed nothing")
	byPsql, byGo, added := entries[0], entries[1], entries[2]
	require.Equal(t, map[string]string{"status": `"active" "suspended"`, "status_by": `"" "ines"`}, fields(byGo))
	require.Equal(t, []string{"ines", "shop", "invoice 4711", "change", "acme", "acme"}, []string{byGo.Actor, byGo.Surface, byGo.Reason, byGo.Action, byGo.Name, byGo.Tenant})
	require.Equal(t, map[string]string{"labels.tier": `null "gold"`, "name": fmt.Sprintf(`"%s" "Acme & Sons"`, acme.Slug)}, fields(byPsql))
	require.Empty(t, byPsql.Actor+byPsql.Reason)
	require.NotEmpty(t, byPsql.Login)
	require.Equal(t, "add", added.Action)
	require.NotEqual(t, byPsql.Operation, byGo.Operation)
}

// The changes of one transaction have one operation; several transactions have one where
// they say so.
func TestAnOperationJoinsABulk(t *testing.T) {
	t.Parallel()
	env := roomtest.SetupDirect(t)
	ctx := context.Background()
	tx, err := env.Pool.Begin(ctx)
	require.NoError(t, err)
	require.NoError(t, env.Catalog.SetStatusTx(access.With(ctx, access.Actor{Name: "ines", Reason: "first"}), tx, "acme", catalog.Suspended))
	require.NoError(t, env.Catalog.SetStatusTx(ctx, tx, "brick", catalog.Suspended))
	require.NoError(t, tx.Commit(ctx))
	entries := audit(t, env, access.AuditFilter{Object: "tenant", Page: jobs.Page{Limit: 2}})
	require.Equal(t, entries[0].Operation, entries[1].Operation)
	require.Equal(t, []string{"first", ""}, []string{entries[1].Reason, entries[0].Reason}, "a reason is of the call that gave it")
	require.Len(t, audit(t, env, access.AuditFilter{Operation: entries[0].Operation}), 2)

	joined := access.With(ctx, access.Actor{Operation: "0198c1d2-0000-7000-8000-000000000001"})
	require.NoError(t, env.Catalog.SetStatus(joined, "acme", catalog.Active))
	require.NoError(t, env.Catalog.SetStatus(joined, "brick", catalog.Active))
	require.Len(t, audit(t, env, access.AuditFilter{Operation: "0198c1d2-0000-7000-8000-000000000001"}), 2)
}

// Nobody changes the audit, the owner of its table included; and nobody who may write the
// tables may write it.
func TestTheAuditIsNeitherChangedNorDeleted(t *testing.T) {
	t.Parallel()
	env := roomtest.SetupDirect(t)
	for _, sql := range []string{
		`UPDATE headgate.audit SET actor = 'nobody'`,
		`DELETE FROM headgate.audit`,
		`TRUNCATE headgate.audit`,
		`DO $$ BEGIN EXECUTE (SELECT format('TRUNCATE %s', inhrelid::regclass) FROM pg_inherits WHERE inhparent = 'headgate.audit'::regclass ORDER BY inhrelid::regclass::text LIMIT 1); END $$`,
		`DO $$ BEGIN EXECUTE (SELECT format('DELETE FROM %s', inhrelid::regclass) FROM pg_inherits WHERE inhparent = 'headgate.audit'::regclass ORDER BY inhrelid::regclass::text LIMIT 1); END $$`,
	} {
		_, err := env.Pool.Exec(context.Background(), sql)
		require.ErrorContains(t, err, "rows of headgate.audit are neither changed nor deleted", sql)
	}
	require.NotEmpty(t, audit(t, env, access.AuditFilter{}))
}

// A sealed value is recorded as changed, and what it is stands nowhere.
func TestTheAuditHoldsNoSealedValue(t *testing.T) {
	t.Parallel()
	env := roomtest.SetupDirect(t)
	roomtest.Do(t, env, `UPDATE headgate.databases SET job_login = job_login || '\x00'`)
	entry := audit(t, env, access.AuditFilter{Object: "database", Page: jobs.Page{Limit: 1}})[0]
	require.Regexp(t, `^"sealed [0-9a-f]{8}" "sealed [0-9a-f]{8}"$`, fields(entry)["job_login"])
	text, err := json.Marshal(audit(t, env, access.AuditFilter{Page: jobs.Page{Limit: 1000}}))
	require.NoError(t, err)
	require.NotContains(t, string(text), `\\x01`)
}

// What the clock does with a schedule is nobody's decision, and leaves no entry.
func TestFiringIsNotRecorded(t *testing.T) {
	t.Parallel()
	env := roomtest.SetupDirect(t)
	ctx := context.Background()
	s := roomtest.CreateWith(t, env, "hourly", "0 * * * *", schedule.Policy{})
	before := len(audit(t, env, access.AuditFilter{Object: "schedule"}))
	roomtest.Do(t, env, `UPDATE headgate.schedules SET next_run_at = now() - interval '1 minute', next_nominal_at = now() - interval '1 minute'`)
	scheduler := schedule.NewScheduler(env.Schedules, schedule.SchedulerConfig{})
	_, _, err := scheduler.RunOnce(ctx)
	require.NoError(t, err)
	require.Equal(t, 1, roomtest.Count(t, env, `SELECT count(*) FROM headgate.occurrences WHERE schedule_id = $1 AND outcome = 'fired'`, s.ID))
	require.Len(t, audit(t, env, access.AuditFilter{Object: "schedule"}), before)
}

// Each table that people decide about is audited, and so is each column of it, but for what
// is listed here.
func TestEveryDecisionIsAudited(t *testing.T) {
	t.Parallel()
	env := roomtest.SetupDirect(t)
	ctx := context.Background()
	rows, err := env.Pool.Query(ctx, `
		SELECT c.relname FROM pg_class c
		WHERE c.relnamespace = 'headgate'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
		  AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = 'audit_changed') ORDER BY 1`)
	require.NoError(t, err)
	var without []string
	for rows.Next() {
		var name string
		require.NoError(t, rows.Scan(&name))
		without = append(without, name)
	}
	require.NoError(t, rows.Err())
	require.Equal(t, strings.Fields(`audit breakers centre centre_tokens durations hands idempotency_keys job_logs kinds lane_clocks lane_groups lane_rates lanes
		migrations occurrences org_ids outcomes queue rewrites roles selector_changes selector_scopes suspects unserved_queues wakeups workers`), without,
		"no person decides about these; audit the others (headgate.audit_statement)")

	// A schedule's trigger names columns; together with those that it leaves out they are all.
	var missing []string
	require.NoError(t, env.Pool.QueryRow(ctx, `
		SELECT coalesce(array_agg(a.attname), '{}') FROM pg_attribute a, pg_trigger t
		WHERE a.attrelid = 'headgate.schedules'::regclass AND a.attnum > 0 AND NOT a.attisdropped AND t.tgrelid = a.attrelid AND t.tgname = 'audit_changed'
		  AND a.attname NOT IN ('id', 'fleet_id', 'version') AND pg_get_triggerdef(t.oid) NOT LIKE '%new.' || a.attname || '%'
		  AND NOT a.attname = ANY (string_to_array(split_part(encode(t.tgargs, 'escape'), '\000', 5), ','))`).Scan(&missing))
	require.Empty(t, missing)
}

// A month that no janitor has made is made by its first row.
func TestTheFirstRowOfAMonthMakesIt(t *testing.T) {
	t.Parallel()
	env := roomtest.SetupDirect(t)
	roomtest.Do(t, env, `DO $$ DECLARE part text; BEGIN FOR part IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'headgate.audit'::regclass LOOP EXECUTE 'DROP TABLE ' || part; END LOOP; END $$`)
	done := make(chan error, 4)
	for i := range cap(done) {
		go func() {
			_, err := env.Admission.Pause(context.Background(), admission.OfKind, fmt.Sprintf("note%d", i), nil)
			done <- err
		}()
	}
	for range cap(done) {
		require.NoError(t, <-done)
	}
	require.Len(t, audit(t, env, access.AuditFilter{Object: "pause"}), 4)
}

// Objects lists what is audited: the tables' triggers say it, and the events of schedules.
func TestObjectsAreThoseThatAreAudited(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	rows, err := env.Pool.Query(t.Context(), `
SELECT DISTINCT convert_from(substring(tgargs FROM 1 FOR position('\x00'::bytea IN tgargs) - 1), 'UTF8') COLLATE "C"
FROM pg_trigger WHERE tgfoid IN ('headgate.audit_statement'::regproc, 'headgate.audit_row'::regproc) ORDER BY 1`)
	require.NoError(t, err)
	audited, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Equal(t, audited, access.Objects)

	_, _, err = access.Audit(t.Context(), env.Pool, access.AuditFilter{Object: "tenants"})
	require.ErrorContains(t, err, `object "tenants": give one of adoption, brand,`)
}
