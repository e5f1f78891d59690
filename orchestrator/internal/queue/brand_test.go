package queue_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
)

// withBrands gives acme brands 1 and 2, and brick brand 3.
func withBrands(t *testing.T, env *jobstest.Env) {
	t.Helper()
	for _, b := range []struct {
		tenant string
		id     int
	}{{"acme", 1}, {"acme", 2}, {"brick", 3}} {
		_, err := env.Catalog.Brands().Set(context.Background(), b.tenant, b.id, "a brand")
		require.NoError(t, err)
	}
}

func brand(n int) *jobs.EnqueueOpts { return &jobs.EnqueueOpts{Brand: &n} }

func brandKey(n *int, k string) *jobs.EnqueueOpts {
	return &jobs.EnqueueOpts{Brand: n, IdempotencyKey: k}
}

// A job's brand is one of its tenant's, from both doors, one job or many; what is refused
// names the tenant and the item, and leaves nothing behind.
func TestABrandIsOneOfTheTenants(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.grant("*")
	d.grant("tidy")
	withBrands(t, d.env)
	ctx := t.Context()
	note := roomtest.Note{Text: "x"}
	_, err := d.env.Client.Enqueue(ctx, "acme", note, brand(3))
	require.ErrorIs(t, err, jobs.ErrUnknownBrand)
	require.ErrorContains(t, err, "tenant acme has no brand 3: `headgate tenant brand list acme`")
	_, err = d.env.Client.EnqueueMany(ctx, []jobs.EnqueueParams{
		{Tenant: "acme", Args: note}, {Tenant: "acme", Args: note, Opts: brand(1)}, {Tenant: "acme", Args: note, Opts: brand(1)},
		{Tenant: "brick", Args: note, Opts: brand(1)}, {Tenant: "acme", Args: note, Opts: brand(4)},
	})
	require.ErrorIs(t, err, jobs.ErrUnknownBrand)
	require.ErrorContains(t, err, "item 3: unknown brand: tenant brick has no brand 1")
	for _, n := range []int{-1, jobs.MostBrands} {
		var wrong *jobs.InputError
		_, err = d.env.Client.Enqueue(ctx, "acme", note, brand(n))
		require.ErrorAs(t, err, &wrong)
		require.Equal(t, "brand", wrong.Field)
	}
	_, err = d.env.Client.EnqueueDatabase(ctx, "shared", roomtest.Tidy{}, brand(1))
	require.ErrorContains(t, err, "works on a whole database: give no brand")
	for _, n := range []string{"3", "-1", "10000", "0"} {
		said := d.refused("HG110", "brand", "headgate.enqueue: brand "+n+`: tenant "acme" has no brand of this number`, `'note', 'acme', '{"text": "x"}', brand => `+n)
		require.Equal(t, "Leave brand out for a job of all brands.", said.Hint)
	}
	d.refused("HG110", "brand", "brand 3", `'note', 'acme', '{"text": "x"}', idempotency_key => 'k', brand => 3`)
	require.Zero(t, roomtest.Count(t, d.env, `SELECT (SELECT count(*) FROM river_job) + (SELECT count(*) FROM headgate.idempotency_keys)`))

	byGo, err := d.env.Client.Enqueue(ctx, "acme", note, brand(2))
	require.NoError(t, err)
	bySQL := d.ok(`'note', 'acme', '{"text": "x"}', brand => 2`)
	require.Equal(t, rowOf(t, d.env, byGo.UID), rowOf(t, d.env, bySQL), "the row of one door is that of the other")
	all := d.ok(`'note', 'acme', '{"text": "x"}', brand => NULL`)
	require.NotContains(t, rowOf(t, d.env, all)["metadata"], "brand")
}

// A request of another brand is another request: under a key that is taken it is a conflict,
// at each door, whichever door took the key.
func TestAKeyStandsForABrand(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.grant("*")
	withBrands(t, d.env)
	ctx := t.Context()
	one, two := 1, 2
	const args = `'pay', 'acme', '{"amount": 5}', idempotency_key => `
	for first, took := range map[*int]string{&one: "one", nil: "all"} {
		for _, door := range []string{"go", "sql"} {
			k := door + "-" + took
			var uid string
			sql := args + "'" + k + "'"
			if first != nil {
				sql += ", brand => 1"
			}
			if door == "sql" {
				uid = d.ok(sql)
			} else {
				made, err := d.env.Client.Enqueue(ctx, "acme", Pay{Amount: 5}, brandKey(first, k))
				require.NoError(t, err)
				uid = made.UID
			}
			same, err := d.env.Client.Enqueue(ctx, "acme", Pay{Amount: 5}, brandKey(first, k))
			require.NoError(t, err)
			require.Equal(t, jobs.EnqueueResult{UID: uid, Status: jobs.StatusSame}, same)
			require.Equal(t, uid, d.ok(sql))

			_, err = d.env.Client.Enqueue(ctx, "acme", Pay{Amount: 5}, brandKey(&two, k))
			var conflict *jobs.IdempotencyConflictError
			require.ErrorAs(t, err, &conflict)
			require.Equal(t, jobs.IdempotencyConflictError{Key: k, FirstUID: uid, Field: "brand"}, *conflict)
			d.refused("HG106", "idempotency_key", "job "+uid+": the brand differ", args+"'"+k+"', brand => 2")
			if first != nil {
				d.refused("HG106", "idempotency_key", "the brand differ", args+"'"+k+"'")
			}
			many, err := d.env.Client.EnqueueMany(ctx, []jobs.EnqueueParams{
				{Tenant: "acme", Args: Pay{Amount: 5}, Opts: brandKey(first, k)}, {Tenant: "acme", Args: Pay{Amount: 5}, Opts: brandKey(&two, k)},
			})
			require.NoError(t, err)
			require.Equal(t, []jobs.EnqueueResult{{UID: uid, Status: jobs.StatusSame}, {UID: uid, Status: jobs.StatusConflict, Differs: "brand"}}, many)
		}
	}
	require.Equal(t, 4, roomtest.Count(t, d.env, `SELECT count(*) FROM river_job`))

	// A key past its time changes hands with the brand.
	roomtest.Do(t, d.env, `DELETE FROM river_job`)
	roomtest.Do(t, d.env, `UPDATE headgate.idempotency_keys SET created_at = created_at - interval '31 days'`)
	later, err := d.env.Client.Enqueue(ctx, "acme", Pay{Amount: 5}, brandKey(&two, "go-one"))
	require.NoError(t, err)
	require.Equal(t, jobs.StatusNew, later.Status)
	again, err := d.env.Client.Enqueue(ctx, "acme", Pay{Amount: 5}, brandKey(&two, "go-one"))
	require.NoError(t, err)
	require.Equal(t, jobs.EnqueueResult{UID: later.UID, Status: jobs.StatusSame}, again)
}

// A rerun is of the brand of the first job, or of the one that is asked for, which is looked
// for again.
func TestARerunKeepsTheBrand(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	withBrands(t, env)
	ctx := t.Context()
	first, err := env.Client.Enqueue(ctx, "acme", roomtest.Note{Text: "x"}, &jobs.EnqueueOpts{Brand: brand(1).Brand, RunAt: time.Now().Add(time.Hour)})
	require.NoError(t, err)
	brandOf := func(uid string) int {
		return roomtest.Count(t, env, `SELECT (metadata->>'brand')::int FROM river_job WHERE metadata->>'job_uid' = $1`, uid)
	}
	again, err := env.Client.Rerun(ctx, first.UID, nil)
	require.NoError(t, err)
	require.Equal(t, 1, brandOf(again.UID))
	other, err := env.Client.Rerun(ctx, first.UID, brand(2))
	require.NoError(t, err)
	require.Equal(t, 2, brandOf(other.UID))
	require.NoError(t, env.Catalog.Brands().Remove(ctx, "acme", 1), "jobs that wait do not keep a brand")
	_, err = env.Client.Rerun(ctx, first.UID, nil)
	require.ErrorIs(t, err, jobs.ErrUnknownBrand)
}
