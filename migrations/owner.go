package migrations

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// selectOwnerRole says who owns schema headgate, whether this login may work as that role,
// and whether the login has to become it first.
const selectOwnerRole = `
SELECT pg_catalog.pg_get_userbyid(n.nspowner)::text, pg_catalog.pg_has_role(CURRENT_USER, n.nspowner, 'MEMBER'),
       pg_catalog.pg_get_userbyid(n.nspowner) <> CURRENT_USER AND NOT (SELECT r.rolcanlogin FROM pg_catalog.pg_roles r WHERE r.oid = n.nspowner), CURRENT_USER::text
FROM pg_catalog.pg_namespace n WHERE n.nspname = 'headgate'`

// becomeOwner makes the session work as the role that owns schema headgate, if that is a
// group that the login is a member of: what is made then belongs to the group, and the next
// member can change it. back is how the session becomes the login again.
func becomeOwner(ctx context.Context, conn *pgx.Conn) (back func(), err error) {
	back = func() {}
	var owner, login string
	var member, other bool
	rows, _ := conn.Query(ctx, selectOwnerRole) // its error is ForEachRow's too
	found := false
	_, err = pgx.ForEachRow(rows, []any{&owner, &member, &other, &login}, func() error { found = true; return nil })
	switch {
	case err != nil:
		return back, fmt.Errorf("asking whose schema headgate is: %w", err)
	case !found:
		return back, nil
	case !member:
		return back, noMember(owner, login)
	case !other:
		return back, nil
	}
	var said *pgconn.PgError
	if _, err := conn.Exec(ctx, `SET ROLE `+pgx.Identifier{owner}.Sanitize()); errors.As(err, &said) && said.Code == "42501" {
		return back, noMember(owner, login) // from Postgres 16 on, who has made a role may only grant it
	} else if err != nil {
		return back, fmt.Errorf("working as role %s, whose schema headgate is: %w", owner, err)
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), defaultIdleTimeout)
		defer cancel()
		_, _ = conn.Exec(ctx, `RESET ROLE`) // fails on a lost connection only
	}, nil
}

func noMember(owner, login string) error {
	return fmt.Errorf("schema headgate belongs to role %s, and login %s is no member of it: have an administrator run GRANT %s TO %s, or migrate with another login",
		owner, login, pgx.Identifier{owner}.Sanitize(), pgx.Identifier{login}.Sanitize())
}
