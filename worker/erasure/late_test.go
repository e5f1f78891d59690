package erasure_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker/erasure"
)

const jobsOfTenant = `SELECT count(*) FROM river_job WHERE headgate.lane(metadata) = $1::text`

// enqueued is an open transaction that has enqueued a job of a tenant.
func (b *bundle) enqueued(tenant string) (tx pgx.Tx, uid string) {
	b.t.Helper()
	tx, err := b.Pool.Begin(b.ctx)
	require.NoError(b.t, err)
	b.t.Cleanup(func() { _ = tx.Rollback(b.ctx) })
	result, err := b.Client.EnqueueTx(b.ctx, tx, tenant, say{}, nil)
	require.NoError(b.t, err)
	return tx, result.UID
}

// A job of a transaction that was open when the tenant was erased came after the erasure, and
// stayed with its arguments.
func TestAnErasureWaitsForTransactionsThatHaveEnqueued(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{})
	tx, uid := b.enqueued("acme")
	b.work(erasure.Config{}, nil)
	b.remove(b.org[1])
	e := b.erase(b.org[1])
	waits := b.WaitFor(e.JobUID, func(o jobs.Outcome) bool { return o.State == jobs.Snoozed })
	require.Regexp(t, `session \d+ of \S+ has written to the queue of the central database in a transaction that is open since before`, waits.Message)
	other, _ := b.enqueued("globex") // a transaction that begins later keeps no erasure waiting
	require.NoError(t, tx.Commit(b.ctx))
	b.WaitFor(e.JobUID, func(o jobs.Outcome) bool {
		return o.State == jobs.Snoozed && strings.Contains(o.Message, "1 job of the tenant has not ended, "+uid+" among them")
	})
	_, err := b.Client.Cancel(b.ctx, uid, nil)
	require.NoError(t, err)
	last := b.Wait(e.JobUID)
	require.Equal(t, jobs.Succeeded, last.State, last.Message)
	require.Equal(t, 1, last.Attempt)
	require.Zero(t, b.central(jobsOfTenant, b.org[1].ID))
	require.NoError(t, other.Commit(b.ctx))
}

// A program that knows the tenant from before, and a transaction with an older snapshot,
// enqueue nothing after the erasure was asked for.
func TestNoJobComesAfterARequestToErase(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{})
	_, url := b.RoleLogin("api")
	conn, err := pgx.Connect(b.ctx, url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(b.ctx) })
	insert := func(db interface {
		Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	}, tenant string) string {
		_, err := db.Exec(b.ctx, `INSERT INTO river_job (kind, args, metadata, max_attempts, state, queue) VALUES ('say', '{"secret": 1}', jsonb_build_object('tenant', $1::text), 1, 'available', 'default')`, tenant)
		var pgErr *pgconn.PgError
		if err == nil {
			return ""
		}
		require.ErrorAs(t, err, &pgErr)
		return pgErr.Code
	}
	old, err := b.Pool.BeginTx(b.ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	require.NoError(t, err)
	defer func() { _ = old.Rollback(b.ctx) }()
	_, err = old.Exec(b.ctx, `SELECT FROM headgate.tenants`)
	require.NoError(t, err)
	require.Empty(t, insert(conn, b.org[1].ID), "the control: before the removal")
	b.remove(b.org[1])
	require.Empty(t, insert(conn, b.org[1].ID), "the control: the janitor cancels such a job")
	b.erase(b.org[1])
	require.Equal(t, "HG102", insert(conn, b.org[1].ID))
	require.Equal(t, "40001", insert(old, b.org[1].ID))
	require.Empty(t, insert(conn, b.org[2].ID), "others'")

	_, err = b.Client.Enqueue(b.ctx, b.org[3].ID, say{}, nil)
	require.NoError(t, err)
	_, err = b.Pool.Exec(b.ctx, `SELECT headgate.remove_tenants(ARRAY[$1::uuid], '', '')`, b.org[3].ID) // of which the client's memory learns nothing
	require.NoError(t, err)
	_, err = b.Pool.Exec(b.ctx, `INSERT INTO headgate.erasures (tenant_id, job_uid, operation, asked_by, reason) VALUES ($1, gen_random_uuid(), gen_random_uuid(), '', '')`, b.org[3].ID)
	require.NoError(t, err)
	_, err = b.Client.Enqueue(b.ctx, b.org[3].ID, say{}, nil)
	require.ErrorIs(t, err, jobs.ErrTenantSuspended)
	require.ErrorContains(t, err, "takes no work")

	for _, sql := range []string{`UPDATE headgate.erasures SET done_at = now()`, `UPDATE headgate.erasures SET horizon = '1'`} {
		_, err := conn.Exec(b.ctx, sql)
		require.ErrorContains(t, err, "may not say that tenant", sql)
	}
	_, err = b.Pool.Exec(b.ctx, `SELECT headgate.remove_tenants(ARRAY[$1::uuid], '', '')`, b.org[2].ID)
	require.NoError(t, err)
	_, err = conn.Exec(b.ctx, `UPDATE headgate.erasures SET tenant_id = $1 WHERE tenant_id = $2`, b.org[2].ID, b.org[3].ID)
	require.ErrorContains(t, err, "may not say that tenant", "one erasure is no other tenant's")
	const ask = `UPDATE headgate.erasures SET job_uid = gen_random_uuid() WHERE tenant_id = $1`
	_, err = conn.Exec(b.ctx, ask, b.org[3].ID)
	require.NoError(t, err, "the control: it may be asked for again until it is done")
	_, err = b.Pool.Exec(b.ctx, `UPDATE headgate.erasures SET done_at = now() WHERE tenant_id = $1`, b.org[3].ID)
	require.NoError(t, err)
	_, err = conn.Exec(b.ctx, ask, b.org[3].ID)
	require.ErrorContains(t, err, "may not say that tenant")

	const give = `UPDATE river_job SET metadata = jsonb_set(metadata, '{tenant}', to_jsonb($1::text)) WHERE metadata->>'tenant' = $2`
	_, err = conn.Exec(b.ctx, give, b.org[1].ID, b.org[2].ID)
	require.ErrorContains(t, err, "takes no work", "a job that is given to the tenant is as late")
	_, err = conn.Exec(b.ctx, give, "00000000-0000-0000-0000-000000000001", b.org[2].ID)
	require.NoError(t, err, "the control: nobody erases that one")
}

// The control of both: what the erasure left before.
func TestWithoutTheWaitALateJobStays(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{})
	tx, _ := b.enqueued("acme")
	_, err := b.Pool.Exec(b.ctx, `CREATE OR REPLACE FUNCTION headgate.late_session(p_tenant uuid) RETURNS text LANGUAGE sql AS $$ SELECT '' $$`)
	require.NoError(t, err)
	b.work(erasure.Config{}, nil)
	b.remove(b.org[1])
	b.erased(b.org[1])
	require.NoError(t, tx.Commit(b.ctx))
	require.Equal(t, 1, b.central(jobsOfTenant, b.org[1].ID))
}
