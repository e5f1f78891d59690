package worker

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// Resolver says where a job is to run. The catalog satisfies it.
//
// Both methods are called once for each attempt, by many goroutines at once.
// They answer errors that match jobs.ErrUnknownTenant, jobs.ErrUnknownDatabase,
// jobs.ErrTenantSuspended or jobs.ErrTenantMoving where that is the case; any
// other error means that the catalog could not be asked.
type Resolver interface {
	ResolveTenant(ctx context.Context, tenantID string, login jobs.Login) (jobs.Tenant, address.Place, error)
	ResolveDatabase(ctx context.Context, databaseID string, login jobs.Login) (address.Place, error)
}

// Config is what a Worker needs. Pool and Resolver are required.
type Config struct {
	// Pool says how the central database is reached. The worker makes connections of
	// its own in the same way (same address, TLS, hooks), at most CentralConns, with
	// the settings of package jobs/session, and closes them when it stops. Those of
	// Pool it uses only to look, when it starts.
	Pool *pgxpool.Pool

	// CentralConns bounds the worker's own connections to the central database,
	// besides the one of Listen. Three are held all the time. 0 means 10; at least 8.
	CentralConns int

	// PollOnly says that nothing can be heard through Pool, because it leads through
	// a pooler in transaction mode: new work is then found within PollInterval, and
	// a cancel reaches a running job within half a minute. Listen is a pool past the
	// pooler for the one connection that listens; with it PollOnly is not needed.
	PollOnly bool
	Listen   *pgxpool.Pool

	// Resolver finds a tenant's database.
	Resolver Resolver

	// Meter records the metrics that package jobs/telemetry names. nil means OpenTelemetry's
	// global provider, which records nothing where the program has set none.
	Meter metric.MeterProvider

	// TopTenants adds metrics of the ten busiest tenants and the ten that fail most, by slug.
	// Whoever reads the metrics then reads these slugs.
	TopTenants bool

	// Tracer records the spans that package jobs/telemetry names. A job whose producer was
	// not sampled is not traced. nil means OpenTelemetry's global provider, which records
	// nothing where the program has set none.
	Tracer trace.TracerProvider

	// Queues names the queues to work and how many jobs of each may run at
	// once in this process. nil means {"default": 20, "bulk": 10}: what is enqueued
	// for many tenants at once goes to bulk, so that nobody waits behind it.
	Queues map[string]int

	// JobTimeout bounds an attempt whose kind names no timeout. 0 means 5 minutes.
	JobTimeout time.Duration

	// LockTimeout is how long a statement of a job waits for a lock, and so
	// how long an attempt waits for another one of the same job to end before it
	// steps back. 0 means 5 seconds.
	LockTimeout time.Duration

	// HoldFor is how long a job waits that cannot run for a reason that is not
	// its own (its server is down, its tenant is being moved). 0 means 30 seconds.
	// When that goes on, the wait grows to a tenth of the time for which it has, at
	// most HoldMost. 0 means 5 minutes.
	HoldFor, HoldMost time.Duration

	// UnblamedMost and UnblamedFor bound what uses no attempt although the handler
	// had begun (its connection broke, it waited too long for a lock, a GRANT is
	// missing): so many such ends in a row, or, after ten of them, so much time since
	// the first. Those that follow use attempts. 0 means 300 and 24 hours. What ends an
	// attempt before its handler begins is not bounded: a server may be down for days.
	UnblamedMost int
	UnblamedFor  time.Duration

	// HeartbeatEvery is the time between two signs of life, and DeadAfter how
	// long another worker's may fail to come before its jobs are given to others.
	// 0 means 10 and 30 seconds: work of a dead process starts again within a
	// minute. DeadAfter must be at least three times HeartbeatEvery.
	HeartbeatEvery, DeadAfter time.Duration

	// BlameWindow is how long after a worker's unexplained death no other death
	// is blamed on a job. 0 means five times DeadAfter.
	BlameWindow time.Duration

	// RescueForeignAfter is how long after its beginning an attempt that another River
	// client left running is taken to be over: its job then goes on here. 0 means 1
	// hour, as for River's own rescuer; it must be longer than such a client's jobs.
	RescueForeignAfter time.Duration

	// BreakerPause is how long nothing is claimed for a server or database that does
	// not answer, give or take a fifth, before one job may try it. 0 means 3 seconds.
	BreakerPause time.Duration

	// ClockSlack is how long a job may wait because the database's clock jumped,
	// besides one heartbeat. 0 means 10 seconds; it must be longer than 5 seconds.
	ClockSlack time.Duration

	// StopTimeout is how long Stop lets running jobs go on before it cancels
	// them; they go back without using an attempt. 0 means 30 seconds.
	StopTimeout time.Duration

	// StuckAfter is how long a handler may go on after its context has ended; then
	// its attempt is ended without it. 0 means 5 seconds. MaxStuck is how many such
	// handlers the process bears before Run drains and returns ErrStuck. 0 means 5.
	StuckAfter time.Duration
	MaxStuck   int

	// RetryDelay is how long a job waits after its nth failed attempt. nil means
	// n to the fourth power in seconds, give or take a tenth (1 s, 16 s, 81 s, …). A kind
	// may have a delay of its own (jobs.WithRetryDelay).
	RetryDelay func(attempt int) time.Duration

	// FetchCooldown is the least time between two claims of one queue, and
	// PollInterval the longest while nothing is heard of new work. 0 means 100
	// milliseconds and 1 second.
	FetchCooldown, PollInterval time.Duration

	// KeepSucceeded, KeepCancelled and KeepDiscarded are how long a job's row stays
	// in the queue after its end: as long as its arguments are known, and it can be
	// tried again or rerun. Its history stays longer. 0 means 24 hours, 24 hours and
	// 7 days; negative means for ever. A row that succeeded is found by its UID as
	// long as its history is kept. The worker that leads deletes for all, so give all
	// workers the same.
	KeepSucceeded, KeepCancelled, KeepDiscarded time.Duration

	// ErrorDetail says how much is kept of what a tenant's database says of an error, in
	// the history, the queue and logs. "" means ErrorsRedacted.
	ErrorDetail ErrorDetail

	// JobLogLevel is the level from which on a line of job.Log is kept with its job, whatever
	// Logger takes. 0 is slog.LevelInfo.
	JobLogLevel slog.Level

	// Middleware is around every handler, the first outermost. nil means none.
	Middleware []Middleware

	// OnError is told of each attempt that has failed by itself, for an error tracker. nil
	// means nobody.
	OnError OnError

	// OnErrorTimeout bounds a call of OnError. 0 means 5 seconds.
	OnErrorTimeout time.Duration

	// Tenants configures the connections to tenant databases.
	Tenants tenantdb.Config

	// ID names this worker in outcomes and in the queue; it must be unique among
	// running processes. "" means the host's name and the time of the start.
	ID string

	// Logger is told what happens to jobs. nil means slog.Default().
	Logger *slog.Logger

	// EndedLines is how many attempts a second leave a line when they end: so many that did
	// not fail, at level info, and as many others, at level warn. The lines of further ones
	// are at level debug, and a line says how many these were. 0 means 20; negative leaves
	// all lines at level debug.
	EndedLines int
}

// leastConns leaves heartbeats, ends and claims a connection each, besides what
// listens.
const leastConns = 8

func (c Config) withDefaults() (Config, error) {
	if c.Pool == nil {
		return c, jobs.Missing("worker.Config.Pool", "the central database's pool")
	}
	if c.Resolver == nil {
		return c, jobs.Missing("worker.Config.Resolver", "a catalog")
	}
	if c.CentralConns = cmp.Or(c.CentralConns, 10); c.CentralConns < leastConns {
		return c, jobs.Inputf("worker.Config.CentralConns", strconv.Itoa(c.CentralConns), "give at least %d, or 0 for 10", leastConns)
	}
	if c.Queues == nil {
		c.Queues = map[string]int{"default": 20, "bulk": 10}
	}
	c.StuckAfter = cmp.Or(c.StuckAfter, 5*time.Second)
	c.MaxStuck = cmp.Or(c.MaxStuck, 5)
	// A handler in a statement that the server does not end is not stuck: its
	// connection is given up first.
	c.Tenants.CancelWait = cmp.Or(c.Tenants.CancelWait, min(3*time.Second, c.StuckAfter*3/5))
	if c.Tenants.CancelWait >= c.StuckAfter {
		return c, jobs.Inputf("worker.Config.StuckAfter", c.StuckAfter.String(), "give more than Tenants.CancelWait (%s), or a server that is away looks like a handler that is stuck", c.Tenants.CancelWait)
	}
	for name, n := range c.Queues {
		if err := jobs.CheckQueue(name); err != nil {
			return c, fmt.Errorf("worker.Config.Queues: %w", err)
		}
		if n < 1 || n > 10_000 {
			return c, jobs.AsInputError("worker.Config.Queues", fmt.Errorf("worker.Config.Queues[%q] is %d: give 1 to 10000 slots", name, n))
		}
	}
	c.JobTimeout = cmp.Or(c.JobTimeout, 5*time.Minute)
	c.LockTimeout = cmp.Or(c.LockTimeout, 5*time.Second)
	c.HoldFor = cmp.Or(c.HoldFor, 30*time.Second)
	c.HoldMost = max(cmp.Or(c.HoldMost, 5*time.Minute), c.HoldFor)
	c.UnblamedMost = cmp.Or(c.UnblamedMost, 300)
	c.UnblamedFor = cmp.Or(c.UnblamedFor, 24*time.Hour)
	if c.UnblamedMost < 0 || c.UnblamedFor < 0 {
		return c, jobs.AsInputError("worker.Config.UnblamedMost", fmt.Errorf("worker.Config.UnblamedMost is %d and UnblamedFor %s: give more than 0, or 0 for the default", c.UnblamedMost, c.UnblamedFor))
	}
	c.HeartbeatEvery = cmp.Or(c.HeartbeatEvery, 10*time.Second)
	c.DeadAfter = cmp.Or(c.DeadAfter, 3*c.HeartbeatEvery)
	if c.DeadAfter < 3*c.HeartbeatEvery {
		return c, jobs.Inputf("worker.Config.DeadAfter", c.DeadAfter.String(), "give at least three heartbeats (%s)", 3*c.HeartbeatEvery)
	}
	c.BreakerPause = cmp.Or(c.BreakerPause, 3*time.Second)
	if c.BreakerPause < time.Millisecond {
		return c, jobs.Inputf("worker.Config.BreakerPause", c.BreakerPause.String(), "give at least 1ms")
	}
	c.ClockSlack = cmp.Or(c.ClockSlack, 10*time.Second)
	if c.ClockSlack <= 5*time.Second {
		return c, jobs.Inputf("worker.Config.ClockSlack", c.ClockSlack.String(), "give more than 5s, in which River itself places jobs ahead")
	}
	c.StopTimeout = cmp.Or(c.StopTimeout, 30*time.Second)
	c.FetchCooldown = cmp.Or(c.FetchCooldown, 100*time.Millisecond)
	c.PollInterval = max(cmp.Or(c.PollInterval, time.Second), c.FetchCooldown)
	if err := c.keep(); err != nil {
		return c, err
	}
	detail, err := c.ErrorDetail.check()
	if err != nil {
		return c, err
	}
	c.ErrorDetail = detail
	if err := c.hooks(); err != nil {
		return c, err
	}
	c.Logger = cmp.Or(c.Logger, slog.Default())
	if c.Tenants.Tracer == nil {
		c.Tenants.Tracer = c.Tracer
	}
	c.Tenants.Logger = cmp.Or(c.Tenants.Logger, c.Logger)
	if c.RetryDelay == nil {
		c.RetryDelay = retryDelay
	}
	return c, nil
}

// hooks checks what the program hangs into the worker.
func (c *Config) hooks() error {
	if at := slices.IndexFunc(c.Middleware, func(m Middleware) bool { return m == nil }); at >= 0 {
		return jobs.Missing(fmt.Sprintf("worker.Config.Middleware[%d]", at), "a function, or leave the element out")
	}
	if c.OnErrorTimeout = cmp.Or(c.OnErrorTimeout, 5*time.Second); c.OnErrorTimeout < 0 {
		return jobs.Inputf("worker.Config.OnErrorTimeout", c.OnErrorTimeout.String(), "give more than 0, or 0 for 5s")
	}
	c.EndedLines = max(cmp.Or(c.EndedLines, 20), 0)
	return nil
}

// shortestKeep leaves those who wait for a job's end the time to see it.
const shortestKeep = time.Minute

// keep sets how long the rows of ended jobs stay.
func (c *Config) keep() error {
	for _, f := range []struct {
		name  string
		value *time.Duration
		usual time.Duration
	}{
		{"KeepSucceeded", &c.KeepSucceeded, 24 * time.Hour},
		{"KeepCancelled", &c.KeepCancelled, 24 * time.Hour},
		{"KeepDiscarded", &c.KeepDiscarded, 7 * 24 * time.Hour},
	} {
		*f.value = cmp.Or(*f.value, f.usual)
		if *f.value < 0 {
			*f.value = -1 // River's word for never
		} else if *f.value < shortestKeep {
			return jobs.AsInputError("worker.Config."+f.name, fmt.Errorf("worker.Config.%s is %s: give %s or more, or a negative value to keep rows for ever", f.name, *f.value, shortestKeep))
		}
	}
	return nil
}
