package pages

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/wire"
)

// shownJob is a job as River's UI reads it. A field that is not here is not shown.
type shownJob struct {
	ID          int64      `json:"id"`
	Args        string     `json:"args"`
	Attempt     int        `json:"attempt"`
	AttemptedAt *time.Time `json:"attempted_at"`
	AttemptedBy []string   `json:"attempted_by"`
	CreatedAt   time.Time  `json:"created_at"`
	FinalizedAt *time.Time `json:"finalized_at"`
	Kind        string     `json:"kind"`
	MaxAttempts int        `json:"max_attempts"`
	Priority    int        `json:"priority"`
	Queue       string     `json:"queue"`
	ScheduledAt time.Time  `json:"scheduled_at"`
	State       string     `json:"state"`
	Tags        []string   `json:"tags"`
}

type shownError struct {
	At      time.Time `json:"at"`
	Attempt int       `json:"attempt"`
	Error   string    `json:"error"`
	Trace   string    `json:"trace"`
}

// hidden stands where a value is left out.
const hidden = "…"

// jobs lists jobs: without the values of their arguments, unless all is shown.
func (u *riverUI) jobs(w http.ResponseWriter, r *http.Request) {
	var list struct {
		Data []*shownJob `json:"data"`
	}
	u.rewritten(w, bound(r), &list, func(context.Context) error {
		for _, job := range list.Data {
			u.redact(job)
		}
		return nil
	})
}

// job shows one job. Of each error the class is told, as the history has it; the text is what
// a handler or a driver has said, and may hold anything.
func (u *riverUI) job(w http.ResponseWriter, r *http.Request) {
	var job struct {
		shownJob
		Errors   []shownError    `json:"errors"`
		Metadata json.RawMessage `json:"metadata"`
	}
	u.rewritten(w, r, &job, func(ctx context.Context) error {
		u.redact(&job.shownJob)
		meta, _ := wire.ReadMeta(job.Metadata, job.ID, job.CreatedAt)
		job.Metadata = shownMeta(job.Metadata, meta)
		if u.full || len(job.Errors) == 0 {
			return nil
		}
		record, err := u.central.Client.Job(ctx, meta.UID)
		if err != nil {
			return err
		}
		for i := range job.Errors {
			job.Errors[i].Error, job.Errors[i].Trace = says(job.Errors[i].Attempt, record), ""
		}
		return nil
	})
}

// says is what is told of an attempt's error instead of its text.
func says(attempt int, of jobs.Record) string {
	for _, o := range slices.Backward(of.Attempts) {
		if o.Attempt != attempt || o.Class == "" {
			continue
		}
		code := ""
		if o.SQLState != "" {
			code = ", SQLSTATE " + o.SQLState
		}
		return fmt.Sprintf("%s%s: headgate job show %s prints the text", o.Class, code, of.UID)
	}
	return fmt.Sprintf("not shown here: headgate job show %s prints what the history has", of.UID)
}

// tombstones are the kinds whose arguments hold the token of a claim.
var tombstones = []string{wire.Tombstone{}.Kind(), wire.DatabaseTombstone{}.Kind()}

// redact takes out of a job what is nobody's to see: the tokens of its leases always, the
// values of its arguments unless all is shown. Those of a tombstone name a lease.
func (u *riverUI) redact(job *shownJob) {
	for i, token := range job.AttemptedBy {
		if incarnation, _, ours := strings.Cut(token, ":"); ours && wire.IsUID(incarnation) {
			job.AttemptedBy[i] = "worker " + incarnation[:8]
		}
	}
	if !u.full || slices.Contains(tombstones, job.Kind) {
		job.Args = namesOnly(job.Args)
	}
}

// namesOnly is JSON with its top-level names, and none of its values.
func namesOnly(args string) string {
	var named map[string]json.RawMessage
	if json.Unmarshal([]byte(args), &named) != nil || named == nil {
		return `"` + hidden + `"`
	}
	shown := make(map[string]string, len(named))
	for name := range named {
		shown[name] = hidden
	}
	text, _ := json.Marshal(shown) // never fails
	return string(text)
}

// shownKeys are the metadata of Headgate's that are shown. The context of traces is not.
var shownKeys = []string{
	"job_uid", "tenant", "database", "timeout_ms", "schedule", "nominal", "effective", "parent", "rerun_of", "cancel_request", "tombstone_uid", "held", "open_since",
}

// shownMeta is of the metadata that Headgate writes what shownKeys has, and what River itself
// knows of the row. Anything else may be an attempt's output, and is left out.
func shownMeta(raw json.RawMessage, meta wire.Meta) json.RawMessage {
	text, _ := json.Marshal(meta) // never fails
	var ours, all map[string]json.RawMessage
	_ = json.Unmarshal(text, &ours) // it was just written
	shown := map[string]json.RawMessage{}
	for _, key := range shownKeys {
		if value, there := ours[key]; there {
			shown[key] = value
		}
	}
	if json.Unmarshal(raw, &all) == nil {
		var at time.Time
		if value, there := all["cancel_attempted_at"]; there && json.Unmarshal(value, &at) == nil {
			shown["cancel_attempted_at"] = value
		}
		var n int
		if value, there := all["snoozes"]; there && json.Unmarshal(value, &n) == nil {
			shown["snoozes"] = value
		}
	}
	text, _ = json.Marshal(shown) // never fails
	return text
}

// shownQueue is a queue as River's UI reads it.
type shownQueue struct {
	CountAvailable int             `json:"count_available"`
	CountRunning   int             `json:"count_running"`
	CreatedAt      time.Time       `json:"created_at"`
	Concurrency    json.RawMessage `json:"concurrency"`
	Name           string          `json:"name"`
	PausedAt       *time.Time      `json:"paused_at"`
	UpdatedAt      time.Time       `json:"updated_at"`
}

// queues lists queues. A pause of headgate pause is one, too.
func (u *riverUI) queues(w http.ResponseWriter, r *http.Request) {
	var list struct {
		Data []*shownQueue `json:"data"`
	}
	u.rewritten(w, r, &list, func(ctx context.Context) error { return u.pausedToo(ctx, list.Data) })
}

func (u *riverUI) queue(w http.ResponseWriter, r *http.Request) {
	var queue shownQueue
	u.rewritten(w, r, &queue, func(ctx context.Context) error { return u.pausedToo(ctx, []*shownQueue{&queue}) })
}

// pausesOfQueuesSQL finds pauses of headgate pause by primary key.
const pausesOfQueuesSQL = `
SELECT p.target, p.since FROM headgate.all_pauses p WHERE p.scope = 'queue' AND p.target = ANY ($1::text[]) AND NOT p.in_river`

func (u *riverUI) pausedToo(ctx context.Context, queues []*shownQueue) error {
	names := make([]string, len(queues))
	for i, queue := range queues {
		names[i] = queue.Name
	}
	rows, err := u.pool.Query(ctx, pausesOfQueuesSQL, names)
	if err != nil {
		return err
	}
	paused := map[string]time.Time{}
	var name string
	var since time.Time
	if _, err := pgx.ForEachRow(rows, []any{&name, &since}, func() error { paused[name] = since; return nil }); err != nil {
		return err
	}
	for _, queue := range queues {
		if at, is := paused[queue.Name]; is && queue.PausedAt == nil {
			queue.PausedAt = &at
		}
	}
	return nil
}

// rewritten gives River's answer as into and rewrite make it. An answer that does not fit into
// is not given, because nobody knows what it holds.
func (u *riverUI) rewritten(w http.ResponseWriter, r *http.Request, into any, rewrite func(ctx context.Context) error) {
	u.limited(w, r, func(a *answer, r *http.Request) {
		if u.ask(a, r); a.code != 0 && a.code != http.StatusOK {
			return
		}
		err := json.Unmarshal(a.body, into)
		if err == nil {
			err = rewrite(r.Context())
		}
		if err == nil {
			if a.body, err = json.Marshal(into); err == nil {
				return
			}
		}
		if *a = *newAnswer(); r.Context().Err() != nil {
			u.tooLong(a, r)
			return
		}
		u.failed(a, r, fmt.Errorf("reading what River answers: %w", err))
	})
}
