package claim

import (
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

// Lease makes the tokens by which a process proves that a running row is its
// own: "incarnation:n", where the incarnation is one life of one worker process
// and n counts its claims. Every claim takes a new token and writes it as the
// last element of the row's attempted_by; every statement that ends an attempt
// has it in its WHERE.
//
// Attempt numbers could not do this: a snooze, a stop and a reaped job all hand
// the same number out again. Neither could the process's name: a process that
// was stopped, taken for dead and woken may claim the same job twice.
type Lease struct {
	mu          sync.Mutex
	incarnation string
	claims      atomic.Int64
	suspects    *suspects // what of this incarnation's claims is under suspicion
	hand        *hand     // what of this process's claims is not ended yet
	desk        *desk     // where its claimers claim
}

// NewLease begins a first incarnation.
func NewLease() *Lease {
	l := &Lease{suspects: &suspects{}, hand: newHand(), desk: &desk{apart: []string{}, wants: map[string][]string{}}}
	l.Renew()
	return l
}

// Renew begins a new incarnation and returns it. What was claimed under the old
// one can no longer be completed once the reaper has given it away.
func (l *Lease) Renew() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.incarnation = uuid.Must(uuid.NewV7()).String()
	l.suspects.forget(func(claimed) bool { return true })
	return l.incarnation
}

// Connect makes claims go by this process's connections. Call it before the first.
func (l *Lease) Connect(conns Connections) { l.desk.conns = conns }

// Slots says how many jobs of each queue this process runs at once. A claim then
// takes as many as there are slots when it chooses, not when River called for it.
// Call it before the first.
func (l *Lease) Slots(queues map[string]int) { l.desk.slots = queues }

// Apart says which kinds need no connection to a tenant's server, so that they use
// none of its budget. Call it before the first.
func (l *Lease) Apart(kinds []string) { l.desk.apart = kinds }

// Sessions says by which application_name the central database knows this process, and
// how long the session of a running job of each kind may outlast it, if it stops without
// ending: others count those sessions so long. Call it before the first claim.
func (l *Lease) Sessions(name string, stay map[string]time.Duration) {
	l.desk.name, l.desk.stay = name, stay
}

// Broken says whether a breaker in the central database stands between claims and
// this server or database, as of this process's last claim.
func (l *Lease) Broken(id string) bool { return l.desk.isBroken(id) }

// Stats returns how this process's claims have gone since the last call.
func (l *Lease) Stats() Stats { return l.desk.stats.take() }

// drop forgets claims that are ended, or no longer this process's to end, and
// returns whether there is room for a suspect now that there was not before.
func (l *Lease) drop(ends []end) (room bool) {
	l.hand.drop(ends)
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

// Leave keeps in memory what an attempt leaves for its end. A later call for the
// same claim replaces an earlier one. It is safe for concurrent use.
func (l *Lease) Leave(row *rivertype.JobRow, left Left) {
	l.hand.leave(claimed{row.ID, Token(row.AttemptedBy)}, left)
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
