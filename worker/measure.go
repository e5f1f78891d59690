package worker

import (
	"context"
	"fmt"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/telemetry"
	"github.com/headgate/headgate/worker/claim"
)

// measure records the attempt's end.
func (a *attempt) measure(ctx context.Context, o jobs.Outcome) {
	a.w.meter.Attempt(ctx, telemetry.Attempt{
		Kind: o.Kind, Queue: a.row.Queue, State: string(o.State), Class: string(o.Class), Server: a.place.Server,
		Tenant: a.info.Tenant.Slug, Failed: o.State == jobs.Failed || o.State == jobs.Discarded,
		First: a.row.Attempt == 1 && a.meta.Held == nil, Again: o.State == jobs.Failed, Hit: o.Recovered,
		Took: o.EndedAt.Sub(o.StartedAt), Waited: o.StartedAt.Sub(a.row.ScheduledAt),
	})
}

func (w *Worker) measureClaim(ctx context.Context, m claim.Measured) {
	var limited []string
	for _, why := range []struct {
		so   bool
		name string
	}{{m.Limit, "limit"}, {m.Server, "server"}, {m.Rate, "rate"}} {
		if why.so {
			limited = append(limited, why.name)
		}
	}
	w.meter.Claim(ctx, telemetry.Claim{Queue: m.Queue, Took: m.Took, Jobs: m.Jobs, Failed: m.Failed, Limited: limited})
}

// observe has the process's state measured whenever somebody asks, until the worker stops.
func (w *Worker) observe(keeper *claim.Keeper) (stop func() error, err error) {
	lease, pools, central := w.lease, w.pools, w.central // a later Start replaces them
	return w.meter.Observe(func() telemetry.ProcessState {
		s := telemetry.ProcessState{Slots: w.cfg.Queues, Stuck: int(w.stuck.Load())}
		_, s.Heartbeat = keeper.Turned()
		s.Running, s.Ending = lease.Running()
		for queue := range s.Slots {
			s.Running[queue] += 0 // a queue without work has a figure too
		}
		for _, server := range pools.Servers() {
			s.Servers = append(s.Servers, telemetry.ServerState{
				Name: server.Name, Connections: server.Open, Limit: server.Limit, Waiting: server.Waiting, Opened: server.Made, Broken: server.Breaker != "closed",
			})
		}
		at := central.Stat()
		s.Central = map[string]int{"used": int(at.AcquiredConns()), "idle": int(at.IdleConns()), "free": int(at.MaxConns() - at.TotalConns())}
		return s
	})
}

// endObserving has nobody look any more, as long as ctx allows: whoever collects metrics now
// may be held up by what others have registered with the same provider.
func (w *Worker) endObserving(ctx context.Context) error {
	over := make(chan error, 1)
	go func() { over <- w.unobserve() }() // ends with the collection that is under way
	select {
	case err := <-over:
		return err
	case <-ctx.Done():
		return fmt.Errorf("metrics are being collected, and that does not end: %w", ctx.Err())
	}
}
