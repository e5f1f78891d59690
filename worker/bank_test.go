package worker_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// bankTenant is a tenant, where it lives, and its accounts: 1 to 5 for transfers
// with the ledger, 6 to 10 for those without.
type bankTenant struct {
	tenant catalog.Tenant
	db     *jobstest.Database
}

// newBank makes 20 tenants: 16 in two shared databases, 4 in their own.
func newBank(t *testing.T) (env *jobstest.Env, tenants []bankTenant) {
	t.Helper()
	return newBankOf(t, make([]string, 6))
}

// newBankOf is newBank with the encodings of its databases; "" is the server's.
func newBankOf(t *testing.T, encodings []string) (env *jobstest.Env, tenants []bankTenant) {
	t.Helper()
	env = jobstest.New(t)
	for d := range 6 {
		kind, n := "dedicated", 1
		if d < 2 {
			kind, n = "shared", 8
		}
		db := env.Database(fmt.Sprintf("bank-%d", d), jobstest.DatabaseOpts{Kind: kind, Schema: schema, Encoding: encodings[d]})
		for range n {
			tenant := env.Tenant(fmt.Sprintf("t%d", len(tenants)), db.Name)
			open(t, db, tenant.OrgID, 10)
			tenants = append(tenants, bankTenant{tenant, db})
		}
	}
	return env, tenants
}

// order is what was accepted: who wanted what.
type order struct {
	tenant int
	kind   string
	Transfer
}

// upward is the nth transfer, always to an account of a higher number: none
// deadlocks with another.
func upward(n int) Transfer {
	from := 1 + n%4
	return Transfer{From: from, To: from + 1 + n/4%(5-from), Amount: int64(1 + n%7)}
}

// accept enqueues a job of the ith tenant for the victims and notes what was
// accepted.
func accept(t *testing.T, env *jobstest.Env, tenants []bankTenant, i int, args jobs.Args, accepted map[string]order) string {
	t.Helper()
	return acceptWith(t, env, tenants, i, args, accepted, enqueueTo(victimQueue))
}

func acceptWith(t *testing.T, env *jobstest.Env, tenants []bankTenant, i int, args jobs.Args, accepted map[string]order, opts *jobs.EnqueueOpts) string {
	t.Helper()
	result, err := env.Client.Enqueue(context.Background(), tenants[i%len(tenants)].tenant.Slug, args, opts)
	if err != nil {
		t.Errorf("enqueueing: %v", err)
		return ""
	}
	o := order{tenant: i % len(tenants), kind: args.Kind()}
	switch args := args.(type) {
	case SlowTransfer:
		o.Transfer = args.Transfer
	case BareTransfer:
		o.Transfer = args.Transfer
	case Freeze:
		o.Transfer = args.Transfer
	}
	accepted[result.UID] = o
	return result.UID
}

// audit counts effects by the job's uid: a sum would be blind to a balanced
// transfer that happened twice.
func audit(t *testing.T, tenants []bankTenant, accepted map[string]order, kind string) (doubled, missing, of int) {
	t.Helper()
	ctx := context.Background()
	effects := map[string]int{}
	seen := map[string]bool{}
	for _, bt := range tenants {
		if seen[bt.db.ID] {
			continue
		}
		seen[bt.db.ID] = true
		rows, err := bt.db.Pool.Query(ctx, `SELECT job_uid::text FROM transfers`)
		require.NoError(t, err)
		uids, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		for _, uid := range uids {
			effects[uid]++
		}
	}
	for uid, o := range accepted {
		if o.kind != kind {
			continue
		}
		of++
		switch n := effects[uid]; {
		case n == 0:
			missing++
			t.Logf("job %s (%s) of tenant %s had no effect", uid, kind, tenants[o.tenant].tenant.Slug)
		case n > 1:
			doubled++
		}
	}
	return doubled, missing, of
}

// replay computes each account of the ledgered transfers from what was accepted
// and compares it with what the tenants' databases hold.
func replay(t *testing.T, tenants []bankTenant, accepted map[string]order) {
	t.Helper()
	ctx := context.Background()
	for i, bt := range tenants {
		want := map[int]int64{1: 1000, 2: 1000, 3: 1000, 4: 1000, 5: 1000}
		for _, o := range accepted {
			if o.tenant == i && o.From <= 5 {
				want[o.From] -= o.Amount
				want[o.To] += o.Amount
			}
		}
		got := map[int]int64{}
		rows, err := bt.db.Pool.Query(ctx, `SELECT id, balance FROM accounts WHERE org_id = $1 AND id <= 5`, bt.tenant.OrgID)
		require.NoError(t, err)
		var id int
		var balance int64
		_, err = pgx.ForEachRow(rows, []any{&id, &balance}, func() error { got[id] = balance; return nil })
		require.NoError(t, err)
		require.Equal(t, want, got, "accounts of tenant %s", bt.tenant.Slug)
	}
}

// committed runs a statement at READ COMMITTED, whatever the database's default is.
func committed(ctx context.Context, pool *pgxpool.Pool, sql string, args ...any) error {
	return pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sql, args...)
		return err
	})
}
