package schedule

import (
	"context"
	"fmt"
	"time"

	"github.com/headgate/headgate/jobs"
)

// LastAnswers says what became of the last occurrences of a schedule that have an answer, the
// latest first: 10, or up to 100. Neighbours that have the same answer are one. The error
// matches ErrUnknown.
func (st *Store) LastAnswers(ctx context.Context, of Key, most int) ([]OccurrenceAnswer, error) {
	size, err := jobs.Page{Limit: most}.Size(10, 100)
	if err != nil {
		return nil, fmt.Errorf("listing the last answers of schedule %s: %w", of.Name, err)
	}
	s, err := st.Get(ctx, of)
	if err != nil {
		return nil, err
	}
	zone, err := time.LoadLocation(s.Zone)
	if err != nil {
		return nil, fmt.Errorf("schedule %s of %s: %w", of.Name, of.owner(), err)
	}
	rows, _, err := st.Occurrences(ctx, s.ID, jobs.Page{Limit: size})
	if err != nil {
		return nil, err
	}
	answers := make([]OccurrenceAnswer, len(rows))
	for i := range rows {
		o := &rows[i]
		answers[i] = OccurrenceAnswer{
			Schedule: s.Name, Local: o.NominalAt.In(zone).Format(time.RFC3339), Zone: s.Zone, UTC: o.NominalAt,
			Named: o.Origin != originTrigger, Answer: string(o.Outcome), Because: because(o), Row: o,
		}
	}
	return answers, st.followJobs(ctx, answers)
}
