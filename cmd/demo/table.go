package main

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/report"
)

// printTable shows the result to a person: a line for each job, then where the
// reports lie, then the point of it all in two lines.
func (r *result) printTable(s screen) error {
	lines := []string{r.table(s), "", r.jobsLine()}
	lines = append(lines, r.failures()...)
	lines = append(lines, "Reports: "+r.folder, "", r.openedLine(), r.untouchedLine())
	if s.width > 0 {
		lines = append([]string{""}, lines...) // away from the progress
	}
	_, err := fmt.Fprintln(s.out, strings.Join(lines, "\n"))
	return err
}

// table is as wide as it likes without a terminal. On one it says less where it
// would not fit.
func (r *result) table(s screen) string {
	wide := grid{{"TENANT", "PLAN", "DATABASE", "KIND", "FROM", "OUTCOME", "TOOK", "ROWS OR FILE"}}
	narrow := grid{{"TENANT", "PLAN", "DATABASE", "KIND", "FROM", "OUTCOME", "TOOK", "ROWS"}}
	for _, j := range r.jobs {
		wide = append(wide, []string{j.slug(), j.plan(), j.Database, j.Kind, j.from(), j.outcome(), j.took(), j.harvest()})
		narrow = append(narrow, []string{j.slug(), j.plan(), j.Database, short(j.Kind), source(j), j.outcome(), j.took(), j.rows()})
	}
	red := func(line int) bool { return s.colour && !r.jobs[line-1].succeeded() }
	const leastFile = 40 // letters of a file's name, by which it is still found
	if s.width == 0 || wide.fit(s.width, leastFile) {
		return wide.render(red)
	}
	narrow.fit(s.width, len("999 rows"))
	return narrow.render(red)
}

func (j endedJob) slug() string {
	if j.tenant == nil {
		return "-" // it was about the whole database
	}
	return j.tenant.slug
}

func (j endedJob) plan() string {
	if j.tenant == nil {
		return "-"
	}
	return j.tenant.plan()
}

func (j endedJob) from() string {
	if j.Schedule == "" {
		return "enqueued"
	}
	return "schedule " + j.Schedule
}

func source(j endedJob) string {
	word, _, _ := strings.Cut(j.from(), " ")
	return word
}

func short(kind string) string { return strings.TrimPrefix(kind, "headgate.") }

func (j endedJob) outcome() string {
	if j.succeeded() {
		return string(jobs.Succeeded)
	}
	return cmp.Or(string(j.last.Class), string(j.last.State), string(j.State))
}

func (j endedJob) took() string {
	if j.last.EndedAt.IsZero() {
		return "-"
	}
	took := j.last.EndedAt.Sub(j.last.StartedAt)
	if took < time.Second {
		return fmt.Sprintf("%dms", took.Milliseconds())
	}
	return fmt.Sprintf("%.1fs", took.Seconds())
}

// harvest is what the job left: its file, or how many rows.
func (j endedJob) harvest() string {
	if j.succeeded() && j.Kind == (report.Args{}).Kind() {
		return j.last.Result.Output
	}
	return j.rows()
}

func (j endedJob) rows() string {
	switch {
	case !j.succeeded():
		return "-"
	case j.tenant == nil:
		return jobs.Count(j.last.Result.Rows, "table")
	default:
		return jobs.Count(j.last.Result.Rows, "row")
	}
}

func (r *result) jobsLine() string {
	succeeded := r.succeeded()
	line := fmt.Sprintf("%s: %d succeeded, %d failed.", jobs.Count(len(r.jobs), "job"), succeeded, len(r.jobs)-succeeded)
	if r.transfers > 0 {
		line += fmt.Sprintf(" %d transfers checked: each is there once.", r.transfers)
	}
	return line
}

// failures are the reasons, which no table has room for.
func (r *result) failures() (lines []string) {
	for _, j := range r.jobs {
		if !j.succeeded() {
			reason := cmp.Or(j.last.Message, "it has not been tried yet")
			lines = append(lines, fmt.Sprintf("  %s for %s: %s", j.Kind, cmp.Or(j.Tenant, j.Database), reason))
		}
	}
	return lines
}

// openedLine and untouchedLine are the point of it all.
func (r *result) openedLine() string {
	opened := 0
	for _, d := range r.databases {
		if !d.idle() && r.visits[d].any() {
			opened++
		}
	}
	return fmt.Sprintf("Opened because there was work: %d of %s.", opened, jobs.Count(len(r.databases), "tenant database"))
}

func (r *result) untouchedLine() string {
	idle, sessions := 0, int64(0)
	for _, d := range r.databases {
		if d.idle() {
			idle += len(d.tenants)
			sessions += r.visits[d].sinceSetUp()
		}
	}
	if sessions > 0 {
		return fmt.Sprintf("NOT AS PROMISED: the %d idle tenants' databases were opened: %s (pg_stat_database).", idle, jobs.Count(sessions, "session"))
	}
	return fmt.Sprintf("The %d idle tenants' databases were never opened: %s (pg_stat_database).", idle, jobs.Count(sessions, "session"))
}
