package erasure_test

import (
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker/erasure"
	"github.com/headgate/headgate/worker/tenantdb/protection"
)

// TestADeferredConstraintKeepsOneRow: it refused the commit of each batch, so that 5,000 rows
// stayed because of one.
func TestADeferredConstraintKeepsOneRow(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{Schema: `
		CREATE TABLE orders (id bigint PRIMARY KEY, org_id bigint NOT NULL);
		CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF OLD.id = 77 THEN RAISE EXCEPTION 'kept'; END IF; RETURN NULL; END $$;
		CREATE CONSTRAINT TRIGGER keep AFTER DELETE ON orders DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION keep()`},
		protection.Table{Name: "orders"})
	b.trust("public.keep()")
	b.exec(`INSERT INTO orders SELECT n, 1 FROM generate_series(1, 200) n`)
	b.work(erasure.Config{Batch: 50}, nil)
	b.remove(b.org[1])
	uid, message := b.failed(b.org[1])
	require.Contains(t, message, "public.orders: 1 row is refused: a trigger refused the deletion (P0001)")
	require.Equal(t, 77, b.number(`SELECT sum(id) FROM orders`))
	b.exec(`DROP TRIGGER keep ON orders`)
	require.Equal(t, jobs.Succeeded, b.Wait(uid).State)
}

// TestAFileThatStaysStopsNothing behind it: the history stayed, and other files.
func TestAFileThatStaysStopsNothing(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{})
	for i := range 10 {
		_, err := b.Pool.Exec(b.ctx, `INSERT INTO headgate.outcomes (id, job_id, job_uid, kind, tenant_id, database_id, state, attempt, started_at, ended_at, message, output)
			SELECT gen_random_uuid(), $2::bigint, gen_random_uuid(), 'headgate.report', t.id, t.database_id, 'succeeded', 1, now(), now() - make_interval(secs => $2::bigint), 'secret', $3 FROM headgate.tenants t WHERE t.id = $1`,
			b.org[1].ID, i+1, fmt.Sprintf("acme/%d.csv", i))
		require.NoError(t, err)
		b.files.there[fmt.Sprintf("acme/%d.csv", i)] = true
	}
	b.files.held = map[string]error{"acme/3.csv": errors.New("the object is under retention")}
	b.work(erasure.Config{}, nil)
	b.remove(b.org[1])
	uid, message := b.failed(b.org[1])
	require.Contains(t, message, "the history are gone, and 1 file of reports stays; the job tries again: acme/3.csv: the object is under retention")
	require.Equal(t, map[string]bool{"acme/3.csv": true}, b.files.left())
	require.Zero(t, b.central(`SELECT count(*) FROM headgate.outcomes WHERE tenant_id = $1 AND message = 'secret'`, b.org[1].ID))
	require.Nil(t, b.erase(b.org[1]).DoneAt)
	b.files.release()
	last := b.Wait(uid)
	require.Equal(t, jobs.Succeeded, last.State, last.Message)
	require.Empty(t, b.files.left(), "its key was kept")
	require.Zero(t, b.central(`SELECT count(*) FROM headgate.outcomes WHERE tenant_id = $1 AND output <> ''`, b.org[1].ID))
}

// TestADryRunSaysWhatItCannotCount, and counts all others.
func TestADryRunSaysWhatItCannotCount(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{})
	b.fill(b.org[1], 5)
	b.exec(`ALTER TABLE own FORCE ROW LEVEL SECURITY;
		CREATE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
		CREATE TRIGGER spy BEFORE DELETE ON categories FOR EACH ROW EXECUTE FUNCTION spy()`)
	b.work(erasure.Config{}, nil)
	e, err := b.Client.Erase(b.ctx, "acme", &jobs.EraseOpts{CountOnly: true})
	require.NoError(t, err)
	last := b.Wait(e.JobUID)
	require.Equal(t, jobs.Succeeded, last.State, last.Message)
	require.Contains(t, last.Result.Output, "has 45 rows in 6 tables")
	require.Contains(t, last.Result.Output, "would stay: public.own: row-level security hides rows of public.own from the owner login: ALTER TABLE public.own NO FORCE ROW LEVEL SECURITY")
	require.Contains(t, last.Result.Output, "would stay: public.categories: trigger spy of public.categories would run with the owner login's rights")
}

// TestAnUnconfirmedJobIsNamed with what ends it: an erasure waited for it without a word.
func TestAnUnconfirmedJobIsNamed(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{})
	at := time.Now().Add(time.Hour)
	result, err := b.Client.Enqueue(b.ctx, "acme", say{}, &jobs.EnqueueOpts{RunAt: at})
	require.NoError(t, err)
	b.remove(b.org[1])
	_, err = b.Pool.Exec(b.ctx, `UPDATE river_job SET state = 'pending', finalized_at = NULL WHERE headgate.job_uid(metadata, id, created_at) = $1`, result.UID)
	require.NoError(t, err)
	b.work(erasure.Config{}, nil)
	e := b.erase(b.org[1])
	waits := b.WaitFor(e.JobUID, func(o jobs.Outcome) bool { return o.State == jobs.Snoozed })
	require.Contains(t, waits.Message, "1 job of the tenant has not ended, and "+result.UID+" is unconfirmed: `headgate job cancel "+result.UID+"` ends that one")
	_, err = b.Client.Cancel(b.ctx, result.UID, nil)
	require.NoError(t, err)
	last := b.Wait(e.JobUID)
	require.Equal(t, jobs.Succeeded, last.State, last.Message)
}

// left are the files that are there.
func (f *files) left() map[string]bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.there)
}

func (f *files) release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held = nil
}
