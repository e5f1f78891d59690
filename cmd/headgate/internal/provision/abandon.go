package provision

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// Abandon removes from the server what the intent's runs have made there, then the intent. It
// returns what was removed, and what was left because it is somebody else's. A database of
// its own with something in it that Headgate did not make is an error, and nothing is
// removed. It needs no key.
func (r *Run) Abandon(ctx context.Context, i catalog.Intent) (removed, left []string, err error) {
	conn, err := r.admin(ctx, "")
	if err != nil {
		return nil, nil, err
	}
	defer cli.CloseConn(ctx, conn)
	a, err := lookAtAdmin(ctx, conn, false)
	if err != nil {
		return nil, nil, err
	}
	if err := r.Hold.Step(ctx, "abandon"); err != nil {
		return nil, nil, err
	}
	f, err := look(ctx, conn, i)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case f.ours(i):
		if err := r.dropDatabase(ctx, conn, i, a); err != nil {
			return nil, nil, err
		}
		removed = append(removed, "database "+i.DBName)
	case i.Creates && f.database != "":
		left = append(left, fmt.Sprintf("database %s, whose owner is %s", i.DBName, f.database))
	case !i.Creates && f.database != "" && f.roles[i.Owner]:
		if err := r.leaveDatabase(ctx, i, f, a); err != nil {
			return nil, nil, err
		}
		removed = append(removed, "Headgate's schema in database "+i.DBName)
	}
	var drop []string
	for _, role := range i.Roles() {
		switch ours, there := f.roles[role]; {
		case ours:
			drop, removed = append(drop, quote(role)), append(removed, "role "+role)
		case there:
			left = append(left, "role "+role)
		}
	}
	if err := dropRoles(ctx, conn, drop); err != nil {
		return nil, nil, err
	}
	return removed, left, r.Hold.End(ctx, nil)
}

func dropRoles(ctx context.Context, conn *pgx.Conn, roles []string) error {
	if len(roles) == 0 {
		return nil
	}
	_, err := conn.Exec(ctx, "DROP ROLE "+strings.Join(roles, ", "))
	var pgErr *pgconn.PgError
	switch {
	case errors.As(err, &pgErr) && pgErr.Code == "2BP01":
		return fmt.Errorf("a role that this intent made is in use (%s): take these things from it, and run the command again: %w", strings.ReplaceAll(pgErr.Detail, "\n", "; "), err)
	case errors.As(err, &pgErr) && pgErr.Code == "42501":
		return fmt.Errorf("only the administrator who made the roles, or a superuser, may drop them: give that one's address: %w", err)
	}
	return err
}

// dropDatabase removes a database that this intent made, if nothing is in it but what Headgate
// made. While it looks and until the database is gone nobody can connect.
func (r *Run) dropDatabase(ctx context.Context, conn *pgx.Conn, i catalog.Intent, a admin) error {
	db := quote(i.DBName)
	alter := "ALTER DATABASE " + db + " ALLOW_CONNECTIONS "
	connect := fmt.Sprintf("CONNECT ON DATABASE %s %%s %s", db, quote(a.name))
	if err := r.asRole(ctx, conn, i.App, alter+"true", "GRANT "+fmt.Sprintf(connect, "TO")); err != nil {
		return err
	}
	err := func() error {
		inside, err := r.admin(ctx, i.DBName)
		if err != nil {
			return err
		}
		defer cli.CloseConn(ctx, inside)
		if err := r.asRole(ctx, conn, i.App, alter+"false"); err != nil {
			return err
		}
		return untouched(ctx, inside, i)
	}()
	if err == nil {
		err = r.asRole(ctx, conn, i.App, "DROP DATABASE "+db)
	}
	if err != nil {
		return errors.Join(err, r.asRole(ctx, conn, i.App, alter+"true", "REVOKE "+fmt.Sprintf(connect, "FROM")))
	}
	return nil
}

// leaveDatabase removes from a database that was to be adopted what this intent made in it.
func (r *Run) leaveDatabase(ctx context.Context, i catalog.Intent, f found, a admin) error {
	conn, err := r.admin(ctx, i.DBName)
	if err != nil {
		return err
	}
	defer cli.CloseConn(ctx, conn)
	if err := r.Hold.Step(ctx, "abandon"); err != nil { // this session is a new one
		return err
	}
	known, _, _, err := inside(ctx, conn, a)
	if err != nil {
		return err
	}
	var ours []string
	for _, role := range i.Roles() {
		if f.roles[role] {
			ours = append(ours, role)
		}
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if err := ownsOnlyOurs(ctx, tx, ours); err != nil {
			return err
		}
		for _, role := range ours {
			if err := dropOwned(ctx, tx, i, role); err != nil {
				return err
			}
		}
		if known.become {
			if err := execAll(ctx, tx, "SET LOCAL ROLE "+quote(known.owner)); err != nil {
				return err
			}
		}
		for _, role := range ours { // what the database's owner has granted only that one revokes
			if err := execAll(ctx, tx, fmt.Sprintf("REVOKE ALL ON DATABASE %s FROM %s", quote(i.DBName), quote(role))); err != nil {
				return err
			}
		}
		return nil
	})
}

// dropOwned removes what a role owns, as that role, unless something of somebody else's stands
// on it.
func dropOwned(ctx context.Context, tx pgx.Tx, i catalog.Intent, role string) error {
	err := execAll(ctx, tx, fmt.Sprintf("GRANT %s TO CURRENT_USER", quote(role)), "SET LOCAL ROLE "+quote(role),
		"DROP OWNED BY "+quote(role), "RESET ROLE", fmt.Sprintf("REVOKE %s FROM CURRENT_USER", quote(role)))
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Code == "2BP01" {
		return fmt.Errorf("something of the application's stands on Headgate's schema in database %s (%s): take it away, and run the command again: %w",
			i.DBName, strings.ReplaceAll(pgErr.Detail, "\n", "; "), err)
	}
	return err
}
