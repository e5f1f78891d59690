package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/cmd/internal/cli"
)

// measureTenant works off jobs that each commit one row in its tenant's
// database, one tenant a database: ours with ledger and outcome, theirs a
// hand-written loop, River with a pool for each database. Beside it stands what
// as many connections commit that do nothing else.
func measureTenant(ctx context.Context, s *stage) ([]comparison, error) {
	pairs, err := s.drainPairs(ctx, "tenant", workload{cooldown: tuned, effect: true})
	if err != nil {
		return nil, err
	}
	s.tell("commits")
	ceilings := make([]pair, len(pairs))
	for i := range pairs {
		ceilings[i].ours = pairs[i].ours
		if ceilings[i].theirs, err = s.half(ctx, s.theirs, s.commits); err != nil {
			return nil, err
		}
	}
	what := fmt.Sprintf("one row in each job's database, %d databases, %d slots, cooldown 1 ms", len(s.tenants), s.opts.slots)
	return []comparison{
		compare(measure{what, perSecond, half.rate}, pairs),
		compare(measure{what, inCPUMicro, half.cpuMicros}, pairs),
		compare(measure{what + ", warm-up included", inConnects, func(h half) float64 { return h.connects }}, pairs),
		compare(measure{fmt.Sprintf("the same, theirs a bare INSERT and COMMIT on %d connections", s.opts.slots), perSecond, half.rate}, ceilings),
	}, nil
}

// commits inserts rows as fast as one connection a slot can, spread over the
// databases.
func (s *stage) commits(ctx context.Context, _ *side) (half, error) {
	conns := make([]*pgx.Conn, 0, s.opts.slots)
	defer func() {
		for _, conn := range conns {
			cli.CloseConn(ctx, conn)
		}
	}()
	for i := range s.opts.slots {
		conn, err := s.dialTenant(ctx, i)
		if err != nil {
			return half{}, err
		}
		conns = append(conns, conn)
		if _, err := conn.Exec(ctx, insertEffect, 1, i); err != nil { // prepares it
			return half{}, err
		}
	}
	free := make(chan *pgx.Conn, len(conns))
	for _, conn := range conns {
		free <- conn
	}
	return s.enqueue(ctx, len(conns), 1, func(ctx context.Context, n int) error {
		conn := <-free
		defer func() { free <- conn }()
		_, err := conn.Exec(ctx, insertEffect, 1, n)
		return err
	})
}
