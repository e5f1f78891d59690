package orchestrator

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

const selectNow = `SELECT clock_timestamp()`

// clock reads the database's clock: the only one that schedules know.
func clock(ctx context.Context, tx pgx.Tx) (now time.Time, err error) {
	if err := tx.QueryRow(ctx, selectNow).Scan(&now); err != nil {
		return now, fmt.Errorf("reading the database's clock: %w", err)
	}
	return now, nil
}

// agreedClock is clock, or an error if this process does not agree with it.
func agreedClock(ctx context.Context, tx pgx.Tx, maxSkew time.Duration) (time.Time, error) {
	before := time.Now()
	now, err := clock(ctx, tx)
	if err != nil {
		return now, err
	}
	return now, agree(now, before, maxSkew)
}

// agree refuses a database's clock, asked since before, that differs too much.
func agree(now, before time.Time, maxSkew time.Duration) error {
	if skew := jobs.ClockSkew(now, before, time.Now()); skew.Abs() >= maxSkew {
		return fmt.Errorf("the central database's clock is %s ahead of this process's (negative: behind): nothing is decided by either until they agree within %s; set the wrong one right", skew.Round(time.Millisecond), maxSkew)
	}
	return nil
}

// clip makes text fit for a column: valid UTF-8, no NUL, at most n bytes.
func clip(s string, n int) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "")
	return strings.ToValidUTF8(s[:min(len(s), n)], "")
}
