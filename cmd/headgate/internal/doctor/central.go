package doctor

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/session"
	"github.com/headgate/headgate/jobs/wire"
	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// central looks at the central database. The pool is for what comes next; ok
// says that there is a schema to go on with.
func (d *doctor) central(ctx context.Context) (pool *pgxpool.Pool, ok bool, err error) {
	note := d.on("central")
	cfg, err := d.app.Config()
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
	err = pool.QueryRow(ctx, selectServerFacts).Scan(&version, nil, nil, nil)
	if err != nil && cli.UnknownParameter(err) { // a pooler that nobody has told of: what else there is to say, is said below
		pool.Close()
		session.Unpin(cfg.ConnConfig.RuntimeParams)
		if pool, err = pgxpool.NewWithConfig(ctx, cfg); err != nil {
			return nil, false, err
		}
		err = pool.QueryRow(ctx, selectServerFacts).Scan(&version, nil, nil, nil)
	}
	if err != nil {
		note(StateFail, "reachable", "", "%v", cli.Unreachable(cfg.ConnConfig, err))
		return pool, false, nil
	}
	note(StateOK, "reachable", "", "PostgreSQL %s answers", version)
	ok = d.centralSchema(ctx, pool)
	d.centralFacts(ctx, pool)
	d.snapshots(ctx, pool)
	if err := d.centralPooler(ctx, pool); err != nil {
		note(StateFail, "pooler", "", "could not look: %v", err)
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
	var queue *migrations.QueueError
	switch {
	case errors.As(err, &queue):
		note(StateFail, "queue", "the statement beside", "%v", err)
		return false
	case errors.As(err, &unfit) && unfit.Newer():
		note(StateFail, "schema", "upgrade headgate", "%v", err)
		return false
	case cli.LacksRight(err):
		note(StateFail, "schema", "connect with a login of one of the roles that `headgate central prepare` makes, as docs/operations.md says; this one may read nothing here", "%v", err)
		return false
	case err != nil:
		note(StateFail, "schema", "`headgate migrate up`", "%v", err)
		return false
	}
	note(StateOK, "schema", "", "version %d, this program brings %d", status.Version, status.Program)
	d.centralSession(ctx, pool)
	d.centralRoles(ctx, pool)
	return true
}

// centralSession looks at what the login's sessions are set to, which matters where
// a pooler in transaction mode keeps Headgate from setting it.
func (d *doctor) centralSession(ctx context.Context, pool *pgxpool.Pool) {
	if !d.app.Pooled() {
		return
	}
	note := d.on("central")
	if err := migrations.CheckSession(ctx, pool); err != nil {
		note(StateFail, "session", "ALTER ROLE, as beside", "%v", err)
		return
	}
	note(StateOK, "session", "", "the login's settings are fit for the queue")
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
		note(StateFail, "clock", "", "%v", err)
		return
	}
	switch skew := wire.ClockSkew(now, before, time.Now()).Round(time.Millisecond); {
	case skew.Abs() >= 5*time.Second:
		note(StateFail, "clock", "set the wrong one right (NTP)", "the database's clock and this machine's differ by %s: schedules do not fire beyond 5s", skew)
	case skew.Abs() >= time.Second:
		note(StateWarn, "clock", "set the wrong one right (NTP)", "the database's clock and this machine's differ by %s", skew)
	default:
		note(StateOK, "clock", "", "it agrees with this machine's to within a second")
	}
	var fsync, commit, pages string
	if err := pool.QueryRow(ctx, selectServerFacts).Scan(nil, &fsync, &commit, &pages); err != nil {
		note(StateFail, "durability", "", "%v", err)
		return
	}
	state, next := StateOK, ""
	if fsync != "on" || commit == "off" || pages != "on" {
		state, next = StateWarn, "set fsync, full_page_writes and synchronous_commit to on: a crash of the server may lose jobs that were accepted"
	}
	note(state, "durability", next, "fsync %s, synchronous_commit %s, full_page_writes %s", fsync, commit, pages)
}

// selectSnapshots names what keeps dead rows from being removed for longer than $1,
// how many there are, and whether this login is shown other logins' sessions.
// What has no age (replication slots, standbys, other logins' sessions to a login
// that is not shown them) counts from $2 transactions on.
const selectSnapshots = `
SELECT coalesce((array_agg(what ORDER BY open DESC NULLS LAST, behind DESC))[1], ''), count(*), pg_has_role('pg_read_all_stats', 'USAGE')
FROM (
    SELECT format(CASE WHEN xact_start IS NULL THEN 'a transaction of session %s of %s is old' ELSE 'session %s of %s (%s, %s) has been in a transaction since %s' END, pid, usename, coalesce(nullif(application_name, ''), 'no application_name'),
                  state, date_trunc('second', xact_start)) AS what,
           clock_timestamp() - xact_start AS open, greatest(age(backend_xmin), age(backend_xid)) AS behind
    FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type IS DISTINCT FROM 'autovacuum worker'
    UNION ALL
    SELECT format('transaction %s of %s has been prepared since %s', gid, owner, date_trunc('second', prepared)), clock_timestamp() - prepared, age(transaction)
    FROM pg_prepared_xacts WHERE database = current_database()
    UNION ALL
    SELECT format('replication slot %s is %s transactions behind', slot_name, age(xmin)), NULL, age(xmin) FROM pg_replication_slots WHERE xmin IS NOT NULL
    UNION ALL
    SELECT format('standby %s is %s transactions behind', application_name, age(backend_xmin)), NULL, age(backend_xmin)
    FROM pg_stat_replication WHERE backend_xmin IS NOT NULL
) s
WHERE open > $1 OR open IS NULL AND behind > $2`

// farBehind is in transactions: some minutes of a busy queue.
const farBehind = 1_000_000

// snapshots looks for what has been open for so long that dead rows pile up.
func (d *doctor) snapshots(ctx context.Context, pool *pgxpool.Pool) {
	note := d.on("central")
	var oldest string
	var n int
	var shown bool
	err := pool.QueryRow(ctx, selectSnapshots, d.openFor, farBehind).Scan(&oldest, &n, &shown)
	switch {
	case err != nil:
		note(StateFail, "snapshots", "", "could not look: %v", err)
	case n > 0:
		note(StateWarn, "snapshots", "end it, or let long reports run on a standby without hot_standby_feedback",
			"%s, the oldest of %d: what has died in any table since then cannot be removed", oldest, n)
	case !shown:
		note(StateWarn, "snapshots", "GRANT pg_read_all_stats TO this login, or run doctor as a login that has that", "this login is not shown other logins' transactions: whether one is open for longer than %s is not known", d.openFor)
	default:
		note(StateOK, "snapshots", "", "no transaction has been open for %s", d.openFor)
	}
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
	d.judgePooler("central", found, address.Pooler(d.app.Pooler), "start every process with --central-pooler %s (HEADGATE_CENTRAL_POOLER)")
	return nil
}

// judgePooler compares what was found with what was said.
func (d *doctor) judgePooler(on string, found, said address.Pooler, correct string) {
	note := d.on(on)
	switch {
	case found == address.TransactionPooler && said != found:
		note(StateFail, "pooler", sprintf(correct, found), "there is a pooler in transaction mode before it, and Headgate was told %s: jobs will fail, and sessions leak", said)
	case found != said:
		note(StateWarn, "pooler", sprintf(correct, found), "Headgate was told %s, and it looks like %s", said, found)
	case found == address.NoPooler:
		note(StateOK, "pooler", "", "none, as told")
	default:
		note(StateOK, "pooler", "", "one in %s mode, as told", found)
	}
}
