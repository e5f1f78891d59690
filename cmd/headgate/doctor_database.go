package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/session"
	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/tenantdb"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

func sprintf(format string, args ...any) string { return fmt.Sprintf(format, args...) }

// lookAtServer looks at the databases that were chosen of one server, one after
// the other, with two connections at a time.
func (d *doctor) lookAtServer(ctx context.Context, c *catalog.Catalog, server catalog.Server, databases []catalog.Database) {
	on := "server " + server.Name
	note := d.on(on)
	if len(databases) == 0 {
		note(stateOK, "databases", "", "it has none that was looked at")
		return
	}
	reached := false
	for _, db := range databases {
		for _, login := range []jobs.Login{jobs.LoginJob, jobs.LoginOwner} {
			found, err := d.lookAtDatabase(ctx, c, db, login)
			if err != nil || reached {
				continue
			}
			reached = true
			note(stateOK, "reachable", "", "it answers")
			d.judgePooler(on, found, server.Pooler, "headgate server set "+server.Name+" --pooler %s")
		}
	}
	if !reached {
		note(stateFail, "reachable", "see what its databases say", "none of its %d databases that were looked at could be worked on", len(databases))
	}
}

// lookAtDatabase connects twice as one login and says what stands between.
func (d *doctor) lookAtDatabase(ctx context.Context, c *catalog.Catalog, db catalog.Database, login jobs.Login) (found address.Pooler, err error) {
	note := d.on("database " + db.Name)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	pools := tenantdb.New(tenantdb.Config{MaxConns: 2, RootCerts: d.rootCerts, Logger: d.p.log})
	defer pools.Close()
	place, err := c.ResolveDatabase(ctx, db.ID, login)
	if err != nil {
		note(stateFail, login.String()+" login", "", "%v", err)
		return "", err
	}
	said := place.Pooler
	place.Budget = 0 // two connections, for a moment
	cautious := place
	cautious.Pooler = address.TransactionPooler // works whatever stands between
	found, err = d.twice(ctx, pools, place, db, login)
	if err != nil && said != cautious.Pooler {
		if seen, again := d.twice(ctx, pools, cautious, db, login); again == nil {
			found, err = seen, nil
		}
	}
	if class, _ := tenantdb.Classify(err); class == jobs.ClassSchemaOlder {
		note(stateWarn, login.String()+" login", "nothing: the first job that a worker runs there brings it up to date", "%v", err)
		return "", err
	}
	if err != nil {
		note(stateFail, login.String()+" login", nextOf(err, db), "%v", err)
		return "", err
	}
	note(stateOK, login.String()+" login", "", "it logs in; the database is the one that the catalog means, and its Headgate schema fits")
	d.past(ctx, pools, db, place, said)
	return found, nil
}

// twice connects twice, and looks at what the first connection can tell.
func (d *doctor) twice(ctx context.Context, pools *tenantdb.Pools, place address.Place, db catalog.Database, login jobs.Login) (found address.Pooler, err error) {
	err = pools.With(ctx, place, func(held context.Context, a *tenantdb.Conn) error {
		err := pools.With(held, place, func(ctx context.Context, b *tenantdb.Conn) (err error) {
			found, err = detectPooler(ctx, a.Conn, b.Conn)
			return err
		})
		if err == nil && login == jobs.LoginJob {
			d.encoding(a.Conn, db)
			d.brakes(held, a.Conn, db)
			d.rights(held, a.Conn, db)
			d.callable(held, a.Conn, db)
		}
		return err
	})
	return found, err
}

// encoding names a database whose text is not kept as UTF-8.
func (d *doctor) encoding(conn *pgx.Conn, db catalog.Database) {
	if says, next := session.Encoding(conn.PgConn().ParameterStatus("server_encoding")); says != "" {
		d.on("database "+db.Name)(stateWarn, "encoding", next, "%s", says)
	}
}

// selectBrakes asks for the two defaults that Headgate does not overrule.
const selectBrakes = `
SELECT current_setting('default_transaction_read_only')::bool, current_setting('session_replication_role') = 'replica'`

// brakes says which default keeps jobs from their work: those that somebody must have
// meant, or that only a superuser can take back.
func (d *doctor) brakes(ctx context.Context, conn *pgx.Conn, db catalog.Database) {
	note := d.on("database " + db.Name)
	var readOnly, untriggered bool
	switch err := conn.QueryRow(ctx, selectBrakes).Scan(&readOnly, &untriggered); {
	case err != nil:
		note(stateFail, "settings", "see that the job login may connect and read", "could not look: %v", err)
	case readOnly:
		note(stateFail, "settings", "ask who set it (a host does when a disk is full); then ALTER ROLE, or DATABASE, … RESET default_transaction_read_only",
			"default_transaction_read_only is on for the job login: jobs that write wait, class read_only")
	case untriggered:
		note(stateFail, "settings", "a superuser's ALTER ROLE, or DATABASE, … RESET session_replication_role",
			"session_replication_role is replica for the job login: no trigger fires and no foreign key holds, so jobs wait")
	}
}

// past tries the direct address of a login behind a pooler in transaction mode.
func (d *doctor) past(ctx context.Context, pools *tenantdb.Pools, db catalog.Database, place address.Place, said address.Pooler) {
	if said != address.TransactionPooler {
		return
	}
	note, check := d.on("database "+db.Name), place.Login+" direct address"
	direct, err := tenantdb.Session(place)
	if err != nil {
		note(stateWarn, check, sprintf("set HEADGATE_%s_DIRECT_URL and run: headgate database login %s", strings.ToUpper(place.Login), db.Name),
			"it has none, so kinds that need a session (VACUUM, those outside a transaction) wait")
		return
	}
	err = pools.With(ctx, direct, func(ctx context.Context, conn *tenantdb.Conn) error {
		backend, err := backendOf(ctx, conn.Conn)
		if err == nil && backend != conn.PgConn().PID() {
			err = errors.New("it leads through a pooler too")
		}
		return err
	})
	if err != nil {
		note(stateFail, check, "correct it with: headgate database login "+db.Name, "%v", err)
		return
	}
	note(stateOK, check, "", "it leads past the pooler")
}

// nextOf is the next step for an error whose sentence does not say it.
func nextOf(err error, db catalog.Database) string {
	if refused := (*tenantdb.NotPermittedError)(nil); errors.As(err, &refused) {
		return refused.Next
	}
	switch class, _ := tenantdb.Classify(err); class {
	case jobs.ClassWrongDatabase:
		return "correct the address with `headgate database login " + db.Name + "`, or take the database out of the catalog"
	case jobs.ClassUndecryptable:
		return "add the key that sealed it to HEADGATE_KEY, or store the address again with `headgate database login " + db.Name + "`"
	case jobs.ClassServerFull:
		return "lower the budgets (`headgate server set`) or give the server more connections"
	case jobs.ClassSchemaNewer:
		return "upgrade headgate"
	case jobs.ClassAuthFailed:
		return "headgate database login " + db.Name
	}
	return "see that the server runs, and that host and port are right: `headgate database login " + db.Name + "` corrects them"
}

// selectUncallable are those of Headgate's functions that a job login needs ($1) and may
// not call.
const selectUncallable = `
SELECT p.oid::regprocedure::text FROM pg_proc p
WHERE p.pronamespace = 'headgate'::regnamespace AND p.proname = ANY ($1) AND NOT has_function_privilege(p.oid, 'EXECUTE')
ORDER BY 1`

// callable says which of Headgate's functions the job login may not call.
func (d *doctor) callable(ctx context.Context, conn *pgx.Conn, db catalog.Database) {
	rows, _ := conn.Query(ctx, selectUncallable, migrations.JobFunctions) // its error is CollectRows' too
	missing, err := pgx.CollectRows(rows, pgx.RowTo[string])
	switch {
	case err != nil:
		d.on("database "+db.Name)(stateFail, "functions", "", "could not look: %v", err)
	case len(missing) > 0:
		d.on("database "+db.Name)(stateFail, "functions", "have an administrator run there: GRANT EXECUTE ON FUNCTION "+strings.Join(missing, ", ")+" TO headgate_job",
			"the job login may not call %d of Headgate's functions: jobs wait, class not_permitted", len(missing))
	}
}

// What a job login can do that it should not be able to: it is a superuser, it
// passes row-level security by, it owns tables or is a member of a role that
// does; and the tables with an org_id that it can read and that have no
// row-level security, up to four names.
const selectRights = `
SELECT r.rolsuper, r.rolbypassrls,
       EXISTS (SELECT FROM pg_class c WHERE c.relkind IN ('r', 'p', 'v', 'm') AND c.relnamespace <> 'pg_catalog'::regnamespace
               AND NOT r.rolsuper AND pg_has_role(r.oid, c.relowner, 'MEMBER')),
       ARRAY(SELECT c.oid::regclass::text FROM pg_class c
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'org_id' AND NOT a.attisdropped
             JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind IN ('r', 'p') AND NOT c.relrowsecurity AND n.nspname NOT IN ('headgate', 'pg_catalog', 'information_schema')
             AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT, INSERT, UPDATE, DELETE')
             ORDER BY 1 LIMIT 4)
FROM pg_roles r WHERE r.rolname = current_user`

// rights are the facts of isolation that can be read off the catalogs.
func (d *doctor) rights(ctx context.Context, conn *pgx.Conn, db catalog.Database) {
	note := d.on("database " + db.Name)
	var super, bypass, owns bool
	var open []string
	if err := conn.QueryRow(ctx, selectRights).Scan(&super, &bypass, &owns, &open); err != nil {
		note(stateFail, "isolation", "", "could not look: %v", err)
		return
	}
	state := stateWarn
	if db.Kind == catalog.KindShared {
		state = stateFail // its jobs could see other tenants' rows
	}
	switch {
	case super || bypass:
		note(state, "isolation", "give the database a job login that is neither: headgate database login "+db.Name,
			"the job login is a superuser or passes row-level security by: nothing holds its jobs to their tenant's rows")
	case owns:
		note(state, "isolation", "give the tables to another role, or the database another job login", "the job login owns tables, or is a member of a role that does: row-level security does not hold it")
	case db.Kind == catalog.KindShared && len(open) > 0:
		note(stateWarn, "isolation", "ENABLE ROW LEVEL SECURITY on them, with a policy on org_id for headgate_job",
			"tables with an org_id and without row-level security are open to the job login: %s", strings.Join(open, ", "))
	default:
		note(stateOK, "isolation", "", "the job login is no superuser, passes no row-level security by and owns no table")
	}
}
