package schedule

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/orchestrator/internal/central"
	"github.com/headgate/headgate/orchestrator/internal/fit"
	"github.com/headgate/headgate/orchestrator/internal/queue"
)

// One schedule that cannot be fired delays itself only. What is wrong with its row,
// its times or its arguments stops it (decide); what Postgres refuses of it stops it too;
// everything else sets it aside for a while. Its error says which.

const setStatementTimeout = `SELECT set_config('statement_timeout', $1, true)`

// carryOutApart is carryOut for a batch, in parts if it does not go as a whole. slow
// reports that a statement took too long.
func (s *Scheduler) carryOutApart(ctx context.Context, tx pgx.Tx, now time.Time, batch []dueSchedule, decisions []decision, queues queue.Set) (slow bool, err error) {
	err = central.Apart(ctx, tx, 0, len(batch), func(tx pgx.Tx, from, to int) error {
		if slow {
			if _, err := tx.Exec(ctx, setStatementTimeout, fmt.Sprint(s.patience(to-from, len(batch)).Milliseconds())); err != nil {
				return err
			}
		}
		err := s.store.carryOut(ctx, tx, now, batch[from:to], decisions[from:to], queues)
		slow = slow || isSlow(err)
		return err
	}, func(tx pgx.Tx, i int, cause error) error { return s.setAside(ctx, tx, &batch[i], cause) })
	return slow, err
}

// patience is for a statement of a part. With the whole timeout for each part, one
// schedule that hangs would cost ten of them in a batch of 1000. In proportion to the
// part, a database that is slow with all of them would get no part done. The root of the
// proportion costs 3.3 timeouts, and lets parts through that are small enough.
func (s *Scheduler) patience(part, whole int) time.Duration {
	share := math.Sqrt(float64(part) / float64(whole))
	return max(time.Duration(share*float64(s.cfg.StatementTimeout)), s.cfg.StatementTimeout/20, time.Millisecond)
}

const asideSQL = `UPDATE headgate.schedules SET error = $2, next_run_at = clock_timestamp() + $3::interval WHERE id = $1`

const breakSchedule = `UPDATE headgate.schedules SET error = $2, next_run_at = NULL WHERE id = $1`

// How long a schedule is set aside: where another transaction has something locked,
// and else.
const (
	asideLocked = 5 * time.Second
	asideFor    = time.Minute
)

// setAside stops a schedule whose job Postgres refuses, and leaves any other for
// later, with the reason in its row.
func (s *Scheduler) setAside(ctx context.Context, tx pgx.Tx, d *dueSchedule, cause error) (err error) {
	d.aside = true
	d.endTraces(cause)
	text := cause.Error()
	if pgErr := (*pgconn.PgError)(nil); errors.As(cause, &pgErr) {
		text = pgErr.Message
		if refusesData(pgErr) {
			s.store.log.ErrorContext(ctx, "schedule stopped", "schedule", d.name, "tenant", d.tenant, "error", cause)
			_, err = tx.Exec(ctx, breakSchedule, d.id, fit.Clip("its job was refused: "+text, 500))
			return err
		}
	}
	wait := asideFor
	if central.IsLockTimeout(cause) {
		wait = asideLocked
	}
	s.store.log.ErrorContext(ctx, "schedule set aside", "schedule", d.name, "tenant", d.tenant, "for", wait, "error", cause)
	if _, err = tx.Exec(ctx, asideSQL, d.id, fit.Clip(fmt.Sprintf("it could not be fired, and is tried again after %s: %s", wait, text), 500), wait); err != nil {
		return fmt.Errorf("setting schedule %s aside: %w", d.name, err)
	}
	return nil
}

// refusesData reports that Postgres does not take a value: it would not take it
// again.
func refusesData(err *pgconn.PgError) bool {
	class := err.Code[:min(2, len(err.Code))]
	return class == "22" || class == "23" || err.Code == "54000" || err.Code == "42846"
}

// lockToCancel locks the jobs that are to be cancelled, as far as nobody else has
// them locked.
const lockToCancel = `
SELECT u.uid
FROM unnest($1::text[]) AS u (uid)
CROSS JOIN LATERAL (
    SELECT FROM river_job j WHERE j.state <> 'completed' AND headgate.has_uid(j.metadata, u.uid) LIMIT 1 FOR UPDATE SKIP LOCKED) free`

// askAgain puts off by a second what would cancel a job that another transaction has
// locked. The others of the batch do not wait for it.
func (l *snapshot) askAgain(ctx context.Context, tx pgx.Tx, batch []dueSchedule, decisions []decision) error {
	var uids []string
	for i := range decisions {
		if uid := decisions[i].cancel; uid != "" {
			uids = append(uids, uid)
		}
	}
	if len(uids) == 0 {
		return nil
	}
	rows, err := tx.Query(ctx, lockToCancel, uids)
	if err != nil {
		return fmt.Errorf("locking the runs that are to be cancelled: %w", err)
	}
	free, err := asSet(rows)
	if err != nil {
		return fmt.Errorf("locking the runs that are to be cancelled: %w", err)
	}
	for i := range decisions {
		if uid := decisions[i].cancel; uid != "" && !free[uid] {
			soon := l.now.Add(pollWaiting)
			out := batch[i].stopped("the run before it cannot be cancelled yet: another transaction has job " + uid + " locked; it is asked again each second")
			out.next = &soon
			decisions[i] = out
		}
	}
	return nil
}
