package tenantdb

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/telemetry"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// Pools holds this process's connections to tenant databases. All its methods
// are safe for concurrent use.
type Pools struct {
	cfg      Config
	tracer   pgx.QueryTracer
	refused  refusals
	verdicts verdicts

	primaries primaries

	mu      sync.Mutex
	servers map[string]*server // guarded by mu, by id; no connection is made or closed while it is held
	shares  map[string]Share   // guarded by mu, what claims allow of each server; nil: nobody has said
	until   time.Time          // guarded by mu, when what is not Busy of them lapses
	users   int                // guarded by mu: calls of With under way
	closed  bool               // guarded by mu
	unused  chan struct{}      // closed when closed and users is 0

	clock clock

	ends sync.WaitGroup // connections being closed
	stop context.CancelFunc
	done chan struct{}
}

// New starts a Pools. Close it to close the connections and end the goroutine
// that closes idle ones.
func New(cfg Config) *Pools {
	ctx, stop := context.WithCancel(context.Background())
	p := &Pools{
		cfg: cfg.withDefaults(), tracer: cfg.tracer(), refused: refusals{list: map[key]refusal{}}, servers: map[string]*server{},
		clock: clock{now: time.Now}, unused: make(chan struct{}), stop: stop, done: make(chan struct{}),
	}
	go p.closeIdleLoop(ctx)
	return p
}

// ErrClosed: the Pools was closed.
var ErrClosed = jobs.Sentinel("connections_closed", "tenant connections are closed")

// With runs fn on a connection to place, waiting for one as long as ctx allows.
// If fn returns nil the connection is reset and kept; after an error or a panic
// it is closed, so that no state of a failed job can meet the next one. Errors
// of connecting are *[ConnectError]; fn's error is returned as it is.
//
// fn's context knows that a connection is held: a With under it that would have
// to wait for the same server's budget fails at once instead.
func (p *Pools) With(ctx context.Context, place address.Place, fn func(ctx context.Context, conn *Conn) error) error {
	s, err := p.enter(place)
	if err != nil {
		return err
	}
	defer p.leave()
	connecting, end := telemetry.Own(ctx, telemetry.SpanConnect)
	c, err := p.connection(connecting, s, place)
	end(err)
	if err != nil {
		return err
	}
	s.use(c, ctx)
	c.wire.lend()
	healthy := false
	defer func() {
		s.use(c, nil)
		if healthy && c.reset() {
			s.release(c)
			return
		}
		p.ends.Go(func() { s.drop(c) }) // its caller need not wait for that
	}()
	err = fn(context.WithValue(ctx, heldKey{}, s), c)
	healthy = err == nil
	return err
}

// enter finds the server of a place and counts its caller.
func (p *Pools) enter(place address.Place) (*server, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ErrClosed
	}
	budget := cmp.Or(p.cfg.MaxConns, place.Budget, 20)
	if place.Budget > 0 {
		budget = min(budget, place.Budget)
	}
	s := p.servers[place.ServerID]
	if s == nil {
		s = &server{id: place.ServerID, name: cmp.Or(place.Server, place.ServerID), budget: budget, limit: budget, affinityWait: p.cfg.AffinityWait,
			using: map[*Conn]context.Context{}, openByKey: map[key]int{}, used: time.Now(),
			answers: answers{failing: map[string]*breaker{}}, reads: answers{failing: map[string]*breaker{}}}
		if p.shares != nil {
			s.raiseAllowance(p.shares[place.ServerID], p.until, p.cfg.SessionTimeout)
		}
		p.servers[place.ServerID] = s
	}
	s.setBudget(budget, place.Pooler == address.SessionPooler)
	p.users++
	return s, nil
}

func (p *Pools) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.users--; p.closed && p.users == 0 {
		close(p.unused)
	}
}

// tell is one line for each time that a server or a database changes, not one
// for each job.
func (p *Pools) tell(ctx context.Context, s *server, place address.Place, what event, err error) {
	log := p.cfg.Logger.With("event", string(what), "server", s.name)
	switch what {
	case serverSilent:
		log.ErrorContext(ctx, "server does not answer: its jobs wait, and it is tried by one at a time", "error", err)
	case databaseSilent:
		log.ErrorContext(ctx, "database does not answer: its jobs wait, and it is tried by one at a time", "database", place.Database, "error", err)
	case serverFull:
		log.WarnContext(ctx, "server has no free connection: this process asks for half as many", "limit", s.stats().Limit)
	case serverAnswers:
		log.InfoContext(ctx, "server answers again")
	case databaseThere:
		log.InfoContext(ctx, "database answers again", "database", place.Database)
	case readsSilent:
		log.ErrorContext(ctx, "read addresses of a server do not answer: its reading jobs do as their kinds say", "error", err)
	case readSilent:
		log.ErrorContext(ctx, "read address of a database does not answer: its reading jobs do as their kinds say", "database", place.Database, "error", err)
	case readsThere, readThere:
		log.InfoContext(ctx, string(what), "database", place.Database)
	}
}

// closeIdleLoop closes idle connections and moves the clock, until ctx ends.
func (p *Pools) closeIdleLoop(ctx context.Context) {
	defer close(p.done)
	sweep := time.NewTicker(max(p.cfg.IdleTimeout/8, 10*time.Millisecond))
	defer sweep.Stop()
	ticks := time.NewTicker(tick)
	defer ticks.Stop()
	p.clock.tick()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
			p.clock.tick()
		case now := <-sweep.C:
			p.closeIdle(now.Add(-p.cfg.IdleTimeout))
			p.refused.sweep(now)
			p.primaries.sweep(now)
		}
	}
}

// closeIdle closes the connections that nobody has used since before, and
// forgets the servers of which nothing is left.
func (p *Pools) closeIdle(before time.Time) {
	p.mu.Lock()
	list := make([]*server, 0, len(p.servers))
	for id, s := range p.servers {
		if list = append(list, s); p.users == 0 && s.forgotten(before) {
			delete(p.servers, id)
		}
	}
	p.mu.Unlock()
	for _, s := range list {
		for _, c := range s.stale(before) {
			p.ends.Go(func() { s.drop(c) }) // a dead server takes its time
		}
	}
}

// Close refuses new work, waits for the connections in use and closes all. It
// may be called twice.
func (p *Pools) Close() {
	p.mu.Lock()
	if !p.closed && p.users == 0 {
		close(p.unused)
	}
	p.closed = true
	p.mu.Unlock()
	<-p.unused
	p.stop()
	<-p.done
	p.closeIdle(time.Now().Add(time.Hour))
	p.ends.Wait()
}
