package central

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// LockedError says who keeps a lock that was waited for in vain, and how to end that. It wraps
// the server's error, SQLSTATE 55P03.
type LockedError struct {
	Holders string // sessions, with their locks; never ""
	Next    string
	err     error
}

// Error is the server's word, who, and what to do.
func (e *LockedError) Error() string {
	return fmt.Sprintf("%v: it is kept by %s, and nothing was changed; %s, then try again", e.err, e.Holders, e.Next)
}

// Unwrap is the server's error.
func (e *LockedError) Unwrap() error { return e.err }

// holdersSQL is who has held a lock on a table of Headgate's or the queue's, more than for
// reading, for at least $1 milliseconds, the oldest first. A session that itself waits is not
// the cause. A login without pg_read_all_stats does not see since when.
const holdersSQL = `
SELECT h.pid, coalesce(a.usename, ''), coalesce(a.application_name, ''), a.xact_start, h.tables
FROM (SELECT l.pid, string_agg(DISTINCT c.relname, ', ' ORDER BY c.relname) AS tables
      FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE l.locktype = 'relation' AND l.granted AND l.mode <> 'AccessShareLock' AND c.relkind IN ('r', 'p') AND (n.nspname = 'headgate' OR c.relname LIKE 'river\_%')
        AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
        AND l.pid <> pg_backend_pid() AND NOT EXISTS (SELECT FROM pg_locks w WHERE w.pid = l.pid AND NOT w.granted)
      GROUP BY l.pid) h
LEFT JOIN pg_stat_activity a ON a.pid = h.pid
WHERE coalesce(a.xact_start < clock_timestamp() - $1 * interval '1 millisecond', true)
ORDER BY a.xact_start NULLS LAST, h.pid LIMIT 3`

// askHolders bounds the question who keeps a lock.
const askHolders = 2 * time.Second

// NameHolders adds to an error about a lock who keeps it, asked at db, which is a pool, or a
// transaction that goes on. waited is how long the lock was waited for. Where nobody is seen,
// and for other errors, err stays.
func NameHolders(ctx context.Context, db any, waited time.Duration, err error) error {
	asker, ok := db.(interface {
		Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	})
	if !ok || !IsLockTimeout(err) || errors.As(err, new(*LockedError)) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askHolders)
	defer cancel()
	var pid int
	var user, app, tables string
	var since *time.Time
	var holders []string
	next := ""
	rows, _ := asker.Query(ctx, holdersSQL, waited.Milliseconds()) // its error is ForEachRow's too
	_, failed := pgx.ForEachRow(rows, []any{&pid, &user, &app, &since, &tables}, func() error {
		is := fmt.Sprintf("session %d of %s", pid, user)
		if app != "" {
			is += ", application " + app
		}
		if since != nil {
			is += ", in its transaction since " + since.UTC().Format("2006-01-02 15:04:05 UTC")
		}
		if next == "" {
			next = EndSession(is)
		}
		holders = append(holders, is+" (locks on "+tables+")")
		return nil
	})
	if failed != nil || len(holders) == 0 {
		return err
	}
	return &LockedError{Holders: strings.Join(holders, "; or by "), Next: next, err: err}
}
