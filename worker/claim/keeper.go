package claim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/jobs/lifecycle"
)

// KeeperConfig is what a Keeper needs. Pool, Lease and Worker are required.
type KeeperConfig struct {
	Pool   *pgxpool.Pool
	Lease  *Lease
	Worker string // the process's name in outcomes
	Kinds  []string
	Queues []string

	// Every is the time between two heartbeats. 0 means
	// 10 seconds.
	Every time.Duration

	// DeadAfter is how long a worker's heartbeat must stand still, under our
	// eyes, before its jobs are given to others. 0 means 30 seconds.
	DeadAfter time.Duration

	// BlameWindow is how long after a death that no suspect explains no other
	// death is blamed on a job: something else is killing workers. 0 means
	// five times DeadAfter.
	BlameWindow time.Duration

	// RescueForeignAfter is how long after its beginning an attempt of another River
	// client counts as left behind. 0 means 1 hour, as for River's own rescuer.
	RescueForeignAfter time.Duration

	// ClockSlack is how long a job may wait because of a clock that jumped, besides
	// one pass. 0 means 10 seconds; it must be longer than River's scheduling
	// interval, 5 seconds. WarnSkew is the difference between this process's clock
	// and the database's that is worth a warning. 0 means 1 second.
	ClockSlack, WarnSkew time.Duration

	// Servers returns what the heartbeat says of the tenants' servers, a JSON
	// object; it is written as it is. nil means that there is nothing to say.
	Servers func() []byte

	// Tell is called once in each pass, for what else the process says of itself while it
	// lives. nil means that there is nothing.
	Tell func(ctx context.Context) error

	// Fenced is called when this process finds that it was declared dead: it
	// must cancel all that is running. It returns when that is under way; then
	// a new incarnation begins.
	Fenced func()

	Logger *slog.Logger // nil means slog.Default()
}

// Keeper keeps one process's incarnation alive, and marks others dead. It is one goroutine:
// a heartbeat, then the steps of a pass, among them a look at all living incarnations and
// the reaping of those whose heartbeat has stood still too long.
//
// No clock but this process's own monotonic one decides that a worker is dead, and only
// while this process itself has been awake: the database's clock may jump, and a process
// that was stopped knows nothing of the others.
type Keeper struct {
	cfg  KeeperConfig
	skew atomic.Int64 // nanoseconds that the database's clock is ahead

	turned, taken atomic.Pointer[time.Time] // when a pass began, and when the database took a heartbeat

	warned   time.Time // of a skew that has not ended
	lastPass time.Time
	passes   int
	sweep    sweeping // where the next pass goes on with a sweep that has not come to its end
	atOnce   int      // jobs of a dead worker to give back in one transaction
	rules    rewriteRules
	seen     map[string]observation // by incarnation
	nameless bool                   // this incarnation is not registered yet
	former   string                 // this process's last incarnation, whose rows it ends itself
	orphans  map[string]bool        // incarnations that are over and had running rows at the last pass

	begun bool // an incarnation was registered, or that was tried
	cycle *lifecycle.Cycle
}

// observation is what a keeper knows of a peer's heartbeat.
type observation struct {
	beats int64
	since time.Time // when we first saw that count
}

// NewKeeper returns a keeper that does nothing until Start.
func NewKeeper(cfg KeeperConfig) *Keeper {
	cfg.Every = cmp.Or(cfg.Every, 10*time.Second)
	cfg.DeadAfter = cmp.Or(cfg.DeadAfter, 30*time.Second)
	cfg.BlameWindow = cmp.Or(cfg.BlameWindow, 5*cfg.DeadAfter)
	cfg.RescueForeignAfter = cmp.Or(cfg.RescueForeignAfter, time.Hour)
	cfg.ClockSlack = cmp.Or(cfg.ClockSlack, 10*time.Second)
	cfg.WarnSkew = cmp.Or(cfg.WarnSkew, time.Second)
	cfg.Logger = cmp.Or(cfg.Logger, slog.Default())
	if cfg.Servers == nil {
		cfg.Servers = func() []byte { return []byte("{}") }
	}
	if cfg.Tell == nil {
		cfg.Tell = func(context.Context) error { return nil }
	}
	rules := bySnapshot
	rules.every = rewriteEvery * cfg.Every
	k := &Keeper{cfg: cfg, seen: map[string]observation{}, rules: rules, atOnce: giveBackAtOnce}
	k.cycle = lifecycle.New(lifecycle.Parts{Name: "the keeper of worker " + cfg.Worker, Begin: k.begin, Loop: k.loop, End: k.end})
	return k
}

// Start registers the incarnation, so that nothing is ever claimed by one that
// nobody watches, and begins to beat. It is an error while the keeper runs; after Stop,
// or a Start that failed, it begins with a new incarnation.
func (k *Keeper) Start(ctx context.Context) error { return k.cycle.Start(ctx) }

func (k *Keeper) begin(ctx context.Context) error {
	if k.begun {
		k.cfg.Lease.Renew() // the last incarnation is over
	}
	k.begun = true
	if err := k.register(ctx); err != nil {
		return err
	}
	// A worker that has just been restarted after a death must know of suspects
	// before its first claim.
	err := k.cfg.Lease.suspects.refresh(ctx, k.cfg.Pool)
	if err != nil {
		signing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_, _ = k.cfg.Pool.Exec(signing, endIncarnationSQL, k.cfg.Lease.Incarnation()) // else others count it as a death
	}
	return err
}

// Drain says that this process claims nothing more: if it dies now, no job is
// blamed.
func (k *Keeper) Drain(ctx context.Context) error {
	_, err := k.cfg.Pool.Exec(ctx, drainSQL, k.cfg.Lease.Incarnation())
	return err
}

// Stop ends the loop and the incarnation. Call it when nothing of the process
// is running any more. It may be called twice, or without a Start.
func (k *Keeper) Stop(ctx context.Context) error { return k.cycle.Stop(ctx) }

func (k *Keeper) end(ctx context.Context) (over bool, err error) {
	if err := k.endAllLate(ctx); err != nil {
		return false, fmt.Errorf("stopping worker %s: %w", k.cfg.Worker, err)
	}
	if _, err := k.cfg.Pool.Exec(ctx, endIncarnationSQL, k.cfg.Lease.Incarnation()); err != nil {
		return false, fmt.Errorf("signing worker %s off: %w", k.cfg.Worker, err)
	}
	return true, nil
}

// Run keeps the incarnation until ctx ends, and stops. It returns nil after that, and an
// error if it cannot start or stop.
func (k *Keeper) Run(ctx context.Context) error { return k.cycle.Run(ctx) }

// Turned returns when the loop last began a pass, and when the central database last took a
// heartbeat. Both are zero before Start. It is safe for concurrent use.
func (k *Keeper) Turned() (turned, taken time.Time) {
	if t := k.turned.Load(); t != nil {
		turned = *t
	}
	if t := k.taken.Load(); t != nil {
		taken = *t
	}
	return turned, taken
}

func (k *Keeper) loop(ctx context.Context) error {
	k.turned.Store(new(time.Now()))
	tick := time.NewTicker(k.cfg.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			k.turned.Store(new(time.Now()))
			if _, err := k.runOnce(ctx, time.Now()); err != nil && ctx.Err() == nil {
				k.cfg.Logger.ErrorContext(ctx, "heartbeat failed; trying again", "worker", k.cfg.Worker, "error", err)
			}
		}
	}
}

// runOnce is one pass: the heartbeat, then each step of the pass. It returns the
// incarnations that it declared dead, and the errors of all steps that failed. One step
// that fails, or waits for somebody else's lock, keeps no other from its work. Each pass
// begins with another step, so that a slow step does not always take the time of the same
// others.
func (k *Keeper) runOnce(ctx context.Context, now time.Time) (reaped []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, max(k.cfg.Every, time.Second))
	defer cancel()
	if k.nameless {
		if err := k.register(ctx); err != nil {
			return nil, err
		}
	}
	alive, err := k.beat(ctx)
	if err != nil {
		return nil, err
	}
	if !alive {
		return nil, k.fence(ctx)
	}
	k.passes++
	steps := []func(context.Context) error{
		func(ctx context.Context) error { return k.cfg.Lease.suspects.refresh(ctx, k.cfg.Pool) },
		func(ctx context.Context) error { _, err := k.putRight(ctx); return err },
		func(ctx context.Context) (err error) { reaped, err = k.reapDead(ctx, now); return err },
		func(ctx context.Context) error { return k.returnUnclaimed(ctx, now) },
		k.returnOrphans,
		func(ctx context.Context) error { return k.cfg.Lease.republish(ctx, k.cfg.Pool) },
		k.endLate, k.cfg.Tell,
		func(ctx context.Context) error { return endStalled(ctx, k.cfg.Pool, k.cfg.Logger) },
		func(ctx context.Context) error { _, err := k.rewrite(ctx); return err },
	}
	due := k.passes <= 2 || k.passes%sweepEvery == 0
	if due || k.sweep != (sweeping{}) {
		steps = append(steps, func(ctx context.Context) error { _, err := k.sweepLanes(ctx); return err })
	}
	if due {
		steps = append(steps, k.rescueForeign)
	}
	var failed []error
	for i := range steps {
		step, cancel := context.WithTimeout(ctx, max(k.cfg.Every/3, time.Second/3))
		failed = append(failed, steps[(k.passes+i)%len(steps)](step))
		cancel()
	}
	return reaped, errors.Join(failed...)
}

// reapDead looks at the peers and reaps the dead.
func (k *Keeper) reapDead(ctx context.Context, now time.Time) (reaped []string, err error) {
	others, err := k.readPeers(ctx)
	if err != nil {
		return nil, err
	}
	var failed []error
	for _, other := range k.findDead(now, others) {
		ok, err := k.reap(ctx, other)
		if failed = append(failed, err); ok {
			reaped = append(reaped, other.incarnation)
		}
	}
	return reaped, errors.Join(failed...)
}

// peer is another incarnation, as its row stands.
type peer struct {
	incarnation string
	worker      string
	beats       int64
}

// findDead returns the peers whose heartbeat has stood still for DeadAfter while this
// process was watching. It forgets all observations if this process has itself been away.
func (k *Keeper) findDead(now time.Time, others []peer) (dead []peer) {
	if now.Sub(k.lastPass) > 2*k.cfg.Every+time.Second {
		clear(k.seen)
	}
	k.lastPass = now
	seen := make(map[string]observation, len(others))
	for _, other := range others {
		s, known := k.seen[other.incarnation]
		if !known || s.beats != other.beats {
			s = observation{beats: other.beats, since: now}
		}
		seen[other.incarnation] = s
		if now.Sub(s.since) >= k.cfg.DeadAfter {
			dead = append(dead, other)
		}
	}
	k.seen = seen
	return dead
}

const registerSQL = `
INSERT INTO headgate.workers (incarnation, worker, host, pid, kinds, queues, dead_after, marks_ends) VALUES ($1, $2, $3, $4, $5, $6, $7, true)
ON CONFLICT (incarnation) DO NOTHING`

func (k *Keeper) register(ctx context.Context) error {
	host, _ := os.Hostname() // "" where there is none
	_, err := k.cfg.Pool.Exec(ctx, registerSQL, k.cfg.Lease.Incarnation(), k.cfg.Worker, host, os.Getpid(), k.cfg.Kinds, k.cfg.Queues, k.cfg.DeadAfter)
	if err != nil {
		return fmt.Errorf("registering worker %s: %w", k.cfg.Worker, err)
	}
	k.nameless = false
	k.taken.Store(new(time.Now()))
	return nil
}

// beatSQL finds no row if the incarnation was declared dead.
const beatSQL = `
UPDATE headgate.workers SET beats = beats + 1, beat_at = now(), servers = $2, claims = $3 WHERE incarnation = $1 AND reaped_at IS NULL
RETURNING clock_timestamp()`

func (k *Keeper) beat(ctx context.Context) (alive bool, err error) {
	var now time.Time
	before := time.Now()
	err = k.cfg.Pool.QueryRow(ctx, beatSQL, k.cfg.Lease.Incarnation(), k.cfg.Servers(), k.cfg.Lease.Stats()).Scan(&now)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("beating: %w", err)
	}
	k.taken.Store(&before)
	k.noteSkew(ctx, now, before, time.Now())
	return true, nil
}

// fence ends what was running under an incarnation that others have declared dead, and
// begins a new one. What still comes from the old incarnation is refused by its token.
func (k *Keeper) fence(ctx context.Context) error {
	old := k.cfg.Lease.Incarnation()
	k.former = old
	k.cfg.Fenced()
	k.cfg.Lease.Renew()
	k.nameless = true // until register has succeeded, now or at a later pass
	k.cfg.Logger.WarnContext(ctx, "this worker was declared dead while it slept; its jobs went to others and were cancelled here",
		"worker", k.cfg.Worker, "incarnation", old)
	return k.register(ctx)
}

const peersSQL = `
SELECT incarnation::text, worker, beats FROM headgate.living_workers
WHERE incarnation <> $1`

func (k *Keeper) readPeers(ctx context.Context) ([]peer, error) {
	rows, err := k.cfg.Pool.Query(ctx, peersSQL, k.cfg.Lease.Incarnation())
	if err != nil {
		return nil, fmt.Errorf("looking at the other workers: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (l peer, err error) {
		err = row.Scan(&l.incarnation, &l.worker, &l.beats)
		return l, err
	})
}

const drainSQL = `UPDATE headgate.workers SET draining = true WHERE incarnation = $1`

const endIncarnationSQL = `UPDATE headgate.workers SET ended_at = now() WHERE incarnation = $1 AND reaped_at IS NULL`
