package claim

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/riverqueue/river/rivertype"
)

// LeaseKey is the metadata key under which River carries an attempt's token, which
// the worker puts there, to its end. It never reaches the row.
const LeaseKey = "headgate:lease"

// Lease makes the tokens by which a process proves that a running row is its own. A token
// is "incarnation:n": the incarnation is one life of one worker process, and n counts the
// incarnation's claims. Every claim takes a new token and writes it as the last element of
// the row's attempted_by. Every statement that ends an attempt has the token in its WHERE.
//
// Attempt numbers could not do this: a snooze, a stop and a reaped job all give the same
// number to the next attempt. Neither could the process's name: a process that was stopped,
// taken for dead and woken may claim the same job twice.
type Lease struct {
	mu          sync.Mutex
	incarnation string
	claims      atomic.Int64
	suspects    *suspects  // the suspect among this incarnation's claims
	inflight    *inflight  // what this process has claimed and not yet ended
	gate        *claimGate // where its claimers claim
	closed      atomic.Bool
	logsLocked  atomic.Int64 // until when lines wait for no lock (joblogs.go), in nanoseconds since 1970
}

// NewLease begins a first incarnation.
func NewLease() *Lease {
	l := &Lease{suspects: &suspects{}, inflight: newInflight(), gate: &claimGate{apart: []string{}, wants: map[string][]string{}}}
	l.Renew()
	return l
}

// Close says that this process stops: no claim begins from then on. A claim that is under
// way may still bring jobs. River alone does not promise this, because its fetch loop may
// choose a free slot before it sees that it is to end.
func (l *Lease) Close() { l.closed.Store(true) }

// Renew begins a new incarnation and returns it. Jobs that were claimed under the old
// incarnation can no longer be completed once the reaper has given them away.
func (l *Lease) Renew() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.incarnation = uuid.Must(uuid.NewV7()).String()
	l.suspects.forget(func(claimed) bool { return true })
	return l.incarnation
}

// Connect makes claims go by this process's connections. Call it before the first.
func (l *Lease) Connect(conns Connections) { l.gate.conns = conns }

// Slots says how many jobs of each queue this process runs at once. A claim then
// takes as many as there are slots when it chooses, not when River called for it.
// Call it before the first.
func (l *Lease) Slots(queues map[string]int) { l.gate.slots = queues }

// Measured is one claim that has ended.
type Measured struct {
	Queue  string
	Took   time.Duration
	Jobs   int
	Failed bool // it took nothing because of an error

	// Limit, Server and Rate say what kept due jobs back: a limit of the queue, an owner or
	// a kind; a server's budget; an owner's rate.
	Limit, Server, Rate bool
}

// Measure has each claim told to record. Call it before the first.
func (l *Lease) Measure(record func(ctx context.Context, m Measured)) { l.gate.record = record }

// Running returns how many attempts of each queue run in this process, and how many are
// over whose ends are not written.
func (l *Lease) Running() (byQueue map[string]int, ending int) { return l.inflight.running() }

// Apart says which kinds need no connection to a tenant's server, so that they use
// none of its budget. Call it before the first.
func (l *Lease) Apart(kinds []string) { l.gate.apart = kinds }

// Sessions says by which application_name the central database knows this process, and
// how long the session of a running job of each kind may outlast it, if it stops without
// ending: others count those sessions so long. Call it before the first claim.
func (l *Lease) Sessions(name string, stay map[string]time.Duration) {
	l.gate.name, l.gate.stay = name, stay
}

// Broken says whether a breaker in the central database stands between claims and
// this server or database, as of this process's last claim.
func (l *Lease) Broken(id string) bool { return l.gate.isBroken(id) }

// Stats returns how this process's claims have gone since the last call.
func (l *Lease) Stats() Stats { return l.gate.stats.take() }

// Failing returns the queues whose claims fail now, by name.
func (l *Lease) Failing() []Failing { return l.gate.stats.now() }

// drop forgets claims that are ended, or no longer this process's to end. It returns
// whether this process has become free for a suspect.
func (l *Lease) drop(ends []end) (free bool) {
	l.inflight.drop(ends)
	return l.suspects.forget(func(c claimed) bool {
		return slices.ContainsFunc(ends, func(e end) bool { return c == claimed{e.id, e.token} })
	})
}

// Incarnation is the present one, a UUID.
func (l *Lease) Incarnation() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.incarnation
}

// SetCompletion keeps in memory what an attempt sets for its end. A later call for the same
// claim replaces an earlier one. It is safe for concurrent use.
func (l *Lease) SetCompletion(row *rivertype.JobRow, c Completion) {
	l.inflight.setCompletion(claimed{row.ID, Token(row.AttemptedBy)}, c)
}

// Claimed returns when the claim of a row began and when it had succeeded, by this process's
// clock. Both are zero if this process does not have the row any more.
func (l *Lease) Claimed(row *rivertype.JobRow) (began, succeeded time.Time) {
	return l.inflight.times(claimed{row.ID, Token(row.AttemptedBy)})
}

func (l *Lease) next() string {
	return fmt.Sprintf("%s:%d", l.Incarnation(), l.claims.Add(1))
}

// Token returns the token of the claim that a row is running under.
func Token(attemptedBy []string) string {
	if len(attemptedBy) == 0 {
		return ""
	}
	return attemptedBy[len(attemptedBy)-1]
}

// IncarnationOf returns the incarnation that a token was made by.
func IncarnationOf(token string) string {
	incarnation, _, _ := strings.Cut(token, ":")
	return incarnation
}
