package schedulecmd

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/orchestrator/schedule"
)

var forecastColumns = []cli.Column[schedule.ForecastSlot]{
	{Name: "server", Of: func(s schedule.ForecastSlot) any { return s.Server }},
	{Name: "at", Of: func(s schedule.ForecastSlot) any { return s.At }},
	{Name: "starts", Of: func(s schedule.ForecastSlot) any { return s.Starts }},
	{Name: "busy_seconds", Of: func(s schedule.ForecastSlot) any { return fmt.Sprintf("%.1f", s.BusySeconds) }},
	{Name: "capacity_seconds", Of: func(s schedule.ForecastSlot) any { return fmt.Sprintf("%.0f", s.CapacitySeconds) }},
	{Name: "share", Of: func(s schedule.ForecastSlot) any { return fmt.Sprintf("%.1f %%", 100*s.Share) }},
}

const forecastLong = `Show what schedules will start, from their rows: for each server, in slots of ten
minutes, and how much of one worker process's connections to it that would use,
by the 95th percentile of each kind's durations in the last two weeks.`

func scheduleForecast(app *cli.App) *cobra.Command {
	var from string
	var hours int
	cmd := &cobra.Command{
		Use: "forecast", Short: "Show what will start in the coming 24 hours, by server", Long: forecastLong, Args: cli.Args(),
	}
	cmd.RunE = cli.Brief(func(ctx context.Context, _ []string) error {
		begin, err := cli.TimeFlag("from", from)
		if err != nil {
			return err
		}
		return app.Open(ctx, nil, func(central cli.Central) error {
			slots, err := central.Schedules.Forecast(ctx, begin, time.Duration(hours)*time.Hour)
			if err != nil {
				return cli.BadValue(err)
			}
			return cli.List(app, slots, "nothing will start", forecastColumns)
		})
	})
	cmd.Flags().StringVar(&from, "from", "", "when it begins, RFC 3339 (default: now)")
	cli.IntIn(cmd.Flags(), &hours, "hours", 24, 1, 168, "how long it is, 1 to 168")
	return cmd
}
