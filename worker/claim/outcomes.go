package claim

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

// insertOutcomesSQL writes a group of outcomes, one array a column. One that is
// there already stays as it is.
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
ON CONFLICT DO NOTHING`

func insertOutcomes(ctx context.Context, tx pgx.Tx, outcomes []jobs.Outcome) error {
	type o = jobs.Outcome
	_, err := tx.Exec(ctx, insertOutcomesSQL,
		column(outcomes, func(o o) string { return o.ID }),
		column(outcomes, func(o o) string { return o.JobUID }),
		column(outcomes, func(o o) int64 { return o.JobID }),
		column(outcomes, func(o o) string { return o.TenantID }),
		column(outcomes, func(o o) string { return o.DatabaseID }),
		column(outcomes, func(o o) string { return o.Kind }),
		column(outcomes, func(o o) int { return o.Attempt }),
		column(outcomes, func(o o) string { return string(o.State) }),
		column(outcomes, func(o o) string { return string(o.Class) }),
		column(outcomes, func(o o) string { return o.SQLState }),
		column(outcomes, func(o o) string { return o.Message }),
		column(outcomes, func(o o) string { return o.Trace }),
		column(outcomes, func(o o) bool { return o.Recovered }),
		column(outcomes, func(o o) time.Time { return o.StartedAt }),
		column(outcomes, func(o o) time.Time { return o.EndedAt }),
		column(outcomes, func(o o) int64 { return o.Result.Rows }),
		column(outcomes, func(o o) string { return o.Result.Output }),
		column(outcomes, func(o o) string { return o.Schedule }),
		column(outcomes, func(o o) string { return o.Worker }),
	)
	if err != nil {
		return fmt.Errorf("writing %d outcomes: %w", len(outcomes), err)
	}
	return nil
}

// column is one field of a list, as an array parameter.
func column[T, V any](list []T, of func(T) V) []V {
	values := make([]V, len(list))
	for i, item := range list {
		values[i] = of(item)
	}
	return values
}
