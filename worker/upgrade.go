package worker

import (
	"context"
	"errors"
	"fmt"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/worker/tenantdb"
)

// upgradeIfOlder brings a tenant database's Headgate schema up to this program's
// when a connection finds it older, and its signing key to the catalog's, with the owner's
// login and under the migrations' own lock, so that of many jobs that find it one does it.
// It reports whether the attempt is worth making again.
func (a *attempt) upgradeIfOlder(ctx context.Context, cause error) (bool, error) {
	var version *migrations.VersionError
	foreign := sqlstate(cause) == tenantdb.ForeignTicket
	if a.called || !foreign && (!errors.As(cause, &version) || version.Newer()) {
		return false, cause
	}
	owner, err := a.w.cfg.Resolver.ResolveDatabase(ctx, a.place.DatabaseID, jobs.LoginOwner)
	if err != nil {
		return false, &resolveError{err}
	}
	if direct, ok := owner.Session(); ok {
		owner = direct // else through the pooler: the upgrade is one transaction
	}
	owner.Upgrading = true
	err = a.w.pools.With(ctx, owner, func(ctx context.Context, conn *tenantdb.Conn) error {
		key, err := owner.SigningKey(ctx)
		if err != nil {
			return err
		}
		applied, err := migrations.UpTenant(ctx, conn.Conn, migrations.Identity{DatabaseID: owner.DatabaseID, SigningKey: key}, nil)
		if len(applied) > 0 {
			a.w.cfg.Logger.InfoContext(ctx, "upgraded Headgate's schema in a tenant database", "database", owner.Database, "applied", applied)
		}
		return lost(conn.Conn, err)
	})
	if err != nil {
		return false, fmt.Errorf("upgrading Headgate's schema in database %s: %w", owner.Database, err)
	}
	return true, nil
}
