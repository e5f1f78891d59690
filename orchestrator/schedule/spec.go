package schedule

import (
	"cmp"
	"context"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/wire"
	"github.com/headgate/headgate/orchestrator/calendar"
	"github.com/headgate/headgate/orchestrator/internal/queue"
)

// Spec is what a person decides about a schedule, or about a template: what is
// enqueued, when, and what happens if that cannot be. The zero value of a field means
// the default given here.
type Spec struct {
	// Kind and Args are what is enqueued. Where jobs.Args are given beside a Spec, the
	// two are taken from those.
	Kind string          `json:"kind"`
	Args json.RawMessage `json:"args"`

	// Queue, Priority and MaxAttempts are those of the jobs. The default is the kind's.
	Queue       string `json:"queue"`
	Priority    int    `json:"priority"`
	MaxAttempts int    `json:"max_attempts"`

	// Cron says when: five fields, @daily and the like, or @every 10m. There is no
	// default.
	Cron string `json:"cron"`

	// Zone is an IANA name. The default is the tenant's time zone, whatever that becomes,
	// and UTC for a database.
	Zone string `json:"zone"`

	// Brand is the brand of the tenant's that the jobs are limited to (jobs.EnqueueOpts). nil
	// is all brands.
	Brand *int `json:"brand,omitempty"`

	Policy Policy `json:"policy"`
}

// Policy is what a schedule does beside firing at its times. Durations are whole
// seconds. The zero value of a field means the default given here.
type Policy struct {
	Gap    calendar.Gap    `json:"gap,omitempty"`    // for a time that the clocks jump over
	Repeat calendar.Repeat `json:"repeat,omitempty"` // for a time that comes twice

	Start     *time.Time `json:"start,omitempty"` // the first time that may fire
	End       *time.Time `json:"end,omitempty"`   // the last
	Max       int        `json:"max,omitempty"`   // occurrences, counted from Start; 0: no bound
	Calendars []string   `json:"calendars,omitempty"`
	Windows   []string   `json:"windows,omitempty"` // see calendar.ParseWindow

	// Spread is the time over which the starts of many schedules are spread, each
	// at a place of its own. Default 0.
	Spread time.Duration `json:"-"`

	// Overlap says what happens when the run before has not ended. Default skip.
	Overlap Overlap `json:"overlap"`

	// BufferMax bounds what OverlapBufferAll lets wait. Default 100, at most 1000.
	BufferMax int `json:"buffer_max,omitempty"`

	// CatchUp says what happens to what was missed while no scheduler ran. Default
	// latest.
	CatchUp CatchUp `json:"catch_up"`

	// CatchUpMax bounds what CatchUpAll fires. Default 10, at most 1000.
	CatchUpMax int `json:"catch_up_max,omitempty"`

	// CatchUpWindow is for how long a missed occurrence is worth firing. 0 means for
	// ever; for CatchUpNone a minute.
	CatchUpWindow time.Duration `json:"-"`

	// PauseAfter is the number of failed jobs in a row that pauses the schedule.
	// 0 means never.
	PauseAfter int `json:"pause_after,omitempty"`

	// Maintenance says that it starts in the maintenance windows of its tenant and
	// server only, where there are any, and not so late in one that most
	// of its runs, by the 95th percentile of the last two weeks, would overrun it.
	Maintenance bool `json:"maintenance,omitempty"`
}

// Overlap is a policy for an occurrence whose predecessor has not ended.
type Overlap string

// The policies.
const (
	OverlapSkip      Overlap = "skip"       // it is not fired
	OverlapBufferOne Overlap = "buffer_one" // one waits for the end, further ones are not fired
	OverlapBufferAll Overlap = "buffer_all" // up to BufferMax wait, and run one after the other
	OverlapCancel    Overlap = "cancel"     // the run before is cancelled; the newest waits for its end
	OverlapAllow     Overlap = "allow"      // both run
)

// CatchUp is a policy for occurrences that were missed.
type CatchUp string

// The policies.
const (
	CatchUpNone   CatchUp = "none"   // none is fired
	CatchUpLatest CatchUp = "latest" // the last one
	CatchUpAll    CatchUp = "all"    // the last CatchUpMax
)

// specColumns are the columns of a Spec, in headgate.schedules and in headgate.fleets.
// Statements that join other tables join no columns of these names.
const specColumns = `kind, args, queue, priority, max_attempts, cron, zone,
    gap, repeat, start_at, end_at, max_occurrences, calendars, windows, spread,
    overlap, buffer_max, catch_up, catch_up_max, catch_up_window, pause_after, maintenance, brand_id`

// specField is one field of a Spec. All that reads, writes, changes or shows a Spec
// goes by the list of them.
type specField struct {
	column string            // in the order of specColumns
	name   string            // in files and edits; "" means as the column
	times  bool              // it says when the schedule names a time
	of     func(s *Spec) any // where a row's value is read into, and from
}

var specFields = []specField{
	{column: "kind", of: func(s *Spec) any { return &s.Kind }},
	{column: "args", of: func(s *Spec) any { return &s.Args }},
	{column: "queue", of: func(s *Spec) any { return &s.Queue }},
	{column: "priority", of: func(s *Spec) any { return &s.Priority }},
	{column: "max_attempts", of: func(s *Spec) any { return &s.MaxAttempts }},
	{column: "cron", times: true, of: func(s *Spec) any { return &s.Cron }},
	{column: "zone", times: true, of: func(s *Spec) any { return &s.Zone }},
	{column: "gap", times: true, of: func(s *Spec) any { return &s.Policy.Gap }},
	{column: "repeat", times: true, of: func(s *Spec) any { return &s.Policy.Repeat }},
	{column: "start_at", name: "start", times: true, of: func(s *Spec) any { return &s.Policy.Start }},
	{column: "end_at", name: "end", times: true, of: func(s *Spec) any { return &s.Policy.End }},
	{column: "max_occurrences", name: "max", times: true, of: func(s *Spec) any { return &s.Policy.Max }},
	{column: "calendars", times: true, of: func(s *Spec) any { return &s.Policy.Calendars }},
	{column: "windows", times: true, of: func(s *Spec) any { return &s.Policy.Windows }},
	{column: "spread", times: true, of: func(s *Spec) any { return (*seconds)(&s.Policy.Spread) }},
	{column: "overlap", of: func(s *Spec) any { return &s.Policy.Overlap }},
	{column: "buffer_max", of: func(s *Spec) any { return &s.Policy.BufferMax }},
	{column: "catch_up", name: "catch_up.policy", of: func(s *Spec) any { return &s.Policy.CatchUp }},
	{column: "catch_up_max", name: "catch_up.max", of: func(s *Spec) any { return &s.Policy.CatchUpMax }},
	{column: "catch_up_window", name: "catch_up.window", of: func(s *Spec) any { return (*seconds)(&s.Policy.CatchUpWindow) }},
	{column: "pause_after", of: func(s *Spec) any { return &s.Policy.PauseAfter }},
	{column: "maintenance", of: func(s *Spec) any { return &s.Policy.Maintenance }},
	{column: "brand_id", name: "brand", of: func(s *Spec) any { return &s.Brand }},
}

// shownName is what a file calls a column of templates.
func shownName(column string) string {
	for _, f := range specFields {
		if f.column == column {
			return cmp.Or(f.name, column)
		}
	}
	return cmp.Or(map[string]string{"managed_by": "file", "selector": "select"}[column], column)
}

// columns are where specColumns are read into.
func (s *Spec) columns() []any {
	into := make([]any, len(specFields))
	for i := range specFields {
		into[i] = specFields[i].of(s)
	}
	return into
}

// row is the spec as Postgres takes it: the columns of a row, as JSON.
func (s *Spec) row() map[string]any {
	row := map[string]any{}
	for _, f := range specFields {
		row[f.column] = f.of(s)
	}
	return row
}

// set takes the named fields over from another spec.
func (s *Spec) set(from Spec, names []string) error {
	for _, name := range names {
		i := slices.IndexFunc(specFields, func(f specField) bool { return cmp.Or(f.name, f.column) == name })
		if i < 0 || name == "kind" || name == "args" {
			return jobs.Inputf("fields", name, "give one of %s; kind and args are changed by Edit.Args", strings.Join(EditableFields(), ", "))
		}
		s.take(&specFields[i], from)
	}
	return nil
}

// take takes one field over from another spec.
func (s *Spec) take(f *specField, from Spec) {
	reflect.ValueOf(f.of(s)).Elem().Set(reflect.ValueOf(f.of(&from)).Elem())
}

// EditableFields are the names that Edit.Fields takes, as files have them.
func EditableFields() (names []string) {
	for _, f := range specFields {
		if f.column != "kind" && f.column != "args" {
			names = append(names, cmp.Or(f.name, f.column))
		}
	}
	return names
}

// seconds is a duration that rows and JSON have in whole seconds.
type seconds time.Duration

func (d seconds) MarshalJSON() ([]byte, error) {
	return json.Marshal(int64(time.Duration(d) / time.Second))
}

func (d *seconds) UnmarshalJSON(text []byte) error {
	var n int64
	if err := json.Unmarshal(text, &n); err != nil {
		return err
	}
	*d = seconds(time.Duration(n) * time.Second)
	return nil
}

// ScanInt64 reads a column.
func (d *seconds) ScanInt64(n pgtype.Int8) error {
	*d = seconds(time.Duration(n.Int64) * time.Second)
	return nil
}

// policyJSON is a Policy with its durations as seconds.
type policyJSON struct {
	*plainPolicy
	Spread        *seconds `json:"spread_seconds,omitempty"`
	CatchUpWindow *seconds `json:"catch_up_window_seconds,omitempty"`
}

type plainPolicy Policy

// MarshalJSON writes durations as whole seconds.
func (p Policy) MarshalJSON() ([]byte, error) {
	shown := policyJSON{plainPolicy: (*plainPolicy)(&p)}
	if p.Spread != 0 {
		shown.Spread = (*seconds)(&p.Spread)
	}
	if p.CatchUpWindow != 0 {
		shown.CatchUpWindow = (*seconds)(&p.CatchUpWindow)
	}
	return json.Marshal(shown)
}

// UnmarshalJSON reads durations as whole seconds.
func (p *Policy) UnmarshalJSON(text []byte) error {
	return json.Unmarshal(text, &policyJSON{(*plainPolicy)(p), (*seconds)(&p.Spread), (*seconds)(&p.CatchUpWindow)})
}

// choices are what a spec says of the rows of its jobs.
func (s *Spec) choices() wire.Choices {
	return wire.Choices{Queue: s.Queue, Priority: s.Priority, MaxAttempts: s.MaxAttempts}
}

// draft checks a spec and the job that it asks for, of these arguments and for whom, and
// puts the defaults into both.
func (s *Spec) draft(ctx context.Context, tenant, database string, args jobs.Args) (queue.Draft, error) {
	if err := s.Policy.complete(); err != nil {
		return queue.Draft{}, err
	}
	it, err := queue.NewDraft(ctx, jobs.EnqueueParams{
		Tenant: tenant, Database: database, Args: args, Opts: &jobs.EnqueueOpts{Queue: s.Queue, Priority: s.Priority, MaxAttempts: s.MaxAttempts, Brand: s.Brand},
	})
	if err == nil {
		s.Kind, s.Args, s.Queue, s.Priority, s.MaxAttempts = it.Kind, it.Args, it.Queue, it.Priority, it.MaxAttempts
	}
	return it, err
}

// list is never NULL in a column.
func list(texts []string) []string {
	if texts == nil {
		return []string{}
	}
	return texts
}
