package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker"
	"github.com/headgate/headgate/worker/tenantdb"
)

// How many visits one side makes before it is the other's turn: a tenth of a
// second's worth, so that both meet the same machine.
const (
	coldBlock = 25
	warmBlock = 500
)

// coldTenants is how many tenants bench cold has in each database.
const coldTenants = 10

// cold is a thousand tenants in a hundred databases.
func cold(b options) layout {
	return layout{databases: b.databases, tenantsEach: coldTenants, conns: 1}
}

// coldQuery is the first thing that a tenant's job asks. It writes nothing: a
// commit's flush would hide what is compared.
const coldQuery = `SELECT count(*) FROM bench_effects WHERE org_id = $1`

// visits makes the visits of one side to its tenants by number, each up to the
// answer to coldQuery; close ends what they have left open.
type visits struct {
	visit func(ctx context.Context, tenant int) (time.Duration, error)
	close func()
}

// measureCold times what a tenant's job waits for until its first query is
// answered. Cold, nothing is known of the tenant and no connection is open: ours
// finds it in the catalog, connects, sees that it is the right database, and asks;
// theirs connects to an address that it knows, and asks. Warm, ours has the tenant
// in memory, and both have a connection. What comes after the answer (reset,
// close) is in the CPU only.
func measureCold(ctx context.Context, s *stage) (all []comparison, err error) {
	for _, m := range []struct {
		says, unit string
		of         func(*side) func(context.Context) (visits, error)
		in         float64 // units of a millisecond
		block      int
		tenants    int
	}{
		{"cold: resolve, connect, identity, query; theirs connect, query", inMillis, func(who *side) func(context.Context) (visits, error) { return who.cold }, 1, coldBlock, s.layout.databases * coldTenants},
		{"warm: resolve, acquire, query; theirs query", inMicros, func(who *side) func(context.Context) (visits, error) { return who.warm }, 1000, warmBlock, min(s.layout.databases, 20)},
	} {
		s.tell("cold, " + m.says[:4])
		pairs := make([]pair, s.opts.pairs)
		for i := range pairs {
			if pairs[i], err = s.visitInTurn(ctx, m.of, m.block, m.tenants, i%2); err != nil {
				return nil, err
			}
		}
		for _, q := range []struct {
			says string
			q    float64
		}{{"p50", 0.5}, {"p99", 0.99}} {
			c := compare(measure{m.says + ", " + q.says, m.unit, func(h half) float64 { return m.in * h.quantile(q.q) }}, pairs)
			ours, theirs := pooled(pairs)
			c.Ours, c.Theirs = rounded(m.in*ours.quantile(q.q)), rounded(m.in*theirs.quantile(q.q))
			all = append(all, c)
		}
	}
	return all, nil
}

// visitInTurn makes one pair, block by block: both visit the same tenants, and
// who goes first alternates.
func (s *stage) visitInTurn(ctx context.Context, of func(*side) func(context.Context) (visits, error), block, tenants, turn int) (p pair, err error) {
	sides := []*side{s.ours, s.theirs}
	halves := []*half{&p.ours, &p.theirs}
	made := make([]visits, len(sides))
	for i, who := range sides {
		if made[i], err = of(who)(ctx); err != nil {
			return p, fmt.Errorf("%s: %w", who.name, err)
		}
		defer made[i].close()
	}
	if err := s.checkpoint(ctx); err != nil {
		return p, err
	}
	for began, first := time.Now(), 0; first == 0 || time.Since(began) < 2*s.opts.half(); first += block {
		for i := range sides {
			i = (i + turn) % len(sides)
			if err := s.block(ctx, halves[i], made[i], first, block, tenants); err != nil {
				return p, fmt.Errorf("%s: %w", sides[i].name, err)
			}
		}
		turn++
	}
	for _, h := range halves {
		slices.Sort(h.latencies)
	}
	return p, nil
}

// block makes some visits and adds them to a half.
func (s *stage) block(ctx context.Context, h *half, v visits, first, visits, tenants int) error {
	began, cpu := time.Now(), s.meter.read()
	cpu.process = processTime() // without the reading
	for n := first; n < first+visits; n++ {
		took, err := v.visit(ctx, n%tenants)
		if err != nil {
			return err
		}
		h.latencies = append(h.latencies, took)
	}
	used := s.meter.read().minus(cpu)
	h.cpu.postgres += used.postgres
	h.cpu.process += used.process
	h.took += time.Since(began)
	h.jobs += visits
	return nil
}

// coldVisits has for each visit connections of its own, as a process that has
// none, and a catalog that remembers nothing of whom it visits.
func (h *headgateSide) coldVisits(context.Context) (visits, error) {
	visit := func(ctx context.Context, tenant int) (time.Duration, error) {
		cat := h.forgetful()
		pools := tenantdb.New(h.config.Tenants)
		defer pools.Close()
		return h.ask(ctx, cat, pools, tenant, time.Now())
	}
	return visits{visit, func() {}}, nil
}

// warmVisits keeps connections and what it knows of tenants.
func (h *headgateSide) warmVisits(context.Context) (visits, error) {
	pools := tenantdb.New(h.config.Tenants)
	visit := func(ctx context.Context, tenant int) (time.Duration, error) {
		return h.ask(ctx, h.config.Resolver, pools, tenant, time.Now())
	}
	return visits{visit, pools.Close}, nil
}

// ask does what a worker does before a handler's first answer.
func (h *headgateSide) ask(ctx context.Context, resolver worker.Resolver, pools *tenantdb.Pools, tenant int, began time.Time) (took time.Duration, err error) {
	found, place, err := resolver.ResolveTenant(ctx, h.uuids[tenant], jobs.LoginJob)
	if err != nil {
		return 0, err
	}
	err = pools.With(ctx, place, func(ctx context.Context, conn *tenantdb.Conn) error {
		var n int64
		if err := conn.QueryRow(ctx, coldQuery, found.OrgID).Scan(&n); err != nil {
			return err
		}
		took = time.Since(began)
		return nil
	})
	return took, err
}

// coldVisits makes a connection for each, by pgx alone.
func (s *stage) coldVisits(context.Context) (visits, error) {
	return visits{func(ctx context.Context, tenant int) (took time.Duration, err error) {
		began := time.Now()
		conn, err := s.dialTenant(ctx, tenant)
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, hangUp(conn)) }()
		return askBare(ctx, conn, tenant, began)
	}, func() {}}, nil
}

// warmVisits keeps a connection for each database.
func (s *stage) warmVisits(ctx context.Context) (v visits, err error) {
	conns := make([]*pgx.Conn, 0, len(s.tenants))
	v.close = func() {
		for _, conn := range conns {
			cli.CloseConn(ctx, conn)
		}
	}
	for i := range s.tenants {
		conn, err := s.dialTenant(ctx, i)
		if err != nil {
			v.close()
			return v, err
		}
		conns = append(conns, conn)
	}
	v.visit = func(ctx context.Context, tenant int) (time.Duration, error) {
		return askBare(ctx, conns[tenant%len(conns)], tenant, time.Now())
	}
	return v, nil
}

// dialTenant connects as the tenants' login, from a config that is parsed already.
func (s *stage) dialTenant(ctx context.Context, tenant int) (*pgx.Conn, error) {
	return pgx.ConnectConfig(ctx, s.server.ConnConfig(s.tenants[tenant%len(s.tenants)].Job))
}

func askBare(ctx context.Context, conn *pgx.Conn, tenant int, began time.Time) (time.Duration, error) {
	var n int64
	err := conn.QueryRow(ctx, coldQuery, int64(tenant+1)).Scan(&n)
	return time.Since(began), err
}

// hangUp closes a connection and waits until its session is gone, as Pools.Close
// does: else it would go at the cost of the next visit.
func hangUp(conn *pgx.Conn) error {
	raw, err := conn.PgConn().Hijack()
	if err != nil {
		return err
	}
	defer func() { _ = raw.Conn.Close() }() // it has been read to its end
	raw.Frontend.Send(&pgproto3.Terminate{})
	if err := raw.Frontend.Flush(); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, raw.Conn)
	return err
}
