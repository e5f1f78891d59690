package claim

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/rivershared/baseservice"
	"github.com/riverqueue/river/rivershared/riverpilot"
	"github.com/riverqueue/river/rivertype"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/internal/fault"
)

// pilot is where River's fetch and completion become ours. The pilot itself translates; the
// statements are in complete.go.
type pilot struct {
	riverpilot.StandardPilot
	pool   *pgxpool.Pool
	unwrap func(riverdriver.ExecutorTx) pgx.Tx
	lease  *Lease
	log    *slog.Logger // River's

	mu         sync.Mutex
	unreadable map[int64]unreadable // guarded by mu: rows that River fails without running them
}

// PilotInit is called by River when the client is made.
func (p *pilot) PilotInit(archetype *baseservice.Archetype, _ *riverpilot.PilotInitParams) {
	p.log = archetype.Logger
}

// JobGetAvailable claims (claimer.go).
func (p *pilot) JobGetAvailable(ctx context.Context, _ riverdriver.Executor, state riverpilot.ProducerState, params *riverdriver.JobGetAvailableParams) (*riverdriver.JobGetAvailableResult, error) {
	prod, ok := state.(*producer)
	if !ok || params.MaxToLock <= 0 || p.lease.closed.Load() {
		return &riverdriver.JobGetAvailableResult{}, nil
	}
	ours := *params
	token := p.lease.next()
	ours.ClientID = token
	p.lease.inflight.reach(token)
	batch, err := prod.claimer.claim(ctx, &ours)
	if err != nil {
		p.lease.inflight.take(token, nil)
		p.lease.suspects.forget(func(c claimed) bool { return c.token == token })
		return nil, err
	}
	if len(batch.result.Jobs) > 0 {
		fault.Point(fault.Claimed)
	}
	if batch.jobs == nil { // nothing was asked for
		p.lease.inflight.take(token, nil)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, row := range batch.result.Jobs {
		if err := batch.result.DecodeErrors[row.ID]; err != nil {
			p.unreadable[row.ID] = unreadable{row, token, err}
		}
	}
	return batch.result, nil
}

// beginQueueSQL starts a queue's clock.
const beginQueueSQL = `INSERT INTO headgate.lane_clocks (queue) VALUES ($1) ON CONFLICT DO NOTHING`

// ProducerInit makes the claimer of a producer's queue, and lets River tell the pilot which
// attempts are over.
func (p *pilot) ProducerInit(ctx context.Context, exec riverdriver.Executor, params *riverpilot.ProducerInitParams) (int64, riverpilot.ProducerState, error) {
	id, _, err := p.StandardPilot.ProducerInit(ctx, exec, params)
	if err != nil {
		return id, nil, err
	}
	if err := beginQueue(ctx, p.pool, params.Queue); err != nil {
		return id, nil, fmt.Errorf("beginning to claim for queue %s: %w", params.Queue, err)
	}
	p.lease.gate.enter()
	return id, &producer{p.lease, &claimer{
		pool: p.pool, queue: params.Queue, lease: p.lease, gate: p.lease.gate, slots: p.lease.gate.slots[params.Queue], log: p.log,
	}}, nil
}

// ProducerShutdown is called by River when a producer has ended.
func (p *pilot) ProducerShutdown(ctx context.Context, exec riverdriver.Executor, params *riverpilot.ProducerShutdownParams) error {
	p.lease.gate.leave()
	return p.StandardPilot.ProducerShutdown(ctx, exec, params)
}

// producer is what River's producer of one queue keeps of ours.
type producer struct {
	lease   *Lease
	claimer *claimer
}

// JobFinish is called by River when an attempt is over and its end was handed to
// the completer.
func (p *producer) JobFinish(row *rivertype.JobRow) {
	p.claimer.working.Add(-1)
	p.lease.inflight.finish(row, p.lease.inflight.now())
	p.claimer.gate.noteFreed(row.Queue)
	if p.claimer.more.Swap(false) { // the first that ends, as River does it: before, there is no slot
		p.claimer.gate.waker.wake(row.Queue)
	}
}

// JobGetStuck finds nothing. River's rescuer, whose clock is its own and which discards
// kinds that it does not know, has nothing to do here: the reaper does that work.
func (p *pilot) JobGetStuck(context.Context, riverdriver.Executor, *riverdriver.JobGetStuckParams) ([]*rivertype.JobRow, error) {
	return nil, nil
}

// JobSetStateIfRunningMany ends attempts, in whatever state, as one group. River passes
// what finished in the last moments, or one job in a transaction of its caller's
// (JobCompleteTx). River repeats a group whose reply was lost: then the rows are no longer
// running under their tokens, and the outcomes are there already.
//
// Rows that are not the caller's any more are left out of the result, and so are rows that
// come without a token.
func (p *pilot) JobSetStateIfRunningMany(ctx context.Context, exec riverdriver.Executor, params *riverdriver.JobSetStateIfRunningManyParams) ([]*rivertype.JobRow, error) {
	ends := p.readEnds(ctx, params)
	if tx, ok := exec.(riverdriver.ExecutorTx); ok {
		return p.endWithin(ctx, tx, ends)
	}
	ended, over, err := p.end(ctx, ends)
	p.lease.inflight.wrote(err == nil)
	if err != nil {
		return nil, err
	}
	if free := p.forget(over); free {
		p.callNext(ctx)
	}
	if err := p.endLate(ctx); err != nil {
		p.log.WarnContext(ctx, "could not end attempts whose rows were locked; they are tried again", "error", err)
	}
	rows := make([]*rivertype.JobRow, 0, len(ended))
	for id, state := range ended { // River wants to know what became of them, no more
		rows = append(rows, &rivertype.JobRow{ID: id, State: rivertype.JobState(state)})
	}
	return rows, nil
}

// end ends attempts. It returns their new states, and which attempts are over: the ends of
// the others wait for their rows (late.go). An end that does not fit is written as far as
// it does (aside.go).
func (p *pilot) end(ctx context.Context, ends []end) (ended map[int64]string, over []end, err error) {
	ended, err = p.endGroup(ctx, ends)
	if err == nil {
		return ended, ends, nil
	}
	if lockedOut(err) {
		ended, over, err = p.endApart(ctx, ends)
	}
	if !unfit(err) {
		return ended, over, err
	}
	return p.endEach(ctx, ends)
}

// endGroup ends attempts, all or none of those that are still running: by one
// statement, or in a transaction if they have asked for other jobs or have logged.
func (p *pilot) endGroup(ctx context.Context, ends []end) (ended map[int64]string, err error) {
	fault.Point(fault.Completing)
	if slices.ContainsFunc(ends, func(e end) bool { return len(e.followUps) > 0 || e.log != "" }) {
		err = inTx(ctx, p.pool, func(tx pgx.Tx) error {
			if ended, err = endAttempts(ctx, tx, ends, endLockWait); err != nil {
				return err
			}
			return p.lease.insertLogs(ctx, tx, p.log, ends, ended)
		})
	} else {
		ended, err = endAttempts(ctx, p.pool, ends, endLockWait)
	}
	if err != nil {
		return nil, err
	}
	fault.Point(fault.Completed)
	return ended, nil
}

// endApart ends attempts beside rows that somebody has locked, whose ends wait. It
// returns the attempts that have ended.
func (p *pilot) endApart(ctx context.Context, ends []end) (ended map[int64]string, over []end, err error) {
	ended, late, err := p.lease.endFree(ctx, p.pool, p.log, ends)
	if err != nil {
		return nil, nil, err
	}
	if !p.lease.inflight.postpone(late) {
		return nil, nil, fmt.Errorf("ending %s: somebody has locked the rows of %d others", jobs.Count(len(ends), "attempt"), maxLate)
	}
	if len(late) > 0 {
		p.log.WarnContext(ctx, "somebody has locked rows of the queue whose attempts are over; they end when the rows are free", "jobs", len(late), "first_job_id", late[0].id)
	}
	return ended, without(ends, late), nil
}

// endWithin ends attempts in the caller's transaction, and answers with whole rows, which
// the caller reads. We do not know whether that transaction is committed. So the attempts
// stay in flight until River ends them once more, when their handlers have returned. What the
// caller writes behind the ends is not Headgate's own.
func (p *pilot) endWithin(ctx context.Context, tx riverdriver.ExecutorTx, ends []end) ([]*rivertype.JobRow, error) {
	db := p.unwrap(tx)
	ended, err := endAttempts(ctx, db, ends, "") // its caller's bounds
	_, failed := db.Exec(ctx, notOwnSQL)         // whether they have ended or not
	if err = cmp.Or(err, failed); err != nil || len(ended) == 0 {
		return nil, err
	}
	ids := make([]int64, 0, len(ended))
	for id := range ended {
		ids = append(ids, id)
	}
	return tx.JobGetByIDMany(ctx, &riverdriver.JobGetByIDManyParams{ID: ids})
}

// readEnds turns River's parameters into ends. The parameters stay as they are, because
// River may pass them again.
func (p *pilot) readEnds(ctx context.Context, params *riverdriver.JobSetStateIfRunningManyParams) []end {
	ends := make([]end, 0, len(params.ID))
	for i, id := range params.ID {
		e := end{
			id: id, state: string(params.State[i]), attempt: params.Attempt[i],
			finalizedAt: params.FinalizedAt[i], scheduledAt: params.ScheduledAt[i], now: params.Now,
		}
		if params.ErrData[i] != nil {
			e.err = ptr(string(params.ErrData[i]))
		}
		err := e.takeToken(params.MetadataUpdates[i])
		if e.token == "" {
			p.endUnreadable(&e)
		}
		if err != nil || e.token == "" {
			p.log.ErrorContext(ctx, "a job was ended without its lease token and stays as it is: only Headgate's worker may run jobs through this driver",
				"job_id", id, "error", err)
			continue
		}
		if e.outcome == nil {
			completion := p.lease.inflight.completion(claimed{e.id, e.token})
			e.outcome, e.settling, e.followUps, e.log = completion.Outcome, completion.Settling, completion.FollowUps, completion.Log
			e.goBack(completion.Again)
			if completion.AlreadyRecorded && e.settling && slices.Contains(backStates, e.state) { // which a wish to cancel does not end
				e.outcome = nil
			}
		}
		ends = append(ends, e)
	}
	return ends
}

// backStates are those in which a job waits for its next attempt.
var backStates = []string{string(rivertype.JobStateAvailable), string(rivertype.JobStateScheduled), string(rivertype.JobStateRetryable)}

// goBack takes an end as the attempt has set it, not as River has. If somebody cancels a
// job while it runs, River ends the job as cancelled whatever its worker returned, also
// where that is not known yet.
func (e *end) goBack(in time.Duration) {
	if e.state != string(rivertype.JobStateCancelled) || e.outcome == nil {
		return
	}
	if e.outcome.State == jobs.Discarded { // its last attempt had failed before the wish came
		e.state = string(rivertype.JobStateDiscarded)
		return
	}
	if !e.settling {
		return
	}
	switch e.outcome.State {
	case jobs.Snoozed:
		e.attempt = ptr(max(e.outcome.Attempt-1, 0))
	case jobs.Failed:
	default:
		return
	}
	e.state, e.finalizedAt, e.err = string(rivertype.JobStateAvailable), nil, nil
	e.scheduledAt = ptr(time.Now().Add(in))
}

// onlyToken is the beginning of a metadata update that is nothing but the token,
// as nearly all are; it is worth not being parsed.
var onlyToken = []byte(`{"` + LeaseKey + `":"`)

// takeToken takes the token out of a metadata update and keeps the rest.
func (e *end) takeToken(update []byte) error {
	if len(update) == 0 {
		return nil
	}
	if rest, ok := bytes.CutPrefix(update, onlyToken); ok {
		if token, ok := bytes.CutSuffix(rest, []byte(`"}`)); ok && !bytes.ContainsAny(token, `"\`) {
			e.token = string(token)
			return nil
		}
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(update, &keys); err != nil {
		return err
	}
	if raw, ok := keys[LeaseKey]; ok {
		if err := json.Unmarshal(raw, &e.token); err != nil {
			return fmt.Errorf("lease: %w", err)
		}
		delete(keys, LeaseKey)
	}
	if len(keys) == 0 {
		return nil
	}
	rest, err := json.Marshal(keys)
	e.metadata = ptr(string(rest))
	return err
}

// callNext calls the next suspect, now that this process is free for one. The claims that
// came meanwhile were not full, so River would wait for its next poll, as it does if this
// fails.
func (p *pilot) callNext(ctx context.Context) {
	if _, err := p.pool.Exec(ctx, callNextSQL); err != nil {
		p.log.WarnContext(ctx, "could not call the next suspect; it waits for the next poll", "error", err)
	}
}

// forget drops what was kept for rows whose end is committed. It returns whether this
// process has become free for a suspect.
func (p *pilot) forget(ends []end) (free bool) {
	free = p.lease.drop(ends)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range ends {
		if p.unreadable[e.id].token == e.token {
			delete(p.unreadable, e.id)
		}
	}
	return free
}

func ptr[T any](v T) *T { return &v }
