package tenantdb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/trace"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/telemetry"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// Config is what a Pools needs. The zero value works.
type Config struct {
	// MaxConns bounds the connections of this process to one server, over all
	// its databases and logins, idle ones included. The server's own budget in
	// the catalog bounds it further. 0 means that only the budget does, or 20 where
	// there is none.
	MaxConns int

	// IdleTimeout is how long a connection is kept without work. 0 means 4
	// seconds.
	IdleTimeout time.Duration

	// SessionTimeout is after how long the server itself ends a session without work:
	// a process that is frozen cannot close its connections, and the others may need
	// their places. It is the server's idle_session_timeout while a connection is idle,
	// and does not concern jobs. Behind a pooler in session mode it is not set. 0 means
	// half as long again as IdleTimeout; less than that is taken for 0, because a
	// connection is to be closed by its process first.
	SessionTimeout time.Duration

	// ShareFor is how long after a claim this process keeps connections above those of
	// its running jobs. Each claim, and each poll, renews it. 0 means 2 seconds. Other
	// processes count such connections of a frozen process for SessionTimeout and
	// ShareFor together.
	ShareFor time.Duration

	// ConnectTimeout bounds one connection attempt, name look-up, TLS and login
	// included, where the address does not say. 0 means 5 seconds.
	ConnectTimeout time.Duration

	// CancelWait is how long a statement whose context has ended may take to obey
	// the request to cancel it, before the connection is given up. A server that
	// does not answer even that is out of reach, which is no fault of the job's. 0
	// means 3 seconds.
	CancelWait time.Duration

	// AuthPause is how long a login that was refused is not tried again unless
	// the catalog has a new address. 0 means 5 minutes.
	AuthPause time.Duration

	// AffinityWait is how long a job waits for one of its own database's connections,
	// all in use, before it closes another database's idle one for a new one of
	// its own; where connecting takes long, twice as long as that, 20 times this at
	// most. 0 means 50 milliseconds.
	AffinityWait time.Duration

	// Heard is told how each connection attempt ended, by the goroutine that made it:
	// nil, if it succeeded or the server at least answered, else why the server, or
	// the database, is taken not to answer. opened says that a breaker has opened by
	// it. nil means that nobody is told but the Logger.
	Heard func(ctx context.Context, place address.Place, silence error, opened Opened)

	// Centre is the central database that the connections work for; tenant databases
	// that belong to another one are refused. nil means that nobody looks.
	Centre Centre

	// CentreFor is how long a kept connection's database is believed to be Centre's
	// without another look, if Centre's token stays the same. 0 means 1 minute.
	CentreFor time.Duration

	// ProtectedFor is how long a shared database is believed to keep its tenants apart, or
	// not to, without another look. 0 means 10 seconds.
	ProtectedFor time.Duration

	// Tracer records a span of each statement, where the attempt is traced. nil means
	// OpenTelemetry's global provider. The span has the statement's first word; TraceSQL
	// adds the statement, without its parameters. A statement may itself have values.
	Tracer   trace.TracerProvider
	TraceSQL bool

	// Logger is told of servers that stop and begin to answer. nil means
	// slog.Default().
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	c.IdleTimeout = cmp.Or(c.IdleTimeout, 4*time.Second)
	c.SessionTimeout = max(c.SessionTimeout, c.IdleTimeout*3/2)
	c.ShareFor = cmp.Or(c.ShareFor, 2*time.Second)
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, 5*time.Second)
	c.CancelWait = cmp.Or(c.CancelWait, 3*time.Second)
	c.AffinityWait = cmp.Or(c.AffinityWait, 50*time.Millisecond)
	c.CentreFor = cmp.Or(c.CentreFor, time.Minute)
	c.ProtectedFor = cmp.Or(c.ProtectedFor, 10*time.Second)
	c.AuthPause = cmp.Or(c.AuthPause, 5*time.Minute)
	c.Logger = cmp.Or(c.Logger, slog.Default())
	return c
}

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

// connection returns one to place, idle or new.
func (p *Pools) connection(ctx context.Context, s *server, place address.Place) (*Conn, error) {
	if err := p.refused.check(place, time.Now()); err != nil {
		return nil, err
	}
	for {
		c, err := s.acquire(ctx, place)
		if err != nil {
			return nil, err
		}
		if c != nil && c.alive(ctx, min(time.Second, p.cfg.SessionTimeout/4)) {
			if err = p.recheck(ctx, place, c); err == nil {
				return c, nil
			}
			if !c.IsClosed() {
				p.ends.Go(func() { s.drop(c) })
				return nil, connectError(ctx, place, err)
			}
		}
		if c != nil { // the server has closed it meanwhile
			p.ends.Go(func() { s.drop(c) })
			if ctx.Err() != nil {
				return nil, connectError(ctx, place, context.Cause(ctx))
			}
			continue
		}
		c, err = p.connect(ctx, s, place)
		if err != nil {
			s.give(keyOf(place))
			return nil, err
		}
		return c, nil
	}
}

// connect makes a connection, for which there is room. A refused login is
// compared with the catalog once: the address may have been old.
func (p *Pools) connect(ctx context.Context, s *server, place address.Place) (*Conn, error) {
	c, err := p.try(ctx, s, place)
	var refused *ConnectError
	if errors.As(err, &refused) && refused.Class == jobs.ClassAuthFailed && place.Reload != nil {
		newer, reloadErr := place.Reload(ctx)
		if reloadErr == nil && place.Direct {
			newer, _ = newer.Session()
		}
		there := true
		if reloadErr == nil && place.Reading {
			newer, there = newer.Replica()
		}
		if reloadErr == nil && there && newer.Version != place.Version {
			newer.Upgrading = place.Upgrading
			place = newer
			c, err = p.try(ctx, s, place)
		}
	}
	p.refused.note(place, time.Now(), p.cfg.pausedFor, err)
	return c, err
}

func (p *Pools) try(ctx context.Context, s *server, place address.Place) (*Conn, error) {
	if err := s.admit(place, time.Now()); err != nil {
		return nil, err
	}
	began := time.Now()
	w := &wire{clock: &p.clock}
	c, err := p.dial(ctx, place, w)
	if err != nil && ctx.Err() != nil && time.Since(began) < enough {
		err = fmt.Errorf("%w: %w", errTooShort, err)
	}
	if err != nil {
		err = connectError(ctx, place, err)
	}
	p.report(ctx, s, place, s.heard(place, time.Now(), err), err)
	if err != nil {
		return nil, err
	}
	w.made.Store(true)
	s.dial(time.Since(began))
	c.wire, c.key, c.version, c.place, c.ends = w, keyOf(place), place.Version, place, "0"
	c.pins, c.pooled = pins(place.Pooler, c.Conn), place.Pooler == address.TransactionPooler
	c.used, c.looked = time.Now(), began
	if place.Pooler != address.SessionPooler {
		c.ends = strconv.FormatInt(p.cfg.SessionTimeout.Milliseconds(), 10)
	}
	return c, nil
}

// dial connects, and asks whose database it is and which centre's.
func (p *Pools) dial(ctx context.Context, place address.Place, w *wire) (*Conn, error) {
	cfg, err := neutralConfig()
	if err != nil {
		return nil, fmt.Errorf("preparing connections to database %s: %w", place.Database, err)
	}
	if err := p.address(ctx, place, cfg); err != nil {
		return nil, err
	}
	behind(place.Pooler, cfg)
	cfg.OnPgError, cfg.DialFunc, cfg.Tracer = w.hear, w.dial(cfg.DialFunc), p.tracer
	made, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, mayNotConnect(cfg, untold(place, err))
	}
	c := &Conn{Conn: made}
	found, err := identity(ctx, place, made)
	if err == nil {
		c.signer, err = newSigner(ctx, place, found.clock)
	}
	if err == nil {
		c.centre, err = p.centred(ctx, place, c, found)
	}
	if err != nil {
		c.end()
		return nil, err
	}
	return c, nil
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
