package claim

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/rivershared/riverpilot"
	"github.com/riverqueue/river/rivertype"

	"github.com/headgate/headgate/jobs"
)

// OutcomeKey is the metadata key under which the worker hands an attempt's
// [jobs.Outcome] to the completion. It never reaches the row.
const OutcomeKey = "headgate:outcome"

// SettlingKey marks the completion of an attempt that settles a cancelled job:
// if it could not, the job goes back instead of counting as cancelled. It never
// reaches the row.
const SettlingKey = "headgate:settling"

// pilot is where River's fetch and completion become ours. What it does itself
// is to translate; the statements are in complete.go.
type pilot struct {
	riverpilot.StandardPilot
	unwrap func(riverdriver.ExecutorTx) pgx.Tx
	lease  *Lease
	sus    *suspects

	mu          sync.Mutex
	undecodable map[int64]string // guarded by mu: rows that River fails without running them, and the tokens of their claims
}

// JobGetAvailable claims. River writes the name it is given as the last element
// of attempted_by; we give it the lease's next token.
func (p *pilot) JobGetAvailable(ctx context.Context, exec riverdriver.Executor, state riverpilot.ProducerState, params *riverdriver.JobGetAvailableParams) (*riverdriver.JobGetAvailableResult, error) {
	ours := *params
	ours.ClientID = p.lease.next()
	result, err := p.claim(ctx, exec, state, &ours)
	if err == nil && len(result.DecodeErrors) > 0 {
		p.mu.Lock()
		defer p.mu.Unlock()
		for id := range result.DecodeErrors {
			p.undecodable[id] = ours.ClientID
		}
	}
	return result, err
}

// claim is River's own statement, alone or, while there are suspects, in a
// transaction that puts back those which may not run here now.
func (p *pilot) claim(ctx context.Context, exec riverdriver.Executor, state riverpilot.ProducerState, params *riverdriver.JobGetAvailableParams) (*riverdriver.JobGetAvailableResult, error) {
	if !p.sus.any.Load() {
		return p.StandardPilot.JobGetAvailable(ctx, exec, state, params)
	}
	tx, err := exec.Begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("beginning a claim: %w", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // after a commit this does nothing
	result, err := p.StandardPilot.JobGetAvailable(ctx, tx, state, params)
	if err != nil {
		return nil, err
	}
	if err := p.sus.sift(ctx, p.unwrap(tx), result); err != nil {
		return nil, err
	}
	return result, tx.Commit(ctx)
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
// Rows that are not the caller's any more are left out of the result.
func (p *pilot) JobSetStateIfRunningMany(ctx context.Context, exec riverdriver.Executor, params *riverdriver.JobSetStateIfRunningManyParams) ([]*rivertype.JobRow, error) {
	ends, outcomes, err := p.take(params)
	if err != nil {
		return nil, err
	}
	if tx, ok := exec.(riverdriver.ExecutorTx); ok {
		return p.endWithin(ctx, tx, ends, outcomes)
	}
	tx, err := exec.Begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("beginning the completion of %d jobs: %w", len(ends), err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // after a commit this does nothing
	ended, err := endAttempts(ctx, p.unwrap(tx), ends, outcomes)
	if err != nil {
		return nil, err
	}
	if err := p.sus.survived(ctx, p.unwrap(tx), ended); err != nil {
		return nil, err
	}
	if err := tx.Commit(ctx); err != nil {
		return nil, fmt.Errorf("committing the completion of %d jobs: %w", len(ends), err)
	}
	p.forget(ends)
	rows := make([]*rivertype.JobRow, 0, len(ended))
	for id, state := range ended { // River wants to know what became of them, no more
		rows = append(rows, &rivertype.JobRow{ID: id, State: rivertype.JobState(state)})
	}
	return rows, nil
}

// endWithin ends attempts in the caller's transaction, and answers with whole
// rows, which that caller reads.
func (p *pilot) endWithin(ctx context.Context, tx riverdriver.ExecutorTx, ends []end, outcomes []jobs.Outcome) ([]*rivertype.JobRow, error) {
	ended, err := endAttempts(ctx, p.unwrap(tx), ends, outcomes)
	if err != nil || len(ended) == 0 {
		return nil, err
	}
	ids := make([]int64, 0, len(ended))
	for id := range ended {
		ids = append(ids, id)
	}
	return tx.JobGetByIDMany(ctx, &riverdriver.JobGetByIDManyParams{ID: ids})
}

// take turns River's parameters into ends and outcomes. The parameters stay as
// they are, for River may hand them over again.
func (p *pilot) take(params *riverdriver.JobSetStateIfRunningManyParams) ([]end, []jobs.Outcome, error) {
	ends := make([]end, 0, len(params.ID))
	var outcomes []jobs.Outcome
	for i, id := range params.ID {
		e := end{
			id: id, state: string(params.State[i]), attempt: params.Attempt[i],
			finalizedAt: params.FinalizedAt[i], scheduledAt: params.ScheduledAt[i], now: params.Now,
		}
		if params.ErrData[i] != nil {
			e.err = ptr(string(params.ErrData[i]))
		}
		outcome, err := e.takeMetadata(params.MetadataUpdates[i])
		if err != nil {
			return nil, nil, fmt.Errorf("reading the metadata update of job %d: %w", id, err)
		}
		if outcome != nil {
			outcomes = append(outcomes, *outcome)
		}
		if e.token == "" {
			e.token = p.tokenOfUndecodable(id)
		}
		if e.token == "" {
			return nil, nil, fmt.Errorf("job %d was ended without its lease token: only Headgate's worker may run jobs through this driver", id)
		}
		ends = append(ends, e)
	}
	return ends, outcomes, nil
}

// takeMetadata takes our keys out of a metadata update and keeps the rest.
func (e *end) takeMetadata(update []byte) (*jobs.Outcome, error) {
	if len(update) == 0 {
		return nil, nil
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(update, &keys); err != nil {
		return nil, err
	}
	if raw, ok := keys[LeaseKey]; ok {
		if err := json.Unmarshal(raw, &e.token); err != nil {
			return nil, fmt.Errorf("lease: %w", err)
		}
		delete(keys, LeaseKey)
	}
	_, e.settling = keys[SettlingKey]
	delete(keys, SettlingKey)
	var outcome *jobs.Outcome
	if raw, ok := keys[OutcomeKey]; ok {
		if err := json.Unmarshal(raw, &outcome); err != nil {
			return nil, fmt.Errorf("outcome: %w", err)
		}
		delete(keys, OutcomeKey)
	}
	if len(keys) == 0 {
		return outcome, nil
	}
	rest, err := json.Marshal(keys)
	e.metadata = ptr(string(rest))
	return outcome, err
}

// tokenOfUndecodable keeps the token: River hands the group over again if it
// could not be committed.
func (p *pilot) tokenOfUndecodable(id int64) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.undecodable[id]
}

// forget drops what was kept for rows whose end is committed.
func (p *pilot) forget(ends []end) {
	p.sus.forget(ends)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range ends {
		delete(p.undecodable, e.id)
	}
}

func ptr[T any](v T) *T { return &v }
