package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/admission"
	"github.com/headgate/headgate/orchestrator/selector"
)

// shop is a central database with a worker of kind welcome, and a login that may enqueue
// that kind for tenant acme and nothing else.
func shop(t *testing.T) (env *jobstest.Env, role, url string) {
	t.Helper()
	env = jobstest.New(t)
	env.Database("freemium-1", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "freemium-1")
	env.Tenant("brick", "freemium-1")
	program := exec.Command(build(t))
	program.Env = append(os.Environ(), "DATABASE_URL="+env.URL, "HEADGATE_KEY="+env.Key)
	require.NoError(t, program.Start())
	t.Cleanup(func() {
		_ = program.Process.Kill() // an error says that it has ended
		_ = program.Wait()
	})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for known := false; !known; {
		require.NoError(t, env.Pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM headgate.kinds WHERE kind = 'welcome')`).Scan(&known))
		<-tick.C
	}
	role, url = env.RoleLogin("enqueue")
	_, _, err := env.Admission.AddEnqueueGrant(ctx, admission.EnqueueGrant{Role: role, Kind: "welcome", Tenants: selector.OfTenant("acme")})
	require.NoError(t, err)
	return env, role, url
}

// blockOf is a block of code of docs/enqueue-from-sql.md, the first of a language behind a
// heading.
func blockOf(t *testing.T, heading, language string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/enqueue-from-sql.md")
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(text), "\n### "+heading+"\n")
	require.True(t, ok, heading)
	_, rest, ok = strings.Cut(rest, "```"+language+"\n")
	require.True(t, ok, heading)
	block, _, ok := strings.Cut(rest, "\n```")
	require.True(t, ok, heading)
	return block + "\n"
}

var uidInOutput = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`)

// enqueuesOnce holds what the page shows: the job runs once, however often it is asked for.
func enqueuesOnce(t *testing.T, env *jobstest.Env, run func() string) {
	t.Helper()
	uid := uidInOutput.FindString(run())
	require.NotEmpty(t, uid)
	require.Equal(t, uid, uidInOutput.FindString(run()), "a repeated call names the first job")
	require.Equal(t, jobs.Succeeded, env.Wait(uid).State)
}

// refusals are what the login is refused, whatever speaks to Postgres.
func refusals() (statements []string) {
	const forged = "'01a20f2d-db14-7c70-a2e8-96e98307f059'"
	for _, kind := range []string{"headgate.report", "headgate.sql", "headgate.purge", "headgate.analyze", "headgate.vacuum", "headgate.tombstone", "headgate.tombstone-database", "other"} {
		statements = append(statements, fmt.Sprintf(`SELECT headgate.enqueue('%s', 'acme')`, kind))
	}
	return append(statements,
		`SELECT headgate.enqueue('welcome', 'brick', '{"member": "Ines"}')`,
		`SELECT headgate.enqueue('welcome', 'nobody', '{"member": "Ines"}')`,
		`SELECT headgate.enqueue('welcome', 'acme', '{"Member": "Ines"}')`,
		`SELECT headgate.enqueue('welcome', 'acme', '{"member": "Ines"}', job_uid => `+forged+`)`,
		`INSERT INTO river_job (kind, args, max_attempts, metadata) VALUES ('welcome', '{}', 1, '{"job_uid": "x"}')`,
		`SELECT headgate.insert_job('welcome', '{}', '{}', 'default', 1::smallint, 1::smallint, NULL)`,
		`SELECT headgate.take_key(`+forged+`, 'k', 'welcome', '{}', `+forged+`)`,
		`UPDATE river_job SET kind = 'headgate.sql'`,
		`DELETE FROM river_job`,
		`SELECT args FROM river_job`,
		`SELECT job_login FROM headgate.databases`,
		`SELECT slug FROM headgate.tenants`,
		`SELECT * FROM headgate_api.jobs`,
		`INSERT INTO headgate.enqueue_grants (role, kind) VALUES (current_user, '*')`,
		`CREATE OR REPLACE FUNCTION headgate.granted_tenants(name, text, boolean) RETURNS SETOF jsonb LANGUAGE sql AS 'SELECT NULL::jsonb'`,
	)
}

// refusedAs compares what came of the statements, one SQLSTATE a line, with the golden file.
func refusedAs(t *testing.T, codes []string) {
	t.Helper()
	statements := refusals()
	require.Len(t, codes, len(statements))
	var got strings.Builder
	for i, sql := range statements {
		fmt.Fprintf(&got, "%s  %s\n", codes[i], sql)
	}
	want, err := os.ReadFile(filepath.Join("testdata", "refused.golden"))
	require.NoError(t, err)
	require.Equal(t, string(want), got.String())
}

// psql runs SQL as psql does, or where the machine has no psql, statement by statement over
// the protocol that psql uses. It returns what was printed.
func psql(t *testing.T, url, sql string) string {
	t.Helper()
	program, err := exec.LookPath("psql")
	if err == nil {
		cmd := exec.CommandContext(t.Context(), program, "--no-psqlrc", "--set=VERBOSITY=sqlstate", "--tuples-only", url)
		cmd.Stdin = strings.NewReader(sql)
		output, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", output)
		return string(output)
	}
	t.Log("this machine has no psql: the statements go to Postgres without it")
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	var printed strings.Builder
	for statement := range strings.SplitSeq(strings.TrimSpace(sql), ";\n") {
		results, err := conn.PgConn().Exec(t.Context(), strings.TrimSuffix(statement, ";")).ReadAll()
		var said *pgconn.PgError
		if err != nil {
			require.ErrorAs(t, err, &said)
			fmt.Fprintf(&printed, "ERROR:  %s\n", said.Code)
			continue
		}
		for _, row := range results[0].Rows {
			fmt.Fprintf(&printed, " %s\n", bytes.Join(row, []byte(" | ")))
		}
	}
	return printed.String()
}

// What docs/enqueue-from-sql.md shows for psql works, and everything else is refused.
func TestEnqueueFromPsql(t *testing.T) {
	t.Parallel()
	env, role, url := shop(t)
	enqueuesOnce(t, env, func() string { return psql(t, url, blockOf(t, "psql", "sql")) })
	var codes []string
	for _, found := range regexp.MustCompile(`ERROR:\s+(\w{5})`).FindAllStringSubmatch(psql(t, url, strings.Join(refusals(), ";\n")+";\n"), -1) {
		codes = append(codes, found[1])
	}
	refusedAs(t, codes)

	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	_, err = conn.Exec(t.Context(), `SELECT headgate.enqueue('headgate.purge', 'acme')`)
	var said *pgconn.PgError
	require.ErrorAs(t, err, &said)
	shown := strings.ReplaceAll("ERROR:  "+said.Message+"\nHINT:  "+said.Hint, role, "shop")
	page, err := os.ReadFile("../../docs/enqueue-from-sql.md")
	require.NoError(t, err)
	require.Contains(t, string(page), shown, "the page shows the error as it is")
}
