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

// quantum is how much worker time an owner is served in one go, in seconds. Short
// jobs of one owner then go several at a time and back to back on one connection,
// for one write of its lane.
const quantum = 0.05

// headStart puts an owner that was idle before all that are at the queue's present
// time, in virtual seconds.
const headStart = 1e-5

// debtTurns is how many turns an owner that rested may be behind the queue's present
// time when it returns. A turn is what one attempt of the lane takes, or a quantum if
// that is more, over the owner's weight. An owner whose attempts cost what they are
// expected to is a turn or two behind when its lane is empty.
const debtTurns = 4

// passes bounds how often one claim looks again, because lanes had fewer jobs than
// they might have.
const passes = 4

// claimTimeout bounds a claim.
const claimTimeout = 15 * time.Second

// Connections is what claiming must know of this process's connections to
// tenants' servers, by the server's id. worker/tenantdb's Pools is one. All
// methods are called within a claim, one claim at a time, and must not block.
type Connections interface {
	// Settle returns how many connections to each server the process has, idle ones
	// included, or its running jobs if they are more, or what it was allowed if it
	// needs that still. bound says how many it may keep above its running jobs, and
	// whether others wait for them; what is closed for that counts until it is, of
	// which closed is told.
	Settle(running map[string]int, bound func(server string) (keep int, wanted bool), closed func()) map[string]tenantdb.Share
	// Allow sets the shares to what was published after since; zero: as before.
	Allow(shares map[string]tenantdb.Share, since time.Time)
	// Lapse is how long after that what is not Busy of them may still be in use,
	// whatever becomes of this process.
	Lapse() time.Duration
	// Trust says that a job was claimed for a database although this process may
	// have found that its server, or it, did not answer.
	Trust(serverID, databaseID string)
}

// claimer claims for one queue of one process.
type claimer struct {
	pool    *pgxpool.Pool
	queue   string
	lease   *Lease
	desk    *desk
	blocks  blocks
	groups  int          // of lanes, as of the last look
	yield   float64      // jobs that a turn has brought, a running mean
	busy    bool         // the last claim brought all that it asked for
	slots   int          // of the queue in this process; 0: only River knows
	working atomic.Int64 // jobs in River's slots
	more    atomic.Bool  // River would not call again by itself, though there may be more
	freed   float64      // slots that became free between River's call and the choice, a running mean
	written int          // lanes, since floors were raised
	taking  []int64      // rows that the claim under way has tried to take
	leftOut []int64      // rows that can neither be claimed nor set aside
	turned  bool         // the claim under way has had the turn
	locked  lockedOwners // of the queue, as of when this process looked last
	log     *slog.Logger
}

// claim claims for the token in params.ClientID as many jobs as there are free slots
// when it chooses: params.MaxToLock of them at least, which is what River counted.
func (c *claimer) claim(ctx context.Context, params *riverdriver.JobGetAvailableParams) (*haul, error) {
	h, err := c.tryClaim(ctx, params)
	if ctx.Err() == nil { // a worker that stops says nothing of its claims
		c.desk.stats.note(c.queue, errors.Join(err, c.locked.why), time.Now())
	}
	return h, err
}

func (c *claimer) tryClaim(ctx context.Context, params *riverdriver.JobGetAvailableParams) (*haul, error) {
	ctx, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	c.desk.turn.Lock()
	defer c.desk.turn.Unlock()
	conn, err := c.connection(ctx)
	if err != nil {
		return nil, fmt.Errorf("claiming jobs: %w", err)
	}
	c.lookAgain(ctx)
	quiet := false
	if heard := c.desk.bell.heard(c.queue); !heard && !c.busy { // who was woken, or left jobs behind, need not ask
		quiet, err = c.quiet(ctx, conn)
	}
	if err != nil {
		c.desk.letGo()
	}
	if err != nil || quiet {
		return &haul{result: &riverdriver.JobGetAvailableResult{}}, err
	}
	began := time.Now()
	c.lease.hand.accrue(c.queue, c.lease.hand.now())
	paid := map[string]owing{}
	all, err := c.transact(ctx, conn, params, paid)
	if err != nil {
		c.lease.hand.restore(c.queue, paid)
		found := c.turned && lockedOut(err) && c.findInTurn(ctx, conn)
		c.desk.letGo() // the pool closes one that is in a transaction, and the turn ends with it
		if lockedOut(err) {
			if found {
				return &haul{result: &riverdriver.JobGetAvailableResult{}}, nil
			}
			err = errors.Join(c.holders(ctx), err, endStalled(ctx, c.pool, c.log))
		}
		return c.without(ctx, params, err)
	}
	// In hand before the turn is over: this process's claim for another queue would
	// else publish that it holds less than it does, and a limit be exceeded.
	c.lease.hand.take(params.ClientID, all.grips)
	c.working.Add(int64(len(all.result.Jobs)))
	c.busy = len(all.grips) == all.want
	c.more.Store(c.busy && all.want > params.MaxToLock) // for River counts on exactly as many as it asked for
	c.desk.stats.add(time.Since(began), all.looks, len(all.result.Jobs))
	if c.desk.conns != nil {
		for _, g := range all.grips {
			c.desk.conns.Trust(g.server, g.database)
		}
	}
	return all, nil
}

// quiet says that there is nothing to claim, and nothing to tell anybody.
func (c *claimer) quiet(ctx context.Context, conn *pgx.Conn) (quiet bool, err error) {
	var others bool
	if err := conn.QueryRow(ctx, quietSQL, c.queue, c.lease.Incarnation()).Scan(&quiet, &others); err != nil {
		return false, fmt.Errorf("looking for jobs: %w", err)
	}
	return quiet && !c.owesNews(others), nil
}

// owesNews says whether limits still count what this process has given back, or
// others wait while it has connections that idle, or what it has published would
// lapse, or is not so any more: nothing keeps anything from a queue that is empty. It
// is one claim too many for each time that a worker falls idle, and one a poll for as
// long as connections stay warm.
func (c *claimer) owesNews(others bool) bool {
	d := c.desk
	kept := 0
	for _, s := range c.settled(d.own) {
		kept += s.Conns
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.others = others
	return d.given || kept < d.kept || others && kept > 0 || len(d.wants[c.queue]) > 0 ||
		d.lapsing > 0 && time.Since(d.at) > renewAfter
}

// renewAfter spares several queues of a process that each of them renews.
const renewAfter = 500 * time.Millisecond

// transact is the claim's transaction. It adds to paid what it writes of debts.
func (c *claimer) transact(ctx context.Context, conn *pgx.Conn, params *riverdriver.JobGetAvailableParams, paid map[string]owing) (*haul, error) {
	incarnation := c.lease.Incarnation()
	batch, v := &pgx.Batch{}, &view{}
	c.taking, c.turned = nil, false
	batch.Queue("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE") // what is read is as of after the lock
	queueLock(batch, lockWait, c.desk.lock).Exec(func(pgconn.CommandTag) error {
		c.turned = true
		return nil
	})
	batch.Queue(rowWaitSQL)
	batch.Queue(keepTurnSQL)
	batch.Queue(wakeSQL, c.queue, quantum, headStart, debtTurns, list(c.locked.owners))
	looked := blocks{databases: c.blocks.databases, owners: c.blocks.owners} // groups that are full now may not be by then
	most := c.most(params.MaxToLock + int(c.freed))
	c.queueLook(batch, v, incarnation, params.Kind, looked, most)
	if err := conn.SendBatch(ctx, batch).Close(); err != nil {
		return nil, fmt.Errorf("claiming jobs: %w", err)
	}
	c.groups = len(v.groups)
	c.desk.own = newParts(v.limits, v.others)
	settled := c.settled(c.desk.own)
	all, waits, full := newHaul(), false, map[string]bool{}
	all.want = c.free(params.MaxToLock)
	batch = &pgx.Batch{}
	if v.paused {
		if err := c.queueSettle(batch, v, all, all, c.lease.hand.pay(c.queue, nil, nil, c.locked.owners, paid), nil); err != nil {
			return nil, err
		}
	}
	for pass := 1; !v.paused; pass++ {
		h, chosen, err := c.pass(ctx, conn, batch, v, all, settled, params, paid)
		if err != nil {
			return nil, err
		}
		left := all.want - len(all.grips)
		waits = left > 0 && (chosen.limited || h.denied || looked.full())
		maps.Copy(full, chosen.full)
		maps.Copy(full, h.full)
		if pass == passes || !c.again(h, v, chosen, looked, left) {
			break
		}
		most, looked, v = 4*most, c.blocks, &view{}
		c.queueLook(batch, v, incarnation, params.Kind, looked, most)
		if err := conn.SendBatch(ctx, batch).Close(); err != nil {
			return nil, fmt.Errorf("claiming jobs: %w", err)
		}
		batch, v.clock = &pgx.Batch{}, max(v.clock, all.clock)
	}
	if c.lease.suspects.any.Load() && len(all.grips) > 0 {
		if err := conn.SendBatch(ctx, batch).Close(); err != nil {
			return nil, fmt.Errorf("claiming jobs: %w", err)
		}
		batch = &pgx.Batch{}
		all.gather()
		if err := c.lease.suspects.sift(ctx, conn, params.ClientID, all); err != nil {
			return nil, err
		}
	}
	c.queueMoveClock(batch, v, all)
	mine := c.holds(v, all, settled)
	if c.desk.conns != nil {
		c.grow(mine, all, c.desk.own, settled)
	}
	c.desk.wants[c.queue] = slices.Sorted(maps.Keys(full))
	if err := c.commit(ctx, conn, batch, v, mine, waits); err != nil {
		return nil, err
	}
	all.gather()
	if all.missed {
		c.desk.gave("") // what was published is too much
	}
	return all, nil
}

// free is how many slots are free now, where River has counted asked of them: short
// jobs end while a claim looks for others, and most of what a claim costs is by the
// claim. River never gets more than fit, for a job leaves its slots before we count it
// out; it may have more free ones than we know (a stuck job's), which it asks for.
// Where nobody would hear the ring for the next claim, it is what River asked for.
func (c *claimer) free(asked int) int {
	now := asked
	if c.slots > 0 && c.desk.bell.heeded() {
		now = max(asked, c.slots-int(c.working.Load()))
	}
	c.freed += (float64(now-asked) - c.freed) * 0.2
	return now
}

// pass is one choice from a view: it finds rows, and adds to the batch that they
// are taken and paid for.
func (c *claimer) pass(ctx context.Context, conn *pgx.Conn, batch *pgx.Batch, v *view, all *haul, settled map[string]tenantdb.Share,
	params *riverdriver.JobGetAvailableParams, paid map[string]owing,
) (*haul, choice, error) {
	all.looks++
	c.lease.hand.charge(c.queue, v.candidates, v.clock-headStart)
	left, mine := all.want-len(all.grips), c.holds(v, all, settled)
	chosen := choose(v.candidates, newRoom(c.queue, v.limits, mine, v.others, c.desk.own, c.desk.places), left, quantum)
	rows, err := c.find(ctx, conn, chosen.turns, left, params.Now)
	if err != nil {
		return nil, chosen, err
	}
	h, room := newHaul(), newRoom(c.queue, v.limits, mine, v.others, c.desk.own, c.desk.places)
	h.admit(c.queue, chosen.turns, rows, room, left)
	c.blocks = room.blocks(v.candidates, c.blocks, time.Now())
	if n := len(h.billed); n > 0 {
		c.yield += (float64(len(h.grips))/float64(n) - c.yield) * 0.2
	}
	h.queueTake(batch, params)
	all.append(h)
	c.taking = slices.Sorted(maps.Keys(all.grips))
	return h, chosen, c.queueSettle(batch, v, all, h, c.lease.hand.pay(c.queue, h.billed, h.empty, c.locked.owners, paid), chosen.dry)
}

// again says whether another pass may bring more.
func (c *claimer) again(h *haul, v *view, chosen choice, looked blocks, left int) bool {
	switch {
	case left <= 0:
		return false
	case v.more(c.blocks): // there are lanes that have not been looked at
		return true
	case len(h.empty) > 0 && (chosen.limited || h.sated): // what they had been given is free for others
		return true
	}
	return !looked.within(c.blocks) // something was left out that is open again
}

// most is how many lanes of each group to look at first: twice as many as are
// needed if they have as many jobs as those before.
func (c *claimer) most(want int) int {
	return max(int(2*float64(want)/max(c.yield, 1))/max(c.groups, 1), 2) + 2
}

// settled is what this process keeps of each server, besides its running jobs,
// for as long as this claim lasts.
func (c *claimer) settled(own *parts) map[string]tenantdb.Share {
	if c.desk.conns == nil {
		return nil
	}
	running := map[string]int{}
	for id, s := range c.lease.hand.holds().Servers {
		running[id] = s.Jobs
	}
	return c.desk.conns.Settle(running, own.keep, func() { c.desk.gave(c.queue) })
}

// holds is what this process holds, with what this claim has brought so far.
func (c *claimer) holds(v *view, all *haul, settled map[string]tenantdb.Share) *hold {
	sum := c.lease.hand.holds()
	for _, g := range all.grips {
		sum.run(g.lane)
	}
	for id := range v.limits.databases {
		sum.Databases[id] = c.lease.hand.inDatabase(id)
	}
	for _, g := range all.grips {
		if _, some := v.limits.databases[g.database]; some {
			sum.Databases[g.database]++
		}
	}
	sum.Session = c.desk.name
	for _, kinds := range sum.Owners {
		for kind := range kinds {
			sum.Linger = max(sum.Linger, int(c.desk.stay[kind].Milliseconds()))
		}
	}
	for id, s := range settled {
		sum.Servers[id] = held{Jobs: sum.Servers[id].Jobs + s.Stuck, Conns: s.Conns}
	}
	return sum
}
