package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
)

var (
	codeBlock  = regexp.MustCompile("(?ms)^```\n(.*?)^```$")
	acme       = regexp.MustCompile(`\bacme\b`)
	psqlCommon = regexp.MustCompile(`-c '([^']*)'`)
)

// typed is what docs/first-steps.md has a person type until the first table is there: the
// commands, and the statements of psql. Only names, hosts and passwords are others.
func typed(t *testing.T, name string, replace ...string) (script string, statements []string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/first-steps.md")
	require.NoError(t, err)
	page, _, found := strings.Cut(string(text), "### A database that exists")
	require.True(t, found)
	for _, block := range codeBlock.FindAllStringSubmatch(page, -1) {
		if strings.HasPrefix(block[1], "psql ") {
			for _, sql := range psqlCommon.FindAllStringSubmatch(block[1], -1) {
				statements = append(statements, sql[1])
			}
			continue
		}
		script += block[1]
	}
	for i := 0; i < len(replace); i += 2 {
		require.Contains(t, script, replace[i])
		script = strings.ReplaceAll(script, replace[i], replace[i+1])
	}
	return acme.ReplaceAllString(script, name), statements
}

// The first steps, typed as they stand by an administrator who is no superuser, on an empty
// central database: the first job has its effect.
func TestFirstStepsAsTheyStand(t *testing.T) {
	t.Parallel()
	b := newBuilder(t)
	_, central := emptyDatabase(t)
	c := newCLI(t, central)
	where := "--plain-loopback"
	if b.server.socket {
		where = "--socket " + b.server.host
	}
	script, statements := typed(t, b.name,
		"export DATABASE_URL=postgres://…", "",
		`export HEADGATE_KEY="k1:$(openssl rand -base64 32)"`, "",
		"--host db1.internal", where,
		"HEADGATE_ADMIN_URL=postgres://…@db1.internal/postgres", fmt.Sprintf("HEADGATE_ADMIN_URL='%s'", b.server.address(b.admin, adminPassword, "postgres")))
	require.Len(t, statements, 2)

	folder := t.TempDir()
	bash := exec.Command("bash", "-eu", "-c", `headgate() { `+asMain+`=1 "$PROGRAM" "$@"; }`+"\n"+script)
	program, err := filepath.Abs(os.Args[0])
	require.NoError(t, err)
	bash.Dir, bash.Env = folder, c.with("PROGRAM", program).environ
	out, err := bash.CombinedOutput()
	require.NoError(t, err, "%s", out)
	c.noSecrets([]string{"first steps"}, result{out: string(out)})
	asApp(t, filepath.Join(folder, b.name+".url"), statements...)

	worker := c.start("worker", "--reports", t.TempDir())
	uid := enqueued(t, c.ok("job", "enqueue", "headgate.sql", "--tenant", b.name, "-o", "json",
		"--args", `{"sql": "INSERT INTO greetings (org_id, text) VALUES (1, 'Welcome')"}`))
	pool, err := pgxpool.New(context.Background(), central)
	require.NoError(t, err)
	defer pool.Close()
	awaitEnd(t, pool, uid)
	require.Equal(t, "1", ask(t, b.name, `SELECT count(*) FROM greetings`))
	require.Equal(t, cli.ExitOK, worker.end())
}
