package doctor

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/tenantdb"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

// users are the roles of a database's logins. ok is false where one of the addresses does not
// open, which the look at that login tells.
func users(ctx context.Context, c *catalog.Catalog, db catalog.Database) (owner, job string, ok bool) {
	of := func(login jobs.Login) string {
		place, err := c.ResolveDatabase(ctx, db.ID, login)
		if err != nil {
			return ""
		}
		a, err := place.Open(ctx)
		if err != nil {
			return ""
		}
		return a.User
	}
	owner, job = of(jobs.LoginOwner), of(jobs.LoginJob)
	return owner, job, owner != "" && job != ""
}

// closes lets the two logins into a database, and shuts out everybody else but its owner, as
// `database create` does.
func closes(dbname, owner, job string) string {
	return fmt.Sprintf("GRANT CONNECT ON DATABASE %[1]s TO %[2]s, %[3]s; REVOKE CONNECT ON DATABASE %[1]s FROM PUBLIC", quote(dbname), quote(owner), quote(job))
}

// remade are the statements that make a database anew which is gone, or "". The owner is the
// role that `database create` makes, where the logins bear the names that `database create`
// gives.
func (d *doctor) remade(ctx context.Context, c *catalog.Catalog, db catalog.Database, err error) string {
	if class, _ := tenantdb.Classify(err); class != jobs.ClassWrongDatabase {
		return ""
	}
	owner, job, ok := users(ctx, c, db)
	if !ok {
		return ""
	}
	app := owner
	if name, made := strings.CutSuffix(owner, "_headgate"); made && job == name+"_job" {
		app = name + "_app"
	}
	how, begin := "if it was made anew, an administrator first runs there", "ALTER DATABASE %[3]s OWNER TO %[4]s"
	if sqlstateOf(err) == "3D000" {
		how, begin = "to make it anew an administrator runs", "CREATE DATABASE %[3]s OWNER %[4]s TEMPLATE template0"
	}
	return fmt.Sprintf("; %[1]s, with the role that owned it before if that was not %[2]s: "+begin+"; GRANT CREATE ON DATABASE %[3]s TO %[5]s; %[6]s",
		how, app, quote(db.DBName), quote(app), quote(owner), closes(db.DBName, owner, job))
}

// selectConnectable is whether every login of the server may connect to the database.
const selectConnectable = `
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_database d CROSS JOIN LATERAL pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) a
    WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database() AND a.grantee OPERATOR(pg_catalog.=) 0 AND a.privilege_type OPERATOR(pg_catalog.=) 'CONNECT')`

// connectable warns of a database that the job logins of other databases may connect to.
func (d *doctor) connectable(ctx context.Context, c *catalog.Catalog, pools *tenantdb.Pools, place address.Place, db catalog.Database) {
	note := d.on("database " + db.Name)
	var open bool
	err := pools.With(ctx, place, func(ctx context.Context, conn *tenantdb.Conn) error {
		return conn.QueryRow(ctx, selectConnectable).Scan(&open)
	})
	if err != nil {
		note(StateFail, "connect", "see that the job login may read the catalogs, and run `headgate doctor` again", "could not look: %v", err)
		return
	}
	owner, job, ok := users(ctx, c, db)
	if !open || !ok {
		return
	}
	note(StateWarn, "connect", "GRANT CONNECT to whoever else works there, as the application; then have the database's owner run: "+closes(db.DBName, owner, job),
		"PUBLIC may connect, so the job logins of the server's other databases get in, and may do there what headgate_job may")
}
