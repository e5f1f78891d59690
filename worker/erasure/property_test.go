package erasure_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/erasure"
)

// TestRowsOfOthersAreNeverTouched draws rows of ten organisations, whose numbers and keys are
// mixed up on purpose, and erases half of them at once.
func TestRowsOfOthersAreNeverTouched(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{})
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	orgs := append([]catalog.Tenant{}, b.org[1:]...)
	for len(orgs) < 10 {
		orgs = append(orgs, b.Tenant(fmt.Sprintf("t%d", len(orgs)), "shop"))
	}
	any := func() int64 { return orgs[r.IntN(len(orgs))].OrgID }
	const n = 400
	owner := map[int]int64{} // of orders, whose numbers are organisations' too
	last := map[int64]int{}
	for i := 1; i <= n; i++ {
		owner[i] = any()
		b.exec(`INSERT INTO orders VALUES ($1, $2, $3, 'n')`, i, owner[i], r.IntN(4))
		b.exec(`INSERT INTO items VALUES ($1, $2)`, i, 1+r.IntN(i))
		b.exec(`INSERT INTO item_notes VALUES ($1, 'n')`, 1+r.IntN(i))
		org := any()
		parent := &[]int{last[org]}[0]
		if *parent == 0 || r.IntN(3) == 0 {
			parent = nil
		}
		b.exec(`INSERT INTO categories VALUES ($1, $2, $3)`, i, org, parent)
		last[org] = i
		b.exec(`INSERT INTO events VALUES ($1, $2)`, any(), r.IntN(20))
		b.exec(`INSERT INTO "Odd Docs" VALUES ($1, $2)`, any(), fmt.Sprint(any()))
		b.exec(`INSERT INTO own VALUES ($1, $2)`, any(), any())
	}
	before := map[int64][]string{}
	for _, o := range orgs {
		before[o.OrgID] = b.rowsOf(o)
	}
	b.work(erasure.Config{Batch: 1 + r.IntN(20), Page: 1 + r.IntN(200)}, nil)
	r.Shuffle(len(orgs), func(i, j int) { orgs[i], orgs[j] = orgs[j], orgs[i] })
	var uids []string
	for _, o := range orgs[:5] {
		b.remove(o)
		uids = append(uids, b.erase(o).JobUID)
	}
	for _, uid := range uids {
		last := b.Wait(uid)
		require.Equal(t, jobs.Succeeded, last.State, last.Message)
	}
	for i, o := range orgs {
		if i < 5 {
			require.Empty(t, b.rowsOf(o))
		} else {
			require.NotEmpty(t, before[o.OrgID])
			require.Equal(t, before[o.OrgID], b.rowsOf(o))
		}
	}
}

// TestAnErasureGoesOnAfterAKill: the server ends the session of the first attempt between two
// batches. What was deleted stays deleted.
func TestAnErasureGoesOnAfterAKill(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{})
	b.fill(b.org[1], 60)
	b.fill(b.org[2], 60)
	before := b.rowsOf(b.org[2])
	b.exec(`CREATE TABLE killed (n int); GRANT ALL ON killed TO PUBLIC;
		CREATE FUNCTION kill() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
			IF NOT EXISTS (SELECT FROM public.items WHERE id <= 1000100) AND NOT EXISTS (SELECT FROM public.killed) THEN
				PERFORM pg_terminate_backend(pg_backend_pid());
			END IF;
			RETURN NULL;
		END $$;
		CREATE TRIGGER kill AFTER DELETE ON items FOR EACH STATEMENT EXECUTE FUNCTION kill()`)
	b.trust("public.kill()")
	b.work(erasure.Config{Batch: 5}, nil)
	b.remove(b.org[1])
	uid := b.erase(b.org[1]).JobUID
	ended := b.WaitFor(uid, func(o jobs.Outcome) bool { return o.State == jobs.Failed || o.State == jobs.Snoozed })
	require.NotEmpty(t, ended.Message)
	var notes, items int
	require.NoError(t, b.db.Pool.QueryRow(b.ctx, `SELECT (SELECT count(*) FROM item_notes WHERE item_id < 2000000), (SELECT count(*) FROM items WHERE id < 2000000)`).Scan(&notes, &items))
	require.Zero(t, notes)
	require.NotZero(t, items, "it was killed on the way")
	require.Less(t, items, 120)
	b.exec(`INSERT INTO killed VALUES (1)`)
	last := b.Wait(uid)
	require.Equal(t, jobs.Succeeded, last.State, last.Message)
	require.Len(t, b.rowsOf(b.org[1]), 60, "the stray ones")
	require.Equal(t, before, b.rowsOf(b.org[2]))
}
