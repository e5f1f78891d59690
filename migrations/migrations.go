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
package migrations

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"

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
}

var (
	central = load("central")
	tenant  = load("tenant")

	fileName   = regexp.MustCompile(`^(\d{4})_([a-z0-9_]+)\.sql$`)
	servesLine = regexp.MustCompile(`^-- serves: (\d+)\n`)
)

// load reads one directory. Its files are part of the program, so a wrong one
// is a bug of ours and panics at start, in every test.
func load(dir string) []migration {
	entries, err := fs.ReadDir(files, dir)
	if err != nil {
		panic(err)
	}
	var all []migration
	for i, entry := range entries {
		m, err := parse(dir, entry.Name())
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

func parse(dir, name string) (migration, error) {
	parts := fileName.FindStringSubmatch(name)
	if parts == nil {
		return migration{}, fmt.Errorf("migrations: %s/%s is not named NNNN_what_it_does.sql", dir, name)
	}
	text, err := files.ReadFile(dir + "/" + name)
	if err != nil {
		return migration{}, err
	}
	m := migration{name: parts[2], serves: 1, sql: string(text)}
	if m.version, err = strconv.Atoi(parts[1]); err != nil {
		return migration{}, err
	}
	if serves := servesLine.FindStringSubmatch(m.sql); serves != nil {
		m.serves, err = strconv.Atoi(serves[1])
	}
	return m, err
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

// applyAll applies those of all that are missing, within tx, and returns their
// names. The schema headgate must exist.
func applyAll(ctx context.Context, tx pgx.Tx, all []migration) ([]string, error) {
	if _, err := tx.Exec(ctx, migrationsTable); err != nil {
		return nil, fmt.Errorf("creating headgate.migrations: %w", err)
	}
	var at int
	if err := tx.QueryRow(ctx, selectApplied).Scan(&at); err != nil {
		return nil, fmt.Errorf("reading headgate.migrations: %w", err)
	}
	var names []string
	for _, m := range all {
		if m.version <= at {
			continue
		}
		if _, err := tx.Exec(ctx, m.sql); err != nil {
			return nil, fmt.Errorf("applying migration %04d_%s: %w", m.version, m.name, err)
		}
		if _, err := tx.Exec(ctx, insertApplied, m.version, m.name, m.serves); err != nil {
			return nil, fmt.Errorf("recording migration %04d_%s: %w", m.version, m.name, err)
		}
		names = append(names, fmt.Sprintf("%04d_%s", m.version, m.name))
	}
	return names, nil
}
