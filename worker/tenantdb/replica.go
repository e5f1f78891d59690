package tenantdb

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/worker/tenantdb/address"
)

const (
	// askPrimaryEvery is how long a primary's last answer, or its failure to answer, stands
	// before the primary is asked again.
	askPrimaryEvery = time.Second

	// askPrimaryFor bounds one question, the wait for a connection of the budget included.
	askPrimaryFor = 2 * time.Second

	// keepPrimaryFor is how long a primary is remembered that nobody asks about.
	keepPrimaryFor = time.Hour

	// catchUp is how long a replica is waited for that has not replayed yet what the primary
	// has just said; catchUpEvery is between two looks.
	catchUp      = time.Second
	catchUpEvery = 20 * time.Millisecond
)

// primaries are what this process knows of the logs of servers, by the server's id. All
// databases of a server share its log.
type primaries struct {
	mu   sync.Mutex
	list map[string]*primary // guarded by mu
}

// primary is the log of one server.
type primary struct {
	asking chan struct{} // not nil while somebody asks; closed then
	asked  time.Time     // when somebody did last
	log    positions
	err    error // of the last question
}

func (p *primaries) sweep(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, one := range p.list {
		if one.asking == nil && now.Sub(one.asked) > keepPrimaryFor {
			delete(p.list, id)
		}
	}
}

// turn returns the primary of a server and what ends the caller's turn to ask, or what to
// wait for, or neither while the last answer stands.
func (p *primaries) turn(id string, now time.Time) (known primary, mine func(logPosition, error), busy chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	one := p.list[id]
	if one == nil {
		one = &primary{}
		if p.list == nil {
			p.list = map[string]*primary{}
		}
		p.list[id] = one
	}
	if one.asking != nil || now.Sub(one.asked) < askPrimaryEvery {
		return one.copy(), nil, one.asking
	}
	one.asking, one.asked = make(chan struct{}), now
	return one.copy(), func(found logPosition, err error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if one.err = err; err == nil {
			one.log = one.log.add(found)
		}
		close(one.asking)
		one.asking = nil
	}, nil
}

// copy is the caller's own, because add changes the positions in their place.
func (p *primary) copy() primary {
	return primary{log: append(positions(nil), p.log...), err: p.err}
}

// primary returns what is known of the log of a place's server, and asks the server if its
// last answer is older than a second. Of several callers one asks, by a connection of the
// server's budget, and the others wait for the answer. fresh says that this caller has asked.
func (p *Pools) primary(ctx context.Context, place address.Place) (known primary, fresh bool) {
	known, mine, busy := p.primaries.turn(place.ServerID, time.Now())
	switch {
	case mine != nil:
		fresh = true
		found, err := logPosition{}, errors.New("the question was given up")
		func() {
			defer func() { mine(found, err) }()
			found, err = p.askPrimary(ctx, place)
		}()
	case busy != nil:
		select {
		case <-busy:
		case <-ctx.Done():
		}
	default:
		return known, false
	}
	return p.primaries.now(place.ServerID), fresh
}

// now is what is known of a server's primary.
func (p *primaries) now(id string) (known primary) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if one := p.list[id]; one != nil {
		known = one.copy()
	}
	return known
}

// primarySQL asks a primary. The name of a file of the log begins with the timeline.
const primarySQL = `
SELECT (l.lsn OPERATOR(pg_catalog.-) '0/0'::pg_catalog.pg_lsn)::pg_catalog.int8, c.system_identifier,
       ('x' OPERATOR(pg_catalog.||) pg_catalog.left(pg_catalog.pg_walfile_name(l.lsn), 8))::pg_catalog.bit(32)::pg_catalog.int8
FROM (SELECT CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_current_wal_flush_lsn() END AS lsn) l, pg_catalog.pg_control_system() c
WHERE l.lsn IS NOT NULL`

func (p *Pools) askPrimary(ctx context.Context, place address.Place) (found logPosition, err error) {
	ctx, cancel := context.WithTimeout(ctx, askPrimaryFor)
	defer cancel()
	err = p.With(ctx, place, func(ctx context.Context, conn *Conn) error {
		found.at = time.Now()
		return conn.QueryRow(ctx, primarySQL).Scan(&found.lsn, &found.system, &found.timeline)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		err = errors.New("the server at the job login's own address takes no writes: it is a replica itself")
	}
	return found, err
}

// replicaSQL asks a replica.
const replicaSQL = `
SELECT pg_catalog.pg_is_in_recovery(), (coalesce(pg_catalog.pg_last_wal_replay_lsn(), '0/0') OPERATOR(pg_catalog.-) '0/0'::pg_catalog.pg_lsn)::pg_catalog.int8,
       s.system_identifier, greatest(c.timeline_id, r.min_recovery_end_timeline)
FROM pg_catalog.pg_control_system() s, pg_catalog.pg_control_checkpoint() c, pg_catalog.pg_control_recovery() r`

func askReplica(ctx context.Context, conn *Conn) (found replayed, err error) {
	err = conn.QueryRow(ctx, replicaSQL).Scan(&found.recovering, &found.lsn, &found.system, &found.timeline)
	if err != nil {
		err = fmt.Errorf("asking the replica how far it is: %w", err)
	}
	return found, err
}

// WithReplica is With on a replica of a place's primary, whose rows are no older than limit.
// lag is how old they are at most. The place must have a read address (see
// [address.Place.Replica]).
//
// The primary is asked at most once a second for each server, before the connection to the
// replica is taken, so that nobody holds two. Errors of connecting are *[ConnectError]. A
// replica that is too far behind is a *[LagError]; a server that was promoted, or is no
// replica of the primary, matches [ErrNoReplica]. In all of these cases fn was not called.
func (p *Pools) WithReplica(ctx context.Context, place address.Place, limit time.Duration, fn func(ctx context.Context, conn *Conn, lag time.Duration) error) error {
	replica, ok := place.Replica()
	if !ok {
		return fmt.Errorf("%w: database %s has no read address", ErrNoReplica, place.Database)
	}
	known, fresh := p.primary(ctx, place)
	var refused error // the connection is as good as before
	err := p.With(ctx, replica, func(ctx context.Context, conn *Conn) error {
		lag, err := judge(ctx, conn, known, limit, fresh)
		if mayCatchUp(err) || errors.Is(err, ErrNoReplica) {
			refused = err
			return nil
		}
		if err != nil {
			return err
		}
		return fn(ctx, conn, lag)
	})
	if err == nil {
		err = refused
	}
	return err
}

// judge says whether a replica may be read from. Who has just asked the primary waits for a
// moment until the replica has replayed what the primary has said, which takes some
// milliseconds. Others go by what was said before.
func judge(ctx context.Context, conn *Conn, known primary, limit time.Duration, fresh bool) (time.Duration, error) {
	until := time.Now().Add(catchUp)
	for {
		found, err := askReplica(ctx, conn)
		if err != nil {
			return 0, err
		}
		now := time.Now()
		lag, err := known.log.within(found, limit, known.err, now)
		if !mayCatchUp(err) || !fresh || known.err != nil || now.After(until) {
			return lag, err
		}
		if err := pause(ctx, catchUpEvery); err != nil {
			return 0, err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
