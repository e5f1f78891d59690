package catalog

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// SetDirect sets the direct address of a login: past the pooler of its server,
// for what needs a session of its own (kinds outside a transaction, and the
// upgrade of Headgate's schema). It must have the login's user and a host of the
// server; the name of the database may be another than the pooler's. database is
// a name or UUID.
//
// Set does not change it: a new password is for both.
func (l Logins) SetDirect(ctx context.Context, database string, login jobs.Login, a address.Address) error {
	defer l.c.memory.dropAll()
	return l.c.setDirect(ctx, l.c.pool, database, login, a)
}

// SetDirectTx is SetDirect in the caller's transaction.
func (l Logins) SetDirectTx(ctx context.Context, tx pgx.Tx, database string, login jobs.Login, a address.Address) error {
	return l.c.setDirect(ctx, tx, database, login, a)
}

const directUpdateSQL = `
UPDATE headgate.databases
SET job_direct           = CASE WHEN $2 THEN job_direct ELSE $3 END,
    job_direct_version   = CASE WHEN $2 THEN job_direct_version ELSE $4 END,
    owner_direct         = CASE WHEN $2 THEN $3 ELSE owner_direct END,
    owner_direct_version = CASE WHEN $2 THEN $4 ELSE owner_direct_version END,
    job_direct_ca        = CASE WHEN $2 THEN job_direct_ca ELSE nullif($5, '') END,
    owner_direct_ca      = CASE WHEN $2 THEN nullif($5, '') ELSE owner_direct_ca END
WHERE id = $1`

const directVersionsSQL = `SELECT job_direct_version, owner_direct_version FROM headgate.databases WHERE id = $1`

func (c *Catalog) setDirect(ctx context.Context, db beginner, database string, login jobs.Login, a address.Address) error {
	_, err := within(ctx, db, func(tx pgx.Tx) (none struct{}, err error) {
		row, err := loginsForUpdate(ctx, tx, database)
		if err != nil {
			return none, err
		}
		if a, err = row.server.admit(login.String(), a); err != nil {
			return none, err
		}
		own, err := c.unseal(row.id, columnOf(login), row.version[login], row.sealed[login])
		if err != nil {
			return none, err
		}
		if own.User != a.User {
			return none, jobs.Inputf(login.String(), "", "the direct address has the user %s, the login is %s: it is the same login, past the pooler", shown(a.User), shown(own.User))
		}
		var job, owner int
		if err := tx.QueryRow(ctx, directVersionsSQL, row.id).Scan(&job, &owner); err != nil {
			return none, err
		}
		version := job + 1
		if login == jobs.LoginOwner {
			version = owner + 1
		}
		sealed := c.ring.seal(row.id, directColumnOf(login), version, address.Encode(a))
		_, err = tx.Exec(ctx, directUpdateSQL, row.id, login == jobs.LoginOwner, sealed, version, a.RootCert)
		if err != nil {
			return none, authorityConflict(err, a.RootCert, a.RootCert)
		}
		return none, resetBreakers(ctx, tx, nil, row.id)
	})
	if err != nil {
		return fmt.Errorf("set the direct %s address of database %s: %w", login, shown(database), c.ring.retiredKey(err))
	}
	return nil
}
