package claim_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/claim"
)

// keep starts a keeper of quick habits: beats of 20 ms, dead after 60.
func (b *bench) keep(t *testing.T, lease *claim.Lease, name string) {
	k := claim.NewKeeper(claim.KeeperConfig{
		Pool: b.pool, Lease: lease, Worker: name, Kinds: []string{"act"}, Queues: []string{"default"},
		Every: 20 * time.Millisecond, DeadAfter: 60 * time.Millisecond, Fenced: func() {}, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, k.Start(b.ctx))
	t.Cleanup(func() { require.NoError(t, k.Stop(context.Background())) })
}

const aUID = "0190aaaa-0000-7000-8000-000000000001"

// history is a job's outcomes, oldest first.
func (b *bench) history() (states []string) {
	rows, err := b.pool.Query(b.ctx, `SELECT concat_ws(' ', state, class) FROM headgate.outcomes WHERE job_uid = $1 ORDER BY ended_at`, aUID)
	require.NoError(b, err)
	states, err = pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(b, err)
	return states
}

func (b *bench) suspects() (n int) {
	require.NoError(b, b.pool.QueryRow(b.ctx, `SELECT count(*) FROM headgate.suspects`).Scan(&n))
	return n
}

func (b *bench) suspect(id int64) {
	b.exec(`INSERT INTO headgate.suspects (job_id, job_uid, kind, deaths) VALUES ($1, '', 'act', 2)`, id)
}

// A claim was committed and its answer lost: the row runs under a living
// worker's name, and no worker has it. It is given back and uses no attempt.
// What the worker does have is left alone, however long it takes.
func TestAClaimWhoseAnswerWasLost(t *testing.T) {
	b := single(t, true)
	began, free := make(chan int64, 1), make(chan struct{})
	b.on("hold", serverUsage(began, free))
	long := b.insert("hold", nil)
	<-began
	id := b.insert("", &river.InsertOpts{ScheduledAt: time.Now().Add(never), Metadata: []byte(`{"job_uid": "` + aUID + `"}`)})
	b.exec(`UPDATE river_job SET state = 'running', scheduled_at = now(), attempt = 1, attempted_at = now(), attempted_by = ARRAY[$2::text] WHERE id = $1`,
		id, b.lease.Incarnation()+":999999")
	b.keep(t, b.lease, "forgetful")
	b.wait("it ran after all", func() bool { return strings.HasPrefix(b.row(id), "completed attempt 1/") })
	require.Equal(t, []string{"snoozed lost_worker"}, b.history())
	require.Contains(t, b.row(long), "running attempt 1/25 claims 1")
	close(free)
	b.wait("the long one ends", func() bool { return strings.HasPrefix(b.row(long), "completed") })
}

// River drops the end of an attempt whose metadata is not JSON. Stock, the row
// would run until the rescuer comes; here it goes back while its worker lives.
func TestAnEndThatWasLost(t *testing.T) {
	b := single(t, true)
	ran := 0
	b.on("odd", func(ctx context.Context, _ *river.Job[act]) error {
		if ran++; ran == 1 {
			return river.MetadataSet(ctx, "odd", make(chan int))
		}
		return nil
	})
	id := b.insert("odd", nil)
	b.flushed()
	require.Contains(t, b.row(id), "running")
	b.keep(t, b.lease, "forgetful")
	b.wait("it ran again", func() bool { return strings.HasPrefix(b.row(id), "completed attempt 1/") })
}

// One end that Postgres cannot store does not hold up those of its group, and
// is written without its details. Stock, the process would write no end again.
func TestAnEndThatCannotBeStored(t *testing.T) {
	b := single(t, true)
	began, free := make(chan int64, 3), make(chan struct{})
	nul := func(result error) handler {
		hold := serverUsage(began, free)
		return func(ctx context.Context, job *river.Job[act]) error {
			if err := river.MetadataSet(ctx, "odd", "a\x00b"); err != nil {
				return err
			}
			return join(hold(ctx, job), result)
		}
	}
	b.on("hold", serverUsage(began, free))
	b.on("nul", nul(nil))
	b.on("nul, error", func(ctx context.Context, job *river.Job[act]) error {
		return join(serverUsage(began, free)(ctx, job), nulError{})
	})
	ids := []int64{b.insert("nul", nil), b.insert("hold", nil), b.insert("nul, error", &river.InsertOpts{MaxAttempts: 1})}
	for range ids {
		<-began
	}
	close(free)
	b.until(ids[0], rivertype.JobStateCompleted)
	b.until(ids[1], rivertype.JobStateCompleted)
	b.until(ids[2], rivertype.JobStateDiscarded)
	require.Contains(t, b.seen[2], "could not be stored")
}

type nulError struct{}

func (nulError) Error() string { return "a byte \x00 that jsonb does not take" }

func join(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// A worker is taken for dead, its job given back, and its end comes before
// anybody has claimed the row again: it changes nothing and leaves no outcome.
func TestAnEndBetweenTheReaperAndTheNextClaim(t *testing.T) {
	b := single(t, true)
	began, free := make(chan int64, 1), make(chan struct{})
	b.onIn("quiet", "hold", func(ctx context.Context, job *river.Job[act]) error {
		err := serverUsage(began, free)(ctx, job)
		b.lease.SetCompletion(job.JobRow, claim.Completion{Outcome: outcomeOf(job.JobRow, aUID, jobs.Succeeded)})
		return err
	})
	require.NoError(t, b.client.Queues().Add("quiet", river.QueueConfig{MaxWorkers: 1}))
	id := b.insert("hold", &river.InsertOpts{Queue: "quiet", Metadata: []byte(`{"job_uid": "` + aUID + `"}`)})
	<-began
	require.NoError(t, b.client.QueuePause(b.ctx, "quiet", nil))
	b.paused("quiet", river.EventKindQueuePaused)
	b.exec(`INSERT INTO headgate.workers (incarnation, worker, host, pid, kinds, queues) VALUES ($1, 'asleep', '', 1, '{}', '{}')`, b.lease.Incarnation())
	b.keep(t, claim.NewLease(), "undertaker")
	b.wait("it was given back", func() bool { return strings.HasPrefix(b.row(id), "available attempt 0/") })
	before := b.row(id)
	close(free)
	b.flushed()
	require.Equal(t, before, b.row(id))
	require.Equal(t, []string{"snoozed lost_worker"}, b.history())
}

// An attempt that ended without a death clears its suspicion: in whichever way
// it ended, and also if it became a suspect only while it ran.
func TestSuspicionIsClearedByEveryEnd(t *testing.T) {
	b := single(t, true)
	b.on("in a transaction", func(ctx context.Context, job *river.Job[act]) error {
		b.suspect(job.ID)
		err := b.inTx(func(tx pgx.Tx) error {
			_, err := river.JobCompleteTx[*riverpgxv5.Driver](ctx, tx, job)
			return err
		})
		b.note(b.suspects())
		return err
	})
	b.on("late", func(_ context.Context, job *river.Job[act]) error { b.suspect(job.ID); return nil })
	for _, how := range []string{"in a transaction", "late"} {
		id := b.insert(how, nil)
		b.wait("done", func() bool { return strings.HasPrefix(b.row(id), "completed") })
		b.flushed()
		require.Zero(t, b.suspects())
	}
	require.Equal(t, []string{"0\n"}, b.seen)
}

// A claim that fails after it has taken a suspect gives up the one place for
// suspects.
func TestAFailedClaimFreesTheSuspectsPlace(t *testing.T) {
	b := single(t, true)
	ids := []int64{b.insert("", &river.InsertOpts{ScheduledAt: time.Now().Add(never)}), b.insert("", &river.InsertOpts{ScheduledAt: time.Now().Add(never)})}
	b.suspect(ids[0])
	b.suspect(ids[1])
	b.exec(`
CREATE SEQUENCE tries;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF nextval('tries') <= 3 THEN RAISE 'no commit today'; END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON river_job DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.state = 'available' AND NEW.state = 'running') EXECUTE FUNCTION refuse()`)
	b.keep(t, b.lease, "suspicious") // it knows of the suspects now
	b.exec(`UPDATE river_job SET state = 'available', scheduled_at = now()`)
	for _, id := range ids {
		b.wait("it ran", func() bool { return strings.HasPrefix(b.row(id), "completed attempt 1/") })
	}
	require.Zero(t, b.suspects())
}

// A job that is cancelled while its attempt ends as to be tried again is
// cancelled: in the queue and in the history.
func TestCancelledMeanwhileIsCancelledInTheHistory(t *testing.T) {
	b := single(t, true)
	for _, result := range []error{join(nil, nulError{}), river.JobSnooze(never)} {
		uid := uuid.NewString()
		b.on("cancelled meanwhile", func(ctx context.Context, job *river.Job[act]) error {
			b.exec(`UPDATE river_job SET metadata = metadata || '{"cancel_attempted_at": "2026-01-02T03:04:05Z"}' WHERE id = $1`, job.ID)
			b.lease.SetCompletion(job.JobRow, claim.Completion{Outcome: outcomeOf(job.JobRow, uid, jobs.Failed)})
			return result
		})
		b.until(b.insert("cancelled meanwhile", nil), rivertype.JobStateCancelled)
		var state string
		require.NoError(t, b.pool.QueryRow(b.ctx, `SELECT state FROM headgate.outcomes WHERE job_uid = $1`, uid).Scan(&state))
		require.Equal(t, "cancelled", state)
	}
}

// Suspects run one after the other; each end calls the next, so that a process
// with many does not wait a poll's time for each. Who has met more deaths than the
// others comes after them.
func TestOneSuspectAfterTheOther(t *testing.T) {
	t.Parallel()
	b := &bench{t: t, rig: newRig(t, true), ctx: context.Background(), queue: "default"}
	b.start(t, func(cfg *river.Config) { cfg.FetchPollInterval = never })
	running, most, order := 0, 0, []int64{}
	b.on("count", func(_ context.Context, job *river.Job[act]) error {
		b.mu.Lock()
		running, most, order = running+1, max(most, running+1), append(order, job.ID)
		left := 6 - len(order)
		b.mu.Unlock()
		b.wait("the others that were put back are due again", func() bool {
			var due int
			err := b.pool.QueryRow(b.ctx, `SELECT count(*) FROM river_job j JOIN headgate.suspects s ON s.job_id = j.id WHERE state = 'available' AND scheduled_at <= clock_timestamp()`).Scan(&due)
			return err == nil && due == left
		})
		plain := b.insert("plain", nil)
		b.wait("another claim was made", func() bool { return strings.HasPrefix(b.row(plain), "completed") })
		b.mu.Lock()
		running--
		b.mu.Unlock()
		return nil
	})
	b.on("plain", func(context.Context, *river.Job[act]) error { return nil })
	var ids []int64
	for range 6 {
		ids = append(ids, b.insert("count", &river.InsertOpts{ScheduledAt: time.Now().Add(never)}))
		b.suspect(ids[len(ids)-1])
	}
	b.exec(`UPDATE headgate.suspects SET deaths = 3 WHERE job_id = $1`, ids[0])
	require.NoError(t, b.client.QueuePause(b.ctx, "default", nil)) // no claim is under way that does not know of suspects yet
	b.paused("default", river.EventKindQueuePaused)
	b.keep(t, b.lease, "suspicious")
	b.exec(`UPDATE river_job SET state = 'available', scheduled_at = now()`)
	require.NoError(t, b.client.QueueResume(b.ctx, "default", nil))
	for _, id := range ids {
		b.wait("it ran", func() bool { return strings.HasPrefix(b.row(id), "completed attempt 1/") })
	}
	require.Equal(t, 1, most, "suspects at once")
	require.Equal(t, append(ids[1:], ids[0]), order)
	require.Zero(t, b.suspects())
	require.Empty(t, b.wrong)
}

func outcomeOf(row *rivertype.JobRow, uid string, state jobs.State) *jobs.Outcome {
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return &jobs.Outcome{
		ID: uid, JobUID: uid, Kind: row.Kind, Attempt: row.Attempt, State: state,
		StartedAt: began, EndedAt: began.Add(time.Second),
	}
}
