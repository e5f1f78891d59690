package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/telemetry"
	"github.com/headgate/headgate/jobs/wire"
	"github.com/headgate/headgate/worker/claim"
	"github.com/headgate/headgate/worker/internal/fault"
	"github.com/headgate/headgate/worker/tenantdb"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// attempt is one attempt at one job, from its claim to its outcome.
type attempt struct {
	w       *Worker
	kind    *kind
	row     *rivertype.JobRow
	meta    wire.Meta
	info    jobs.Info
	place   address.Place
	timeout time.Duration

	settling bool // it was cancelled, and this attempt does no work but asks the ledger (settle.go)
	asked    bool // the ledger has said that the work was not done before
	open     bool // what was sent may yet commit
	stopped  bool // its ledger has a tombstone

	handling *atomic.Bool             // while the handler, and none of our own code, is at work
	resolved *atomic.Pointer[whereTo] // once that is known
	called   bool                     // the handler, or its middleware, has begun
	passedBy bool                     // the handler was never called: its arguments did not fit, or middleware has not
	wanted   bool                     // somebody has cancelled it; read once, so that two rules see one fact
	replica  bool                     // it reads from a replica, and says nothing about the primary
	unproven bool                     // its class says something of the server that the worker's own probe does not find

	conn *tenantdb.Conn // while it has one
	log  *jobLog        // since its handler began

	features *featureReads // that its handler has asked for

	following []wire.FollowUp // what the handler has asked for

	recovered bool   // the ledger said that it was done before
	stack     string // of a panic
	started   time.Time
	span      telemetry.Process
}

// handle makes one attempt and leaves its outcome for the completion. What it
// returns tells River what becomes of the row.
func (w *Worker) handle(ctx context.Context, k *kind, row *rivertype.JobRow) error {
	fault.Point(fault.Fetched)
	a := &attempt{w: w, kind: k, row: row, started: time.Now(), handling: &atomic.Bool{}, resolved: &atomic.Pointer[whereTo]{}, features: &featureReads{}}
	if err := river.MetadataSet(ctx, claim.LeaseKey, claim.Token(row.AttemptedBy)); err != nil {
		return err
	}
	ctx, cancel := w.within(ctx)
	defer cancel()
	err := a.read()
	ctx = a.trace(ctx)
	if err == nil {
		timed, cancel := context.WithTimeoutCause(ctx, a.timeout, &timeoutError{after: a.timeout})
		defer cancel()
		a, err = a.runWithGrace(timed)
	}
	err = a.conclude(ctx, err)
	end := a.disposition(ctx, err)
	if a.kind.form != noConn && !a.unproven && !a.replica { // which never speaks about a database, or about its primary
		w.updateBreaker(ctx, a.place, end)
	}
	if end.held != nil || a.meta.Held != nil {
		if err := river.MetadataSet(ctx, heldKey, end.held); err != nil {
			return err
		}
	}
	outcome := a.outcome(end)
	a.logEnd(ctx, outcome)
	a.tell(ctx, end, outcome)
	a.measure(ctx, outcome)
	followUps, err := a.followUps(ctx, end)
	if err == nil {
		err = a.note(ctx, end)
	}
	if err == nil {
		err = a.traceEnd(ctx, outcome)
	}
	if err != nil {
		return err
	}
	w.lease.SetCompletion(row, claim.Completion{
		Outcome: &outcome, FollowUps: followUps, Log: a.log.take(), Settling: !a.closed(), Again: end.wait, AlreadyRecorded: end.repeats(a.called),
		Written: func() { a.written(outcome.EndedAt) },
	})
	fault.Point(fault.Ended)
	return end.toRiver()
}

// run does the attempt: resolve, execute.
func (a *attempt) run(ctx context.Context) error {
	if err := a.resolve(ctx); err != nil {
		return err
	}
	fault.Point(fault.Resolved)
	if a.info.Tenant.ID != "" {
		ctx = jobs.WithTenant(ctx, a.info.Tenant.ID)
	}
	work := a.execute
	if a.settling {
		work = a.settle
	}
	err := work(ctx)
	if again, err := a.upgradeIfOlder(ctx, err); !again {
		return err
	}
	return work(ctx)
}

// read takes from the row what the handler and the outcome need.
func (a *attempt) read() error {
	a.info = jobs.Info{
		Kind: a.row.Kind, Queue: a.row.Queue,
		Attempt: a.row.Attempt, MaxAttempts: a.row.MaxAttempts,
		EnqueuedAt: a.row.CreatedAt, ScheduledAt: a.row.ScheduledAt, Tags: a.row.Tags,
		Result: &jobs.Result{}, Follow: a.follow,
	}
	var err error
	a.meta, err = wire.ReadMeta(a.row.Metadata, a.row.ID, a.row.CreatedAt)
	a.settling = hasKey(a.row.Metadata, "cancel_attempted_at")
	a.info.UID, a.info.Schedule, a.info.BrandID = a.meta.UID, a.meta.Schedule, a.meta.Brand
	if err == nil {
		err = jobs.CheckBrand(a.meta.Brand)
	}
	if a.meta.Nominal != nil {
		a.info.Nominal, a.info.Effective = *a.meta.Nominal, *a.meta.Nominal
	}
	if a.meta.Effective != nil {
		a.info.Effective = *a.meta.Effective
	}
	a.timeout = a.kind.timeout(a.w.cfg.JobTimeout)
	if a.meta.TimeoutMS > 0 {
		a.timeout = time.Duration(min(a.meta.TimeoutMS, math.MaxInt32)) * time.Millisecond // Postgres knows no longer one
	}
	if err != nil {
		return &badRowError{column: "metadata", err: err}
	}
	return nil
}

// badRowError says that a row of the queue, which anybody may have written, does not
// say what its job is. No further attempt would find it otherwise.
type badRowError struct {
	column string
	err    error
}

func (e *badRowError) Error() string {
	return fmt.Sprintf("the job was not run, because of column %s of its row: %v", e.column, e.err)
}

func (e *badRowError) Unwrap() error { return e.err }

// hasKey says whether JSON is an object with a key.
func hasKey(raw []byte, key string) bool {
	if !bytes.Contains(raw, []byte(key)) {
		return false
	}
	var keys map[string]json.RawMessage
	_ = json.Unmarshal(raw, &keys) // what is no object has no keys
	_, ok := keys[key]
	return ok
}

// resolve asks the catalog where the job runs.
func (a *attempt) resolve(ctx context.Context) (err error) {
	ctx, end := telemetry.Step(ctx, telemetry.SpanResolve)
	defer func() { end(err) }()
	login := a.kind.opts.Login
	if a.kind.opts.Scope == jobs.ScopeDatabase {
		if a.meta.Database == "" {
			return &badRowError{column: "metadata", err: fmt.Errorf("it names no database: kind %s works on a whole one", a.row.Kind)}
		}
		a.place, err = a.w.cfg.Resolver.ResolveDatabase(ctx, a.meta.Database, login)
	} else {
		if a.meta.Tenant == "" {
			return &badRowError{column: "metadata", err: fmt.Errorf("it names no tenant: kind %s works for one", a.row.Kind)}
		}
		a.info.Tenant, a.place, err = a.w.cfg.Resolver.ResolveTenant(ctx, a.meta.Tenant, login)
		a.info.Tenant.Features = a.info.Tenant.Features.Watched(a.features.note)
	}
	a.info.Database, a.info.Dedicated = a.place.Database, a.place.Dedicated
	if err != nil {
		return &resolveError{err}
	}
	a.resolved.Store(&whereTo{a.info.Tenant, a.place})
	a.span.Where(a.info.Tenant.Slug, a.place.Database, a.place.Server)
	return nil
}

// whereTo is where an attempt is made, and for whom.
type whereTo struct {
	tenant jobs.Tenant
	place  address.Place
}

// outcome is the history's record of how the attempt ended.
func (a *attempt) outcome(end disposition) jobs.Outcome {
	o := jobs.Outcome{
		ID: newUID(), JobUID: a.meta.UID,
		TenantID: a.meta.Tenant, DatabaseID: a.place.DatabaseID, Kind: a.row.Kind, Attempt: a.row.Attempt,
		State: end.state, Class: end.class, SQLState: end.sqlstate, Message: end.says, Trace: clean(a.stack, 8<<10),
		Recovered: a.recovered, StartedAt: a.started.UTC(), EndedAt: time.Now().UTC(),
		Schedule: clean(a.meta.Schedule, 200), Worker: a.w.id, Features: a.features.recorded(),
	}
	if o.State == jobs.Succeeded && a.info.Result != nil {
		o.Result = *a.info.Result
		o.Result.Output = clean(o.Result.Output, 64<<10)
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
