package catalog

import (
	"cmp"
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/access"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// Reattachment says where a database is from now on.
type Reattachment struct {
	Database string // name or UUID
	Server   string // the name of its server. "" means the one that it has
	DBName   string // its name on the server. "" means the one in Job

	// Job and Owner are the addresses of its two logins, as in DatabaseParams.
	Job, Owner address.Address

	// Directs are the logins' addresses past the server's pooler. A login without one has
	// none from then on.
	Directs map[jobs.Login]address.Address

	// SigningKey replaces the key by which the database knows its workers. The zero value
	// leaves it, unless it cannot be opened; then there is a new one, which the workers
	// install.
	SigningKey address.Secret

	Actor string // who says so
}

// Reattach writes where a database is: under another name, on another server, with other
// logins; and lets its jobs run again if it was detached. It connects to nothing: whoever
// calls it has looked that the database there bears the identity of this one. Errors match
// those of AddDatabase too.
func (h *Hosting) Reattach(ctx context.Context, r Reattachment) (Database, error) {
	d, err := h.reattach(ctx, h.c.pool, r)
	h.c.memory.dropAll()
	return d, err
}

// ReattachTx is Reattach in the caller's transaction, which keeps the database's row locked
// until it ends.
func (h *Hosting) ReattachTx(ctx context.Context, tx pgx.Tx, r Reattachment) (Database, error) {
	return h.reattach(ctx, tx, r)
}

func (h *Hosting) reattach(ctx context.Context, db beginner, r Reattachment) (Database, error) {
	r.DBName = cmp.Or(r.DBName, r.Job.Database)
	d, err := h.changeDatabase(ctx, db, "reattach database", r.Database, func(tx pgx.Tx, d Database) error {
		server, err := serverForShare(ctx, tx, cmp.Or(r.Server, d.Server))
		if err != nil {
			return err
		}
		if err := access.Say(ctx, tx, r.Actor, ""); err != nil {
			return err
		}
		row, err := loginsForUpdate(ctx, tx, d.ID)
		if err != nil {
			return err
		}
		return h.writeAttachment(ctx, tx, row, server, r)
	})
	return d, h.c.ring.retiredKey(err)
}

const reattachSQL = `
UPDATE headgate.databases
SET server_id = $2, dbname = $3, job_login = $4, job_version = $5, owner_login = $6, owner_version = $7,
    job_ca = nullif($8, ''), owner_ca = nullif($9, ''), signing_key = coalesce($10, signing_key),
    job_direct = NULL, owner_direct = NULL, job_direct_ca = NULL, owner_direct_ca = NULL, job_read = NULL, job_read_ca = NULL,
    state_since = CASE WHEN state = 'attached' THEN state_since ELSE now() END,
    state_by = CASE WHEN state = 'attached' THEN state_by ELSE $11 END,
    state = 'attached', state_reason = '', installed = true
WHERE id = $1`

func (h *Hosting) writeAttachment(ctx context.Context, tx pgx.Tx, row loginsRow, server serverRow, r Reattachment) error {
	job, err := server.admit("job", r.Job)
	if err != nil {
		return err
	}
	owner, err := server.admit("owner", r.Owner)
	if err != nil {
		return err
	}
	if err := checkLogins(r.DBName, job, owner); err != nil {
		return err
	}
	jobVersion, ownerVersion := row.version[jobs.LoginJob]+1, row.version[jobs.LoginOwner]+1
	_, err = tx.Exec(ctx, reattachSQL, row.id, server.id, r.DBName,
		h.c.ring.seal(row.id, jobColumn, jobVersion, address.Encode(job)), jobVersion,
		h.c.ring.seal(row.id, ownerColumn, ownerVersion, address.Encode(owner)), ownerVersion,
		job.RootCert, owner.RootCert, h.newSigningKey(row, r.SigningKey), r.Actor)
	if err != nil {
		err = databaseConflict(err, DatabaseParams{DBName: r.DBName, Server: server.name})
		return authorityConflict(err, job.RootCert, owner.RootCert)
	}
	for login, a := range r.Directs {
		if err := h.c.Logins().SetDirectTx(ctx, tx, row.id.String(), login, a); err != nil {
			return err
		}
	}
	return resetBreakers(ctx, tx, nil, row.id)
}

// newSigningKey is the sealed key that takes the present one's place, or nil.
func (h *Hosting) newSigningKey(row loginsRow, given address.Secret) []byte {
	if given == (address.Secret{}) {
		if _, err := h.c.ring.open(row.id, signingColumn, signingVersion, row.signing); err == nil {
			return nil
		}
		given = NewSigningKey()
	}
	return h.c.sealSigningKey(row.id, given)
}

// DatabaseRemoval says which database leaves the catalog.
type DatabaseRemoval struct {
	Database string // name or UUID
	DryRun   bool

	// RowsStay lets it leave although tenants that were removed have rows there. Nobody can
	// erase these by the catalog any more.
	RowsStay bool
}

// DatabaseRemoved is what left the catalog, or would.
type DatabaseRemoved struct {
	Database
	Removed int  `json:"removed_tenants"` // tenants that were removed, and whose rows lie there yet
	DryRun  bool `json:"dry_run"`
}

// RemoveDatabase takes a database out of the catalog. On its server nothing changes. It is
// refused while tenants live there, or a schedule is for it; and while the rows of removed
// tenants lie there, unless RowsStay.
func (h *Hosting) RemoveDatabase(ctx context.Context, r DatabaseRemoval) (DatabaseRemoved, error) {
	defer h.c.memory.dropAll()
	return h.removeDatabase(ctx, h.c.pool, r)
}

// RemoveDatabaseTx is RemoveDatabase in the caller's transaction.
func (h *Hosting) RemoveDatabaseTx(ctx context.Context, tx pgx.Tx, r DatabaseRemoval) (DatabaseRemoved, error) {
	return h.removeDatabase(ctx, tx, r)
}

const schedulesOfDatabaseSQL = `SELECT 'schedule', name FROM headgate.schedules WHERE database_id = $1 ORDER BY name`

const (
	forgetAdoptionSQL = `DELETE FROM headgate.adoptions WHERE database_id = $1`
	placelessSQL      = `UPDATE headgate.tenants SET database_id = NULL, database_kind = NULL WHERE database_id = $1 AND status = 'removed'`
	databaseDeleteSQL = `DELETE FROM headgate.databases WHERE id = $1`
)

func (h *Hosting) removeDatabase(ctx context.Context, db beginner, r DatabaseRemoval) (DatabaseRemoved, error) {
	done, err := within(ctx, db, func(tx pgx.Tx) (done DatabaseRemoved, err error) {
		name, id := nameOrID(r.Database)
		if err := tx.QueryRow(ctx, databaseForUpdateSQL, name, id).Scan(&done.ID); err != nil {
			return done, noDatabase(err, r.Database)
		}
		if done.Database, err = databaseBy(ctx, tx, done.ID); err != nil {
			return done, err
		}
		if done.Removed, err = mayBeRemoved(ctx, tx, done.Database, r.RowsStay); err != nil || r.DryRun {
			done.DryRun = r.DryRun
			return done, err
		}
		for _, sql := range []string{placelessSQL, forgetAdoptionSQL, databaseDeleteSQL} {
			if _, err := tx.Exec(ctx, sql, done.ID); err != nil {
				return done, err
			}
		}
		return done, nil
	})
	if err != nil {
		return DatabaseRemoved{}, fmt.Errorf("remove database %s: %w", shown(r.Database), err)
	}
	return done, nil
}

const livingInSQL = `
SELECT count(*) FILTER (WHERE status <> 'removed'), count(*) FILTER (WHERE status = 'removed'),
       coalesce((SELECT array_agg(slug) FROM (SELECT slug FROM headgate.tenants WHERE database_id = $1 AND status <> 'removed' ORDER BY slug LIMIT 3) s), '{}')
FROM headgate.tenants WHERE database_id = $1`

// mayBeRemoved refuses while something refers to the database, and counts removed tenants.
func mayBeRemoved(ctx context.Context, tx pgx.Tx, d Database, rowsStay bool) (removed int, err error) {
	var living int
	var first []string
	if err := tx.QueryRow(ctx, livingInSQL, d.ID).Scan(&living, &removed, &first); err != nil {
		return 0, err
	}
	switch {
	case living > 0:
		more := ""
		if living > len(first) {
			more = fmt.Sprintf(" and %d more", living-len(first))
		}
		return 0, &sentenceError{is: ErrReferred, sentence: fmt.Sprintf("%s there, %s%s: remove these first; `headgate tenant list --database %s` shows them", jobs.CountVerb(living, "tenant", "lives", "live"), someOf(first), more, d.Name)}
	case removed > 0 && !rowsStay:
		return 0, &sentenceError{is: ErrReferred, sentence: fmt.Sprintf("the rows of %s lie there yet: erase them first, or `headgate database remove %s --rows-stay` leaves them to the server's administrator", jobs.Count(removed, "removed tenant"), d.Name)}
	}
	return removed, refuseReferred(ctx, tx, "database", d.Name, schedulesOfDatabaseSQL, d.ID)
}
