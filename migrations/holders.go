package migrations

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs/session"
)

// LockedError says that a migration gave up waiting: for what, who was in the way,
// and how that is ended. Nothing of the step that waited is applied.
type LockedError struct {
	What   string        // "the migration lock"
	Waited time.Duration // in all

	holders []holder
	cause   error
}

// Error names the holders as far as they could be seen.
func (e *LockedError) Error() string {
	return fmt.Sprintf("gave up after %s of waiting for %s: %s; then run it again", e.Waited, e.What, sentence(e.holders))
}

// Unwrap returns Postgres's own error, if there was one.
func (e *LockedError) Unwrap() error { return e.cause }

// holder is a session that holds a lock.
type holder struct {
	pid              int32 // 0: a prepared transaction
	app, user, state string
	since            *time.Time // nil: this login may not see it
}

func (h holder) String() string {
	if h.pid == 0 {
		return "a prepared transaction, which SELECT gid FROM pg_prepared_xacts shows and ROLLBACK PREPARED ends"
	}
	var is []string
	if h.app != "" {
		is = append(is, "app "+h.app)
	}
	is = append(is, "user "+h.user)
	if h.state != "" {
		is = append(is, h.state)
	}
	if h.since != nil {
		is = append(is, "since "+h.since.UTC().Format("2006-01-02 15:04:05 UTC"))
	}
	return fmt.Sprintf("pid %d (%s); end it with SELECT pg_terminate_backend(%d)", h.pid, strings.Join(is, ", "), h.pid)
}

func sentence(holders []holder) string {
	if len(holders) == 0 {
		return "nobody holds it for longer than a moment, but always somebody"
	}
	texts := make([]string, len(holders))
	for i, h := range holders {
		texts[i] = h.String()
	}
	return "held by " + strings.Join(texts, "; and by ")
}

// tell tells of those who were not told of yet.
func (m *migrator) tell(what string, holders []holder) {
	var fresh []holder
	for _, h := range holders {
		if !m.told[h.pid] {
			fresh = append(fresh, h)
			m.told[h.pid] = true
		}
	}
	if len(fresh) > 0 {
		m.opts.Notify(fmt.Sprintf("waiting for %s: %s", what, sentence(fresh)))
	}
}

// A login without rights on others' sessions sees neither state nor times.
const holderColumns = `
SELECT pid, coalesce(a.application_name, ''), coalesce(a.usename, ''), coalesce(a.state, ''), coalesce(a.xact_start, a.state_change)`

// lockHoldersSQL names who holds the advisory lock $1.
const lockHoldersSQL = holderColumns + `
  FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
 WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND l.classid::bigint = ($1::bigint >> 32) & 4294967295 AND l.objid::bigint = $1::bigint & 4294967295
   AND pid IS DISTINCT FROM pg_backend_pid()
 LIMIT 3`

// tableHoldersSQL names who has had a lock on a table of Headgate's or River's for at
// least $1 milliseconds, the oldest first.
const tableHoldersSQL = holderColumns + `
  FROM (SELECT DISTINCT coalesce(l.pid, 0) AS pid
          FROM pg_locks l
          JOIN pg_class c ON c.oid = l.relation
          JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE l.locktype = 'relation' AND l.granted AND (n.nspname = 'headgate' OR c.relname LIKE 'river\_%')
           AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND l.pid IS DISTINCT FROM pg_backend_pid()) h
  LEFT JOIN pg_stat_activity a USING (pid)
 WHERE coalesce(a.xact_start < clock_timestamp() - $1 * interval '1 millisecond', true)
 ORDER BY a.xact_start NULLS LAST
 LIMIT 3`

// blockersSQL names those for whom the session $1 waits.
const blockersSQL = holderColumns + `
  FROM unnest(pg_blocking_pids($1)) AS b (pid) LEFT JOIN pg_stat_activity a USING (pid)
 LIMIT 3`

func (m *migrator) lockHolders(ctx context.Context) ([]holder, error) {
	return readHolders(ctx, m.conn, lockHoldersSQL, lockKey)
}

func (m *migrator) tableHolders(ctx context.Context) ([]holder, error) {
	tables, err := readHolders(ctx, m.conn, tableHoldersSQL, m.opts.LockTimeout.Milliseconds())
	if err != nil || len(tables) > 0 {
		return tables, err
	}
	return m.lockHolders(ctx) // a tenant's install waits for it in its transaction
}

func readHolders(ctx context.Context, conn *pgx.Conn, sql string, arg any) (holders []holder, err error) {
	begin := pgx.TxOptions{BeginQuery: session.BeginReadOnly + ";" + session.OwnPath}
	err = pgx.BeginTxFunc(ctx, conn, begin, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, sql, arg) // its error is CollectRows' too
		holders, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (h holder, err error) {
			var pid *int32
			err = row.Scan(&pid, &h.app, &h.user, &h.state, &h.since)
			if pid != nil {
				h.pid = *pid
			}
			return h, err
		})
		return err
	})
	return holders, err
}

// watched does what may wait for others inside a statement. Meanwhile it looks from a
// second connection for whom, tells of them, and returns whom it saw last. Without
// such a connection it knows of nobody.
func (m *migrator) watched(ctx context.Context, what string, work func() error) (last []holder, err error) {
	watching, stop := context.WithCancel(ctx)
	pid := int32(m.conn.PgConn().PID())
	done := make(chan struct{})
	go func() {
		defer close(done)
		last = m.watch(watching, pid, what)
	}()
	err = work()
	stop()
	<-done
	return last, err
}

// watch looks once a second, from the first second on, until ctx ends.
func (m *migrator) watch(ctx context.Context, pid int32, what string) (last []holder) {
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			_ = conn.Close(context.WithoutCancel(ctx)) // it has only looked
		}
	}()
	ticks := time.NewTicker(patience)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return last
		case <-ticks.C:
		}
		if conn == nil || conn.IsClosed() {
			var err error
			if conn, err = pgx.ConnectConfig(ctx, m.conn.Config()); err != nil {
				conn = nil
				continue
			}
		}
		if holders, err := readHolders(ctx, conn, blockersSQL, pid); err == nil && len(holders) > 0 {
			last = holders
			m.tell(what, holders)
		}
	}
}
