package catalog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/access"
	"github.com/headgate/headgate/orchestrator/internal/central"
)

// Protection says what becomes of the jobs of a shared database that does not keep its
// tenants apart.
type Protection string

// The values of Protection.
const (
	ProtectionEnforced Protection = "enforce" // they wait, class unprotected
	ProtectionObserved Protection = "observe" // they run, and doctor fails
)

// ProtectionChange is who has decided what about a database, and why.
type ProtectionChange struct {
	Database string // a name or UUID
	To       Protection
	Reason   string // required for ProtectionObserved; up to 500 characters
	Actor    string // who says so
}

const maxReason = 500

const setProtectionSQL = `
UPDATE headgate.databases
SET protection = $3, protection_reason = nullif($4, ''), protection_by = nullif($5, ''), protection_since = now()
WHERE name = $1 OR id = $2
RETURNING id::text, protection_since`

// SetProtection decides whether the jobs of a shared database wait while it does not keep
// its tenants apart. Running workers follow as soon as they are notified (see [Listener]),
// else within FreshFor. Errors match jobs.ErrUnknownDatabase or are a *jobs.InputError.
func (c *Catalog) SetProtection(ctx context.Context, change ProtectionChange) (since time.Time, err error) {
	var id string
	err = central.Write(ctx, c.pool, func(tx pgx.Tx) error {
		id, since, err = c.setProtection(ctx, tx, change)
		return err
	})
	c.memory.changed(err, id)
	return since, err
}

// SetProtectionTx is SetProtection in the caller's transaction.
func (c *Catalog) SetProtectionTx(ctx context.Context, tx pgx.Tx, change ProtectionChange) (since time.Time, err error) {
	_, since, err = c.setProtection(ctx, tx, change)
	return since, err
}

func (c *Catalog) setProtection(ctx context.Context, tx pgx.Tx, change ProtectionChange) (databaseID string, since time.Time, err error) {
	change.Reason = strings.TrimSpace(change.Reason)
	switch {
	case change.To != ProtectionEnforced && change.To != ProtectionObserved:
		err = jobs.Inputf("protection", string(change.To), "give enforce or observe")
	case change.To == ProtectionObserved && change.Reason == "":
		err = jobs.Missing("reason", "the reason why its jobs may run although one tenant's may reach another's rows")
	default:
		err = jobs.CheckText("reason", change.Reason, maxReason)
	}
	if err != nil {
		return "", since, fmt.Errorf("set the protection of database %s: %w", shown(change.Database), err)
	}
	if err := access.Say(ctx, tx, change.Actor, change.Reason); err != nil {
		return "", since, fmt.Errorf("set the protection of database %s: %w", shown(change.Database), err)
	}
	name, id := nameOrID(change.Database)
	var pgErr *pgconn.PgError
	err = tx.QueryRow(ctx, setProtectionSQL, name, id, change.To, change.Reason, change.Actor).Scan(&databaseID, &since)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		err = fmt.Errorf("%w %s", jobs.ErrUnknownDatabase, shown(change.Database))
	case errors.As(err, &pgErr) && pgErr.ConstraintName == "databases_observed_is_shared":
		err = fmt.Errorf("set the protection of database %s: %w", shown(change.Database), jobs.Inputf("protection", string(change.To), "the database is dedicated to one tenant, and its jobs never wait for protection: leave it"))
	case err != nil:
		err = fmt.Errorf("set the protection of database %s: %w", shown(change.Database), err)
	}
	return databaseID, since, err
}
