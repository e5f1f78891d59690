package central

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
)

// errUndone is no failure. It ends the transaction of a dry run.
var errUndone = errors.New("a dry run, which is undone")

const checkDeferredSQL = `SET CONSTRAINTS ALL IMMEDIATE`

// Undo is what the work of a dry run returns at its end, so that its transaction or savepoint
// is undone. Before that the constraints are checked that wait for the commit. The error is
// theirs, or one that Undone takes away.
func Undo(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, checkDeferredSQL); err != nil {
		return err
	}
	return errUndone
}

// Undone takes the error of Undo away when the transaction has ended, and leaves every other.
func Undone(err error) error {
	if errors.Is(err, errUndone) {
		return nil
	}
	return err
}
