package protection

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// jobGroup is the group role of all job logins.
const jobGroup = "headgate_job"

// login is the login that is judged.
type login struct {
	oid, group  uint32 // group: headgate_job's, 0 where the server has none
	name        string // with quotes where SQL needs them
	super       bool
	bypass      bool
	createRole  bool
	replication bool
	inGroup     bool     // has the rights of headgate_job without SET ROLE
	mayGroup    bool     // is a member of headgate_job in any way
	owned       []string // up to four things of the database that it, or a role it is a member of, owns
	ownedCount  int
	settings    []string // NAME=VALUE, of ALTER ROLE … SET
	further     []uint32 // roles that it can act as and that policies for headgate_job hold
}

// all says that no policy holds the login.
func (l login) all() bool { return l.super || l.bypass }

// as are the roles as which statements of the login may run: itself, its group, and members of
// the group that it can become.
func (l login) as() []uint32 {
	all := []uint32{l.oid}
	if l.group != 0 && l.group != l.oid {
		all = append(all, l.group)
	}
	return append(all, l.further...)
}

// selectLogin reads one login ("" means the session's). What it owns counts in the whole
// database, except in its own temporary schemas.
const selectLogin = `
SELECT r.oid, coalesce((SELECT g.oid FROM pg_catalog.pg_roles g WHERE g.rolname = 'headgate_job'), 0), pg_catalog.quote_ident(r.rolname),
       r.rolsuper, r.rolbypassrls, r.rolcreaterole, r.rolreplication,
       coalesce((SELECT pg_catalog.pg_has_role(r.oid, g.oid, 'USAGE') FROM pg_catalog.pg_roles g WHERE g.rolname = 'headgate_job'), false),
       coalesce((SELECT pg_catalog.pg_has_role(r.oid, g.oid, 'MEMBER') FROM pg_catalog.pg_roles g WHERE g.rolname = 'headgate_job'), false),
       coalesce(o.some[1:4], '{}'), coalesce(pg_catalog.cardinality(o.some), 0),
       ARRAY(SELECT c FROM pg_catalog.pg_db_role_setting s, unnest(s.setconfig) AS c
              WHERE s.setrole = r.oid AND s.setdatabase IN (0, (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())) ORDER BY c)
  FROM pg_catalog.pg_roles r
  LEFT JOIN LATERAL (
    SELECT pg_catalog.array_agg(what ORDER BY what) AS some FROM (
        SELECT 'database ' || pg_catalog.quote_ident(d.datname) AS what FROM pg_catalog.pg_database d
         WHERE d.datname = pg_catalog.current_database() AND pg_catalog.pg_has_role(r.oid, d.datdba, 'MEMBER')
        UNION ALL
        SELECT 'schema ' || pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_namespace n
         WHERE n.nspname NOT LIKE 'pg\_%' AND pg_catalog.pg_has_role(r.oid, n.nspowner, 'MEMBER')
        UNION ALL
        SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't' AND pg_catalog.pg_has_role(r.oid, c.relowner, 'MEMBER')
    ) AS owned) o ON NOT r.rolsuper
 WHERE r.rolname = CASE WHEN $1::text = '' THEN session_user::text ELSE $1::text END`

// role is a role that the login is a member of, in any way.
type role struct {
	OID      uint32
	Name     string // with quotes where SQL needs them
	Settable bool   // SET ROLE, or a grant to itself that then allows it
	Bound    bool   // policies for headgate_job hold it too
	Server   bool   // reaches files or programs of the server
	Granted  string // the membership that leads to it: this role was granted
	To       string // to the login, or to headgate_job
}

// selectRoles follows memberships. From Postgres 16 on each says whether it allows SET ROLE;
// before, each did, and to_jsonb reads what an older server lacks as NULL.
const selectRoles = `
WITH RECURSIVE mine(role, settable, granted, member) AS (
    SELECT $1::oid, true, $1::oid, $1::oid
    UNION
    SELECT m.roleid, mine.settable AND (coalesce((pg_catalog.to_jsonb(m) ->> 'set_option')::bool, true) OR m.admin_option),
           CASE WHEN own THEN m.roleid ELSE mine.granted END, CASE WHEN own THEN m.member ELSE mine.member END
      FROM mine JOIN pg_catalog.pg_auth_members m ON m.member = mine.role
      CROSS JOIN LATERAL (SELECT m.member = $1 OR pg_catalog.pg_get_userbyid(m.member) = 'headgate_job' AS own) o
)
SELECT r.oid, pg_catalog.quote_ident(r.rolname), pg_catalog.bool_or(mine.settable),
       coalesce(pg_catalog.bool_or(pg_catalog.pg_has_role(r.oid, g.oid, 'USAGE')), false) AND NOT r.rolsuper AND NOT r.rolbypassrls,
       r.rolname IN ('pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program'),
       min(pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(mine.granted))), min(pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(mine.member)))
  FROM mine JOIN pg_catalog.pg_roles r ON r.oid = mine.role LEFT JOIN pg_catalog.pg_roles g ON g.rolname = 'headgate_job'
 WHERE r.oid <> $1
 GROUP BY r.oid, r.rolname, r.rolsuper, r.rolbypassrls ORDER BY 2`

func readLogin(ctx context.Context, tx pgx.Tx, name string) (l login, roles []role, err error) {
	err = tx.QueryRow(ctx, selectLogin, name).Scan(&l.oid, &l.group, &l.name, &l.super, &l.bypass, &l.createRole, &l.replication,
		&l.inGroup, &l.mayGroup, &l.owned, &l.ownedCount, &l.settings)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return l, nil, fmt.Errorf("looking at the job login: the server has no role %s", pgx.Identifier{name}.Sanitize())
	case err != nil:
		return l, nil, fmt.Errorf("looking at the job login: %w", err)
	}
	roles, err = collect[role](ctx, tx, "the job login's roles", selectRoles, l.oid)
	for _, r := range roles {
		if r.Settable && r.Bound && r.OID != l.group {
			l.further = append(l.further, r.OID)
		}
	}
	return l, roles, err
}

// harmlessSettings of a role choose where names lead, or the group as which a login acts;
// both are looked at in other ways.
var harmlessSettings = []string{"search_path", "role"}

func (s *state) judgeLogin(dedicated bool) (all []Finding) {
	l, level := s.login, Open
	if dedicated { // there is nobody else in it
		level = Note
	}
	add := func(level Level, code, object, next, says string, args ...any) {
		all = append(all, Finding{Level: level, Code: code, Object: object, Says: fmt.Sprintf(says, args...), Next: next})
	}
	other := "ALTER ROLE " + l.name + " NOBYPASSRLS"
	if l.super {
		other = "give the database a job login that is no superuser: `headgate database login " + s.database + "`"
	}
	switch {
	case l.super:
		add(level, "superuser", l.name, other, "the job login is a superuser: nothing holds its jobs to their tenant's rows")
	case l.bypass:
		add(level, "bypassrls", l.name, other, "the job login passes row-level security by (BYPASSRLS): nothing holds its jobs to their tenant's rows")
	}
	if l.createRole && !l.super {
		add(level, "createrole", l.name, "ALTER ROLE "+l.name+" NOCREATEROLE", "the job login may create roles, and so give itself others' rights")
	}
	if l.replication && !l.super {
		add(level, "replication", l.name, "ALTER ROLE "+l.name+" NOREPLICATION", "the job login may copy the whole server (REPLICATION)")
	}
	if dedicated || l.all() {
		return all
	}
	if len(l.owned) > 0 {
		more := ""
		if l.ownedCount > len(l.owned) {
			more = fmt.Sprintf(" and %d more", l.ownedCount-len(l.owned))
		}
		add(Open, "owner", l.name, "give them to another role (ALTER … OWNER TO), or take away the membership, or give the database another job login: `headgate database login "+s.database+"`",
			"the job login owns %s%s, or is a member of the owner: it could switch row-level security off", strings.Join(l.owned, ", "), more)
	}
	for _, r := range s.roles {
		if r.Server {
			add(Open, "server_role", r.Name, revokeRole(r), "the job login is a member of %s, which reaches files of the server", r.Name)
		} else if r.Settable && !r.Bound {
			add(Open, "set_role", r.Name, revokeRole(r), "the job login may SET ROLE %s, which no policy for headgate_job holds", r.Name)
		}
	}
	for _, setting := range l.settings {
		name, _, _ := strings.Cut(setting, "=")
		if !slices.Contains(harmlessSettings, name) {
			add(Note, "role_setting", name, fmt.Sprintf("ALTER ROLE %s RESET %s", l.name, name),
				"the job login has a setting of its own, %s, which all tenants' jobs meet: see whether a job has made it", setting)
		}
	}
	return all
}

// revokeRole takes a role from jobs, by the membership through which they have it.
func revokeRole(r role) string { return fmt.Sprintf("REVOKE %s FROM %s", r.Granted, r.To) }
