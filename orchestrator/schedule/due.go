package schedule

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/wire"
	"github.com/headgate/headgate/orchestrator/calendar"
	"github.com/headgate/headgate/orchestrator/internal/fit"
	"github.com/headgate/headgate/orchestrator/internal/queue"
)

// dueSchedule is a schedule whose time has come.
type dueSchedule struct {
	id, tenant, database, server, status, zoneOfTenant string
	name                                               string
	refused, refusedSays                               string // why the tenant may not have it (headgate.kind_refusal), or ""
	Spec
	place                      float64
	run                        time.Time  // next_run_at
	nominal, answered, resumed *time.Time // NULL in rows that others wrote
	paused                     bool
	pausedUntil                *time.Time
	note                       string // of the pause
	last                       string // UID of the last job
	waiting                    []waiting
	needsCompute               bool     // to be computed, not fired
	former                     []former // the times that it had, of which some are not answered

	table  *calendar.Schedule // nil before decide
	traced []func(error)      // end the spans of what has fired
	aside  bool               // nothing of its decision was written
}

// waiting is an occurrence that waits for the end of the run before it.
type waiting struct {
	At      time.Time `json:"at"`
	Origin  string    `json:"origin"`
	Request string    `json:"request,omitempty"` // UUID of the request that asked for it; "" for the schedule's own times
}

// uid is the UID of its job.
func (w waiting) uid(d *dueSchedule) string {
	if w.Origin == originTrigger { // the request is all of it: neither the moment nor the kind of then
		return wire.UIDOfOccurrence(d.id, time.Time{}, "", w.Request)
	}
	return wire.UIDOfOccurrence(d.id, w.At, d.Kind, w.Request)
}

// cursor is a place in the index on (next_run_at, id).
type cursor struct {
	at time.Time
	id string
}

// claimDueSQL takes the rows that are due, oldest first, along the partial
// index on next_run_at; rows that another scheduler has locked are its own. The
// tenant is read, not locked: suspending it does not wait for a batch. It begins
// behind a cursor: in a long backlog the walk would else go again and again over the
// entries of all rows that have moved on.
const claimDueSQL = dueColumns + `
WHERE s.next_run_at <= $1 AND (s.next_run_at, s.id) > ($3, $4)
ORDER BY s.next_run_at, s.id
LIMIT $2
FOR UPDATE OF s SKIP LOCKED`

// claimOneSQL takes one row, due or not.
const claimOneSQL = dueColumns + `WHERE s.id = $1 FOR UPDATE OF s`

// dueColumns are in the order of dueSchedule.into. headgate.end_stalled_sessions must see
// that the statement locks, and Postgres shows others its first 1,024 bytes only.
const dueColumns = `/* FOR UPDATE of headgate.schedules */
SELECT s.id::text, coalesce(s.tenant_id::text, ''), coalesce(s.database_id::text, ''), coalesce(d.server_id::text, ''), coalesce(t.status, 'active'), coalesce(t.timezone, 'UTC'), s.name, s.place,
       coalesce(r.why, ''), coalesce(r.says, ''),
       s.next_run_at, s.next_nominal_at, s.answered_at, s.resumed_at, s.paused, s.paused_until, s.paused_note, coalesce(s.last_job_uid::text, ''), s.buffered, s.fresh, s.former, ` + specColumns + `
FROM headgate.schedules s
LEFT JOIN headgate.tenants t ON t.id = s.tenant_id
LEFT JOIN (SELECT id, server_id FROM headgate.databases) d ON d.id = coalesce(t.database_id, s.database_id)
LEFT JOIN LATERAL headgate.kind_refusal(s.tenant_id, s.kind, s.name) r ON true
`

// into is where a row is read into. next_run_at may be NULL only in claimOneSQL.
func (d *dueSchedule) into(run any) []any {
	return append([]any{&d.id, &d.tenant, &d.database, &d.server, &d.status, &d.zoneOfTenant, &d.name, &d.place, &d.refused, &d.refusedSays,
		run, &d.nominal, &d.answered, &d.resumed, &d.paused, &d.pausedUntil, &d.note, &d.last, &d.waiting, &d.needsCompute, &d.former}, d.columns()...)
}

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
func (s *Scheduler) claimDue(ctx context.Context, tx pgx.Tx, now time.Time, limit int, behind *cursor) (batch []dueSchedule, err error) {
	if behind == nil {
		behind = &cursor{id: uuid.Nil.String()}
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
		var d dueSchedule
		if err := scanApart(rows, d.into(&d.run)...); err != nil {
			unreadable[d.id] = fit.Clip("its row cannot be read: "+err.Error(), 500)
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
		s.store.log.ErrorContext(ctx, "schedule stopped", "id", id, "error", text)
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

// refusal says how occurrences are answered while the tenant takes no work, or may not have
// the schedule or its kind, and why; "" if nothing is against it.
func (d *dueSchedule) refusal() (outcome OccurrenceOutcome, why string) {
	switch {
	case d.status != "active" && d.status != "moving":
		return SuspendedTenant, "the tenant is " + d.status
	case d.refused != "":
		return FeatureOff, d.refusedSays
	}
	return "", ""
}

// delay is how long after its time an occurrence starts: inside its windows, and before
// a blackout begins.
func (l *snapshot) delay(d *dueSchedule, at time.Time) time.Duration {
	spread := d.Policy.Spread
	if d.table == nil || spread == 0 {
		return d.mostDelay()
	}
	if spread = d.table.Room(at, spread); len(l.windows) > 0 {
		spread = l.windows.room(l.start(d), at, spread)
	}
	return calendar.Delay(d.place, spread)
}

// mostDelay is that of an occurrence that has room for all of its spread.
func (d *dueSchedule) mostDelay() time.Duration {
	return calendar.Delay(d.place, d.Policy.Spread)
}

// starts is when an occurrence starts.
func (l *snapshot) starts(d *dueSchedule, at time.Time) time.Time { return at.Add(l.delay(d, at)) }

// item is the job of one occurrence.
func (l *snapshot) item(d *dueSchedule, w waiting) queue.Draft {
	nominal := w.At.UTC()
	effective := l.starts(d, nominal)
	return queue.Draft{
		Kind: d.Kind, Args: d.Args, Choices: d.choices(),
		Meta: wire.Meta{
			UID: w.uid(d), Tenant: d.tenant, Database: d.database, Schedule: d.name,
			Nominal: &nominal, Effective: &effective, Brand: d.Brand,
		},
	}
}

// snapshot is what a batch has to know beside its rows.
type snapshot struct {
	now       time.Time
	check     func(kind string, args []byte) error
	calendars map[string]calendar.Days

	unreadable unreadableCalendarsError
	running    map[string]string // of the last jobs that have not ended, by UID: how they stand
	failing    map[string]bool   // schedules that have failed too often in a row
	windows    windows
	durations  map[string]float64 // of kinds, in seconds; for maintenance only
}

func (st *Store) look(ctx context.Context, tx pgx.Tx, now time.Time, batch []dueSchedule) (*snapshot, error) {
	l := &snapshot{now: now, check: st.check}
	var names, last []string
	for i := range batch {
		names = append(names, batch[i].Policy.Calendars...)
		if batch[i].last != "" && (batch[i].Policy.Overlap != OverlapAllow || len(batch[i].waiting) > 0) {
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
	if l.windows, err = readWindows(ctx, tx); err != nil {
		return nil, err
	}
	if len(l.windows) > 0 && slices.ContainsFunc(batch, func(d dueSchedule) bool { return d.Policy.Maintenance }) {
		l.durations, err = readDurations(ctx, tx)
	}
	return l, err
}

// whyClosed says what keeps an occurrence from starting, or "". One that is on time is
// judged by the time that its schedule names, one that is late by the present.
func (l *snapshot) whyClosed(d *dueSchedule, at time.Time) string {
	if len(l.windows) == 0 {
		return ""
	}
	s := l.start(d)
	if d.table == nil || l.now.Sub(l.starts(d, at)) > graceAlone {
		return l.windows.why(s, l.now)
	}
	s.named, s.namedIn = d.table.Named(at), d.Zone
	return l.windows.why(s, at)
}

func (l *snapshot) start(d *dueSchedule) start {
	zone := d.zoneOfTenant
	if d.tenant == "" {
		zone = d.Zone
	}
	takes := time.Duration(l.durations[d.Kind] * float64(time.Second))
	return start{tenant: d.tenant, server: d.server, zone: zone, maintenance: d.Policy.Maintenance, takes: takes}
}

// selectUnfinished is a probe of the index on UIDs for each. As one condition,
// = ANY, it was compared with every UID in every row whenever the plan had been made
// while the queue was short.
const selectUnfinished = `
SELECT u.uid, running.state, running.attempt, running.max_attempts, running.scheduled_at
FROM unnest($1::text[]) AS u (uid)
CROSS JOIN LATERAL (
    SELECT j.state::text, j.attempt, j.max_attempts, j.scheduled_at FROM river_job j WHERE j.state <> 'completed' AND headgate.has_uid(j.metadata, u.uid) AND j.finalized_at IS NULL LIMIT 1) running`

// unfinished returns those of the jobs that have not ended, and how they stand.
func unfinished(ctx context.Context, tx pgx.Tx, uids []string) (map[string]string, error) {
	if len(uids) == 0 {
		return nil, nil
	}
	rows, err := tx.Query(ctx, selectUnfinished, uids)
	if err != nil {
		return nil, fmt.Errorf("looking for the runs before: %w", err)
	}
	running := map[string]string{}
	var uid, state string
	var attempt, most int
	var at jobs.Time
	_, err = pgx.ForEachRow(rows, []any{&uid, &state, &attempt, &most, &at}, func() error {
		switch state := queue.StateOf(state); state {
		case jobs.Failed:
			running[uid] = fmt.Sprintf("attempt %d of %d failed, the next is due %s", attempt, most, at.UTC())
		case jobs.Running:
			running[uid] = fmt.Sprintf("attempt %d of %d runs", attempt, most)
		default:
			running[uid] = "it is " + string(state)
		}
		return nil
	})
	return running, err
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

func failing(ctx context.Context, tx pgx.Tx, batch []dueSchedule) (map[string]bool, error) {
	var ids []string
	var most []int
	var since []*time.Time
	for i := range batch {
		if n := batch[i].Policy.PauseAfter; n > 0 {
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
