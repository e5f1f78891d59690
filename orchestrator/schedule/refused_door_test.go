package schedule_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/maintenance"
	"github.com/headgate/headgate/jobs/report"
	"github.com/headgate/headgate/orchestrator/admission"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/schedule"
	"github.com/headgate/headgate/worker/kinds"
)

// ofTenant are the kinds that work for a tenant: one of Go, and those that bring SQL along.
var ofTenant = []jobs.Args{
	Bill{"2026-12"},
	report.Args{Name: "x", Query: "SELECT 1"},
	maintenance.Purge{Table: "events", Column: "at", OlderThan: "30d"},
}

// refusing is a way to keep work of a kind from a tenant.
type refusing struct {
	on, off func(*testing.T, *jobstest.Env)
	err     error                          // that Go's doors match
	says    func(slug, kind string) string // what they say
	code    string                         // of headgate.enqueue; "" if that door stays open
	field   string                         // the field that it names
	saysSQL func(slug, kind string) string // what it says
}

func sqlOf(sql string) func(*testing.T, *jobstest.Env) {
	return func(t *testing.T, env *jobstest.Env) { roomtest.Do(t, env, sql) }
}

func statusOf(to catalog.Status, reason string) func(*testing.T, *jobstest.Env) {
	return func(t *testing.T, env *jobstest.Env) {
		_, err := env.Catalog.Editor().SetStatus(context.Background(), []string{"acme", "big"}, catalog.StatusChange{To: to, Reason: reason})
		require.NoError(t, err)
	}
}

// refusals are all those ways.
func refusals() map[string]refusing {
	needs := func(slug, kind string) string {
		return fmt.Sprintf("kind %s needs feature extra, which tenant %q does not have: `headgate tenant feature %s extra=true` gives the tenant the feature", kind, slug, slug)
	}
	needsSQL := func(slug, kind string) string {
		return fmt.Sprintf("tenant %q: kind %s needs feature extra, which the tenant does not have", slug, kind)
	}
	notAmong := func(slug, kind string) string {
		return fmt.Sprintf("tenant %q, whose plan is gold, may not have jobs of kind %s: `headgate tenant set %s --kind other.kind --kind %s` gives the tenant the kind", slug, kind, slug, kind)
	}
	is := func(status, reason string) func(slug, _ string) string {
		return func(slug, _ string) string {
			return fmt.Sprintf("tenant %q is %s (%s) and takes no work", slug, status, reason)
		}
	}
	gates := `INSERT INTO headgate.feature_gates (feature, kind) SELECT 'extra', unnest('{bill,headgate.report,headgate.purge}'::text[])`
	return map[string]refusing{
		"the tenant lacks a feature": {on: sqlOf(gates), off: sqlOf(`UPDATE headgate.tenants SET features = '{"extra": true}'`),
			err: jobs.ErrFeatureOff, says: needs, code: "HG108", field: "kind", saysSQL: needsSQL},
		"its own value turns the plan's off": {
			on:  sqlOf(`WITH g AS (` + gates + `), p AS (UPDATE headgate.plans SET features = '{"extra": true}') UPDATE headgate.tenants SET features = '{"extra": false}'`),
			off: sqlOf(`UPDATE headgate.tenants SET features = '{}'`),
			err: jobs.ErrFeatureOff, says: needs, code: "HG108", field: "kind", saysSQL: needsSQL},
		"the plan has other kinds": {on: sqlOf(`UPDATE headgate.plans SET kinds = '{other.kind}' WHERE name = 'gold'`), off: sqlOf(`UPDATE headgate.plans SET kinds = NULL`),
			err: jobs.ErrKindNotAllowed, says: notAmong, code: "HG109", field: "kind",
			saysSQL: func(slug, kind string) string {
				return fmt.Sprintf("tenant %q: plan gold does not have kind %s", slug, kind)
			}},
		"the tenant has other kinds": {on: sqlOf(`UPDATE headgate.tenants SET kinds = '{other.kind}' WHERE slug <> 'brick'`), off: sqlOf(`UPDATE headgate.tenants SET kinds = NULL`),
			err: jobs.ErrKindNotAllowed, says: notAmong, code: "HG109", field: "kind",
			saysSQL: func(slug, kind string) string {
				return fmt.Sprintf("tenant %q: kind %s is not among the tenant's own kinds", slug, kind)
			}},
		"suspended": {on: statusOf(catalog.Suspended, "invoice 4711"), off: statusOf(catalog.Active, ""),
			err: jobs.ErrTenantSuspended, says: is("suspended", "invoice 4711"), code: "HG102", field: "tenant", saysSQL: is("suspended", "invoice 4711")},
		"archived": {on: statusOf(catalog.Archived, "contract ended"), off: statusOf(catalog.Active, ""),
			err: jobs.ErrTenantSuspended, says: is("archived", "contract ended"), code: "HG102", field: "tenant", saysSQL: is("archived", "contract ended")},
		"being set up": {on: statusOf(catalog.Provisioning, "import 7"), off: statusOf(catalog.Active, ""),
			err: jobs.ErrTenantSuspended, says: is("provisioning", "import 7"), code: "HG102", field: "tenant", saysSQL: is("provisioning", "import 7")},
	}
}

// refusedEnv is a tenant in a shared database and one in a dedicated database, who have each
// kind as a schedule and as a job that may be done again.
type refusedEnv struct {
	*jobstest.Env
	t     *testing.T
	sql   *pgxpool.Pool // of a login of headgate.enqueue
	again map[string]string
}

func newRefusedEnv(t *testing.T) *refusedEnv {
	t.Helper()
	e := &refusedEnv{Env: roomtest.Setup(t), t: t, again: map[string]string{}}
	ctx := context.Background()
	e.Database("own", jobstest.DatabaseOpts{Kind: "dedicated"})
	e.Tenant("big", "own")
	roomtest.Do(t, e.Env, `INSERT INTO headgate.plans (name) VALUES ('gold')`)
	roomtest.Do(t, e.Env, `UPDATE headgate.tenants SET plan = 'gold' WHERE slug <> 'brick'`)
	roomtest.Do(t, e.Env, `INSERT INTO headgate.features (name, type) VALUES ('extra', 'boolean')`)
	role, url := e.RoleLogin("enqueue")
	var forms []kinds.Form
	for _, args := range ofTenant {
		forms = append(forms, kinds.FormOf(args))
		_, _, err := e.Admission.AddEnqueueGrant(ctx, admission.EnqueueGrant{Role: role, Kind: args.Kind()})
		require.NoError(t, err)
		for _, tenant := range []string{"acme", "big"} {
			_, err := e.Schedules.Create(ctx, schedule.Params{Tenant: tenant, Name: nameOf(args), Spec: schedule.Spec{Cron: "@daily", Policy: schedule.Policy{Overlap: "allow"}}, Args: args})
			require.NoError(t, err)
			job, err := e.Client.Enqueue(ctx, tenant, args, nil)
			require.NoError(t, err)
			roomtest.PutInto(t, e.Env, e.RowOf(job.UID), "discarded")
			e.again[tenant+args.Kind()] = job.UID
		}
	}
	require.NoError(t, kinds.Publish(ctx, e.Pool, forms, time.Hour))
	pool, err := pgxpool.New(ctx, url)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	e.sql = pool
	return e
}

// nameOf is the schedule of a kind.
func nameOf(args jobs.Args) string {
	return map[string]string{"bill": "bills", "headgate.report": "reports", "headgate.purge": "purges"}[args.Kind()]
}

// goDoors are Go's ways to a job of the kind for the tenant. Retry comes last, because the job
// that it makes wait is the one that Rerun copies.
func (e *refusedEnv) goDoors(tenant string, args jobs.Args) []door {
	c, store, uid, key := e.Client, e.Schedules, e.again[tenant+args.Kind()], of(tenant, nameOf(args))
	fill := schedule.BackfillParams{From: time.Now().AddDate(0, 0, -3), To: time.Now().AddDate(0, 0, -1)}
	inTx := func(work func(context.Context, pgx.Tx) error) func(context.Context) error {
		return func(ctx context.Context) (err error) {
			return pgx.BeginFunc(ctx, e.Pool, func(tx pgx.Tx) error { return work(ctx, tx) })
		}
	}
	return []door{
		{"Enqueue", func(ctx context.Context) error { _, err := c.Enqueue(ctx, tenant, args, nil); return err }},
		{"EnqueueTx", inTx(func(ctx context.Context, tx pgx.Tx) error {
			_, err := c.EnqueueTx(ctx, tx, tenant, args, nil)
			return err
		})},
		{"EnqueueMany", func(ctx context.Context) error {
			_, err := c.EnqueueMany(ctx, []jobs.EnqueueParams{{Tenant: "brick", Args: roomtest.Note{Text: "good"}}, {Tenant: tenant, Args: args}})
			return err
		}},
		{"Rerun", func(ctx context.Context) error { _, err := c.Rerun(ctx, uid, nil); return err }},
		{"Trigger", func(ctx context.Context) error { _, err := store.Trigger(ctx, key, nil); return err }},
		{"TriggerTx", inTx(func(ctx context.Context, tx pgx.Tx) error { _, err := store.TriggerTx(ctx, tx, key, nil); return err })},
		{"Backfill", func(ctx context.Context) error { _, err := store.Backfill(ctx, key, fill); return err }},
		{"BackfillTx", inTx(func(ctx context.Context, tx pgx.Tx) error { _, err := store.BackfillTx(ctx, tx, key, fill); return err })},
		{"Retry", func(ctx context.Context) error { _, err := c.Retry(ctx, uid); return err }},
	}
}

type door struct {
	name  string
	enter func(context.Context) error
}

// call is headgate.enqueue.
func (e *refusedEnv) call(ctx context.Context, tenant string, args jobs.Args) error {
	raw, err := json.Marshal(args)
	require.NoError(e.t, err)
	_, err = e.sql.Exec(ctx, `SELECT headgate.enqueue($1, $2, $3::jsonb)`, args.Kind(), tenant, string(raw))
	return err
}

// written is what the doors leave behind.
const written = `SELECT (SELECT count(*) FROM river_job WHERE state <> 'discarded') + (SELECT count(*) FROM headgate.occurrences)`

// Work that a tenant may not have is refused at every door, with the same error and the
// command that helps, whatever the kind is made of and wherever the tenant's rows are.
// Nothing is written, and once the tenant may have the work every door is open.
func TestWorkThatATenantMayNotHaveIsRefusedAtEveryDoor(t *testing.T) {
	t.Parallel()
	for name, c := range refusals() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newRefusedEnv(t)
			ctx := context.Background()
			c.on(t, e.Env)
			for _, tenant := range []string{"acme", "big"} {
				for _, args := range ofTenant { // the client's memory follows
					require.Eventually(t, func() bool { return e.goDoors(tenant, args)[0].enter(ctx) != nil }, time.Minute, 20*time.Millisecond)
				}
			}
			before := roomtest.Count(t, e.Env, written)
			for _, tenant := range []string{"acme", "big"} {
				for _, args := range ofTenant {
					for _, d := range e.goDoors(tenant, args) {
						err := d.enter(ctx)
						require.ErrorIs(t, err, c.err, "%s of %s for %s", d.name, args.Kind(), tenant)
						require.ErrorContains(t, err, c.says(tenant, args.Kind()), d.name)
					}
					var said *pgconn.PgError
					require.ErrorAs(t, e.call(ctx, tenant, args), &said)
					require.Equal(t, []string{c.code, c.field}, []string{said.Code, said.ColumnName}, said.Message)
					require.Contains(t, said.Message, c.saysSQL(tenant, args.Kind()))
					require.NotEmpty(t, said.Hint)
				}
			}
			require.Equal(t, before, roomtest.Count(t, e.Env, written), "nothing is written")
			c.off(t, e.Env)
			for _, tenant := range []string{"acme", "big"} {
				for _, args := range ofTenant {
					for _, d := range e.goDoors(tenant, args) {
						require.NoError(t, d.enter(ctx), "%s of %s for %s", d.name, args.Kind(), tenant)
					}
					require.NoError(t, e.call(ctx, tenant, args))
				}
			}
		})
	}
}

// A schedule may need a feature by its own name. Then its doors are closed, and those of its
// kind are open.
func TestAScheduleThatATenantMayNotHaveIsRefused(t *testing.T) {
	t.Parallel()
	e := newRefusedEnv(t)
	ctx := context.Background()
	roomtest.Do(t, e.Env, `INSERT INTO headgate.feature_gates (feature, schedule) VALUES ('extra', 'bills')`)
	for _, tenant := range []string{"acme", "big"} {
		for _, d := range e.goDoors(tenant, ofTenant[0]) {
			err := d.enter(ctx)
			switch d.name {
			case "Trigger", "TriggerTx", "Backfill", "BackfillTx":
				require.ErrorIs(t, err, jobs.ErrFeatureOff, d.name)
				require.ErrorContains(t, err, fmt.Sprintf("schedule bills needs feature extra, which tenant %q does not have: `headgate tenant feature %s extra=true`", tenant, tenant))
			default:
				require.NoError(t, err, d.name)
			}
		}
	}
	roomtest.Do(t, e.Env, `UPDATE headgate.features SET default_value = 'true'`)
	for _, d := range e.goDoors("acme", ofTenant[0]) {
		if d.name != "Retry" { // it has been done
			require.NoError(t, d.enter(ctx), d.name)
		}
	}
}
