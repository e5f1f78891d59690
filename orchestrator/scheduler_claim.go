package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/calendar"
)

// due is a schedule whose time has come.
type due struct {
	id, tenant, database, server, status, zoneOfTenant string
	name, kind, queue, cron, zone                      string
	args                                               []byte
	priority, maxAttempts                              int
	policy                                             SchedulePolicy
	place                                              float64
	run                                                time.Time  // next_run_at
	nominal, answered, resumed                         *time.Time // NULL in rows that others wrote
	paused                                             bool
	pausedUntil                                        *time.Time
	note                                               string // of the pause
	last                                               string // UID of the last job
	waiting                                            []waiting
	fresh                                              bool // to be computed, not fired
}

// waiting is an occurrence that waits for the end of the run before it.
type waiting struct {
	At     time.Time `json:"at"`
	Origin string    `json:"origin"`
}

// mark is a place in the index on (next_run_at, id).
type mark struct {
	at time.Time
	id string
}

// claimDueSQL takes the rows that are due, oldest first, along the partial
// index on next_run_at; rows that another scheduler has locked are its own. The
// tenant is read, not locked: suspending it does not wait for a batch. It begins
// behind a mark: in a long backlog the walk would else go again and again over the
// entries of all rows that have moved on.
const claimDueSQL = `
SELECT s.id::text, coalesce(s.tenant_id::text, ''), coalesce(s.database_id::text, ''), d.server_id::text, coalesce(t.status, 'active'), coalesce(t.timezone, 'UTC'),
       s.name, s.kind, s.queue, s.cron, s.zone, s.args, s.priority, s.max_attempts,
       s.gap, s.repeat, s.start_at, s.end_at, s.max_occurrences, s.calendars, s.windows, s.spread,
       s.overlap, s.buffer_max, s.catch_up, s.catch_up_max, s.catch_up_window, s.pause_after, s.maintenance, s.place,
       s.next_run_at, s.next_nominal_at, s.answered_at, s.resumed_at, s.paused, s.paused_until, s.paused_note, coalesce(s.last_job_uid::text, ''), s.buffered, s.fresh
FROM headgate.schedules s
LEFT JOIN headgate.tenants t ON t.id = s.tenant_id
LEFT JOIN headgate.databases d ON d.id = coalesce(t.database_id, s.database_id)
WHERE s.next_run_at <= $1 AND (s.next_run_at, s.id) > ($3, $4)
ORDER BY s.next_run_at, s.id
LIMIT $2
FOR UPDATE OF s SKIP LOCKED`

// With stale statistics the planner would gather and sort the whole backlog for
// every batch instead of walking the index, and with those of an empty queue it
// would scan it. The lock, which any number of schedulers share, tells others that this
// session is a scheduler's, should it stall (headgate.end_stalled_sessions).
const noBitmapScan = `
SELECT set_config('enable_bitmapscan', 'off', true), set_config('enable_seqscan', 'off', true), set_config('statement_timeout', $1, true),
       pg_advisory_xact_lock_shared(4739, 0)`

// readTimeout bounds the statement that claims. Its answer is long, and others can end a
// session that stops reading only before a timeout has met it, which takes them 7 s.
const readTimeout = 15 * time.Second

// claimDue returns the rows that are due. One that cannot be read is stopped by
// itself, and is not among them.
func (s *Scheduler) claimDue(ctx context.Context, tx pgx.Tx, now time.Time, limit int, behind *mark) (batch []due, err error) {
	if behind == nil {
		behind = &mark{id: uuid.Nil.String()}
	}
	if _, err := tx.Exec(ctx, noBitmapScan, fmt.Sprint(readTimeout.Milliseconds())); err != nil {
		return nil, fmt.Errorf("preparing to claim due schedules: %w", err)
	}
	rows, err := tx.Query(ctx, claimDueSQL, now, limit, behind.at, behind.id)
	if err != nil {
		return nil, fmt.Errorf("claiming due schedules: %w", err)
	}
	defer rows.Close()
	unreadable := map[string]string{}
	for rows.Next() {
		var d due
		p := &d.policy
		err := scanApart(rows, &d.id, &d.tenant, &d.database, &d.server, &d.status, &d.zoneOfTenant,
			&d.name, &d.kind, &d.queue, &d.cron, &d.zone, &d.args, &d.priority, &d.maxAttempts,
			&p.Gap, &p.Repeat, &p.Start, &p.End, &p.Max, &p.Calendars, &p.Windows, &p.Spread,
			&p.Overlap, &p.BufferMax, &p.CatchUp, &p.CatchUpMax, &p.CatchUpWindow, &p.PauseAfter, &p.Maintenance, &d.place,
			&d.run, &d.nominal, &d.answered, &d.resumed, &d.paused, &d.pausedUntil, &d.note, &d.last, &d.waiting, &d.fresh)
		if err != nil {
			unreadable[d.id] = clip("its row cannot be read: "+err.Error(), 500)
			continue
		}
		batch = append(batch, d)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("claiming due schedules: %w", err)
	}
	if _, err := tx.Exec(ctx, setStatementTimeout, fmt.Sprint(s.cfg.StatementTimeout.Milliseconds())); err != nil {
		return nil, fmt.Errorf("claiming due schedules: %w", err)
	}
	for id, text := range unreadable {
		s.client.log.ErrorContext(ctx, "schedule stopped", "id", id, "error", text)
		if _, err := tx.Exec(ctx, breakSchedule, id, text); err != nil {
			return nil, fmt.Errorf("stopping schedule %s, whose row cannot be read: %w", id, err)
		}
	}
	return batch, nil
}

// scanApart scans the current row. Unlike Scan it leaves the rows open after an error,
// which says the column.
func scanApart(rows pgx.Rows, into ...any) error {
	types, values := rows.Conn().TypeMap(), rows.RawValues()
	for i, column := range rows.FieldDescriptions() {
		if err := types.Scan(column.DataTypeOID, column.Format, values[i], into[i]); err != nil {
			return fmt.Errorf("%s: %w", column.Name, err)
		}
	}
	return nil
}

func (d *due) delay() time.Duration {
	return calendar.Delay(d.place, time.Duration(d.policy.Spread)*time.Second)
}

// item is the job of one occurrence.
func (d *due) item(nominal time.Time) item {
	nominal = nominal.UTC()
	effective := nominal.Add(d.delay())
	return item{
		kind: d.kind, args: d.args, queue: d.queue, priority: d.priority, maxAttempts: d.maxAttempts,
		meta: jobs.Meta{
			UID: uuid.Must(uuid.NewV7()).String(), Tenant: d.tenant, Database: d.database, Schedule: d.name,
			Nominal: &nominal, Effective: &effective, TraceParent: newTraceParent(),
		},
	}
}

// sight is what a batch has to know beside its rows.
type sight struct {
	now       time.Time
	check     func(kind string, args []byte) error
	calendars map[string]calendar.Days

	unreadable unreadableCalendarsError
	running    map[string]bool // of the last jobs, by UID
	failing    map[string]bool // schedules that have failed too often in a row
	closed     closed
	durations  map[string]float64 // of kinds, in seconds; for maintenance only
}

func (s *Scheduler) look(ctx context.Context, tx pgx.Tx, now time.Time, batch []due) (*sight, error) {
	l := &sight{now: now, check: s.cfg.Check}
	var names, last []string
	for i := range batch {
		names = append(names, batch[i].policy.Calendars...)
		if batch[i].last != "" && (batch[i].policy.Overlap != OverlapAllow || len(batch[i].waiting) > 0) {
			last = append(last, batch[i].last)
		}
	}
	var err error
	if len(names) > 0 {
		l.calendars, err = readCalendars(ctx, tx, names)
		if err != nil && !errors.As(err, &l.unreadable) {
			return nil, err
		}
	}
	if l.running, err = unfinished(ctx, tx, last); err != nil {
		return nil, err
	}
	if l.failing, err = failing(ctx, tx, batch); err != nil {
		return nil, err
	}
	if l.closed, err = readClosures(ctx, tx, nil); err != nil {
		return nil, err
	}
	if len(l.closed) > 0 && slices.ContainsFunc(batch, func(d due) bool { return d.policy.Maintenance }) {
		l.durations, err = readDurations(ctx, tx)
	}
	return l, err
}

// whyClosed says what keeps a schedule from starting now, or "".
func (l *sight) whyClosed(d *due) string {
	if len(l.closed) == 0 {
		return ""
	}
	zone := d.zoneOfTenant
	if d.tenant == "" {
		zone = d.zone
	}
	takes := time.Duration(l.durations[d.kind] * float64(time.Second))
	return l.closed.why(start{tenant: d.tenant, server: d.server, zone: zone, maintenance: d.policy.Maintenance, takes: takes}, l.now)
}

// selectUnfinished is a probe of the index on UIDs for each. As one condition,
// = ANY, it was compared with every UID in every row whenever the plan had been made
// while the queue was short.
const selectUnfinished = `
SELECT u.uid
FROM unnest($1::text[]) AS u (uid)
CROSS JOIN LATERAL (
    SELECT FROM river_job j WHERE j.state <> 'completed' AND j.metadata ? 'job_uid' AND j.metadata->>'job_uid' = u.uid AND j.finalized_at IS NULL LIMIT 1) running`

// unfinished returns those of the jobs that have not ended.
func unfinished(ctx context.Context, tx pgx.Tx, uids []string) (map[string]bool, error) {
	if len(uids) == 0 {
		return nil, nil
	}
	rows, err := tx.Query(ctx, selectUnfinished, uids)
	if err != nil {
		return nil, fmt.Errorf("looking for the runs before: %w", err)
	}
	return asSet(rows)
}

// selectFailing: the last ended jobs of a schedule since it was resumed, as many
// as its bound, have all been given up. Jobs that are still tried do not count.
const selectFailing = `
SELECT s.id::text
FROM unnest($1::uuid[], $2::int[], $3::timestamptz[]) AS s (id, most, since)
CROSS JOIN LATERAL (
    SELECT bool_and(state = 'discarded') AS bad, count(*) AS n
    FROM (
        SELECT e.state
        FROM headgate.occurrences o
        CROSS JOIN LATERAL (
            SELECT x.state FROM headgate.outcomes x
            WHERE x.job_uid = o.job_uid AND x.state IN ('succeeded', 'discarded', 'cancelled')
            ORDER BY x.ended_at DESC LIMIT 1) e
        WHERE o.schedule_id = s.id AND o.job_uid IS NOT NULL AND o.decided_at > coalesce(s.since, '-infinity')
        ORDER BY o.nominal_at DESC LIMIT s.most) ended) r
WHERE r.bad AND r.n = s.most`

func failing(ctx context.Context, tx pgx.Tx, batch []due) (map[string]bool, error) {
	var ids []string
	var most []int
	var since []*time.Time
	for i := range batch {
		if n := batch[i].policy.PauseAfter; n > 0 {
			ids, most, since = append(ids, batch[i].id), append(most, n), append(since, batch[i].resumed)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	rows, err := tx.Query(ctx, selectFailing, ids, most, since)
	if err != nil {
		return nil, fmt.Errorf("looking for schedules that fail: %w", err)
	}
	return asSet(rows)
}

func asSet(rows pgx.Rows) (map[string]bool, error) {
	texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	set := make(map[string]bool, len(texts))
	for _, text := range texts {
		set[text] = true
	}
	return set, err
}
