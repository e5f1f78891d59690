package catalog

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// DatabaseIDAt is the id of the database of that name on a server, for those whose id no
// earlier entry has decided: an installation that was begun finds its own mark again.
func DatabaseIDAt(server uuid.UUID, dbname string) uuid.UUID {
	return uuid.NewSHA1(server, []byte(dbname))
}

// insertDatabases adds databases whose number does not matter, after the checks of
// AddDatabase.
func (c *Catalog) insertDatabases(ctx context.Context, tx pgx.Tx, databases []DatabaseParams) error {
	if len(databases) == 0 {
		return nil
	}
	servers, err := serversForShare(ctx, tx, databases)
	if err != nil {
		return err
	}
	for chunk := range slices.Chunk(databases, bulkSize) {
		if err := checkManyIntended(ctx, tx, servers, chunk); err != nil {
			return err
		}
		if err := c.insertManyDatabases(ctx, tx, servers, chunk); err != nil {
			return err
		}
	}
	return nil
}

// serversForShare keeps the rules of all the servers as they are until tx ends.
func serversForShare(ctx context.Context, tx pgx.Tx, databases []DatabaseParams) (map[string]serverRow, error) {
	servers := map[string]serverRow{}
	var names []string
	for _, d := range databases {
		names = append(names, d.Server)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) { // in one order, because another import waits for the same rows
		server, err := serverForShare(ctx, tx, name)
		if err != nil {
			return nil, err
		}
		servers[name] = server
	}
	return servers, nil
}

// manyIntendedSQL is intendedSQL for many.
const manyIntendedSQL = `
SELECT i.name, i.dbname, i.creates
FROM unnest($1::text[], $2::uuid[], $3::text[]) AS d (name, server_id, dbname)
JOIN headgate.database_intents i ON i.name = d.name OR i.server_id = d.server_id AND i.dbname = d.dbname
LIMIT 1`

func checkManyIntended(ctx context.Context, tx pgx.Tx, servers map[string]serverRow, databases []DatabaseParams) error {
	var names, dbnames []string
	var ids []uuid.UUID
	for _, d := range databases {
		names, ids, dbnames = append(names, d.Name), append(ids, servers[d.Server].id), append(dbnames, cmp.Or(d.DBName, d.Job.Database))
	}
	var name, dbname string
	var creates bool
	err := tx.QueryRow(ctx, manyIntendedSQL, names, ids, dbnames).Scan(&name, &dbname, &creates)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return err
	}
	return existsf(nil, "database %q is being made, as %s: %s", dbname, name, Intent{Name: name, Creates: creates}.Next())
}

const manyDatabasesInsertSQL = `
INSERT INTO headgate.databases (id, name, server_id, dbname, kind, job_login, job_version, owner_login, owner_version, signing_key, job_ca, owner_ca, installed)
SELECT d.id, d.name, d.server_id, d.dbname, d.kind, d.job, 1, d.owner, 1, d.signing, nullif(d.job_ca, ''), nullif(d.owner_ca, ''), false
FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::bytea[], $7::bytea[], $8::bytea[], $9::text[], $10::text[])
     AS d (id, name, server_id, dbname, kind, job, owner, signing, job_ca, owner_ca)`

func (c *Catalog) insertManyDatabases(ctx context.Context, tx pgx.Tx, servers map[string]serverRow, databases []DatabaseParams) error {
	var ids, serverIDs []uuid.UUID
	var names, dbnames, kinds, jobCAs, ownerCAs []string
	var sealedJobs, sealedOwners, signing [][]byte
	for _, d := range databases {
		id, err := d.check()
		if err != nil {
			return err
		}
		server, dbname := servers[d.Server], cmp.Or(d.DBName, d.Job.Database)
		job, jobErr := server.admit("job", d.Job)
		owner, ownerErr := server.admit("owner", d.Owner)
		if err := cmp.Or(jobErr, ownerErr, checkLogins(dbname, job, owner)); err != nil {
			return fmt.Errorf("database %s: %w", shown(d.Name), err)
		}
		ids, serverIDs = append(ids, id), append(serverIDs, server.id)
		names, dbnames, kinds = append(names, d.Name), append(dbnames, dbname), append(kinds, d.Kind)
		jobCAs, ownerCAs = append(jobCAs, job.RootCert), append(ownerCAs, owner.RootCert)
		sealedJobs = append(sealedJobs, c.ring.seal(id, jobColumn, 1, address.Encode(job)))
		sealedOwners = append(sealedOwners, c.ring.seal(id, ownerColumn, 1, address.Encode(owner)))
		signing = append(signing, c.sealSigningKey(id, d.SigningKey))
	}
	_, err := tx.Exec(ctx, manyDatabasesInsertSQL, ids, names, serverIDs, dbnames, kinds, sealedJobs, sealedOwners, signing, jobCAs, ownerCAs)
	switch constraint, value := violation(err); constraint {
	case "databases_name_key":
		return existsf(err, "database %q exists already", value)
	case "databases_server_id_dbname_key":
		return existsf(err, "a database of these is in the catalog already, under another name")
	}
	return authorityConflict(err, "", "")
}

// GivenLogins are the addresses that a source says a database has. A zero Owner is not said.
type GivenLogins struct {
	DatabaseID string
	Job, Owner address.Address
}

const loginsCompareSQL = `
SELECT d.id, d.job_login, d.job_version, d.owner_login, d.owner_version, s.transport
FROM headgate.databases d
JOIN headgate.servers s ON s.id = d.server_id
WHERE d.id = ANY ($1)`

// ChangedLogins returns which of the addresses differ from those that are sealed. One that
// cannot be opened differs. Without a key ring the error is ErrNoKey. db reads: it is a pool or a transaction.
func (b *Bulk) ChangedLogins(ctx context.Context, db querier, said []GivenLogins) (changes []LoginChange, err error) {
	if b.c.ring == nil {
		return nil, ErrNoKey
	}
	byID := make(map[string]GivenLogins, len(said))
	ids := make([]string, 0, len(said))
	for _, l := range said {
		byID[l.DatabaseID] = l
		ids = append(ids, l.DatabaseID)
	}
	rows, err := db.Query(ctx, loginsCompareSQL, ids)
	if err != nil {
		return nil, err
	}
	var id uuid.UUID
	var job, owner []byte
	var jobVersion, ownerVersion int
	var transport address.Transport
	_, err = pgx.ForEachRow(rows, []any{&id, &job, &jobVersion, &owner, &ownerVersion, &transport}, func() error {
		l := byID[id.String()]
		if b.differs(id, jobColumn, jobVersion, job, l.Job.Canonical(transport)) {
			changes = append(changes, LoginChange{l.DatabaseID, jobs.LoginJob, l.Job})
		}
		if l.Owner.User != "" && b.differs(id, ownerColumn, ownerVersion, owner, l.Owner.Canonical(transport)) {
			changes = append(changes, LoginChange{l.DatabaseID, jobs.LoginOwner, l.Owner})
		}
		return nil
	})
	return changes, err
}

func (b *Bulk) differs(id uuid.UUID, column string, version int, sealed []byte, said address.Address) bool {
	plain, err := b.c.ring.open(id, column, version, sealed)
	return err != nil || !bytes.Equal(plain, address.Encode(said))
}
