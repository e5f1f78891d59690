package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/admission"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/retention"
	"github.com/headgate/headgate/orchestrator/schedule"
)

// agrees says that what was copied from the catalog is what the catalog says.
func (e *installation) agrees(t *testing.T) {
	t.Helper()
	e.settle(t)
	e.work()
	e.lanesAgree(t)
	e.schedulesAgree(t)
	e.organisationsAgree(t)
	e.namesAgree(t)
	e.noJobIsLost(t)
	e.auditAgrees(t)
}

// texts are a query's rows, of one text each.
func (e *installation) texts(t *testing.T, sql string, args ...any) []string {
	t.Helper()
	rows, err := e.Pool.Query(context.Background(), sql, args...)
	require.NoError(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err, sql)
	return list
}

// comesTrue waits until a query has no rows, which are what is wrong still.
func (e *installation) comesTrue(t *testing.T, what, sql string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		wrong := e.texts(t, sql)
		if len(wrong) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			require.Empty(t, wrong, what)
		case <-tick.C:
		}
	}
}

// settle lets the parts that follow the catalog follow it.
func (e *installation) settle(t *testing.T) {
	t.Helper()
	scheduler := schedule.NewScheduler(e.Schedules, schedule.SchedulerConfig{})
	for {
		_, _, err := scheduler.RunOnce(context.Background())
		require.NoError(t, err)
		var waiting int
		require.NoError(t, e.Pool.QueryRow(context.Background(), `SELECT (SELECT count(*) FROM headgate.selector_changes) + (SELECT count(*) FROM headgate.selector_scopes)`).Scan(&waiting))
		if waiting == 0 {
			break
		}
	}
	janitor, err := retention.New(retention.Config{Pool: e.Pool, Selectors: e.Schedules.Templates, Logger: e.Log})
	require.NoError(t, err)
	_, err = janitor.RunOnce(context.Background())
	require.NoError(t, err)
}

const staleLanesSQL = `
SELECT concat_ws(' ', l.queue, l.kind, coalesce(t.slug, l.lane), l.held, '-', o.held, l.weight, '-', o.weight, l.max_running, '-', o.max_running)
FROM headgate.lanes l LEFT JOIN LATERAL headgate.lane_owner(headgate.uuid_or_null(l.lane), l.kind) o ON true
LEFT JOIN headgate.tenants t ON t.id::text = l.lane
WHERE (l.active OR l.held <> '')
  AND (l.server_id, l.database_id, l.held, l.weight, l.max_running, l.rate, l.rate_period) IS DISTINCT FROM
      (coalesce(o.server_id, '00000000-0000-0000-0000-000000000000'), coalesce(o.database_id, '00000000-0000-0000-0000-000000000000'),
       coalesce(o.held, ''), coalesce(o.weight, 1), o.max_running, o.rate, o.rate_period)`

// A lane's group is what claims find the lane by.
const lanesWithoutGroupSQL = `
SELECT concat_ws(' ', l.queue, l.server_id, l.kind) FROM headgate.lanes l
WHERE NOT EXISTS (SELECT FROM headgate.lane_groups g WHERE g.queue = l.queue AND g.server_id = l.server_id AND g.kind = l.kind)`

func (e *installation) lanesAgree(t *testing.T) {
	t.Helper()
	e.comesTrue(t, "lanes", staleLanesSQL)
	e.comesTrue(t, "groups of lanes", lanesWithoutGroupSQL)
}

const wantedSchedulesSQL = `
SELECT concat_ws(' ', t.slug, f.name) FROM headgate.selections(NULL, NULL) x
JOIN headgate.tenants t ON t.id = x.tenant_id JOIN headgate.fleets f ON f.id = x.fleet_id ORDER BY 1`

const storedSchedulesSQL = `
SELECT concat_ws(' ', t.slug, f.name) FROM headgate.schedules s
JOIN headgate.tenants t ON t.id = s.tenant_id JOIN headgate.fleets f ON f.id = s.fleet_id ORDER BY 1`

func (e *installation) schedulesAgree(t *testing.T) {
	t.Helper()
	require.Equal(t, e.texts(t, wantedSchedulesSQL), e.texts(t, storedSchedulesSQL), "schedules of templates")
	require.Empty(t, e.texts(t, `SELECT concat_ws(' ', s.name, t.status) FROM headgate.schedules s JOIN headgate.tenants t ON t.id = s.tenant_id WHERE t.status = 'removed'`))
	for behind, more := "", true; more; more = behind != "" {
		require.NoError(t, pgx.BeginFunc(context.Background(), e.Pool, func(tx pgx.Tx) (err error) {
			var wrong int
			var mine bool
			behind, wrong, mine, err = e.Schedules.Templates.CompareSelectors(context.Background(), tx, behind)
			require.True(t, mine)
			require.Zero(t, wrong, "schedules that the janitor found wrong")
			return err
		}))
	}
}

const rowsOfDatabaseSQL = `
SELECT concat_ws(' ', t.org_id, t.name, t.slug) FROM headgate.tenants t JOIN headgate.databases d ON d.id = t.database_id
WHERE d.name = $1 AND t.status NOT IN ('archived', 'removed') ORDER BY t.org_id`

const keptOfDatabaseSQL = `
SELECT t.org_id::text FROM headgate.tenants t JOIN headgate.databases d ON d.id = t.database_id
WHERE d.name = $1 AND t.status IN ('archived', 'removed')`

func (e *installation) organisationsAgree(t *testing.T) {
	t.Helper()
	for name, database := range e.databases {
		made, err := e.Client.EnqueueDatabase(context.Background(), name, organisations, nil)
		require.NoError(t, err)
		last := e.Wait(made.UID)
		require.Equal(t, jobs.Succeeded, last.State, last.Message)
		kept := e.texts(t, keptOfDatabaseSQL, name)
		rows, err := database.Pool.Query(context.Background(), `SELECT concat_ws(' ', org_id, name, slug) FROM organisations ORDER BY org_id`)
		require.NoError(t, err)
		have, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		have = slices.DeleteFunc(have, func(row string) bool { id, _, _ := strings.Cut(row, " "); return slices.Contains(kept, id) })
		require.Equal(t, e.texts(t, rowsOfDatabaseSQL, name), have, "organisations of database %s", name)
	}
}

// namesAgree says that each name leads to one tenant: of the rows, and in the memory of the
// programs that changed them.
func (e *installation) namesAgree(t *testing.T) {
	t.Helper()
	ctx := context.Background()
	var tenants []catalog.Tenant
	for page := (jobs.Page{Limit: 1000}); ; {
		list, next, err := e.Catalog.Tenants(ctx, catalog.TenantFilter{Page: page})
		require.NoError(t, err)
		tenants = append(tenants, list...)
		if page.After = next; next == "" {
			break
		}
	}
	seen := map[string]bool{}
	for _, want := range tenants {
		for _, name := range []string{want.Slug, want.ID, fmt.Sprint(want.OrgID)} {
			require.False(t, seen[name], "two tenants have the name %s", name)
			seen[name] = true
			got, err := e.Catalog.Tenant(ctx, name)
			require.NoError(t, err)
			require.Equal(t, want.ID, got.ID, name)
		}
	}
	domains, next, err := e.Catalog.Domains().List(ctx, catalog.DomainFilter{})
	require.NoError(t, err)
	require.Empty(t, next)
	owned := map[string]string{}
	for _, d := range domains {
		owned[d.Domain] = d.TenantID
	}
	for i := range 6 {
		got, err := e.Catalog.ResolveHost(ctx, domainOf(i))
		switch want, ok := owned[domainOf(i)]; {
		case !ok:
			require.ErrorIs(t, err, jobs.ErrUnknownTenant)
		case err == nil:
			require.Equal(t, want, got.ID)
		default:
			require.ErrorIs(t, err, jobs.ErrTenantSuspended, domainOf(i))
		}
	}
	require.Empty(t, e.texts(t, `SELECT t.slug FROM headgate.tenants t WHERE t.status = 'removed' AND (t.slug <> t.id::text OR EXISTS (SELECT FROM headgate.tenant_domains d WHERE d.tenant_id = t.id))`))
	require.Empty(t, e.texts(t, `SELECT b.name FROM headgate.brands b JOIN headgate.tenants t ON t.id = b.tenant_id WHERE b.org_id <> t.org_id`))
}

// noJobIsLost lets all tenants work again, and sees each job that was accepted to its end.
func (e *installation) noJobIsLost(t *testing.T) {
	t.Helper()
	ctx := context.Background()
	for i := range 12 {
		_, err := e.Admission.Resume(ctx, admission.OfTenant, slugOf(i))
		if err != nil && !errors.Is(err, admission.ErrNotPaused) {
			require.ErrorIs(t, err, jobs.ErrUnknownTenant)
		}
		_, err = e.Catalog.Editor().SetStatus(ctx, []string{slugOf(i)}, catalog.StatusChange{To: catalog.Active})
		if err != nil {
			require.ErrorIs(t, err, jobs.ErrUnknownTenant)
		}
	}
	e.settle(t)
	const unfinished = `
SELECT concat_ws(' ', headgate.job_uid(r.metadata, r.id, r.created_at), r.kind, r.state, 'attempt', r.attempt, r.metadata, 'of', t.slug, t.status, t.waiting, 'lanes', (
    SELECT jsonb_agg(l) FROM headgate.lanes l WHERE l.lane = headgate.lane(r.metadata)))
FROM river_job r LEFT JOIN headgate.tenants t ON t.id::text = headgate.lane(r.metadata)
WHERE r.finalized_at IS NULL`
	// A job of a removed tenant that a worker had in hand is the janitor's once it has come
	// back, and gets its tombstone a minute later.
	for end := time.Now().Add(5 * jobs.TombstoneAfter); len(e.texts(t, unfinished)) > 0 && time.Now().Before(end); {
		e.settle(t)
	}
	require.Empty(t, e.texts(t, unfinished), "jobs that have not ended")
	for _, uid := range e.accepted {
		last := e.Wait(uid)
		require.Contains(t, []jobs.State{jobs.Succeeded, jobs.Cancelled}, last.State, "%+v", last)
	}
	e.accepted = nil
	e.lanesAgree(t)
}

// auditedTablesSQL are the tables that people change, with the arguments of their triggers:
// object, key, name, tenant, skipped, sealed.
const auditedTablesSQL = `
SELECT c.relname, string_to_array(encode(t.tgargs, 'escape'), '\000') FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE t.tgname = 'audit_added' AND c.relnamespace = 'headgate'::regnamespace ORDER BY c.relname`

// replayedSQL compares what the audit says that the fields of a table's rows were set to last
// with the rows; %s are the table and the key.
const replayedSQL = `
WITH said AS (
    SELECT a.id, a.key, c->>'field' AS field, nullif(c->'before', 'null') AS before, nullif(c->'after', 'null') AS after
    FROM headgate.audit a CROSS JOIN LATERAL jsonb_array_elements(a.changes) c WHERE a.object = $1
), last AS (
    SELECT DISTINCT ON (key, field) key, field, after FROM said ORDER BY key, field, id DESC
), now AS (
    SELECT (%[2]s) AS key, f.key AS field, f.value AS after
    FROM headgate.%[1]s r CROSS JOIN LATERAL jsonb_each(headgate.audited(to_jsonb(r), string_to_array($2, ','), string_to_array($3, ','))) f
    WHERE (%[2]s) <> '' -- the plan of no name is older than the audit
)
SELECT concat_ws(' ', 'last said of', key, field, l.after, 'is', n.after) FROM (SELECT * FROM last WHERE after IS NOT NULL) l FULL JOIN now n USING (key, field)
WHERE l.after IS DISTINCT FROM n.after
UNION ALL
SELECT concat_ws(' ', 'not on record:', key, field, was, 'became', before)
FROM (SELECT *, lag(after) OVER (PARTITION BY key, field ORDER BY id) AS was FROM said) s WHERE was IS DISTINCT FROM before`

// auditAgrees says that the audit has every change: what was before each is what was after
// the one before it, and the last one is how the row is.
func (e *installation) auditAgrees(t *testing.T) {
	t.Helper()
	rows, err := e.Pool.Query(context.Background(), auditedTablesSQL)
	require.NoError(t, err)
	type audited struct {
		Table string
		Args  []string
	}
	tables, err := pgx.CollectRows(rows, pgx.RowToStructByPos[audited])
	require.NoError(t, err)
	require.Greater(t, len(tables), 15)
	for _, table := range tables {
		if table.Table == "schedules" { // those of templates change without anybody's decision
			continue
		}
		var key []string
		for _, column := range strings.Split(table.Args[1], ",") {
			key = append(key, fmt.Sprintf("coalesce(to_jsonb(r)->>'%s', '')", column))
		}
		sql := fmt.Sprintf(replayedSQL, table.Table, strings.Join(key, " || '/' || "))
		require.Empty(t, e.texts(t, sql, table.Args[0], table.Args[4], table.Args[5]), table.Table)
	}
}
