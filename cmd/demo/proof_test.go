package main

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
)

// A proof that could not fail would prove nothing.
func TestProofSeesWhatIsWrong(t *testing.T) {
	t.Parallel()
	d, _ := stay(t)
	ctx := t.Context()
	look := func() *result {
		list, _, err := d.app.client.Jobs(ctx, jobs.JobFilter{Page: jobs.Page{Limit: 1000}})
		require.NoError(t, err)
		r, err := d.inspect(ctx, list)
		require.NoError(t, err)
		return r
	}
	require.True(t, look().ok())

	var idle, busy *database
	for _, database := range d.cluster.databases {
		if database.idle() {
			idle = database
		} else {
			busy = database
		}
	}
	const another = `INSERT INTO budget_moves (org_id, job_uid, from_brand, to_brand, points) SELECT org_id, job_uid, from_brand, to_brand, points FROM budget_moves`
	require.NoError(t, busy.asOwner(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, another)
		return err
	}))
	r := look()
	require.False(t, r.ok())
	require.Len(t, r.wrong, 1)
	require.Contains(t, r.wrong[0], "checking database "+busy.name+": 1 transfers")

	const undo = `DELETE FROM budget_moves WHERE ctid > (SELECT min(ctid) FROM budget_moves); UPDATE brands SET budget = budget + CASE brand_id WHEN 1 THEN 1 WHEN 2 THEN -1 ELSE 0 END`
	require.NoError(t, busy.asOwner(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, undo)
		return err
	}))
	r = look() // the total is right, the brands' are not
	require.Len(t, r.wrong, 1)
	require.Contains(t, r.wrong[0], "checking database "+busy.name+": brand ")

	require.NoError(t, idle.asOwner(ctx, func(conn *pgx.Conn) error {
		r = look() // while it is open
		return nil
	}))
	require.Contains(t, r.wrong, "database "+idle.name+" had no work and was opened")
	require.Contains(t, r.untouchedLine(), "NOT AS PROMISED")
	require.Equal(t, 4, r.summary().TenantsUntouched)
	require.Eventually(t, func() bool { // when it is closed, and counted
		found, err := d.cluster.visits(context.Background())
		return err == nil && found[idle].open == 0 && found[idle].any()
	}, 10*time.Second, 5*time.Millisecond)
}
