package schedulecmd

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/schedule"
)

// scheduleView is the shape of `schedule show -o json`.
type scheduleView struct {
	schedule.Schedule
	Words       string                `json:"words"`
	Warnings    []string              `json:"warnings"`
	Occurrences []schedule.Occurrence `json:"occurrences"` // the last ones
	Changes     []schedule.Change     `json:"changes"`     // the last ones
}

var scheduleViewColumns = []cli.Column[scheduleView]{
	{Name: "tenant", Of: func(v scheduleView) any { return v.Tenant }},
	{Name: "name", Of: func(v scheduleView) any { return v.Name }},
	{Name: "kind", Of: func(v scheduleView) any { return v.Kind }},
	{Name: "words", Of: func(v scheduleView) any { return v.Words }},
	{Name: "next_run_at", Of: func(v scheduleView) any { return v.NextRunAt }},
	{Name: "overlap", Of: func(v scheduleView) any { return string(v.Policy.Overlap) }},
	{Name: "catch_up", Of: func(v scheduleView) any { return string(v.Policy.CatchUp) }},
	{Name: "version", Of: func(v scheduleView) any { return v.Version }},
	{Name: "note", Of: func(v scheduleView) any { return scheduleNote(v.Schedule) }},
}

func scheduleShow(app *cli.App) *cobra.Command {
	var o owner
	var last int
	cmd := &cobra.Command{
		Use:   "show NAME --tenant TENANT",
		Short: "Show a schedule, its last occurrences, and who changed it",
		Args:  cli.Args("NAME"),
	}
	cmd.RunE = onSchedule(app, &o, func(ctx context.Context, central cli.Central, of schedule.Key) error {
		s, err := central.Schedules.Get(ctx, of)
		if err != nil {
			return err
		}
		view := scheduleView{Schedule: s, Warnings: []string{}}
		if table, err := central.Schedules.Timetable(ctx, s); err == nil {
			view.Words, view.Warnings = table.Words(), append(view.Warnings, table.Warnings()...)
		}
		if view.Occurrences, _, err = central.Schedules.Occurrences(ctx, s.ID, jobs.Page{Limit: last}); err != nil {
			return err
		}
		if view.Changes, _, err = central.Schedules.Changes(ctx, s.ID, jobs.Page{Limit: last}); err != nil {
			return err
		}
		columns := scheduleViewColumns
		if view.Brand != nil { // most schedules are of all brands
			columns = slices.Insert(slices.Clone(columns), 2, cli.Column[scheduleView]{Name: "brand", Of: func(v scheduleView) any { return *v.Brand }})
		}
		if err := cli.One(app, view, columns); err != nil || app.Output != "table" {
			return err
		}
		if len(view.Occurrences) == 0 {
			app.Say("nothing has come due yet")
			return nil
		}
		return cli.Table(app, view.Occurrences, occurrenceColumns)
	})
	o.flags(cmd)
	cli.IntIn(cmd.Flags(), &last, "last", 10, 1, 1000, "how many occurrences and changes, 1 to 1000")
	return cmd
}

var occurrenceColumns = []cli.Column[schedule.Occurrence]{
	{Name: "nominal_at", Of: func(o schedule.Occurrence) any { return o.NominalAt }},
	{Name: "outcome", Of: func(o schedule.Occurrence) any { return string(o.Outcome) }},
	{Name: "count", Of: func(o schedule.Occurrence) any { return o.Count }},
	{Name: "origin", Of: func(o schedule.Occurrence) any { return o.Origin }},
	{Name: "job", Of: func(o schedule.Occurrence) any { return o.JobUID }},
	{Name: "note", Of: func(o schedule.Occurrence) any { return occurrenceNote(o) }},
}

func occurrenceNote(o schedule.Occurrence) string {
	if o.Count > 1 {
		return fmt.Sprintf("to %s; %s", o.LastAt.Format(time.RFC3339), o.Note)
	}
	return o.Note
}
