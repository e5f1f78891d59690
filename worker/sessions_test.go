package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"gocloud.dev/blob/memblob"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/maintenance"
	"github.com/headgate/headgate/jobs/report"
	"github.com/headgate/headgate/jobs/session"
	"github.com/headgate/headgate/jobs/sqlscript"
	"github.com/headgate/headgate/orchestrator/localpg"
	"github.com/headgate/headgate/worker"
)

// worst is the value of each setting that does the most harm to results.
var worst = map[string]string{
	"client_encoding": "LATIN1", "DateStyle": "SQL, DMY", "IntervalStyle": "sql_standard", "TimeZone": "Asia/Kolkata",
	"timezone_abbreviations": "India", "bytea_output": "escape", "extra_float_digits": "-15",
	"standard_conforming_strings": "off", "backslash_quote": "off", "array_nulls": "off", "transform_null_equals": "on",
	"xmlbinary": "hex", "xmloption": "document", "quote_all_identifiers": "on", "gin_fuzzy_search_limit": "1",
	"client_min_messages": "error", "default_transaction_isolation": "serializable", "default_transaction_deferrable": "on",
	"row_security": "off", "check_function_bodies": "off",
	"statement_timeout": "1ms", "lock_timeout": "1ms", "idle_in_transaction_session_timeout": "1ms",
}

// behindPoolers is worst for sessions that a pooler lends: what pins them is a
// statement itself, which must get the time to run.
func behindPoolers() map[string]string {
	settings := maps.Clone(worst)
	settings["statement_timeout"], settings["idle_in_transaction_session_timeout"] = "300ms", "300ms"
	return settings
}

// everything is one line of text that shows how values are read and written.
const everything = `concat_ws('|', '04/03/2026'::date, '2026-03-04 05:06:07+00'::timestamptz, '2026-03-04 05:06:07 IST'::timestamptz,
	'1 -2:03:04'::interval, decode('01ff', 'hex'), 0.1::float8 + 0.2::float8, 'a\b', E'it\'s', '{NULL,x}'::text[], id = NULL,
	'public.facts'::regclass, 'Zoë – straße', length('Zoë – straße'),
	current_setting('transaction_isolation'), current_setting('transaction_deferrable'), current_setting('row_security'))`

const sessionsSchema = schema + `;
CREATE TABLE facts (org_id bigint NOT NULL, id int, what text, day date, at timestamptz, bytes bytea, real float8, PRIMARY KEY (org_id, id));
ALTER TABLE facts ENABLE ROW LEVEL SECURITY;
CREATE POLICY org ON facts TO headgate_job USING (org_id = (SELECT headgate.current_org())) WITH CHECK (org_id = (SELECT headgate.current_org()));
CREATE TABLE old (org_id bigint NOT NULL, at date NOT NULL);
ALTER TABLE old ENABLE ROW LEVEL SECURITY;
CREATE POLICY org ON old TO headgate_job USING (org_id = (SELECT headgate.current_org()));
GRANT SELECT, INSERT, UPDATE, DELETE ON facts, old TO headgate_job`

// Args of a kind that come as JSON, as from the command line.
type rawArgs struct{ kind, json string }

func (a rawArgs) Kind() string                 { return a.kind }
func (a rawArgs) MarshalJSON() ([]byte, error) { return []byte(a.json), nil }
func (a rawArgs) KindOpts() jobs.KindOpts {
	switch a.kind {
	case "headgate.analyze":
		return jobs.KindOptsOf(maintenance.Analyze{})
	case "headgate.vacuum":
		return jobs.KindOptsOf(maintenance.Vacuum{})
	}
	return jobs.KindOpts{}
}

// Remember is a handler with values of Go's types.
type Remember struct{ Text string }

func (Remember) Kind() string { return "remember" }

func remember(ctx context.Context, tx pgx.Tx, job *jobs.Job[Remember]) error {
	_, err := tx.Exec(ctx, `INSERT INTO facts (org_id, id, what, day, at, bytes, real)
		VALUES ($1, 2, $2 || ' ' || length($2), '04/03/2026', '2026-03-04 05:06:07', $3, '0.30000000000000004')`, job.Tenant.OrgID, job.Args.Text, []byte{1, 255})
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `SELECT pg_sleep(0.4)`); err != nil { // longer than others' statement_timeout
		return err
	}
	if err := tx.QueryRow(ctx, `SELECT what FROM facts WHERE what = $1`, job.Args.Text+" 12").Scan(&job.Result.Output); err != nil {
		return err
	}
	return tx.QueryRow(ctx, `SELECT `+everything+` FROM facts WHERE id = 2`, pgx.QueryExecModeExec).Scan(&job.Result.Output)
}

// allKinds are the built-in kinds and two with code, each with its arguments.
func allKinds() []jobs.Args {
	sql, _ := json.Marshal(`INSERT INTO facts (org_id, id, what) SELECT headgate.current_org(), $1, ` + everything + ` FROM (SELECT 1 AS id) one`)
	query, _ := json.Marshal(`SELECT ` + everything + ` AS "é", at, day, bytes, real, interval '1 day 2:03:04' AS span, array[at] AS times FROM facts ORDER BY id`)
	return []jobs.Args{
		Transfer{From: 1, To: 2, Amount: 10},
		Remember{"Zoë – straße"},
		rawArgs{"headgate.sql", `{"sql": ` + string(sql) + `, "params": [1]}`},
		rawArgs{"headgate.report", `{"name": "facts", "query": ` + string(query) + `}`},
		rawArgs{"headgate.purge", `{"table": "old", "column": "at", "older_than": "36h"}`},
		rawArgs{"headgate.analyze", `{"tables": ["facts"]}`},
		rawArgs{"headgate.vacuum", `{"tables": ["facts", "pg_catalog.pg_authid"]}`},
	}
}

// sessionsBed runs all kinds in databases whose settings differ.
type sessionsBed struct {
	t       *testing.T
	env     *jobstest.Env
	reports func(key string) string
}

// database makes one, with a tenant of its name and rows.
func (b *sessionsBed) database(name string, on *jobstest.Postgres) *jobstest.Database {
	b.t.Helper()
	db := b.env.Database(name, jobstest.DatabaseOpts{Kind: "dedicated", Schema: sessionsSchema, On: on})
	tenant := b.env.Tenant(name, name)
	open(b.t, db, tenant.OrgID, 2)
	_, err := db.Pool.Exec(context.Background(), fmt.Sprintf(`INSERT INTO old SELECT %d, date '2020-01-01' + n FROM generate_series(1, 3) n`, tenant.OrgID))
	require.NoError(b.t, err)
	return db
}

// run runs all kinds for the tenant of that name and returns what came of it.
func (b *sessionsBed) run(t *testing.T, name string, db *jobstest.Database) map[string]string {
	t.Helper()
	got := map[string]string{}
	for _, args := range allKinds() {
		var o jobs.Outcome
		if jobs.KindOptsOf(args).Scope == jobs.ScopeDatabase {
			r, err := b.env.Client.EnqueueDatabase(context.Background(), name, args, nil)
			require.NoError(t, err)
			o = b.env.Wait(r.UID)
		} else {
			o = b.env.Run(name, args)
		}
		got[args.Kind()] = fmt.Sprintf("%s %s %s %q attempt %d rows %d %q", o.State, o.Class, o.SQLState, o.Message, o.Attempt, o.Result.Rows, stripped(o.Result.Output, o.JobUID, name))
		if args.Kind() == "headgate.report" {
			got["the file"] = b.reports(o.Result.Output)
		}
	}
	cfg := db.Pool.Config().ConnConfig.Copy()
	session.Pin(cfg.RuntimeParams, session.Tenant)
	conn, err := pgx.ConnectConfig(context.Background(), cfg)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	for _, table := range []string{"accounts", "facts", "old"} {
		rows, err := conn.Query(context.Background(), `SELECT (to_jsonb(t) - 'org_id')::text FROM `+table+` t ORDER BY 1`)
		require.NoError(t, err)
		all, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		got["table "+table] = strings.Join(all, "\n")
	}
	return got
}

// stripped takes out of an output what is each job's own.
func stripped(output string, own ...string) string {
	for _, s := range own {
		output = strings.ReplaceAll(output, s, "…")
	}
	return output
}

func newSessionsBed(t *testing.T) *sessionsBed {
	t.Helper()
	bucket := memblob.OpenBucket(nil)
	t.Cleanup(func() { _ = bucket.Close() })
	b := &sessionsBed{t: t, env: jobstest.New(t)}
	b.reports = func(output string) string {
		found := bucket.List(nil)
		for {
			o, err := found.Next(context.Background())
			if errors.Is(err, io.EOF) {
				t.Fatalf("no report is named in %q", output)
			}
			require.NoError(t, err)
			if strings.Contains(output, o.Key) {
				text, err := bucket.ReadAll(context.Background(), o.Key)
				require.NoError(t, err)
				return string(text)
			}
		}
	}
	cfg := b.env.Config()
	b.env.Work(&cfg, func(w *worker.Worker) {
		worker.InTx(w, transfer)
		worker.InTx(w, remember)
		worker.InTx(w, sqlscript.Run)
		worker.InTx(w, maintenance.RunPurge)
		worker.ReadOnly(w, report.New(bucket))
		worker.OnConn(w, maintenance.RunAnalyze)
		worker.OnConn(w, maintenance.RunVacuum)
	})
	return b
}

// set writes defaults of a database or a role.
func (b *sessionsBed) set(db *jobstest.Database, what string, settings map[string]string) {
	b.t.Helper()
	for name, value := range settings {
		sql := fmt.Sprintf(`ALTER %s SET %s = '%s'`, what, name, value)
		if name == "DateStyle" {
			sql = fmt.Sprintf(`ALTER %s SET %s = %s`, what, name, value)
		}
		_, err := db.Pool.Exec(context.Background(), sql)
		require.NoError(b.t, err, sql)
	}
}

// Whatever the server, the database or the role sets, all kinds do the same and
// say the same, byte for byte. Each setting stands alone once, so that none hides
// behind another.
func TestSettingsOfOthersChangeNoResult(t *testing.T) {
	t.Parallel()
	tryWorst(t, false)
}

// tryWorst tries the worst settings at once, of a database, of roles and of a server,
// and each alone as well if each says so: one may hide another.
func tryWorst(t *testing.T, each bool) {
	t.Helper()
	for _, s := range session.Tenant {
		require.Contains(t, worst, s.Name, "each setting is tried")
		require.NotEqual(t, worst[s.Name], s.Value)
	}
	b := newSessionsBed(t)
	want := b.run(t, "plain", b.database("plain", nil))
	require.Contains(t, want["headgate.report"], "succeeded")
	require.Contains(t, want["headgate.vacuum"], "pg_authid", "a table that is skipped is told of")
	require.Contains(t, want["the file"], "2026-04-03|2026-03-04 05:06:07+00|2026-03-04 03:06:07+00|1 day -02:03:04|\\x01ff|0.30000000000000004|a\\b|it's|{NULL,x}|facts|Zoë – straße|12|read committed|off|on")

	settings := worst
	if jobstest.Bounced() {
		settings = behindPoolers()
	}
	type trial struct {
		says, name string
		db         *jobstest.Database
	}
	var trials []trial
	if each {
		for _, name := range slices.Sorted(maps.Keys(worst)) {
			alias := "only-" + strings.ToLower(strings.ReplaceAll(name, "_", "-"))
			db := b.database(alias, nil)
			b.set(db, "DATABASE "+db.Job.Database, map[string]string{name: settings[name]})
			trials = append(trials, trial{name + " of a database", alias, db})
		}
	}
	db := b.database("databases", nil)
	b.set(db, "DATABASE "+db.Job.Database, settings)
	trials = append(trials, trial{"all of a database", "databases", db})
	db = b.database("roles", nil)
	b.set(db, "ROLE "+db.Job.User, settings)
	b.set(db, "ROLE "+db.Owner.User, settings)
	trials = append(trials, trial{"all of roles", "roles", db})
	if !jobstest.Bounced() { // the test's own server has none before it
		trials = append(trials, trial{"all of a server", "servers", b.hostileServer()})
	}
	t.Run("each", func(t *testing.T) { // returns when all are through
		for _, trial := range trials {
			t.Run(trial.says, func(t *testing.T) {
				t.Parallel()
				require.Equal(t, want, b.run(t, trial.name, trial.db))
			})
		}
	})
}

// hostileServer is a database of a server whose own settings are the worst.
func (b *sessionsBed) hostileServer() *jobstest.Database {
	b.t.Helper()
	server, err := localpg.Start(context.Background(), localpg.Config{Memory: true, MaxConnections: 50})
	require.NoError(b.t, err)
	b.t.Cleanup(func() { require.NoError(b.t, server.Stop()) })
	on := &jobstest.Postgres{Name: "hostile", URL: server.URL}
	db := b.database("servers", on)
	b.set(db, "SYSTEM", worst)
	reload := func(first string) {
		cfg, err := pgx.ParseConfig(server.URL("postgres"))
		require.NoError(b.t, err)
		session.Pin(cfg.RuntimeParams, session.Tenant) // a SET would itself have one millisecond
		conn, err := pgx.ConnectConfig(context.Background(), cfg)
		require.NoError(b.t, err)
		defer func() { _ = conn.Close(context.Background()) }()
		for _, sql := range []string{first, "SELECT pg_reload_conf()"} {
			_, err = conn.Exec(context.Background(), sql)
			require.NoError(b.t, err)
		}
	}
	reload("SELECT")
	b.t.Cleanup(func() { reload("ALTER SYSTEM RESET ALL") }) // before the databases are dropped
	return db
}

// Where no trigger fires no foreign key holds either, and the ledger's own guard
// does not: a job waits there, and says who can change that.
func TestASessionWithoutTriggersRunsNothing(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	open(t, db, env.Tenant("acme", db.Name).OrgID, 2)
	env.Work(nil, func(w *worker.Worker) { worker.InTx(w, transfer) })
	role := func(sql string) {
		_, err := db.Pool.Exec(context.Background(), `ALTER ROLE `+db.Job.User+sql)
		require.NoError(t, err)
	}
	role(` SET session_replication_role = replica`)
	r, err := env.Client.Enqueue(context.Background(), "acme", Transfer{From: 1, To: 2, Amount: 1}, nil)
	require.NoError(t, err)
	o := env.WaitFor(r.UID, func(o jobs.Outcome) bool { return true })
	require.Equal(t, jobs.Snoozed, o.State)
	require.Equal(t, jobs.ClassReadOnly, o.Class)
	require.Contains(t, o.Message, "session_replication_role is replica")
	role(` RESET session_replication_role`)
	require.Equal(t, jobs.Succeeded, env.Wait(r.UID).State)
}

// In a database of another encoding text is what it is: the application reads what a
// job wrote, a job finds what the application wrote, and what the encoding lacks is
// refused and not changed.
func TestTextInDatabasesOfOtherEncodings(t *testing.T) {
	t.Parallel()
	bucket := memblob.OpenBucket(nil)
	t.Cleanup(func() { _ = bucket.Close() })
	env := jobstest.New(t)
	env.Work(nil, func(w *worker.Worker) {
		worker.InTx(w, sqlscript.Run)
		worker.ReadOnly(w, report.New(bucket))
	})
	for encoding, texts := range map[string]struct{ kept, lacking string }{
		"LATIN1":    {"Zoë straße", "Zoë – straße"},
		"EUC_JP":    {"日本語", "안녕"},
		"SQL_ASCII": {"Zoë – straße 日本語", ""},
		"UTF8":      {"Zoë – straße 日本語", ""},
	} {
		name := "e-" + strings.ToLower(strings.ReplaceAll(encoding, "_", "-"))
		db := env.Database(name, jobstest.DatabaseOpts{Schema: sessionsSchema, Encoding: encoding})
		org := env.Tenant(name, name).OrgID
		cfg := db.Pool.Config().ConnConfig.Copy()
		cfg.RuntimeParams["client_encoding"] = "UTF8" // as an application has it
		app, err := pgx.ConnectConfig(context.Background(), cfg)
		require.NoError(t, err)
		_, err = app.Exec(context.Background(), `INSERT INTO facts (org_id, id, what) VALUES ($1, 1, $2)`, org, texts.kept)
		require.NoError(t, err)
		write := func(id int, text string) jobs.Outcome {
			r, err := env.Client.Enqueue(context.Background(), name, rawArgs{"headgate.sql", fmt.Sprintf(
				`{"sql": "INSERT INTO facts (org_id, id, what) VALUES (headgate.current_org(), $1, $2)", "params": [%d, %q]}`, id, text)},
				&jobs.EnqueueOpts{MaxAttempts: 1})
			require.NoError(t, err)
			return env.Wait(r.UID)
		}
		o := write(2, texts.kept)
		require.Equal(t, jobs.Succeeded, o.State, o.Message)
		o = env.Run(name, rawArgs{"headgate.report", `{"name": "texts", "query": "SELECT what FROM facts ORDER BY id"}`})
		require.Equal(t, jobs.Succeeded, o.State, o.Message)
		found, err := bucket.List(nil).Next(context.Background())
		require.NoError(t, err)
		file, err := bucket.ReadAll(context.Background(), found.Key)
		require.NoError(t, err)
		require.NoError(t, bucket.Delete(context.Background(), found.Key))
		require.Equal(t, "what\n"+texts.kept+"\n"+texts.kept+"\n", string(file), encoding)
		o = env.Run(name, rawArgs{"headgate.sql", fmt.Sprintf(`{"sql": "DELETE FROM facts WHERE what = $1", "params": [%q]}`, texts.kept)})
		require.EqualValues(t, 2, o.Result.Rows, encoding)
		if texts.lacking != "" {
			o = write(3, texts.lacking)
			require.Equal(t, jobs.Discarded, o.State)
			require.Contains(t, o.Message, "untranslatable_character")
		}
		require.NoError(t, app.Close(context.Background()))
	}
}
