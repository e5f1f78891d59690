package claim

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A process may stop between two statements of a transaction, and wake much later or
// never. Until the server ends its session, the session keeps every lock that it has.
// So each transaction on the central database has a bound on how long it may idle, set
// by its first statements, whatever the session's own defaults are.

// idleBound is how long the client of a transaction on the central database may say
// nothing before the server ends its session. lockWait is how long a claim waits for
// its turn before it leaves that to the next poll: longer than idleBound, so that one
// wait outlasts a process that stopped while it had the turn.
const (
	idleBound = 3 * time.Second
	lockWait  = 5 * time.Second
)

// beginSQL begins every transaction of this package but a claim, which has more to set
// (lockSQL). Without arguments it goes to the server as one message. A statement waits
// for a lock for less than a transaction may idle: who holds it may have stopped.
const beginSQL = `BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
SET LOCAL idle_in_transaction_session_timeout = '3s'; SET LOCAL lock_timeout = '2s'`

// endStalledSQL ends the sessions of processes that stopped while an answer was on its
// way to them: no bound above counts that wait.
const endStalledSQL = `SELECT headgate.end_stalled_sessions()`

// endStalled does so and says what it did.
func endStalled(ctx context.Context, pool *pgxpool.Pool, log *slog.Logger) error {
	var ended int
	if err := pool.QueryRow(ctx, endStalledSQL).Scan(&ended); err != nil {
		return fmt.Errorf("ending sessions whose clients have stopped: %w", err)
	}
	if ended > 0 {
		log.WarnContext(ctx, "ended sessions that held what others need and did not read their answers", "sessions", ended)
	}
	return nil
}

// inTx runs do in such a transaction.
func inTx(ctx context.Context, pool *pgxpool.Pool, do func(tx pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{BeginQuery: beginSQL}, do)
}

// sweepLockWait is how long what is not a claim waits for the claims' lock.
const sweepLockWait = 2 * time.Second

// queueLock adds the claims' lock to a batch; key is 0, but in a test that wants to see
// what happens without one.
func queueLock(batch *pgx.Batch, wait time.Duration, key int32) *pgx.QueuedQuery {
	return batch.Queue(lockSQL, milliseconds(wait), key, milliseconds(idleBound))
}

// lockClaims takes the claims' lock in a transaction.
func lockClaims(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, lockSQL, milliseconds(sweepLockWait), 0, milliseconds(idleBound)); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, rowWaitSQL)
	return err
}

// rowWaitSQL bounds how long who has the turn waits for a row that somebody else has
// locked, because all claims wait with it.
const rowWaitSQL = `SET LOCAL lock_timeout = '500ms'`

// milliseconds is a duration as Postgres reads a setting.
func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) + "ms" }
