package schedule

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/calendar"
	"github.com/headgate/headgate/orchestrator/internal/central"
	"github.com/headgate/headgate/orchestrator/internal/queue"
)

// OccurrenceAnswer is the answer to why something happened, or did not, at a time.
type OccurrenceAnswer struct {
	Schedule string      `json:"schedule"`
	Local    string      `json:"local"` // RFC 3339 with the zone's offset
	Zone     string      `json:"zone"`
	UTC      time.Time   `json:"utc"`
	Named    bool        `json:"named"`  // the schedule names this time
	Answer   string      `json:"answer"` // an outcome, or no_occurrence, ahead, waiting, paused, in_error, not_yet_applied, unknown
	Because  string      `json:"because"`
	Row      *Occurrence `json:"row"`                 // where the answer is kept
	JobState string      `json:"job_state,omitempty"` // what has become of its job, as Job.State; "" if it has none, or that is not known any more
}

// What an answer may be beside the outcomes.
const (
	answerNone    = "no_occurrence"
	answerAhead   = "ahead"
	answerWaiting = "waiting"
	answerPaused  = "paused"
	answerError   = "in_error"
	answerUnknown = "unknown"
	answerNotYet  = "not_yet_applied"
)

const occurrencesAt = occurrenceColumns + `
WHERE schedule_id = $1 AND nominal_at <= $2 AND last_at >= $2
ORDER BY (origin = 'dst') = $3 DESC, nominal_at DESC
LIMIT 3`

// Why answers for what a clock on the wall of the schedule's zone showed,
// or will show, given as a Time in UTC. A time that comes twice has two answers. The
// error matches ErrUnknown.
func (st *Store) Why(ctx context.Context, of Key, wall time.Time) (answers []OccurrenceAnswer, err error) {
	err = central.Read(ctx, st.pool, func(tx pgx.Tx) error {
		answers, err = st.why(ctx, tx, of, wall)
		return err
	})
	if err != nil {
		return nil, err
	}
	return answers, st.followJobs(ctx, answers)
}

func (st *Store) why(ctx context.Context, tx pgx.Tx, of Key, wall time.Time) (answers []OccurrenceAnswer, err error) {
	s, err := st.readSchedule(ctx, tx, of, selectSchedule)
	if errors.Is(err, ErrUnknown) && of.Tenant != "" {
		return st.notYet(ctx, tx, of, wall, err)
	}
	if err != nil {
		return nil, err
	}
	change, err := st.waitingChange(ctx, tx, of)
	if err != nil {
		return nil, err
	}
	d, now, err := st.whyState(ctx, tx, s.ID)
	if err != nil {
		return nil, err
	}
	table, err := s.timetableTx(ctx, tx)
	if err != nil {
		return nil, fmt.Errorf("schedule %s of %s: %w", of.Name, of.owner(), err)
	}
	instants, note, named := table.At(wall)
	for _, at := range instants {
		w := OccurrenceAnswer{Schedule: s.Name, Local: at.Format(time.RFC3339), Zone: s.Zone, UTC: at.UTC(), Named: named}
		rows, err := tx.Query(ctx, occurrencesAt, s.ID, at, showing(at) != wall)
		if err != nil {
			return nil, fmt.Errorf("reading the occurrences of schedule %s: %w", of.Name, err)
		}
		found, err := pgx.CollectRows(rows, scanOccurrence)
		if err != nil {
			return nil, err
		}
		former := len(found) > 0 && formerRun(table, &found[0])
		if !named && !former { // a run of others may reach over it
			found = slices.DeleteFunc(found, func(o Occurrence) bool { return o.Origin == originDST || !o.NominalAt.Equal(at) })
		}
		fires := table.Next(at.Add(-time.Second)).Equal(at)
		switch {
		case len(found) > 0:
			w.Row, w.Answer, w.Because = &found[0], string(found[0].Outcome), because(&found[0])
			if former {
				w.Because += "; the schedule had other times then, and which of the run they were is not kept"
			}
		case !named:
			w.Answer = answerNone
			w.Because = fmt.Sprintf("the schedule is %s; the next time is %s", table.Words(), table.Next(at).Format("2006-01-02 15:04 MST"))
		case !fires && note != "":
			w.Answer, w.Because = string(SkippedDST), note
		case !fires:
			w.Answer, w.Because = string(SkippedExcluded), "a calendar, a window, its start or its end keeps it from firing"
		default:
			run, closed, err := st.foresee(ctx, tx, &s, table, at)
			if err != nil {
				return nil, err
			}
			if w.Answer, w.Because = undecided(&s, d, at, run, now); w.Answer == answerAhead && closed != "" {
				w.Because = "it will not start: " + closed
			}
		}
		if note != "" && w.Answer != string(SkippedDST) && w.Because != note {
			w.Because += "; " + note
		}
		if (s.Template != "" || s.Follows) && change != "" {
			w.Because += "; " + change
		}
		answers = append(answers, w)
	}
	return answers, nil
}

// formerRun tells of a run of answers whether it is of other times than the present ones.
func formerRun(table *calendar.Schedule, o *Occurrence) bool {
	return o.Count > 1 && o.Origin == originClock && (!table.Next(o.NominalAt.Add(-time.Second)).Equal(o.NominalAt) || table.Count(o.NominalAt.Add(-time.Second), o.LastAt) != o.Count)
}

const selectWaitingChange = `
SELECT at, error, common FROM (
    SELECT c.at, c.error, false AS common FROM headgate.selector_changes c WHERE c.tenant_id = nullif($1, '')::uuid
    UNION ALL
    SELECT t.at, '', true FROM headgate.scoped_tenants t WHERE t.tenant_id = nullif($1, '')::uuid) w
ORDER BY error = '', at LIMIT 1`

// waitingChange says which change of the tenant has not reached its schedules of
// selectors yet; "" if there is none.
func (st *Store) waitingChange(ctx context.Context, tx pgx.Tx, of Key) (text string, err error) {
	tenant, _, err := st.ownerIDs(ctx, tx, of)
	if err != nil {
		return "", err
	}
	var at time.Time
	var failed string
	var common bool
	err = tx.QueryRow(ctx, selectWaitingChange, tenant).Scan(&at, &failed, &common)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("looking for changes of tenant %s: %w", of.Tenant, err)
	}
	what := "the tenant was added or changed"
	if common {
		what = "the features of the tenant, or its database or server, changed"
	}
	text = fmt.Sprintf("not yet applied: %s at %s; `headgate serve` applies that within seconds", what, at.UTC().Format(time.RFC3339))
	if failed != "" {
		text += ", and tries again what failed: " + failed
	}
	return text, nil
}

const templateIsThere = `SELECT EXISTS (SELECT FROM headgate.fleets WHERE name = $1)`

// notYet answers for a schedule that the tenant does not have, if it may get it from
// a selector; else with unknown.
func (st *Store) notYet(ctx context.Context, tx pgx.Tx, of Key, wall time.Time, unknown error) ([]OccurrenceAnswer, error) {
	change, err := st.waitingChange(ctx, tx, of)
	if err != nil || change == "" {
		return nil, cmp.Or(err, unknown)
	}
	var there bool
	if err := tx.QueryRow(ctx, templateIsThere, of.Name).Scan(&there); err != nil || !there {
		return nil, cmp.Or(err, unknown)
	}
	tenants, err := st.catalog.TenantsByNameTx(ctx, tx, []string{of.Tenant})
	if err != nil {
		return nil, err
	}
	zone := tenants[of.Tenant].Timezone
	location, err := time.LoadLocation(zone)
	if err != nil {
		location = time.UTC
	}
	at := time.Date(wall.Year(), wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), wall.Second(), 0, location)
	return []OccurrenceAnswer{{Schedule: of.Name, Local: at.Format(time.RFC3339), Zone: zone, UTC: at.UTC(), Answer: answerNotYet, Because: change}}, nil
}

// showing is what a clock shows at t, as a Time in UTC.
func showing(t time.Time) time.Time {
	_, seconds := t.Zone()
	return t.UTC().Add(time.Duration(seconds) * time.Second)
}

const selectWhy = `SELECT answered_at, paused_at, buffered, coalesce(headgate.locked_by(xmax), ''), clock_timestamp() FROM headgate.schedules WHERE id = $1`

type whyState struct {
	answered, pausedAt *time.Time
	waiting            []waiting
	lockedBy           string
}

func (st *Store) whyState(ctx context.Context, tx pgx.Tx, id string) (w whyState, now time.Time, err error) {
	if err := tx.QueryRow(ctx, selectWhy, id).Scan(&w.answered, &w.pausedAt, &w.waiting, &w.lockedBy, &now); err != nil {
		return w, now, fmt.Errorf("reading schedule %s: %w", id, err)
	}
	return w, now, nil
}

// because says in a sentence what a row means.
func because(o *Occurrence) string {
	text := map[OccurrenceOutcome]string{
		Fired:           "it fired",
		SkippedOverlap:  "the run before it had not ended",
		SkippedPaused:   "the schedule was paused",
		SkippedDST:      "it was left out",
		SkippedExcluded: "it was excluded",
		MissedWindow:    "nobody fired it in time, and then it was too late",
		Coalesced:       "it was missed",
		SuspendedTenant: "the tenant took no work",
		FeatureOff:      "the tenant might not have it",
		FailedToEnqueue: "its job could not be made",
		Superseded:      "the schedule has other times since",
	}[o.Outcome]
	if o.JobUID != "" {
		text += fmt.Sprintf(" at %s: `headgate job show %s`", o.DecidedAt.Format(time.RFC3339), o.JobUID)
	}
	if o.Note != "" {
		text += ": " + o.Note
	}
	if o.Count > 1 {
		text += fmt.Sprintf(" (%d occurrences, %s to %s)", o.Count, o.NominalAt.Format(time.RFC3339), o.LastAt.Format(time.RFC3339))
	}
	return text
}

// undecided answers for an occurrence without a row, which starts at run.
func undecided(s *Schedule, d whyState, at, run, now time.Time) (answer, text string) {
	for _, w := range d.waiting {
		if w.At.Equal(at) {
			return answerWaiting, "it waits until the run before it has ended"
		}
	}
	switch {
	case s.Error != "":
		return answerError, s.Error
	case s.Paused && d.pausedAt != nil && !at.Before(*d.pausedAt):
		text = "the schedule is paused since " + d.pausedAt.UTC().Format(time.RFC3339)
		if s.PausedBy != "" {
			text += " by " + s.PausedBy
		}
		if s.PausedNote != "" {
			text += ": " + s.PausedNote
		}
		return answerPaused, text
	case at.After(now):
		return answerAhead, "it starts at " + run.UTC().Format(time.RFC3339)
	case d.answered != nil && !at.After(*d.answered):
		return answerUnknown, "no answer is kept: it was before the schedule got its present times, or is older than answers are kept"
	case run.After(now):
		return answerAhead, "its place in the spread is " + run.UTC().Format(time.RFC3339)
	}
	if d.lockedBy != "" {
		return answerWaiting, "it is due, and its schedule's row is locked by " + d.lockedBy + ": " + central.EndSession(d.lockedBy)
	}
	return answerWaiting, "it is due, and no scheduler has fired it yet: `headgate serve` fires schedules"
}

// followJobs says of answers whose occurrence made a job what has become of that: in the
// queue or, once its row has left, in the history.
func (st *Store) followJobs(ctx context.Context, answers []OccurrenceAnswer) error {
	for i := range answers {
		w := &answers[i]
		if w.Row == nil || w.Row.JobUID == "" {
			continue
		}
		job, err := st.queue.Job(ctx, w.Row.JobUID)
		switch {
		case errors.Is(err, jobs.ErrUnknownJob):
			w.Because += "; the job has left the queue, and the history does not reach so far"
			continue
		case err != nil:
			return err
		}
		w.JobState = string(job.State)
		w.Because += "; the job " + job.State.Phrase()
		if last := job.Last(); last != nil && last.Class != "" {
			w.Because += fmt.Sprintf(", its last attempt %s", queue.Ending(*last))
		}
	}
	return nil
}
