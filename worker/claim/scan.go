package claim

import (
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/rivershared/uniquestates"
	"github.com/riverqueue/river/rivertype"

	"github.com/headgate/headgate/jobs"
)

// taken is a row of takeSQL, in types that can hold every value that its column allows.
type taken struct {
	row         rivertype.JobRow
	attempt     int16
	maxAttempts int16
	priority    int16
	attemptedAt time.Time
	createdAt   jobs.Time
	scheduledAt jobs.Time
	attemptedBy pgtype.FlatArray[*string]
	tags        pgtype.FlatArray[*string]
	failures    pgtype.FlatArray[[]byte]
	states      pgtype.Bits
}

// targets are where the columns of takeSQL go, in their order.
func (t *taken) targets() []any {
	return []any{
		&t.row.ID, &t.row.EncodedArgs, &t.attempt, &t.attemptedAt, &t.attemptedBy, &t.createdAt, &t.failures, &t.row.Kind, &t.maxAttempts,
		&t.row.Metadata, &t.priority, &t.row.Queue, &t.scheduledAt, &t.tags, &t.row.UniqueKey, &t.states,
	}
}

// scanTaken reads one row of takeSQL. A column that cannot be read is left out, and broken
// names that column: River then ends the job without running it, and the other jobs of
// the claim go on.
func scanTaken(rows pgx.Rows) (job *rivertype.JobRow, broken error) {
	var t taken
	types, fields, raw := rows.Conn().TypeMap(), rows.FieldDescriptions(), rows.RawValues()
	for i, to := range t.targets() {
		if err := types.Scan(fields[i].DataTypeOID, fields[i].Format, raw[i], to); err != nil && broken == nil {
			broken = fmt.Errorf("column %s cannot be read: %w", fields[i].Name, err)
		}
	}
	row := &t.row
	row.State, row.AttemptedAt = rivertype.JobStateRunning, ptr(t.attemptedAt.UTC())
	row.Attempt, row.MaxAttempts, row.Priority = int(t.attempt), max(int(t.maxAttempts), 0), max(int(t.priority), 0)
	row.CreatedAt, row.ScheduledAt = t.createdAt.Time, t.scheduledAt.Time
	row.AttemptedBy, row.Tags = plainTexts(t.attemptedBy), plainTexts(t.tags)
	if t.states.Valid && len(t.states.Bytes) > 0 {
		row.UniqueStates = uniquestates.UniqueBitmaskToStates(t.states.Bytes[0])
	}
	row.Errors = make([]rivertype.AttemptError, len(t.failures))
	for i, raw := range t.failures {
		if riverdriver.UnmarshalAttemptError(raw, &row.Errors[i]) != nil {
			row.Errors[i] = rivertype.AttemptError{Error: "what stands here is no attempt's error"}
		}
	}
	return row, broken
}

// plainTexts leaves out NULLs.
func plainTexts(list []*string) []string {
	texts := make([]string, 0, len(list))
	for _, text := range list {
		if text != nil {
			texts = append(texts, *text)
		}
	}
	return texts
}
