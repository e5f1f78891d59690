package doctor

import (
	"context"
	"fmt"
	"strings"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/explain"
)

// couldNotLook is what to do where a read of the central database failed.
const couldNotLook = "end the session that the message names; if none is named, see whether the central database is slow; then run doctor again"

// work looks whether what is asked for is done: workers live, get jobs out of the
// queues, know what waits, and schedules are fired.
func (d *doctor) work(ctx context.Context, explainer *explain.Explainer) {
	d.claims(ctx, explainer)
	health, err := explainer.Health(ctx)
	if err != nil {
		d.on("central")(StateFail, "workers", couldNotLook, "could not look: %v", err)
		return
	}
	waits := len(health.Queues) > 0 || health.Schedule.Count > 0
	d.workers(health.Workers, waits)
	if health.Workers.Alive > 0 { // else all is unserved, and has been said
		d.unserved("queue", health.Queues)
		d.unserved("kind", health.Kinds)
		for _, p := range health.Pairs {
			d.on("central")(StateFail, "kind "+p.Kind, p.Next, "jobs wait in queue %s since %s: some workers know the kind, and others claim from the queue", p.Queue, momentOf(&p.Since))
		}
	}
	for _, p := range health.Paused {
		d.on("central")(StateWarn, "queue "+p.Name, fmt.Sprintf("`headgate resume queue %s`, if its jobs may start", p.Name),
			"it is paused in River since %s, by its UI or another client", momentOf(&p.Since))
	}
	d.schedules(health.Schedule)
}

// claims looks whether the workers get jobs out of the queues.
func (d *doctor) claims(ctx context.Context, explainer *explain.Explainer) {
	note := d.on("central")
	workers, err := cli.All(func(page jobs.Page) ([]explain.WorkerStatus, string, error) { return explainer.Workers(ctx, page) })
	if err != nil {
		note(StateFail, "claims", couldNotLook, "could not look: %v", err)
		return
	}
	failing := false
	for _, w := range workers {
		for _, f := range w.Claims.Failing {
			if w.State == explain.WorkerAlive && f.Lasts() {
				failing = true
				note(StateFail, "claims", explain.NextClaimsFail,
					"claims of queue %s fail on worker %s since %s, %d in a row: %s", f.Queue, w.Name, cli.Stamp(f.Since), f.Times, f.Error)
			}
		}
	}
	if !failing {
		note(StateOK, "claims", "", "no worker's claims fail")
	}
}

const startWorker = "start one: `headgate serve` runs the built-in kinds, your own worker program its kinds"

func (d *doctor) workers(w explain.WorkerHealth, waits bool) {
	note := d.on("central")
	total := w.Alive + w.Silent
	switch {
	case w.Alive == 0 && w.Silent > 0:
		note(StateFail, "workers", "see that their processes run and reach the central database, or "+startWorker,
			"0 of %s gave a sign of life lately, the last at %s", jobs.Count(total, "worker"), cli.Stamp(*w.LastAt))
	case w.Alive == 0 && (waits || w.LastAt != nil):
		last := "for seven days"
		if w.LastAt != nil {
			last = "since " + cli.Stamp(*w.LastAt)
		}
		note(StateFail, "workers", startWorker, "no worker has run %s", last)
	case w.Alive == 0:
		note(StateWarn, "workers", startWorker, "no worker has run yet")
	case w.Alive == w.Draining:
		note(StateFail, "workers", startWorker, "all workers that live (%d) are stopping and take nothing more", w.Alive)
	case w.Silent > 0:
		note(StateWarn, "workers", "see that their processes run; `headgate worker list` names them", "%d of %s gave no sign of life lately", w.Silent, jobs.Count(total, "worker"))
	default:
		note(StateOK, "workers", "", "%d alive", w.Alive)
	}
}

// unserved tells of queues or kinds that no living worker takes.
func (d *doctor) unserved(what string, found []explain.Unserved) {
	note := d.on("central")
	for _, u := range found {
		var says []string
		state := StateWarn
		if u.Since != nil {
			state = StateFail
			says = append(says, "jobs wait since "+momentOf(u.Since))
		}
		if u.Schedules > 0 {
			says = append(says, "schedules that name it: "+fmt.Sprint(u.Schedules))
		}
		next := "start the worker program that registers the kind; `headgate worker list` shows what the others know"
		if what == "queue" {
			next = fmt.Sprintf("let a worker that knows the kinds of its jobs work it: %s for the built-in ones, "+
				"Queues in the worker.Config of your own program; `headgate job list --state waiting` shows the jobs", explain.WorkerOf(u.Name))
		}
		note(state, what+" "+u.Name, next, "no living worker serves it: %s", strings.Join(says, "; "))
	}
	if len(found) == 0 {
		note(StateOK, what+"s", "", "living workers serve all that wait")
	}
}

// momentOf is a time that anybody may have written.
func momentOf(t *jobs.Time) string {
	if t.Infinite() {
		return t.String()
	}
	return cli.Stamp(t.Time)
}

func (d *doctor) schedules(s explain.ScheduleHealth) {
	note := d.on("central")
	if s.Overdue > 0 {
		many := fmt.Sprint(s.Overdue)
		if s.Overdue >= 1000 {
			many = "1,000 or more"
		}
		next, locked := "start `headgate serve`, which fires them; if one runs, see its log", ""
		if s.LockedBy != "" {
			next, locked = s.EndLock, "; rows are locked by "+s.LockedBy
		}
		note(StateFail, "schedules", next, "%s are due and not fired, the first since %s%s", many, cli.Stamp(*s.Since), locked)
	}
	if s.InError > 0 {
		note(StateWarn, "schedule errors", "`headgate schedule list --failing` shows them with what is wrong", "%d of %s cannot fire", s.InError, jobs.Count(s.Count, "schedule"))
	}
	if s.Overdue+s.InError == 0 {
		note(StateOK, "schedules", "", "%d, and none is overdue", s.Count)
	}
}
