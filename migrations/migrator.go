package migrations

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// UpOpts says how a migration waits for others. The zero value, and nil, mean the
// defaults.
type UpOpts struct {
	// To is the last version of a tenant database's schema to apply. 0 means the newest.
	To int

	// LockTimeout is how long a statement waits for a lock on a table. Whoever wants
	// the table waits behind it for that long. 0 means 150 ms; at most 300 ms.
	LockTimeout time.Duration

	// Wait bounds all waiting of one call: for the migration lock, for tables, and
	// for what an index build waits for. 0 means 5 minutes for the central database
	// and 10 s for a tenant's.
	Wait time.Duration

	// IdleTimeout is how long this program may be silent while it holds locks, before
	// the server ends its session. 0 means 5 s; at least 2 s.
	IdleTimeout time.Duration

	// Prefix is what the names of the central database's roles begin with from now on. ""
	// leaves the prefix as it is, DefaultPrefix at first. It means nothing for a tenant's
	// database.
	Prefix string

	// DryRun does everything in a tenant database that a run would do, and undoes it: what a
	// run would be refused is refused. It means nothing for the central database.
	DryRun bool

	// Notify is told who is in the way, in a sentence, once something has been waited
	// for for a second. It is not called twice at once. nil means that nobody is told.
	Notify func(sentence string)
}

const (
	defaultLockTimeout = 150 * time.Millisecond
	maxLockTimeout     = 300 * time.Millisecond
	defaultWait        = 5 * time.Minute
	defaultTenantWait  = 10 * time.Second
	defaultIdleTimeout = 5 * time.Second
	minIdleTimeout     = 2 * time.Second

	patience   = time.Second            // before anybody is told of
	firstPause = 250 * time.Millisecond // after a try that found a table taken; then twice as long each time
	maxPoll    = 250 * time.Millisecond // between two looks at the migration lock
)

func (o UpOpts) withDefaults(wait time.Duration) (UpOpts, error) {
	o.LockTimeout = cmp.Or(o.LockTimeout, defaultLockTimeout)
	o.Wait = cmp.Or(o.Wait, wait)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, defaultIdleTimeout)
	switch {
	case o.LockTimeout < time.Millisecond || o.LockTimeout > maxLockTimeout:
		return o, fmt.Errorf("migrations: LockTimeout is %s: want 1ms to %s, because everybody waits behind it", o.LockTimeout, maxLockTimeout)
	case o.Wait < time.Millisecond:
		return o, fmt.Errorf("migrations: Wait is %s: want 1ms or more", o.Wait)
	case o.IdleTimeout < minIdleTimeout:
		return o, fmt.Errorf("migrations: IdleTimeout is %s: want %s or more, because pauses are up to a second", o.IdleTimeout, minIdleTimeout)
	}
	if o.Notify == nil {
		o.Notify = func(string) {}
	}
	return o, nil
}

// migrator is one run of migrations over one connection.
type migrator struct {
	conn   *pgx.Conn
	opts   UpOpts
	begin  pgx.TxOptions  // of each transaction
	left   time.Duration  // of opts.Wait
	waited time.Duration  // for the same thing
	pause  time.Duration  // after the next try that finds a table taken
	told   map[int32]bool // sessions that Notify knows
}

func newMigrator(conn *pgx.Conn, opts *UpOpts, wait time.Duration) (*migrator, error) {
	if opts == nil {
		opts = &UpOpts{}
	}
	checked, err := opts.withDefaults(wait)
	if err != nil {
		return nil, err
	}
	return &migrator{conn: conn, opts: checked, left: checked.Wait, pause: firstPause, told: map[int32]bool{}}, nil
}

const (
	selectSettings = `SELECT pg_catalog.array_agg(pg_catalog.current_setting(n) ORDER BY i) FROM pg_catalog.unnest($1::text[]) WITH ORDINALITY AS s (n, i)`
	setSettings    = `SELECT pg_catalog.count(pg_catalog.set_config(n, v, $3)) FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS s (n, v)`
)

// waitSettings are what a session of migrations is held to: by the server, so that
// a program that freezes holds nothing for long. A long index build is not idle.
func (m *migrator) waitSettings() (names, values []string) {
	idle := milliseconds(m.opts.IdleTimeout)
	return []string{"lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout"},
		[]string{milliseconds(m.opts.LockTimeout), "0", idle, idle}
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%dms", max(1, d.Milliseconds())) }

// prepareSession sets what a migrating session is held to, and returns how to give
// the connection back as it was.
func (m *migrator) prepareSession(ctx context.Context) (restore func(), err error) {
	names, values := m.waitSettings()
	var before []string
	if err := m.conn.QueryRow(ctx, selectSettings, names).Scan(&before); err != nil {
		return nil, fmt.Errorf("reading the session's settings: %w", err)
	}
	if _, err := m.conn.Exec(ctx, setSettings, names, values, false); err != nil {
		return nil, fmt.Errorf("setting the session's timeouts: %w", err)
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.opts.IdleTimeout)
		defer cancel()
		_, _ = m.conn.Exec(ctx, setSettings, names, before, false) // fails on a lost connection, which has none
	}, nil
}

// lock takes the migration lock for the session. It asks again and again instead of
// waiting in the statement: an index build waits for all older snapshots, and so for
// a statement that waits for the builder's own lock.
func (m *migrator) lock(ctx context.Context) error {
	const what = "the migration lock"
	m.waited = 0
	for poll := 5 * time.Millisecond; ; poll = min(2*poll, maxPoll) {
		var got bool
		if err := m.conn.QueryRow(ctx, tryLockSession, lockKey).Scan(&got); err != nil {
			return fmt.Errorf("asking for %s: %w", what, err)
		}
		if got {
			return nil
		}
		if err := m.rest(ctx, poll, what, m.lockHolders, nil); err != nil {
			return err
		}
	}
}

// inTx does work in a transaction, anew while it finds a table taken. what says for
// what it may have to wait.
func (m *migrator) inTx(ctx context.Context, what string, work func(pgx.Tx) error) error {
	m.waited = 0
	for {
		began := time.Now()
		err := pgx.BeginTxFunc(ctx, m.conn, m.begin, work)
		if !isTaken(err) {
			return err
		}
		m.spend(time.Since(began))
		if err := m.rest(ctx, m.pause, what, m.tableHolders, err); err != nil {
			return err
		}
		m.pause *= 2 // over the whole run: that bounds the sum of stalls
	}
}

const selectInvalid = `SELECT EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass($1) AND NOT indisvalid)`

// change makes one change of an index beside those who write its table. Nobody waits
// behind a build, so its own waits may take as long as there is patience left.
func (m *migrator) change(ctx context.Context, c indexChange, what string) error {
	m.waited = 0
	lockTimeout := []string{"lock_timeout"}
	defer func() {
		_, _ = m.conn.Exec(ctx, setSettings, lockTimeout, []string{milliseconds(m.opts.LockTimeout)}, false) // fails on a lost connection only
	}()
	for {
		if _, err := m.conn.Exec(ctx, setSettings, lockTimeout, []string{milliseconds(m.left)}, false); err != nil {
			return fmt.Errorf("setting the session's timeouts: %w", err)
		}
		began := time.Now()
		holders, err := m.watched(ctx, what, func() error { return m.build(ctx, c) })
		if !isTaken(err) {
			return err
		}
		m.spend(time.Since(began))
		seen := func(context.Context) ([]holder, error) { return holders, nil }
		if err := m.rest(ctx, m.pause, what, seen, err); err != nil {
			return err
		}
		m.pause *= 2
	}
}

func (m *migrator) build(ctx context.Context, c indexChange) error {
	var invalid bool
	if err := m.conn.QueryRow(ctx, selectInvalid, c.index).Scan(&invalid); err != nil {
		return fmt.Errorf("looking at index %s: %w", c.index, err)
	}
	if invalid { // a build that broke off
		if _, err := m.conn.Exec(ctx, "DROP INDEX CONCURRENTLY IF EXISTS "+c.index); err != nil {
			return fmt.Errorf("dropping what is left of index %s: %w", c.index, err)
		}
	}
	_, err := m.conn.Exec(ctx, c.sql)
	return err
}

func (m *migrator) spend(d time.Duration) {
	m.left -= d
	m.waited += d
}

// rest lets d go by, in steps that the server sees, and tells who is in the way. It
// returns a *LockedError when there is no patience left.
func (m *migrator) rest(ctx context.Context, d time.Duration, what string, look func(context.Context) ([]holder, error), cause error) error {
	holders, err := look(ctx)
	if err != nil {
		return fmt.Errorf("asking who holds %s: %w", what, err)
	}
	if m.left <= 0 {
		return &LockedError{What: what, Waited: m.opts.Wait, holders: holders, cause: cause}
	}
	for d = min(d, m.left); d > 0; {
		if m.waited >= patience {
			m.tell(what, holders)
		}
		step := min(d, maxPoll)
		began := time.Now()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(step):
		}
		if err := m.conn.Ping(ctx); err != nil {
			return err
		}
		m.spend(max(step, time.Since(began)))
		d -= step
	}
	return nil
}

// isTaken reports whether a statement gave up because somebody holds a lock.
func isTaken(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && (pgErr.Code == "55P03" || pgErr.Code == "40P01")
}

// explain says what may have ended the session. A program that wakes after the server
// has cut it off mostly finds a broken pipe, and not what the server said.
func (m *migrator) explain(err error) error {
	if err == nil || !m.conn.IsClosed() || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("the session was lost (the server ends it when this program is silent for %s while it holds locks); what is applied stays applied: run it again (%w)", m.opts.IdleTimeout, err)
}
