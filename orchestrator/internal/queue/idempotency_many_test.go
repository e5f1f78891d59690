package queue_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
)

// Many with keys: each item is new, the same as an earlier one, or in conflict,
// and a conflict is its own affair.
func TestEnqueueManyWithKeys(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	first, err := env.Client.Enqueue(ctx, "acme", Pay{Amount: 1}, key("old"))
	require.NoError(t, err)
	results, err := env.Client.EnqueueMany(ctx, []jobs.EnqueueParams{
		{Tenant: "acme", Args: Pay{Amount: 9}},
		{Tenant: "acme", Args: Pay{Amount: 1}, Opts: key("old")},
		{Tenant: "acme", Args: Pay{Amount: 2}, Opts: key("old")},
		{Tenant: "acme", Args: Pay{Amount: 3}, Opts: key("twice")},
		{Tenant: "acme", Args: Pay{Amount: 3}, Opts: key("twice")},
		{Tenant: "acme", Args: Pay{Amount: 4}, Opts: key("twice")},
		{Tenant: "brick", Args: Pay{Amount: 1}, Opts: key("old")},
		{Database: "shared", Args: roomtest.Tidy{}, Opts: key("old")},
	})
	require.NoError(t, err)
	for i, want := range []jobs.EnqueueResult{
		{UID: results[0].UID, Status: jobs.StatusNew},
		{UID: first.UID, Status: jobs.StatusSame},
		{UID: first.UID, Status: jobs.StatusConflict, Differs: "args.amount"},
		{UID: results[3].UID, Status: jobs.StatusNew},
		{UID: results[3].UID, Status: jobs.StatusSame},
		{UID: results[3].UID, Status: jobs.StatusConflict, Differs: "args.amount"},
		{UID: results[6].UID, Status: jobs.StatusNew},
		{UID: results[7].UID, Status: jobs.StatusNew},
	} {
		require.Equal(t, want, results[i], i)
	}
	require.Equal(t, 5, roomtest.Count(t, env, `SELECT count(*) FROM river_job`))
	require.Equal(t, 4, roomtest.Count(t, env, `SELECT count(*) FROM headgate.idempotency_keys k JOIN river_job j ON j.metadata->>'job_uid' = k.job_uid::text`))

	all, err := env.Client.EnqueueMany(ctx, []jobs.EnqueueParams{{Tenant: "acme", Args: Pay{Amount: 3}, Opts: key("twice")}})
	require.NoError(t, err)
	require.Equal(t, results[4], all[0], "a call that has nothing new to insert")
}

// Many with keys, then the same again, one of them changed.
func TestEnqueueManyWithKeysAgain(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	params := make([]jobs.EnqueueParams, 2_000)
	for i := range params {
		params[i] = jobs.EnqueueParams{Tenant: []string{"acme", "brick"}[i%2], Args: Pay{Amount: i, To: "x"}, Opts: key(fmt.Sprint("key-", i))}
	}
	start := time.Now()
	results, err := env.Client.EnqueueMany(ctx, params)
	require.NoError(t, err)
	t.Logf("%d new in %s", len(params), time.Since(start))

	params[1234].Args = Pay{Amount: -1, To: "x"}
	start = time.Now()
	again, err := env.Client.EnqueueMany(ctx, params)
	require.NoError(t, err)
	t.Logf("%d again in %s", len(params), time.Since(start))
	for i := range again {
		want := jobs.EnqueueResult{UID: results[i].UID, Status: jobs.StatusSame}
		if i == 1234 {
			want.Status, want.Differs = jobs.StatusConflict, "args.amount"
		}
		require.Equal(t, want, again[i])
	}
	require.Equal(t, len(params), roomtest.Count(t, env, `SELECT count(*) FROM river_job`))
}

// Whatever lists are asked for at once, in whatever order of keys: no deadlock,
// one job for each key, and every answer names it.
func TestEnqueueManyWithKeysProperty(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	run := 0
	rapid.Check(t, func(r *rapid.T) {
		run++
		lists := rapid.SliceOfN(rapid.SliceOfN(rapid.IntRange(0, 9), 1, 20), 2, 4).Draw(r, "keys of each caller")
		answers := make([][]jobs.EnqueueResult, len(lists))
		errs := make([]error, len(lists))
		var wg sync.WaitGroup
		for c, list := range lists {
			params := make([]jobs.EnqueueParams, len(list))
			for i, k := range list {
				params[i] = jobs.EnqueueParams{Tenant: "acme", Args: Pay{Amount: k}, Opts: key(fmt.Sprint(run, "-", k))}
			}
			wg.Go(func() { answers[c], errs[c] = env.Client.EnqueueMany(context.Background(), params) })
		}
		wg.Wait()
		uids, news := map[int]string{}, map[int]int{}
		for c, list := range lists {
			if errs[c] != nil {
				r.Fatal(errs[c])
			}
			for i, k := range list {
				answer := answers[c][i]
				if uids[k] == "" {
					uids[k] = answer.UID
				}
				if answer.UID != uids[k] || answer.Status == jobs.StatusConflict {
					r.Fatalf("key %d: %+v, but it was %s before", k, answer, uids[k])
				}
				if answer.Status == jobs.StatusNew {
					news[k]++
				}
			}
		}
		for k := range uids {
			if news[k] != 1 {
				r.Fatalf("key %d: %d jobs", k, news[k])
			}
		}
	})
}
