package main

import (
	"time"

	"github.com/headgate/headgate/cmd/internal/cli"
)

const long = `Measure Headgate beside River alone, pair by pair in one run, and print the ratios:
they travel from machine to machine, the figures themselves do not.

  drain      no-op jobs of 1,000 tenants: jobs a second, and CPU for each
  enqueue    one by one and 1,000 at a time
  pickup     from before the enqueue call to the handler's first line
  tenant     each job commits one row in its tenant's database
  fair       a quiet tenant beside busy ones, and how worker time is shared
  cold       until a tenant's first query is answered, beside pgx alone
  telemetry  drain and tenant with metrics and traces, beside the same without
  schedules  firing due schedules, beside the SQL of the same batch alone
  catalog    a catalog of many tenants beside one of a tenth; changes of many with and
             without the audit; claims and schedules beside such a change
  bloat      a drain beside finished jobs and a pinned snapshot, to a fresh one
  all        the first six

It brings a private Postgres, durable as in production, and removes it. With
DATABASE_URL set it uses that server instead, as a superuser, and makes and drops
databases and roles of its own there, named headgate_bench_*; the group role
headgate_job stays, as after ` + "`headgate server prepare`" + `.`

// options is what one run was asked for.
type options struct {
	pairs     int
	seconds   float64
	databases int
	slots     int
	schedules int
	stored    int
	finished  int
	tenants   int
	changed   int
	pinned    time.Duration
	save      string
	profile   string
}

// half is about how long one half of a pair takes.
func (b options) half() time.Duration { return time.Duration(b.seconds * float64(time.Second)) }

func (b options) check(name string) error {
	if err := cli.OneOf("NAME", name, benchmarkNames()); err != nil {
		return err
	}
	switch {
	case b.pairs < 1 || b.pairs > 1000:
		return cli.Usagef("--pairs: %d does not fit, give 1 to 1000", b.pairs)
	case !(b.seconds > 0 && b.seconds <= 3600): // NaN too
		return cli.Usagef("--seconds: %g does not fit, give more than 0 and at most 3600", b.seconds)
	case b.databases < 1 || b.databases > 1000:
		return cli.Usagef("--databases: %d does not fit, give 1 to 1000", b.databases)
	case b.schedules < 10 || b.schedules > 10_000_000:
		return cli.Usagef("--schedules: %d does not fit, give 10 to 10000000", b.schedules)
	case b.stored < 10 || b.stored > 10_000_000:
		return cli.Usagef("--stored: %d does not fit, give 10 to 10000000", b.stored)
	case b.finished < 0 || b.finished > 10_000_000:
		return cli.Usagef("--finished: %d does not fit, give 0 to 10000000", b.finished)
	case b.tenants < 10 || b.tenants > 1_000_000:
		return cli.Usagef("--tenants: %d does not fit, give 10 to 1000000", b.tenants)
	case b.changed < 1 || b.changed > 1_000_000:
		return cli.Usagef("--changed: %d does not fit, give 1 to 1000000", b.changed)
	case b.pinned < 0 || b.pinned > 24*time.Hour:
		return cli.Usagef("--pinned: %s does not fit, give 0s to 24h", b.pinned)
	case b.slots < 1 || b.slots > 10_000:
		return cli.Usagef("--slots: %d does not fit, give 1 to 10000", b.slots)
	}
	return nil
}
