package queue

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/orchestrator/internal/central"
)

// bell wakes the workers of queues after a commit of our own. A notification
// inside the transaction would make the commits of all enqueuers take turns, each
// with a disk flush; one that has nothing else in its transaction is not flushed.
//
// Who is alone sends the notification right behind COMMIT, in one round trip.
// Who comes while it is being rung is rung for together, by one of those who
// wait. So whoever returns knows that workers were notified after its commit.
// If this process dies in between, or the notification fails, the workers find
// the job at their next poll.
type bell struct {
	pool *pgxpool.Pool
	log  *slog.Logger
	turn chan struct{} // held by the one who rings
	now  atomic.Int64  // transactions under way

	mu   sync.Mutex
	next *round // guarded by mu: those who wait for the next ring
}

// round is one ring and whom it is for.
type round struct {
	queues Set           // guarded by bell.mu until it is rung
	rung   chan struct{} // closed afterwards
}

// Set holds queues that have new work. nil is of no use.
type Set map[string]bool

func (q Set) list() []string {
	names := make([]string, 0, len(q))
	for name := range q {
		names = append(names, name)
	}
	return names
}

func newRound() *round { return &round{queues: Set{}, rung: make(chan struct{})} }

func newBell(pool *pgxpool.Pool, log *slog.Logger) *bell {
	return &bell{pool: pool, log: log, turn: make(chan struct{}, 1), next: newRound()}
}

// transact commits what do inserts and wakes the workers of the queues that do
// notes.
func (b *bell) transact(ctx context.Context, do func(tx pgx.Tx, queues Set) error) error {
	return b.transactWithin(ctx, central.Patience, do)
}

// transactWithin is transact with limits of its own.
func (b *bell) transactWithin(ctx context.Context, limits central.Limits, do func(tx pgx.Tx, queues Set) error) error {
	b.now.Add(1)
	defer b.now.Add(-1)
	conn, err := b.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	tx, err := central.Begin(ctx, conn, limits)
	if err != nil {
		return err
	}
	queues := Set{}
	if err := do(tx, queues); err != nil {
		_ = tx.Rollback(ctx) // it may be over; a broken connection is not kept
		return limits.Explain(err)
	}
	if len(queues) == 0 || b.now.Load() > 1 {
		if err := tx.Commit(ctx); err != nil {
			return err
		}
		conn.Release() // may be called again
		b.ring(ctx, queues)
		return nil
	}
	return limits.Explain(b.commitAndNotify(ctx, conn.Conn(), queues.list()))
}

// commitAndNotify ends the transaction on conn. Only the commit can fail.
func (b *bell) commitAndNotify(ctx context.Context, conn *pgx.Conn, queues []string) error {
	batch := &pgx.Batch{}
	batch.Queue("COMMIT")
	batch.Queue(notifyQueues, queues)
	results := conn.SendBatch(ctx, batch)
	tag, err := results.Exec()
	if err == nil && tag.String() != "COMMIT" {
		err = pgx.ErrTxCommitRollback
	}
	notified := results.Close()
	if err == nil && notified != nil {
		b.notify(ctx, queues) // the caller may have given up in between
	}
	return err
}

// ring returns when the workers of the queues have been notified, or could not
// be. It goes on when ctx ends: the jobs are committed, others wait with it, and
// it is bounded.
func (b *bell) ring(ctx context.Context, queues Set) {
	if len(queues) == 0 {
		return
	}
	b.mu.Lock()
	r := b.next
	for name := range queues {
		r.queues[name] = true
	}
	b.mu.Unlock()
	select {
	case <-r.rung:
		return
	case b.turn <- struct{}{}:
	}
	defer func() { <-b.turn }()
	b.mu.Lock()
	if r == b.next { // nobody has rung for us meanwhile
		b.next = newRound()
		b.mu.Unlock()
		b.notify(ctx, r.queues.list())
		close(r.rung)
		return
	}
	b.mu.Unlock()
}

// notifyAfter bounds one ring.
const notifyAfter = 5 * time.Second

func (b *bell) notify(ctx context.Context, queues []string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), notifyAfter)
	defer cancel()
	if _, err := b.pool.Exec(ctx, notifyQueues, queues); err != nil {
		b.log.WarnContext(ctx, "could not wake the workers; they find the new jobs at their next poll", "queues", queues, "error", err)
	}
}
