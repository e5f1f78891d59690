package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/jobstest/testbed"
	"github.com/headgate/headgate/orchestrator/localpg"
)

// The sizes that both sides have.
const (
	centralConns = 16 // of a worker, and again of whoever enqueues; as in serve
	tenantConns  = 2  // to each tenant database of bench tenant
)

// layout says which tenant databases a measurement needs.
type layout struct {
	databases, tenantsEach, conns int
	slots                         int // 0: as the user says
}

// crowd is a thousand tenants in few databases.
func crowd(b options) layout {
	n := min(4, b.databases)
	return layout{databases: n, tenantsEach: 250, conns: max(1, b.slots/n)}
}

// dedicated is one tenant a database.
func dedicated(b options) layout {
	return layout{databases: b.databases, tenantsEach: 1, conns: min(tenantConns, b.slots)}
}

// stage is the server with everything on it that both sides share.
type stage struct {
	app    *cli.App
	opts   options
	layout layout

	own    *localpg.Server // nil: the server is the user's
	server *testbed.Server
	admin  *pgxpool.Pool // the superuser's, on the server
	meter  cpuMeter

	bed     *testbed.Bed // Headgate's central database and the tenant databases of both
	tenants []*testbed.Database
	ours    *side
	theirs  *side

	undo []func(context.Context) error // backwards, when it closes
}

// openStage makes everything, or leaves nothing.
func openStage(ctx context.Context, app *cli.App, b options, l layout) (s *stage, err error) {
	b.slots = cmp.Or(l.slots, b.slots)
	s = &stage{app: app, opts: b, layout: l}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close(context.WithoutCancel(ctx)))
		}
	}()
	if err := s.findServer(ctx); err != nil {
		return s, err
	}
	if err := s.makeBed(ctx); err != nil {
		return s, fmt.Errorf("making the databases: %w", err)
	}
	if s.ours, err = s.headgateSide(ctx); err != nil {
		return s, fmt.Errorf("making Headgate's side: %w", err)
	}
	if s.theirs, err = s.riverSide(ctx); err != nil {
		return s, fmt.Errorf("making River's side: %w", err)
	}
	return s, nil
}

// close undoes everything; a private server is simply stopped.
func (s *stage) close(ctx context.Context) (err error) {
	for i := len(s.undo) - 1; i >= 0; i-- {
		err = errors.Join(err, s.undo[i](ctx))
	}
	return err
}

// later puts off what is to be undone.
func (s *stage) later(undo func(context.Context) error) { s.undo = append(s.undo, undo) }

// pool opens a central database and closes it with the stage.
func (s *stage) pool(ctx context.Context, database string) (*pgxpool.Pool, error) {
	pool, err := s.server.Pool(ctx, database, centralConns)
	if err == nil {
		s.later(func(context.Context) error { pool.Close(); return nil })
	}
	return pool, err
}

// fresh empties a side's queue and history, and the tenants' databases.
func (s *stage) fresh(ctx context.Context, who *side) error {
	if _, err := who.pool.Exec(ctx, `TRUNCATE `+who.tables); err != nil {
		return err
	}
	if _, err := who.pool.Exec(ctx, `VACUUM (ANALYZE)`); err != nil {
		return err
	}
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for _, d := range s.tenants {
		group.Go(func() error { return s.server.Exec(inner, d.DBName, `TRUNCATE headgate.ledger, bench_effects`) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return s.checkpoint(ctx)
}

func (s *stage) checkpoint(ctx context.Context) error {
	_, err := s.admin.Exec(ctx, `CHECKPOINT`)
	return err
}
