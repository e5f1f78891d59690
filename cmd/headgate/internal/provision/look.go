package provision

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// selectAdmin asks what the administrator may do.
const selectAdmin = `
SELECT current_user::text, rolsuper, rolsuper OR rolcreatedb, rolsuper OR rolcreaterole, current_setting('server_version_num')::int, pg_is_in_recovery()
FROM pg_catalog.pg_roles WHERE rolname = current_user`

// admin is who makes the logins.
type admin struct {
	name    string
	super   bool
	version int
}

func lookAtAdmin(ctx context.Context, conn *pgx.Conn, creates bool) (a admin, err error) {
	var databases, roles, standby bool
	if err := conn.QueryRow(ctx, selectAdmin).Scan(&a.name, &a.super, &databases, &roles, &a.version, &standby); err != nil {
		return a, fmt.Errorf("asking what the administrator may do: %w", err)
	}
	switch {
	case standby:
		return a, cli.Usagef("the server is a standby, which takes no writes: give the primary's address")
	case !roles:
		return a, cli.NotPermittedf("the administrator's login %s may not make roles: have a superuser run ALTER ROLE %s CREATEROLE CREATEDB, or give another login's address", cli.Quote(a.name), quote(a.name))
	case creates && !databases:
		return a, cli.NotPermittedf("the administrator's login %s may not make databases: have a superuser run ALTER ROLE %s CREATEDB, or give another login's address", cli.Quote(a.name), quote(a.name))
	}
	return a, nil
}

// selectGroup asks for headgate_job: whether it is no more than a group, and whether the
// administrator may grant it. Before Postgres 16 CREATEROLE is enough for that.
const selectGroup = `
SELECT NOT (r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls OR r.rolcanlogin),
       $1 OR current_setting('server_version_num')::int < 160000 OR pg_has_role(r.oid, 'MEMBER WITH ADMIN OPTION')
FROM pg_catalog.pg_roles r WHERE r.rolname = 'headgate_job'`

// lookAtGroup says what is wrong with headgate_job, if it is there.
func lookAtGroup(ctx context.Context, conn *pgx.Conn, a admin) error {
	var plain, grantable bool
	err := conn.QueryRow(ctx, selectGroup, a.super).Scan(&plain, &grantable)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil // it is made
	case err != nil:
		return fmt.Errorf("looking at role headgate_job: %w", err)
	case !plain:
		return cli.NotPermittedf("role headgate_job may log in, or has rights on the whole server, which each job login would inherit: have a superuser run %s",
			"ALTER ROLE headgate_job NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS")
	case !grantable:
		return cli.NotPermittedf("the administrator's login %s may not grant headgate_job: have whoever made that role, or a superuser, run GRANT headgate_job TO %s WITH ADMIN OPTION",
			cli.Quote(a.name), quote(a.name))
	}
	return nil
}

// found is what of an intent's names is on the server.
type found struct {
	roles    map[string]bool // those that exist: true if they are the intent's
	database string          // the owner of the database of that name; "" if there is none
	closed   bool            // it takes no connections
}

const selectFoundRoles = `
SELECT rolname::text, coalesce(pg_catalog.shobj_description(oid, 'pg_authid'), '') FROM pg_catalog.pg_roles WHERE rolname = ANY ($1)`

const selectFoundDatabase = `
SELECT pg_catalog.pg_get_userbyid(datdba)::text, NOT datallowconn FROM pg_catalog.pg_database WHERE datname = $1`

func look(ctx context.Context, conn *pgx.Conn, i catalog.Intent) (f found, err error) {
	f.roles = map[string]bool{}
	rows, _ := conn.Query(ctx, selectFoundRoles, i.Roles()) // its error is ForEachRow's too
	var role, comment string
	_, err = pgx.ForEachRow(rows, []any{&role, &comment}, func() error {
		f.roles[role] = i.ID != "" && comment == evidence(i)
		return nil
	})
	if err == nil {
		err = conn.QueryRow(ctx, selectFoundDatabase, i.DBName).Scan(&f.database, &f.closed)
	}
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return f, fmt.Errorf("looking at what is on the server: %w", err)
	}
	return f, nil
}

// ours says whether the database of that name is the intent's.
func (f found) ours(i catalog.Intent) bool { return i.Creates && f.database == i.App && f.roles[i.App] }

// refuse says which name is somebody else's, and what to do.
func (f found) refuse(i catalog.Intent) error {
	for _, role := range i.Roles() {
		if ours, there := f.roles[role]; there && !ours {
			return fmt.Errorf("role %s %w on server %s, and this command did not make it, so it is left alone: choose another NAME, or make the logins yourself and run `headgate database add`",
				cli.Quote(role), catalog.ErrExists, i.Server)
		}
	}
	switch {
	case i.Creates && f.database != "" && !f.ours(i):
		return fmt.Errorf("database %s %w on server %s (owner %s), and this command did not make it, so it is left alone: `headgate database adopt` makes the logins for it, or choose another --dbname",
			cli.Quote(i.DBName), catalog.ErrExists, i.Server, cli.Quote(f.database))
	case !i.Creates && f.database == "":
		return cli.Usagef("server %s has no database %s: `headgate database create` makes one; --dbname says which is meant", i.Server, cli.Quote(i.DBName))
	}
	return nil
}

// has says whether what a statement makes is there.
func (f found) has(s statement) bool {
	_, role := f.roles[s.role]
	return role || s.database && f.database != ""
}
