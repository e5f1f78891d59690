package worker_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/sqlscript"
	"github.com/headgate/headgate/worker"
)

// orders have a brand policy beside the organisation's, as `database protect --brand-column`
// makes it.
const orders = `
CREATE TABLE orders (org_id bigint NOT NULL, brand_id int NOT NULL, org_brand_id bigint, text text NOT NULL);
ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY headgate_others ON orders USING (true) WITH CHECK (true);
CREATE POLICY headgate_org ON orders AS RESTRICTIVE TO headgate_job USING (org_id = (SELECT headgate.current_org())) WITH CHECK (org_id = (SELECT headgate.current_org()));
CREATE POLICY headgate_brand ON orders AS RESTRICTIVE TO headgate_job
    USING ((SELECT headgate.current_brand()) IS NULL OR brand_id = (SELECT headgate.current_brand()))
    WITH CHECK ((SELECT headgate.current_brand()) IS NULL OR brand_id = (SELECT headgate.current_brand()));
GRANT SELECT, INSERT, UPDATE, DELETE ON orders TO headgate_job;
INSERT INTO orders SELECT o, b, o * 10000 + b, 'of ' || o || '/' || b FROM generate_series(1, 3) o, generate_series(1, 2) b;`

// Branded is a kind that says what its job sees.
type Branded struct{}

func (Branded) Kind() string { return "branded" }

// The same code, in a shared and in a dedicated database, from Go and as SQL: a job of a
// brand meets that brand's rows of its own organisation, and writes no others.
func TestBrandsOfJobs(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	ctx := t.Context()
	env.Database("shared", jobstest.DatabaseOpts{Schema: orders, Observed: "its policies are made by hand"})
	env.Database("own", jobstest.DatabaseOpts{Schema: orders, Kind: "dedicated"})
	acme := env.Tenant("acme", "shared")
	env.Tenant("globex", "shared")
	big := env.Tenant("big", "own")
	require.Equal(t, []int64{1, 3}, []int64{acme.OrgID, big.OrgID})
	_, err := env.Pool.Exec(ctx, `INSERT INTO headgate.brands (tenant_id, org_id, brand_id, name) SELECT id, org_id, b, 'b' || b FROM headgate.tenants, generate_series(0, 2) b`)
	require.NoError(t, err)
	env.Work(nil, func(w *worker.Worker) {
		worker.InTx(w, sqlscript.Run)
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Branded]) error {
			var seen string
			var brand *int
			var orgBrand *int64
			if err := tx.QueryRow(ctx, `SELECT coalesce(string_agg(text, ',' ORDER BY text), ''), headgate.current_brand(), headgate.current_org_brand() FROM orders`).Scan(&seen, &brand, &orgBrand); err != nil {
				return err
			}
			own, ok := job.OrgBrandID()
			if ok != (orgBrand != nil) || ok && (own != *orgBrand || *brand != int(own%jobs.MostBrands)) {
				return fmt.Errorf("Go says %d, SQL %v of %v", own, orgBrand, brand)
			}
			job.Result.Output = seen
			return nil
		})
	})
	one, none := 1, 0
	for _, tenant := range []struct {
		slug string
		org  int64
	}{{"acme", 1}, {"big", 3}} {
		run := func(args jobs.Args, brand *int) jobs.Outcome {
			job, err := env.Client.Enqueue(ctx, tenant.slug, args, &jobs.EnqueueOpts{Brand: brand, MaxAttempts: 1})
			require.NoError(t, err)
			o := env.WaitFor(job.UID, func(o jobs.Outcome) bool { return true })
			require.NotEqual(t, jobs.Snoozed, o.State, o.Message)
			return o
		}
		of := func(brand int) string { return fmt.Sprintf("of %d/%d", tenant.org, brand) }
		require.Equal(t, of(1), run(Branded{}, &one).Result.Output)
		require.Empty(t, run(Branded{}, &none).Result.Output, "brand 0 is a brand, which has no rows")
		require.Equal(t, of(1)+","+of(2), run(Branded{}, nil).Result.Output)

		changed := run(sqlscript.Args{SQL: `UPDATE orders SET text = text || '!'`}, &one)
		require.Equal(t, jobs.Succeeded, changed.State, changed.Message)
		require.EqualValues(t, 1, changed.Result.Rows)
		require.Equal(t, of(1)+"!", run(Branded{}, &one).Result.Output)
		require.Equal(t, of(1)+"!,"+of(2), run(Branded{}, nil).Result.Output)
		foreign := run(sqlscript.Args{SQL: fmt.Sprintf(`INSERT INTO orders VALUES (%d, 2, 0, 'smuggled')`, tenant.org)}, &one)
		require.Equal(t, jobs.Discarded, foreign.State)
		require.Equal(t, "42501", foreign.SQLState)
	}
	nine := 9
	_, err = env.Client.Enqueue(ctx, "acme", Branded{}, &jobs.EnqueueOpts{Brand: &nine})
	require.ErrorIs(t, err, jobs.ErrUnknownBrand)
	beyond := jobs.MostBrands
	_, err = env.Client.Enqueue(ctx, "acme", Branded{}, &jobs.EnqueueOpts{Brand: &beyond})
	require.ErrorContains(t, err, "brand")
	require.EqualValues(t, 10_001, jobs.OrgBrandID(1, 1))
}
