package tenancy

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// mostAside bounds the rows of one sort that are tried one by one and fail.
	mostAside = 100

	// A statement waits this long for what others have locked: for a row of the same id or
	// slug that they have not committed, or for what a trigger touches. Once one has waited in
	// vain, later ones wait only that long, because each half of the rows is tried again.
	firstWait = "200ms"
	laterWait = "10ms"
)

// errHeld is a unit of which another session has locked a row.
var errHeld = errors.New("another session has locked a row of it")

// apart does rows at once within a savepoint. Where the database refuses one of them, or
// another session holds it, apart does each half by itself, so that one bad row keeps no
// other one back.
type apart[T any] struct {
	do    func(ctx context.Context, tx pgx.Tx, rows []T) error
	aside func(row T, why string, locked bool) // notes a row that stays as it is

	failed, untried int
}

func (a *apart[T]) run(ctx context.Context, tx pgx.Tx, rows []T) error {
	if len(rows) == 0 {
		return nil
	}
	if a.failed >= mostAside {
		a.untried += len(rows)
		return nil
	}
	err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { return a.do(ctx, tx, rows) })
	why, locked := refusedRow(err), heldRow(err)
	if locked {
		if err := waitFor(ctx, tx, laterWait); err != nil {
			return err
		}
	}
	switch {
	case why == "" && !locked:
		return err
	case len(rows) == 1:
		a.failed++
		a.aside(rows[0], why, locked)
		return nil
	}
	half := len(rows) / 2
	if err := a.run(ctx, tx, rows[:half]); err != nil {
		return err
	}
	return a.run(ctx, tx, rows[half:])
}

const setWait = `SELECT pg_catalog.set_config('lock_timeout', $1, true)`

// waitFor sets how long the transaction's next statements wait for locks.
func waitFor(ctx context.Context, tx pgx.Tx, wait string) error {
	if _, err := tx.Exec(ctx, setWait, wait); err != nil {
		return fmt.Errorf("setting lock_timeout: %w", err)
	}
	return nil
}

// refusedRow says why a row cannot be: its data (class 22), a constraint (23), or a trigger
// (P0). Everything else is about the statement or the server.
func refusedRow(err error) string {
	var said *pgconn.PgError
	if !errors.As(err, &said) {
		return ""
	}
	switch class := said.Code[:2]; {
	case class == "P0": // whose text may hold anything
		return fmt.Sprintf("a trigger refused it (%s)", said.Code)
	case (class == "22" || class == "23") && said.ConstraintName != "":
		return fmt.Sprintf("constraint %s (%s)", said.ConstraintName, said.Code)
	case class == "22" || class == "23":
		return fmt.Sprintf("%s (%s)", said.Message, said.Code)
	}
	return ""
}

// heldRow says whether a row waited in vain for another session: lock_not_available and
// deadlock_detected.
func heldRow(err error) bool {
	var said *pgconn.PgError
	return errors.Is(err, errHeld) || errors.As(err, &said) && (said.Code == "55P03" || said.Code == "40P01")
}
