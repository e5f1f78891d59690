package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/jobstest"
)

// inFile writes a file of its own for a test.
func inFile(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

// Each command of docs/import.md prints what stands there; -update writes it there.
func TestTheDocumentOfImport(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("shared-1", jobstestShared)
	s := &synced{commandLine: c, env: env, saas: env.Database("saas", jobstest.DatabaseOpts{Kind: "dedicated"})}
	work(env)
	c.secrets = append(c.secrets, "S3cret")
	files, uid := map[string]string{}, "" // uid is the last job's
	commands := holdsDocument(t, "../../docs/import.md", func(what, text string) {
		if name, ok := strings.CutPrefix(what, "file "); ok {
			files[name] = inFile(t, name, text)
		}
		if what == "sql" {
			s.do("GRANT CREATE ON SCHEMA public TO " + s.saas.Owner.User + "; SET ROLE " + s.saas.Owner.User + ";" + text + "; RESET ROLE")
		}
	}, func(command string) string {
		args := shellWords(strings.TrimSuffix(strings.TrimPrefix(command, "headgate "), "\n"))
		for i, arg := range args {
			args[i] = cmp.Or(files[arg], map[string]string{"UID": uid}[arg], arg)
		}
		r := c.run(args...)
		if args[1] == "trigger" || args[1] == "enqueue" {
			uid = aUID.FindString(r.out)
			env.Wait(uid)
		}
		return untimed(r.out) + untimed(r.err)
	})
	require.Greater(t, commands, 8)
}

var ofTheTime = regexp.MustCompile(`"(id|created_at|state_since)":"[^"]*"`)

// What is another each time in tables, and the text of the same width that stands for it.
var ofEachRun = []struct {
	pattern *regexp.Regexp
	stands  string
}{
	{aUID, "0198c1d2-0000-7000-8000-000000000001"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC`), "2026-12-01 06:00:00 UTC"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "2026-12-01T06:00:00Z"},
	{regexp.MustCompile(`fires .*`), "fires Tue 2026-12-01 06:00 UTC, …"},
	{regexp.MustCompile(`TOOK +ROWS`), "TOOK  ROWS"},
	{regexp.MustCompile(`UTC  [\d.]+m?s +`), "UTC  12ms  "},
}

var aUID = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

// untimed is output without what is another each time.
func untimed(text string) string {
	text = ofTheTime.ReplaceAllString(text, `"$1":"…"`)
	for _, c := range ofEachRun {
		text = c.pattern.ReplaceAllString(text, c.stands)
	}
	return text
}

func slugs(from, to int) string {
	var text strings.Builder
	text.WriteString("slug\n")
	for i := from; i < to; i++ {
		fmt.Fprintf(&text, "t%d\n", i)
	}
	return text.String()
}

// Many tenants want their number; a sync that would suspend many wants another.
func TestImportOfManyIsConfirmed(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	many := inFile(t, "many.csv", slugs(0, 60))
	c.fails(cli.ExitUsage, []string{"tenant", "sync", many, "--database", "db"}, "the sync adds, changes or suspends 60 tenants; pass --confirm 60 (nothing was changed)")
	c.fails(cli.ExitUsage, []string{"tenant", "import", many, "--database", "db", "--confirm", "59"}, "the import adds or changes 60 tenants, not the 59 of --confirm")
	c.ok("tenant", "sync", many, "--database", "db", "--dry-run")
	require.Equal(t, "[]\n", c.ok("tenant", "list", "-o", "json"))
	require.Contains(t, c.run("tenant", "sync", many, "--database", "db", "--confirm", "60").err, "(add: 40 more)\ntenants: 60 added")

	few := inFile(t, "few.csv", slugs(11, 60))
	c.fails(cli.ExitUsage, []string{"tenant", "sync", few, "--yes"}, `the sync is held: 11 of 60 active tenants of source "default" are missing`, "pass --allow-missing 11")
	c.ok("tenant", "sync", few, "--allow-missing", "11")
	c.fails(cli.ExitUsage, []string{"tenant", "sync", inFile(t, "none.csv", "slug\n")}, "the input has no row")

	var plan struct {
		DryRun    bool `json:"dry_run"`
		Unchanged int
		Items     []any
	}
	require.NoError(t, json.Unmarshal([]byte(c.ok("tenant", "sync", few, "--dry-run", "-o", "json")), &plan))
	require.True(t, plan.DryRun)
	require.Equal(t, 49, plan.Unchanged)
	require.Equal(t, []any{}, plan.Items)
}

func TestImportFromStandardInputAndQuery(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	r := c.runWith(context.Background(), strings.NewReader(`{"slug": "aa"}`), "tenant", "import", "-", "--format", "jsonl", "--database", "db")
	require.Zero(t, r.code, r.err)

	saas := env.Database("saas", jobstest.DatabaseOpts{Schema: `CREATE TABLE accounts AS SELECT 'x' || n AS handle FROM generate_series(1, 3) n`})
	cfg := saas.Pool.Config().ConnConfig
	address := inFile(t, "url", fmt.Sprintf("postgres://%s:%s@%s:%d/%s", cfg.User, cfg.Password, "localhost", cfg.Port, cfg.Database))
	if strings.HasPrefix(cfg.Host, "/") {
		address = inFile(t, "url", fmt.Sprintf("host=%s port=%d user=%s password=%s dbname=%s", cfg.Host, cfg.Port, cfg.User, cfg.Password, cfg.Database))
	}
	query := inFile(t, "query.sql", "SELECT handle AS slug FROM accounts")
	require.Contains(t, c.run("tenant", "sync", "--source-url-file", address, "--query-file", query, "--database", "db").err, "tenants: 3 added")
	c.fails(cli.ExitUsage, []string{"tenant", "sync", "--source-url-file", address}, "--query-file is missing")
	c.fails(cli.ExitUsage, []string{"tenant", "sync", "--query-file", query}, "HEADGATE_SOURCE_URL")
	for _, text := range []string{"", " ", "postgres://u:12345/S3cret@db1/x", "postgres://u:S3cret@127.0.0.1/x?passfile=/dev/null", "postgres://127.0.0.1", "host=127.0.0.1 service=x"} {
		r := c.fails(cli.ExitUsage, []string{"tenant", "sync", "--source-url-file", inFile(t, "wrong.txt", text), "--query-file", query}, "--source-url-file: ")
		require.NotContains(t, r, "12345", "the address is read as a tenant's: nothing of the environment, and no part of a password is told")
	}
	c.fails(cli.ExitUsage, []string{"tenant", "sync"}, "FILE is missing")
	c.fails(cli.ExitUsage, []string{"tenant", "import", "x", "--query-file", query}, "takes no arguments")
	c.fails(cli.ExitUsage, []string{"tenant", "import", "/nowhere/x.csv"}, "cannot be read")
	c.fails(cli.ExitUsage, []string{"tenant", "import", query, "--format", "cvs"}, "did you mean csv?")
	c.fails(cli.ExitUsage, []string{"tenant", "export", "-o", "json"}, "csv (the default) or jsonl")
	c.fails(cli.ExitUsage, []string{"tenant", "sync", inFile(t, "one.csv", "slug\naa\n"), "--source", "A_B"}, "source", "A_B")
}

// A row of the seed's table, with an address, is all that a job needs.
func TestAnImportedDatabaseHasJobs(t *testing.T) {
	t.Parallel()
	c, env, s := prepared(t)
	table := inFile(t, "own.csv", fmt.Sprintf("slug,database,connection_string,owner_connection_string\nacme,acme-db,%q,%q\n", s.jobURL, s.ownerURL))
	require.Contains(t, c.run("tenant", "import", table).err, "next: `headgate database install --all`")
	require.Contains(t, c.ok("database", "install", "--all", "-o", "jsonl"), `"database":"acme-db","applied":["`)
	_, err := env.Pool.Exec(t.Context(), `INSERT INTO headgate.breakers (scope, id, until, class) SELECT 'database', id, now() + interval '1 hour', 'wrong_database' FROM headgate.databases`)
	require.NoError(t, err)
	require.Contains(t, c.ok("database", "install", "acme-db", "-o", "jsonl"), `"applied":[]`)
	require.Equal(t, "0", ask(t, nameOfCentral(t, env), `SELECT count(*) FROM headgate.breakers`), "what an installation has mended is tried at once")
	c.fails(cli.ExitNotFound, []string{"database", "install", "acme"}, "unknown database", "`headgate database list` shows them")
	c.fails(cli.ExitUsage, []string{"database", "install"}, "--all")
	examined(t, c, cli.ExitOK)
	w := c.start("worker", "--reports", t.TempDir())
	last := env.Wait(enqueued(t, c.ok("job", "enqueue", "headgate.sql", "--tenant", "acme", "--args", `{"sql": "SELECT headgate.current_org()"}`, "-o", "json")))
	require.Equal(t, "succeeded", string(last.State), last.Message)
	require.Equal(t, cli.ExitOK, w.end())
	require.True(t, s.installed(t))
	require.Contains(t, c.run("tenant", "import", table).err, "nothing to do")
	require.NotContains(t, c.ok("tenant", "export"), "planted")
}
