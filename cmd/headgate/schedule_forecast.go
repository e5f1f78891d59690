package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/orchestrator"
)

var forecastColumns = []column[orchestrator.ForecastSlot]{
	{"server", func(s orchestrator.ForecastSlot) any { return s.Server }},
	{"at", func(s orchestrator.ForecastSlot) any { return s.At }},
	{"starts", func(s orchestrator.ForecastSlot) any { return s.Starts }},
	{"busy_seconds", func(s orchestrator.ForecastSlot) any { return fmt.Sprintf("%.1f", s.BusySeconds) }},
	{"capacity_seconds", func(s orchestrator.ForecastSlot) any { return fmt.Sprintf("%.0f", s.CapacitySeconds) }},
	{"share", func(s orchestrator.ForecastSlot) any { return fmt.Sprintf("%.1f %%", 100*s.Share) }},
}

const forecastLong = `Show what schedules will start, from their rows: for each server, in slots of ten
minutes, and how much of one worker process's connections to it that would use,
by the 95th percentile of each kind's durations in the last two weeks.`

func (p *program) scheduleForecast() *cobra.Command {
	var from string
	var hours int
	cmd := &cobra.Command{
		Use: "forecast", Short: "Show what will start in the coming 24 hours, by server", Long: forecastLong, Args: names(),
	}
	cmd.RunE = brief(func(ctx context.Context, _ []string) error {
		begin, err := timeFlag("from", from)
		if err != nil {
			return err
		}
		return p.open(ctx, nil, func(r rooms) error {
			slots, err := r.client.Forecast(ctx, begin, time.Duration(hours)*time.Hour)
			if err != nil {
				return badValue(err)
			}
			return list(p, slots, "nothing will start", forecastColumns)
		})
	})
	cmd.Flags().StringVar(&from, "from", "", "when it begins, RFC 3339 (default: now)")
	cmd.Flags().IntVar(&hours, "hours", 24, "how long it is, 1 to 168")
	return cmd
}
