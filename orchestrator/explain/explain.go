package explain

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/queue"
)

// Explanation answers why a job is not running, or what has become of it.
type Explanation struct {
	Job   jobs.Record `json:"job"`
	Facts []Fact      `json:"facts"` // what it waits for, in the order in which that must pass
}

// Fact is one thing that bears on a job or a tenant.
type Fact struct {
	Code  Code       `json:"code"`            // which sentence it is, for programs
	Fact  string     `json:"fact"`            // a sentence without an end
	Since *time.Time `json:"since,omitempty"` // since when, where that is known
	Until *time.Time `json:"until,omitempty"` // until when, or when next, where that is known
	Next  string     `json:"next,omitempty"`  // what can be done about it; "" if nothing needs to be
}

// around is what of a job's life its row does not say itself.
type around struct {
	waits         bool // its row is in a state from which it can be claimed
	deaths        int  // of workers that ran it
	quarantinedAt *time.Time
	attemptedAt   *jobs.Time
	worker        string // that runs it, or ran it last; "" if its incarnation is not known
	host          string
	pid           int
	workerLostAt  *time.Time
	silentSince   *time.Time // the worker's last sign of life, if that was long ago
	lockedBy      string     // who has locked its row; "": nobody
	lane          string     // whose work it is
	before        int        // of the same lane, available, that come first; counted to maxCount
}

const laneOfSQL = `SELECT headgate.lane(metadata) FROM river_job WHERE id = $1`

// aroundSQL reads primary keys, and the rows of the job's lane before it, by the
// index that claims walk.
const aroundSQL = `
SELECT j.state IN ('available', 'scheduled', 'retryable'), coalesce(x.deaths, 0), x.quarantined_at, j.attempted_at,
       coalesce(w.worker, ''), coalesce(w.host, ''), coalesce(w.pid, 0), coalesce(w.reaped_at, w.ended_at), CASE WHEN headgate.silent(w.beat_at, w.dead_after) THEN w.beat_at END, coalesce(headgate.locked_by(j.xmax), ''),
       (SELECT count(*) FROM (
            SELECT FROM river_job o
            WHERE o.state = 'available' AND o.queue = j.queue AND headgate.lane(o.metadata) = $2 AND o.kind = j.kind
              AND (o.priority, o.scheduled_at, o.id) < (j.priority, j.scheduled_at, j.id)
            LIMIT $3) first)
FROM river_job j
LEFT JOIN headgate.suspects x ON x.job_id = j.id
LEFT JOIN headgate.workers w ON w.incarnation = headgate.uuid_or_null(headgate.claim_incarnation(j.attempted_by))
WHERE j.id = $1`

func (s *around) scan(row pgx.Row) error {
	return row.Scan(&s.waits, &s.deaths, &s.quarantinedAt, &s.attemptedAt, &s.worker, &s.host, &s.pid, &s.workerLostAt, &s.silentSince, &s.lockedBy, &s.before)
}

// Explain says why a job is not running: what it waits for, since when, and what
// can be done. It reads the rows by which workers claim, so that it may be a moment
// behind; its cost does not grow with the queue. Of a job
// whose row has left the queue it says how it ended. The error matches
// jobs.ErrUnknownJob.
func (x *Explainer) Explain(ctx context.Context, uid string) (Explanation, error) {
	job, err := x.queue.Job(ctx, uid)
	if err != nil {
		return Explanation{}, err
	}
	if job.Gone {
		return explainGone(job), nil
	}
	var a around
	id, err := x.queue.RowOf(ctx, job.UID)
	if err != nil {
		return Explanation{}, err
	}
	err = x.pool.QueryRow(ctx, laneOfSQL, id).Scan(&a.lane)
	if err == nil {
		s := standing{owner: a.lane, queue: job.Queue, kind: job.Kind}
		err = x.askAll(ctx, []*standing{&s}, func(b *pgx.Batch) { b.Queue(aroundSQL, id, a.lane, maxCount).QueryRow(a.scan) })
		if err == nil {
			return Explanation{Job: job, Facts: explain(job, a, &s)}, nil
		}
	}
	if errors.Is(err, pgx.ErrNoRows) { // it has just left the queue
		if job, err = x.queue.Gone(ctx, job.UID); err == nil {
			return explainGone(job), nil
		}
		return Explanation{}, err
	}
	return Explanation{}, fmt.Errorf("job %s: %w", job.UID, err)
}

// explainGone says how a job ended that the history alone knows.
func explainGone(job jobs.Record) Explanation {
	last := job.Last()
	return Explanation{Job: job, Facts: []Fact{{Code: CodeGone, Since: &last.EndedAt, Next: "enqueue it anew if it is wanted again; the history keeps no arguments",
		Fact: "its row has left the queue; its last attempt " + queue.Ending(*last)}}}
}
