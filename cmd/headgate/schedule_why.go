package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/orchestrator"
)

var whyColumns = []column[orchestrator.Why]{
	{"local", func(w orchestrator.Why) any { return w.Local }},
	{"answer", func(w orchestrator.Why) any { return w.Answer }},
	{"because", func(w orchestrator.Why) any { return w.Because }},
}

func (p *program) scheduleWhy() *cobra.Command {
	var o owner
	var at string
	cmd := &cobra.Command{
		Use:     "why NAME --tenant TENANT --at TIME",
		Short:   "Say what became of an occurrence, and why",
		Long:    "Say what became of an occurrence, and why.\n\nThe time is one of the schedule's own clock: 02:00 (the last time it was that late),\n2026-03-08 02:30; or one of RFC 3339.",
		Example: "  headgate schedule why nightly --tenant acme --at 02:00",
		Args:    names("NAME"),
	}
	cmd.RunE = p.onSchedule(&o, func(ctx context.Context, r rooms, of orchestrator.ScheduleOf) error {
		if err := required(cmd, "at"); err != nil {
			return err
		}
		if _, err := wallTime(at, time.Now()); err != nil {
			return err
		}
		s, err := r.client.GetSchedule(ctx, of)
		if errors.Is(err, orchestrator.ErrUnknownSchedule) { // it may be one that the tenant is about to get
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
		answers, err := r.client.WhySchedule(ctx, of, wall)
		if err != nil {
			return err
		}
		return list(p, answers, "", whyColumns)
	})
	o.flags(cmd)
	cmd.Flags().StringVar(&at, "at", "", "the time, as in 02:00, '2026-03-08 02:30' or RFC 3339")
	return cmd
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
	return time.Time{}, usagef("--at: %s is no time: write 02:00, '2026-03-08 02:30', or RFC 3339 as in 2026-03-08T06:30:00Z", quote(text))
}

func asWall(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
}
