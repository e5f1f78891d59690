package queue

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/wire"
	"github.com/headgate/headgate/orchestrator/internal/central"
)

// rerunKey begins the idempotency key under which a job is rerun once; its UID follows.
const rerunKey = "headgate.restored/"

// historySinceSQL is the database's time, and the month with which the history begins.
const historySinceSQL = `
SELECT now(), (SELECT min(to_date(right(c.relname, 7), 'YYYY_MM'))::timestamp AT TIME ZONE 'UTC'
                 FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                WHERE i.inhparent = 'headgate.outcomes'::regclass AND c.relname ~ '^outcomes_[0-9]{4}_[0-9]{2}$')`

// succeededSQL reads the months of the history from a time on as a whole, because outcomes
// have no index of databases or times: every end of a job would pay for it. A tenant that has
// moved away since has its data elsewhere.
const succeededSQL = `
SELECT o.job_uid::text, o.kind, coalesce(t.slug, ''), coalesce(t.org_id, 0), o.started_at, o.ended_at,
       coalesce(j.metadata->>'parent', ''), coalesce(k.job_uid::text, ''), p.job_uid IS NOT NULL, j.id IS NULL
FROM headgate.outcomes o
LEFT JOIN headgate.tenants t ON t.id = o.tenant_id
LEFT JOIN river_job j ON j.id = o.job_id AND headgate.job_uid(j.metadata, j.id, j.created_at) = o.job_uid
LEFT JOIN headgate.idempotency_keys k ON k.scope = coalesce(o.tenant_id, o.database_id) AND k.key = $5 || o.job_uid::text
LEFT JOIN headgate.idempotency_keys p ON p.scope = coalesce(o.tenant_id, o.database_id) AND p.key = $5 || (j.metadata->>'parent')
WHERE o.database_id = $1 AND o.state = 'succeeded' AND o.ended_at >= $2 AND o.ended_at < $3
  AND (o.tenant_id IS NULL OR t.database_id = $1) AND o.kind <> ALL ($6)
ORDER BY o.ended_at, o.job_uid
LIMIT $4`

// ownKinds are those of Headgate's own jobs that settle other jobs, and of erasures, whose rerun
// finds that the tenant is erased: ErasedSince lists them.
var ownKinds = []string{wire.Tombstone{}.Kind(), wire.DatabaseTombstone{}.Kind(), wire.Erase{}.Kind()}

// Succeeded lists the succeeded jobs of a database (see orchestrator.Client).
func (q *Queue) Succeeded(ctx context.Context, f jobs.SucceededFilter) ([]jobs.SucceededJob, error) {
	if err := q.Ready(ctx); err != nil {
		return nil, err
	}
	id, err := q.catalog.DatabaseID(ctx, f.Database)
	if err != nil {
		return nil, err
	}
	if f.Until, err = q.checkTimes(ctx, f.To, f.Until); err != nil {
		return nil, fmt.Errorf("listing the jobs that have succeeded in database %s: %w", f.Database, err)
	}
	rows, err := q.pool.Query(ctx, succeededSQL, id, f.To.Add(-f.Margin), f.Until, jobs.MostSucceeded+1, rerunKey, ownKinds)
	if err != nil {
		return nil, fmt.Errorf("listing the jobs that have succeeded in database %s: %w", f.Database, err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[jobs.SucceededJob])
	switch {
	case err != nil:
		return nil, fmt.Errorf("listing the jobs that have succeeded in database %s: %w", f.Database, err)
	case len(list) > jobs.MostSucceeded:
		return nil, jobs.Inputf("until", stamp(f.Until), "more than %d jobs have succeeded in database %s since %s: give an until no later than %s, and go on from there", jobs.MostSucceeded, f.Database, stamp(f.To), stamp(list[jobs.MostSucceeded-1].EndedAt))
	}
	return list, nil
}

// checkTimes refuses times of which the history or the ledger cannot speak, and returns the
// end of the time that is asked for.
func (q *Queue) checkTimes(ctx context.Context, to, until time.Time) (time.Time, error) {
	var now time.Time
	var first *time.Time
	if err := q.pool.QueryRow(ctx, historySinceSQL).Scan(&now, &first); err != nil {
		return until, fmt.Errorf("asking since when the history is kept: %w", err)
	}
	if until.IsZero() {
		until = now.Add(time.Hour) // whatever the workers' clocks say
	}
	switch {
	case to.After(now):
		return until, jobs.Inputf("to", stamp(to), "it lies in the future, it is %s: give a time before now", stamp(now))
	case first != nil && to.Before(*first):
		return until, jobs.Inputf("to", stamp(to), "the history begins at %s: give a time from then on", stamp(*first))
	case now.Sub(to) > jobs.LedgerRetention:
		return until, jobs.Inputf("to", stamp(to), "the ledger remembers %d days: give a time from %s on", int(jobs.LedgerRetention.Hours()/24), stamp(now.Add(-jobs.LedgerRetention)))
	case !until.After(to):
		return until, jobs.Inputf("until", stamp(until), "give a time after %s", stamp(to))
	}
	return until, nil
}

func stamp(at time.Time) string { return at.UTC().Format(time.RFC3339) }

// RerunOnce reruns jobs, each once (see orchestrator.Client). One that is refused keeps no
// other one back.
func (q *Queue) RerunOnce(ctx context.Context, tx pgx.Tx, uids []string) ([]jobs.RerunOnceResult, error) {
	if len(uids) > jobs.MaxRerunOnce {
		return nil, jobs.Inputf("jobs", "", "%d are too many: give at most %d at a time", len(uids), jobs.MaxRerunOnce)
	}
	results := make([]jobs.RerunOnceResult, len(uids))
	some := func(tx pgx.Tx, from, to int) error {
		for i := from; i < to; i++ {
			result, err := q.rerunOnce(ctx, tx, uids[i])
			if err != nil {
				return err
			}
			results[i] = jobs.RerunOnceResult{UID: uids[i], Result: result}
		}
		return nil
	}
	aside := func(_ pgx.Tx, i int, cause error) error {
		results[i] = jobs.RerunOnceResult{UID: uids[i], Err: cause}
		return nil
	}
	if len(uids) == 0 {
		return results, nil
	}
	return results, central.Apart(ctx, tx, 0, len(uids), some, aside)
}

func (q *Queue) rerunOnce(ctx context.Context, tx pgx.Tx, uid string) (jobs.EnqueueResult, error) {
	uid, err := parseUID(uid)
	if err != nil {
		return jobs.EnqueueResult{}, err
	}
	result, err := q.Rerun(ctx, tx, uid, &jobs.EnqueueOpts{IdempotencyKey: rerunKey + uid})
	if err != nil {
		return jobs.EnqueueResult{}, err
	}
	result.RerunOf = uid
	return result, nil
}
