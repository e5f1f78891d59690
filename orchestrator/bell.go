package orchestrator

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// bell wakes the workers of queues after a commit of our own. A notification
// inside the transaction would make the commits of all enqueuers take turns, each
// with a disk flush; one that has nothing else in its transaction is not flushed.
//
// Who comes while it is being rung is rung for together, by one of those who
// wait. So whoever returns knows that workers were notified after its commit.
// If this process dies in between, or the notification fails, the workers find
// the job at their next poll.
type bell struct {
	pool *pgxpool.Pool
	log  *slog.Logger
	turn chan struct{} // held by the one who rings

	mu   sync.Mutex
	next *round // guarded by mu: those who wait for the next ring
}

// round is one ring and whom it is for.
type round struct {
	queues queueSet      // guarded by bell.mu until it is rung
	rung   chan struct{} // closed afterwards
}

// queueSet holds queues that have new work. nil is of no use.
type queueSet map[string]bool

func (q queueSet) list() []string {
	names := make([]string, 0, len(q))
	for name := range q {
		names = append(names, name)
	}
	return names
}

func newRound() *round { return &round{queues: queueSet{}, rung: make(chan struct{})} }

func newBell(pool *pgxpool.Pool, log *slog.Logger) *bell {
	return &bell{pool: pool, log: log, turn: make(chan struct{}, 1), next: newRound()}
}

// ring returns when the workers of the queues have been notified, or could not
// be. It goes on when ctx ends: the jobs are committed, others wait with it, and
// it is bounded.
func (b *bell) ring(ctx context.Context, queues queueSet) {
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
