package jobstest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// EnvRoles names the environment variable that makes the client, the catalog, the schedules
// and the workers of an Env work as members of the roles of the central database, where it is
// 1. What a test itself does with Env.Pool it does as the superuser. A few tests shadow the
// clock in a schema that the roles may not use, or freeze a session of the superuser's; those
// fail under it.
const EnvRoles = "HEADGATE_TEST_ROLES"

// AsRoles says that tests work as roles (EnvRoles).
func AsRoles() bool { return os.Getenv(EnvRoles) == "1" }

// rolePool is a pool of a login of a role.
func (e *Env) rolePool(role string) *pgxpool.Pool {
	e.t.Helper()
	_, url := e.RoleLogin(role)
	return e.pool(url)
}

// Roles makes the roles of the central database, and returns what their names begin with.
func (e *Env) Roles() (prefix string) {
	e.t.Helper()
	ctx, cancel := deadline()
	defer cancel()
	prefix, err := e.bed.Roles(ctx)
	if err != nil {
		e.t.Fatal(err)
	}
	return prefix
}

// RoleLogin makes a login that is a member of one role of the central database, by the end of
// its name: owner, worker, api, enqueue or read. It returns the login's name, and the central
// database's address with it, which holds a password.
func (e *Env) RoleLogin(role string) (name, url string) {
	e.t.Helper()
	ctx, cancel := deadline()
	defer cancel()
	name, url, err := e.bed.RoleLogin(ctx, role)
	if err != nil {
		e.t.Fatal(err)
	}
	return name, url
}

// PermitQueries lets Postgres explain every SQL constant of the Go package in dir as a role of
// the central database, so that a statement for which the role has no right is found before a
// program meets it. Statements in refused are for another role: each of them must be refused.
// What functions and triggers do is not looked at.
func PermitQueries(t testing.TB, dir string, env *Env, role string, refused ...string) {
	t.Helper()
	prefix := env.Roles()
	ctx, cancel := deadline()
	defer cancel()
	conn, err := pgx.Connect(ctx, env.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }() // it is the test's own
	if _, err := conn.Exec(ctx, `SET plan_cache_mode = force_generic_plan; SET ROLE `+prefix+`_`+role); err != nil {
		t.Fatal(err)
	}
	queries := queriesIn(t, dir)
	if len(queries) == 0 {
		t.Fatalf("no SQL constant found in %s", dir)
	}
	for _, name := range slices.Sorted(maps.Keys(queries)) {
		err := permitted(ctx, conn, name, queries[name])
		var said *pgconn.PgError
		denied := errors.As(err, &said) && said.Code == "42501"
		switch {
		case contains(refused, name) && !denied:
			t.Errorf("role %s may do %s, which is another role's: %v", role, name, err)
		case !contains(refused, name) && err != nil:
			t.Errorf("role %s may not do %s: %v", role, name, err)
		}
	}
}

// permitted asks for the plan of a statement, for which Postgres looks at the rights.
func permitted(ctx context.Context, conn *pgx.Conn, name, sql string) error {
	statement := "hg_permit_" + strings.ToLower(name)
	described, err := conn.PgConn().Prepare(ctx, statement, sql, nil)
	if err != nil {
		return err
	}
	args := ""
	if n := len(described.ParamOIDs); n > 0 {
		args = "(" + strings.TrimSuffix(strings.Repeat("NULL, ", n), ", ") + ")"
	}
	_, err = conn.Exec(ctx, fmt.Sprintf("EXPLAIN EXECUTE %s%s", pgx.Identifier{statement}.Sanitize(), args), pgx.QueryExecModeSimpleProtocol)
	return err
}
