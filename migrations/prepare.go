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

// centralSQL makes the roles of a central database. Schema headgate is made here too where
// there is none, so that it belongs to the role of owners; the creator of a role may grant
// the role to himself, on every version of Postgres, and is no member of it afterwards.
const centralSQL = `DO $$
DECLARE
    owner  text := 'PREFIX_owner';
    name   text;
    member boolean;
BEGIN
    FOREACH name IN ARRAY ARRAY[NAMES] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS', name);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- prepared before, or by another at this moment
        END;
        IF EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = name
                   AND (r.rolcanlogin OR r.rolsuper OR r.rolcreatedb OR r.rolcreaterole OR r.rolreplication OR r.rolbypassrls)) THEN
            RAISE EXCEPTION 'role % is there, and is no group that owns nothing: it may log in, or more', name
                USING ERRCODE = '42710', HINT = 'Choose other names with --prefix, or take away what the role may.';
        END IF;
    END LOOP;
    PERFORM pg_advisory_xact_lock(LOCK);
    IF to_regnamespace('headgate') IS NOT NULL THEN
        RETURN;
    END IF;
    IF current_schema() IS NULL THEN
        RAISE EXCEPTION 'no schema of the search_path (%) is there, so the queue would be nowhere', current_setting('search_path') USING ERRCODE = '3F000';
    END IF;
    EXECUTE format('GRANT CREATE ON DATABASE %I TO %I', current_database(), owner);
    EXECUTE format('GRANT USAGE, CREATE ON SCHEMA %I TO %I', current_schema(), owner);
    IF NOT has_database_privilege(owner, current_database(), 'CREATE') OR NOT has_schema_privilege(owner, current_schema(), 'CREATE') THEN
        RAISE EXCEPTION 'login % may not let role % make schemas in database % and tables in its schema %', CURRENT_USER, owner, current_database(), current_schema()
            USING ERRCODE = '42501', HINT = 'Prepare it as the owner of the database.';
    END IF;
    member := pg_has_role(CURRENT_USER, owner, 'USAGE');
    IF NOT member THEN
        EXECUTE format('GRANT %I TO CURRENT_USER', owner);
    END IF;
    EXECUTE format('CREATE SCHEMA headgate AUTHORIZATION %I', owner);
    CREATE TABLE headgate.roles (
        only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
        prefix   text NOT NULL CHECK (prefix ~ '^[a-z][a-z0-9_]{0,39}$')
    );
    INSERT INTO headgate.roles (prefix) VALUES ('PREFIX');
    EXECUTE format('ALTER TABLE headgate.roles OWNER TO %I', owner);
    IF NOT member THEN
        EXECUTE format('REVOKE %I FROM CURRENT_USER', owner);
    END IF;
END $$;`

// CentralSQL is what an administrator runs once in a central database: the five roles, which
// belong to the whole server and whose names begin with the prefix, and schema headgate where
// there is none. Running it again changes nothing. The error is a *jobs.InputError.
func CentralSQL(prefix string) (string, error) {
	if err := CheckPrefix(prefix); err != nil {
		return "", err
	}
	return strings.NewReplacer("PREFIX", prefix, "NAMES", "'"+strings.Join(roleNames(prefix), "', '")+"'", "LOCK", fmt.Sprint(lockKey)).Replace(centralSQL), nil
}

// prepareTries is how often two that prepare at once may meet in Postgres's own tables.
const prepareTries = 5

// selectPlaced says whether schema headgate belongs to a role.
const selectPlaced = `
SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner WHERE n.nspname = 'headgate' AND r.rolname = $1)`

// PrepareCentral runs [CentralSQL] on an administrator's connection, who need not be a
// superuser: CREATEROLE and the ownership of the database are enough. placed says that schema
// headgate belongs to the role of owners, and knows the prefix; otherwise the schema is from
// before, and UpOpts.Prefix tells the schema of the prefix.
func PrepareCentral(ctx context.Context, conn *pgx.Conn, prefix string) (placed bool, err error) {
	sql, err := CentralSQL(prefix)
	if err != nil {
		return false, err
	}
	for try := 1; ; try++ {
		if _, err = conn.Exec(ctx, sql); !concurrent(err) || try == prepareTries {
			break
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(time.Duration(try) * 50 * time.Millisecond):
		}
	}
	if err != nil {
		return false, fmt.Errorf("making the roles %s_…: %w", prefix, inPlainWords(err))
	}
	if err := conn.QueryRow(ctx, selectPlaced, prefix+"_"+roleOwner).Scan(&placed); err != nil {
		return false, fmt.Errorf("asking whose schema headgate is: %w", err)
	}
	return placed, nil
}

// concurrent reports whether Postgres met another session that changes the same role.
func concurrent(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && (pgErr.Code == "XX000" && strings.Contains(pgErr.Message, "concurrently") || pgErr.Code == "40001" || pgErr.Code == "40P01" || pgErr.Code == "23505")
}

// inPlainWords adds Postgres's hint, or what to do where Postgres gives none.
func inPlainWords(err error) error {
	var pgErr *pgconn.PgError
	switch {
	case !errors.As(err, &pgErr):
		return err
	case pgErr.Hint != "":
		return fmt.Errorf("%w; %s", err, pgErr.Hint)
	case pgErr.Code == "42501":
		return fmt.Errorf("%w; give the address of a login with CREATEROLE that owns the database, or have one run what --dry-run prints", err)
	}
	return err
}
