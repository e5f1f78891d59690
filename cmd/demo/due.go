package main

import (
	"fmt"
	"time"

	"github.com/headgate/headgate/orchestrator/calendar"
	"github.com/headgate/headgate/orchestrator/schedule"
)

// soon is the schedule that is due within the demo. The shortest interval is
// ten seconds, too long to sit and wait for. But @every counts from the epoch,
// so that each interval has moments of its own: this is the one whose next
// moment is nearest, and still a second away, for it has to be stored first.
func soon(now time.Time) schedule.Params {
	soonest := schedule.Params{Name: "live-brands", Args: brandsReport}
	var moment time.Time
	for every := calendar.MinInterval; every <= 3*calendar.MinInterval; every += time.Second {
		cron := fmt.Sprintf("@every %s", every)
		schedule, err := calendar.Parse(cron, "UTC")
		if err != nil {
			continue
		}
		if next := schedule.Next(now.Add(time.Second)); moment.IsZero() || next.Before(moment) {
			soonest.Cron, moment = cron, next
		}
	}
	return soonest
}
