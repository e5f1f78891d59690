package admission_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/admission"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// BenchmarkBulk is a bulk of 10,000 tenants by their selector, beside the statement by which
// somebody would do the same in psql, triggers and audit included, and beside the call with
// 10,000 names. Each is rolled back.
func BenchmarkBulk(b *testing.B) {
	const tenants = 10_000
	env := jobstest.New(b)
	env.Database("shared", jobstest.DatabaseOpts{})
	ctx := context.Background()
	params := make([]catalog.TenantParams, tenants)
	names := make([]string, tenants)
	for i := range params {
		names[i] = fmt.Sprintf("t%05d", i)
		params[i] = catalog.TenantParams{Slug: names[i], Database: "shared", Plan: "free"}
	}
	_, err := env.Catalog.AddTenants(ctx, params)
	require.NoError(b, err)
	_, err = env.Pool.Exec(ctx, `ANALYZE headgate.tenants, headgate.plans, headgate.databases`)
	require.NoError(b, err)
	free, gold := selecting(b, "plan = free"), "gold"
	label := catalog.TenantChange{Labels: map[string]*string{"tier": &gold}}
	sql := func(text string) func(tx pgx.Tx) (int, error) {
		return func(tx pgx.Tx) (int, error) {
			tag, err := tx.Exec(ctx, text)
			return int(tag.RowsAffected()), err
		}
	}
	for _, c := range []struct {
		name string
		do   func(tx pgx.Tx) (int, error)
	}{
		{"label/selector", func(tx pgx.Tx) (int, error) {
			list, err := env.Catalog.Editor().ChangeSelectedTx(ctx, tx, free, label, nil)
			return len(list), err
		}},
		{"label/names", func(tx pgx.Tx) (int, error) {
			list, err := env.Catalog.Editor().ChangeTx(ctx, tx, names, label)
			return len(list), err
		}},
		{"label/psql", sql(`UPDATE headgate.tenants SET labels = labels || '{"tier": "gold"}' WHERE plan = 'free'`)},
		{"suspend/selector", func(tx pgx.Tx) (int, error) {
			list, err := env.Catalog.Editor().SetStatusSelectedTx(ctx, tx, free, catalog.StatusChange{To: catalog.Suspended}, nil)
			return len(list), err
		}},
		{"suspend/psql", sql(`UPDATE headgate.tenants SET status = 'suspended', status_since = now() WHERE plan = 'free'`)},
		{"pause/selector", func(tx pgx.Tx) (int, error) {
			list, err := env.Admission.PauseSelectedTx(ctx, tx, free, nil, nil)
			return len(list), err
		}},
		{"pause/psql", sql(`INSERT INTO headgate.pauses (scope, target) SELECT 'tenant', id FROM headgate.tenants WHERE plan = 'free'`)},
		{"limit/selector", func(tx pgx.Tx) (int, error) {
			list, err := env.Admission.SetLimitSelectedTx(ctx, tx, free, admission.Limit{Weight: ptr(2.0)}, nil)
			return len(list), err
		}},
		{"limit/psql", sql(`INSERT INTO headgate.tenant_limits (tenant_id, weight) SELECT id, 2 FROM headgate.tenants WHERE plan = 'free'`)},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				tx, err := env.Pool.Begin(ctx)
				require.NoError(b, err)
				n, err := c.do(tx)
				require.NoError(b, err)
				require.Equal(b, tenants, n)
				require.NoError(b, tx.Rollback(ctx))
			}
		})
	}
}
