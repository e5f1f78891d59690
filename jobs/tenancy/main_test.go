package tenancy_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/tenancy"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker"
)

func TestMain(m *testing.M) { jobstest.Main(m) }

var _ jobs.WithKindOpts = tenancy.Organisations{}

// schema is an application's table of organisations, and one that refers to it.
const schema = `
	CREATE TABLE organisations (org_id bigint PRIMARY KEY, name text NOT NULL, slug text, made timestamptz NOT NULL DEFAULT now());
	CREATE TABLE orders (org_id bigint NOT NULL REFERENCES organisations ON DELETE CASCADE, n int)`

// bundle is an application's database with a worker for it.
type bundle struct {
	*jobstest.Env
	t  *testing.T
	db *jobstest.Database
	in string // what the database is called in the catalog
}

func setup(t *testing.T, opts jobstest.DatabaseOpts) *bundle {
	t.Helper()
	b := &bundle{Env: jobstest.New(t), t: t, in: "app"}
	if opts.Kind != "dedicated" {
		opts.Observed = "these tests keep nobody apart"
	}
	b.db = b.Database(b.in, opts)
	return b
}

// work starts a worker whose jobs ask the catalog.
func (b *bundle) work() *bundle {
	b.workWith(source(b.Catalog))
	return b
}

func (b *bundle) workWith(from tenancy.Source) {
	b.Work(nil, func(w *worker.Worker) { worker.InTx(w, tenancy.New(from)) })
}

func source(c *catalog.Catalog) tenancy.Source {
	return func(ctx context.Context, database string, after int64, limit int) ([]tenancy.Organisation, error) {
		placed, err := c.TenantsIn(ctx, database, after, limit)
		list := make([]tenancy.Organisation, len(placed))
		for i, t := range placed {
			list[i] = tenancy.Organisation{OrgID: t.OrgID, OrgKey: t.OrgKey, Slug: t.Slug, Name: t.Name, Kept: t.Status == catalog.Archived}
		}
		return list, err
	}
}

// begin enqueues a job about the database.
func (b *bundle) begin(args tenancy.Organisations) (uid string) {
	b.t.Helper()
	result, err := b.Client.EnqueueDatabase(context.Background(), b.in, args, &jobs.EnqueueOpts{MaxAttempts: 1})
	require.NoError(b.t, err)
	return result.UID
}

// run does a job and returns its output.
func (b *bundle) run(args tenancy.Organisations) (output string) {
	b.t.Helper()
	last := b.Wait(b.begin(args))
	require.Equal(b.t, jobs.Succeeded, last.State, last.Message)
	return last.Result.Output
}

// refused does a job that must fail, and returns why.
func (b *bundle) refused(args tenancy.Organisations) (message string) {
	b.t.Helper()
	last := b.Wait(b.begin(args))
	require.NotEqual(b.t, jobs.Succeeded, last.State, "%+v", last.Result)
	return last.Message
}

func (b *bundle) exec(sql string, args ...any) {
	b.t.Helper()
	_, err := b.db.Pool.Exec(context.Background(), sql, args...)
	require.NoError(b.t, err, sql)
}

// list is a query's rows of one text each.
func (b *bundle) list(sql string) (all []string) {
	b.t.Helper()
	rows, err := b.db.Pool.Query(context.Background(), sql)
	require.NoError(b.t, err)
	all, err = pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(b.t, err)
	return all
}

// tenants adds n tenants, t1 with org_id 1 and so on.
func (b *bundle) tenants(n int) {
	b.t.Helper()
	params := make([]catalog.TenantParams, n)
	for i := range params {
		params[i] = catalog.TenantParams{Slug: fmt.Sprintf("t%d", i+1), Name: fmt.Sprintf("Tenant %d", i+1), OrgID: int64(i + 1), Database: b.in}
	}
	_, err := b.Catalog.AddTenants(context.Background(), params)
	require.NoError(b.t, err)
}

// rename changes a tenant's name as psql would.
func (b *bundle) rename(slug, name string) {
	b.t.Helper()
	_, err := b.Pool.Exec(context.Background(), `UPDATE headgate.tenants SET name = $2 WHERE slug = $1`, slug, name)
	require.NoError(b.t, err)
}

func TestQueriesPrepare(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{Schema: schema})
	jobstest.PrepareQueries(t, ".", b.db.Pool)
}
