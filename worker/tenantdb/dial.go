package tenantdb

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

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
