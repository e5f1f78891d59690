// Package migrations holds the SQL that makes Headgate's two schemas and the
// code that applies it: central/ for the orchestrator's database (beside
// River's own tables, which rivermigrate makes), tenant/ for Headgate's small
// footprint in every tenant database, and the roles that a server needs once.
//
// Migrations are numbered, go forward only, and are applied under an advisory
// lock: of several that start at once one applies and the others wait, find
// nothing to do and succeed.
//
// A schema may be newer than the program that uses it, so that processes can be
// replaced one by one. A migration that takes something away says in its first
// line which schema version a program must know to live with it,
//
//	-- serves: 7
//
// and a program that is older than that refuses to work ([VersionError]).
//
// Migrating harms nobody who is at work. Each file is a transaction of its own,
// whose statements wait for a lock for a fraction of a second ([UpOpts]): whoever
// wants the same table waits behind them for that long. A try that finds a table
// taken is rolled back and made again, each time after twice the pause, so that all
// tries of one migration together hold others up for about two seconds. Who is in
// the way is told after a second. A migrator that freezes is cut off by the server.
//
// An index on a table that may be big is built beside its writers, by a file that
// says so in its first line, or in the one behind serves:
//
//	-- concurrently
//
// Such a file holds nothing but CREATE INDEX CONCURRENTLY IF NOT EXISTS and DROP
// INDEX CONCURRENTLY IF EXISTS. Each statement is run alone, outside a transaction,
// and the file is recorded after the last. A build that broke off leaves an invalid
// index, which the next run drops and builds again. To change an index, build the
// new one under a new name and drop the old one behind it.
package migrations

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

//go:embed central/*.sql tenant/*.sql
var files embed.FS

// migration is one numbered file.
type migration struct {
	version int
	name    string
	serves  int // the oldest program schema version that can work with it
	sql     string
	indexes []indexChange // of a file that says concurrently; else nil
}

// label is the migration as people read it.
func (m migration) label() string { return fmt.Sprintf("%04d_%s", m.version, m.name) }

// indexChange is one statement of a file that says concurrently.
type indexChange struct{ sql, index string }

var (
	central = load(files, "central")
	tenant  = load(files, "tenant")

	fileName       = regexp.MustCompile(`^(\d{4})_([a-z0-9_]+)\.sql$`)
	servesLine     = regexp.MustCompile(`^-- serves: (\d+)\n`)
	concurrentLine = regexp.MustCompile(`^(?:-- serves: \d+\n)?-- concurrently\n`)
	commentLine    = regexp.MustCompile(`(?m)^--.*\n?`)
	indexStatement = regexp.MustCompile(`^(?:CREATE (?:UNIQUE )?INDEX CONCURRENTLY IF NOT EXISTS ([a-z0-9_.]+) ON |DROP INDEX CONCURRENTLY IF EXISTS ([a-z0-9_.]+)$)`)
)

// load reads one directory. Its files are part of the program, so a wrong one
// is a bug of ours and panics at start, in every test.
func load(from fs.FS, dir string) []migration {
	entries, err := fs.ReadDir(from, dir)
	if err != nil {
		panic(err)
	}
	var all []migration
	for i, entry := range entries {
		m, err := parse(from, dir, entry.Name())
		if err != nil {
			panic(err)
		}
		if m.version != i+1 {
			panic(fmt.Sprintf("migrations: %s/%s should be number %d", dir, entry.Name(), i+1))
		}
		all = append(all, m)
	}
	return all
}

func parse(from fs.FS, dir, name string) (migration, error) {
	parts := fileName.FindStringSubmatch(name)
	if parts == nil {
		return migration{}, fmt.Errorf("migrations: %s/%s is not named NNNN_what_it_does.sql", dir, name)
	}
	text, err := fs.ReadFile(from, dir+"/"+name)
	if err != nil {
		return migration{}, err
	}
	m := migration{name: parts[2], serves: 1, sql: string(text)}
	if m.version, err = strconv.Atoi(parts[1]); err != nil {
		return migration{}, err
	}
	if serves := servesLine.FindStringSubmatch(m.sql); serves != nil {
		if m.serves, err = strconv.Atoi(serves[1]); err != nil {
			return migration{}, err
		}
	}
	if concurrentLine.MatchString(m.sql) {
		if m.indexes, err = parseIndexes(m.sql); err != nil {
			return migration{}, fmt.Errorf("migrations: %s/%s says concurrently: %w", dir, name, err)
		}
	}
	return m, err
}

// parseIndexes takes a file that says concurrently apart, and refuses what may not
// stand in it.
func parseIndexes(text string) ([]indexChange, error) {
	var all []indexChange
	for statement := range strings.SplitSeq(commentLine.ReplaceAllString(text, ""), ";") {
		statement = strings.Join(strings.Fields(statement), " ")
		if statement == "" {
			continue
		}
		found := indexStatement.FindStringSubmatch(statement)
		if found == nil {
			return nil, fmt.Errorf("%.80q is neither CREATE INDEX CONCURRENTLY IF NOT EXISTS nor DROP INDEX CONCURRENTLY IF EXISTS", statement)
		}
		all = append(all, indexChange{sql: statement, index: found[1] + found[2]})
	}
	if len(all) == 0 {
		return nil, errors.New("it holds no statement")
	}
	return all, nil
}

// Fingerprint names the state that all migrations together lead to: it changes
// whenever one of them does. Test kits name their templates by it.
func Fingerprint() string {
	sum := sha256.New()
	for _, m := range append(append([]migration(nil), central...), tenant...) {
		_, _ = fmt.Fprintf(sum, "%d %s %d\n%s", m.version, m.name, len(m.sql), m.sql) // a hash takes all
	}
	return hex.EncodeToString(sum.Sum(nil)[:6])
}

const migrationsTable = `
CREATE TABLE IF NOT EXISTS headgate.migrations (
    version    int PRIMARY KEY,
    name       text NOT NULL,
    serves     int NOT NULL DEFAULT 1,
    applied_at timestamptz NOT NULL DEFAULT now()
)`

const selectApplied = `SELECT coalesce(max(version), 0) FROM headgate.migrations`

const insertApplied = `INSERT INTO headgate.migrations (version, name, serves) VALUES ($1, $2, $3)`

// readApplied makes the table of what is applied if need be, and returns the newest
// version in it, 0 if there is none. The schema headgate must exist.
func readApplied(ctx context.Context, tx pgx.Tx) (at int, err error) {
	if _, err := tx.Exec(ctx, migrationsTable); err != nil {
		return 0, fmt.Errorf("creating headgate.migrations: %w", err)
	}
	if err := tx.QueryRow(ctx, selectApplied).Scan(&at); err != nil {
		return 0, fmt.Errorf("reading headgate.migrations: %w", err)
	}
	return at, nil
}

// after returns those of all that are newer than at.
func after(all []migration, at int) []migration { return all[min(at, len(all)):] }

func (m migration) apply(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, m.sql); err != nil {
		return fmt.Errorf("applying migration %s: %w", m.label(), err)
	}
	return m.record(ctx, tx)
}

func (m migration) record(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, insertApplied, m.version, m.name, m.serves); err != nil {
		return fmt.Errorf("recording migration %s: %w", m.label(), err)
	}
	return nil
}

func labels(all []migration) (names []string) {
	for _, m := range all {
		names = append(names, m.label())
	}
	return names
}
