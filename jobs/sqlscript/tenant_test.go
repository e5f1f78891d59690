package sqlscript_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/sqlscript"
	"github.com/headgate/headgate/worker"
)

// schema is what two organisations share, one of them with a policy of its own
// making (app.org_id), and doors that row-level security does not close.
const schema = `
CREATE TABLE notes (org_id bigint NOT NULL DEFAULT headgate.current_org(), body text);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY org ON notes TO headgate_job
    USING (org_id = (SELECT headgate.current_org())) WITH CHECK (org_id = (SELECT headgate.current_org()));
GRANT SELECT, INSERT, UPDATE, DELETE ON notes TO headgate_job;
CREATE FUNCTION switch_to(org bigint) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN PERFORM set_config('headgate.context', repeat('0', 64) || '|t|' || org || '||', true); END $$`

// raw is a job that no check of the central side has seen.
type raw string

func (raw) Kind() string                   { return "headgate.sql" }
func (r raw) MarshalJSON() ([]byte, error) { return []byte(r), nil }

func rawScript(statements ...string) raw {
	list := make([]map[string]string, len(statements))
	for i, sql := range statements {
		list[i] = map[string]string{"sql": sql}
	}
	text, err := json.Marshal(map[string]any{"statements": list})
	if err != nil {
		panic(err)
	}
	return raw(text)
}

// The lists of guarantees.md (F8, F9) and bad-inputs.md (24, 26) on job SQL, in
// a shared database, through a worker: each is refused, nothing of the job is
// committed, neither its rows nor the ledger's, and the neighbour's rows stand.
func TestJobSQLCannotEscape(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("shared", jobstest.DatabaseOpts{Schema: schema})
	acme, brick := env.Tenant("acme", "shared"), env.Tenant("brick", "shared")
	ctx := context.Background()
	_, err := db.Pool.Exec(ctx, `INSERT INTO notes VALUES ($1, 'acme was here'), ($2, 'brick was here')`, acme.OrgID, brick.OrgID)
	require.NoError(t, err)
	env.Work(nil, func(w *worker.Worker) { worker.InTx(w, sqlscript.Run) })

	const (
		control = "transaction control is not allowed in a SQL job"
		changed = "tenant context changed by job SQL"
	)
	refused := map[string]string{
		"commit":                                    control,
		"commit and chain":                          control,
		"rollback":                                  control,
		"rollback and chain":                        control,
		"; /* a */ commit":                          control,
		"select 1; drop table t":                    control,
		"select 1; commit":                          control,
		"do $$begin commit;end$$":                   control,
		"do $$begin rollback;end$$":                 control,
		"prepare transaction 'x'":                   control,
		"savepoint a":                               control,
		"set_config('headgate.context', '2', true)": "is no command of a SQL job",
		"reset role":                                changed,
		"reset all":                                 changed,
		"set role headgate_job":                     changed,
		"set local role headgate_job":               changed,
		"set session authorization headgate_job":    changed,
		"select set_config('headgate.context', '2', true)":                                                                       changed,
		"select set_config('head' || 'gate.context', (SELECT max(org_id) + 1 FROM notes)::text, true)":                           changed,
		"select set_config('app.org_id', 'b', true)":                                                                             changed,
		"select set_config('role', 'headgate_job', true)":                                                                        changed,
		"do $$begin execute 'alter role current_user set statement_timeout = 1'; end$$":                                          changed,
		"do $$begin execute 'alter role current_user password ''hacked'''; end$$":                                                changed,
		"do $$begin execute 'alter role current_user password ''hacked'''; raise 'x'; exception when raise_exception then end$$": changed,
		"do $$begin set local role headgate_job; end$$":                                                                          changed,
		"select switch_to(2)": changed,
	}
	uids := map[string]string{}
	for sql := range refused {
		job, err := env.Client.Enqueue(ctx, "acme", rawScript("INSERT INTO notes (body) VALUES ('before')", sql, "DELETE FROM notes"), nil)
		require.NoError(t, err)
		uids[sql] = job.UID
	}
	for sql, want := range refused {
		got := env.Wait(uids[sql])
		require.Equal(t, jobs.Cancelled, got.State, "%s: %s", sql, got.Message)
		require.Contains(t, got.Message, "statement 2", sql)
		require.Contains(t, got.Message, want, sql)
		var ledger int
		require.NoError(t, db.Pool.QueryRow(ctx, `SELECT count(*) FROM headgate.ledger WHERE job_uid = $1`, got.JobUID).Scan(&ledger))
		require.Zero(t, ledger, "%s: the ledger has a row", sql)
	}
	var notes string
	require.NoError(t, db.Pool.QueryRow(ctx, `SELECT string_agg(body, ', ' ORDER BY body) FROM notes`).Scan(&notes))
	require.Equal(t, "acme was here, brick was here", notes, "a row was written or deleted")

	// The same worker and connections still serve, each tenant its own rows.
	for _, slug := range []string{"acme", "brick"} {
		got := env.Run(slug, one("DELETE FROM notes"))
		require.Equal(t, jobs.Succeeded, got.State, got.Message)
		require.EqualValues(t, 1, got.Result.Rows, slug)
	}
}

// What can never run is refused when it is asked for.
func TestABadScriptIsNotEnqueued(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	env.Database("acme", jobstest.DatabaseOpts{})
	env.Tenant("acme", "acme")
	_, err := env.Client.Enqueue(context.Background(), "acme", one("COMMIT"), nil)
	require.ErrorContains(t, err, "args of kind headgate.sql: statement 1: transaction control is not allowed in a SQL job: remove COMMIT")
	_, err = env.Client.Enqueue(context.Background(), "acme", one("SELECT $1", sqlscript.Param{Type: "int", Value: "x"}), nil)
	require.ErrorContains(t, err, `args of kind headgate.sql: statement 1, parameter 1: want a whole number`)
	var queued int
	require.NoError(t, env.Pool.QueryRow(context.Background(), `SELECT count(*) FROM river_job`).Scan(&queued))
	require.Zero(t, queued)
}
