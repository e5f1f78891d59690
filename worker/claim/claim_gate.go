package claim

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// claimGate is where the claimers of a process claim, one at a time and on one connection.
// The claims' lock would make them take turns anyway.
type claimGate struct {
	waker waker
	lock  int32 // 0, but in a test that wants to see what happens without one
	conns Connections
	slots map[string]int           // by queue
	apart []string                 // kinds that need no connection
	name  string                   // application_name of this process's sessions in the central database
	stay  map[string]time.Duration // by kind, how long a running job's session may outlast this process
	stats stats

	turn           sync.Mutex
	conn           *pgxpool.Conn // guarded by turn, as are the next two
	since          time.Time     // when it was taken
	producers      int
	record         func(ctx context.Context, m Measured) // nil: nobody measures
	published      []byte                                // guarded by turn: this process's row in headgate.hands
	asIf           string                                // guarded by turn: the incarnation that it was published for
	waits          bool                                  // guarded by turn: what was published with it
	at             time.Time                             // guarded by turn: a moment before it was published
	publishedConns map[string]int                        // guarded by turn: of each server
	lapsing        int                                   // guarded by turn: of these, the ones that lapse unless they are published again
	own            *parts                                // guarded by turn: as of the last snapshot
	seen           map[string]observed                   // guarded by turn: others' rows, by incarnation
	wants          map[string][]string                   // guarded by turn: by queue, the servers that keep something from this process

	mu      sync.Mutex
	broken  map[string]bool // guarded by mu: servers and databases with a breaker
	kept    int             // guarded by mu: connections that are published
	waiting map[string]bool // guarded by mu: queues in which a limit keeps something from this process
	others  bool            // guarded by mu: a limit keeps something from another process
	freed   bool            // guarded by mu: an attempt has ended that limits still count
}

// connection is the one that all claims of this process use. Planning a claim's statements
// takes longer than running them, and each connection plans for itself. The connection goes
// back to the pool now and then, because the pool has rules about age.
func (c *claimer) connection(ctx context.Context) (*pgx.Conn, error) {
	g := c.gate
	if g.conn != nil && time.Since(g.since) > keepConn {
		g.releaseConn()
	}
	if g.conn == nil {
		conn, err := c.pool.Acquire(ctx)
		if err != nil {
			return nil, err
		}
		g.conn, g.since = conn, time.Now()
	}
	return g.conn.Conn(), nil
}

const keepConn = 5 * time.Minute

// releaseConn gives the connection back, and forgets what is known of the row in
// headgate.hands. A claim whose commit was not answered, or was lost by a crash of the
// server, may have left another row. turn is held.
func (g *claimGate) releaseConn() {
	if g.conn != nil {
		g.conn.Release()
		g.conn, g.published = nil, nil
	}
}

// enter and leave count the producers; the connection goes with the last.
func (g *claimGate) enter() {
	g.turn.Lock()
	defer g.turn.Unlock()
	g.producers++
}

func (g *claimGate) leave() {
	g.turn.Lock()
	defer g.turn.Unlock()
	if g.producers--; g.producers == 0 {
		g.releaseConn()
	}
}

// wanted are the servers that keep something from this process, in any queue. turn is
// held.
func (g *claimGate) wanted() map[string]bool {
	all := map[string]bool{}
	for _, servers := range g.wants {
		for _, id := range servers {
			all[id] = true
		}
	}
	return all
}

func (g *claimGate) isBroken(id string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.broken[id]
}

// noteFreed notes that an attempt has ended, and wakes the producers that wait for what the
// attempt used.
func (g *claimGate) noteFreed(queue string) {
	g.mu.Lock()
	g.freed = true
	queues := slices.Collect(maps.Keys(g.waiting))
	if len(queues) == 0 && g.others && queue != "" {
		queues = []string{queue}
	}
	g.mu.Unlock()
	for _, q := range queues {
		g.waker.wake(q)
	}
}
