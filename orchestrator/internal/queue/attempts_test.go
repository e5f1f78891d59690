package queue_test

import (
	"context"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/queue"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
)

// The attempts of a job are found by the index of each month: a UID tells no time.
func TestAttemptsPlan(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	for n := -12; n < 0; n++ {
		roomtest.Do(t, env, `SELECT headgate.add_part('outcomes', 'month', $1)`, roomtest.InMonth(n))
	}
	months := roomtest.Count(t, env, `SELECT count(*) FROM pg_inherits WHERE inhparent = 'headgate.outcomes'::regclass`)
	for _, c := range []struct {
		sql  string
		args []any
	}{
		{queue.SelectAttemptsSQL, []any{uuid.New(), time.UnixMicro(0), uuid.Nil, 10}},
		{queue.LastAttemptsSQL, []any{uuid.New(), 10}},
	} {
		var plan []string
		require.NoError(t, pgx.BeginFunc(ctx, env.Pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off`); err != nil { // the months are empty
				return err
			}
			rows, err := tx.Query(ctx, `EXPLAIN (COSTS OFF) `+c.sql, c.args...)
			if err == nil {
				plan, err = pgx.CollectRows(rows, pgx.RowTo[string])
			}
			return err
		}))
		text := strings.Join(plan, "\n")
		require.NotContains(t, text, "Seq Scan")
		require.Equal(t, months, len(regexp.MustCompile(`Index Cond: \(+job_uid = `).FindAllString(text, -1)), text)
	}
}

// A job that was snoozed for long has more attempts than a page: all are listed, each
// once, also those that ended in one microsecond, and the job shows the last.
func TestAttemptsOfManyPages(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	job := roomtest.Enqueue(t, env)
	roomtest.Do(t, env, `
INSERT INTO headgate.outcomes (id, job_uid, job_id, kind, attempt, state, started_at, ended_at)
SELECT gen_random_uuid(), $1, 1, 'note', n, 'snoozed', now(), date_trunc('day', now()) + n / 3 * interval '1 microsecond' FROM generate_series(1, 250) n`, job.UID)
	seen, pages := map[int]bool{}, 0
	var before time.Time
	for page := (jobs.Page{}); ; pages++ {
		list, next, err := env.Client.Attempts(ctx, job.UID, page)
		require.NoError(t, err)
		for _, o := range list {
			require.False(t, seen[o.Attempt] || o.EndedAt.Before(before))
			seen[o.Attempt], before = true, o.EndedAt
		}
		if page.After = next; next == "" {
			break
		}
	}
	require.Len(t, seen, 250)
	require.Equal(t, 2, pages)
	shown, err := env.Client.Job(ctx, job.UID)
	require.NoError(t, err)
	require.True(t, shown.Earlier)
	require.Len(t, shown.Attempts, 100)
	require.Equal(t, before, shown.Last().EndedAt)
	roomtest.Do(t, env, `SELECT headgate.add_part('outcomes', 'month', '1950-06-01')`)
	roomtest.Do(t, env, `
INSERT INTO headgate.outcomes (id, job_uid, job_id, kind, attempt, state, started_at, ended_at)
VALUES (gen_random_uuid(), $1, 1, 'note', 0, 'snoozed', '1950-06-01', '1950-06-01')`, job.UID)
	list, _, err := env.Client.Attempts(ctx, job.UID, jobs.Page{Limit: 1})
	require.NoError(t, err)
	require.Equal(t, 0, list[0].Attempt, "the clock was wrong, and the attempt is there")
	list, _, err = env.Client.Attempts(ctx, job.UID, jobs.Page{Limit: 1, After: strconv.FormatInt(list[0].EndedAt.UnixMicro(), 36) + "." + list[0].ID})
	require.NoError(t, err)
	require.NotZero(t, list[0].Attempt)
	for _, page := range []jobs.Page{{After: "?"}, {After: "abc"}, {After: "abc.def"}, {Limit: 1001}, {Limit: -1}} {
		_, _, err := env.Client.Attempts(ctx, job.UID, page)
		require.ErrorAs(t, err, new(*jobs.InputError))
	}
}
