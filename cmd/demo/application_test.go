package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// The way a SaaS tests a kind of its own: two tenants of one database, a
// transfer of one of them, and the other's rows are as they were.
func TestTransfer(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("freemium-1", jobstest.DatabaseOpts{Schema: saasSchema})
	acme, other := env.Tenant("acme", "freemium-1"), env.Tenant("other", "freemium-1")
	env.Work(nil, func(w *worker.Worker) { worker.InTx(w, transfer) })
	ctx := t.Context()
	_, err := db.Pool.Exec(ctx, `INSERT INTO organizations SELECT unnest($1::bigint[]), 'An organisation', 'freemium'`, []int64{acme.OrgID, other.OrgID})
	require.NoError(t, err)
	_, err = db.Pool.Exec(ctx, `INSERT INTO brands (org_id, brand_id, name, budget) SELECT org_id, brand, 'A brand', 100 FROM organizations, generate_series(1, 2) brand`)
	require.NoError(t, err)
	budgets := func(org int64) (first, second int) {
		require.NoError(t, db.Pool.QueryRow(ctx, `SELECT min(budget), max(budget) FROM brands WHERE org_id = $1`, org).Scan(&first, &second))
		return first, second
	}

	outcome := env.Run("acme", Transfer{From: 1, To: 2, Points: 30})
	require.Equal(t, jobs.Succeeded, outcome.State, outcome.Message)
	first, second := budgets(acme.OrgID)
	require.Equal(t, []int{70, 130}, []int{first, second})
	first, second = budgets(other.OrgID)
	require.Equal(t, []int{100, 100}, []int{first, second})

	outcome = env.Run("acme", Transfer{From: 1, To: 2, Points: 71})
	require.Equal(t, jobs.Cancelled, outcome.State)
	require.Contains(t, outcome.Message, "brand 1 has no 71 points to give to brand 2")
	first, second = budgets(acme.OrgID)
	require.Equal(t, []int{70, 130}, []int{first, second})
}
