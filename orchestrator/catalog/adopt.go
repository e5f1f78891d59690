package catalog

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/access"
	"github.com/headgate/headgate/orchestrator/internal/central"
)

// AdoptParams say which databases the central database takes over from another one.
type AdoptParams struct {
	Database string // name or UUID of one; "" with All
	All      bool
	DryRun   bool   // only say how many
	Actor    string // who decides, for the record

	// ExpectTenants is how many tenants must live there; another number is refused with
	// an *ExpectationError, and nothing is written. nil means any number. A dry run
	// tells the number.
	ExpectTenants *int
}

// ErrExpectation: a change is about another number of tenants than was expected.
// The error is an *ExpectationError.
var ErrExpectation = jobs.Sentinel("other_number_of_tenants", "not the number of tenants that was expected")

// ExpectationError says how many tenants a change is about. Nothing was written.
type ExpectationError struct {
	Expected int
	Tenants  int // that there are
}

// Error names both numbers.
func (e *ExpectationError) Error() string {
	return fmt.Sprintf("%s would be changed, and %s expected: look again, and expect that number; nothing was changed", jobs.Count(e.Tenants, "tenant"), jobs.CountVerb(e.Expected, "tenant", "was", "were"))
}

// Is makes the error match ErrExpectation.
func (e *ExpectationError) Is(target error) bool { return target == ErrExpectation }

// Code is the code of ErrExpectation.
func (e *ExpectationError) Code() string { return jobs.CodeOf(ErrExpectation) }

// Adopted is what an adoption came to, or would.
type Adopted struct {
	Databases int    `json:"databases"`
	Tenants   int    `json:"tenants"` // that live in them
	Centre    string `json:"centre"`  // the mark that they will bear
	DryRun    bool   `json:"dry_run"`
}

// Adopt decides that this central database takes databases over that bear another one's
// mark (class wrong_centre), after a restore, a move or a copy. Only the decision is
// written: the next worker that connects to a database leaves the mark there. A decision
// holds for the state that is found first; for a database that is this one's already, it
// is forgotten. Kinds without a connection wait until somebody adopts All. Errors match
// jobs.ErrUnknownDatabase, or are a *jobs.InputError.
func (c *Catalog) Adopt(ctx context.Context, params AdoptParams) (Adopted, error) {
	return c.adopt(ctx, c.pool, params)
}

// AdoptTx is Adopt in the caller's transaction.
func (c *Catalog) AdoptTx(ctx context.Context, tx pgx.Tx, params AdoptParams) (Adopted, error) {
	return c.adopt(ctx, tx, params)
}

func (c *Catalog) adopt(ctx context.Context, db beginner, params AdoptParams) (Adopted, error) {
	if (params.Database == "") != params.All {
		return Adopted{}, fmt.Errorf("adopt: %w", jobs.Inputf("database", "", "give one database, or all"))
	}
	adopted, err := within(ctx, db, func(tx pgx.Tx) (Adopted, error) { return adopt(ctx, tx, params) })
	if err != nil {
		return Adopted{}, fmt.Errorf("adopt: %w", err)
	}
	return adopted, nil
}

// countAdopted counts one database ($1) or, for NULL, all.
const countAdopted = `
SELECT count(DISTINCT d.id), count(t.id), headgate.centre_mark()
FROM headgate.databases d LEFT JOIN headgate.tenants t ON t.database_id = d.id
WHERE $1::uuid IS NULL OR d.id = $1`

const insertAdoptions = `
INSERT INTO headgate.adoptions (database_id, centre, actor)
SELECT d.id, (SELECT headgate.centre_mark()), $2 FROM headgate.databases d WHERE $1::uuid IS NULL OR d.id = $1
ON CONFLICT (database_id) DO UPDATE SET centre = EXCLUDED.centre, found = NULL, actor = EXCLUDED.actor, decided_at = EXCLUDED.decided_at`

const markCentre = `UPDATE headgate.centre SET mark = headgate.centre_mark()`

func adopt(ctx context.Context, tx pgx.Tx, params AdoptParams) (Adopted, error) {
	var only *string
	if !params.All {
		id, err := databaseID(ctx, tx, params.Database)
		if err != nil {
			return Adopted{}, err
		}
		only = &id
	}
	result := Adopted{DryRun: params.DryRun}
	if err := tx.QueryRow(ctx, countAdopted, only).Scan(&result.Databases, &result.Tenants, &result.Centre); err != nil {
		return result, fmt.Errorf("counting tenants: %w", err)
	}
	if params.DryRun {
		return result, nil
	}
	if want := params.ExpectTenants; want != nil && *want != result.Tenants {
		return result, &ExpectationError{Expected: *want, Tenants: result.Tenants}
	}
	if err := access.Say(ctx, tx, params.Actor, ""); err != nil {
		return result, err
	}
	tag, err := tx.Exec(ctx, insertAdoptions, only, params.Actor)
	switch gone := central.HasCode(err, "23503"); {
	case gone, err == nil && only != nil && tag.RowsAffected() == 0: // somebody has removed it meanwhile
		return result, fmt.Errorf("%w: it has just been removed; nothing was changed", jobs.ErrUnknownDatabase)
	case err != nil:
		return result, fmt.Errorf("writing the decision: %w", err)
	}
	if params.All {
		if _, err := tx.Exec(ctx, markCentre); err != nil {
			return result, fmt.Errorf("marking the central database: %w", err)
		}
	}
	if _, err := tx.Exec(ctx, resetAdoptedSQL, only); err != nil {
		return result, fmt.Errorf("resetting the breakers: %w", err)
	}
	return result, nil
}

const centreMarkSQL = `SELECT headgate.centre_mark()`

// CentreMark is the mark that this central database leaves in its tenants' databases. db is
// a connection, a transaction or a pool.
func CentreMark(ctx context.Context, db rowQuerier) (mark string, err error) {
	if err := db.QueryRow(ctx, centreMarkSQL).Scan(&mark); err != nil {
		return "", fmt.Errorf("reading the central database's mark: %w", err)
	}
	return mark, nil
}
