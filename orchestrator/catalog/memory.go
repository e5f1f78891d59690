package catalog

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/maypok86/otter/v2"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// FreshFor bounds how long an answer is given after somebody else has changed
// what it says, in a process that is not notified of changes: one without a
// [Listener], or whose listener is cut off and knows it. What this Catalog changes
// itself counts at once, in a transaction of the caller's within FreshFor of its
// commit.
const FreshFor = 500 * time.Millisecond

// Memory says what a Catalog remembers, so that the answers that workers and web
// requests ask for, again and again, cost no query. The zero value of a field
// means its default.
type Memory struct {
	// Answers is how many are remembered at most, some 1.5 KB each; those asked
	// for rarely and long ago give way. 0 means 10,000; at most 1,000,000.
	Answers int

	// TTL is for how long an answer is believed while a Listener is told of
	// changes; it bounds what a lost notification can do. 0 means 10 s; it must be
	// FreshFor to 1 h.
	TTL time.Duration

	// UnknownFor is how long a slug, host or e-mail domain stays unknown that was
	// asked for in vain, unless a notification says earlier that something is new.
	// 0 means 2 s; at most 1 h.
	UnknownFor time.Duration

	// StaleFor is how long after an answer was last known to be right it is still
	// given while the central database cannot be asked. 0 means 5 minutes, at
	// most 24 h; negative means not at all.
	StaleFor time.Duration
}

func (m Memory) checked() (Memory, error) {
	m.Answers = cmp.Or(m.Answers, 10_000)
	m.TTL = cmp.Or(m.TTL, 10*time.Second)
	m.UnknownFor = cmp.Or(m.UnknownFor, 2*time.Second)
	m.StaleFor = max(cmp.Or(m.StaleFor, 5*time.Minute), 0)
	switch {
	case m.Answers < 1 || m.Answers > 1_000_000:
		return m, jobs.Inputf("catalog.Memory.Answers", strconv.Itoa(m.Answers), "give 1 to 1000000")
	case m.TTL < FreshFor || m.TTL > time.Hour:
		return m, jobs.Inputf("catalog.Memory.TTL", m.TTL.String(), "give %s to 1h", FreshFor)
	case m.UnknownFor < 0 || m.UnknownFor > time.Hour:
		return m, jobs.Inputf("catalog.Memory.UnknownFor", m.UnknownFor.String(), "give up to 1h")
	case m.StaleFor > 24*time.Hour:
		return m, jobs.Inputf("catalog.Memory.StaleFor", m.StaleFor.String(), "give up to 24h")
	}
	return m, nil
}

// question is what is remembered: one way to ask for one tenant.
type question struct {
	by   by
	id   uuid.UUID // by login and UUID
	name string    // else, in canonical form
}

type by uint8

const (
	byJobLogin   by = iota // a worker's: with the place
	byOwnerLogin           // the same
	byUUID                 // a request's, and those that follow: without
	bySlug
	byOrgID
	byDomain
	byEmail
)

// place says whether the answer says where the tenant lives. That no tenant is there
// is not remembered for such answers: a worker cancels the job for good that it hears
// this of.
func (q question) place() bool { return q.by <= byOwnerLogin }

// rowVersions are xmin, Postgres' own version of a row, of those that an answer
// was read from, 0 where it was not; and the version of the features' defaults.
type rowVersions struct {
	tenant, plan, database, server, name uint32
	defaults                             int64
}

// versionFields stand beside tenantRows, in the order of the targets.
const versionFields = `t.xmin, p.xmin, coalesce(d.xmin, '0'), coalesce(s.xmin, '0'), fd.version`

func (v *rowVersions) targets() []any {
	return []any{&v.tenant, &v.plan, &v.database, &v.server, &v.defaults}
}

// answer does not change, except for its two times, which are nanoseconds since
// the memory began.
type answer struct {
	known    bool // false: there is no such tenant
	tenant   Tenant
	place    *address.Place // shared; without the tenant's organisation and generation
	state    DatabaseState  // beside a place: its database's
	ids      [3]uuid.UUID   // of tenant, database and server
	versions rowVersions

	checked atomic.Int64 // when the question that last confirmed it began
	used    atomic.Int64 // roughly
}

// own returns the tenant with maps and lists that the caller may write into.
func (a *answer) own() Tenant {
	t := a.tenant
	t.Labels, t.Withheld, t.Kinds = maps.Clone(t.Labels), maps.Clone(t.Withheld), slices.Clone(t.Kinds)
	return t
}

// memory remembers answers. It is right by four means, each behind the other:
//
//	a change by this Catalog   its answers are dropped at once
//	a notification             the same (see Listener)
//	half way to its end        one caller asks about all answers in use with one
//	                           query, by xmin (see confirm)
//	its end                    it is asked for anew: after Memory.TTL if it was
//	                           confirmed since the listener listens, else FreshFor
//
// A question that was on its way while something was dropped is answered, and its
// answer not kept: it may be older than the change. The memory has no goroutine.
type memory struct {
	Memory
	now   func() time.Time // the tests' own, or time.Now
	born  time.Time
	cache *otter.Cache[question, *answer]

	// listening is since when notifications arrive, deaf if they do not.
	listening atomic.Int64

	mu         sync.Mutex // guards what follows; no query runs while it is held
	epoch      int        // rises with each drop
	flights    map[question]*flight
	confirming *flight
	confirmed  int64 // when the last question about all began
	outage     outage
}

const deaf = math.MaxInt64

func newMemory(m Memory) *memory {
	cache := otter.Must(&otter.Options[question, *answer]{
		MaximumSize: m.Answers,
		Executor:    func(maintain func()) { maintain() }, // no goroutine of its own
	})
	r := &memory{Memory: m, now: time.Now, born: time.Now(), cache: cache, flights: map[question]*flight{}, confirmed: math.MinInt64 / 2}
	r.listening.Store(deaf)
	return r
}

// clock is the time since the memory began, by the monotonic clock.
func (m *memory) clock() int64 { return int64(m.now().Sub(m.born)) }

// life is how long an answer is believed from when it was checked.
func (m *memory) life(a *answer) time.Duration {
	switch {
	case !a.known:
		return m.UnknownFor
	case a.checked.Load() >= m.listening.Load():
		return m.TTL
	}
	return FreshFor
}

// find returns what is remembered, if anything; whether it may be given; and
// whether all should be confirmed.
func (m *memory) find(q question) (a *answer, fresh, due bool) {
	a, ok := m.cache.GetIfPresent(q)
	if !ok {
		return nil, false, false
	}
	now := m.clock()
	if now-a.used.Load() > int64(time.Second) { // seldom: it is written for all processors
		a.used.Store(now)
	}
	age, life := time.Duration(now-a.checked.Load()), m.life(a)
	return a, age < life, a.known && age >= life/2
}

// keep stores the answer to a question that began at a time, in an epoch. The
// caller holds mu.
func (m *memory) keep(q question, a *answer, began int64, epoch int) {
	if epoch != m.epoch || q.place() && !a.known {
		return
	}
	a.checked.Store(began)
	a.used.Store(m.clock())
	q.name = strings.Clone(q.name) // not the request that it is a part of
	m.cache.Set(q, a)
}

// drop forgets the answers that are about a tenant, database or server of ids,
// and all that say unknown.
func (m *memory) drop(ids ...uuid.UUID) {
	changed := make(map[uuid.UUID]bool, len(ids))
	for _, id := range ids {
		changed[id] = true
	}
	m.dropWhere(func(a *answer) bool {
		return !a.known || changed[a.ids[0]] || changed[a.ids[1]] || changed[a.ids[2]]
	})
}

// changed drops what a change of our own was about; one that failed may have
// happened, to whatever it was.
func (m *memory) changed(err error, id string) {
	if err != nil {
		m.dropAll()
		return
	}
	m.drop(uuid.MustParse(id))
}

func (m *memory) dropAll() { m.dropWhere(func(*answer) bool { return true }) }

func (m *memory) dropWhere(wrong func(*answer) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.epoch++
	var gone []question
	for q, a := range m.cache.All() {
		if wrong(a) {
			gone = append(gone, q)
		}
	}
	for _, q := range gone {
		m.cache.Invalidate(q)
	}
}
