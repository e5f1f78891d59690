package catalog_test

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// A key is retired only when nothing is sealed with it, and never again is anything,
// whatever ring a process has.
func TestRetire(t *testing.T) {
	t.Parallel()
	r := rotating(t, "a")
	ctx := t.Context()
	retire := func(ring *catalog.KeyRing, id string) error {
		return r.keys(ring).Retire(ctx, catalog.RetireParams{ID: id, Actor: "ada"})
	}
	require.EqualError(t, retire(r.both, "k1"), "retire: the key is in use: 3 values are sealed with k1; run `headgate key rekey`, which seals all with the ring's first key, then retire k1 again")
	require.ErrorIs(t, retire(r.both, "k2"), catalog.ErrKeyInUse, "the first seals")
	require.ErrorIs(t, retire(r.both, "K2; x"), catalog.ErrUnknownKey)

	_, err := r.keys(r.both).Rekey(ctx, catalog.RekeyParams{})
	require.NoError(t, err)
	require.NoError(t, r.keys(r.both).Retire(ctx, catalog.RetireParams{ID: "k1", DryRun: true}))
	require.NoError(t, r.Logins().Set(ctx, "a", jobs.LoginJob, login("a_job", "a")), "a dry run retires nothing")
	require.ErrorIs(t, retire(r.both, "k1"), catalog.ErrKeyInUse)
	_, err = r.keys(r.both).Rekey(ctx, catalog.RekeyParams{})
	require.NoError(t, err)
	require.NoError(t, retire(r.both, "k1"))
	require.NoError(t, retire(r.both, "k1"), "again")
	uses, err := r.keys(r.both).List(ctx)
	require.NoError(t, err)
	require.Equal(t, []string{"k2", "k1"}, []string{uses[0].ID, uses[1].ID})
	require.Equal(t, []any{catalog.KeyRetired, "ada", 0, 2}, []any{uses[1].State, uses[1].RetiredBy, uses[1].Seals, uses[1].Ring})

	// r's own catalog has the old key first.
	const says = "the key is retired, and this process has it first (k1): nothing was changed; put another key in front of the ring, then start this process again"
	for what, err := range map[string]error{
		"login":  r.Logins().Set(ctx, "a", jobs.LoginJob, login("a_job", "a")),
		"direct": catalog.New(r.pool, ring(t, r.k1, r.k2)).Logins().SetDirect(ctx, "a", jobs.LoginJob, login("a_job", "a")),
	} {
		require.ErrorIs(t, err, catalog.ErrRetiredKey, what)
		require.ErrorContains(t, err, says, what)
	}
	_, err = r.AddDatabase(ctx, databaseParams("b", catalog.KindShared))
	require.ErrorContains(t, err, says)
	_, err = r.keys(ring(t, r.k1, r.k2)).Rekey(ctx, catalog.RekeyParams{})
	require.ErrorContains(t, err, says)
	require.Equal(t, map[string]int{"k1": 0, "k2": 3}, r.seals(t))
}

// A writer that has sealed with a key and not yet committed is waited for.
func TestRetireSeesOpenWriters(t *testing.T) {
	t.Parallel()
	r := rotating(t, "a")
	ctx := t.Context()
	_, err := r.keys(r.both).Rekey(ctx, catalog.RekeyParams{})
	require.NoError(t, err)
	tx, err := r.pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	_, err = r.AddDatabaseTx(ctx, tx, databaseParams("b", catalog.KindShared))
	require.NoError(t, err)

	retired := make(chan error, 1)
	go func() { retired <- r.keys(r.both).Retire(ctx, catalog.RetireParams{ID: "k1"}) }()
	require.Eventually(t, func() bool {
		var waits bool
		err := r.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%headgate.keys%')`).Scan(&waits)
		return err == nil && waits
	}, time.Minute, time.Millisecond)
	require.NoError(t, tx.Commit(ctx))
	require.ErrorIs(t, <-retired, catalog.ErrKeyInUse)
}

// Many writers with the old ring beside rekey and retire: once a key is retired, it
// seals nothing, in whatever order they came.
func TestRetireRace(t *testing.T) {
	t.Parallel()
	r := rotating(t, "a", "b", "c")
	ctx := t.Context()
	var retired atomic.Bool
	var refused atomic.Int64
	var writers sync.WaitGroup
	for _, name := range []string{"a", "b", "c"} {
		for _, mode := range []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.RepeatableRead} {
			own := catalog.New(r.pool, r.old)
			writers.Go(func() {
				for n := 0; n < 3; { // until the key is retired, and thrice after
					<-time.After(rand.N(40 * time.Millisecond)) // else nothing is ever unused
					after := retired.Load()
					err := pgx.BeginTxFunc(ctx, r.pool, pgx.TxOptions{IsoLevel: mode}, func(tx pgx.Tx) error {
						return own.Logins().SetTx(ctx, tx, name, jobs.LoginJob, login(name+"_job", name))
					})
					if after {
						n++
						require.ErrorIs(t, err, catalog.ErrRetiredKey)
						refused.Add(1)
					}
				}
			})
		}
	}
	keys := r.keys(r.both)
	require.Eventually(t, func() bool {
		_, err := keys.Rekey(ctx, catalog.RekeyParams{Patience: time.Nanosecond})
		require.NoError(t, err)
		return keys.Retire(ctx, catalog.RetireParams{ID: "k1"}) == nil
	}, 2*time.Minute, time.Millisecond)
	require.Zero(t, r.seals(t)["k1"])
	retired.Store(true)
	writers.Wait()
	require.Zero(t, r.seals(t)["k1"])
	require.EqualValues(t, 18, refused.Load())
}

// A ring that opens one value at least is ready; one that opens none is not, also if its
// key has the right id.
func TestCheckKeys(t *testing.T) {
	t.Parallel()
	r := rotating(t)
	other := ring(t, catalog.NewKey("k1"))
	require.NoError(t, r.keys(other).Check(t.Context()), "nothing is sealed yet")
	r.addDatabase(t, "a", catalog.KindShared)
	require.NoError(t, r.keys(r.both).Check(t.Context()))
	err := r.keys(other).Check(t.Context())
	require.ErrorIs(t, err, catalog.ErrWrongKeys)
	require.ErrorContains(t, err, "none of 3 sealed values of this central database, with its keys k1;")

	// The way out of a lost key: the first address that is stored again.
	require.NoError(t, catalog.New(r.pool, other).Logins().Set(t.Context(), "a", jobs.LoginJob, login("a_job", "a")))
	require.NoError(t, r.keys(other).Check(t.Context()))
	found, err := r.keys(other).Sample(t.Context(), "k1", 20)
	require.NoError(t, err)
	require.Equal(t, []int{3, 2, 1}, []int{found.Values, found.Opened, found.Failed}, "another key of the same id has sealed the other")
}

func TestKeysOfNothing(t *testing.T) {
	t.Parallel()
	r := rotating(t)
	uses, err := r.keys(r.both).List(t.Context())
	require.NoError(t, err)
	text, err := json.Marshal(uses)
	require.NoError(t, err)
	require.Equal(t, `[{"id":"k2","ring":1,"state":"unused","seals":0},{"id":"k1","ring":2,"state":"unused","seals":0}]`, string(text))
	require.NoError(t, r.keys(r.both).Retire(t.Context(), catalog.RetireParams{ID: "k1"}), "a key that never sealed")
	require.ErrorIs(t, r.catalogOf(r.old).mustAdd(t), catalog.ErrRetiredKey)
}

func (r rotation) catalogOf(ring *catalog.KeyRing) rotation {
	r.Catalog = catalog.New(r.pool, ring)
	return r
}

func (r rotation) mustAdd(t testing.TB) error {
	_, err := r.AddDatabase(t.Context(), databaseParams("x", catalog.KindShared))
	return err
}
