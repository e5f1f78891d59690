package claim

// usage is what one process has of all that is limited: the jobs that it runs, and the
// connections that it keeps. It is the process's row in headgate.hands. The process's
// claims write the row, and everybody's claims read it.
type usage struct {
	Queues    map[string]int            `json:"queues"`
	Owners    map[string]map[string]int `json:"owners"`              // by tenant or database, by kind
	Servers   map[string]serverUsage    `json:"servers"`             // by id
	Databases map[string]int            `json:"databases,omitempty"` // those with a breaker
	// Waits are the queues in which a limit kept something from this process, and Wants the
	// servers that were full. Whoever frees some of it tells this process.
	Waits []string `json:"waits,omitempty"`
	Wants []string `json:"wants,omitempty"`
	// Lapse is how many milliseconds after publishing the connections in Idle may still be
	// in use, if their process is frozen. 0: for as long as the process is not dead.
	Lapse int `json:"lapse,omitempty"`
	// Session is the application_name of the process's sessions in the central database,
	// and Linger how many milliseconds its running jobs' sessions may outlast it there.
	Session string `json:"session,omitempty"`
	Linger  int    `json:"linger,omitempty"`

	incarnation, version string // of the row
	claiming             bool   // its process claims, and does not drain
}

// serverUsage is what one process has of one server.
type serverUsage struct {
	Jobs  int `json:"jobs"`
	Conns int `json:"conns"`          // idle ones and those on the way included; never fewer than the server sees
	Idle  int `json:"idle,omitempty"` // of these, the ones that lapse
}

// counted is how many of a server's connections count as the process's.
func (s serverUsage) counted() int { return max(s.Jobs, s.Conns) }

func newUsage() *usage {
	return &usage{Queues: map[string]int{}, Owners: map[string]map[string]int{}, Servers: map[string]serverUsage{}, Databases: map[string]int{}}
}

// remains is what a process may still have that was declared dead while its sessions were
// alive. The process has stopped and not ended, and so have its jobs' sessions. They run
// nothing that limits count, because the jobs were given to others.
func (u *usage) remains() *usage {
	rest := newUsage()
	rest.incarnation, rest.version, rest.Lapse = u.incarnation, u.version, max(u.Linger, 1)
	for id, s := range u.Servers {
		n := s.counted() - s.Idle
		rest.Servers[id] = serverUsage{Conns: n, Idle: n}
	}
	return rest
}

// run counts a running job.
func (u *usage) run(l lane) {
	u.Queues[l.queue]++
	if u.Owners[l.owner] == nil {
		u.Owners[l.owner] = map[string]int{}
	}
	u.Owners[l.owner][l.kind]++
	if l.server != "" {
		s := u.Servers[l.server]
		s.Jobs++
		u.Servers[l.server] = s
	}
}

// limits are what people, and breakers, allow over all processes. A missing key is no
// limit.
type limits struct {
	queue     *int
	kinds     map[string]kindLimit
	servers   map[string]int // connections
	halfOpen  map[string]int // jobs that may try a server which did not answer
	databases map[string]int // the same for databases; 0 while the breaker is open
}

type kindLimit struct{ all, perOwner *int }

// capacity is what is left of the limits. It belongs to one claim.
type capacity struct {
	queueName string
	limits    limits
	all       *usage // of others and of this process, and of this claim so far
	mine      map[string]serverUsage
	owners    map[string]int // running jobs of an owner, as far as anybody has asked
	kinds     map[string]int // running jobs of a kind, if any has a limit
	tokens    map[string]int // by owner with a rate
	own       *parts
}

// newCapacity adds up the usages of all processes. mine is counted in all as well. The idle
// connections that this process has to a server are its own to use, unless others wait for
// them. Of a server for which others wait, what was published last counts, because what
// this claim gives back goes to them first.
func newCapacity(queue string, l limits, mine *usage, others []*usage, own *parts, published map[string]int) *capacity {
	cp := &capacity{
		queueName: queue, limits: l, all: newUsage(), mine: map[string]serverUsage{}, own: own,
		owners: map[string]int{}, kinds: map[string]int{}, tokens: map[string]int{},
	}
	for _, u := range others {
		cp.all.add(u)
	}
	cp.all.add(mine)
	for id, s := range mine.Servers {
		cp.mine[id] = s
	}
	for id, n := range published {
		if _, wanted := own.keep(id); wanted {
			all := cp.all.Servers[id]
			all.Conns += max(n-cp.mine[id].counted(), 0)
			cp.all.Servers[id] = all
		}
	}
	if len(l.kinds) > 0 {
		for _, kinds := range cp.all.Owners {
			for kind, n := range kinds {
				cp.kinds[kind] += n
			}
		}
	}
	return cp
}

// add counts another process's usage. Of servers it adds counted connections as Conns, and
// running jobs as Jobs.
func (u *usage) add(other *usage) {
	for queue, n := range other.Queues {
		u.Queues[queue] += n
	}
	for owner, kinds := range other.Owners {
		if u.Owners[owner] == nil {
			u.Owners[owner] = map[string]int{}
		}
		for kind, n := range kinds {
			u.Owners[owner][kind] += n
		}
	}
	for id, s := range other.Servers {
		sum := u.Servers[id]
		u.Servers[id] = serverUsage{Jobs: sum.Jobs + s.Jobs, Conns: sum.Conns + s.counted()}
	}
	for id, n := range other.Databases {
		u.Databases[id] += n
	}
}

// reason is why not more is allowed.
type reason int

const (
	other    reason = iota // a limit of the queue, the owner or a kind
	broken                 // a breaker
	noServer               // the server's connections are used up
	noToken                // the owner's rate
)

// owner is how many of n jobs of an owner may start, without regard to their kinds and
// server.
func (cp *capacity) owner(c candidate, n int) (allowed int, why reason) {
	allowed = n
	limit := func(free int, w reason) {
		if free < allowed {
			allowed, why = max(free, 0), w
		}
	}
	if cp.limits.queue != nil {
		limit(*cp.limits.queue-cp.all.Queues[cp.queueName], other)
	}
	if c.maxRunning != nil {
		limit(*c.maxRunning-cp.running(c.owner), other)
	}
	if c.rate != nil {
		if _, known := cp.tokens[c.owner]; !known {
			cp.tokens[c.owner] = c.rate.tokens()
		}
		limit(cp.tokens[c.owner], noToken)
	}
	if trying, some := cp.limits.databases[c.database]; some {
		limit(trying-cp.all.Databases[c.database], broken)
	}
	return allowed, why
}

// server is how many of n jobs may start that need a connection to a server ("": none).
func (cp *capacity) server(id string, n int) (allowed int, why reason) {
	allowed = n
	if trying, some := cp.limits.halfOpen[id]; some {
		if free := trying - cp.all.Servers[id].Jobs; free < allowed {
			allowed, why = free, broken
		}
	}
	if budget, some := cp.limits.servers[id]; some {
		free := budget - cp.all.Servers[id].Conns + cp.idle(id)
		if _, wanted := cp.own.keep(id); wanted {
			free = min(free, cp.own.fair(id)-cp.mine[id].Jobs)
		}
		if free < allowed {
			allowed, why = free, noServer
		}
	}
	return max(allowed, 0), why
}

// running is how many jobs of an owner are running, those of this claim included.
func (cp *capacity) running(owner string) int {
	n, known := cp.owners[owner]
	if !known {
		for _, m := range cp.all.Owners[owner] {
			n += m
		}
		cp.owners[owner] = n
	}
	return n
}

// idle is how many jobs this process can start on a server without taking more of the
// server's connections than the process has.
func (cp *capacity) idle(server string) int {
	s := cp.mine[server]
	usable := s.counted()
	if keep, wanted := cp.own.keep(server); wanted {
		usable = min(usable, keep)
	}
	return max(usable-s.Jobs, 0)
}

// kind is how many of n jobs of one kind may start.
func (cp *capacity) kind(c candidate, n int) int {
	limit, some := cp.limits.kinds[c.kind]
	if !some {
		return n
	}
	if limit.all != nil {
		n = min(n, max(*limit.all-cp.kinds[c.kind], 0))
	}
	if limit.perOwner != nil {
		n = min(n, max(*limit.perOwner-cp.all.Owners[c.owner][c.kind], 0))
	}
	return n
}

// reserveOwner counts n jobs of an owner as running, but not by their kinds.
func (cp *capacity) reserveOwner(c candidate, n int) {
	cp.owners[c.owner] = cp.running(c.owner) + n
	cp.all.Queues[cp.queueName] += n
	if c.rate != nil {
		cp.tokens[c.owner] -= n
	}
	if _, some := cp.limits.databases[c.database]; some {
		cp.all.Databases[c.database] += n
	}
}

// reserveServer counts n jobs on a server as running.
func (cp *capacity) reserveServer(id string, n int) {
	if id == "" {
		return
	}
	all, mine := cp.all.Servers[id], cp.mine[id]
	before := mine.counted()
	mine.Jobs += n
	all.Jobs += n
	all.Conns += mine.counted() - before
	cp.all.Servers[id], cp.mine[id] = all, mine
}

// reserveKind counts n jobs of one kind as running.
func (cp *capacity) reserveKind(c candidate, n int) {
	if cp.all.Owners[c.owner] == nil {
		cp.all.Owners[c.owner] = map[string]int{}
	}
	cp.all.Owners[c.owner][c.kind] += n
	cp.kinds[c.kind] += n
}
