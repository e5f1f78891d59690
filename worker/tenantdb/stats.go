package tenantdb

import (
	"cmp"
	"slices"
	"time"
)

// Server is what this process knows of one server.
type Server struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Budget  int       `json:"budget"` // connections that this process may have
	Limit   int       `json:"limit"`  // what it allows itself after the server was full
	Open    int       `json:"open"`   // idle ones included
	Idle    int       `json:"idle"`
	Waiting int       `json:"waiting"` // jobs
	Made    int64     `json:"made"`    // connections, since this process has had to do with it
	Breaker string    `json:"breaker"` // closed, open or half-open
	Since   time.Time `json:"since,omitzero"`
}

func (s *server) stats() Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := Server{
		ID: s.id, Name: s.name, Budget: s.budget, Limit: s.limit, Open: s.open, Idle: len(s.idle),
		Waiting: len(s.waiters), Made: s.made.Load(), Breaker: "closed", Since: s.breaker.since,
	}
	switch {
	case s.breaker.open() && s.breaker.allowed > 0:
		stats.Breaker = "half-open"
	case s.breaker.open():
		stats.Breaker = "open"
	}
	return stats
}

// Servers returns the servers that this process has to do with, by name.
func (p *Pools) Servers() []Server {
	p.mu.Lock()
	list := make([]*server, 0, len(p.servers))
	for _, s := range p.servers {
		list = append(list, s)
	}
	p.mu.Unlock()
	stats := make([]Server, len(list))
	for i, s := range list {
		stats[i] = s.stats()
	}
	slices.SortFunc(stats, func(a, b Server) int { return cmp.Compare(a.Name, b.Name) })
	return stats
}

// Open returns the number of open connections.
func (p *Pools) Open() (n int) {
	for _, s := range p.Servers() {
		n += s.Open
	}
	return n
}
