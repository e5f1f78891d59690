package jobstest

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// What no test of any package may find written anywhere. The kit looks wherever the tests
// of the whole suite leave something: each line of a log, at every level and in the forms of
// both of slog's handlers; the rows of each central database and of Headgate's tables in each
// tenant database, before these are dropped; and what pg_stat_activity shows of an Env's
// sessions. [Search] and [SearchedWriter] are for outputs that the kit does not see.
const (
	// Planted begins the password of every login that the kit makes.
	Planted = "S3cret-planted"

	// PlantedEmail is the address of a person, for rows of a tenant's tables whose values
	// must not leave these.
	PlantedEmail = "planted.person@example.com"
)

// plantedIn matches what is planted, plain, in hexadecimal digits, and as fmt prints bytes.
var plantedIn = func() *regexp.Regexp {
	var all []string
	for _, text := range []string{Planted, PlantedEmail} {
		printed := fmt.Sprintf("%d", []byte(text))
		all = append(all, regexp.QuoteMeta(text), hex.EncodeToString([]byte(text)), regexp.QuoteMeta(printed[1:len(printed)-1]))
	}
	pattern := "(?i)" + all[0]
	for _, more := range all[1:] {
		pattern += "|" + more
	}
	return regexp.MustCompile(pattern)
}()

// Search fails the test if a text holds what is planted. where says what the text is.
func Search(t testing.TB, where, text string) {
	t.Helper()
	if at := plantedIn.FindStringIndex(text); at != nil {
		t.Errorf("%s: a planted secret is told:\n%s", where, text[max(0, at[0]-300):min(len(text), at[1]+100)])
	}
}

// SearchedWriter searches what is written through it, also where it is written in parts.
// Safe for concurrent use.
func SearchedWriter(t testing.TB, where string, next io.Writer) io.Writer {
	return &searched{t: t, where: where, next: next}
}

type searched struct {
	t     testing.TB
	where string
	next  io.Writer

	mu   sync.Mutex
	last []byte // guarded by mu: the end of what came before
}

func (s *searched) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	Search(s.t, s.where, string(s.last)+string(p))
	s.last = append(s.last, p...)
	s.last = bytes.Clone(s.last[max(0, len(s.last)-4*len(PlantedEmail)):])
	if plantedIn.Match(s.last) {
		s.last = nil // it is told once
	}
	return s.next.Write(p)
}

// SearchedLogger is a logger whose records are searched, whatever their level and in both
// forms that slog writes, before they are passed on.
func SearchedLogger(t testing.TB, next *slog.Logger) *slog.Logger {
	all := &slog.HandlerOptions{Level: slog.LevelDebug}
	into := SearchedWriter(t, "a log", io.Discard)
	return slog.New(handlers{slog.NewJSONHandler(into, all), slog.NewTextHandler(into, all), next.Handler()})
}

// handlers are several in one.
type handlers []slog.Handler

func (handlers) Enabled(context.Context, slog.Level) bool { return true }

func (all handlers) Handle(ctx context.Context, r slog.Record) error {
	for _, h := range all {
		if h.Enabled(ctx, r.Level) {
			if err := h.Handle(ctx, r.Clone()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (all handlers) each(change func(slog.Handler) slog.Handler) handlers {
	changed := make(handlers, len(all))
	for i, h := range all {
		changed[i] = change(h)
	}
	return changed
}

func (all handlers) WithAttrs(attrs []slog.Attr) slog.Handler {
	return all.each(func(h slog.Handler) slog.Handler { return h.WithAttrs(attrs) })
}

func (all handlers) WithGroup(name string) slog.Handler {
	return all.each(func(h slog.Handler) slog.Handler { return h.WithGroup(name) })
}

// tables writes the statement that searches tables: up to 2,000 rows of each, as text.
const tables = `
SELECT string_agg(format('SELECT %L AS place, s.text FROM (SELECT t::text AS text FROM ONLY %s t LIMIT 2000) s WHERE s.text ~ $1', c.oid::regclass, c.oid::regclass), ' UNION ALL ')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname !~ '^(pg_|information_schema)' AND (n.nspname = 'headgate' OR $1)`

const sessionsOf = `
SELECT 'pg_stat_activity', query FROM pg_stat_activity WHERE query ~ $1 AND (datname = current_database() AND $2 OR usename = ANY($3))`

// searchRows searches a database: all its tables if it is a central one, else Headgate's, and
// what the server shows of its sessions, or of those of logins. A server that a test has
// stopped is not searched.
func searchRows(t testing.TB, pool *pgxpool.Pool, central bool, logins ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL lock_timeout = '2s'`); err != nil {
			return err
		}
		var search *string
		if err := tx.QueryRow(ctx, tables, pgx.QueryExecModeExec, central).Scan(&search); err != nil {
			return err
		}
		if search == nil {
			return nil
		}
		rows, err := tx.Query(ctx, *search+" UNION ALL "+sessionsOf, pgx.QueryExecModeExec, plantedIn.String(), central, logins)
		if err != nil {
			return err
		}
		var place, text string
		_, err = pgx.ForEachRow(rows, []any{&place, &text}, func() error {
			Search(t, "a row of "+place, text)
			return nil
		})
		return err
	})
	if err != nil {
		t.Logf("the rows were not searched for planted secrets: %v", err)
	}
}
