package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

// Explanation answers why a job is not running, or what has become of it.
type Explanation struct {
	Job   Job    `json:"job"`   // only its UID and attempts once its row has left the queue
	Facts []Fact `json:"facts"` // what it waits for, the plainest first
}

// Fact is one thing that bears on a job.
type Fact struct {
	Fact  string     `json:"fact"`            // a sentence without an end
	Since *time.Time `json:"since,omitempty"` // since when, where that is known
	Next  string     `json:"next,omitempty"`  // what can be done about it; "" if nothing needs to be
}

// around is what a job's row does not say itself.
type around struct {
	now           time.Time
	zone          string // the tenant's
	tenantStatus  string // "" for a job of scope database, or a tenant that is gone
	server        string
	serverState   string
	queuePausedAt *time.Time
	deaths        int // of workers that ran it
	quarantinedAt *time.Time
	attemptedAt   *time.Time
	worker        string // that runs it, or ran it last; "" if its incarnation is not known
	host          string
	pid           int
	beatAt        *time.Time
	workerLostAt  *time.Time
	workers       workerCounts
	before        int // available jobs of its queue that come first, counted to maxBefore
}

// workerCounts are of workers alive.
type workerCounts struct {
	alive   int
	taking  int // not draining
	knowing int // of those taking, the ones that know the kind
	working int // ... that work the queue
	fit     int // ... both
}

const maxBefore = 1000

// selectAround reads primary keys, the workers alive, and the beginning of the
// queue up to the job.
const selectAround = `
SELECT clock_timestamp(), coalesce(t.timezone, 'UTC'), coalesce(t.status, ''), coalesce(s.name, ''), coalesce(s.state, ''), q.paused_at,
       coalesce(x.deaths, 0), x.quarantined_at, j.attempted_at,
       coalesce(w.worker, ''), coalesce(w.host, ''), coalesce(w.pid, 0), w.beat_at, coalesce(w.reaped_at, w.ended_at),
       a.alive, a.taking, a.knowing, a.working, a.fit, b.before
FROM river_job j
LEFT JOIN headgate.tenants t
    ON t.id = CASE WHEN j.metadata->>'tenant' ~ '^[0-9a-f-]{36}$' THEN (j.metadata->>'tenant')::uuid END
LEFT JOIN headgate.databases d
    ON d.id = coalesce(CASE WHEN j.metadata->>'database' ~ '^[0-9a-f-]{36}$' THEN (j.metadata->>'database')::uuid END, t.database_id)
LEFT JOIN headgate.servers s ON s.id = d.server_id
LEFT JOIN river_queue q ON q.name = j.queue
LEFT JOIN headgate.suspects x ON x.job_id = j.id
LEFT JOIN headgate.workers w ON w.incarnation::text = split_part(j.attempted_by[array_upper(j.attempted_by, 1)], ':', 1)
CROSS JOIN LATERAL (
    SELECT count(*) AS alive,
           count(*) FILTER (WHERE NOT draining) AS taking,
           count(*) FILTER (WHERE NOT draining AND j.kind = ANY (kinds)) AS knowing,
           count(*) FILTER (WHERE NOT draining AND j.queue = ANY (queues)) AS working,
           count(*) FILTER (WHERE NOT draining AND j.kind = ANY (kinds) AND j.queue = ANY (queues)) AS fit
    FROM headgate.workers WHERE reaped_at IS NULL AND ended_at IS NULL
) a
CROSS JOIN LATERAL (
    SELECT count(*) AS before FROM (
        SELECT FROM river_job o
        WHERE o.state = 'available' AND o.queue = j.queue AND (o.priority, o.scheduled_at, o.id) < (j.priority, j.scheduled_at, j.id)
        LIMIT $2
    ) first
) b
WHERE j.id = $1`

// Explain says why a job is not running: what it waits for, since when, and what
// can be done. It reads rows only, so that it may be a moment behind. Of a job
// whose row has left the queue it says how it ended. The error matches
// ErrUnknownJob.
func (c *Client) Explain(ctx context.Context, uidOrID string) (Explanation, error) {
	job, err := c.Job(ctx, uidOrID)
	if errors.Is(err, ErrUnknownJob) {
		return c.explainGone(ctx, uidOrID, err)
	}
	if err != nil {
		return Explanation{}, err
	}
	var s around
	err = c.pool.QueryRow(ctx, selectAround, job.ID, maxBefore).Scan(&s.now, &s.zone, &s.tenantStatus, &s.server, &s.serverState, &s.queuePausedAt,
		&s.deaths, &s.quarantinedAt, &s.attemptedAt, &s.worker, &s.host, &s.pid, &s.beatAt, &s.workerLostAt,
		&s.workers.alive, &s.workers.taking, &s.workers.knowing, &s.workers.working, &s.workers.fit, &s.before)
	if errors.Is(err, pgx.ErrNoRows) {
		return c.explainGone(ctx, job.UID, ErrUnknownJob)
	}
	if err != nil {
		return Explanation{}, fmt.Errorf("explaining job %s: %w", job.UID, err)
	}
	return Explanation{Job: job, Facts: explain(job, s)}, nil
}

// explainGone knows a job by its history, if by anything.
func (c *Client) explainGone(ctx context.Context, uid string, unknown error) (Explanation, error) {
	name, err := parseJobName(uid)
	if err != nil || name.id != 0 {
		return Explanation{}, unknown
	}
	attempts, err := c.Attempts(ctx, name.uid)
	if err != nil {
		return Explanation{}, err
	}
	if len(attempts) == 0 {
		return Explanation{}, unknown
	}
	last := attempts[len(attempts)-1]
	fact := fmt.Sprintf("its row has left the queue; its last attempt %s", ending(last))
	e := Explanation{Job: Job{UID: name.uid, Kind: last.Kind, Attempts: attempts, Attempt: last.Attempt}}
	e.Facts = []Fact{{Fact: fact, Since: &last.EndedAt, Next: "enqueue it anew if it is wanted again; the history keeps no arguments"}}
	return e, nil
}

// ending says how an attempt ended, after "its last attempt".
func ending(o jobs.Outcome) string {
	text := "was " + string(o.State)
	switch o.State {
	case jobs.Succeeded, jobs.Failed:
		text = string(o.State)
	}
	switch {
	case o.Class != "" && o.Message != "":
		return fmt.Sprintf("%s (%s: %s)", text, o.Class, o.Message)
	case o.Class != "" || o.Message != "":
		return fmt.Sprintf("%s (%s%s)", text, o.Class, o.Message)
	}
	return text
}
