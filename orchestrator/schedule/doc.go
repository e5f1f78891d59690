// Package schedule has jobs that come back: each schedule enqueues a kind with its
// arguments for one tenant, or for one database, whenever its cron text says so.
//
//	schedules, err := schedule.New(schedule.Config{Pool: central, Catalog: catalog})
//	nightly, err := schedules.Create(ctx, schedule.Params{Tenant: "acme", Name: "nightly", Args: …, Cron: "30 2 * * *"})
//	err = schedule.NewScheduler(schedules, schedule.SchedulerConfig{}).Run(ctx)
//
// A Store has the schedules. Its Templates are schedules for all tenants of a selector,
// its Calendars what keeps schedules from firing, its Files what a file of templates and
// calendars makes of the database. A Scheduler fires what is due; any number of
// schedulers run, none leads:
//
//	due row ─▶ which times have come? ─▶ decide about each ─▶ jobs, answers, next time, one transaction
//	due.go     calendar/                  decision.go          advance.go
//
// Every occurrence has one answer, in headgate.occurrences: fired, or why not. These
// decide, in this order: the calendar itself (skipped_dst, skipped_excluded), a pause
// (skipped_paused), the tenant's status (suspended), a blackout or maintenance window
// (skipped_excluded), catch_up.go (missed_window, coalesced), overlap.go
// (skipped_overlap).
//
// A template gives each tenant that its selector selects a row of its own. The rows are
// made by SQL functions of migrations, under one lock: for all tenants where a template
// changes, for the tenants that have changed by the scheduler (selector_changes.go), and
// for all again each hour by the janitor.
//
// Weakness: a schedule is late while no scheduler runs or the central database is away,
// and its catch-up policy says what becomes of the times that were missed. A forecast
// reads all schedules.
package schedule
