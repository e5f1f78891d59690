package claim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/rivershared/baseservice"
	"github.com/riverqueue/river/rivershared/riverpilot"
	"github.com/riverqueue/river/rivertype"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/internal/fault"
)

// pilot is where River's fetch and completion become ours. What it does itself
// is to translate; the statements are in complete.go.
type pilot struct {
	riverpilot.StandardPilot
	pool   *pgxpool.Pool
	unwrap func(riverdriver.ExecutorTx) pgx.Tx
	lease  *Lease
	log    *slog.Logger // River's

	mu          sync.Mutex
	undecodable map[int64]string // guarded by mu: rows that River fails without running them, and the tokens of their claims
}

// PilotInit is called by River when the client is made.
func (p *pilot) PilotInit(archetype *baseservice.Archetype, _ *riverpilot.PilotInitParams) {
	p.log = archetype.Logger
}

// JobGetAvailable claims (claimer.go).
func (p *pilot) JobGetAvailable(ctx context.Context, _ riverdriver.Executor, state riverpilot.ProducerState, params *riverdriver.JobGetAvailableParams) (*riverdriver.JobGetAvailableResult, error) {
	prod, ok := state.(*producer)
	if !ok || params.MaxToLock <= 0 {
		return &riverdriver.JobGetAvailableResult{}, nil
	}
	ours := *params
	token := p.lease.next()
	ours.ClientID = token
	p.lease.hand.reach(token)
	haul, err := prod.claimer.claim(ctx, &ours)
	if err != nil {
		p.lease.hand.take(token, nil)
		p.lease.suspects.forget(func(c claimed) bool { return c.token == token })
		return nil, err
	}
	if len(haul.result.Jobs) > 0 {
		fault.Point(fault.Claimed)
	}
	if haul.grips == nil { // nothing was asked for
		p.lease.hand.take(token, nil)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for id := range haul.result.DecodeErrors {
		p.undecodable[id] = token
	}
	return haul.result, nil
}

// beginQueueSQL starts a queue's clock.
const beginQueueSQL = `INSERT INTO headgate.lane_clocks (queue) VALUES ($1) ON CONFLICT DO NOTHING`

// ProducerInit makes the claimer of a producer's queue, and lets River tell the
// hand which attempts are over.
func (p *pilot) ProducerInit(ctx context.Context, exec riverdriver.Executor, params *riverpilot.ProducerInitParams) (int64, riverpilot.ProducerState, error) {
	id, _, err := p.StandardPilot.ProducerInit(ctx, exec, params)
	if err != nil {
		return id, nil, err
	}
	if _, err := p.pool.Exec(ctx, beginQueueSQL, params.Queue); err != nil {
		return id, nil, fmt.Errorf("beginning to claim for queue %s: %w", params.Queue, err)
	}
	p.lease.desk.enter()
	return id, &producer{p.lease, &claimer{
		pool: p.pool, queue: params.Queue, lease: p.lease, desk: p.lease.desk, slots: p.lease.desk.slots[params.Queue],
	}}, nil
}

// ProducerShutdown is called by River when a producer has ended.
func (p *pilot) ProducerShutdown(ctx context.Context, exec riverdriver.Executor, params *riverpilot.ProducerShutdownParams) error {
	p.lease.desk.leave()
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
	p.lease.hand.finish(row, time.Now())
	p.claimer.desk.gave(row.Queue)
	if p.claimer.more.Swap(false) { // the first that ends, as River does it: before, there is no slot
		p.claimer.desk.bell.ring(row.Queue)
	}
}

// JobGetStuck finds nothing: River's rescuer, whose clock is its own and which
// discards kinds that it does not know, has nothing to do here. The reaper does
// that work.
func (p *pilot) JobGetStuck(context.Context, riverdriver.Executor, *riverdriver.JobGetStuckParams) ([]*rivertype.JobRow, error) {
	return nil, nil
}

// JobSetStateIfRunningMany ends attempts, in whatever state, as one group. River
// hands over what finished in the last moments, or one job in a transaction of
// its caller's (JobCompleteTx), and repeats a group whose reply was lost: then
// the rows are no longer running under their tokens, and the outcomes are there
// already.
//
// Rows that are not the caller's any more are left out of the result, and so are
// those that come without a token.
func (p *pilot) JobSetStateIfRunningMany(ctx context.Context, exec riverdriver.Executor, params *riverdriver.JobSetStateIfRunningManyParams) ([]*rivertype.JobRow, error) {
	ends := p.take(ctx, params)
	if tx, ok := exec.(riverdriver.ExecutorTx); ok {
		return p.endWithin(ctx, tx, ends)
	}
	ended, err := p.endGroup(ctx, ends)
	if unwritable(err) {
		ended, err = p.endEach(ctx, ends)
	}
	p.lease.hand.wrote(err == nil)
	if err != nil {
		return nil, err
	}
	if room := p.forget(ends); room {
		p.callNext(ctx, exec)
	}
	rows := make([]*rivertype.JobRow, 0, len(ended))
	for id, state := range ended { // River wants to know what became of them, no more
		rows = append(rows, &rivertype.JobRow{ID: id, State: rivertype.JobState(state)})
	}
	return rows, nil
}

// endGroup ends attempts, all or none of those that are still running: by one
// statement, or in a transaction if they have asked for other jobs.
func (p *pilot) endGroup(ctx context.Context, ends []end) (ended map[int64]string, err error) {
	fault.Point(fault.Completing)
	if slices.ContainsFunc(ends, func(e end) bool { return len(e.followUps) > 0 }) {
		err = pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error {
			ended, err = endAttempts(ctx, tx, ends)
			return err
		})
	} else {
		ended, err = endAttempts(ctx, p.pool, ends)
	}
	if err != nil {
		return nil, err
	}
	fault.Point(fault.Completed)
	return ended, nil
}

// endEach ends attempts one by one, since something in the group is not fit for
// the database, and the whole process would wait for that one for ever. The one
// that is to blame ends without its metadata and its texts, and without its
// outcome if that does not help.
func (p *pilot) endEach(ctx context.Context, ends []end) (map[int64]string, error) {
	all := make(map[int64]string, len(ends))
	for _, e := range ends {
		ended, err := p.endGroup(ctx, []end{e})
		if unwritable(err) {
			p.log.ErrorContext(ctx, "the end of an attempt holds what Postgres cannot store; it is written without its details",
				"job_id", e.id, "state", e.state, "error", err)
			bare := e.bare(err)
			if ended, err = p.endGroup(ctx, []end{bare}); unwritable(err) {
				bare.outcome = nil
				ended, err = p.endGroup(ctx, []end{bare})
			}
		}
		if err != nil {
			return nil, err // River hands over the group again; what is done is not done twice
		}
		maps.Copy(all, ended)
	}
	return all, nil
}

// unwritable says of an error that it is the data's own: it will come again.
func unwritable(err error) bool {
	pgErr, misfit := (*pgconn.PgError)(nil), (*misfitError)(nil)
	return errors.As(err, &misfit) || errors.As(err, &pgErr) && (strings.HasPrefix(pgErr.Code, "22") || strings.HasPrefix(pgErr.Code, "23") || strings.HasPrefix(pgErr.Code, "54"))
}

// endWithin ends attempts in the caller's transaction, and answers with whole
// rows, which that caller reads. Whether that transaction is committed is not
// ours to know: the attempts stay in hand until River ends them once more, when
// their handlers have returned.
func (p *pilot) endWithin(ctx context.Context, tx riverdriver.ExecutorTx, ends []end) ([]*rivertype.JobRow, error) {
	ended, err := endAttempts(ctx, p.unwrap(tx), ends)
	if err != nil || len(ended) == 0 {
		return nil, err
	}
	ids := make([]int64, 0, len(ended))
	for id := range ended {
		ids = append(ids, id)
	}
	return tx.JobGetByIDMany(ctx, &riverdriver.JobGetByIDManyParams{ID: ids})
}

// take turns River's parameters into ends. The parameters stay as
// they are, for River may hand them over again.
func (p *pilot) take(ctx context.Context, params *riverdriver.JobSetStateIfRunningManyParams) []end {
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
			e.token = p.tokenOfUndecodable(id)
		}
		if err != nil || e.token == "" {
			p.log.ErrorContext(ctx, "a job was ended without its lease token and stays as it is: only Headgate's worker may run jobs through this driver",
				"job_id", id, "error", err)
			continue
		}
		left := p.lease.hand.leftBy(claimed{e.id, e.token})
		e.outcome, e.settling, e.followUps = left.Outcome, left.Settling, left.FollowUps
		e.goBack(left.Again)
		ends = append(ends, e)
	}
	return ends
}

// goBack takes an end as the attempt has left it, not as River has: if somebody cancels
// a job while it runs, River ends it as cancelled whatever its worker returned, also
// where that is not known yet.
func (e *end) goBack(in time.Duration) {
	if e.state != string(rivertype.JobStateCancelled) || !e.settling || e.outcome == nil {
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

// tokenOfUndecodable keeps the token: River hands the group over again if it
// could not be committed.
func (p *pilot) tokenOfUndecodable(id int64) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.undecodable[id]
}

// callNext calls a suspect for the place that has become free: the claims that
// came meanwhile were not full, so River would wait for its next poll, as it does
// if this fails.
func (p *pilot) callNext(ctx context.Context, exec riverdriver.Executor) {
	tx, err := exec.Begin(ctx)
	if err == nil {
		defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // after a commit this does nothing
		if _, err = p.unwrap(tx).Exec(ctx, callNextSQL); err == nil {
			err = tx.Commit(ctx)
		}
	}
	if err != nil {
		p.log.WarnContext(ctx, "could not call the next suspect; it waits for the next poll", "error", err)
	}
}

// forget drops what was kept for rows whose end is committed, and returns
// whether there is room for a suspect now.
func (p *pilot) forget(ends []end) (room bool) {
	room = p.lease.drop(ends)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range ends {
		if p.undecodable[e.id] == e.token {
			delete(p.undecodable, e.id)
		}
	}
	return room
}

func ptr[T any](v T) *T { return &v }
