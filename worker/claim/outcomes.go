package claim

import (
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/headgate/headgate/jobs"
)

// misfitError is an outcome that no row of the history can hold.
type misfitError struct{ err error }

func (e *misfitError) Error() string { return e.err.Error() }

func (e *misfitError) Unwrap() error { return e.err }

// outcomeColumns are the parameters $10 to $27 of the statements that end
// attempts. An end without an outcome has NULL for the outcome's id.
func outcomeColumns(ends []end) ([]any, error) {
	var none jobs.Outcome
	list := make([]*jobs.Outcome, len(ends))
	ids, uids, tenants, databases := make([]pgtype.UUID, len(ends)), make([]pgtype.UUID, len(ends)), make([]pgtype.UUID, len(ends)), make([]pgtype.UUID, len(ends))
	for i, e := range ends {
		if list[i] = e.outcome; e.outcome == nil {
			list[i] = &none
			continue
		}
		for _, column := range []struct {
			name, text string
			to         *pgtype.UUID
			optional   bool
		}{
			{"id", e.outcome.ID, &ids[i], false}, {"job_uid", e.outcome.JobUID, &uids[i], false},
			{"tenant_id", e.outcome.TenantID, &tenants[i], true}, {"database_id", e.outcome.DatabaseID, &databases[i], true},
		} {
			if column.optional && column.text == "" {
				continue
			}
			parsed, err := uuid.Parse(column.text)
			if err != nil {
				return nil, &misfitError{fmt.Errorf("the outcome of job %d: %s %.60q is no UUID", e.id, column.name, column.text)}
			}
			*column.to = pgtype.UUID{Bytes: parsed, Valid: true}
		}
	}
	type o = *jobs.Outcome
	return []any{
		ids, uids, tenants, databases,
		shared(list, func(o o) int { return o.Attempt }),
		shared(list, func(o o) string { return string(o.State) }),
		shared(list, func(o o) string { return string(o.Class) }),
		shared(list, func(o o) string { return o.SQLState }),
		shared(list, func(o o) string { return o.Message }),
		shared(list, func(o o) string { return o.Trace }),
		shared(list, func(o o) bool { return o.Recovered }),
		column(list, func(o o) time.Time { return o.StartedAt }),
		column(list, func(o o) time.Time { return o.EndedAt }),
		shared(list, func(o o) int64 { return o.Result.Rows }),
		shared(list, func(o o) string { return o.Result.Output }),
		shared(list, func(o o) string { return o.Schedule }),
		shared(list, func(o o) string { return o.Worker }),
		shared(list, func(o o) string { return string(o.Features) }),
	}, nil
}
