package schedule

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/calendar"
	"github.com/headgate/headgate/orchestrator/internal/fit"
)

// OccurrenceOutcome says what became of an occurrence.
type OccurrenceOutcome string

// The outcomes.
const (
	Fired           OccurrenceOutcome = "fired"
	SkippedOverlap  OccurrenceOutcome = "skipped_overlap"   // the run before had not ended
	SkippedPaused   OccurrenceOutcome = "skipped_paused"    // the schedule was paused
	SkippedDST      OccurrenceOutcome = "skipped_dst"       // by its policy for gaps and repeated times
	SkippedExcluded OccurrenceOutcome = "skipped_excluded"  // by a calendar, a window or a blackout
	MissedWindow    OccurrenceOutcome = "missed_window"     // nobody fired it in time, and then it was too late
	Coalesced       OccurrenceOutcome = "coalesced"         // missed, and made up for by a later one
	SuspendedTenant OccurrenceOutcome = "suspended"         // its tenant took no work
	FeatureOff      OccurrenceOutcome = "feature_off"       // its tenant lacks a feature that it needs, or may not have its kind
	FailedToEnqueue OccurrenceOutcome = "failed_to_enqueue" // its job could not be made
	Superseded      OccurrenceOutcome = "superseded"        // the schedule was changed or deleted before it started
)

// The origins of an occurrence.
const (
	originClock    = "clock"
	originDST      = "dst"
	originTrigger  = "trigger"
	originBackfill = "backfill"
)

// Occurrence is the answer for one occurrence, or for a run of neighbours that
// have the same.
type Occurrence struct {
	NominalAt   time.Time         `json:"nominal_at"` // of the first
	LastAt      time.Time         `json:"last_at"`    // of the last
	Count       int               `json:"count"`
	Origin      string            `json:"origin"` // clock, dst, trigger or backfill
	Outcome     OccurrenceOutcome `json:"outcome"`
	EffectiveAt *time.Time        `json:"effective_at"`
	DecidedAt   time.Time         `json:"decided_at"`
	JobUID      string            `json:"job_uid,omitempty"`
	Note        string            `json:"note,omitempty"`
}

// occurrenceRow is an Occurrence on its way into its row.
type occurrenceRow struct {
	schedule string
	Occurrence
}

// one answer for one time.
func single(schedule string, at, now time.Time, outcome OccurrenceOutcome, note string) occurrenceRow {
	return occurrenceRow{schedule, Occurrence{NominalAt: at, LastAt: at, Count: 1, Origin: originClock, Outcome: outcome, DecidedAt: now, Note: note}}
}

// answersOf gives one answer to all occurrences after one time and up to another,
// and theirs to those that the calendar itself takes away.
func answersOf(table *calendar.Schedule, schedule string, after, upto, now time.Time, outcome OccurrenceOutcome, note string) []occurrenceRow {
	answers := skipsOf(table, schedule, after, upto, now)
	if n := table.Count(after, upto); n > 0 {
		a := single(schedule, table.Next(after), now, outcome, note)
		a.LastAt, a.Count = table.Last(after, upto, 1)[0], n
		answers = append(answers, a)
	}
	return answers
}

// skipsOf answers what the calendar itself takes away.
func skipsOf(table *calendar.Schedule, schedule string, after, upto, now time.Time) (answers []occurrenceRow) {
	for _, skip := range table.Skips(after, upto) {
		a := single(schedule, skip.From, now, SkippedExcluded, skip.Note)
		if skip.Reason == calendar.SkipDST {
			a.Outcome, a.Origin = SkippedDST, originDST
		}
		a.LastAt, a.Count = skip.To, skip.Count
		if skip.Bounded {
			a.Note += "; the count is a lower bound"
		}
		answers = append(answers, a)
	}
	return answers
}

// insertAnswersSQL writes answers. One that is there already stays: an occurrence
// is answered once.
const insertAnswersSQL = `
WITH written AS (
INSERT INTO headgate.occurrences (schedule_id, nominal_at, last_at, count, origin, outcome, effective_at, decided_at, job_uid, note)
SELECT a.schedule_id, a.nominal_at, a.last_at, a.count, a.origin, a.outcome, a.effective_at, a.decided_at, nullif(a.job_uid, '')::uuid, a.note
FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[], $4::int[], $5::text[], $6::text[], $7::timestamptz[], $8::timestamptz[], $9::text[], $10::text[])
     AS a (schedule_id, nominal_at, last_at, count, origin, outcome, effective_at, decided_at, job_uid, note)
ON CONFLICT DO NOTHING RETURNING job_uid)
SELECT count(*), coalesce(array_agg(job_uid::text) FILTER (WHERE job_uid IS NOT NULL), '{}') FROM written`

// extendAnswersSQL lets the last answer of a schedule go on, where it is the same as one that
// follows it: a tenant that takes no work for years has one answer, not one for each time.
const extendAnswersSQL = `
UPDATE headgate.occurrences o
SET last_at = a.last_at, count = o.count + a.count, decided_at = a.decided_at
FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[], $4::int[], $5::text[], $6::timestamptz[], $7::text[])
     AS a (schedule_id, nominal_at, last_at, count, outcome, decided_at, note)
CROSS JOIN LATERAL (
    SELECT l.nominal_at, l.origin, l.outcome, l.note, l.last_at FROM headgate.occurrences l
    WHERE l.schedule_id = a.schedule_id ORDER BY l.nominal_at DESC, l.origin DESC LIMIT 1) l
WHERE o.schedule_id = a.schedule_id AND o.nominal_at = l.nominal_at AND o.origin = l.origin
  AND l.origin = 'clock' AND l.outcome = a.outcome AND l.note = a.note AND l.last_at < a.nominal_at
RETURNING a.schedule_id::text, a.nominal_at`

// extendAnswers writes the answers that only prolong the ones before them, and returns the
// others.
func extendAnswers(ctx context.Context, tx pgx.Tx, answers []occurrenceRow) ([]occurrenceRow, error) {
	prolongs := func(a occurrenceRow) bool {
		return a.Origin == originClock && (a.Outcome == SuspendedTenant || a.Outcome == FeatureOff)
	}
	var schedules, outcomes, notes []string
	var nominals, lasts, decided []time.Time
	var counts []int32
	for _, a := range answers {
		if prolongs(a) {
			schedules, outcomes, notes = append(schedules, a.schedule), append(outcomes, string(a.Outcome)), append(notes, fit.Clip(a.Note, 500))
			nominals, lasts, decided, counts = append(nominals, a.NominalAt), append(lasts, a.LastAt), append(decided, a.DecidedAt), append(counts, int32(a.Count))
		}
	}
	if len(schedules) == 0 {
		return answers, nil
	}
	rows, err := tx.Query(ctx, extendAnswersSQL, schedules, nominals, lasts, counts, outcomes, decided, notes)
	if err != nil {
		return nil, fmt.Errorf("prolonging answers: %w", err)
	}
	type place struct {
		schedule string
		at       int64
	}
	done := map[place]bool{}
	var id string
	var at time.Time
	if _, err := pgx.ForEachRow(rows, []any{&id, &at}, func() error { done[place{id, at.UnixMicro()}] = true; return nil }); err != nil {
		return nil, fmt.Errorf("prolonging answers: %w", err)
	}
	return slices.DeleteFunc(slices.Clone(answers), func(a occurrenceRow) bool {
		return prolongs(a) && done[place{a.schedule, a.NominalAt.UnixMicro()}]
	}), nil
}

// insertAnswers returns how many were new, and the UIDs of the jobs that those name.
func insertAnswers(ctx context.Context, tx pgx.Tx, answers []occurrenceRow) (written int, jobs []string, err error) {
	n := len(answers)
	if n == 0 {
		return 0, nil, nil
	}
	schedules, nominals, lasts, counts := make([]string, n), make([]time.Time, n), make([]time.Time, n), make([]int32, n)
	origins, outcomes, effectives, decided := make([]string, n), make([]string, n), make([]*time.Time, n), make([]time.Time, n)
	uids, notes := make([]string, n), make([]string, n)
	for i, a := range answers {
		schedules[i], nominals[i], lasts[i], counts[i] = a.schedule, a.NominalAt, a.LastAt, int32(a.Count)
		origins[i], outcomes[i], effectives[i], decided[i] = a.Origin, string(a.Outcome), a.EffectiveAt, a.DecidedAt
		uids[i], notes[i] = a.JobUID, fit.Clip(a.Note, 500)
	}
	row := tx.QueryRow(ctx, insertAnswersSQL, schedules, nominals, lasts, counts, origins, outcomes, effectives, decided, uids, notes)
	if err := row.Scan(&written, &jobs); err != nil {
		return 0, nil, fmt.Errorf("writing what became of occurrences (%d): %w", n, err)
	}
	return written, jobs, nil
}

const occurrenceColumns = `
SELECT nominal_at, last_at, count, origin, outcome, effective_at, decided_at, coalesce(job_uid::text, ''), note
FROM headgate.occurrences
`

func scanOccurrence(row pgx.CollectableRow) (o Occurrence, err error) {
	err = row.Scan(&o.NominalAt, &o.LastAt, &o.Count, &o.Origin, &o.Outcome, &o.EffectiveAt, &o.DecidedAt, &o.JobUID, &o.Note)
	o.NominalAt, o.LastAt, o.DecidedAt = o.NominalAt.UTC(), o.LastAt.UTC(), o.DecidedAt.UTC()
	if o.EffectiveAt != nil {
		utc := o.EffectiveAt.UTC()
		o.EffectiveAt = &utc
	}
	return o, err
}

const listOccurrences = occurrenceColumns + `
WHERE schedule_id = $1 AND (nominal_at, origin) < (coalesce($2, 'infinity'::timestamptz), $3)
ORDER BY nominal_at DESC, origin DESC
LIMIT $4`

// Occurrences returns a page of the answers of a schedule (Schedule.ID), the latest first.
// A page has 20 unless it says otherwise, at most 1,000.
func (st *Store) Occurrences(ctx context.Context, id string, page jobs.Page) (list []Occurrence, next string, err error) {
	if err := checkID(id); err != nil {
		return nil, "", fmt.Errorf("listing the occurrences of a schedule: %w", err)
	}
	limit, err := page.Size(20, 1000)
	if err != nil {
		return nil, "", fmt.Errorf("listing the occurrences of a schedule: %w", err)
	}
	var behind *time.Time
	var origin string
	if page.After != "" {
		at, rest, ok := fit.ReadPlace(page.After)
		if !ok {
			return nil, "", fmt.Errorf("listing the occurrences of a schedule: %w", page.Unknown())
		}
		behind, origin = &at, rest
	}
	rows, _ := st.pool.Query(ctx, listOccurrences, id, behind, origin, limit+1) // its error is CollectRows' too
	if list, err = pgx.CollectRows(rows, scanOccurrence); err != nil {
		return nil, "", fmt.Errorf("listing the occurrences of a schedule: %w", err)
	}
	list, next = jobs.CutPage(list, limit, func(o Occurrence) string { return fit.Place(o.NominalAt, o.Origin) })
	return list, next, nil
}
