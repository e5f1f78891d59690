package central

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// hurry is the lock_timeout once something has waited in vain: what is locked is
// being looked for then, and everything else of the transaction waits along.
const hurry = `SET LOCAL lock_timeout = '20ms'`

// Apart runs do for things from..to-1 in a savepoint. If do fails, it runs for each
// half by itself, and so on down to single things that fail: those are left to
// aside, and do has been done for all others. An error of aside, of the connection or of
// ctx ends it.
func Apart(ctx context.Context, tx pgx.Tx, from, to int, do func(tx pgx.Tx, from, to int) error, aside func(tx pgx.Tx, i int, cause error) error) error {
	err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { return do(tx, from, to) })
	switch {
	case err == nil:
		return nil
	case Over(ctx, tx):
		return err
	case to-from <= 1:
		return aside(tx, from, err)
	}
	if IsLockTimeout(err) {
		if _, err := tx.Exec(ctx, hurry); err != nil {
			return err
		}
	}
	middle := (from + to) / 2
	if err := Apart(ctx, tx, from, middle, do, aside); err != nil {
		return err
	}
	return Apart(ctx, tx, middle, to, do, aside)
}

// Over reports that nothing more can be done in a transaction.
func Over(ctx context.Context, tx pgx.Tx) bool { return ctx.Err() != nil || tx.Conn().IsClosed() }
