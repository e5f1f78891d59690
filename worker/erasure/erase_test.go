package erasure_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/wire"
	"github.com/headgate/headgate/orchestrator/access"
	"github.com/headgate/headgate/worker"
	"github.com/headgate/headgate/worker/erasure"
	"github.com/headgate/headgate/worker/tenantdb/protection"
)

// say is a tenant's job that leaves an output.
type say struct {
	Text string `json:"text"`
	Wait bool   `json:"wait"`
}

func (say) Kind() string { return "say" }

func runSay(_ context.Context, _ pgx.Tx, job *jobs.Job[say]) error {
	job.Result.Output = job.Args.Text
	job.Log().Info("said", "text", job.Args.Text)
	return nil
}

// TestARemovedTenantIsErased has three organisations with the same rows in one database. The
// rows of the other two, of all brands, are the same afterwards.
func TestARemovedTenantIsErased(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{})
	for _, org := range b.org[1:] {
		b.fill(org, 30)
	}
	b.work(erasure.Config{Batch: 7, Page: 50}, func(w *worker.Worker) { worker.InTx(w, runSay) })
	for _, org := range b.org[1:] {
		for range 3 {
			require.Equal(t, jobs.Succeeded, b.Run(org.Slug, say{Text: "secret of " + org.Slug}).State)
		}
	}
	b.files.there["acme/r.csv"] = true
	_, err := b.Pool.Exec(b.ctx, `UPDATE headgate.outcomes SET kind = 'headgate.report', output = 'acme/r.csv' WHERE id = (SELECT id FROM headgate.outcomes WHERE tenant_id = $1 LIMIT 1)`, b.org[1].ID)
	require.NoError(t, err)
	before := [][]string{nil, b.rowsOf(b.org[1]), b.rowsOf(b.org[2]), b.rowsOf(b.org[3])}
	require.Len(t, before[1], 30*11, "the control: there are rows")
	const ledger, said = `SELECT count(*) FROM headgate.ledger WHERE org_id = $1`, `SELECT count(*) FROM headgate.outcomes WHERE tenant_id = $1 AND output <> ''`
	const logs = `SELECT count(*) FROM headgate.job_logs g JOIN headgate.outcomes o USING (id) WHERE o.tenant_id = $1`
	const args = `SELECT count(*) FROM river_job WHERE headgate.lane(metadata) = $1`
	for _, sql := range []string{said, logs, args} {
		require.Equal(t, 3, b.central(sql, b.org[1].ID), sql)
	}

	b.remove(b.org[1])
	output := b.erased(b.org[1])
	require.Contains(t, output, `erased "acme" (org_id 1): 300 rows of 7 tables deleted`)
	require.Contains(t, output, "public.item_notes: 90")
	require.Contains(t, output, "headgate.ledger: 3")
	require.Contains(t, output, "not declared, not touched: public.stray (org_id)")
	require.Contains(t, output, "3 outcomes cleared, 3 jobs and 0 idempotency keys deleted")
	require.Contains(t, output, "files of reports: 1 deleted, 0 not where")

	require.Empty(t, b.files.there)
	for _, row := range b.rowsOf(b.org[1]) {
		require.True(t, strings.HasPrefix(row, "stray "), row)
	}
	for i := 2; i <= 3; i++ {
		require.Equal(t, before[i], b.rowsOf(b.org[i]), "of another tenant")
		for _, sql := range []string{said, logs, args} {
			require.Equal(t, 3, b.central(sql, b.org[i].ID), sql)
		}
		var n int
		require.NoError(t, b.db.Pool.QueryRow(b.ctx, ledger, b.org[i].OrgID).Scan(&n))
		require.Equal(t, 3, n)
	}
	for _, sql := range []string{said, logs, args} {
		require.Zero(t, b.central(sql, b.org[1].ID), sql)
	}
	require.Equal(t, 3, b.central(`SELECT count(*) FROM headgate.outcomes WHERE tenant_id = $1 AND state = 'succeeded'`, b.org[1].ID), "the history counts them")

	again := b.erase(b.org[1])
	require.NotNil(t, again.DoneAt)
	require.EqualValues(t, 300, again.Rows)
	require.Equal(t, "erased", again.JobState)
	require.Equal(t, 1, b.central(`SELECT count(*) FROM river_job WHERE kind = 'headgate.erase'`), "the second request enqueued nothing")
	require.Equal(t, 1, b.central(`SELECT count(DISTINCT operation) FROM headgate.audit WHERE object = 'erasure' AND tenant_id = $1`, b.org[1].ID))
	require.Equal(t, 2, b.central(`SELECT count(*) FROM headgate.audit WHERE object = 'erasure' AND tenant_id = $1 AND reason = 'request 17'`, b.org[1].ID))
}

// TestOnlyWhatWasRemovedAndAskedForIsErased: the arguments of a job are anybody's.
func TestOnlyWhatWasRemovedAndAskedForIsErased(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{})
	b.fill(b.org[1], 5)
	b.work(erasure.Config{}, nil)
	_, err := b.Client.Erase(b.ctx, "acme", nil)
	require.ErrorIs(t, err, jobs.ErrNotRemoved)
	require.ErrorContains(t, err, "run `headgate tenant remove acme --yes` first")

	enqueue := func() jobs.Outcome {
		result, err := b.Client.EnqueueDatabase(b.ctx, "shop", wire.Erase{Tenant: b.org[1].ID}, nil)
		require.NoError(t, err)
		return b.Wait(result.UID)
	}
	last := enqueue()
	require.Equal(t, jobs.Cancelled, last.State)
	require.Contains(t, last.Message, "was not removed")
	b.remove(b.org[1])
	last = enqueue()
	require.Equal(t, jobs.Cancelled, last.State)
	require.Contains(t, last.Message, "nobody has asked for this job")
	require.Len(t, b.rowsOf(b.org[1]), 5*11)

	// By SQL, with the worker's rights.
	_, err = b.Config().Pool.Exec(b.ctx, `SELECT headgate.erase_history($1, 'infinity', gen_random_uuid(), 10, false)`, b.org[2].ID)
	require.ErrorContains(t, err, "is not asked for")
}

// TestADryRunCounts has an active tenant's rows counted.
func TestADryRunCounts(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{})
	b.fill(b.org[1], 5)
	b.work(erasure.Config{}, nil)
	e, err := b.Client.Erase(b.ctx, "acme", &jobs.EraseOpts{CountOnly: true})
	require.NoError(t, err)
	last := b.Wait(e.JobUID)
	require.Equal(t, jobs.Succeeded, last.State, last.Message)
	require.Contains(t, last.Result.Output, `counted, nothing erased: "acme" (org_id 1) has 50 rows in 7 tables`)
	require.Contains(t, last.Result.Output, "public.items: 10")
	require.Len(t, b.rowsOf(b.org[1]), 5*11)
	require.Zero(t, b.central(`SELECT count(*) FROM headgate.erasures`))
}

// TestALockedRowStopsOnlyItself names the table, and goes on when the row is free.
func TestALockedRowStopsOnlyItself(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{})
	b.fill(b.org[1], 20)
	b.work(erasure.Config{Batch: 3}, nil)
	tx, err := b.db.Pool.Begin(b.ctx)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	_, err = tx.Exec(b.ctx, `SELECT FROM items WHERE id = (SELECT min(id) FROM items) FOR UPDATE`)
	require.NoError(t, err)

	b.remove(b.org[1])
	uid := b.erase(b.org[1]).JobUID
	failed := b.WaitFor(uid, func(o jobs.Outcome) bool { return o.State == jobs.Failed })
	require.Contains(t, failed.Message, "public.items: 1 row is locked by other sessions")
	require.Contains(t, failed.Message, "public.orders: 1 row is referred to by rows")
	var orders int
	require.NoError(t, b.db.Pool.QueryRow(b.ctx, `SELECT count(*) FROM orders`).Scan(&orders))
	require.Equal(t, 1, orders, "all others are gone")
	require.Nil(t, b.erase(b.org[1]).DoneAt)

	require.NoError(t, tx.Rollback(b.ctx))
	require.Equal(t, jobs.Succeeded, b.Wait(uid).State)
	require.Len(t, b.rowsOf(b.org[1]), 20, "only the stray ones")
}

// TestRowsOfOthersThatReferStay: a CASCADE would take another tenant's row along.
func TestRowsOfOthersThatReferStay(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{})
	b.fill(b.org[1], 5)
	b.exec(`CREATE TABLE refunds (org_id bigint NOT NULL, order_id bigint REFERENCES orders ON DELETE CASCADE);
		INSERT INTO refunds SELECT 2, min(id) FROM orders;
		GRANT SELECT ON refunds TO ` + b.db.Owner.User)
	b.work(erasure.Config{}, nil)
	b.remove(b.org[1])
	uid := b.erase(b.org[1]).JobUID
	failed := b.WaitFor(uid, func(o jobs.Outcome) bool { return o.State == jobs.Failed })
	require.Contains(t, failed.Message, "public.orders: 1 row is referred to by rows that are not this tenant's or not declared")
	require.Contains(t, failed.Message, "refunds_order_id_fkey of public.refunds")
	var n int
	require.NoError(t, b.db.Pool.QueryRow(b.ctx, `SELECT count(*) FROM refunds`).Scan(&n))
	require.Equal(t, 1, n)
	b.exec(`DELETE FROM refunds`)
	require.Equal(t, jobs.Succeeded, b.Wait(uid).State)
}

// TestARefusedRowStopsOnlyItself: a trigger that raises keeps one row, and one that returns
// NULL another.
func TestARefusedRowStopsOnlyItself(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{})
	b.fill(b.org[1], 20)
	b.exec(`CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF OLD.n = 3 THEN RAISE EXCEPTION 'row of ada@example.com'; END IF;
			IF OLD.n = 4 THEN RETURN NULL; END IF;
			RETURN OLD;
		END $$;
		CREATE TRIGGER guard BEFORE DELETE ON own FOR EACH ROW EXECUTE FUNCTION guard()`)
	b.trust("public.guard()")
	b.work(erasure.Config{Batch: 8}, nil)
	b.remove(b.org[1])
	uid := b.erase(b.org[1]).JobUID
	failed := b.WaitFor(uid, func(o jobs.Outcome) bool { return o.State == jobs.Failed })
	require.Contains(t, failed.Message, "public.own: 1 row is kept by a trigger, 1 row is refused: a trigger refused the deletion (P0001)")
	require.NotContains(t, failed.Message, "ada")
	var n int
	require.NoError(t, b.db.Pool.QueryRow(b.ctx, `SELECT count(*) FROM own`).Scan(&n))
	require.Equal(t, 2, n)
	b.exec(`DROP TRIGGER guard ON own`)
	require.Equal(t, jobs.Succeeded, b.Wait(uid).State)
}

// TestAnErasureWaitsForJobs of the tenant that have not ended, and uses no attempt.
func TestAnErasureWaitsForJobs(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{})
	begun, release := make(chan struct{}), make(chan struct{})
	b.work(erasure.Config{}, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, _ *jobs.Job[say]) error {
			close(begun)
			select {
			case <-release:
			case <-ctx.Done():
				return ctx.Err()
			}
			_, err := tx.Exec(ctx, `INSERT INTO own VALUES (headgate.current_org(), 1)`)
			return err
		})
	})
	result, err := b.Client.Enqueue(b.ctx, "acme", say{}, nil)
	require.NoError(t, err)
	<-begun
	b.exec(`GRANT INSERT, SELECT ON own TO headgate_job`)
	b.remove(b.org[1])
	e := b.erase(b.org[1])
	require.Equal(t, 1, e.Waiting)
	waits := b.WaitFor(e.JobUID, func(o jobs.Outcome) bool { return o.State == jobs.Snoozed })
	require.Contains(t, waits.Message, "1 job of the tenant has not ended, "+result.UID+" among them")
	close(release)
	last := b.Wait(e.JobUID)
	require.Equal(t, jobs.Succeeded, last.State, last.Message)
	require.Contains(t, last.Result.Output, "public.own: 1")
	require.Empty(t, b.rowsOf(b.org[1]))
	require.Equal(t, 1, last.Attempt)
}

// TestAfterAnErasureTheOrganisationIsShutOut: an attempt of a worker that was taken for dead
// would write rows again, because the ledger that knew its job is gone.
func TestAfterAnErasureTheOrganisationIsShutOut(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{})
	b.work(erasure.Config{}, nil)
	b.remove(b.org[1])
	b.erased(b.org[1])
	for i, shut := range map[int]bool{1: true, 2: false} {
		err := pgx.BeginFunc(b.ctx, b.db.Pool, func(tx pgx.Tx) error { return b.db.ActFor(b.ctx, tx, b.org[i].OrgID) })
		if shut {
			require.ErrorContains(t, err, "55000")
		} else {
			require.NoError(t, err)
		}
	}
}

// TestADedicatedDatabaseIsErasedByWhatIsDeclared, and says who drops it.
func TestADedicatedDatabaseIsErasedByWhatIsDeclared(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{Kind: "dedicated"})
	b.fill(b.org[1], 5)
	_, err := protection.Apply(b.ctx, b.owner, protection.Request{Database: "shop", Login: b.db.Job.User, Dedicated: true, Tables: []protection.Table{{Name: "own"}}})
	require.NoError(t, err)
	b.work(erasure.Config{}, nil)
	b.remove(b.org[1])
	output := b.erased(b.org[1])
	require.Contains(t, output, "public.own: 5", "it is declared")
	require.Contains(t, output, "not declared, not touched: public.orders (org_id); if it holds rows of tenants, `headgate database protect shop --table public.orders`")
	require.Contains(t, output, "until its operator drops the database")
}

// TestACancelledErasureIsAskedForAgain: a new job takes the place of one that has ended.
func TestACancelledErasureIsAskedForAgain(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{})
	b.fill(b.org[1], 5)
	b.remove(b.org[1])
	first := b.erase(b.org[1])
	require.Equal(t, first.JobUID, b.erase(b.org[1]).JobUID)
	_, err := b.Client.Cancel(b.ctx, first.JobUID, nil)
	require.NoError(t, err)
	seen, err := b.Client.Erasure(b.ctx, b.org[1].ID)
	require.NoError(t, err)
	require.Equal(t, "stopped", seen.JobState)
	second := b.erase(b.org[1])
	require.NotEqual(t, first.JobUID, second.JobUID)
	b.work(erasure.Config{}, nil)
	require.Equal(t, jobs.Succeeded, b.Wait(second.JobUID).State)
	require.Len(t, b.rowsOf(b.org[1]), 5)
}

// TestAnErasureIsOneOperation of the caller's, where the caller has one.
func TestAnErasureIsOneOperation(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{})
	b.work(erasure.Config{}, nil)
	const operation = "01890a5d-ac96-774b-bcce-b302099a8057"
	b.ctx = access.With(b.ctx, access.Actor{Operation: operation})
	b.remove(b.org[1])
	b.erased(b.org[1])
	require.Equal(t, 2, b.central(`SELECT count(*) FROM headgate.audit WHERE object = 'erasure' AND operation = $1`, operation))
	require.NotZero(t, b.central(`SELECT count(*) FROM headgate.audit WHERE object = 'tenant' AND operation = $1`, operation))
}

// TestAParentsNumberIsNoOrganisation: another tenant's order may have the number that is this
// tenant's org_id.
func TestAParentsNumberIsNoOrganisation(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{})
	b.exec(`INSERT INTO orders VALUES (1, 2, 0, 'n'), (2, 1, 0, 'n')`)
	b.exec(`INSERT INTO items VALUES (1, 1), (2, 2)`)
	b.exec(`INSERT INTO item_notes VALUES (1, 'n'), (2, 'n')`)
	before := b.rowsOf(b.org[2])
	require.Len(t, before, 3)
	b.work(erasure.Config{}, nil)
	b.remove(b.org[1])
	b.erased(b.org[1])
	require.Equal(t, before, b.rowsOf(b.org[2]))
	require.Empty(t, b.rowsOf(b.org[1]))
}
