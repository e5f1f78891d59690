package claim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/jobs"
)

// Breaker is a server or database that does not answer, or a database that refuses
// all work, as a row of the central database. Claims of all processes leave out what
// lives behind it: waiting jobs stay in the queue, cost nothing and use no attempt.
// When the row's time is up they let one job through, then 2, 4 … as long as that
// goes well; a failure closes the way again. The row goes when as many may try as
// the server's budget.
//
//	no row ──a process has failed three times in a row──▶ until ──its time is up──▶ allowed 1, 2, 4, …
//	  ▲                                                     ▲                          │
//	  │                                                     └────────a failure─────────┤
//	  └────────────────────────as many as the budget───────────────────────────────────┘
type Breaker struct {
	Scope  string // server or database
	ID     string
	Class  jobs.Class    // why: unreachable goes well when a connection succeeds, the rest when an attempt does
	Worker string        // who speaks
	Pause  time.Duration // how long nothing is tried
	Tried  Tried         // what has failed
}

// Tried is the address of a database's login by which it was tried. The zero value is the
// address that the catalog has now.
type Tried struct {
	Database string // UUID
	Login    string // job or owner
	Direct   bool   // past the pooler
	Version  int
}

// openBreakerSQL answers true if the row is new. An address that the catalog has no more
// ($7 to $10) says nothing of the one that took its place, so there is no row then.
const openBreakerSQL = `
INSERT INTO headgate.breakers AS b (scope, id, until, allowed, cause, worker, class)
SELECT $1, $2, now() + $3::interval, 1, $4, $5, $6
WHERE NOT EXISTS (
    SELECT FROM headgate.databases d
    WHERE d.id = headgate.uuid_or_null($7) AND $10::int <> CASE
        WHEN $8 = 'owner' AND $9::bool THEN d.owner_direct_version WHEN $8 = 'owner' THEN d.owner_version
        WHEN $9::bool THEN d.job_direct_version ELSE d.job_version END)
ON CONFLICT (scope, id) DO UPDATE SET until = greatest(b.until, excluded.until), allowed = 1, cause = excluded.cause, class = excluded.class
RETURNING xmax = 0`

// failBreakerSQL closes the way again.
const failBreakerSQL = `
UPDATE headgate.breakers SET until = now() + $3::interval, allowed = 1, cause = $4 WHERE scope = $1 AND id = $2`

// letThroughSQL lets twice as many through, if what went well ($4: a connection)
// says something about the row, and takes it away when that is the server's
// budget. It answers whether it did either, and, if the row is gone, with the time
// since when nothing came through.
const letThroughSQL = `
WITH passed AS (
    UPDATE headgate.breakers SET allowed = least(allowed * 2, 100000)
    WHERE scope = $1 AND id = $2 AND until <= now() AND allowed * 2 < $3 AND (class = 'unreachable') = $4
    RETURNING 1
), gone AS (
    DELETE FROM headgate.breakers WHERE scope = $1 AND id = $2 AND until <= now() AND allowed * 2 >= $3 AND (class = 'unreachable') = $4
    RETURNING since
)
SELECT EXISTS (SELECT FROM passed) OR EXISTS (SELECT FROM gone), (SELECT since FROM gone)`

const wakeQueuesSQL = `SELECT headgate.wake_queues()`

// Open notes that it fails, and returns whether nobody had before. It notes nothing if
// another address than the one that was tried is in the catalog.
func (b Breaker) Open(ctx context.Context, pool *pgxpool.Pool, cause string) (first bool, err error) {
	err = pool.QueryRow(ctx, openBreakerSQL, b.Scope, b.ID, b.Pause, cause, b.Worker, b.Class, b.Tried.Database, b.Tried.Login, b.Tried.Direct, b.Tried.Version).Scan(&first)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("noting that %s %s fails (%s): %w", b.Scope, b.ID, b.Class, err)
	}
	return first, nil
}

// Fail notes that a trial failed.
func (b Breaker) Fail(ctx context.Context, pool *pgxpool.Pool, cause string) error {
	if _, err := pool.Exec(ctx, failBreakerSQL, b.Scope, b.ID, b.Pause, cause); err != nil {
		return fmt.Errorf("noting that %s %s still does not answer: %w", b.Scope, b.ID, err)
	}
	return nil
}

// Pass notes that a trial succeeded, and wakes who waits for more. If that ends
// the breaker it returns since when there was one.
func (b Breaker) Pass(ctx context.Context, pool *pgxpool.Pool, budget int) (since *time.Time, err error) {
	var more bool
	err = pool.QueryRow(ctx, letThroughSQL, b.Scope, b.ID, budget, b.Class == jobs.ClassUnreachable).Scan(&more, &since)
	if err != nil {
		return nil, fmt.Errorf("noting that %s %s answers: %w", b.Scope, b.ID, err)
	}
	if !more {
		return nil, nil //nolint:nilnil // there still is one, or none
	}
	if _, err = pool.Exec(ctx, wakeQueuesSQL); err != nil {
		return since, fmt.Errorf("waking the queues: %w", err)
	}
	return since, nil
}
