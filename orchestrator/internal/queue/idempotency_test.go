package queue_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/retention"
)

// Pay has several fields, so that one can differ.
type Pay struct {
	Amount int            `json:"amount"`
	To     string         `json:"to,omitempty"`
	More   map[string]any `json:"more,omitempty"`
}

func (Pay) Kind() string { return "pay" }

func key(k string) *jobs.EnqueueOpts { return &jobs.EnqueueOpts{IdempotencyKey: k} }

// A repeated request is answered with the first job; one that is not the same
// is refused with that job's UID and the field.
func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	pay := Pay{Amount: 5, To: "b", More: map[string]any{"x": 1, "y": []int{2}}}
	first, err := env.Client.Enqueue(ctx, "acme", pay, key("order-7"))
	require.NoError(t, err)
	require.Equal(t, jobs.StatusNew, first.Status)
	again, err := env.Client.Enqueue(ctx, "acme", pay, &jobs.EnqueueOpts{IdempotencyKey: "order-7", Priority: 3})
	require.NoError(t, err)
	require.Equal(t, jobs.EnqueueResult{UID: first.UID, Status: jobs.StatusSame}, again)
	spaced, err := env.Client.Enqueue(ctx, "acme", rawPay(`{ "to":"b", "more":{"y":[2], "x":1}, "amount":5 }`), key("order-7"))
	require.NoError(t, err, "order and spaces make no difference")
	require.Equal(t, first.UID, spaced.UID)

	for name, c := range map[string]struct {
		args  jobs.Args
		field string
	}{
		"value":  {Pay{Amount: 6, To: "b", More: pay.More}, "args.amount"},
		"less":   {Pay{Amount: 5, More: pay.More}, "args.to"},
		"deeper": {Pay{Amount: 5, To: "b", More: map[string]any{"x": 1, "y": []int{3}}}, "args.more"},
		"other":  {rawPay(`{"amount":5,"at":1,"to":"b","more":{"y":[2],"x":1}}`), "args.at"},
		"kind":   {roomtest.Note{Text: "x"}, "kind"},
	} {
		_, err = env.Client.Enqueue(ctx, "acme", c.args, key("order-7"))
		require.ErrorIs(t, err, jobs.ErrIdempotencyConflict, name)
		var conflict *jobs.IdempotencyConflictError
		require.ErrorAs(t, err, &conflict, name)
		require.Equal(t, jobs.IdempotencyConflictError{Key: "order-7", FirstUID: first.UID, Field: c.field}, *conflict, name)
	}
	other, err := env.Client.Enqueue(ctx, "brick", pay, key("order-7"))
	require.NoError(t, err)
	require.Equal(t, jobs.StatusNew, other.Status, "another tenant's key is another key")
	tidy, err := env.Client.EnqueueDatabase(ctx, "shared", roomtest.Tidy{}, key("order-7"))
	require.NoError(t, err)
	require.Equal(t, jobs.StatusNew, tidy.Status)
	require.Equal(t, 3, roomtest.Count(t, env, `SELECT count(*) FROM river_job`))
	require.Zero(t, roomtest.Count(t, env, `SELECT count(*) FROM headgate.idempotency_keys k WHERE k::text LIKE '%"b"%'`), "no argument is kept")

	_, err = env.Pool.Exec(ctx, `DELETE FROM river_job`)
	require.NoError(t, err)
	again, err = env.Client.Enqueue(ctx, "acme", pay, key("order-7"))
	require.NoError(t, err)
	require.Equal(t, jobs.EnqueueResult{UID: first.UID, Status: jobs.StatusSame}, again, "also when its row is gone")

	_, err = env.Pool.Exec(ctx, `UPDATE headgate.idempotency_keys SET created_at = created_at - interval '31 days'`)
	require.NoError(t, err)
	later, err := env.Client.Enqueue(ctx, "acme", Pay{Amount: 6}, key("order-7"))
	require.NoError(t, err)
	require.Equal(t, jobs.StatusNew, later.Status, "a key past its time is free")
}

// A key is kept for as long as its job has not ended, which may be for years: the
// janitor renews it, and before it has come by nobody else takes the key.
func TestAnIdempotencyKeyLivesAsLongAsItsJob(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	opts := &jobs.EnqueueOpts{IdempotencyKey: "order-7", RunAt: time.Now().Add(400 * 24 * time.Hour)}
	first, err := env.Client.Enqueue(ctx, "acme", Pay{Amount: 5}, opts)
	require.NoError(t, err)
	j := roomtest.Janitor(t, env, retention.Config{})
	monthPasses := func() {
		roomtest.Do(t, env, `UPDATE headgate.idempotency_keys SET created_at = created_at - interval '31 days'`)
	}
	for range 3 {
		monthPasses()
		again, err := env.Client.Enqueue(ctx, "acme", Pay{Amount: 5}, opts)
		require.NoError(t, err)
		require.Equal(t, first.UID, again.UID)
		require.Zero(t, roomtest.Sweep(t, j).Keys)
	}
	roomtest.PutInto(t, env, env.RowOf(first.UID), "completed")
	again, err := env.Client.Enqueue(ctx, "acme", Pay{Amount: 5}, opts)
	require.NoError(t, err)
	require.Equal(t, first.UID, again.UID, "its time is counted from the last renewal")
	monthPasses()
	require.Equal(t, 1, roomtest.Sweep(t, j).Keys)
	later, err := env.Client.Enqueue(ctx, "acme", Pay{Amount: 5}, opts)
	require.NoError(t, err)
	require.Equal(t, jobs.StatusNew, later.Status)
}

// A request that is repeated after its time is still the same request; a new one
// is too late.
func TestIdempotencyKeyRepeatedLate(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	at := func(k string, ago time.Duration) *jobs.EnqueueOpts {
		return &jobs.EnqueueOpts{IdempotencyKey: k, RunAt: time.Now().Add(-ago)}
	}
	first, err := env.Client.Enqueue(ctx, "acme", Pay{Amount: 5}, at("in time", 0))
	require.NoError(t, err)
	again, err := env.Client.Enqueue(ctx, "acme", Pay{Amount: 5}, at("in time", time.Hour))
	require.NoError(t, err)
	require.Equal(t, first.UID, again.UID)
	require.Equal(t, jobs.StatusSame, again.Status)
	_, err = env.Client.Enqueue(ctx, "acme", Pay{Amount: 6}, at("in time", time.Hour))
	require.ErrorIs(t, err, jobs.ErrIdempotencyConflict)
	_, err = env.Client.Enqueue(ctx, "acme", Pay{Amount: 5}, at("late", time.Hour))
	require.ErrorContains(t, err, "is past")
	_, err = env.Client.Enqueue(ctx, "acme", Pay{Amount: 5}, &jobs.EnqueueOpts{IdempotencyKey: "in time", RunAt: time.Unix(1, 0)})
	require.ErrorContains(t, err, "after 2000")
	_, err = env.Client.EnqueueMany(ctx, []jobs.EnqueueParams{
		{Tenant: "acme", Args: Pay{Amount: 5}, Opts: at("in time", time.Hour)},
		{Tenant: "acme", Args: Pay{Amount: 5}, Opts: at("late", time.Hour)},
	})
	require.ErrorContains(t, err, "item 1: run at")
	_, err = env.Client.Rerun(ctx, first.UID, at("late", time.Hour))
	require.ErrorContains(t, err, "is past")
	require.Equal(t, 1, roomtest.Count(t, env, `SELECT count(*) FROM river_job`))
	require.Equal(t, 1, roomtest.Count(t, env, `SELECT count(*) FROM headgate.idempotency_keys`))
}

type rawPay string

func (rawPay) Kind() string                   { return "pay" }
func (n rawPay) MarshalJSON() ([]byte, error) { return []byte(n), nil }

func TestIdempotencyKeyRefused(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	for k, says := range map[string]string{
		strings.Repeat("é", 201): "idempotency key: 201 characters are too many: give 1 to 200",
		"a\nb":                   `idempotency key "a\nb": only printable characters are allowed`,
		"a\x00":                  "only printable",
		"a\xff":                  "only printable",
	} {
		_, err := env.Client.Enqueue(context.Background(), "acme", roomtest.Note{}, key(k))
		require.ErrorContains(t, err, says)
	}
	_, err := env.Client.Enqueue(context.Background(), "acme", roomtest.Note{}, key(strings.Repeat("é", 200)))
	require.NoError(t, err)
}

// However many ask at once under one key, one job is accepted and all are given
// its UID.
func TestIdempotencyKeyAtOnce(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	const askers, rounds = 8, 25
	for round := range rounds {
		uids, fresh := [askers]string{}, [askers]bool{}
		var wg sync.WaitGroup
		start := make(chan struct{})
		for i := range askers {
			wg.Go(func() {
				<-start
				result, err := ask(env, i, fmt.Sprint("round-", round))
				if err != nil {
					t.Errorf("asker %d: %v", i, err)
				}
				uids[i], fresh[i] = result.UID, result.Status == jobs.StatusNew
			})
		}
		close(start)
		wg.Wait()
		news := 0
		for i := range askers {
			require.Equal(t, uids[0], uids[i])
			if fresh[i] {
				news++
			}
		}
		require.Equal(t, 1, news)
	}
	require.Equal(t, rounds, roomtest.Count(t, env, `SELECT count(*) FROM river_job`))
	require.Equal(t, rounds, roomtest.Count(t, env, `SELECT count(DISTINCT job_uid) FROM headgate.idempotency_keys`))
}

// ask asks in one of the ways there are.
func ask(env *jobstest.Env, way int, k string) (result jobs.EnqueueResult, err error) {
	ctx := context.Background()
	if way%2 == 0 {
		return env.Client.Enqueue(ctx, "acme", Pay{Amount: 5}, key(k))
	}
	results, err := env.Client.EnqueueMany(ctx, []jobs.EnqueueParams{{Tenant: "acme", Args: Pay{Amount: 5}, Opts: key(k)}})
	if err != nil {
		return result, err
	}
	return results[0], nil
}

// The second of two open transactions with one key waits for the first: if that
// rolls back, the key is its own; if that commits, it is the same.
func TestIdempotencyKeyWaits(t *testing.T) {
	t.Parallel()
	undone := errors.New("undone")
	for _, end := range []error{nil, undone} {
		t.Run(fmt.Sprint(end), func(t *testing.T) {
			t.Parallel()
			env := roomtest.Setup(t)
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			var first jobs.EnqueueResult
			second := make(chan jobs.EnqueueResult, 1)
			err := pgx.BeginFunc(ctx, env.Pool, func(tx pgx.Tx) (err error) {
				first, err = env.Client.EnqueueTx(ctx, tx, "acme", Pay{Amount: 5}, key("k"))
				require.NoError(t, err)
				go func() {
					result, err := env.Client.Enqueue(ctx, "acme", Pay{Amount: 5}, key("k"))
					if err != nil {
						t.Error(err)
					}
					second <- result
				}()
				waitBlocked(ctx, t, env)
				return end
			})
			require.ErrorIs(t, err, end)
			got := <-second
			if end == nil {
				require.Equal(t, jobs.StatusSame, got.Status)
				require.Equal(t, first.UID, got.UID)
			} else {
				require.Equal(t, jobs.StatusNew, got.Status)
				require.NotEqual(t, first.UID, got.UID)
			}
			require.Equal(t, 1, roomtest.Count(t, env, `SELECT count(*) FROM river_job`))
		})
	}
}

// waitBlocked returns when some statement of the database waits for a lock.
func waitBlocked(ctx context.Context, t *testing.T, env *jobstest.Env) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for roomtest.Count(t, env, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) == 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("nobody waits")
		}
	}
}

// A conflict leaves the application's transaction usable, and an undone one
// leaves the key free.
func TestIdempotencyKeyTx(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	_, err := env.Client.Enqueue(ctx, "acme", Pay{Amount: 1}, key("taken"))
	require.NoError(t, err)
	require.NoError(t, pgx.BeginFunc(ctx, env.Pool, func(tx pgx.Tx) error {
		_, err := env.Client.EnqueueTx(ctx, tx, "acme", Pay{Amount: 2}, key("taken"))
		require.ErrorIs(t, err, jobs.ErrIdempotencyConflict)
		one, err := env.Client.EnqueueTx(ctx, tx, "acme", Pay{Amount: 2}, key("own"))
		require.NoError(t, err)
		two, err := env.Client.EnqueueTx(ctx, tx, "acme", Pay{Amount: 2}, key("own"))
		require.NoError(t, err)
		require.Equal(t, jobs.StatusSame, two.Status, "also within one transaction")
		require.Equal(t, one.UID, two.UID)
		return nil
	}))
	require.Equal(t, 2, roomtest.Count(t, env, `SELECT count(*) FROM river_job`))
}
