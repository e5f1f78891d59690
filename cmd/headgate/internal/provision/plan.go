package provision

import (
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// who runs a statement.
const (
	asAdmin = "administrator"
	asApp   = "app"
	asOwner = "owner"
)

// step is one piece of a run.
type step struct {
	name       string
	as         string
	inside     bool // in the database that is made or adopted; false: in the administrator's own
	whole      bool // in one transaction
	statements []statement
	install    bool // Headgate's schema, which migrations.UpTenant makes
}

// statement is SQL that is run, or left out where what it makes is there already.
type statement struct {
	sql      string
	role     string // that it makes
	database bool   // it makes the database
}

// Statement is one line of a plan, for people.
type Statement struct {
	As       string `json:"as"`       // administrator, or the name of a role
	Database string `json:"database"` // "" means any
	SQL      string `json:"sql"`
}

// verifiers are what roles' passwords are set to, by role.
type verifiers map[string]string

// shown stands for verifiers that nobody has computed.
const shown = "…"

// steps returns what a run does, in its order. found is of a database that is adopted.
func steps(i catalog.Intent, v verifiers, found adopted) []step {
	all := []step{{name: "group", as: asAdmin, statements: []statement{{sql: migrations.ServerSQL}}}}
	roles := step{name: "roles", as: asAdmin, whole: true}
	for _, role := range i.Roles() {
		roles.statements = append(roles.statements,
			statement{sql: fmt.Sprintf("CREATE ROLE %s LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD '%s'", quote(role), v[role]), role: role},
			statement{sql: fmt.Sprintf("COMMENT ON ROLE %s IS '%s'", quote(role), evidence(i)), role: role})
	}
	roles.statements = append(roles.statements, statement{sql: "GRANT headgate_job TO " + quote(i.Job)})
	if i.Creates {
		roles.statements = append(roles.statements, statement{sql: fmt.Sprintf("GRANT %s TO %s", quote(i.App), quote(i.Owner))})
		return append(append(all, roles), createSteps(i)...)
	}
	if found.grantable {
		roles.statements = append(roles.statements, statement{sql: fmt.Sprintf("GRANT %s TO %s", quote(found.owner), quote(i.Owner))})
	}
	return append(append(all, roles), adoptSteps(i, found)...)
}

func createSteps(i catalog.Intent) []step {
	db := quote(i.DBName)
	return []step{
		{name: "database", as: asAdmin, statements: []statement{
			{sql: fmt.Sprintf("GRANT %s TO CURRENT_USER", quote(i.App)), database: true},
			{sql: fmt.Sprintf("CREATE DATABASE %s OWNER %s TEMPLATE template0", db, quote(i.App)), database: true},
			{sql: fmt.Sprintf("REVOKE %s FROM CURRENT_USER", quote(i.App))},
		}},
		{name: "rights", as: asApp, inside: true, whole: true, statements: []statement{
			{sql: fmt.Sprintf("REVOKE CONNECT ON DATABASE %s FROM PUBLIC", db)},
			{sql: fmt.Sprintf("GRANT CONNECT ON DATABASE %s TO %s, %s", db, quote(i.Owner), quote(i.Job))},
		}},
		{name: "schema", as: asOwner, inside: true, install: true},
	}
}

// adopted is what a plan must know of a database that exists.
type adopted struct {
	owner     string // the role that owns the database
	become    bool   // the administrator is no superuser, and must act as that role
	grantable bool   // the owner login may have that role's rights
}

func adoptSteps(i catalog.Intent, found adopted) []step {
	db, owner := quote(i.DBName), quote(i.Owner)
	as := func(sql ...string) (all []statement) {
		if found.become {
			sql = append([]string{"SET LOCAL ROLE " + quote(found.owner)}, sql...)
		}
		for _, s := range sql {
			all = append(all, statement{sql: s})
		}
		return all
	}
	return []step{
		{name: "rights", as: asAdmin, inside: true, whole: true, statements: as(
			fmt.Sprintf("GRANT CONNECT ON DATABASE %s TO %s, %s", db, owner, quote(i.Job)),
			fmt.Sprintf("GRANT CREATE ON DATABASE %s TO %s", db, owner))},
		{name: "schema", as: asOwner, inside: true, install: true},
		{name: "closing", as: asAdmin, inside: true, whole: true, statements: as(
			fmt.Sprintf("REVOKE CREATE ON DATABASE %s FROM %s", db, owner))},
	}
}

// evidence is the comment by which a role is known to be an intent's.
func evidence(i catalog.Intent) string { return "headgate: made for database intent " + i.ID }

// Plan returns the statements of a run that begins from nothing, without a password.
func Plan(i catalog.Intent, found *Adopted) (all []Statement) {
	i.ID = shown
	v := verifiers{}
	for _, role := range i.Roles() {
		v[role] = shown
	}
	var known adopted
	if found != nil {
		known = found.adopted
	}
	for _, s := range steps(i, v, known) {
		line := Statement{As: map[string]string{asAdmin: asAdmin, asApp: i.App, asOwner: i.Owner}[s.as]}
		if s.inside {
			line.Database = i.DBName
		}
		sql := make([]string, 0, len(s.statements)+2)
		for _, st := range s.statements {
			sql = append(sql, strings.TrimSuffix(st.sql, ";")+";")
		}
		if s.install {
			sql = append(sql, migrations.TenantSQL(shown))
		}
		if s.whole {
			sql = append(append([]string{"BEGIN;"}, sql...), "COMMIT;")
		}
		for _, text := range sql {
			line.SQL = text
			all = append(all, line)
		}
	}
	return all
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }
