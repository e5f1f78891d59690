package claim_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/claim"
)

// What each death, each look and each pass is counted as: one less or more is a job that
// is taken from a living worker, or one that kills workers for longer.

// dies lets a new process claim all that there is, and a keeper find it dead.
func (f *fleet) dies(k *claim.Keeper, began time.Time, pass int) (claimed int) {
	f.t.Helper()
	p := f.process(5, "a")
	claimed = len(p.claim(context.Background(), 5))
	require.Equal(f.t, []string{p.lease.Incarnation()}, f.passes(k, began, pass, pass+4))
	return claimed
}

// A job is a suspect from its second death on, and in quarantine after three more at
// which it was the only one.
func TestQuarantineIsAfterThreeDeathsAlone(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, 1)
	f.exec(addJobs, 1, "a", 1, 1)
	k, began := f.keeper(f.process(5, "b"), beat), time.Now()
	for death := range 5 {
		require.Zero(t, f.number(`SELECT count(*) FROM river_job WHERE state = 'discarded'`), "death %d", death)
		require.Equal(t, 1, f.dies(k, began, 4*death), "death %d", death)
		require.Equal(t, max(death-1, 0), f.number(`SELECT alone FROM headgate.suspects`), "death %d", death)
	}
	require.Equal(t, 1, f.number(`SELECT count(*) FROM river_job WHERE state = 'discarded' AND attempt = 1`))
	require.Equal(t, 1, f.number(`SELECT count(*) FROM headgate.suspects WHERE quarantined_at IS NOT NULL`))
	require.Equal(t, 1, f.number(`SELECT count(*) FROM headgate.outcomes WHERE class = 'quarantined'`))
}

// Since when an attempt may be open is the time of the first that was lost.
func TestTheFirstOpenAttemptIsRemembered(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, 1)
	f.exec(addJobs, 1, "a", 1, 1)
	k, began := f.keeper(f.process(5, "b"), beat), time.Now()
	f.dies(k, began, 0)
	require.Equal(t, 1, f.number(`SELECT count(*) FROM river_job WHERE metadata ? 'open_since'`))
	f.exec(`UPDATE river_job SET metadata = metadata || '{"open_since": 1234}'`)
	f.dies(k, began, 4)
	require.Equal(t, 1234, f.number(`SELECT (metadata->>'open_since')::int FROM river_job`))
}

// A worker is declared dead by the heartbeat that was seen last; one that has beaten
// since lives, and so does one that somebody else has declared dead or that has ended.
func TestAWorkerThatHasBeatenSinceIsNotBuried(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, 1)
	p := f.process(5, "a")
	f.exec(`UPDATE headgate.workers SET beats = 5`)
	buried := func(beats int) bool {
		tag, err := f.pool.Exec(context.Background(), claim.MarkDeadSQL, p.lease.Incarnation(), beats)
		require.NoError(t, err)
		return tag.RowsAffected() == 1
	}
	require.False(t, buried(4))
	require.False(t, buried(6))
	f.exec(`UPDATE headgate.workers SET ended_at = now()`)
	require.False(t, buried(5))
	f.exec(`UPDATE headgate.workers SET ended_at = NULL`)
	require.True(t, buried(5))
	require.False(t, buried(5), "once")
}

// Rows of an incarnation that is over go back at the second look: one that has just
// woken ends them itself.
func TestOrphansAreGivenBackAtTheSecondLook(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, 1)
	f.exec(addJobs, 3, "a", 1, 1)
	p := f.process(5, "a")
	f.exec(`UPDATE headgate.workers SET reaped_at = now()`)
	require.Len(t, p.claim(context.Background(), 5), 3, "it has woken and does not know yet")
	k, began := f.keeper(f.process(5, "b"), beat), time.Now()
	f.passes(k, began, 0, 1)
	require.Equal(t, 3, f.number(runningJobs))
	f.passes(k, began, 1, 2)
	require.Zero(t, f.number(runningJobs))
}

// Rows that run under this process's former name, and that it does not have, go back:
// others leave them to it.
func TestRowsUnderAFormerNameGoBack(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, 1)
	f.exec(addJobs, 1, "a", 1, 1)
	p := f.process(5, "a")
	former := p.lease.Incarnation()
	k, began := f.keeper(p, beat), time.Now()
	f.exec(`UPDATE headgate.workers SET reaped_at = now()`)
	f.passes(k, began, 0, 1) // it fences itself
	require.NotEqual(t, former, p.lease.Incarnation())
	f.exec(`UPDATE river_job SET state = 'running', attempt = 1, attempted_at = now(), attempted_by = ARRAY[$1::text]`, former+":7")
	f.passes(k, began, 1, 2)
	require.Equal(t, 1, f.number(runningJobs))
	f.passes(k, began, 2, 6)
	require.Zero(t, f.number(runningJobs))
	require.Equal(t, 1, f.number(`SELECT count(*) FROM river_job WHERE state = 'available' AND attempt = 0`))
}

// A breaker hears only what says something about its reason, and its pause is never
// shortened by another process's.
func TestABreakerHearsWhatConcernsIt(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, 1)
	ctx := context.Background()
	silent := claim.Breaker{Scope: "server", Class: jobs.ClassUnreachable, Worker: "w", Pause: time.Hour}
	require.NoError(t, f.pool.QueryRow(ctx, `SELECT id::text FROM headgate.servers`).Scan(&silent.ID))
	open := func(b claim.Breaker, first bool) {
		t.Helper()
		got, err := b.Open(ctx, f.pool, "no answer")
		require.NoError(t, err)
		require.Equal(t, first, got)
	}
	allowed := func() int { return f.number(`SELECT coalesce((SELECT allowed FROM headgate.breakers), 0)`) }
	open(silent, true)
	shorter := silent
	shorter.Pause = time.Second
	open(shorter, false)
	require.Equal(t, 1, f.number(`SELECT count(*) FROM headgate.breakers WHERE until > now() + interval '50 minutes'`))
	pass := func(class jobs.Class) bool {
		b := silent
		b.Class = class
		since, err := b.Pass(ctx, f.pool, 8)
		require.NoError(t, err)
		return since != nil
	}
	pass(jobs.ClassUnreachable)
	require.Equal(t, 1, allowed(), "its time is not up")
	f.exec(`UPDATE headgate.breakers SET until = now()`)
	pass(jobs.ClassReadOnly)
	require.Equal(t, 1, allowed(), "an attempt that went well says nothing of how the server answers")
	for _, want := range []int{2, 4} {
		require.False(t, pass(jobs.ClassUnreachable))
		require.Equal(t, want, allowed())
	}
	require.NoError(t, silent.Fail(ctx, f.pool, "no answer"))
	require.Equal(t, 1, allowed())
	f.exec(`UPDATE headgate.breakers SET until = now(), allowed = 4`)
	require.True(t, pass(jobs.ClassUnreachable), "as many as the budget may try")
	require.Zero(t, allowed())

	refuses := silent
	refuses.Class = jobs.ClassReadOnly
	open(refuses, true)
	f.exec(`UPDATE headgate.breakers SET until = now()`)
	pass(jobs.ClassUnreachable)
	require.Equal(t, 1, allowed(), "that it can be reached says nothing of what it refuses")
	pass(jobs.ClassReadOnly)
	require.Equal(t, 2, allowed())
}

// Nothing is claimed for a database behind a breaker until its time is up, and then by
// as many as may try.
func TestABreakerOfADatabaseIsClosedUntilItsTime(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, 1)
	f.exec(addJobs, 5, "a", 1, 1)
	f.exec(`INSERT INTO headgate.breakers (scope, id, until, allowed) SELECT 'database', id, now() + interval '1 hour', 2 FROM headgate.databases`)
	p := f.process(5, "a")
	require.Empty(t, p.claim(context.Background(), 5))
	f.exec(`UPDATE headgate.breakers SET until = now()`)
	require.Len(t, p.claim(context.Background(), 5), 2)
	require.Empty(t, p.claim(context.Background(), 3), "two are trying")
}

// What a process holds that was declared dead stays as long as a session of its own is
// there, in this database, and lends no less than nothing; who has ended of itself has
// nothing any more.
func TestAProcessIsThereWhileItsSessionsAre(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, 1)
	there := func(hand string) bool {
		return f.number(`SELECT count(*) FROM (SELECT headgate.is_there($1::text::jsonb) AS is) t WHERE t.is`, hand) == 1
	}
	f.session("app/1")
	cfg := f.pool.Config().ConnConfig
	cfg.Database, cfg.RuntimeParams["application_name"] = "postgres", "app/3"
	conn, err := pgx.ConnectConfig(context.Background(), cfg)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	require.True(t, there(`{"session": "app/1", "linger": 1}`))
	require.False(t, there(`{"session": "app/1", "linger": 0}`))
	require.False(t, there(`{"session": "app/1"}`))
	require.False(t, there(`{"session": "app/9", "linger": 1}`))
	require.False(t, there(`{"session": "app/3", "linger": 1}`), "of another database")

	for how, left := range map[string]int{`ended_at = now()`: 0, `ended_at = now(), reaped_at = now()`: 0, `reaped_at = now()`: 1} {
		p := f.process(1, "a")
		f.exec(`INSERT INTO headgate.hands (incarnation, hand, waiting) VALUES ($1, '{"session": "app/1", "linger": 1}', false)`, p.lease.Incarnation())
		f.exec(`UPDATE headgate.workers SET `+how+` WHERE incarnation = $1`, p.lease.Incarnation())
		require.Equal(t, left, f.number(`SELECT count(*) FROM headgate.hands WHERE incarnation = $1 AND dead`, p.lease.Incarnation()), how)
		require.Equal(t, left, f.number(`SELECT count(*) FROM headgate.hands WHERE incarnation = $1`, p.lease.Incarnation()), how)
	}
}

// The token of a row that was given back is void before anybody has claimed the row
// again: an end that comes then finds nothing, and leaves nothing.
func TestAGivenBackRowsTokenIsVoid(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, 1)
	ctx := context.Background()
	f.exec(addJobs, 2, "a", 1, 1)
	dead := f.process(5, "a")
	rows := dead.claim(ctx, 5)
	require.Len(t, rows, 2)
	f.passes(f.keeper(f.process(5, "b"), beat), time.Now(), 0, 4)
	require.Equal(t, 2, f.number(`SELECT count(*) FROM river_job WHERE state = 'available'`))
	for _, row := range rows {
		dead.lease.SetCompletion(row, claim.Completion{Outcome: outcomeOf(row, aUID, jobs.Succeeded)})
	}
	ended, err := dead.endThroughPilot(ctx, rows)
	require.NoError(t, err)
	require.Zero(t, ended)
	require.Zero(t, f.number(`SELECT count(*) FROM headgate.outcomes WHERE state = 'succeeded'`))
	require.Equal(t, 2, f.number(`SELECT count(*) FROM river_job WHERE state = 'available'`))
}
