package tenantdb

import (
	"context"
	"errors"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// A server's budget bounds the connections of all worker processes together. Who
// may have how many is decided where jobs are claimed (worker/claim), under one
// lock: each process publishes what it keeps, idle connections included, and is
// given jobs only for what is left. Here is this process's side of it.

// Settle sets this process's share of each server to the connections that it has,
// or its running jobs if they are more, and returns it, by the server's id. Those
// in use by handlers whose time is over are stuck, and not among the running. Idle
// connections to servers in wanted are closed, since other processes wait for
// their place; they count until they are closed. From the first call on no
// connection is made beyond the share.
func (p *Pools) Settle(running map[string]int, wanted map[string]bool) (conns, stuck map[string]int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shares, conns, stuck = map[string]int{}, map[string]int{}, map[string]int{}
	for id, n := range running {
		p.shares[id], conns[id] = n, n
	}
	for id, s := range p.servers {
		share, overdue, idle := s.settle(running[id], wanted[id])
		if p.shares[id] = share; share > 0 {
			conns[id], stuck[id] = share, overdue
		}
		for _, c := range idle {
			p.ends.Go(func() { s.drop(c) })
		}
	}
	return conns, stuck
}

// Allow raises the shares to places, for jobs that have been claimed.
func (p *Pools) Allow(places map[string]int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shares == nil {
		p.shares = map[string]int{}
	}
	for id, n := range places {
		p.shares[id] = max(p.shares[id], n)
		if s := p.servers[id]; s != nil {
			s.allow(n)
		}
	}
}

// Trust says that a job was claimed for a database, which happens only while it
// may be tried: what this process's own breakers remember of it is out of date.
func (p *Pools) Trust(serverID, databaseID string) {
	p.mu.Lock()
	s := p.servers[serverID]
	p.mu.Unlock()
	if s != nil {
		s.trust(databaseID)
	}
}

// Opened says whether a breaker has opened.
type Opened int

// What may have opened by a failed attempt.
const (
	OpenedNone Opened = iota
	OpenedDatabase
	OpenedServer
)

// report tells Config.Heard, or the log.
func (p *Pools) report(ctx context.Context, s *server, place address.Place, what event, err error) {
	if p.cfg.Heard == nil || what == serverFull {
		if what != "" {
			p.tell(ctx, s, place, what, err)
		}
		return
	}
	class, _ := Classify(err)
	silence := err
	if class != jobs.ClassUnreachable && class != jobs.ClassConnectTimeout || errors.Is(err, context.Canceled) {
		silence = nil
	}
	opened := OpenedNone
	switch what {
	case serverSilent:
		opened = OpenedServer
	case databaseSilent:
		opened = OpenedDatabase
	}
	p.cfg.Heard(ctx, place, silence, opened)
}
