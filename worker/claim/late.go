package claim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/jobs"
)

// An end waits for the lock of its row, which anybody may have: a person's SELECT FOR
// UPDATE, an application's cancel that is not committed. The end's group does not wait with
// it. The ends of locked rows stay in memory; later groups try them again, and so does each
// of the keeper's passes, and Stop.
//
// If the process is killed meanwhile, the rows go to others. The ledger answers for their
// attempts, and a job that keeps no ledger is repeated.

// endLockWait is how long a group of ends waits for a row that somebody has locked, before
// the rest of the group goes without the row.
const endLockWait = "300ms"

// maxLate bounds the ends that wait for their rows. Further groups wait as a whole.
const maxLate = 10_000

// lockedRowsSQL locks rows, and returns those that somebody else has locked.
const lockedRowsSQL = `
SELECT id FROM river_job
WHERE id = ANY ($1::bigint[]) AND id <> ALL (ARRAY(SELECT id FROM river_job WHERE id = ANY ($1::bigint[]) FOR UPDATE SKIP LOCKED))`

// lockedOut says that a statement has waited for a lock for too long.
func lockedOut(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == "55P03"
}

// endFree ends those attempts whose rows nobody has locked, and returns the others.
func (l *Lease) endFree(ctx context.Context, pool *pgxpool.Pool, log *slog.Logger, ends []end) (ended map[int64]string, late []end, err error) {
	err = inTx(ctx, pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, lockedRowsSQL, column(ends, func(e end) int64 { return e.id }))
		if err != nil {
			return err
		}
		locked, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		if err != nil {
			return err
		}
		taken := make(map[int64]bool, len(locked))
		for _, id := range locked {
			taken[id] = true
		}
		free := slices.DeleteFunc(slices.Clone(ends), func(e end) bool { return taken[e.id] })
		late = slices.DeleteFunc(slices.Clone(ends), func(e end) bool { return !taken[e.id] })
		if ended, err = endAttempts(ctx, tx, free, ""); err != nil {
			return err
		}
		return l.insertLogs(ctx, tx, log, free, ended)
	})
	if err != nil {
		return nil, nil, fmt.Errorf("ending %s beside rows that are locked: %w", jobs.Count(len(ends), "attempt"), err)
	}
	return ended, late, nil
}

// postpone keeps ends whose rows are locked. It returns false if there are too many.
func (f *inflight) postpone(ends []end) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.late)+len(ends) > maxLate {
		return false
	}
	for _, e := range ends {
		f.late[claimed{e.id, e.token}] = e
	}
	return true
}

// postponed are the ends that wait for their rows.
func (f *inflight) postponed() []end {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Collect(maps.Values(f.late))
}

// endLate tries once more what waits for its rows.
func (l *Lease) endLate(ctx context.Context, pool *pgxpool.Pool, log *slog.Logger) error {
	ends := l.inflight.postponed()
	if len(ends) == 0 {
		return nil
	}
	_, late, err := l.endFree(ctx, pool, log, ends)
	if err == nil {
		l.drop(without(ends, late))
		return nil
	}
	if !unfit(err) {
		return err
	}
	for _, e := range ends {
		_, err := endFit(ctx, pool, log, e, func(e end) (ended map[int64]string, err error) {
			ended, late, err = l.endFree(ctx, pool, log, []end{e})
			return ended, err
		})
		if err != nil {
			return err
		}
		l.drop(without([]end{e}, late))
	}
	return nil
}

// without are the ends that are not among others.
func without(ends, others []end) []end {
	among := make(map[claimed]bool, len(others))
	for _, o := range others {
		among[claimed{o.id, o.token}] = true
	}
	return slices.DeleteFunc(slices.Clone(ends), func(e end) bool { return among[claimed{e.id, e.token}] })
}

// lateEvery is how often at most the groups of a process try once more what waits for its
// rows.
const lateEvery = time.Second

// endLate tries once more the ends that wait for their rows, behind a group of ends.
func (p *pilot) endLate(ctx context.Context) error {
	f := p.lease.inflight
	f.mu.Lock()
	due := len(f.late) > 0 && f.now().Sub(f.lateTried) >= lateEvery
	if due {
		f.lateTried = f.now()
	}
	f.mu.Unlock()
	if !due {
		return nil
	}
	return p.lease.endLate(ctx, p.pool, p.log)
}

// endAllLate waits, as long as ctx allows, until no end waits for its row any more. A
// process that stops before would leave these attempts to be made once more.
func (k *Keeper) endAllLate(ctx context.Context) error {
	again := time.NewTicker(lateEvery / 4)
	defer again.Stop()
	for {
		err := k.endLate(ctx)
		left := len(k.cfg.Lease.inflight.postponed())
		if left == 0 {
			return err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("somebody has locked the rows of %s: what they did is over, and others are given it and may do it once more (%w)", jobs.Count(left, "job"), errors.Join(err, ctx.Err()))
		}
	}
}

// endLate is the keeper's step.
func (k *Keeper) endLate(ctx context.Context) error {
	return k.cfg.Lease.endLate(ctx, k.cfg.Pool, k.cfg.Logger)
}
