package testbed

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/migrations"
)

// Roles makes the roles of the central database, under the bed's prefix, and grants them
// what they need. Close drops them. A second call does nothing.
func (b *Bed) Roles(ctx context.Context) (prefix string, err error) {
	prefix = b.prefix
	b.once("roles", func() {
		var names []string
		for _, end := range migrations.RoleNames {
			names = append(names, quote(prefix+"_"+end))
		}
		all := strings.Join(names, ", ")
		b.dropLater(&b.undo, b.Server, func(ctx context.Context) error {
			return b.Server.Exec(ctx, b.DBName, `DROP OWNED BY `+all, `DROP ROLE `+all)
		})
		err = b.Server.On(ctx, b.DBName, func(conn *pgx.Conn) error {
			if _, err := migrations.PrepareCentral(ctx, conn, prefix); err != nil {
				return err
			}
			_, err := migrations.Up(ctx, conn, &migrations.UpOpts{Prefix: prefix})
			return err
		})
	})
	if err != nil {
		return "", fmt.Errorf("making the roles of database %s: %w", b.DBName, err)
	}
	return prefix, nil
}

// RoleLogin makes a login that is a member of one of the roles (worker, api, enqueue, read,
// owner) and of nothing else, and returns its name and the central database's address with
// it, which holds its password. Close drops the login.
func (b *Bed) RoleLogin(ctx context.Context, role string) (name, url string, err error) {
	prefix, err := b.Roles(ctx)
	if err != nil {
		return "", "", err
	}
	login := b.Server.login(b.DBName, fmt.Sprintf("%s_login%d", prefix, b.count.Add(1)))
	err = b.Server.On(ctx, b.DBName, func(conn *pgx.Conn) error {
		create, err := newLogin{login, prefix + "_" + role}.create(ctx, conn)
		if err != nil {
			return err
		}
		return b.exec(ctx, conn, create, &b.undo, b.Server, func(ctx context.Context) error {
			return b.Server.Exec(ctx, b.DBName, `DROP OWNED BY `+quote(login.User), `DROP ROLE `+quote(login.User))
		})
	})
	if err != nil {
		return "", "", fmt.Errorf("making a login for role %s_%s: %w", prefix, role, err)
	}
	return login.User, b.urlOf(&login), nil
}
