package claim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/riverdriver"

	"github.com/headgate/headgate/worker/tenantdb"
)

// quantum is how much worker time an owner is served in one go, in seconds. Short jobs of
// one owner then go several at a time and back to back on one connection, for one write of
// its lane.
const quantum = 0.05

// headStart puts an owner that was idle before all that are at the queue's present time, in
// virtual seconds.
const headStart = 1e-5

// lagTurns is how many turns an owner that rested may be behind the queue's present time
// when it returns. A turn is what one attempt of the lane takes, or a quantum if that is
// more, over the owner's weight. An owner whose attempts cost what they are expected to is
// a turn or two behind when its lane is empty.
const lagTurns = 4

// passes bounds how many snapshots one claim takes, because lanes had fewer jobs than they
// might have.
const passes = 4

// claimTimeout bounds a claim.
const claimTimeout = 15 * time.Second

// Connections is what claiming must know of this process's connections to tenants' servers,
// by the server's id. worker/tenantdb's Pools is one. All methods are called within a
// claim, one claim at a time, and must not block.
type Connections interface {
	// SyncAllowance returns how many connections to each server the process has, idle ones
	// included, or its running jobs if those are more, or its former share if jobs still
	// need that. bound says how many connections the process may keep above its running
	// jobs, and whether others wait for them. Connections that are closed for the others
	// count until they are closed; closed is told of each.
	SyncAllowance(running map[string]int, bound func(server string) (keep int, wanted bool), closed func()) map[string]tenantdb.Share
	// RaiseAllowance sets the shares to what was published after since; zero: as before.
	RaiseAllowance(shares map[string]tenantdb.Share, since time.Time)
	// Lapse is how long after that the connections that are not Busy may still be in use,
	// whatever becomes of this process.
	Lapse() time.Duration
	// ResetBreaker says that a job was claimed for a database, although this process may
	// have found that the database, or its server, did not answer.
	ResetBreaker(serverID, databaseID string)
}

// claimer claims for one queue of one process.
type claimer struct {
	pool      *pgxpool.Pool
	queue     string
	lease     *Lease
	gate      *claimGate
	saturated saturated
	groups    int          // of lanes, as of the last snapshot
	yield     float64      // jobs that a turn has brought, a running mean
	busy      bool         // the last claim brought all that it asked for
	slots     int          // of the queue in this process; 0: only River knows
	working   atomic.Int64 // jobs in River's slots
	more      atomic.Bool  // River would not call again by itself, though there may be more
	freed     float64      // slots that became free between River's call and the choice, a running mean
	written   int          // lanes, since low watermarks were raised
	taking    []int64      // rows that the claim under way has tried to take
	leftOut   []int64      // rows that can neither be claimed nor set aside
	turned    bool         // the claim under way has had the turn
	locked    lockedOwners // of the queue, as of when this process looked last
	log       *slog.Logger
}

// claim claims for the token in params.ClientID as many jobs as there are free slots
// when it chooses: params.MaxToLock of them at least, which is what River counted.
func (c *claimer) claim(ctx context.Context, params *riverdriver.JobGetAvailableParams) (*claimBatch, error) {
	began := time.Now()
	b, err := c.tryClaim(ctx, params)
	if ctx.Err() == nil { // a worker that stops says nothing of its claims
		c.gate.stats.note(c.queue, err, c.locked, time.Now())
		if looked := err != nil || b.jobs != nil; looked && c.gate.record != nil { // else it saw that nothing waits
			m := Measured{Queue: c.queue, Took: time.Since(began), Failed: err != nil}
			if err == nil {
				m.Jobs, m.Limit, m.Rate, m.Server = len(b.result.Jobs), b.byLimit, b.byRate, len(b.full) > 0
			}
			c.gate.record(ctx, m)
		}
	}
	return b, err
}

func (c *claimer) tryClaim(ctx context.Context, params *riverdriver.JobGetAvailableParams) (*claimBatch, error) {
	ctx, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	c.gate.turn.Lock()
	defer c.gate.turn.Unlock()
	conn, err := c.connection(ctx)
	if err != nil {
		return nil, fmt.Errorf("claiming jobs: %w", err)
	}
	c.recheckLocked(ctx)
	idle := false
	if heard := c.gate.waker.heard(c.queue); !heard && !c.busy { // a claimer that was woken, or left jobs behind, need not ask
		idle, err = c.idle(ctx, conn)
	}
	if err != nil {
		c.gate.releaseConn()
		if lockedOut(err) || timedOut(ctx) {
			err = errors.Join(c.holders(ctx), err)
		}
	}
	if err != nil || idle {
		return &claimBatch{result: &riverdriver.JobGetAvailableResult{}}, err
	}
	began := time.Now()
	c.lease.inflight.chargeRunning(c.queue, c.lease.inflight.now())
	applied := map[string]adjustment{}
	all, err := c.transact(ctx, conn, params, applied)
	if err != nil {
		c.lease.inflight.restoreAdjustments(c.queue, applied)
		found := c.turned && lockedOut(err) && c.findLockedInTurn(ctx, conn)
		c.gate.releaseConn() // the pool closes one that is in a transaction, and the turn ends with it
		if lockedOut(err) {
			if found {
				return &claimBatch{result: &riverdriver.JobGetAvailableResult{}}, nil
			}
			err = errors.Join(c.holders(ctx), err, endStalled(ctx, c.pool, c.log))
		} else if timedOut(ctx) {
			err = errors.Join(c.holders(ctx), err)
		}
		return c.without(ctx, params, err)
	}
	// The jobs are in flight before the turn is over. This process's claim for another
	// queue would else publish too small a usage, and a limit be exceeded.
	for _, job := range all.jobs {
		job.asked = began
	}
	c.lease.inflight.take(params.ClientID, all.jobs)
	c.working.Add(int64(len(all.result.Jobs)))
	c.busy = len(all.jobs) == all.want
	c.more.Store(c.busy && all.want > params.MaxToLock) // because River counts on exactly as many as it asked for
	c.gate.stats.add(time.Since(began), all.snapshots, len(all.result.Jobs))
	if c.gate.conns != nil {
		for _, job := range all.jobs {
			c.gate.conns.ResetBreaker(job.server, job.database)
		}
	}
	return all, nil
}

// timedOut says that a claim has waited for something until its time was over. Statements
// that are being prepared, and the question of an idle worker, wait without a lock_timeout.
func timedOut(ctx context.Context) bool { return errors.Is(ctx.Err(), context.DeadlineExceeded) }

// idle says that there is nothing to claim and nothing to publish.
func (c *claimer) idle(ctx context.Context, conn *pgx.Conn) (idle bool, err error) {
	var others bool
	if err := conn.QueryRow(ctx, idleSQL, c.queue, c.lease.Incarnation()).Scan(&idle, &others); err != nil {
		return false, fmt.Errorf("looking for jobs: %w", err)
	}
	return idle && !c.mustPublish(others), nil
}

// mustPublish says whether others must learn something from a claim, though its queue is
// empty: limits still count what this process has freed; or others wait while this process
// has idle connections; or what this process has published would lapse, or is not so any
// more. It costs one claim too many each time that a worker falls idle, and one a poll for
// as long as connections stay warm.
func (c *claimer) mustPublish(others bool) bool {
	g := c.gate
	kept := 0
	for _, s := range c.syncAllowance(g.own) {
		kept += s.Conns
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.others = others
	return g.freed || kept < g.kept || others && kept > 0 || len(g.wants[c.queue]) > 0 ||
		g.lapsing > 0 && time.Since(g.at) > renewAfter
}

// renewAfter spares several queues of a process that each of them renews.
const renewAfter = 500 * time.Millisecond

// transact is the claim's transaction. It adds to applied the adjustments that it writes.
func (c *claimer) transact(ctx context.Context, conn *pgx.Conn, params *riverdriver.JobGetAvailableParams, applied map[string]adjustment) (*claimBatch, error) {
	incarnation := c.lease.Incarnation()
	batch, snap := &pgx.Batch{}, &snapshot{}
	c.taking, c.turned = nil, false
	batch.Queue("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE") // what is read is as of after the lock
	queueLock(batch, lockWait, c.gate.lock).Exec(func(pgconn.CommandTag) error {
		c.turned = true
		return nil
	})
	batch.Queue(rowWaitSQL)
	batch.Queue(keepTurnSQL)
	batch.Queue(wakeSQL, c.queue, quantum, headStart, lagTurns, list(c.locked.owners))
	excluded := saturated{databases: c.saturated.databases, owners: c.saturated.owners} // groups that are full now may have capacity by then
	most := c.most(params.MaxToLock + int(c.freed))
	c.queueSnapshot(batch, snap, incarnation, params.Kind, excluded, most)
	if err := conn.SendBatch(ctx, batch).Close(); err != nil {
		return nil, fmt.Errorf("claiming jobs: %w", err)
	}
	c.groups = len(snap.groups)
	c.gate.own = newParts(snap.limits, snap.others)
	allowance := c.syncAllowance(c.gate.own)
	all, waits, full := newClaimBatch(), false, map[string]bool{}
	all.want = c.free(params.MaxToLock)
	batch = &pgx.Batch{}
	if snap.paused {
		if err := c.queueCharges(batch, snap, all, all, c.lease.inflight.takeAdjustments(c.queue, nil, nil, c.locked.owners, applied), nil); err != nil {
			return nil, err
		}
	}
	for pass := 1; !snap.paused; pass++ {
		b, chosen, err := c.pass(ctx, conn, batch, snap, all, allowance, params, applied)
		if err != nil {
			return nil, err
		}
		left := all.want - len(all.jobs)
		waits = left > 0 && (chosen.limited || b.limited || excluded.full())
		maps.Copy(full, chosen.full)
		maps.Copy(full, b.full)
		all.byLimit = all.byLimit || chosen.byLimit || b.byLimit
		all.byRate = all.byRate || len(chosen.throttled) > 0
		if pass == passes || !c.again(b, snap, chosen, excluded, left) {
			break
		}
		most, excluded, snap = 4*most, c.saturated, &snapshot{}
		c.queueSnapshot(batch, snap, incarnation, params.Kind, excluded, most)
		if err := conn.SendBatch(ctx, batch).Close(); err != nil {
			return nil, fmt.Errorf("claiming jobs: %w", err)
		}
		batch, snap.clock = &pgx.Batch{}, max(snap.clock, all.clock)
	}
	if c.lease.suspects.any.Load() && len(all.jobs) > 0 {
		if err := conn.SendBatch(ctx, batch).Close(); err != nil {
			return nil, fmt.Errorf("claiming jobs: %w", err)
		}
		batch = &pgx.Batch{}
		all.gather()
		if err := c.lease.suspects.sift(ctx, conn, params.ClientID, all); err != nil {
			return nil, err
		}
	}
	c.queueMoveClock(batch, snap, all)
	mine := c.usage(snap, all, allowance)
	if c.gate.conns != nil {
		c.grow(mine, all, c.gate.own, allowance)
	}
	c.gate.wants[c.queue], all.full = slices.Sorted(maps.Keys(full)), full
	if err := c.commit(ctx, conn, batch, snap, mine, waits); err != nil {
		return nil, err
	}
	all.gather()
	if all.lockedElsewhere {
		c.gate.noteFreed("") // what was published is too much
	}
	return all, nil
}

// free is how many slots are free now, where River has counted asked of them. Short jobs
// end while a claim looks for others, and most of a claim's cost does not depend on the
// number of jobs.
//
// River never gets more jobs than fit, because a job leaves its slot before we count it
// out. River may have more free slots than we know (a stuck job's), and asks for those.
// Where nobody listens, nobody would be woken for the next claim: then free is what River
// asked for.
func (c *claimer) free(asked int) int {
	now := asked
	if c.slots > 0 && c.gate.waker.listening() {
		now = max(asked, c.slots-int(c.working.Load()))
	}
	c.freed += (float64(now-asked) - c.freed) * 0.2
	return now
}

// pass is one choice from a snapshot. It finds rows, and adds to the batch the statements
// that take them and charge for them.
func (c *claimer) pass(ctx context.Context, conn *pgx.Conn, batch *pgx.Batch, snap *snapshot, all *claimBatch, allowance map[string]tenantdb.Share,
	params *riverdriver.JobGetAvailableParams, applied map[string]adjustment,
) (*claimBatch, choice, error) {
	all.snapshots++
	c.lease.inflight.applyAdjustments(c.queue, snap.candidates, snap.clock-headStart)
	left, mine := all.want-len(all.jobs), c.usage(snap, all, allowance)
	chosen := choose(snap.candidates, newCapacity(c.queue, snap.limits, mine, snap.others, c.gate.own, c.gate.publishedConns), left, quantum)
	rows, err := c.find(ctx, conn, chosen.turns, left, params.Now)
	if err != nil {
		return nil, chosen, err
	}
	b, capacity := newClaimBatch(), newCapacity(c.queue, snap.limits, mine, snap.others, c.gate.own, c.gate.publishedConns)
	b.admit(c.queue, chosen.turns, rows, capacity, left)
	c.saturated = capacity.saturated(snap.candidates, c.saturated, time.Now())
	if n := len(b.billed); n > 0 {
		c.yield += (float64(len(b.jobs))/float64(n) - c.yield) * 0.2
	}
	b.queueTake(batch, params)
	all.append(b)
	c.taking = slices.Sorted(maps.Keys(all.jobs))
	return b, chosen, c.queueCharges(batch, snap, all, b, c.lease.inflight.takeAdjustments(c.queue, b.billed, b.empty, c.locked.owners, applied), chosen.throttled)
}

// again says whether another pass may bring more.
func (c *claimer) again(b *claimBatch, snap *snapshot, chosen choice, excluded saturated, left int) bool {
	switch {
	case left <= 0:
		return false
	case snap.more(c.saturated): // there are lanes that the snapshot did not have
		return true
	case len(b.empty) > 0 && (chosen.limited || b.maybeMore): // what they had been given is free for others
		return true
	}
	return !excluded.within(c.saturated) // something was left out that is open again
}

// most is how many lanes of each group the first snapshot has: twice as many as are needed
// if they have as many jobs as those before.
func (c *claimer) most(want int) int {
	return max(int(2*float64(want)/max(c.yield, 1))/max(c.groups, 1), 2) + 2
}

// syncAllowance fixes what this process keeps of each server besides its running jobs, for
// as long as this claim lasts.
func (c *claimer) syncAllowance(own *parts) map[string]tenantdb.Share {
	if c.gate.conns == nil {
		return nil
	}
	running := map[string]int{}
	for id, s := range c.lease.inflight.usage().Servers {
		running[id] = s.Jobs
	}
	return c.gate.conns.SyncAllowance(running, own.keep, func() { c.gate.noteFreed(c.queue) })
}

// usage is what this process has of the limits, with what this claim has brought so far.
func (c *claimer) usage(snap *snapshot, all *claimBatch, allowance map[string]tenantdb.Share) *usage {
	sum := c.lease.inflight.usage()
	for _, job := range all.jobs {
		sum.run(job.lane)
	}
	for id := range snap.limits.databases {
		sum.Databases[id] = c.lease.inflight.inDatabase(id)
	}
	for _, job := range all.jobs {
		if _, some := snap.limits.databases[job.database]; some {
			sum.Databases[job.database]++
		}
	}
	sum.Session = c.gate.name
	for _, kinds := range sum.Owners {
		for kind := range kinds {
			sum.Linger = max(sum.Linger, int(c.gate.stay[kind].Milliseconds()))
		}
	}
	for id, s := range allowance {
		sum.Servers[id] = serverUsage{Jobs: sum.Servers[id].Jobs + s.Stuck, Conns: s.Conns}
	}
	return sum
}
