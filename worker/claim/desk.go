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

// desk is where the claimers of a process claim, one at a time and on one
// connection: the database would make them take turns anyway.
type desk struct {
	bell  bell
	lock  int32 // 0, but in a test that wants to see what happens without one
	conns Connections
	slots map[string]int           // by queue
	apart []string                 // kinds that need no connection
	name  string                   // application_name of this process's sessions in the central database
	stay  map[string]time.Duration // by kind, how long a running job's session may outlast this process
	stats stats

	turn      sync.Mutex
	conn      *pgxpool.Conn // guarded by turn, as are the next two
	since     time.Time     // when it was taken
	producers int
	published []byte              // guarded by turn: this process's row in headgate.hands
	asIf      string              // guarded by turn: the incarnation that it was published for
	waits     bool                // guarded by turn: what was published with it
	at        time.Time           // guarded by turn: before it was published
	places    map[string]int      // guarded by turn: of each server, as published
	lapsing   int                 // guarded by turn: of these, the ones that lapse unless they are published again
	own       *parts              // guarded by turn: as of the last look
	seen      map[string]observed // guarded by turn: others' rows, by incarnation
	wants     map[string][]string // guarded by turn: by queue, the servers that keep something from this process

	mu      sync.Mutex
	broken  map[string]bool // guarded by mu: servers and databases with a breaker
	kept    int             // guarded by mu: connections that are published
	waiting map[string]bool // guarded by mu: queues in which a limit keeps something from this process
	others  bool            // guarded by mu: a limit keeps something from another process
	given   bool            // guarded by mu: an attempt has ended that limits still count
}

// connection is the one that this process's claims use: planning a claim's
// statements takes longer than running them, and each connection plans for itself.
// It goes back to the pool now and then, for the pool's rules about age.
func (c *claimer) connection(ctx context.Context) (*pgx.Conn, error) {
	d := c.desk
	if d.conn != nil && time.Since(d.since) > keepConn {
		d.letGo()
	}
	if d.conn == nil {
		conn, err := c.pool.Acquire(ctx)
		if err != nil {
			return nil, err
		}
		d.conn, d.since = conn, time.Now()
	}
	return d.conn.Conn(), nil
}

const keepConn = 5 * time.Minute

// letGo gives the connection back, and what is known of the row in headgate.hands with
// it: a claim whose commit was not answered, or was lost by a crash of the server, may
// have left another. turn is held.
func (d *desk) letGo() {
	if d.conn != nil {
		d.conn.Release()
		d.conn, d.published = nil, nil
	}
}

// enter and leave count the producers; the connection goes with the last.
func (d *desk) enter() {
	d.turn.Lock()
	defer d.turn.Unlock()
	d.producers++
}

func (d *desk) leave() {
	d.turn.Lock()
	defer d.turn.Unlock()
	if d.producers--; d.producers == 0 {
		d.letGo()
	}
}

// wanted are the servers that keep something from this process, in any queue. turn is
// held.
func (d *desk) wanted() map[string]bool {
	all := map[string]bool{}
	for _, servers := range d.wants {
		for _, id := range servers {
			all[id] = true
		}
	}
	return all
}

func (d *desk) isBroken(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.broken[id]
}

// gave notes that an attempt has ended, and rings for those who wait for what it
// held.
func (d *desk) gave(queue string) {
	d.mu.Lock()
	d.given = true
	ring := slices.Collect(maps.Keys(d.waiting))
	if len(ring) == 0 && d.others && queue != "" {
		ring = []string{queue}
	}
	d.mu.Unlock()
	for _, q := range ring {
		d.bell.ring(q)
	}
}
