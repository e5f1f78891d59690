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

// common is what the claimers of one process have in common. They take turns: the
// database would make them do so anyway.
type common struct {
	bell  bell
	lock  int32 // 0, but in a test that wants to see what happens without one
	conns Connections
	slots map[string]int // by queue
	stats stats

	turn      sync.Mutex
	conn      *pgxpool.Conn // guarded by turn, as are the next two
	since     time.Time     // when it was taken
	producers int
	published []byte // guarded by turn: this process's row in headgate.hands
	asIf      string // guarded by turn: the incarnation that it was published for

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
	s := c.common
	if s.conn != nil && time.Since(s.since) > keepConn {
		s.letGo()
	}
	if s.conn == nil {
		conn, err := c.pool.Acquire(ctx)
		if err != nil {
			return nil, err
		}
		s.conn, s.since = conn, time.Now()
	}
	return s.conn.Conn(), nil
}

const keepConn = 5 * time.Minute

// letGo gives the connection back. turn is held.
func (s *common) letGo() {
	if s.conn != nil {
		s.conn.Release()
		s.conn = nil
	}
}

// enter and leave count the producers; the connection goes with the last.
func (s *common) enter() {
	s.turn.Lock()
	defer s.turn.Unlock()
	s.producers++
}

func (s *common) leave() {
	s.turn.Lock()
	defer s.turn.Unlock()
	if s.producers--; s.producers == 0 {
		s.letGo()
	}
}

func (s *common) isBroken(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broken[id]
}

// gave notes that an attempt has ended, and rings for those who wait for what it
// held.
func (s *common) gave(queue string) {
	s.mu.Lock()
	s.given = true
	ring := slices.Collect(maps.Keys(s.waiting))
	if len(ring) == 0 && s.others && queue != "" {
		ring = []string{queue}
	}
	s.mu.Unlock()
	for _, q := range ring {
		s.bell.ring(q)
	}
}
