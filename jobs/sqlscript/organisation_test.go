package sqlscript_test

import (
	"context"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/sqlscript"
	"github.com/headgate/headgate/worker"
)

// attacker is one job of a tenant that tries to act for another, and what it is told.
type attacker struct{ sql, code string }

const (
	unsigned = "HG004" // the ledger is asked without a ticket
	foreign  = "28000" // the context is not one that Headgate has set
)

// The attacks, as text in which $org and $uid are another tenant's. $context is a context
// of that tenant that was read in a job of its own.
var attacks = map[string]attacker{
	"tombstone":            {`SELECT headgate.tombstone('$org|$uid|' || extract(epoch FROM now())::bigint || '||', repeat('0', 64), 1000)`, unsigned},
	"tombstone, escaped":   {`SELECT U&"he\0061dgate".tombstone('$org|$uid|0||', '', 1000)`, unsigned},
	"tombstone, executed":  {`DO $do$ BEGIN EXECUTE 'SELECT head' || 'gate.tombstone(''$org|$uid|0||'', NULL, 1000)'; END $do$`, unsigned},
	"probe":                {`SELECT headgate/**/.probe('$org|$uid|0||', '', 1000)`, unsigned},
	"claim":                {`SELECT headgate.claim_job('$org|$uid|0||', '', 1, '', 0, 0, 0)`, unsigned},
	"release":              {`SELECT headgate.release_job('$org|$uid|0||', '')`, unsigned},
	"peek":                 {`SELECT headgate.peek_job('$org|$uid|0||', '', '', 1, '', 0, 0, 0)`, unsigned},
	"enter":                {`SELECT headgate.enter_job('$org|$uid|0||', '', 1, '', 0, 0, 0)`, unsigned},
	"begin":                {`SELECT headgate.begin_job('$org|$uid|0||', '', '', 1, '', 0, 0, 0)`, unsigned},
	"finish":               {`SELECT headgate.finish_job('$org|$uid|0||', '', '{}')`, unsigned},
	"the mark":             {`SELECT headgate.leave_centre('0||0||', '', NULL, NULL, 'mine', NULL)`, unsigned},
	"another ticket":       {`SELECT headgate.enter_job(NULL, NULL, 1, '', 0, 0, 0)`, unsigned},
	"in one block":         {`DO $do$ DECLARE own text := current_setting('headgate.context'); BEGIN PERFORM set_config('headgate.context', '$context', true); DELETE FROM notes; PERFORM set_config('headgate.context', own, true); END $do$`, foreign},
	"in one statement":     {`WITH a AS MATERIALIZED (SELECT set_config('headgate.context', '$context', true) AS own) SELECT count(*) FROM notes, a WHERE a.own <> ''`, foreign},
	"another organisation": {`DO $do$ DECLARE own text := current_setting('headgate.context'); BEGIN PERFORM set_config('headgate.context', replace(own, '|' || headgate.current_org() || '|', '|$org|'), true); DELETE FROM notes; PERFORM set_config('headgate.context', own, true); END $do$`, foreign},
	"no mac":               {`DO $do$ DECLARE own text := current_setting('headgate.context'); BEGIN PERFORM set_config('headgate.context', '$org', true); DELETE FROM notes; PERFORM set_config('headgate.context', own, true); END $do$`, foreign},
	"none":                 {`DO $do$ DECLARE own text := current_setting('headgate.context'); BEGIN PERFORM set_config('headgate.context', '', true); DELETE FROM notes; PERFORM set_config('headgate.context', own, true); END $do$`, foreign},
	"the session's":        {`DO $do$ DECLARE own text := current_setting('headgate.context'); BEGIN PERFORM set_config('headgate.context', replace('$context', '|t|', '|s|'), true); DELETE FROM notes; PERFORM set_config('headgate.context', own, true); END $do$`, foreign},
	"the key":              {`SELECT * FROM headgate.signing_key`, "42501"},
	"the signature":        {`SELECT headgate.hmac('', '', 'x')`, "42501"},
	"another context":      {`SELECT headgate.open('$org|$uid|0||', '', 't', 1, '', 0, 0, 0)`, "42501"},
}

// The context of a job is signed, and the ledger asks for a ticket. So job SQL that knows
// another tenant's organisation, UID and former context can neither see that tenant's rows
// nor mark its job done nor stop it, however the SQL is written.
func TestNobodyActsForAnotherOrganisation(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("shared", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "shared")
	brick := env.Tenant("brick", "shared")
	ctx := context.Background()
	waiting, err := env.Client.Enqueue(ctx, "brick", one("INSERT INTO notes (body) VALUES ('brick was here')"), nil)
	require.NoError(t, err)
	_, err = env.Pool.Exec(ctx, `UPDATE river_job SET state = 'scheduled', scheduled_at = now() + interval '1 hour' WHERE id = $1`, env.RowOf(waiting.UID))
	require.NoError(t, err)
	env.Work(nil, func(w *worker.Worker) { worker.InTx(w, sqlscript.Run) })

	read := env.Run("brick", one("INSERT INTO notes (body) VALUES (current_setting('headgate.context'))"))
	require.Equal(t, jobs.Succeeded, read.State, read.Message)
	var stolen string
	require.NoError(t, db.Pool.QueryRow(ctx, `SELECT body FROM notes`).Scan(&stolen))
	require.Contains(t, stolen, "|t|"+strconv.FormatInt(brick.OrgID, 10)+"|")

	fill := strings.NewReplacer("$org", strconv.FormatInt(brick.OrgID, 10), "$uid", waiting.UID, "$context", stolen)
	ledger := func() (rows int) {
		require.NoError(t, db.Pool.QueryRow(ctx, `SELECT count(*) FROM headgate.ledger WHERE org_id = $1`, brick.OrgID).Scan(&rows))
		return rows
	}
	before := ledger()
	for name, attack := range attacks {
		job, err := env.Client.Enqueue(ctx, "acme", rawScript(fill.Replace(attack.sql)), &jobs.EnqueueOpts{MaxAttempts: 1})
		require.NoError(t, err)
		got := env.WaitFor(job.UID, func(jobs.Outcome) bool { return true })
		if got.State == jobs.Snoozed { // a missing privilege waits for somebody to grant it
			_, err := env.Client.Cancel(ctx, job.UID, nil)
			require.NoError(t, err)
		}
		require.NotEqual(t, jobs.Succeeded, got.State, name)
		require.Equal(t, attack.code, got.SQLState, "%s: %s", name, got.Message)
		require.Equal(t, before, ledger(), name)
		require.Equal(t, jobs.Succeeded, env.Run("acme", one("SELECT headgate.current_org()")).State, "%s: the next job runs", name)
	}

	_, err = env.Client.Retry(ctx, waiting.UID)
	require.NoError(t, err)
	got := env.Wait(waiting.UID)
	require.Equal(t, jobs.Succeeded, got.State, got.Message)
	require.False(t, got.Recovered)
	require.EqualValues(t, 1, got.Result.Rows)
}

// A context dies with its transaction: it is worth nothing in the next one of the same
// session, nor in another session.
func TestAContextDiesWithItsTransaction(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := jobstest.New(t).Database("shared", jobstest.DatabaseOpts{})
	conn, err := db.Pool.Acquire(ctx)
	require.NoError(t, err)
	defer conn.Release()
	var kept string
	require.NoError(t, pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if err := db.ActFor(ctx, tx, 7); err != nil {
			return err
		}
		var org int64
		if err := tx.QueryRow(ctx, `SELECT headgate.current_org()`).Scan(&org); err != nil {
			return err
		}
		require.EqualValues(t, 7, org)
		return tx.QueryRow(ctx, `SELECT current_setting('headgate.context')`).Scan(&kept)
	}))
	for name, begin := range map[string]func(context.Context) (pgx.Tx, error){"the next transaction": conn.Begin, "another session": db.Pool.Begin} {
		tx, err := begin(ctx)
		require.NoError(t, err)
		_, err = tx.Exec(ctx, `SELECT set_config('headgate.context', $1, true)`, kept)
		require.NoError(t, err)
		_, err = tx.Exec(ctx, `SELECT headgate.current_org()`)
		require.ErrorContains(t, err, "is not the one that Headgate has set", name)
		require.NoError(t, tx.Rollback(ctx))
	}
}
