package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/orchestrator/localpg"
)

// The sizes that both sides have.
const (
	benchCentralConns = 16 // of a worker, and again of whoever enqueues; as in serve
	benchTenantConns  = 2  // to each tenant database of bench tenant
)

// layout says which tenant databases a measurement needs.
type layout struct {
	databases, tenantsEach, conns int
	slots                         int // 0: as the user says
}

// crowd is a thousand tenants in few databases.
func crowd(b benching) layout {
	n := min(4, b.databases)
	return layout{databases: n, tenantsEach: 250, conns: max(1, b.slots/n)}
}

// dedicated is one tenant a database.
func dedicated(b benching) layout {
	return layout{databases: b.databases, tenantsEach: 1, conns: min(benchTenantConns, b.slots)}
}

// benchStage is the server with everything on it that both sides share.
type benchStage struct {
	p      *program
	opts   benching
	layout layout

	own    *localpg.Server // nil: the server is the user's
	config *pgxpool.Config // of the server, as superuser
	admin  *pgxpool.Pool
	meter  cpuMeter
	name   string // of all that it makes begins so

	owner, job benchLogin
	tenants    []*benchDatabase
	ours       *side
	theirs     *side

	undo []func(context.Context) error // backwards, when it closes
}

// openBenchStage makes everything, or leaves nothing.
func (p *program) openBenchStage(ctx context.Context, b benching, l layout) (s *benchStage, err error) {
	b.slots = cmp.Or(l.slots, b.slots)
	s = &benchStage{p: p, opts: b, layout: l, name: "headgate_bench_" + strings.ToLower(rand.Text()[:6])}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close(context.WithoutCancel(ctx)))
		}
	}()
	if err := s.findServer(ctx); err != nil {
		return s, err
	}
	if err := s.makeTenantDatabases(ctx); err != nil {
		return s, fmt.Errorf("making the tenant databases: %w", err)
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
func (s *benchStage) close(ctx context.Context) (err error) {
	for i := len(s.undo) - 1; i >= 0; i-- {
		err = errors.Join(err, s.undo[i](ctx))
	}
	return err
}

// later puts off what is to be undone.
func (s *benchStage) later(undo func(context.Context) error) { s.undo = append(s.undo, undo) }

// pool opens a central database and closes it with the stage.
func (s *benchStage) pool(ctx context.Context, database string) (*pgxpool.Pool, error) {
	cfg := s.config.Copy()
	cfg.ConnConfig.Database, cfg.MaxConns = database, benchCentralConns
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err == nil {
		s.later(func(context.Context) error { pool.Close(); return nil })
	}
	return pool, err
}

// create makes a database, and drops it when the stage closes.
func (s *benchStage) create(ctx context.Context, name, template string) error {
	if _, err := s.admin.Exec(ctx, `CREATE DATABASE `+name+` TEMPLATE `+template); err != nil {
		return fmt.Errorf("creating database %s: %w", name, err)
	}
	s.later(func(ctx context.Context) error { return s.drop(ctx, `DROP DATABASE IF EXISTS `+name+` WITH (FORCE)`) })
	return nil
}

// drop does nothing on a private server, which goes as a whole.
func (s *benchStage) drop(ctx context.Context, sql string) error {
	if s.own != nil {
		return nil
	}
	_, err := s.admin.Exec(ctx, sql)
	return err
}

// on runs work on a superuser's connection to one database.
func (s *benchStage) on(ctx context.Context, database string, work func(*pgx.Conn) error) error {
	cfg := s.config.ConnConfig.Copy()
	cfg.Database = database
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	return work(conn)
}

// fresh empties a side's queue and history, and the tenants' databases.
func (s *benchStage) fresh(ctx context.Context, who *side) error {
	if _, err := who.pool.Exec(ctx, `TRUNCATE `+who.tables); err != nil {
		return err
	}
	if _, err := who.pool.Exec(ctx, `VACUUM (ANALYZE)`); err != nil {
		return err
	}
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for _, d := range s.tenants {
		group.Go(func() error { return d.empty(inner, s) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return s.checkpoint(ctx)
}

func (s *benchStage) checkpoint(ctx context.Context) error {
	_, err := s.admin.Exec(ctx, `CHECKPOINT`)
	return err
}
