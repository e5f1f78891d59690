package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/claim"
	"github.com/headgate/headgate/worker/internal/fault"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// attempt is one attempt at one job, from its claim to its outcome.
type attempt struct {
	w       *Worker
	kind    *kind
	row     *rivertype.JobRow
	meta    jobs.Meta
	info    jobs.Info
	place   address.Place
	timeout time.Duration

	cancelWanted bool // it was cancelled while its worker could not be reached
	settling     bool // this attempt settles that

	handling *atomic.Bool // while the handler, and none of our own code, is at work

	recovered bool   // the ledger said that it was done before
	trace     string // of a panic
	started   time.Time
}

// handle makes one attempt and leaves its outcome for the completion. What it
// returns tells River what becomes of the row.
func (w *Worker) handle(ctx context.Context, k *kind, row *rivertype.JobRow) error {
	fault.Point(fault.Fetched)
	a := &attempt{w: w, kind: k, row: row, started: time.Now(), handling: &atomic.Bool{}}
	if err := river.MetadataSet(ctx, claim.LeaseKey, claim.Token(row.AttemptedBy)); err != nil {
		return err
	}
	ctx, cancel := w.within(ctx)
	defer cancel()
	err := a.read()
	if err == nil {
		timed, cancel := context.WithTimeoutCause(ctx, a.timeout, &timeoutError{after: a.timeout})
		defer cancel()
		a, err = a.attend(timed)
	}
	end := a.verdict(ctx, err)
	w.judge(ctx, a.place, end)
	outcome := a.outcome(end)
	a.log(ctx, outcome)
	followUps, err := a.followUps(end)
	if err != nil {
		return err
	}
	w.lease.Leave(row, claim.Left{Outcome: &outcome, FollowUps: followUps, Settling: a.settling})
	fault.Point(fault.Ended)
	return end.toRiver()
}

// make does the attempt: resolve, execute.
func (a *attempt) make(ctx context.Context) error {
	if err := a.resolve(ctx); err != nil {
		return err
	}
	fault.Point(fault.Resolved)
	ctx = jobs.WithTraceParent(ctx, a.meta.TraceParent)
	if a.info.Tenant.ID != "" {
		ctx = jobs.WithTenant(ctx, a.info.Tenant.ID)
	}
	if a.cancelWanted {
		return a.settle(ctx)
	}
	err := a.execute(ctx)
	if again, err := a.upgradeIfOlder(ctx, err); !again {
		return err
	}
	return a.execute(ctx)
}

// read takes from the row what the handler and the outcome need.
func (a *attempt) read() error {
	a.info = jobs.Info{
		ID: a.row.ID, Kind: a.row.Kind, Queue: a.row.Queue,
		Attempt: a.row.Attempt, MaxAttempts: a.row.MaxAttempts,
		EnqueuedAt: a.row.CreatedAt, ScheduledAt: a.row.ScheduledAt, Tags: a.row.Tags,
		Result: &jobs.Result{},
	}
	err := json.Unmarshal(a.row.Metadata, &a.meta)
	a.cancelWanted = bytes.Contains(a.row.Metadata, []byte(`"cancel_attempted_at"`))
	if a.meta.UID == "" {
		a.meta.UID = jobs.UIDOfRow(a.row.ID, a.row.CreatedAt)
	}
	a.info.UID, a.info.Schedule = a.meta.UID, a.meta.Schedule
	if a.meta.Nominal != nil {
		a.info.Nominal, a.info.Effective = *a.meta.Nominal, *a.meta.Nominal
	}
	if a.meta.Effective != nil {
		a.info.Effective = *a.meta.Effective
	}
	a.timeout = a.kind.timeout(a.w.cfg.JobTimeout)
	if a.meta.TimeoutMS > 0 {
		a.timeout = time.Duration(a.meta.TimeoutMS) * time.Millisecond
	}
	if err != nil {
		return &badArgsError{kind: a.row.Kind, err: fmt.Errorf("metadata: %w", err)}
	}
	if _, err := uuid.Parse(a.meta.UID); err != nil {
		a.meta.UID = jobs.UIDOfRow(a.row.ID, a.row.CreatedAt)
		return &badArgsError{kind: a.row.Kind, err: errors.New("metadata: job_uid is not a UUID")}
	}
	return nil
}

// resolve asks the catalog where the job runs.
func (a *attempt) resolve(ctx context.Context) (err error) {
	login := a.kind.opts.Login
	if a.kind.opts.Scope == jobs.ScopeDatabase {
		if a.meta.Database == "" {
			return jobs.Cancel(fmt.Errorf("%w: a %s job needs metadata.database", jobs.ErrUnknownDatabase, a.row.Kind))
		}
		a.place, err = a.w.cfg.Resolver.ResolveDatabase(ctx, a.meta.Database, login)
	} else {
		if a.meta.Tenant == "" {
			return jobs.Cancel(fmt.Errorf("%w: a %s job needs metadata.tenant", jobs.ErrNoTenant, a.row.Kind))
		}
		a.info.Tenant, a.place, err = a.w.cfg.Resolver.ResolveTenant(ctx, a.meta.Tenant, login)
	}
	a.info.Database, a.info.Dedicated = a.place.Database, a.place.Dedicated
	if err != nil {
		return &resolveError{err}
	}
	return nil
}

// outcome is the history's record of how the attempt ended.
func (a *attempt) outcome(end verdict) jobs.Outcome {
	o := jobs.Outcome{
		ID: newUID(), JobUID: a.meta.UID, JobID: a.row.ID,
		TenantID: a.meta.Tenant, DatabaseID: a.place.DatabaseID, Kind: a.row.Kind, Attempt: a.row.Attempt,
		State: end.state, Class: end.class, SQLState: end.sqlstate, Message: end.message(), Trace: clean(a.trace, 8<<10),
		Recovered: a.recovered, StartedAt: a.started.UTC(), EndedAt: time.Now().UTC(),
		Schedule: a.meta.Schedule, Worker: a.w.id,
	}
	if o.State == jobs.Succeeded && a.info.Result != nil {
		o.Result = *a.info.Result
		o.Result.Output = clean(o.Result.Output, 64<<10)
	}
	if _, err := uuid.Parse(o.TenantID); err != nil {
		o.TenantID = ""
	}
	return o
}

func newUID() string { return uuid.Must(uuid.NewV7()).String() }

// clean makes text fit for a Postgres column: valid UTF-8, no NUL, bounded.
// One bad byte would otherwise keep the outcomes of a whole group from being
// written.
func clean(s string, limit int) string {
	const mark = "…[cut]"
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit-len(mark)], "") + mark
	}
	return s
}

func (a *attempt) log(ctx context.Context, o jobs.Outcome) {
	if o.State == jobs.Succeeded && !a.w.cfg.Logger.Enabled(ctx, slog.LevelDebug) {
		return
	}
	attrs := []any{
		"tenant", a.info.Tenant.Slug, "database", a.info.Database, "kind", o.Kind, "job_uid", o.JobUID, "job_id", o.JobID,
		"attempt", o.Attempt, "took", o.EndedAt.Sub(o.StartedAt).Round(time.Microsecond).String(),
	}
	if a.meta.Schedule != "" {
		attrs = append(attrs, "schedule", a.meta.Schedule)
	}
	if parts := strings.Split(a.meta.TraceParent, "-"); len(parts) == 4 {
		attrs = append(attrs, "trace_id", parts[1])
	}
	log := a.w.cfg.Logger
	if o.State == jobs.Succeeded {
		log.DebugContext(ctx, "job succeeded", attrs...)
		return
	}
	log.WarnContext(ctx, "job "+string(o.State), append(attrs, "class", o.Class, "error", o.Message)...)
}
