package claim

// hold is what one process holds of what is limited: the jobs that it runs, and
// the connections it keeps. It is the process's row in headgate.hands, written
// by its claims and read by everybody's.
type hold struct {
	Queues    map[string]int            `json:"queues"`
	Owners    map[string]map[string]int `json:"owners"`              // by tenant or database, by kind
	Servers   map[string]held           `json:"servers"`             // by id
	Databases map[string]int            `json:"databases,omitempty"` // those with a breaker
	// Waits are the queues in which a limit kept something from this process, and
	// Wants the servers that were full: who gives something back tells it.
	Waits []string `json:"waits,omitempty"`
	Wants []string `json:"wants,omitempty"`
	// Lapse is how many milliseconds after this was published what is Idle may still
	// be in use, if its process is frozen. 0: for as long as the process is not dead.
	Lapse int `json:"lapse,omitempty"`
	// Session is the application_name of the process's sessions in the central database,
	// and Linger how many milliseconds its running jobs' sessions may outlast it there.
	Session string `json:"session,omitempty"`
	Linger  int    `json:"linger,omitempty"`

	incarnation, version string // of the row
	taking               bool   // its process claims, and does not drain
}

// held is what one process has of one server.
type held struct {
	Jobs  int `json:"jobs"`
	Conns int `json:"conns"`          // idle ones and those on the way included; never fewer than the server sees
	Idle  int `json:"idle,omitempty"` // of these, the ones that lapse
}

// places is how many of a server's connections that is.
func (h held) places() int { return max(h.Jobs, h.Conns) }

func newHold() *hold {
	return &hold{Queues: map[string]int{}, Owners: map[string]map[string]int{}, Servers: map[string]held{}, Databases: map[string]int{}}
}

// remains is what a process may still have that was declared dead while its sessions
// were alive: it has stopped and not ended, and so have its jobs' sessions. They run
// nothing that limits count, because its jobs are given to others.
func (h *hold) remains() *hold {
	rest := newHold()
	rest.incarnation, rest.version, rest.Lapse = h.incarnation, h.version, max(h.Linger, 1)
	for id, s := range h.Servers {
		n := s.places() - s.Idle
		rest.Servers[id] = held{Conns: n, Idle: n}
	}
	return rest
}

// run counts a running job.
func (h *hold) run(l lane) {
	h.Queues[l.queue]++
	if h.Owners[l.owner] == nil {
		h.Owners[l.owner] = map[string]int{}
	}
	h.Owners[l.owner][l.kind]++
	if l.server != "" {
		s := h.Servers[l.server]
		s.Jobs++
		h.Servers[l.server] = s
	}
}

// limits are what people, and breakers, allow over all processes. A missing key
// is no limit.
type limits struct {
	queue     *int
	kinds     map[string]kindLimit
	servers   map[string]int // connections
	halfOpen  map[string]int // jobs that may try a server which did not answer
	databases map[string]int // the same for databases; 0 while the breaker is open
}

type kindLimit struct{ all, perOwner *int }

// room is what is left of the limits. It belongs to one claim.
type room struct {
	queueName string
	limits    limits
	all       *hold // what others and this process hold, and this claim so far
	mine      map[string]held
	owners    map[string]int // running jobs of an owner, as far as anybody has asked
	kinds     map[string]int // running jobs of a kind, if any has a limit
	tokens    map[string]int // by owner with a rate
	own       *parts
}

// newRoom adds up what all processes hold. mine is counted in all as well: of a
// server that this process has idle connections to, they are its own to use, unless
// others wait for them. Of such a server what was published last counts, because what
// this claim gives back is theirs first.
func newRoom(queue string, l limits, mine *hold, others []*hold, own *parts, published map[string]int) *room {
	r := &room{
		queueName: queue, limits: l, all: newHold(), mine: map[string]held{}, own: own,
		owners: map[string]int{}, kinds: map[string]int{}, tokens: map[string]int{},
	}
	for _, h := range others {
		r.all.add(h)
	}
	r.all.add(mine)
	for id, h := range mine.Servers {
		r.mine[id] = h
	}
	for id, n := range published {
		if _, wanted := own.keep(id); wanted {
			all := r.all.Servers[id]
			all.Conns += max(n-r.mine[id].places(), 0)
			r.all.Servers[id] = all
		}
	}
	if len(l.kinds) > 0 {
		for _, kinds := range r.all.Owners {
			for kind, n := range kinds {
				r.kinds[kind] += n
			}
		}
	}
	return r
}

// add counts what another process holds. Of servers it counts places as Conns,
// and running jobs as Jobs.
func (h *hold) add(o *hold) {
	for queue, n := range o.Queues {
		h.Queues[queue] += n
	}
	for owner, kinds := range o.Owners {
		if h.Owners[owner] == nil {
			h.Owners[owner] = map[string]int{}
		}
		for kind, n := range kinds {
			h.Owners[owner][kind] += n
		}
	}
	for id, s := range o.Servers {
		sum := h.Servers[id]
		h.Servers[id] = held{Jobs: sum.Jobs + s.Jobs, Conns: sum.Conns + s.places()}
	}
	for id, n := range o.Databases {
		h.Databases[id] += n
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

// owner is how many of n jobs of an owner may start, its kinds and its server aside.
func (r *room) owner(c candidate, n int) (allowed int, why reason) {
	allowed = n
	limit := func(free int, w reason) {
		if free < allowed {
			allowed, why = max(free, 0), w
		}
	}
	if r.limits.queue != nil {
		limit(*r.limits.queue-r.all.Queues[r.queueName], other)
	}
	if c.maxRunning != nil {
		limit(*c.maxRunning-r.running(c.lane), other)
	}
	if c.rate != nil {
		if _, known := r.tokens[c.lane]; !known {
			r.tokens[c.lane] = c.rate.tokens()
		}
		limit(r.tokens[c.lane], noToken)
	}
	if trying, some := r.limits.databases[c.database]; some {
		limit(trying-r.all.Databases[c.database], broken)
	}
	return allowed, why
}

// server is how many of n jobs may start that need a connection to a server ("" :
// none).
func (r *room) server(id string, n int) (allowed int, why reason) {
	allowed = n
	if trying, some := r.limits.halfOpen[id]; some {
		if free := trying - r.all.Servers[id].Jobs; free < allowed {
			allowed, why = free, broken
		}
	}
	if budget, some := r.limits.servers[id]; some {
		free := budget - r.all.Servers[id].Conns + r.idle(id)
		if _, wanted := r.own.keep(id); wanted {
			free = min(free, r.own.fair(id)-r.mine[id].Jobs)
		}
		if free < allowed {
			allowed, why = free, noServer
		}
	}
	return max(allowed, 0), why
}

// running is how many jobs of an owner are, those of this claim included.
func (r *room) running(owner string) int {
	n, known := r.owners[owner]
	if !known {
		for _, m := range r.all.Owners[owner] {
			n += m
		}
		r.owners[owner] = n
	}
	return n
}

// idle is how many jobs this process can start on a server without taking more
// of its connections than it has.
func (r *room) idle(server string) int {
	h := r.mine[server]
	usable := h.places()
	if keep, wanted := r.own.keep(server); wanted {
		usable = min(usable, keep)
	}
	return max(usable-h.Jobs, 0)
}

// kind is how many of n jobs of one kind may start.
func (r *room) kind(c candidate, n int) int {
	limit, some := r.limits.kinds[c.kind]
	if !some {
		return n
	}
	if limit.all != nil {
		n = min(n, max(*limit.all-r.kinds[c.kind], 0))
	}
	if limit.perOwner != nil {
		n = min(n, max(*limit.perOwner-r.all.Owners[c.lane][c.kind], 0))
	}
	return n
}

// takeOwner counts n jobs of an owner as running, but for their kinds.
func (r *room) takeOwner(c candidate, n int) {
	r.owners[c.lane] = r.running(c.lane) + n
	r.all.Queues[r.queueName] += n
	if c.rate != nil {
		r.tokens[c.lane] -= n
	}
	if _, some := r.limits.databases[c.database]; some {
		r.all.Databases[c.database] += n
	}
}

// takeServer counts n jobs on a server as running.
func (r *room) takeServer(id string, n int) {
	if id == "" {
		return
	}
	all, mine := r.all.Servers[id], r.mine[id]
	before := mine.places()
	mine.Jobs += n
	all.Jobs += n
	all.Conns += mine.places() - before
	r.all.Servers[id], r.mine[id] = all, mine
}

// takeKind counts n jobs of one kind as running.
func (r *room) takeKind(c candidate, n int) {
	if r.all.Owners[c.lane] == nil {
		r.all.Owners[c.lane] = map[string]int{}
	}
	r.all.Owners[c.lane][c.kind] += n
	r.kinds[c.kind] += n
}
