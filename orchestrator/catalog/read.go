package catalog

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// SetRead sets the read address of a database: where its job login finds a replica of the
// database's server. Kinds that declare jobs.KindOpts.ReadFrom read there. The address must
// have the job login's user and a host of the server, and differ from the job login's own.
// database is a name or UUID. Places resolved afterwards have the new address, as after
// Set.
//
// Set does not change the read address: a new password is for both.
func (l Logins) SetRead(ctx context.Context, database string, a address.Address) error {
	defer l.c.memory.dropAll()
	return l.c.setRead(ctx, l.c.pool, database, &a)
}

// SetReadTx is SetRead in the caller's transaction.
func (l Logins) SetReadTx(ctx context.Context, tx pgx.Tx, database string, a address.Address) error {
	return l.c.setRead(ctx, tx, database, &a)
}

// RemoveRead takes the read address of a database out of the catalog: kinds that would read
// there read at the job login's own address. A database without one is left as it is.
func (l Logins) RemoveRead(ctx context.Context, database string) error {
	defer l.c.memory.dropAll()
	return l.c.setRead(ctx, l.c.pool, database, nil)
}

// RemoveReadTx is RemoveRead in the caller's transaction.
func (l Logins) RemoveReadTx(ctx context.Context, tx pgx.Tx, database string) error {
	return l.c.setRead(ctx, tx, database, nil)
}

const readVersionSQL = `SELECT job_read_version FROM headgate.databases WHERE id = $1`

const readUpdateSQL = `
UPDATE headgate.databases SET job_read = $2, job_read_version = $3, job_read_ca = nullif($4, '') WHERE id = $1`

// setRead takes the address out if a is nil.
func (c *Catalog) setRead(ctx context.Context, db beginner, database string, a *address.Address) error {
	_, err := within(ctx, db, func(tx pgx.Tx) (none struct{}, err error) {
		row, err := loginsForUpdate(ctx, tx, database)
		if err != nil {
			return none, err
		}
		var version int
		if err := tx.QueryRow(ctx, readVersionSQL, row.id).Scan(&version); err != nil {
			return none, err
		}
		var sealed []byte // NULL: there is none
		var authority string
		if a != nil {
			version++
			admitted, err := c.admitRead(row, *a)
			if err != nil {
				return none, err
			}
			sealed, authority = c.ring.seal(row.id, readColumn, version, address.Encode(admitted)), admitted.RootCert
		}
		_, err = tx.Exec(ctx, readUpdateSQL, row.id, sealed, version, authority)
		return none, authorityConflict(err, authority, authority)
	})
	if err != nil {
		return fmt.Errorf("set the read address of database %s: %w", shown(database), c.ring.retiredKey(err))
	}
	return nil
}

// admitRead holds a read address to the server and to the job login.
func (c *Catalog) admitRead(row loginsRow, a address.Address) (address.Address, error) {
	a, err := row.server.admit("read", a)
	if err != nil {
		return a, err
	}
	own, err := c.unseal(row.id, jobColumn, row.version[jobs.LoginJob], row.sealed[jobs.LoginJob])
	switch {
	case err != nil:
		return a, err
	case own.User != a.User:
		return a, jobs.Inputf("read", "", "the read address has the user %s, the job login is %s: it is the same login, at a replica", shown(a.User), shown(own.User))
	case own.Host == a.Host && own.Port == a.Port:
		return a, jobs.Inputf("read", "", "the read address leads to the job login's own host and port: give those of a replica")
	}
	return a, nil
}
