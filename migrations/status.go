package migrations

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Status says which of this program's central migrations are applied.
type Status struct {
	Version   int       `json:"version"`    // of the schema; 0 if there is none
	Program   int       `json:"program"`    // what this program brings
	Serves    int       `json:"serves"`     // the oldest program that may use the schema
	AppliedAt time.Time `json:"applied_at"` // of the newest migration
	Pending   []string  `json:"pending"`
}

// VersionError says that a schema and this program do not fit together.
type VersionError struct {
	Where           string // "the central database", "database freemium-1"
	Schema, Program int
	Serves          int // the oldest program that the schema serves
}

// Error says which of the two is behind and what to do about it.
func (e *VersionError) Error() string {
	switch {
	case e.Schema == 0:
		return fmt.Sprintf("%s has no Headgate schema: run `headgate %s`", e.Where, e.next())
	case e.Schema < e.Program:
		return fmt.Sprintf("%s has schema %d, this program needs %d: run `headgate %s`", e.Where, e.Schema, e.Program, e.next())
	default:
		return fmt.Sprintf("%s has schema %d, which serves programs from schema %d on, and this program is of schema %d: upgrade headgate",
			e.Where, e.Schema, e.Serves, e.Program)
	}
}

// next is the command that brings a schema up to this program's.
func (e *VersionError) next() string {
	if name, ok := strings.CutPrefix(e.Where, "database "); ok {
		return "database install " + name
	}
	return "migrate up"
}

// Newer reports whether the schema is too new for this program, so that only an
// upgrade of the program helps.
func (e *VersionError) Newer() bool { return e.Schema >= e.Program }

// Versions returns the versions of the two schemas that this program brings.
func Versions() (centralSchema, tenantSchema int) { return len(central), len(tenant) }

// Querier is what reading the status needs: a connection, pool or transaction.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

const selectStatus = `
SELECT coalesce(max(version), 0), coalesce(max(serves), 0), coalesce(max(applied_at), '0001-01-01 00:00:00+00') FROM headgate.migrations`

// ReadStatus reads the status of the central schema. A database without one
// gives version 0 and no error.
func ReadStatus(ctx context.Context, db Querier) (Status, error) {
	status := Status{Program: len(central)}
	err := db.QueryRow(ctx, selectStatus).Scan(&status.Version, &status.Serves, &status.AppliedAt)
	if pgErr := (*pgconn.PgError)(nil); errors.As(err, &pgErr) && (pgErr.Code == "42P01" || pgErr.Code == "3F000") {
		err = nil // no such table or schema: nothing applied yet
	}
	if err != nil {
		return Status{}, fmt.Errorf("reading the schema version: %w", err)
	}
	status.Pending = []string{}
	for _, m := range central {
		if m.version > status.Version {
			status.Pending = append(status.Pending, fmt.Sprintf("%04d_%s", m.version, m.name))
		}
	}
	return status, nil
}

// Check returns a *VersionError if the central schema and this program do not
// fit, in either direction, and a *[QueueError] if this session does not find the
// queue that is there.
func Check(ctx context.Context, db Querier) error {
	if err := CheckVersion(ctx, db); err != nil {
		return err
	}
	_, err := Queue(ctx, db)
	return err
}

// CheckVersion is the first half of Check.
func CheckVersion(ctx context.Context, db Querier) error {
	status, err := ReadStatus(ctx, db)
	if err != nil {
		return err
	}
	return fits("the central database", status.Version, status.Serves, len(central))
}

func fits(where string, schema, serves, program int) error {
	if schema < program || serves > program {
		return &VersionError{Where: where, Schema: schema, Program: program, Serves: serves}
	}
	return nil
}
