package main

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// central looks at the central database. The pool is for what comes next; ok
// says that there is a schema to go on with.
func (d *doctor) central(ctx context.Context) (pool *pgxpool.Pool, ok bool, err error) {
	note := d.on("central")
	cfg, err := d.p.centralConfig()
	if err != nil {
		return nil, false, err
	}
	// As through a pooler, whatever was said: it works everywhere.
	cfg.ConnConfig.DefaultQueryExecMode, cfg.ConnConfig.StatementCacheCapacity = pgx.QueryExecModeCacheDescribe, 0
	cfg.MaxConns = max(cfg.MaxConns, 4)
	if pool, err = pgxpool.NewWithConfig(ctx, cfg); err != nil {
		return nil, false, err
	}
	var version string
	if err := pool.QueryRow(ctx, selectServerFacts).Scan(&version, nil, nil, nil); err != nil {
		note(stateFail, "reachable", "", "%v", unreachable(cfg.ConnConfig, err))
		return pool, false, nil
	}
	note(stateOK, "reachable", "", "PostgreSQL %s answers", version)
	ok = d.centralSchema(ctx, pool)
	d.centralFacts(ctx, pool)
	if err := d.centralPooler(ctx, pool); err != nil {
		note(stateFail, "pooler", "", "could not look: %v", err)
	}
	d.listen(ctx, pool)
	return pool, ok, nil
}

func (d *doctor) centralSchema(ctx context.Context, pool *pgxpool.Pool) bool {
	note := d.on("central")
	status, err := migrations.ReadStatus(ctx, pool)
	if err == nil {
		err = migrations.Check(ctx, pool)
	}
	var unfit *migrations.VersionError
	switch {
	case errors.As(err, &unfit) && unfit.Newer():
		note(stateFail, "schema", "upgrade headgate", "%v", err)
		return false
	case err != nil:
		note(stateFail, "schema", "headgate migrate up", "%v", err)
		return false
	}
	note(stateOK, "schema", "", "version %d, this program brings %d", status.Version, status.Program)
	return true
}

const selectServerFacts = `
SELECT current_setting('server_version'), current_setting('fsync'), current_setting('synchronous_commit'), current_setting('full_page_writes')`

const selectClock = `SELECT clock_timestamp()`

// centralFacts are the clock, and whether what is acknowledged is kept.
func (d *doctor) centralFacts(ctx context.Context, pool *pgxpool.Pool) {
	note := d.on("central")
	var now time.Time
	before := time.Now()
	if err := pool.QueryRow(ctx, selectClock).Scan(&now); err != nil {
		note(stateFail, "clock", "", "%v", err)
		return
	}
	switch skew := jobs.ClockSkew(now, before, time.Now()).Round(time.Millisecond); {
	case skew.Abs() >= 5*time.Second:
		note(stateFail, "clock", "set the wrong one right (NTP)", "the database's clock and this machine's differ by %s: schedules do not fire beyond 5s", skew)
	case skew.Abs() >= time.Second:
		note(stateWarn, "clock", "set the wrong one right (NTP)", "the database's clock and this machine's differ by %s", skew)
	default:
		note(stateOK, "clock", "", "it agrees with this machine's to within a second")
	}
	var fsync, commit, pages string
	if err := pool.QueryRow(ctx, selectServerFacts).Scan(nil, &fsync, &commit, &pages); err != nil {
		note(stateFail, "durability", "", "%v", err)
		return
	}
	state, next := stateOK, ""
	if fsync != "on" || commit == "off" || pages != "on" {
		state, next = stateWarn, "set fsync, full_page_writes and synchronous_commit to on: a crash of the server may lose jobs that were accepted"
	}
	note(state, "durability", next, "fsync %s, synchronous_commit %s, full_page_writes %s", fsync, commit, pages)
}

func (d *doctor) centralPooler(ctx context.Context, pool *pgxpool.Pool) error {
	a, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer a.Release()
	b, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer b.Release()
	found, err := detectPooler(ctx, a.Conn(), b.Conn())
	if err != nil {
		return err
	}
	d.judgePooler("central", found, address.Pooler(d.p.pooler), "start every process with --central-pooler %s (HEADGATE_CENTRAL_POOLER)")
	return nil
}

// judgePooler compares what was found with what was said.
func (d *doctor) judgePooler(on string, found, said address.Pooler, correct string) {
	note := d.on(on)
	switch {
	case found == address.TransactionPooler && said != found:
		note(stateFail, "pooler", sprintf(correct, found), "there is a pooler in transaction mode before it, and Headgate was told %s: jobs will fail, and sessions leak", said)
	case found != said:
		note(stateWarn, "pooler", sprintf(correct, found), "Headgate was told %s, and it looks like %s", said, found)
	case found == address.NoPooler:
		note(stateOK, "pooler", "", "none, as told")
	default:
		note(stateOK, "pooler", "", "one in %s mode, as told", found)
	}
}

// listen sees whether new work is heard of.
func (d *doctor) listen(ctx context.Context, pool *pgxpool.Pool) {
	note := d.on("central")
	ear, err := d.p.ear(ctx)
	switch {
	case err != nil:
		note(stateFail, "listen", "correct DATABASE_DIRECT_URL", "%v", err)
		return
	case ear != nil:
		defer ear.Close()
	case d.p.pooled():
		note(stateWarn, "listen", "set DATABASE_DIRECT_URL to the address past the pooler", "nothing is heard through the pooler: new work is found by looking once a second")
		return
	default:
		ear = pool
	}
	if err := hear(ctx, ear, pool); err != nil {
		note(stateFail, "listen", "if a pooler stands before the central database, set DATABASE_DIRECT_URL to the address past it", "a notification did not arrive: %v", err)
		return
	}
	note(stateOK, "listen", "", "a notification arrives")
}

const notifySQL = `SELECT pg_notify('headgate_doctor', $1)`

func hear(ctx context.Context, ear, mouth *pgxpool.Pool) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	conn, err := ear.Acquire(ctx)
	if err != nil {
		return err
	}
	listening := conn.Hijack() // it is not for anybody else any more
	defer closeConn(ctx, listening)
	if _, err := listening.Exec(ctx, `LISTEN headgate_doctor`); err != nil {
		return err
	}
	word := time.Now().Format(time.RFC3339Nano)
	if _, err := mouth.Exec(ctx, notifySQL, word); err != nil {
		return err
	}
	for {
		heard, err := listening.WaitForNotification(ctx)
		if err != nil || heard.Payload == word {
			return err
		}
	}
}
