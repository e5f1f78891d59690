package explain

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/central"
)

// WorkerStatus is one life of a worker process, from its start to its end.
type WorkerStatus struct {
	Incarnation string       `json:"incarnation"` // UUID; a process that was declared dead and woke has a new one
	Name        string       `json:"worker"`
	Host        string       `json:"host"`
	PID         int          `json:"pid"`
	State       WorkerState  `json:"state"`
	Kinds       []string     `json:"kinds"`
	Queues      []string     `json:"queues"`
	Running     *int         `json:"running"` // jobs in hand; nil: RunningUnknown says why
	StartedAt   time.Time    `json:"started_at"`
	BeatAt      time.Time    `json:"beat_at"` // its last sign of life
	ReapedAt    *time.Time   `json:"reaped_at,omitempty"`
	EndedAt     *time.Time   `json:"ended_at,omitempty"`
	Claims      WorkerClaims `json:"claims"`

	// RunningUnknown says who has locked the queue, so that nobody can count the jobs.
	RunningUnknown string `json:"running_unknown,omitempty"`
}

// WorkerClaims is how a worker's claims went between its last two heartbeats.
// Polls that found nothing to do are not counted.
type WorkerClaims struct {
	Claims int
	Jobs   int

	// How long a claim took, its wait for its turn included. JSON has milliseconds.
	P50, P99, Max time.Duration

	// Failing has each queue whose claims have failed since the last that did not.
	Failing []ClaimsFailing
}

// workerClaims is how a heartbeat writes them, and JSON shows them.
type workerClaims struct {
	Claims  int             `json:"claims"`
	Jobs    int             `json:"jobs"`
	P50     float64         `json:"p50_ms"`
	P99     float64         `json:"p99_ms"`
	Max     float64         `json:"max_ms"`
	Failing []ClaimsFailing `json:"failing,omitempty"`
}

// MarshalJSON writes durations in milliseconds.
func (c WorkerClaims) MarshalJSON() ([]byte, error) {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return json.Marshal(workerClaims{c.Claims, c.Jobs, ms(c.P50), ms(c.P99), ms(c.Max), c.Failing})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (c *WorkerClaims) UnmarshalJSON(text []byte) error {
	var w workerClaims
	if err := json.Unmarshal(text, &w); err != nil {
		return err
	}
	ms := func(n float64) time.Duration {
		return time.Duration(n * float64(time.Millisecond)).Round(time.Microsecond)
	}
	*c = WorkerClaims{w.Claims, w.Jobs, ms(w.P50), ms(w.P99), ms(w.Max), w.Failing}
	return nil
}

// ClaimsFailing says since when a worker's claims for one queue fail.
type ClaimsFailing struct {
	Queue string    `json:"queue"`
	Since time.Time `json:"since"` // by the worker's clock
	Times int       `json:"times"` // in a row
	Error string    `json:"error"` // the last one's

	// Owners are the ids of those whose jobs alone wait; none: all wait.
	Owners []string `json:"owners,omitempty"`
}

// concerns says that the jobs of an owner wait for it.
func (f ClaimsFailing) concerns(owner string) bool {
	return len(f.Owners) == 0 || slices.Contains(f.Owners, owner)
}

// Lasts says that it is more than a claim that was unlucky.
func (f ClaimsFailing) Lasts() bool { return f.Times >= 3 }

// WorkerState says what can be expected of a worker.
type WorkerState string

// The states of a worker.
const (
	WorkerAlive    WorkerState = "alive"    // claims and runs jobs
	WorkerSilent   WorkerState = "silent"   // has given no sign of life for longer than its DeadAfter, and nobody has declared it dead
	WorkerDraining WorkerState = "draining" // ends what it has, claims nothing
	WorkerStopped  WorkerState = "stopped"  // ended in order
	WorkerLost     WorkerState = "lost"     // declared dead; its jobs went to others
)

const listWorkers = `
SELECT w.incarnation::text, w.worker, w.host, w.pid,
       CASE WHEN w.reaped_at IS NOT NULL THEN 'lost' WHEN w.ended_at IS NOT NULL THEN 'stopped' WHEN headgate.silent(w.beat_at, w.dead_after) THEN 'silent' WHEN w.draining THEN 'draining' ELSE 'alive' END,
       w.kinds, w.queues, NULL::int, w.started_at, w.beat_at, w.reaped_at, w.ended_at, w.claims, ''
FROM headgate.workers w
WHERE coalesce(w.reaped_at, w.ended_at, 'infinity') < $1
   OR coalesce(w.reaped_at, w.ended_at, 'infinity') = $1 AND (w.worker, w.started_at, w.incarnation::text) > ($2, $3, $4)
ORDER BY coalesce(w.reaped_at, w.ended_at, 'infinity') DESC, w.worker, w.started_at, w.incarnation::text
LIMIT $5`

// countRunningSQL is apart from listWorkers, because the workers are told also where
// somebody has locked the queue.
const countRunningSQL = `
SELECT headgate.claim_incarnation(attempted_by), count(*) FROM river_job
WHERE state = 'running' AND headgate.claim_incarnation(attempted_by) = ANY ($1::text[])
GROUP BY 1`

// Workers lists the workers, those alive and silent first, then those of the last
// seven days: 200, or up to 10,000 a page. next is the After of the page behind it, or
// "". A worker is silent by the database's clock. One that ends between two pages may
// be in both. Where somebody has locked the queue, Running is nil.
func (x *Explainer) Workers(ctx context.Context, page jobs.Page) (list []WorkerStatus, next string, err error) {
	size, err := page.Size(200, 10_000)
	if err != nil {
		return nil, "", fmt.Errorf("listing workers: %w", err)
	}
	place, err := parseWorkerPlace(page)
	if err != nil {
		return nil, "", fmt.Errorf("listing workers: %w", err)
	}
	rows, err := x.pool.Query(ctx, listWorkers, place.ended, place.name, place.started, place.incarnation, size+1)
	if err != nil {
		return nil, "", fmt.Errorf("listing workers: %w", err)
	}
	list, err = pgx.CollectRows(rows, pgx.RowToStructByPos[WorkerStatus])
	if err != nil {
		return nil, "", fmt.Errorf("listing workers: %w", err)
	}
	list, next = jobs.CutPage(list, size, WorkerStatus.after)
	if err := x.countRunning(ctx, list); err != nil {
		return nil, "", fmt.Errorf("listing workers: counting their jobs: %w", err)
	}
	return list, next, nil
}

// countRunning fills in how many jobs each worker has, or why nobody can say.
func (x *Explainer) countRunning(ctx context.Context, list []WorkerStatus) error {
	places := make(map[string]*WorkerStatus, len(list))
	for i := range list {
		places[list[i].Incarnation] = &list[i]
		list[i].Running = new(int)
	}
	rows, _ := x.pool.Query(ctx, countRunningSQL, slices.Collect(maps.Keys(places))) // its error is ForEachRow's too
	var incarnation string
	var running int
	_, err := pgx.ForEachRow(rows, []any{&incarnation, &running}, func() error {
		*places[incarnation].Running = running
		return nil
	})
	if !central.IsLockTimeout(err) {
		return err
	}
	why := x.saysWhoLocks(ctx, err).Error()
	for i := range list {
		list[i].Running, list[i].RunningUnknown = nil, why
	}
	return nil
}

// workerPlace is a place in the list of workers.
type workerPlace struct {
	ended             pgtype.Timestamptz // infinity: lives
	started           time.Time
	incarnation, name string
}

// after is the worker's place; parseWorkerPlace reads it.
func (w WorkerStatus) after() string {
	ended := ""
	if at := cmp.Or(w.ReapedAt, w.EndedAt); at != nil {
		ended = strconv.FormatInt(at.UnixMicro(), 10)
	}
	return fmt.Sprintf("%s %d %s %s", ended, w.StartedAt.UnixMicro(), w.Incarnation, w.Name)
}

func parseWorkerPlace(page jobs.Page) (place workerPlace, err error) {
	if page.After == "" { // before all who live
		return workerPlace{ended: pgtype.Timestamptz{InfinityModifier: pgtype.Infinity, Valid: true}}, nil
	}
	parts := strings.SplitN(page.After, " ", 4)
	if len(parts) != 4 {
		return place, page.Unknown()
	}
	place = workerPlace{ended: pgtype.Timestamptz{InfinityModifier: pgtype.Infinity, Valid: true}, incarnation: parts[2], name: parts[3]}
	started, err := strconv.ParseInt(parts[1], 10, 64)
	if err == nil && parts[0] != "" {
		var ended int64
		ended, err = strconv.ParseInt(parts[0], 10, 64)
		place.ended = pgtype.Timestamptz{Time: time.UnixMicro(ended), Valid: true}
	}
	if err != nil {
		return place, page.Unknown()
	}
	place.started = time.UnixMicro(started)
	return place, nil
}
