package claim_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/worker/claim"
)

// Whoever stops in the middle of something, or has locked a row, delays others for
// seconds at most, and nobody whose row it is not.

func (f *fleet) keeper(p *process, every time.Duration) *claim.Keeper {
	return claim.NewKeeper(claim.KeeperConfig{
		Pool: f.pool, Lease: p.lease, Worker: "keeper", Kinds: p.kinds, Queues: []string{"default"},
		Every: every, DeadAfter: 3 * every, Fenced: func() {}, Logger: slog.New(slog.DiscardHandler),
	})
}

// beat is between two passes of a keeper, and how long one may take on a slow machine.
const beat = 20 * time.Second

// passes makes passes from and up to these of a keeper that began at a time, by its
// clock a beat apart, and returns which incarnations they reaped.
func (f *fleet) passes(k *claim.Keeper, began time.Time, from, to int) (reaped []string) {
	f.t.Helper()
	for n := from; n < to; n++ {
		dead, err := claim.Pass(k, context.Background(), began.Add(time.Duration(n)*beat))
		require.NoError(f.t, err)
		reaped = append(reaped, dead...)
	}
	return reaped
}

func (f *fleet) number(sql string, args ...any) (n int) {
	f.t.Helper()
	require.NoError(f.t, f.pool.QueryRow(context.Background(), sql, args...).Scan(&n))
	return n
}

// session is one of its own, of that name.
func (f *fleet) session(name string) *pgx.Conn {
	f.t.Helper()
	cfg := f.pool.Config().ConnConfig
	cfg.RuntimeParams["application_name"] = name
	conn, err := pgx.ConnectConfig(context.Background(), cfg)
	require.NoError(f.t, err)
	f.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// hold runs a statement in a transaction that stays open until the test ends it.
func (f *fleet) hold(sql string, args ...any) (tx pgx.Tx) {
	f.t.Helper()
	tx, err := f.session("").Begin(context.Background())
	require.NoError(f.t, err)
	_, err = tx.Exec(context.Background(), sql, args...)
	require.NoError(f.t, err)
	return tx
}

const runningJobs = `SELECT count(*) FROM river_job WHERE state = 'running'`

// A process that stops between two statements of its claim has the turn of all others.
func TestAClaimThatStopsLosesItsTurn(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, 1)
	p := f.process(10, "a")
	f.exec(addJobs, 20, "a", 1, 2)
	ctx := context.Background()
	conn := f.session("")
	_, err := conn.Exec(ctx, `BEGIN`)
	require.NoError(t, err)
	_, err = conn.Exec(ctx, claim.LockSQL, "5s", 0, "3s") // and then nothing any more
	require.NoError(t, err)

	began := time.Now()
	require.Len(t, p.claim(ctx, 10), 10)
	t.Logf("the next claim had the turn after %s", time.Since(began).Round(time.Millisecond))
	require.Error(t, conn.Ping(ctx), "the server has ended the session")
}

// One row that somebody has locked keeps neither its neighbours nor other workers' jobs.
func TestALockedRowOfTheDeadDelaysItselfOnly(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, 1)
	ctx := context.Background()
	f.exec(addJobs, 20, "a", 1, 3)
	rows := f.process(20, "a").claim(ctx, 20)
	require.Len(t, rows, 20)
	f.exec(addJobs, 1, "a", 1, 1)
	require.Len(t, f.process(20, "a").claim(ctx, 1), 1)
	k := f.keeper(f.process(20, "a"), beat)
	locked := f.hold(`SELECT FROM river_job WHERE id = $1 FOR UPDATE`, rows[0].ID)

	now := time.Now()
	require.Len(t, f.passes(k, now, 0, 4), 2)
	require.Equal(t, 1, f.number(runningJobs), "the locked one alone")
	require.NoError(t, locked.Rollback(ctx))
	f.passes(k, now, 4, 7)
	require.Zero(t, f.number(runningJobs))
	require.Equal(t, 21, f.number(`SELECT count(*) FROM river_job WHERE state = 'available' AND attempt = 0`))
}

// A keeper that stops in the middle of reaping one worker keeps no other from reaping
// the rest, and the one when the server has ended its session.
func TestAReaperThatStopsDelaysOneDeadOnly(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, 1)
	ctx := context.Background()
	var dead []*process
	for range 2 {
		p := f.process(5, "a")
		f.exec(addJobs, 5, "a", 1, 3)
		require.Len(t, p.claim(ctx, 5), 5)
		dead = append(dead, p)
	}
	k := f.keeper(f.process(5, "a"), beat)
	held := f.hold(`UPDATE headgate.workers SET reaped_at = now() WHERE incarnation = $1`, dead[0].lease.Incarnation())
	now := time.Now()
	f.passes(k, now, 0, 4)
	require.Equal(t, 5, f.number(runningJobs), "those of the worker whose row is locked")
	require.NoError(t, held.Rollback(ctx))
	f.passes(k, now, 4, 5)
	require.Zero(t, f.number(runningJobs))
}

// A step of the pass that fails is told, and the others do their work.
func TestAStepThatFailsKeepsNoOtherFromItsWork(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, 1)
	ctx := context.Background()
	f.exec(addJobs, 5, "a", 1, 1)
	require.Len(t, f.process(5, "a").claim(ctx, 5), 5)
	k := f.keeper(f.process(5, "a"), beat)
	f.exec(`ALTER TABLE headgate.rewrites RENAME TO elsewhere`)
	f.exec(`ALTER TABLE river_leader RENAME TO elsewhere`) // which the look at clocks reads
	now := time.Now()
	var reaped []string
	for pass := range 4 {
		dead, err := claim.Pass(k, ctx, now.Add(time.Duration(pass)*beat))
		reaped = append(reaped, dead...)
		require.ErrorContains(t, err, "looking for dead rows of lanes")
		require.ErrorContains(t, err, "misplaced")
	}
	require.Len(t, reaped, 1)
	require.Zero(t, f.number(runningJobs))
}

// The jobs of a dead worker go back in transactions that a machine can do which is ten
// times as slow as another.
func TestASlowMachineGivesBackInSmallerParts(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, 1)
	ctx := context.Background()
	f.exec(addJobs, 300, "a", 1, 1)
	require.Len(t, f.process(300, "a").claim(ctx, 300), 300)
	k := f.keeper(f.process(5, "a"), time.Second)
	f.exec(`CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.005); RETURN NEW; END $$`)
	f.exec(`CREATE TRIGGER slow BEFORE UPDATE ON river_job FOR EACH ROW EXECUTE FUNCTION slow()`) // 1.5 s for all
	now := time.Now()
	for pass := 0; f.number(runningJobs) > 0; pass++ {
		require.Less(t, pass, 40)
		_, _ = claim.Pass(k, ctx, now.Add(time.Duration(pass)*time.Second)) // some are not done in time
	}
	require.Equal(t, 300, f.number(`SELECT count(*) FROM river_job WHERE state = 'available' AND attempt = 0`))
}

// finishThroughPilot ends attempts as River's completer does.
func (p *process) endThroughPilot(ctx context.Context, rows []*rivertype.JobRow) (int, error) {
	params := &riverdriver.JobSetStateIfRunningManyParams{}
	for _, row := range rows {
		p.state.JobFinish(row)
		now := time.Now()
		params.ID = append(params.ID, row.ID)
		params.Attempt = append(params.Attempt, nil)
		params.ErrData = append(params.ErrData, nil)
		params.FinalizedAt = append(params.FinalizedAt, &now)
		params.ScheduledAt = append(params.ScheduledAt, nil)
		params.State = append(params.State, rivertype.JobStateCompleted)
		params.MetadataDoMerge = append(params.MetadataDoMerge, true)
		params.MetadataUpdates = append(params.MetadataUpdates, fmt.Appendf(nil, `{"headgate:lease":%q}`, claim.Token(row.AttemptedBy)))
	}
	ended, err := p.pilot.JobSetStateIfRunningMany(ctx, p.exec, params)
	return len(ended), err
}

const completedJobs = `SELECT count(*) FROM river_job WHERE state = 'completed'`

// A running row that somebody has locked ends when it is free; its neighbours at once.
func TestALockedRowDelaysItsOwnEndOnly(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, 1)
	ctx := context.Background()
	p := f.process(20, "a")
	f.exec(addJobs, 20, "a", 1, 1)
	rows := p.claim(ctx, 15)
	require.Len(t, rows, 15)
	locked := f.hold(`SELECT FROM river_job WHERE id = $1 FOR UPDATE`, rows[7].ID)
	ended, err := p.endThroughPilot(ctx, rows)
	require.NoError(t, err)
	require.Equal(t, 14, ended)
	require.Equal(t, 14, f.number(completedJobs))

	more := p.claim(ctx, 5) // later ones do not wait either
	require.Len(t, more, 5)
	ended, err = p.endThroughPilot(ctx, more)
	require.NoError(t, err)
	require.Equal(t, 5, ended)
	k, now := f.keeper(p, beat), time.Now()
	f.passes(k, now, 0, 6) // nor is it taken for unclaimed
	require.Equal(t, 19, f.number(completedJobs))
	require.Equal(t, 1, f.number(runningJobs))

	require.NoError(t, locked.Rollback(ctx))
	f.passes(k, now, 6, 7)
	require.Equal(t, 20, f.number(completedJobs))
}

// A worker that stops waits for the end of an attempt whose row somebody has locked: the
// attempt would else be made once more.
func TestStopWaitsForEndsOfLockedRows(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, 1)
	ctx := context.Background()
	p := f.process(5, "a")
	k := f.keeper(p, time.Hour)
	require.NoError(t, k.Start(ctx))
	f.exec(addJobs, 1, "a", 1, 1)
	rows := p.claim(ctx, 1)
	locked := f.hold(`SELECT FROM river_job WHERE id = $1 FOR UPDATE`, rows[0].ID)
	_, err := p.endThroughPilot(ctx, rows)
	require.NoError(t, err)
	stopped := make(chan error, 1)
	go func() { stopped <- k.Stop(ctx) }()
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	select {
	case err := <-stopped:
		t.Fatalf("it has stopped before the end was written: %v", err)
	case <-short.Done():
	}
	require.NoError(t, locked.Rollback(ctx))
	require.NoError(t, <-stopped)
	require.Equal(t, 1, f.number(completedJobs))
}

// What another River client left running goes back when nobody can be at it any more.
func TestRowsOfAnotherClientAreRescued(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, 1)
	ctx := context.Background()
	f.exec(`
INSERT INTO river_job (kind, args, max_attempts, queue, state, attempt, attempted_at, attempted_by, metadata)
SELECT 'a', '{}', 3, 'default', 'running', 1, now() - age, by, jsonb_build_object('tenant', (SELECT id FROM headgate.tenants))
FROM (VALUES (interval '2 days', ARRAY['web-7_2026']), ('2 days', NULL), ('2 days', '{}'), (NULL, ARRAY['web-7_2026']), ('10 minutes', ARRAY['web-8_2026'])) v (age, by)`)
	k := f.keeper(f.process(5, "a"), time.Second)
	require.NoError(t, claim.RescueForeign(k, ctx))
	require.Equal(t, 1, f.number(runningJobs), "an attempt of ten minutes may be at work")
	require.Equal(t, 4, f.number(`SELECT count(*) FROM river_job WHERE state = 'available' AND attempt = 0`))
}

// What a process holds is written again by its next pass if a crash has lost it, though
// its slots are full and it claims nothing.
func TestAWorkerWhoseSlotsAreFullIsCounted(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, 1)
	ctx := context.Background()
	f.exec(`INSERT INTO headgate.tenant_limits (tenant_id, max_running) SELECT id, 3 FROM headgate.tenants`)
	a, b := f.process(3, "a"), f.process(10, "a")
	f.exec(addJobs, 20, "a", 1, 1)
	require.Len(t, a.claim(ctx, 3), 3)
	f.exec(`DELETE FROM headgate.hands`)
	f.passes(f.keeper(a, beat), time.Now(), 0, 1)
	require.Empty(t, b.claim(ctx, 10), "three run")
}

// What a process holds is written again after a claim whose commit a crash has lost.
func TestLimitsHoldAfterALostCommit(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, 1)
	ctx := context.Background()
	f.exec(`INSERT INTO headgate.tenant_limits (tenant_id, max_running) SELECT id, 3 FROM headgate.tenants`)
	a, b := f.process(10, "a"), f.process(10, "a")
	f.exec(addJobs, 20, "a", 1, 1)
	require.Len(t, a.claim(ctx, 10), 3)
	// A crash that has lost the claim, and with it all sessions.
	f.exec(`UPDATE river_job SET state = 'available', attempt = 0, attempted_by = NULL WHERE state = 'running'`)
	f.exec(`DELETE FROM headgate.hands`)
	f.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	_, err := a.pilot.JobGetAvailable(ctx, a.exec, a.state, &riverdriver.JobGetAvailableParams{
		ClientID: "test", Kind: a.kinds, MaxAttemptedBy: 100, MaxToLock: 7, Queue: a.queue,
	})
	require.Error(t, err, "the session was lost")
	a.claim(ctx, 7)
	require.Empty(t, b.claim(ctx, 10), "three run")
}

// River's fetch loop may call again after it was told to stop.
func TestAClosedLeaseClaimsNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, 1)
	ctx := context.Background()
	a, b := f.process(10, "a"), f.process(10, "a")
	f.exec(addJobs, 5, "a", 1, 1)
	require.Len(t, a.claim(ctx, 2), 2)
	a.lease.Close()
	require.Empty(t, a.claim(ctx, 2))
	require.Len(t, b.claim(ctx, 10), 3, "for the others they are there")
}

// A dead worker's job may be done: another row with its unique key keeps it neither from
// going back nor from its ledger's answer.
func TestALostRowWhoseKeyIsTakenGoesBack(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, 1)
	ctx := context.Background()
	f.exec(addJobs, 3, "a", 1, 1)
	rows := f.process(3, "a").claim(ctx, 3)
	require.Len(t, rows, 3)
	f.exec(`UPDATE river_job SET unique_key = 'k', unique_states = B'00000001' WHERE id = $1`, rows[1].ID) // not while it runs
	f.exec(addJobs, 1, "b", 1, 1)
	f.exec(`UPDATE river_job SET unique_key = 'k', unique_states = B'00000001' WHERE kind = 'b'`)
	f.passes(f.keeper(f.process(3, "a"), beat), time.Now(), 0, 4)
	require.Equal(t, 4, f.number(`SELECT count(*) FROM river_job WHERE state = 'available'`))
	require.Zero(t, f.number(`SELECT count(*) FROM headgate.outcomes WHERE class = 'bad_args'`))
}

// A job of which an attempt may be open is not discarded because of another's key.
func TestAnOpenRowWhoseKeyIsTakenIsAsked(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, 1)
	f.exec(addJobs, 4, "a", 1, 1)
	f.exec(`UPDATE river_job SET unique_key = 'k', unique_states = B'00000001' WHERE id = 1`)
	f.exec(`UPDATE river_job SET unique_key = 'k', unique_states = B'00000001', state = 'scheduled', scheduled_at = now() - interval '1 s' WHERE id > 1`)
	f.exec(`UPDATE river_job SET metadata = metadata || '{"open_since": 1}' WHERE id = 2`)
	f.exec(`UPDATE river_job SET state = 'retryable', attempt = 1, attempted_at = now(), attempted_by = ARRAY[$1] WHERE id = 4`, incarnation(1)+":1")
	p := f.process(1, "a")
	tx, err := p.exec.Begin(context.Background())
	require.NoError(t, err)
	_, err = tx.JobSchedule(context.Background(), &riverdriver.JobScheduleParams{Max: 10})
	require.NoError(t, err)
	require.NoError(t, tx.Commit(context.Background()))
	require.Equal(t, 1, f.number(`SELECT count(*) FROM river_job WHERE id = 2 AND state = 'available' AND unique_states IS NULL`))
	require.Equal(t, 1, f.number(`SELECT count(*) FROM river_job WHERE id = 3 AND state = 'discarded'`), "as River does")
	require.Equal(t, 1, f.number(`SELECT count(*) FROM river_job WHERE id = 4 AND state = 'discarded'`), "its attempt has failed, and the end is Headgate's own")
}
