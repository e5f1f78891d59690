package catalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/access"
	"github.com/headgate/headgate/orchestrator/internal/central"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

const databaseSQL = `
SELECT ` + databaseColumns + `
FROM headgate.databases d
JOIN headgate.servers s ON s.id = d.server_id
CROSS JOIN LATERAL (SELECT headgate.tenants_in(d.id) AS tenants) t
WHERE d.name = $1 OR d.id = $2`

// Database returns the database of that name or UUID.
func (h *Hosting) Database(ctx context.Context, database string) (Database, error) {
	return databaseBy(ctx, h.c.pool, database)
}

func databaseBy(ctx context.Context, db querier, database string) (Database, error) {
	name, id := nameOrID(database)
	rows, _ := db.Query(ctx, databaseSQL, name, id) // its error is CollectExactlyOneRow's too
	d, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Database])
	return d, noDatabase(err, database)
}

// noDatabase says which database is not there.
func noDatabase(err error, database string) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("%w %s", jobs.ErrUnknownDatabase, shown(database))
	}
	return err
}

// Place says where a login of a database is to be found, also of a detached one: for a look
// at the database itself. Jobs go by ResolveDatabase.
func (h *Hosting) Place(ctx context.Context, database string, login jobs.Login) (address.Place, error) {
	place, _, err := h.c.databasePlace(ctx, database, login)
	return place, err
}

// changeDatabase writes a database's row, in a transaction of its own or the caller's, and
// returns the row as it is then.
func (h *Hosting) changeDatabase(ctx context.Context, db beginner, what, database string, change func(tx pgx.Tx, d Database) error) (Database, error) {
	changed, err := within(ctx, db, func(tx pgx.Tx) (d Database, err error) {
		name, id := nameOrID(database)
		if err := tx.QueryRow(ctx, databaseForUpdateSQL, name, id).Scan(&d.ID); err != nil {
			return d, noDatabase(err, database)
		}
		if d, err = databaseBy(ctx, tx, d.ID); err != nil {
			return d, err
		}
		if err := change(tx, d); err != nil {
			return d, err
		}
		return databaseBy(ctx, tx, d.ID)
	})
	if err != nil {
		return Database{}, fmt.Errorf("%s %s: %w", what, shown(database), err)
	}
	return changed, nil
}

const databaseForUpdateSQL = `SELECT id::text FROM headgate.databases WHERE name = $1 OR id = $2 FOR UPDATE`

const nameIntendedSQL = `SELECT EXISTS (SELECT FROM headgate.database_intents WHERE name = $1)`

const renameDatabaseSQL = `UPDATE headgate.databases SET name = $2 WHERE id = $1`

// RenameDatabase gives a database another name in the catalog. On its server it keeps its
// own (see Reattach).
func (h *Hosting) RenameDatabase(ctx context.Context, database, to string) (Database, error) {
	d, err := h.renameDatabase(ctx, h.c.pool, database, to)
	h.c.memory.changed(err, d.ID)
	return d, err
}

// RenameDatabaseTx is RenameDatabase in the caller's transaction.
func (h *Hosting) RenameDatabaseTx(ctx context.Context, tx pgx.Tx, database, to string) (Database, error) {
	return h.renameDatabase(ctx, tx, database, to)
}

func (h *Hosting) renameDatabase(ctx context.Context, db beginner, database, to string) (Database, error) {
	if err := checkName("name", to); err != nil {
		return Database{}, fmt.Errorf("rename database %s: %w", shown(database), err)
	}
	return h.changeDatabase(ctx, db, "rename database", database, func(tx pgx.Tx, d Database) error {
		var intended bool
		if err := tx.QueryRow(ctx, nameIntendedSQL, to).Scan(&intended); err != nil {
			return err
		}
		if intended {
			return existsf(nil, "a database of the name %q is being made", to)
		}
		_, err := tx.Exec(ctx, renameDatabaseSQL, d.ID, to)
		return databaseConflict(err, DatabaseParams{Name: to})
	})
}

// Room says whom a database takes. Tenants that live there already stay.
type Room struct {
	MaxTenants *int      // 1 to 1,000,000; 0: any number. nil leaves it
	Plans      *[]string // of which plans; none: of any. nil leaves it
}

const maxMaxTenants = 1_000_000

func (r Room) check() error {
	if r.MaxTenants != nil && (*r.MaxTenants < 0 || *r.MaxTenants > maxMaxTenants) {
		return jobs.Inputf("max_tenants", fmt.Sprint(*r.MaxTenants), "give 1 to %d, or 0 for any number", maxMaxTenants)
	}
	if r.Plans == nil {
		return nil
	}
	for _, plan := range *r.Plans {
		if err := CheckPlan("plans", plan); err != nil {
			return err
		}
	}
	return nil
}

const setRoomSQL = `
UPDATE headgate.databases
SET max_tenants = CASE WHEN $2::int IS NULL THEN max_tenants ELSE nullif($2, 0) END,
    plans       = CASE WHEN $3::text[] IS NULL THEN plans ELSE nullif($3, '{}') END
WHERE id = $1`

// SetRoom decides how many tenants a database takes, and of which plans. A database that has
// more already keeps them, and takes no further one.
func (h *Hosting) SetRoom(ctx context.Context, database string, room Room) (Database, error) {
	return h.setRoom(ctx, h.c.pool, database, room)
}

// SetRoomTx is SetRoom in the caller's transaction.
func (h *Hosting) SetRoomTx(ctx context.Context, tx pgx.Tx, database string, room Room) (Database, error) {
	return h.setRoom(ctx, tx, database, room)
}

func (h *Hosting) setRoom(ctx context.Context, db beginner, database string, room Room) (Database, error) {
	if err := room.check(); err != nil {
		return Database{}, fmt.Errorf("set the room of database %s: %w", shown(database), err)
	}
	return h.changeDatabase(ctx, db, "set the room of database", database, func(tx pgx.Tx, d Database) error {
		if d.Kind == KindDedicated && room.MaxTenants != nil && *room.MaxTenants > 1 {
			return jobs.Inputf("max_tenants", fmt.Sprint(*room.MaxTenants), "the database is dedicated and takes one tenant")
		}
		_, err := tx.Exec(ctx, setRoomSQL, d.ID, room.MaxTenants, room.Plans)
		return err
	})
}

const installedSQL = `UPDATE headgate.databases SET installed = true WHERE id = $1 AND NOT installed`

// Installed notes that Headgate's schema is in a database, given by its UUID, that an import has
// entered. It connects to no database, and writes nothing about one that it is noted of.
func (h *Hosting) Installed(ctx context.Context, id string) error {
	err := central.Write(ctx, h.c.pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, installedSQL, id)
		return err
	})
	if err != nil {
		return fmt.Errorf("note that database %s is installed: %w", id, err)
	}
	return nil
}

const detachSQL = `
UPDATE headgate.databases SET state = 'detached', state_reason = $2, state_by = $3, state_since = now()
WHERE id = $1`

// Detach lets no job of a database start until Reattach: it is being moved to another server
// or restored. Its tenants' jobs wait and use no attempt; running ones go on to their end,
// and workers then keep no connection to it. A reason is required.
func (h *Hosting) Detach(ctx context.Context, database string, why Decision) (Database, error) {
	d, err := h.detach(ctx, h.c.pool, database, why)
	h.c.memory.changed(err, d.ID)
	return d, err
}

// DetachTx is Detach in the caller's transaction.
func (h *Hosting) DetachTx(ctx context.Context, tx pgx.Tx, database string, why Decision) (Database, error) {
	return h.detach(ctx, tx, database, why)
}

func (h *Hosting) detach(ctx context.Context, db beginner, database string, why Decision) (Database, error) {
	why, err := why.checked()
	if err == nil && why.Reason == "" {
		err = jobs.Missing("reason", "the reason why its jobs wait")
	}
	if err != nil {
		return Database{}, fmt.Errorf("detach database %s: %w", shown(database), err)
	}
	return h.changeDatabase(ctx, db, "detach database", database, func(tx pgx.Tx, d Database) error {
		if err := access.Say(ctx, tx, why.Actor, why.Reason); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, detachSQL, d.ID, why.Reason, why.Actor)
		return err
	})
}
