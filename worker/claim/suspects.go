package claim

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river/rivertype"
)

// suspects keeps a process to one suspect at a time, so that a death says something. A job
// is noted at the first death at which it was running, and is a suspect from the second on.
// A machine that is lost takes many jobs with it, and as suspects they would wait for each
// other, one a worker, for as long as they run.
//
// While there is no suspect this costs nothing: the keeper looks once a heartbeat, and a
// claim that does not know yet only delays the blame.
type suspects struct {
	any atomic.Bool // there are some, as of the last heartbeat

	mu      sync.Mutex
	running claimed // guarded by mu: the one that runs here, or zero
}

const anySuspectsSQL = `SELECT EXISTS (SELECT FROM headgate.suspects WHERE deaths >= 2 AND quarantined_at IS NULL)`

func (s *suspects) refresh(ctx context.Context, db interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}) error {
	var some bool
	if err := db.QueryRow(ctx, anySuspectsSQL).Scan(&some); err != nil {
		return fmt.Errorf("looking for suspects: %w", err)
	}
	s.any.Store(some)
	return nil
}

const whichSuspectsSQL = `
SELECT job_id FROM headgate.suspects WHERE job_id = ANY ($1) AND deaths >= 2 AND quarantined_at IS NULL ORDER BY deaths, job_id`

// putBackSQL undoes a claim. The wait keeps this process, which may not run the jobs now,
// from claiming them again at once.
const putBackSQL = `
UPDATE river_job SET state = 'available', attempt = attempt - 1, scheduled_at = now() + interval '250 milliseconds'
WHERE id = ANY ($1)`

// sift takes out of a fresh claim, in its transaction, the suspects that this process may
// not run now, and puts them back. If the claim comes to nothing after all, the caller
// forgets the suspect that was reserved.
func (s *suspects) sift(ctx context.Context, db querier, token string, b *claimBatch) error {
	if !s.any.Load() || len(b.result.Jobs) == 0 {
		return nil
	}
	ids := column(b.result.Jobs, func(row *rivertype.JobRow) int64 { return row.ID })
	rows, err := db.Query(ctx, whichSuspectsSQL, ids)
	if err != nil {
		return fmt.Errorf("looking for suspects: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil || len(found) == 0 {
		return err
	}
	if s.reserve(claimed{found[0], token}) {
		found = found[1:]
	}
	if len(found) == 0 {
		return nil
	}
	if _, err := db.Exec(ctx, putBackSQL, found); err != nil {
		return fmt.Errorf("putting suspects back: %w", err)
	}
	b.remove(found)
	return nil
}

// callNextSQL makes due, and wakes the queue of, one of the suspects that were put back and
// that nobody is claiming just now.
//
// The suspect that has met the fewest deaths comes first. An innocent job that was unlucky
// three times would else be the next death's sole suspect as well, while others may still
// be to blame. Then the order is by age. It is not by scheduled_at, because putting back
// moves that, and an unlucky job would be passed over for ever.
const callNextSQL = `
WITH next AS (
    SELECT j.id FROM headgate.suspects s JOIN river_job j ON j.id = s.job_id
    WHERE s.deaths >= 2 AND s.quarantined_at IS NULL AND j.state = 'available' AND j.scheduled_at < now() + interval '1 second'
    ORDER BY s.deaths, s.job_id LIMIT 1
    FOR UPDATE OF j SKIP LOCKED
), due AS (
    UPDATE river_job j SET scheduled_at = least(j.scheduled_at, now()) FROM next WHERE j.id = next.id RETURNING j.queue
)
SELECT headgate.notify_queues(array_agg(queue)) FROM due`

// reserve takes the one place for a suspect, if it is free.
func (s *suspects) reserve(c claimed) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != (claimed{}) {
		return false
	}
	s.running = c
	return true
}

// forget makes way for the next suspect if fits says so of the one that runs here, and
// returns whether it did.
func (s *suspects) forget(fits func(claimed) bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == (claimed{}) || !fits(s.running) {
		return false
	}
	s.running = claimed{}
	return true
}
