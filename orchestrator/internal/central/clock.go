package central

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs/wire"
)

const selectNow = `SELECT clock_timestamp()`

// Clock reads the database's clock: the only one that schedules know.
func Clock(ctx context.Context, tx pgx.Tx) (now time.Time, err error) {
	if err := tx.QueryRow(ctx, selectNow).Scan(&now); err != nil {
		return now, fmt.Errorf("reading the database's clock: %w", err)
	}
	return now, nil
}

// AgreedClock is clock, or an error if this process does not agree with it.
func AgreedClock(ctx context.Context, tx pgx.Tx, maxSkew time.Duration) (time.Time, error) {
	before := time.Now()
	now, err := Clock(ctx, tx)
	if err != nil {
		return now, err
	}
	return now, Agree(now, before, maxSkew)
}

// Agree refuses a database's clock, asked since before, that differs too much.
func Agree(now, before time.Time, maxSkew time.Duration) error {
	if skew := wire.ClockSkew(now, before, time.Now()); skew.Abs() >= maxSkew {
		return fmt.Errorf("the central database's clock is %s ahead of this process's (negative: behind): nothing is decided by either until they agree within %s; set the wrong one right", skew.Round(time.Millisecond), maxSkew)
	}
	return nil
}
