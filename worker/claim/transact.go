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

// A process may be frozen between two statements of a transaction. Its session keeps all
// locks until the server ends that session. So the first statements of each transaction
// on the central database bound its idle time, whatever the session's defaults are.

// idleBound is how long a transaction on the central database may idle before the server
// ends its session. lockWait is how long a claim waits for the claims' lock before it
// leaves the work to the next poll. lockWait is longer, so that one wait outlasts a
// process that froze while it held the lock.
const (
	idleBound = 3 * time.Second
	lockWait  = 5 * time.Second
)

// beginSQL begins every transaction of this package except a claim's, which sets more
// (lockSQL). beginSQL has no arguments, so that it goes to the server as one message. A
// statement waits shorter for a lock than a transaction may idle, because the holder of
// that lock may be frozen.
const beginSQL = `BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
SET LOCAL idle_in_transaction_session_timeout = '3s'; SET LOCAL lock_timeout = '2s'`

// endStalledSQL ends sessions whose process froze while an answer was on its way to it.
// No timeout of Postgres counts that wait.
const endStalledSQL = `SELECT headgate.end_stalled_sessions()`

// endStalled runs endStalledSQL and logs how many sessions ended.
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

// inTx runs do in a transaction that beginSQL has begun.
func inTx(ctx context.Context, pool *pgxpool.Pool, do func(tx pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{BeginQuery: beginSQL}, do)
}

// sweepLockWait is how long a statement that is not a claim waits for the claims' lock.
const sweepLockWait = 2 * time.Second

// queueLock adds the claims' lock to a batch. key is 0; a test gives another key to show
// what happens without a common lock.
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

// rowWaitSQL bounds the wait of the holder of the claims' lock for a locked row, because
// all claims wait with it.
const rowWaitSQL = `SET LOCAL lock_timeout = '500ms'`

// milliseconds is a duration as Postgres reads a setting.
func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) + "ms" }
