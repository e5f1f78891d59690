package schedulecmd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/schedule"
)

var whyColumns = []cli.Column[schedule.OccurrenceAnswer]{
	{Name: "local", Of: func(w schedule.OccurrenceAnswer) any { return w.Local }},
	{Name: "answer", Of: func(w schedule.OccurrenceAnswer) any { return w.Answer }},
	{Name: "because", Of: func(w schedule.OccurrenceAnswer) any { return w.Because }},
}

const whyLong = `Say what became of occurrences, and why: of the last ones, or of one with --at.

The time is one of the schedule's own clock: 02:00 (the last time it was that late),
2026-03-08 02:30; or one of RFC 3339.`

func scheduleWhy(app *cli.App) *cobra.Command {
	var o owner
	var at string
	var last int
	cmd := &cobra.Command{
		Use:     "why NAME --tenant TENANT [--at TIME | --last N]",
		Short:   "Say what became of the last occurrences, or of one, and why",
		Long:    whyLong,
		Example: "  headgate schedule why nightly --tenant acme\n  headgate schedule why nightly --tenant acme --at 02:00",
		Args:    cli.Args("NAME"),
	}
	cmd.RunE = onSchedule(app, &o, func(ctx context.Context, central cli.Central, of schedule.Key) (err error) {
		defer func() { err = sayStatus(ctx, app, central, of, err) }()
		switch flags := cmd.Flags(); {
		case flags.Changed("at") && flags.Changed("last"):
			return cli.Usagef("--at is of one time, --last of several: give one of them")
		case !flags.Changed("at"):
			return lastAnswers(ctx, app, central, of, last)
		}
		if _, err := wallTime(at, time.Now()); err != nil {
			return err
		}
		s, err := central.Schedules.Get(ctx, of)
		if errors.Is(err, schedule.ErrUnknown) { // it may be one that the tenant is about to get
			s.Zone, err = "UTC", nil
		}
		if err != nil {
			return err
		}
		zone, err := time.LoadLocation(s.Zone)
		if err != nil {
			return err
		}
		wall, err := wallTime(at, time.Now().In(zone))
		if err != nil {
			return err
		}
		answers, err := central.Schedules.Why(ctx, of, wall)
		if err != nil {
			return err
		}
		return cli.List(app, answers, "", whyColumns)
	})
	o.flags(cmd)
	cli.IntIn(cmd.Flags(), &last, "last", 10, 1, 100, "without --at: how many answers, the latest first, 1 to 100")
	cmd.Flags().StringVar(&at, "at", "", "the time, as in 02:00, '2026-03-08 02:30' or RFC 3339")
	return cmd
}

// sayStatus says behind the answers that the tenant takes no work now, since when, and what helps.
// A removal takes the schedules along, so that err, which says that there is none, gets that reason.
func sayStatus(ctx context.Context, app *cli.App, central cli.Central, of schedule.Key, err error) error {
	if of.Tenant == "" || err != nil && !errors.Is(err, schedule.ErrUnknown) {
		return err
	}
	t, readErr := central.Catalog.Tenant(ctx, of.Tenant)
	if readErr != nil {
		return err
	}
	since := " since " + t.StatusSince.UTC().Format(time.RFC3339)
	if t.StatusBy != "" {
		since += " by " + cli.Cut(t.StatusBy)
	}
	if t.StatusReason != "" {
		since += " (" + cli.CutTo(t.StatusReason, 200) + ")"
	}
	switch {
	case t.Status == catalog.Removed && err != nil:
		return fmt.Errorf("%w: the tenant is removed%s, its schedules went along, and nobody can make the tenant active again", err, since)
	case err != nil || t.Status == catalog.Active:
	case t.Status == catalog.Moving:
		app.Say("tenant %s is being moved%s: occurrences fire, and their jobs wait for the new place", t.Slug, since)
	default:
		app.Say("tenant %s is %s%s and takes no work: what comes due makes no job; `headgate tenant resume %s` makes the tenant active", t.Slug, t.Status, since, t.Slug)
	}
	return err
}

func lastAnswers(ctx context.Context, app *cli.App, central cli.Central, of schedule.Key, last int) error {
	answers, err := central.Schedules.LastAnswers(ctx, of, last)
	if err != nil {
		return err
	}
	return cli.List(app, answers, "no occurrence has an answer yet: `headgate schedule show "+of.Name+"` has the next time", whyColumns)
}

// wallTime reads what a clock on the wall of now's zone shows, as a Time in UTC.
func wallTime(text string, now time.Time) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		at = at.In(now.Location())
		return asWall(at), nil
	}
	for _, form := range []string{"2006-01-02 15:04", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02T15:04:05"} {
		if at, err := time.Parse(form, text); err == nil {
			return at, nil
		}
	}
	for _, form := range []string{"15:04", "15:04:05"} {
		clock, err := time.Parse(form, text)
		if err != nil {
			continue
		}
		wall := asWall(now).Truncate(24 * time.Hour).Add(time.Duration(clock.Hour())*time.Hour + time.Duration(clock.Minute())*time.Minute + time.Duration(clock.Second())*time.Second)
		if wall.After(asWall(now)) {
			wall = wall.AddDate(0, 0, -1)
		}
		return wall, nil
	}
	return time.Time{}, cli.Usagef("--at: %s is no time: write 02:00, '2026-03-08 02:30', or RFC 3339 as in 2026-03-08T06:30:00Z", cli.Quote(text))
}

func asWall(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
}
