package claim_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivershared/riverpilot"
	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker/claim"
)

// single is one behaviour on one rig of its own.
func single(t *testing.T, ours bool) *bench {
	t.Parallel()
	b := &bench{t: t, rig: newRig(t, ours), ctx: context.Background(), queue: "default"}
	b.start(t, nil)
	t.Cleanup(func() {
		for _, wrong := range b.wrong {
			t.Error(wrong)
		}
	})
	return b
}

// another claims a running row away, as after its worker was taken for dead.
func (b *bench) another(id int64) {
	b.exec(`UPDATE river_job SET attempted_by = array_append(attempted_by, 'another:1') WHERE id = $1`, id)
}

// flushed waits until all that has ended by now is written: a job that ends
// later is in the same group or a later one.
func (b *bench) flushed() {
	id := b.insert("", nil)
	b.wait("a later job is done", func() bool { return strings.HasPrefix(b.row(id), "completed") })
}

// Who does not hold the row any more changes nothing; stock River completes the
// row of another.
func TestDifferenceFence(t *testing.T) {
	t.Parallel()
	for _, ours := range []bool{false, true} {
		t.Run(fmt.Sprint("ours ", ours), func(t *testing.T) {
			b := single(t, ours)
			began, free := make(chan int64, 1), make(chan struct{})
			b.on("hold", serverUsage(began, free))
			id := b.insert("hold", nil)
			<-began
			b.another(id)
			close(free)
			b.flushed()
			require.Equal(t, !ours, strings.HasPrefix(b.row(id), "completed"), b.row(id))
		})
	}
}

// JobCompleteTx of an attempt that lost its lease finds nothing.
func TestDifferenceFenceInATransaction(t *testing.T) {
	b := single(t, true)
	b.on("complete", func(ctx context.Context, job *river.Job[act]) error {
		b.another(job.ID)
		return b.inTx(func(tx pgx.Tx) error {
			_, err := river.JobCompleteTx[*riverpgxv5.Driver](ctx, tx, job)
			b.note(err)
			return err
		})
	})
	id := b.insert("complete", nil)
	b.wait("its handler is through", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return len(b.seen) > 0 })
	b.flushed()
	require.Equal(t, []string{"not found\n"}, b.seen)
	require.Contains(t, b.row(id), "running")
}

// A job that is ended without a token stays as it is, and the others of its
// group are ended.
func TestDifferenceNoToken(t *testing.T) {
	b := single(t, true)
	b.on("no token", func(ctx context.Context, _ *river.Job[act]) error { return river.MetadataSet(ctx, claim.LeaseKey, "") })
	id := b.insert("no token", nil)
	b.flushed()
	require.Contains(t, b.row(id), "running")
}

// River's rescuer finds a job that has run for two hours; ours is the reaper.
func TestDifferenceRescuer(t *testing.T) {
	t.Parallel()
	for _, ours := range []bool{false, true} {
		t.Run(fmt.Sprint("ours ", ours), func(t *testing.T) {
			b := single(t, ours)
			id := b.insert("", &river.InsertOpts{Queue: "nobodys"})
			b.exec(`UPDATE river_job SET state = 'running', attempted_at = now() - interval '2 hours', attempted_by = '{somebody}' WHERE id = $1`, id)
			stuck, err := b.client.Pilot().(riverpilot.PilotJobRescuer).JobGetStuck(b.ctx, b.client.Driver().GetExecutor(),
				&riverdriver.JobGetStuckParams{Max: 10, StuckHorizon: time.Now().Add(-time.Hour)})
			require.NoError(t, err)
			// The client's own rescuer may have been faster.
			rescued := len(stuck) > 0 || !strings.HasPrefix(b.row(id), "running")
			require.Equal(t, !ours, rescued, b.row(id))
		})
	}
}

// Subscribers learn what became of which job; for the rest they read its row.
func TestDifferenceEvents(t *testing.T) {
	b := single(t, true)
	events, unsubscribe := b.client.Subscribe(river.EventKindJobCompleted)
	defer unsubscribe()
	id := b.insert("", nil)
	event := <-events
	require.Equal(t, &rivertype.JobRow{ID: id, State: rivertype.JobStateCompleted}, event.Job)
}

// The leader of stock River discards a job that was running for too long if it
// does not know its kind; through our driver it leaves it alone.
func TestDifferenceUnknownKindThatIsStuck(t *testing.T) {
	t.Parallel()
	for _, ours := range []bool{false, true} {
		t.Run(fmt.Sprint("ours ", ours), func(t *testing.T) {
			t.Parallel()
			b := &bench{t: t, rig: newRig(t, ours), ctx: context.Background(), queue: "default"}
			var id int64
			require.NoError(t, b.pool.QueryRow(b.ctx, `
INSERT INTO river_job (kind, args, state, attempt, max_attempts, attempted_at, attempted_by)
VALUES ('other', '{}', 'running', 1, 9, now() - interval '2 hours', '{a worker of a newer build}') RETURNING id`).Scan(&id))
			seedScheduled(b)
			b.start(t, nil) // it is the leader, and looks at both at once
			want := "running attempt 1/9"
			if !ours {
				want = "discarded attempt 1/9"
			}
			b.wait("the leader's first look", func() bool {
				var due int
				require.NoError(t, b.pool.QueryRow(b.ctx, `SELECT count(*) FROM river_job WHERE state = 'completed'`).Scan(&due))
				return due == 1 && strings.HasPrefix(b.row(id), want)
			})
			b.flushed()
			require.Contains(t, b.row(id), want)
		})
	}
}

// A row whose errors are none of River's runs; stock River discards it.
func TestDifferenceErrorsOfAnotherForm(t *testing.T) {
	t.Parallel()
	for _, ours := range []bool{false, true} {
		t.Run(fmt.Sprint("ours ", ours), func(t *testing.T) {
			b := single(t, ours)
			b.on("", func(context.Context, *river.Job[act]) error { return nil })
			id := b.insert("", &river.InsertOpts{MaxAttempts: 1, ScheduledAt: time.Now().Add(never)})
			b.exec(`UPDATE river_job SET errors = ARRAY[NULL::jsonb], state = 'available', scheduled_at = now() WHERE id = $1`, id)
			want := rivertype.JobStateDiscarded
			if ours {
				want = rivertype.JobStateCompleted
			}
			b.until(id, want)
		})
	}
}

// A row with a time of infinity, or one that somebody has locked, keeps no other from
// becoming available; stock River moves none beside it.
func TestDifferenceScheduling(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, ours := range []bool{false, true} {
		t.Run(fmt.Sprint("ours ", ours), func(t *testing.T) {
			t.Parallel()
			env := jobstest.New(t)
			now := time.Now()
			params := &riverdriver.JobScheduleParams{Max: 1000, Now: &now}
			for _, odd := range []string{"created_at", "scheduled_at", "attempted_at"} {
				_, err := env.Pool.Exec(ctx, `DELETE FROM river_job`)
				require.NoError(t, err)
				_, err = env.Pool.Exec(ctx, `
INSERT INTO river_job (kind, args, max_attempts, state, queue, scheduled_at) SELECT 'act', '{}', 3, 'scheduled', i::text, now() - interval '1 hour' FROM generate_series(1, 3) i`)
				require.NoError(t, err)
				_, err = env.Pool.Exec(ctx, fmt.Sprintf(`UPDATE river_job SET %s = '-infinity' WHERE queue = '2'`, odd))
				require.NoError(t, err)
				var driver riverdriver.Driver[pgx.Tx] = riverpgxv5.New(env.Pool)
				if ours {
					driver = claim.NewDriver(env.Pool, nil, claim.NewLease())
				}
				lock, err := env.Pool.Begin(ctx)
				require.NoError(t, err)
				t.Cleanup(func() { _ = lock.Rollback(ctx) }) // it is over, or the test has failed
				if ours {
					_, err = lock.Exec(ctx, `SELECT FROM river_job WHERE queue = '3' FOR UPDATE`)
					require.NoError(t, err)
				}
				tx, err := driver.GetExecutor().Begin(ctx)
				require.NoError(t, err)
				t.Cleanup(func() { _ = tx.Rollback(ctx) })            // as above
				soon, cancel := context.WithTimeout(ctx, time.Minute) // who waits for the lock is found out
				defer cancel()
				moved, err := tx.JobSchedule(soon, params)
				if ours {
					require.NoError(t, err)
					require.Len(t, moved, 2, "the third is locked")
					require.NoError(t, tx.Commit(ctx))
				} else {
					require.ErrorContains(t, err, "Infinity")
					require.NoError(t, tx.Rollback(ctx))
				}
				require.NoError(t, lock.Rollback(ctx))
			}
		})
	}
}
