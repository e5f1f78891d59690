package catalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// The columns of the sealed addresses, as they are bound into the seal.
const (
	jobColumn   = "job_login"
	ownerColumn = "owner_login"

	jobDirectColumn   = "job_direct"
	ownerDirectColumn = "owner_direct"

	readColumn = "job_read"

	signingColumn  = "signing_key"
	signingVersion = 1 // there is no other yet
)

func columnOf(login jobs.Login) string {
	if login == jobs.LoginOwner {
		return ownerColumn
	}
	return jobColumn
}

func directColumnOf(login jobs.Login) string {
	if login == jobs.LoginOwner {
		return ownerDirectColumn
	}
	return jobDirectColumn
}

// Logins are the addresses of the databases' logins. It is safe for concurrent use.
type Logins struct{ c *Catalog }

// Logins returns what changes the addresses of databases.
func (c *Catalog) Logins() Logins { return Logins{c} }

// Set replaces the address of one login, after the same checks as
// AddDatabase makes. database is a name or UUID. Places resolved afterwards use
// the new address, by another Catalog as soon as it is notified (see [Listener]),
// else within FreshFor; those resolved before keep the old one. Of calls at the
// same time the last one wins, whole.
//
// If the other login's address cannot be opened, for want of its key, the two
// users are not compared: setting both is the way out of a lost key. A signing key that
// cannot be opened is replaced by a new one, which the workers install.
func (l Logins) Set(ctx context.Context, database string, login jobs.Login, a address.Address) error {
	id, err := l.c.setLogin(ctx, l.c.pool, database, login, a)
	l.c.memory.changed(err, id)
	return err
}

// SetTx is Set in the caller's transaction, which keeps the
// database's row locked until it ends.
func (l Logins) SetTx(ctx context.Context, tx pgx.Tx, database string, login jobs.Login, a address.Address) error {
	_, err := l.c.setLogin(ctx, tx, database, login, a)
	return err
}

func (c *Catalog) setLogin(ctx context.Context, db beginner, database string, login jobs.Login, a address.Address) (id string, err error) {
	if login != jobs.LoginJob && login != jobs.LoginOwner {
		return "", fmt.Errorf("set login of database %s: %w", shown(database), jobs.Inputf("login", fmt.Sprint(int(login)), "give jobs.LoginJob or jobs.LoginOwner"))
	}
	id, err = within(ctx, db, func(tx pgx.Tx) (string, error) {
		row, err := loginsForUpdate(ctx, tx, database)
		if err != nil {
			return "", err
		}
		return row.id.String(), c.replaceLogin(ctx, tx, row, login, a)
	})
	if err != nil {
		return "", fmt.Errorf("set the %s login of database %s: %w", login, shown(database), c.ring.retiredKey(err))
	}
	return id, nil
}

// loginsRow is a database's row as Logins.Set locks it.
type loginsRow struct {
	id      uuid.UUID
	dbname  string
	sealed  map[jobs.Login][]byte
	version map[jobs.Login]int
	signing []byte
	server  serverRow
}

const loginsForUpdateSQL = `
SELECT d.id, d.dbname, d.job_login, d.job_version, d.owner_login, d.owner_version, d.signing_key, s.id, s.name, s.hosts, s.transport
FROM headgate.databases d
JOIN headgate.servers s ON s.id = d.server_id
WHERE d.name = $1 OR d.id = $2
FOR UPDATE OF d
FOR SHARE OF s`

func loginsForUpdate(ctx context.Context, tx pgx.Tx, database string) (row loginsRow, err error) {
	var job, owner []byte
	var jobVersion, ownerVersion int
	name, id := nameOrID(database)
	err = tx.QueryRow(ctx, loginsForUpdateSQL, name, id).Scan(&row.id, &row.dbname, &job, &jobVersion, &owner, &ownerVersion, &row.signing,
		&row.server.id, &row.server.name, &row.server.hosts, &row.server.transport)
	if errors.Is(err, pgx.ErrNoRows) {
		return row, fmt.Errorf("%w %s", jobs.ErrUnknownDatabase, shown(database))
	}
	row.sealed = map[jobs.Login][]byte{jobs.LoginJob: job, jobs.LoginOwner: owner}
	row.version = map[jobs.Login]int{jobs.LoginJob: jobVersion, jobs.LoginOwner: ownerVersion}
	return row, err
}

const loginUpdateSQL = `
UPDATE headgate.databases
SET job_login     = CASE WHEN $2 THEN job_login ELSE $3 END,
    job_version   = CASE WHEN $2 THEN job_version ELSE $4 END,
    owner_login   = CASE WHEN $2 THEN $3 ELSE owner_login END,
    owner_version = CASE WHEN $2 THEN $4 ELSE owner_version END,
    job_ca        = CASE WHEN $2 THEN job_ca ELSE nullif($5, '') END,
    owner_ca      = CASE WHEN $2 THEN nullif($5, '') ELSE owner_ca END,
    signing_key   = coalesce($6, signing_key)
WHERE id = $1`

func (c *Catalog) replaceLogin(ctx context.Context, tx pgx.Tx, row loginsRow, login jobs.Login, a address.Address) error {
	a, err := row.server.admit(login.String(), a)
	if err != nil {
		return err
	}
	other, err := c.otherLogin(row, login)
	if err != nil {
		return err
	}
	job, owner := a, other
	if login == jobs.LoginOwner {
		job, owner = other, a
	}
	if err := checkLogins(row.dbname, job, owner); err != nil {
		return err
	}
	version := row.version[login] + 1
	sealed := c.ring.seal(row.id, columnOf(login), version, address.Encode(a))
	var signing []byte // NULL: it stays
	if _, err := c.ring.open(row.id, signingColumn, signingVersion, row.signing); err != nil {
		signing = c.sealSigningKey(row.id, NewSigningKey())
	}
	_, err = tx.Exec(ctx, loginUpdateSQL, row.id, login == jobs.LoginOwner, sealed, version, a.RootCert, signing)
	if err != nil {
		return authorityConflict(err, a.RootCert, a.RootCert)
	}
	return resetBreakers(ctx, tx, nil, row.id)
}

// otherLogin opens the address that stays. One that cannot be opened is
// answered by an address of the right database and no user.
func (c *Catalog) otherLogin(row loginsRow, login jobs.Login) (address.Address, error) {
	other := jobs.LoginOwner
	if login == jobs.LoginOwner {
		other = jobs.LoginJob
	}
	a, err := c.unseal(row.id, columnOf(other), row.version[other], row.sealed[other])
	if errors.Is(err, address.ErrUndecryptable) {
		return address.Address{Database: row.dbname}, nil
	}
	return a, err
}

// unseal returns the address of one login. Every error matches
// address.ErrUndecryptable.
func (c *Catalog) unseal(database uuid.UUID, column string, version int, sealed []byte) (address.Address, error) {
	plain, err := c.ring.open(database, column, version, sealed)
	if err != nil {
		return address.Address{}, err
	}
	a, err := address.Decode(plain)
	if err != nil {
		return address.Address{}, fmt.Errorf("%w: %w", address.ErrUndecryptable, err)
	}
	return a, nil
}

func (c *Catalog) sealSigningKey(id uuid.UUID, key address.Secret) []byte {
	return c.ring.seal(id, signingColumn, signingVersion, []byte(key.Reveal()))
}
