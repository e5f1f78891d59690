package protection

import (
	"context"
	"fmt"
	"strings"
)

// selectHeld are the roles that policies will hold on a relation: those that may use it, and
// are neither its owner nor pass policies by. $2 is the job group.
const selectHeld = `
SELECT pg_catalog.quote_ident(r.rolname), pg_catalog.has_any_column_privilege(r.oid, $1::oid, 'SELECT'), pg_catalog.has_any_column_privilege(r.oid, $1::oid, 'INSERT')
  FROM pg_catalog.pg_roles r, pg_catalog.pg_class c
 WHERE c.oid = $1 AND NOT r.rolsuper AND NOT r.rolbypassrls AND r.rolname NOT LIKE 'pg\_%'
   AND NOT pg_catalog.pg_has_role(r.oid, c.relowner, 'USAGE') AND r.oid <> $2 AND NOT pg_catalog.pg_has_role(r.oid, $2::oid, 'MEMBER')
   AND (pg_catalog.has_any_column_privilege(r.oid, c.oid, 'SELECT') OR pg_catalog.has_any_column_privilege(r.oid, c.oid, 'INSERT'))
 ORDER BY 1`

type heldRole struct {
	Name           string
	Reads, Inserts bool
}

// selectSubscriptions are those that apply to a relation as a role that its policies hold.
const selectSubscriptions = `
SELECT pg_catalog.quote_ident(s.subname), pg_catalog.quote_ident(r.rolname)
  FROM pg_catalog.pg_subscription_rel sr JOIN pg_catalog.pg_subscription s ON s.oid = sr.srsubid
  JOIN pg_catalog.pg_roles r ON r.oid = s.subowner JOIN pg_catalog.pg_class c ON c.oid = sr.srrelid
 WHERE sr.srrelid = $1 AND NOT r.rolsuper AND NOT r.rolbypassrls AND NOT pg_catalog.pg_has_role(r.oid, c.relowner, 'USAGE') ORDER BY 1`

type subscription struct{ Name, Owner string }

// selectRefusing are the roles among those that use a relation, or the database, whose sessions
// refuse to be filtered.
const selectRefusing = `
SELECT coalesce(pg_catalog.quote_ident(r.rolname), 'every role')
  FROM pg_catalog.pg_db_role_setting s LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) AS c
 WHERE (s.setrole = 0 OR pg_catalog.has_any_column_privilege(s.setrole, $1::oid, 'SELECT, INSERT, UPDATE') OR pg_catalog.has_table_privilege(s.setrole, $1::oid, 'DELETE'))
   AND c IN ('row_security=off', 'row_security=false', 'row_security=0', 'row_security=no')
   AND s.setdatabase IN (0, (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())) ORDER BY 1`

type named struct{ Name string }

// maxNamed is how many roles a sentence names.
const maxNamed = 8

func sentence(roles []string) string {
	if len(roles) > maxNamed {
		return fmt.Sprintf("%s and %d more", strings.Join(roles[:maxNamed], ", "), len(roles)-maxNamed)
	}
	return strings.Join(roles, ", ")
}

// harms names what the application may notice when row-level security is switched on for a
// table.
func (p *planner) harms(ctx context.Context, r *relation) error {
	held, err := collect[heldRole](ctx, p.tx, "the roles that use "+r.Name, selectHeld, r.OID, p.login.group)
	if err != nil {
		return err
	}
	subscriptions, err := collect[subscription](ctx, p.tx, "subscriptions", selectSubscriptions, r.OID)
	if err != nil {
		return err
	}
	refusing, err := collect[named](ctx, p.tx, "settings of row_security", selectRefusing, r.OID)
	if err != nil {
		return err
	}
	var read, insert []string
	for _, h := range held {
		if h.Reads {
			read = append(read, h.Name)
		}
		if h.Inserts {
			insert = append(insert, h.Name)
		}
	}
	add := func(code string, roles []string, cure, says string, args ...any) {
		p.plan.Harms = append(p.plan.Harms, Harm{Code: code, Table: r.Name, Roles: roles, Says: fmt.Sprintf(says, args...), Cure: cure})
	}
	add("lock", nil, "choose a quiet moment: the command gives up after "+lockTimeout+" and changes nothing, and can be run again",
		"switching row-level security on waits until no transaction uses the table, for %s at most, and all others wait behind it meanwhile", lockTimeout)
	if len(insert) > 0 {
		add("copy_from", insert, "let the table's owner "+r.Owner+" run COPY FROM, use INSERT, or have an administrator run ALTER ROLE … BYPASSRLS",
			"COPY FROM is refused to %s: Postgres has none into a table with row-level security", sentence(insert))
	}
	if len(read) > 0 {
		add("dump", read, "give the role that makes backups BYPASSRLS (an administrator: ALTER ROLE … BYPASSRLS), or run pg_dump with --enable-row-security, which then sees every row",
			"pg_dump as %s fails: it refuses to be filtered", sentence(read))
		add("plans", read, "compare EXPLAIN of the application's heavy queries before and after; the owner "+r.Owner+", roles with BYPASSRLS and --by view keep the old plans",
			"for %s, filters that are not leakproof (LIKE, functions) are estimated without the column's statistics, and pg_stats shows none: plans may change", sentence(read))
	}
	for _, s := range subscriptions {
		add("subscription", []string{s.Owner}, fmt.Sprintf("ALTER SUBSCRIPTION %s OWNER TO %s, or give %s BYPASSRLS", s.Name, r.Owner, s.Owner),
			"subscription %s stops: it writes as %s, and Postgres replicates into no table with row-level security as a role that it holds", s.Name, s.Owner)
	}
	if len(refusing) > 0 {
		var names []string
		for _, n := range refusing {
			names = append(names, n.Name)
		}
		add("row_security_off", names, "ALTER ROLE … RESET row_security, or BYPASSRLS for the role", "row_security is off for %s: their queries of the table become errors", sentence(names))
	}
	add("later_roles", nil, "give such roles BYPASSRLS, or the table's ownership, where one of them makes backups or runs COPY FROM",
		"roles that are made later see and write every row as before, and meet the same limits of COPY FROM, pg_dump and plans")
	return nil
}

const noSeqScan = `SELECT pg_catalog.set_config('enable_seqscan', 'off', true)`

// index notes a guard that no index serves.
func (p *planner) index(ctx context.Context, r *relation, where string) error {
	if !p.tables[r.Name].Mine || r.Kind == "f" {
		return nil // the session may not ask
	}
	if _, err := p.tx.Exec(ctx, noSeqScan); err != nil {
		return fmt.Errorf("asking how %s is found: %w", r.Name, err)
	}
	var plan string
	if err := p.tx.QueryRow(ctx, "EXPLAIN (FORMAT JSON) SELECT FROM "+r.Name+" WHERE "+where).Scan(&plan); err != nil {
		return fmt.Errorf("asking how %s is found: %w", r.Name, err)
	}
	if strings.Contains(plan, `"Seq Scan"`) {
		index := "CREATE INDEX CONCURRENTLY"
		if r.Kind == "p" {
			index = "CREATE INDEX"
		}
		p.note("no index of %s, or of a table in it, serves the guard: each query of a job reads that whole; %s on the column mends that", r.Name, index)
	}
	return nil
}
