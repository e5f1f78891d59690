package queue_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
)

// However many ask, and in whatever order, one job is made of each; what is no job keeps none
// back.
func TestRerunOnce(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	uids := make([]string, 12)
	for i := range uids {
		result, err := env.Client.Enqueue(ctx, "acme", roomtest.Note{Text: fmt.Sprint(i)}, nil)
		require.NoError(t, err)
		uids[i] = result.UID
		roomtest.PutInto(t, env, env.RowOf(result.UID), "completed")
	}
	unknown := uuid.NewString()
	asked := append(append(uids[:6:6], unknown, "no UID"), uids[6:]...)

	undo := errors.New("undone")
	err := pgx.BeginFunc(ctx, env.Pool, func(tx pgx.Tx) error {
		results, err := env.Client.RerunOnceTx(ctx, tx, asked)
		require.NoError(t, err)
		require.Len(t, results, 14)
		return undo
	})
	require.ErrorIs(t, err, undo)
	require.Equal(t, 12, roomtest.Count(t, env, `SELECT count(*) FROM river_job`))

	made := make([][]jobs.RerunOnceResult, 4)
	var callers sync.WaitGroup
	for i := range made {
		callers.Go(func() {
			results, err := env.Client.RerunOnce(ctx, asked)
			if err != nil {
				t.Errorf("rerunning: %v", err)
			}
			made[i] = results
		})
	}
	callers.Wait()
	fresh := 0
	for i := range asked {
		for _, results := range made {
			got := results[i]
			require.Equal(t, asked[i], got.UID)
			if i == 6 || i == 7 {
				require.Error(t, got.Err)
				continue
			}
			require.NoError(t, got.Err)
			require.Equal(t, asked[i], got.Result.RerunOf)
			require.Equal(t, made[0][i].Result.UID, got.Result.UID, "all are told the same job")
			if got.Result.Status == jobs.StatusNew {
				fresh++
			}
		}
	}
	require.ErrorIs(t, made[0][6].Err, jobs.ErrUnknownJob)
	require.Equal(t, 12, fresh)
	require.Equal(t, 24, roomtest.Count(t, env, `SELECT count(*) FROM river_job`))
	_, err = env.Client.RerunOnce(ctx, make([]string, jobs.MaxRerunOnce+1))
	require.ErrorContains(t, err, "give at most 1000 at a time")
	none, err := env.Client.RerunOnce(ctx, nil)
	require.NoError(t, err)
	require.Empty(t, none)
}

func TestSucceededIsBounded(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	tenant, err := env.Catalog.Tenant(ctx, "acme")
	require.NoError(t, err)
	_, err = env.Pool.Exec(ctx, `
		INSERT INTO headgate.outcomes (id, job_uid, job_id, tenant_id, database_id, kind, attempt, state, started_at, ended_at)
		SELECT gen_random_uuid(), gen_random_uuid(), n, $1, $2, 'note', 1, 'succeeded', now() - interval '1 second', now() - n * interval '1 microsecond'
		FROM generate_series(1, $3) AS n`, tenant.ID, tenant.DatabaseID, jobs.MostSucceeded+1)
	require.NoError(t, err)
	_, err = env.Client.Succeeded(ctx, jobs.SucceededFilter{Database: tenant.DatabaseID, To: time.Now().Add(-time.Minute)})
	require.ErrorContains(t, err, "more than 200000 jobs have succeeded")
	list, err := env.Client.Succeeded(ctx, jobs.SucceededFilter{Database: tenant.DatabaseID, To: time.Now().Add(-time.Minute), Until: time.Now().Add(-time.Hour)})
	require.ErrorContains(t, err, "give a time after")
	require.Empty(t, list)
}
