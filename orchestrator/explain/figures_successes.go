package explain

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// mostAnswers bounds the answers that one look at successes reads, except that three of each
// schedule are read in any case. A schedule that succeeds needs one.
const mostAnswers = 60_000

// successesSQL finds of each schedule of the names in $1 the newest answer whose job has
// succeeded. It walks back from the last answer and stops at the first success. After too
// many answers without one the oldest of these is a lower bound.
//
// An attempt ends after its occurrence was decided, so of the history only the months since
// then are looked at; a day is for clocks that differ. All schedules are read once.
const successesSQL = `
WITH watched AS MATERIALIZED (
    SELECT s.id, s.name, s.created_at, s.paused FROM headgate.schedules s WHERE s.name = ANY ($1)
), depth AS MATERIALIZED (
    SELECT greatest(3, least(10000, $2 / greatest(count(*), 1))) AS n FROM watched
)
SELECT n.name, count(w.id)::int,
       max(extract(epoch FROM now() - coalesce(
           f.at,
           (SELECT min(c.nominal_at)
            FROM (SELECT c.nominal_at FROM headgate.occurrences c WHERE c.schedule_id = w.id AND c.outcome = 'fired'
                  ORDER BY c.nominal_at DESC LIMIT (SELECT n FROM depth)) c),
           w.created_at))) FILTER (WHERE NOT w.paused)::float8
FROM (SELECT DISTINCT name FROM unnest($1::text[]) AS n (name)) n
LEFT JOIN watched w ON w.name = n.name
LEFT JOIN LATERAL (
    SELECT o.ended_at AS at
    FROM (SELECT c.job_uid, c.nominal_at, c.decided_at FROM headgate.occurrences c WHERE c.schedule_id = w.id AND NOT w.paused AND c.outcome = 'fired'
          ORDER BY c.nominal_at DESC LIMIT (SELECT n FROM depth)) c
    CROSS JOIN LATERAL (
        SELECT o.ended_at FROM headgate.outcomes o
        WHERE o.job_uid = c.job_uid AND o.state = 'succeeded' AND o.ended_at > c.decided_at - interval '1 day' AND o.ended_at < now() + interval '1 day'
        ORDER BY o.ended_at DESC LIMIT 1
    ) o
    ORDER BY c.nominal_at DESC LIMIT 1
) f ON true
GROUP BY 1`

func (f *Figures) successes(ctx context.Context, tx pgx.Tx, names []string) error {
	if len(names) == 0 {
		return nil
	}
	ages, counts := map[string]time.Duration{}, map[string]int{}
	var name string
	var n int
	var age *float64
	rows, _ := tx.Query(ctx, successesSQL, names, mostAnswers) // its error is ForEachRow's too
	_, err := pgx.ForEachRow(rows, []any{&name, &n, &age}, func() error {
		counts[name] = n
		if age != nil {
			ages[name] = seconds(*age)
		}
		return nil
	})
	if err == nil {
		f.Successes, f.Watched = ages, counts
	}
	return err
}

const unknownSchedulesSQL = `SELECT n.name FROM unnest($1::text[]) AS n (name) WHERE NOT EXISTS (SELECT FROM headgate.schedules s WHERE s.name = n.name)`

// UnknownSchedules returns which of the names no schedule has, whoever's.
func (x *Explainer) UnknownSchedules(ctx context.Context, names []string) (unknown []string, err error) {
	rows, _ := x.pool.Query(ctx, unknownSchedulesSQL, names) // its error is CollectRows' too
	if unknown, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
		return nil, fmt.Errorf("looking for schedules by name: %w", err)
	}
	return unknown, nil
}
