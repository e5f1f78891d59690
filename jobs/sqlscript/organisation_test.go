package sqlscript_test

import (
	"context"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/sqlscript"
	"github.com/headgate/headgate/worker"
)

// The ledger answers for the organisation of its session and for no other, however a
// statement writes the function's name: job SQL that knows the UID of another tenant's
// job can neither mark it done nor stop it.
func TestTheLedgerRefusesAnotherOrganisation(t *testing.T) {
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

	attacks := map[string]string{
		"late":                 `SELECT headgate.finish_late($org, '$uid', '', '{}')`,
		"late, checked":        `SELECT headgate.end_late($org, '$uid', '', '{}', ARRAY['a', '', 'b'], ARRAY['a', '', 'b'])`,
		"tombstone, escaped":   `SELECT U&"he\0061dgate".tombstone($org, '$uid', '', 1000)`,
		"tombstone, commented": `SELECT headgate/**/.tombstone($org, '$uid', '', 1000)`,
		"tombstone, executed":  `DO $do$ BEGIN EXECUTE 'SELECT head' || 'gate.tombstone($org, ''$uid'', '''', 1000)'; END $do$`,
		"probe":                `SELECT U&"he\0061dgate".probe($org, '$uid', '', 1000)`,
		"claim":                `SELECT U&"he\0061dgate".claim_job($org, '$uid', 1, '', 0, 0, 0)`,
		"release":              `SELECT headgate.release_job($org, '$uid')`,
		"peek":                 `SELECT headgate.peek_job($org, '$uid', '', 1, '', 0, 0, 0)`,
		"enter":                `SELECT U&"he\0061dgate".enter_job($org, 1, '', 0, 0, 0)`,
		"begin":                `SELECT U&"he\0061dgate".begin_job($org, '$uid', '', 1, '', 0, 0, 0)`,
		"finish":               `SELECT headgate/**/.finish_job($org, '$uid', '', '{}')`,
		"end":                  `SELECT headgate.end_job($org, '$uid', '', '{}', ARRAY['a', '', 'b'], ARRAY['a', '', 'b'])`,
	}
	fill := strings.NewReplacer("$org", strconv.FormatInt(brick.OrgID, 10), "$uid", waiting.UID)
	for name, sql := range attacks {
		job, err := env.Client.Enqueue(ctx, "acme", rawScript(fill.Replace(sql)), &jobs.EnqueueOpts{MaxAttempts: 1})
		require.NoError(t, err)
		got := env.Wait(job.UID)
		require.Equal(t, jobs.Discarded, got.State, "%s: %s", name, got.Message)
		require.Equal(t, "42501", got.SQLState, "%s: %s", name, got.Message)
		require.Contains(t, got.Message, "this session acts for organisation", name)
		var theirs int
		require.NoError(t, db.Pool.QueryRow(ctx, `SELECT count(*) FROM headgate.ledger WHERE org_id = $1`, brick.OrgID).Scan(&theirs))
		require.Zero(t, theirs, name)
	}

	_, err = env.Client.Retry(ctx, waiting.UID)
	require.NoError(t, err)
	got := env.Wait(waiting.UID)
	require.Equal(t, jobs.Succeeded, got.State, got.Message)
	require.False(t, got.Recovered)
	require.EqualValues(t, 1, got.Result.Rows)
}

// Without a context nobody is asked for: neither by whoever has forgotten it, nor by
// whoever has taken it away.
func TestTheLedgerNeedsAnOrganisation(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("shared", jobstest.DatabaseOpts{})
	const uid = "0190aaaa-0000-7000-8000-00000000000a"
	for _, call := range []string{
		`headgate.finish_late(1, '` + uid + `', '', '{}')`, `headgate.tombstone(1, '` + uid + `', '', 1000)`,
		`headgate.probe(1, '` + uid + `', '', 1000)`, `headgate.release_job(1, '` + uid + `')`, `headgate.finish_job(1, '` + uid + `', '', '{}')`,
	} {
		_, err := db.Pool.Exec(context.Background(), `SELECT `+call)
		require.ErrorContains(t, err, "this session acts for no organisation", call)
		_, err = db.Pool.Exec(context.Background(), `SELECT `+call+` FROM set_config('headgate.org', '1', true)`)
		require.NoError(t, err, call)
	}
}
