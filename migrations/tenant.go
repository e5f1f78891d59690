package migrations

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/session"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// ServerSQL is what a server's administrator runs once, because an owner of a
// database may not create roles: the group of all job logins, which owns
// nothing and may not log in itself. Running it again changes nothing.
const ServerSQL = `DO $$
BEGIN
    CREATE ROLE headgate_job NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL; -- prepared before, or by another at this moment
END $$;`

// PrepareServer runs [ServerSQL] on an administrator's connection.
func PrepareServer(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, ServerSQL); err != nil {
		return fmt.Errorf("creating role headgate_job: %w", err)
	}
	return nil
}

// JobFunctions are the functions of schema headgate that a job login calls, as the
// tenants' migrations grant them to headgate_job.
var JobFunctions = []string{
	"begin_job", "claim_job", "current_brand", "current_org", "current_org_brand", "current_org_key", "end_job", "end_late", "end_session", "enter_job", "finish_job",
	"leave_centre", "peek_job", "probe", "release_job", "tombstone", "watch_client", "whoami",
}

// JobColumns are the columns of tables in schema headgate that a job login reads, as the
// tenants' migrations grant them to headgate_job. The login has no other right there.
var JobColumns = map[string][]string{
	"identity":  {"database_id", "version", "serves", "centre", "token"},
	"protected": {"object", "mode", "org_column", "through", "shown_by", "brand_column"},
}

// ErrOtherDatabase: the database carries the identity of another catalog entry.
var ErrOtherDatabase = jobs.Sentinel("other_database", "the database belongs to another catalog entry")

// Identity is what a tenant database knows itself by.
type Identity struct {
	DatabaseID string         // its id of the catalog, a UUID
	SigningKey address.Secret // its key of the catalog, by which it knows its workers' tickets. Zero leaves what it has
	Centre     string         // the mark of its central database, left where no mark is; "": nothing is left
}

// UpTenant installs or upgrades Headgate's schema in one tenant database, with
// the owner's login, in one transaction, and marks the database with its identity. It
// fails with [ErrOtherDatabase] if the database is marked with another id, and says so if
// the server was never prepared, the database lacks a language, or takes no writes; and with
// [ErrForeignSchema] if another role than the owner login has a hand in schema headgate.
// Another signing key than before replaces that. Rights that
// default privileges give on what it makes are taken away again.
//
// The database may be at work: the application's own tables are not locked, and a
// table of Headgate's that a job has in use is waited for in short tries, as long as
// opts says; then it is a [*LockedError]. opts may be nil.
func UpTenant(ctx context.Context, conn *pgx.Conn, identity Identity, opts *UpOpts) (applied []string, err error) {
	m, err := newMigrator(conn, opts, defaultTenantWait)
	if err != nil {
		return nil, err
	}
	m.begin.BeginQuery = session.Begin + ";" + session.OwnPath + ";" + session.Local(slices.Concat(session.Tenant, session.Timeless))
	err = m.inTx(ctx, "the tables of schema headgate", func(tx pgx.Tx) error {
		// For the transaction: behind a pooler the session is somebody else's next.
		names, values := m.waitSettings()
		if _, err := tx.Exec(ctx, setSettings, names, values, true); err != nil {
			return fmt.Errorf("setting the transaction's timeouts: %w", err)
		}
		if _, err := tx.Exec(ctx, lockTx, lockKey); err != nil {
			return fmt.Errorf("waiting for the migration lock: %w", err)
		}
		if err := installable(ctx, tx); err != nil {
			return err
		}
		things, err := foreignThings(ctx, tx, "")
		if err != nil {
			return err
		}
		if err := refused(things); err != nil {
			return err
		}
		before, err := ownObjects(ctx, tx)
		if err != nil {
			return err
		}
		if err := ownSchema(ctx, tx); err != nil {
			return err
		}
		at, err := readApplied(ctx, tx)
		if err != nil {
			return err
		}
		missing := after(tenant[:min(cmp.Or(m.opts.To, len(tenant)), len(tenant))], at)
		for _, file := range missing {
			if err := file.apply(ctx, tx); err != nil {
				return err
			}
		}
		applied = labels(missing)
		if err := mark(ctx, tx, identity); err != nil {
			return err
		}
		if err := ownRights(ctx, tx, before); err != nil || !m.opts.DryRun {
			return err
		}
		return errUndone
	})
	if err != nil && !errors.Is(err, errUndone) {
		return nil, m.explain(err)
	}
	return applied, nil
}

// errUndone ends a dry run: nothing was refused, and nothing is kept.
var errUndone = errors.New("undone")

const selectSchema = `
SELECT pg_catalog.to_regnamespace('headgate') IS NOT NULL, pg_catalog.quote_ident(pg_catalog.current_database()), pg_catalog.quote_ident(current_user)`

// ownSchema makes the schema if there is none. IF NOT EXISTS would ask for the right to make
// schemas also where there is one.
func ownSchema(ctx context.Context, tx pgx.Tx) error {
	var there bool
	var database, login string
	err := tx.QueryRow(ctx, selectSchema).Scan(&there, &database, &login)
	if err == nil && !there {
		_, err = tx.Exec(ctx, createSchema)
	}
	if pgErr := (*pgconn.PgError)(nil); errors.As(err, &pgErr) && pgErr.Code == "42501" {
		return fmt.Errorf("creating schema headgate: %w: have the database's owner run GRANT CREATE ON DATABASE %s TO %s, and run the command again; nothing was changed", err, database, login)
	}
	if err != nil {
		return fmt.Errorf("creating schema headgate: %w", err)
	}
	return nil
}

// TenantSQL is what [UpTenant] runs in a database without Headgate's schema, for people to
// read: database is the id that it marks the database with.
func TenantSQL(database string) string {
	text := []string{createSchema + ";", strings.TrimSpace(migrationsTable) + ";"}
	for _, m := range tenant {
		text = append(text, "-- "+m.label(), strings.TrimSpace(m.sql),
			fmt.Sprintf("INSERT INTO headgate.migrations (version, name, serves) VALUES (%d, '%s', %d);", m.version, m.name, m.serves))
	}
	return strings.Join(append(text, fmt.Sprintf("INSERT INTO headgate.identity (database_id) VALUES ('%s');", database)), "\n")
}

// selectNeeded asks for what installing needs and cannot make itself.
const selectNeeded = `
SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'headgate_job'), EXISTS (SELECT FROM pg_catalog.pg_language WHERE lanname = 'plpgsql'),
       pg_catalog.current_setting('transaction_read_only')::bool, pg_catalog.pg_is_in_recovery()`

// installable says what is missing, before Postgres says it in words that have many
// causes.
func installable(ctx context.Context, tx pgx.Tx) error {
	var role, language, readOnly, standby bool
	err := tx.QueryRow(ctx, selectNeeded).Scan(&role, &language, &readOnly, &standby)
	switch {
	case err != nil:
		return fmt.Errorf("asking what the database has: %w", err)
	case standby:
		return errors.New("the server is a standby, which takes no writes: give the primary's address")
	case readOnly:
		return errors.New("the owner's transactions are read only there (default_transaction_read_only is on, for the server, the database or the login): switch that off, or wait until whoever set it does")
	case !role:
		return errors.New("the server has no role headgate_job: run `headgate server prepare` once with an administrator's address")
	case !language:
		return errors.New("the database has no language plpgsql, which Headgate's functions are written in: have its owner run CREATE EXTENSION plpgsql")
	}
	return nil
}

const insertIdentity = `
INSERT INTO headgate.identity (database_id) VALUES ($1) ON CONFLICT DO NOTHING`

const leaveFirstMark = `UPDATE headgate.identity SET centre = $1 WHERE centre IS NULL`

const selectIdentity = `SELECT database_id::pg_catalog.text FROM headgate.identity`

func mark(ctx context.Context, tx pgx.Tx, identity Identity) error {
	if _, err := tx.Exec(ctx, insertIdentity, identity.DatabaseID); err != nil {
		return fmt.Errorf("marking the database: %w", err)
	}
	var found string
	if err := tx.QueryRow(ctx, selectIdentity).Scan(&found); err != nil {
		return fmt.Errorf("reading the database's mark: %w", err)
	}
	if found != identity.DatabaseID {
		return fmt.Errorf("%w: it is marked %s, not %s; drop its schema headgate if that entry is gone", ErrOtherDatabase, found, identity.DatabaseID)
	}
	if identity.Centre != "" {
		if _, err := tx.Exec(ctx, leaveFirstMark, identity.Centre); err != nil {
			return fmt.Errorf("leaving the central database's mark: %w", err)
		}
	}
	if identity.SigningKey == (address.Secret{}) {
		return nil
	}
	return SetSigningKey(ctx, tx, identity.SigningKey)
}

const upsertSigningKey = `
INSERT INTO headgate.signing_key AS k (inner_key, outer_key) VALUES ($1, $2)
ON CONFLICT (only_one) DO UPDATE SET inner_key = excluded.inner_key, outer_key = excluded.outer_key WHERE k.inner_key <> excluded.inner_key`

// SetSigningKey gives a tenant database the key by which it knows its workers, as the owner
// of schema headgate. The database keeps the two halves that HMAC-SHA256 (RFC 2104) makes
// of the key.
func SetSigningKey(ctx context.Context, tx pgx.Tx, key address.Secret) error {
	halves := [2][]byte{bytes.Repeat([]byte{0x36}, sha256.BlockSize), bytes.Repeat([]byte{0x5c}, sha256.BlockSize)}
	text := key.Reveal()
	if len(text) != sha256.BlockSize {
		return fmt.Errorf("the database's signing key has %d bytes and must have %d", len(text), sha256.BlockSize)
	}
	for _, half := range halves {
		subtle.XORBytes(half, half, []byte(text))
	}
	if _, err := tx.Exec(ctx, upsertSigningKey, halves[0], halves[1]); err != nil {
		return fmt.Errorf("giving the database its signing key: %w", err)
	}
	return nil
}

// CheckTenant returns a *VersionError if a tenant database's schema version
// does not fit this program. A program brings every version up to its own, so
// the database serves it unless it is behind.
func CheckTenant(database string, version, serves int) error {
	return fits("database "+database, version, serves, len(tenant))
}

const succeedIdentity = `
UPDATE headgate.identity SET database_id = $2, centre = nullif($3, ''), token = NULL
WHERE database_id OPERATOR(pg_catalog.=) $1::pg_catalog.uuid`

// Succeed makes a database that bears an identity bear another one, as the owner of schema
// headgate: an operator has decided that its entry of the catalog is gone for good. It fails
// with [ErrOtherDatabase] if the database does not bear from any more, and with
// [ErrForeignSchema] as [UpTenant].
func Succeed(ctx context.Context, conn *pgx.Conn, from string, to Identity) error {
	if err := RefuseForeign(ctx, conn); err != nil {
		return err
	}
	tag, err := conn.Exec(ctx, succeedIdentity, from, to.DatabaseID, to.Centre)
	if err != nil {
		return fmt.Errorf("giving the database another identity: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return fmt.Errorf("%w: it is not marked %s any more", ErrOtherDatabase, from)
	}
	return nil
}

// Forget empties the fence and the ledger of a copy of a tenant database, as the owner of
// schema headgate: the copy's organisations are others than those of the same numbers in the
// database that it was made from. It is for no database that holds tenants.
func Forget(ctx context.Context, copied *pgx.Conn) error {
	if _, err := copied.Exec(ctx, `TRUNCATE headgate.fence, headgate.ledger`); err != nil {
		return fmt.Errorf("emptying the fence and the ledger of the copy: %w", err)
	}
	return nil
}
