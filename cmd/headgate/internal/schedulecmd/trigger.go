package schedulecmd

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/orchestrator/schedule"
)

var triggeredColumns = []cli.Column[schedule.Triggered]{
	{Name: "uid", Of: func(v schedule.Triggered) any { return v.UID }},
	{Name: "nominal_at", Of: func(v schedule.Triggered) any { return v.Nominal }},
	{Name: "waiting", Of: func(v schedule.Triggered) any { return v.Waiting }},
	{Name: "again", Of: func(v schedule.Triggered) any { return v.Again }},
}

func scheduleTrigger(app *cli.App) *cobra.Command {
	var o owner
	var overlap, request string
	cmd := &cobra.Command{
		Use:   "trigger NAME --tenant TENANT",
		Short: "Run a schedule's job now, beside its own times",
		Args:  cli.Args("NAME"),
	}
	cmd.RunE = onSchedule(app, &o, func(ctx context.Context, central cli.Central, of schedule.Key) error {
		result, err := central.Schedules.Trigger(ctx, of, &schedule.TriggerOpts{Overlap: schedule.Overlap(overlap), Actor: o.actor, Request: request})
		if err != nil {
			return err
		}
		return cli.One(app, result, triggeredColumns)
	})
	o.flags(cmd)
	o.actorFlag(app, cmd)
	cmd.Flags().StringVar(&overlap, "overlap", "", "instead of the schedule's own: skip, buffer_one, buffer_all, cancel, allow")
	requestFlag(cmd, &request)
	return cmd
}

// requestFlag names the request, so that it may be repeated.
func requestFlag(cmd *cobra.Command, request *string) {
	cmd.Flags().StringVar(request, "request", "", "a UUID of yours: repeated under it, also after a restore of the central database, nothing is done twice (default: a new one)")
}

var backfilledColumns = []cli.Column[schedule.Backfilled]{
	{Name: "occurrences", Of: func(v schedule.Backfilled) any { return v.Occurrences }},
	{Name: "fired_before", Of: func(v schedule.Backfilled) any { return v.Fired }},
	{Name: "backfilled_before", Of: func(v schedule.Backfilled) any { return v.Again }},
	{Name: "jobs", Of: func(v schedule.Backfilled) any { return v.Jobs }},
	{Name: "waiting", Of: func(v schedule.Backfilled) any { return v.Waiting }},
	{Name: "first", Of: func(v schedule.Backfilled) any { return v.First }},
	{Name: "last", Of: func(v schedule.Backfilled) any { return v.Last }},
}

func scheduleBackfill(app *cli.App) *cobra.Command {
	var o owner
	var from, to, overlap string
	params := schedule.BackfillParams{}
	cmd := &cobra.Command{
		Use:     "backfill NAME --tenant TENANT --from TIME --to TIME",
		Short:   "Fire the occurrences of a time that lies behind, each once",
		Example: "  headgate schedule backfill nightly --tenant acme --from 2026-11-01T00:00:00Z --to 2026-11-08T00:00:00Z --dry-run",
		Args:    cli.Args("NAME"),
	}
	cmd.RunE = onSchedule(app, &o, func(ctx context.Context, central cli.Central, of schedule.Key) (err error) {
		if err := cli.Required(cmd, "from", "to"); err != nil {
			return err
		}
		if params.From, err = cli.TimeFlag("from", from); err != nil {
			return err
		}
		if params.To, err = cli.TimeFlag("to", to); err != nil {
			return err
		}
		params.Overlap, params.Actor = schedule.Overlap(overlap), o.actor
		result, err := central.Schedules.Backfill(ctx, of, params)
		if err != nil {
			return err
		}
		if params.DryRun {
			cli.SayDryRun(app, "")
		}
		return cli.One(app, result, backfilledColumns)
	})
	o.flags(cmd)
	o.actorFlag(app, cmd)
	flags := cmd.Flags()
	flags.StringVar(&from, "from", "", "the first nominal time, RFC 3339")
	flags.StringVar(&to, "to", "", "the last nominal time, RFC 3339")
	cli.IntIn(flags, &params.Max, "max", 1000, 1, 10_000, "refuse to fire more than so many, 1 to 10000")
	flags.BoolVar(&params.Missed, "missed", false, "leave out those that have fired")
	flags.BoolVar(&params.DryRun, "dry-run", false, "only say what would be fired")
	flags.StringVar(&overlap, "overlap", "", "allow (all at once, the default) or buffer_all (one after the other)")
	requestFlag(cmd, &params.Request)
	return cmd
}
