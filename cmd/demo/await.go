package main

import (
	"context"
	"fmt"
	"time"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/schedule"
)

// patience is how long the demo waits for its jobs. They take a second or two.
const patience = time.Minute

// tally is where the jobs are.
type tally struct{ all, running, succeeded, failed, scheduled int }

func (t tally) ended() int { return t.succeeded + t.failed }

// count tallies jobs; scheduled are the ended ones that a schedule has made.
func count(list []jobs.Record, schedule string) tally {
	t := tally{all: len(list)}
	for _, job := range list {
		switch job.State {
		case jobs.Running:
			t.running++
		case jobs.Succeeded:
			t.succeeded++
		case jobs.Cancelled, jobs.Discarded:
			t.failed++
		}
		if job.Schedule == schedule && job.FinishedAt != nil {
			t.scheduled++
		}
	}
	return t
}

// await follows the queue until every job has ended, at least one of the
// schedule due among them, and returns them as they are then. When its patience
// is at an end, some have not.
func (d *demo) await(ctx context.Context, due schedule.Schedule) ([]jobs.Record, error) {
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		list, _, err := d.app.client.Jobs(ctx, jobs.JobFilter{Page: jobs.Page{Limit: 1000}})
		if err != nil {
			return nil, err
		}
		t := count(list, due.Name)
		d.progress.now("%s", t.line(due))
		switch {
		case t.ended() == t.all && t.scheduled > 0:
			d.progress.done("%s: all jobs have ended", d.clock())
			return list, nil
		case time.Now().After(deadline):
			d.progress.done("%s: %s not ended, and nobody waits longer", d.clock(), jobs.CountVerb(t.all-t.ended(), "job", "has", "have"))
			return list, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

// line is what a person reads meanwhile.
func (t tally) line(due schedule.Schedule) string {
	text := fmt.Sprintf("%d of %s done, %d running, %d failed", t.ended(), jobs.Count(t.all, "job"), t.running, t.failed)
	if t.scheduled == 0 && due.NextRunAt != nil {
		text += fmt.Sprintf("; a schedule is due in %s", seconds(max(time.Until(*due.NextRunAt), 0)))
	}
	return text
}
