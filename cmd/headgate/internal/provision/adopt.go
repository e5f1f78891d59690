package provision

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// selectInside asks a database that exists for its owner, what the administrator may do as
// the owner ($1: is a superuser), and whether Headgate's schema is there and whose.
//
// The owner login gets the rights of the database's owner, which VACUUM and ANALYZE need,
// unless these are rights on the whole server.
const selectInside = `
SELECT o.rolname::text, $1 OR pg_has_role(o.oid, 'MEMBER'),
       NOT (o.rolsuper OR o.rolcreaterole OR o.rolreplication OR o.rolbypassrls OR o.rolname ~ '^pg_')
       AND ($1 OR current_setting('server_version_num')::int < 160000 OR pg_has_role(o.oid, 'MEMBER WITH ADMIN OPTION')),
       coalesce((SELECT pg_get_userbyid(n.nspowner)::text FROM pg_namespace n WHERE n.nspname = 'headgate'), '')
FROM pg_database d JOIN pg_roles o ON o.oid = d.datdba
WHERE d.datname = current_database()`

// lookInside judges a database that is to be adopted.
func (r *Run) lookInside(ctx context.Context, i catalog.Intent, a admin) (*Adopted, error) {
	conn, err := r.admin(ctx, i.DBName)
	if err != nil {
		return nil, err
	}
	defer cli.CloseConn(ctx, conn)
	known, member, schema, err := inside(ctx, conn, a)
	if err != nil {
		return nil, err
	}
	switch {
	case !member:
		return nil, cli.NotPermittedf("the administrator's login %s may not grant rights on database %s, which is %s's: have that role or a superuser run GRANT %s TO %s WITH ADMIN OPTION, or give another administrator's address",
			cli.Quote(a.name), cli.Quote(i.DBName), known.owner, quote(known.owner), quote(a.name))
	case schema != "" && schema != i.Owner:
		return nil, fmt.Errorf("%w: %s has Headgate's schema already, which belongs to role %s; its own logins enter it: `headgate database add`, with --take-over if the entry that it was made for is gone for good",
			migrations.ErrOtherDatabase, cli.Quote(i.DBName), schema)
	}
	return known, nil
}

// inside asks the database of a connection.
func inside(ctx context.Context, conn *pgx.Conn, a admin) (known *Adopted, member bool, schema string, err error) {
	known = &Adopted{}
	if err := conn.QueryRow(ctx, selectInside, a.super).Scan(&known.owner, &member, &known.grantable, &schema); err != nil {
		return nil, false, "", fmt.Errorf("looking at database %s: %w", conn.Config().Database, err)
	}
	known.become = !a.super && known.owner != a.name
	return known, member, schema, nil
}

// Notes are what an operator should know of a database that is adopted.
func (a *Adopted) Notes(i catalog.Intent) (notes []string) {
	if !i.Creates && !a.grantable {
		notes = append(notes, fmt.Sprintf("the owner login %s has no rights of %s, the database's owner, because that role has rights on the whole server or the administrator may not grant it: `headgate job enqueue headgate.analyze` and headgate.vacuum leave its tables out",
			i.Owner, a.owner))
	}
	return notes
}
