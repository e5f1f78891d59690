package tenantdb

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// A server's budget bounds the connections of all worker processes together. Where jobs are
// claimed (worker/claim) it is decided who may have how many, under one lock: each process
// publishes what it keeps, idle connections included, and is given jobs only for what is
// left. This file is this process's side of that.
//
// Publishing comes first: a connection is made only within the share that others have read,
// and a share shrinks only when its connections are closed.
//
// A share has two parts. The firm part belongs to running jobs, and lasts until this
// process publishes another or is declared dead. The rest keeps connections warm, and
// lapses ShareFor after it was published: no connection is made or kept in it then.
//
// A process that freezes lets nothing lapse, so its server does that. No connection of the
// rest begins to be idle after ShareFor, and the server ends each SessionTimeout later.
// From then on others may have the connections, and this process does not count them as its
// own again.

// Share is what this process has of a server's connections. The shares of all servers are
// its connection allowance.
type Share struct {
	Conns int // how many it may have: those that are open, or its running jobs if they are more
	Busy  int // of these, the ones that do not end by themselves: in use, being made, or running jobs'
	Stuck int // in use by handlers whose time is over, whose jobs are not among the running
	Need  int // how many more would be used, as jobs have found the share too small lately
}

// grown is how long a share stays as it is after a job has found it too small.
const grown = time.Second

// rest is how long a connection must have been idle before it is closed for somebody whose
// need is not urgent: a process that has no connection and waits for none, or a job whose
// own database's connections come back.
const rest = time.Second

// SyncAllowance fixes this process's connection allowance for each server, by the server's
// id: the connections that it has open, idle ones included, or its running jobs if those
// are more, or its former share if jobs have needed that lately. It returns the allowance,
// and how many of those connections overdue handlers hold; the claim counts these as
// running jobs.
//
// bound says how many connections the process may keep above its running jobs, and whether
// others wait for them. Idle connections beyond that are closed, after a second if nobody
// waits. They count until they are closed, of which closed is told, by another goroutine.
//
// From the first call on no connection is made beyond the allowance.
func (p *Pools) SyncAllowance(running map[string]int, bound func(server string) (keep int, wanted bool), closed func()) map[string]Share {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.shares = map[string]Share{}
	for id, n := range running {
		p.shares[id] = Share{Conns: n, Busy: n}
	}
	for id, s := range p.servers {
		keep, wanted := bound(id)
		share, idle := s.syncAllowance(now, running[id], keep, wanted)
		if delete(p.shares, id); share.Conns > 0 || share.Need > 0 {
			p.shares[id] = share
		}
		for _, c := range idle {
			p.ends.Go(func() {
				s.drop(c)
				closed()
			})
		}
	}
	return maps.Clone(p.shares)
}

// syncAllowance is SyncAllowance for one server. The idle connections that it returns are
// the caller's to drop.
func (s *server) syncAllowance(now time.Time, running, keep int, wanted bool) (share Share, idle []*Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ctx := range s.using {
		if ctx.Err() != nil {
			share.Stuck++
		}
	}
	busy := s.open - len(s.idle) - s.retiring
	share.Busy = max(running+share.Stuck, busy)
	share.Conns = max(share.Busy, s.open)
	if s.governed && !now.Before(s.gone) { // the server has ended the rest
		share.Conns = max(share.Busy, min(s.open, s.firm))
	}
	growing := !wanted && now.Sub(s.shortAt) < grown
	if growing && now.Before(s.until) {
		share.Conns = max(share.Conns, min(s.share, keep))
	}
	if growing {
		share.Need = max(min(2*s.short, s.limit-share.Conns), 0)
	}
	if s.lasting {
		share.Busy = share.Conns
	}
	idle = s.takeIdlest(busy+len(s.idle)-share.Conns, time.Time{})
	if beyond := busy + len(s.idle) - max(share.Busy, keep); wanted {
		idle = append(idle, s.takeIdlest(beyond, time.Time{})...)
	} else {
		for beyond > 0 && len(s.idle) > 0 && now.Sub(s.idle[0].used) >= rest {
			idle = append(idle, s.takeIdlest(1, time.Time{})...)
			beyond--
		}
	}
	s.governed, s.giving = true, s.retiring
	s.share = max(share.Busy, share.Conns-s.giving)
	return share, idle
}

// RaiseAllowance makes shares what has been published, with the jobs that were claimed.
// since is before the moment of publishing; zero means that the last publication is still
// the same.
func (p *Pools) RaiseAllowance(shares map[string]Share, since time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shares = maps.Clone(shares)
	if !since.IsZero() {
		p.until = since.Add(p.cfg.ShareFor)
	}
	for id, s := range p.servers {
		s.raiseAllowance(shares[id], p.until, p.cfg.SessionTimeout)
	}
}

func (s *server) raiseAllowance(share Share, until time.Time, ends time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.governed, s.firm, s.short = true, share.Busy, 0
	s.share = max(share.Busy, share.Conns-s.giving)
	s.until, s.gone = until, until.Add(ends)
	s.grow()
}

// Lapse is how long after a process has published its shares the rest of them may still be
// in use, if the process is frozen.
func (p *Pools) Lapse() time.Duration { return p.cfg.ShareFor + p.cfg.SessionTimeout }

// ResetBreaker says that a job was claimed for a database. That happens only while the
// database may be tried, so what this process's own breakers remember of it is out of date.
func (p *Pools) ResetBreaker(serverID, databaseID string) {
	p.mu.Lock()
	s := p.servers[serverID]
	p.mu.Unlock()
	if s != nil {
		s.resetBreakers(databaseID)
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
	if p.cfg.Heard == nil || what == serverFull || place.Reading {
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
