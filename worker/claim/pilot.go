package claim

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/rivershared/riverpilot"
	"github.com/riverqueue/river/rivertype"

	"github.com/headgate/headgate/jobs"
)

// OutcomeKey is the metadata key under which the worker hands an attempt's
// [jobs.Outcome] to the completion. It never reaches the row.
const OutcomeKey = "headgate:outcome"

// pilot writes the history in the transaction that moves the rows.
type pilot struct {
	riverpilot.StandardPilot
}

// JobSetStateIfRunningMany ends attempts: River hands over what finished in the
// last moments as one group, whatever the end state. The outcomes and the rows
// are written in one transaction; if its reply is lost River repeats the whole
// group, and an outcome that is there already is left as it is.
func (p *pilot) JobSetStateIfRunningMany(ctx context.Context, exec riverdriver.Executor, params *riverdriver.JobSetStateIfRunningManyParams) ([]*rivertype.JobRow, error) {
	outcomes, params, err := takeOutcomes(params)
	if err != nil {
		return nil, err
	}
	if len(outcomes) == 0 {
		return p.StandardPilot.JobSetStateIfRunningMany(ctx, exec, params)
	}
	tx, err := exec.Begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("beginning the completion of %d jobs: %w", len(params.ID), err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // after a commit this does nothing
	rows, err := p.StandardPilot.JobSetStateIfRunningMany(ctx, tx, params)
	if err != nil {
		return nil, err
	}
	if err := insertOutcomes(ctx, tx, outcomes); err != nil {
		return nil, err
	}
	return rows, tx.Commit(ctx)
}

// takeOutcomes takes the outcomes out of the metadata updates and returns them
// with a copy of params that no longer holds them. The original stays whole,
// for River may hand it over again.
func takeOutcomes(params *riverdriver.JobSetStateIfRunningManyParams) ([]jobs.Outcome, *riverdriver.JobSetStateIfRunningManyParams, error) {
	var outcomes []jobs.Outcome
	rest := *params
	rest.MetadataDoMerge = append([]bool(nil), params.MetadataDoMerge...)
	rest.MetadataUpdates = append([][]byte(nil), params.MetadataUpdates...)
	for i, update := range params.MetadataUpdates {
		if len(update) == 0 {
			continue
		}
		var keys map[string]json.RawMessage
		if err := json.Unmarshal(update, &keys); err != nil {
			return nil, nil, fmt.Errorf("reading the metadata update of job %d: %w", params.ID[i], err)
		}
		raw, ok := keys[OutcomeKey]
		if !ok {
			continue
		}
		var outcome jobs.Outcome
		if err := json.Unmarshal(raw, &outcome); err != nil {
			return nil, nil, fmt.Errorf("reading the outcome of job %d: %w", params.ID[i], err)
		}
		outcomes = append(outcomes, outcome)
		delete(keys, OutcomeKey)
		rest.MetadataUpdates[i], rest.MetadataDoMerge[i] = nil, false
		if len(keys) > 0 {
			update, err := json.Marshal(keys)
			if err != nil {
				return nil, nil, err
			}
			rest.MetadataUpdates[i], rest.MetadataDoMerge[i] = update, true
		}
	}
	return outcomes, &rest, nil
}

// insertOutcomes writes a group of outcomes in one statement, one array a
// column.
const insertOutcomesSQL = `
INSERT INTO headgate.outcomes
    (id, job_uid, job_id, tenant_id, database_id, kind, attempt, state, class, sqlstate, message, trace,
     recovered, started_at, ended_at, rows, output, schedule, worker)
SELECT id, job_uid, job_id, nullif(tenant_id, '')::uuid, nullif(database_id, '')::uuid, kind, attempt, state, class, sqlstate, message, trace,
     recovered, started_at, ended_at, rows, output, schedule, worker
FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::int[], $8::text[], $9::text[],
     $10::text[], $11::text[], $12::text[], $13::boolean[], $14::timestamptz[], $15::timestamptz[], $16::bigint[],
     $17::text[], $18::text[], $19::text[])
     AS o (id, job_uid, job_id, tenant_id, database_id, kind, attempt, state, class, sqlstate, message, trace,
     recovered, started_at, ended_at, rows, output, schedule, worker)
ON CONFLICT (id) DO NOTHING`

func insertOutcomes(ctx context.Context, tx riverdriver.ExecutorTx, outcomes []jobs.Outcome) error {
	err := tx.Exec(ctx, insertOutcomesSQL,
		column(outcomes, func(o jobs.Outcome) string { return o.ID }),
		column(outcomes, func(o jobs.Outcome) string { return o.JobUID }),
		column(outcomes, func(o jobs.Outcome) int64 { return o.JobID }),
		column(outcomes, func(o jobs.Outcome) string { return o.TenantID }),
		column(outcomes, func(o jobs.Outcome) string { return o.DatabaseID }),
		column(outcomes, func(o jobs.Outcome) string { return o.Kind }),
		column(outcomes, func(o jobs.Outcome) int { return o.Attempt }),
		column(outcomes, func(o jobs.Outcome) string { return string(o.State) }),
		column(outcomes, func(o jobs.Outcome) string { return string(o.Class) }),
		column(outcomes, func(o jobs.Outcome) string { return o.SQLState }),
		column(outcomes, func(o jobs.Outcome) string { return o.Message }),
		column(outcomes, func(o jobs.Outcome) string { return o.Trace }),
		column(outcomes, func(o jobs.Outcome) bool { return o.Recovered }),
		column(outcomes, func(o jobs.Outcome) time.Time { return o.StartedAt }),
		column(outcomes, func(o jobs.Outcome) time.Time { return o.EndedAt }),
		column(outcomes, func(o jobs.Outcome) int64 { return o.Result.Rows }),
		column(outcomes, func(o jobs.Outcome) string { return o.Result.Output }),
		column(outcomes, func(o jobs.Outcome) string { return o.Schedule }),
		column(outcomes, func(o jobs.Outcome) string { return o.Worker }),
	)
	if err != nil {
		return fmt.Errorf("writing %d outcomes: %w", len(outcomes), err)
	}
	return nil
}

func column[T any](outcomes []jobs.Outcome, of func(jobs.Outcome) T) []T {
	values := make([]T, len(outcomes))
	for i, o := range outcomes {
		values[i] = of(o)
	}
	return values
}
