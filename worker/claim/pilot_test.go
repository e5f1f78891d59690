package claim_test

import (
	"context"
	"testing"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker/claim"
)

func TestMain(m *testing.M) { jobstest.Main(m) }

func TestQueriesPrepare(t *testing.T) {
	t.Parallel()
	jobstest.PrepareQueries(t, ".", jobstest.New(t).Pool)
}

// A River that does not ask our driver for its pilot is noticed.
func TestAssertPilot(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	ours, err := river.NewClient(claim.NewDriver(env.Pool, nil, claim.NewLease()), &river.Config{Logger: env.Log})
	require.NoError(t, err)
	require.NoError(t, claim.AssertPilot(ours))
	stock, err := river.NewClient(riverpgxv5.New(env.Pool), &river.Config{Logger: env.Log})
	require.NoError(t, err)
	require.ErrorContains(t, claim.AssertPilot(stock), "ignores Headgate's pilot")
}

// The token's metadata key never reaches the row; what others put there does.
func TestTheTokenLeavesTheMetadata(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	ctx := context.Background()
	workers, lease := river.NewWorkers(), claim.NewLease()
	river.AddWorker(workers, river.WorkFunc(func(ctx context.Context, job *river.Job[note]) error {
		if err := river.MetadataSet(ctx, "theirs", 7); err != nil {
			return err
		}
		if err := river.MetadataSet(ctx, claim.LeaseKey, claim.Token(job.AttemptedBy)); err != nil {
			return err
		}
		lease.SetCompletion(job.JobRow, claim.Completion{Outcome: outcomeOf(job.JobRow, job.Args.ID, jobs.Succeeded)})
		return nil
	}))
	client, err := river.NewClient(claim.NewDriver(env.Pool, nil, lease), &river.Config{
		Logger: env.Log, Workers: workers, Queues: map[string]river.QueueConfig{"default": {MaxWorkers: 2}},
	})
	require.NoError(t, err)
	done, cancel := client.Subscribe(river.EventKindJobCompleted)
	defer cancel()
	require.NoError(t, client.Start(ctx))
	defer func() { require.NoError(t, client.Stop(ctx)) }()
	const same = "0190aaaa-0000-7000-8000-000000000009"
	for range 2 { // the same attempt's outcome twice stays one row
		_, err = client.Insert(ctx, note{ID: same}, nil)
		require.NoError(t, err)
	}
	<-done
	<-done
	var metadata string
	require.NoError(t, env.Pool.QueryRow(ctx, `SELECT metadata::text FROM river_job LIMIT 1`).Scan(&metadata))
	require.JSONEq(t, `{"theirs": 7}`, metadata)
	var rows int
	require.NoError(t, env.Pool.QueryRow(ctx, `SELECT count(*) FROM headgate.outcomes`).Scan(&rows))
	require.Equal(t, 1, rows)
}

type note struct {
	ID string `json:"id"`
}

func (note) Kind() string { return "note" }
