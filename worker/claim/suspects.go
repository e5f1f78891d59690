package claim

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/rivertype"
)

// suspects keeps a process to one suspect at a time, so that a death says
// something. While the table is empty it costs nothing: the keeper looks once a
// heartbeat, and a claim that does not know yet only delays the blame.
type suspects struct {
	any atomic.Bool // there are some, as of the last heartbeat

	mu      sync.Mutex
	running map[int64]bool // guarded by mu: those in hand here, at most one
}

const anySuspectsSQL = `SELECT EXISTS (SELECT FROM headgate.suspects WHERE quarantined_at IS NULL)`

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

const whichSuspectsSQL = `SELECT job_id FROM headgate.suspects WHERE job_id = ANY ($1) AND quarantined_at IS NULL ORDER BY job_id`

// putBackSQL undoes a claim. The wait keeps this process, which is not free to
// run them, from claiming them again at once.
const putBackSQL = `
UPDATE river_job SET state = 'available', attempt = attempt - 1, scheduled_at = now() + interval '250 milliseconds'
WHERE id = ANY ($1)`

// sift takes out of a fresh claim, in its transaction, the suspects that this
// process may not run now, and puts them back.
func (s *suspects) sift(ctx context.Context, tx pgx.Tx, claimed *riverdriver.JobGetAvailableResult) error {
	ids := column(claimed.Jobs, func(row *rivertype.JobRow) int64 { return row.ID })
	rows, err := tx.Query(ctx, whichSuspectsSQL, ids)
	if err != nil {
		return fmt.Errorf("looking for suspects: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil || len(found) == 0 {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.running) == 0 {
		s.running[found[0]] = true
		found = found[1:]
	}
	if len(found) == 0 {
		return nil
	}
	if _, err := tx.Exec(ctx, putBackSQL, found); err != nil {
		return fmt.Errorf("putting suspects back: %w", err)
	}
	claimed.Jobs = slices.DeleteFunc(claimed.Jobs, func(row *rivertype.JobRow) bool { return slices.Contains(found, row.ID) })
	return nil
}

const clearSuspectsSQL = `DELETE FROM headgate.suspects WHERE job_id = ANY ($1) AND quarantined_at IS NULL`

// survived clears, in the completion's transaction, the suspects whose attempt
// has ended without a death, under a lease that was still theirs.
func (s *suspects) survived(ctx context.Context, tx pgx.Tx, ended map[int64]string) error {
	s.mu.Lock()
	var cleared []int64
	for id := range ended {
		if s.running[id] {
			cleared = append(cleared, id)
		}
	}
	s.mu.Unlock()
	if len(cleared) == 0 {
		return nil
	}
	if _, err := tx.Exec(ctx, clearSuspectsSQL, cleared); err != nil {
		return fmt.Errorf("clearing suspects: %w", err)
	}
	return nil
}

// forget makes room for the next suspect, when a completion is committed.
func (s *suspects) forget(ends []end) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range ends {
		delete(s.running, e.id)
	}
}

func (s *suspects) forgetAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.running)
}
