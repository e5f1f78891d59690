package main

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
)

// writers says for each table, of the central database and of tenants' databases, which
// room writes it. The SQL of migrations (triggers, functions) is not counted.
var writers = map[string][]string{
	"tenants":                 {"orchestrator/catalog"},
	"tenant_domains":          {"orchestrator/catalog"},
	"tenant_emails":           {"orchestrator/catalog"},
	"domain_claims":           {"orchestrator/catalog"},
	"erasures":                {"orchestrator/internal/queue"}, // and headgate.end_erasure
	"audit":                   {},                              // triggers, and headgate.audit_event
	"plans":                   {"orchestrator/catalog"},
	"features":                {"orchestrator/catalog"},
	"feature_gates":           {"orchestrator/catalog"},
	"brands":                  {"orchestrator/catalog"},
	"regions":                 {"orchestrator/catalog"},
	"databases":               {"orchestrator/catalog"},
	"servers":                 {"orchestrator/catalog"},
	"database_intents":        {"orchestrator/catalog"},
	"org_ids":                 {"orchestrator/catalog"},
	"keys":                    {"orchestrator/catalog"},                  // and headgate.check_seals, for who seals
	"centre":                  {"worker/centre", "orchestrator/catalog"}, // the first worker; the operator's command
	"centre_tokens":           {"worker/centre"},
	"adoptions":               {"orchestrator/catalog", "worker/centre"}, // decided by an operator, carried out and forgotten by a worker
	"tenant_limits":           {"orchestrator/admission"},
	"plan_limits":             {"orchestrator/admission"},
	"kind_limits":             {"orchestrator/admission"},
	"queue_limits":            {"orchestrator/admission"},
	"pauses":                  {"orchestrator/admission"},
	"idempotency_keys":        {"orchestrator/internal/queue"},
	"schedules":               {"orchestrator/schedule"},
	"selector_changes":        {"orchestrator/schedule"},
	"selector_scopes":         {"orchestrator/schedule"},
	"occurrences":             {"orchestrator/schedule"},
	"durations":               {"orchestrator/retention"},
	"calendars":               {"orchestrator/schedule"},
	"closures":                {"orchestrator/schedule"},
	"fleets":                  {"orchestrator/schedule"},
	"fleet_overrides":         {"orchestrator/schedule"},
	"outcomes":                {"worker/claim", "orchestrator/internal/queue"}, // attempts; jobs that were cancelled before they ran
	"job_logs":                {"worker/claim"},
	"lanes":                   {"worker/claim"},
	"lane_groups":             {"worker/claim"},
	"lane_clocks":             {"worker/claim"},
	"lane_rates":              {"worker/claim"},
	"wakeups":                 {"worker/claim"},
	"unserved_queues":         {"worker/claim"},
	"hands":                   {"worker/claim"},
	"workers":                 {"worker/claim"},
	"suspects":                {"worker/claim", "orchestrator/internal/queue"}, // a retry lets a job out of quarantine
	"breakers":                {"worker/claim", "orchestrator/catalog"},        // a changed address is tried at once
	"rewrites":                {"worker/claim"},
	"migrations":              {"migrations"},
	"identity":                {"migrations", "jobs/jobstest/testbed"}, // a clone gets its own
	"protected":               {"worker/tenantdb/protection"},          // the owner's declarations
	"queue":                   {},
	"ledger":                  {"migrations"},                                  // functions; and the copy of a capacity test is emptied
	"fence":                   {"migrations"},                                  // the same
	"river_job":               {"worker/claim", "orchestrator/internal/queue"}, // attempts; requests
	"river_leader":            {"worker/claim"},
	"certificate_authorities": {"orchestrator/catalog"},
	"signing_key":             {"migrations"},
	"kinds":                   {"worker/kinds"},
	"enqueue_grants":          {"orchestrator/admission"},
	"roles":                   {"migrations"},
}

// cleaners delete what has no use any more, of any table. Furnishers make what benchmarks
// and tests stand on.
var (
	cleaners   = []string{"orchestrator/retention"}
	furnishers = []string{"jobs/jobstest", "orchestrator/internal/roomtest", "cmd/bench"}
)

// tableWrite is a statement, somewhere in a room, that changes a table.
type tableWrite struct {
	room, file, table string
	deletes           bool
}

var writing = regexp.MustCompile(`\b(INSERT INTO|UPDATE|DELETE FROM|TRUNCATE(?: TABLE)?|MERGE INTO)\s+(?:ONLY\s+)?(?:(headgate)\.([a-z_]+)|(river_[a-z_]+))`)

// TestTablesHaveOneWriter keeps the second wall of the house: who may write what.
func TestTablesHaveOneWriter(t *testing.T) {
	t.Parallel()
	for _, wrong := range checkWrites(writesOf(t), writers) {
		t.Error(wrong)
	}
}

// TestTablesHaveOneWriterControl plants wrong writes.
func TestTablesHaveOneWriterControl(t *testing.T) {
	t.Parallel()
	for _, planted := range []struct {
		sql, room, says string
	}{
		{`UPDATE headgate.lanes SET active = true`, "orchestrator/catalog", "orchestrator/catalog writes lanes in planted.go, which is worker/claim's"},
		{"WITH x AS (\n    INSERT INTO headgate.tenants DEFAULT VALUES\n) SELECT", "worker", "worker writes tenants"},
		{`DELETE FROM headgate.workers`, "orchestrator/catalog", "orchestrator/catalog writes workers"},
		{`DELETE FROM river_job`, "jobs/report", "jobs/report writes river_job"},
		{`INSERT INTO headgate.ledger DEFAULT VALUES`, "worker", "worker writes ledger in planted.go, which is migrations's"},
		{`DELETE FROM headgate.workers`, "orchestrator", "orchestrator writes workers in planted.go, which is worker/claim's"},
		{`UPDATE headgate.pauses SET note = ''`, "orchestrator/retention", "orchestrator/retention writes pauses"},
		{`UPDATE headgate.tenants SET name = ''`, "jobs/jobstest/testbed", "jobs/jobstest/testbed writes tenants"},
		{`TRUNCATE headgate.brand_new`, "worker/claim", "brand_new is new: write its room into the table of cmd/headgate/tables_test.go"},
	} {
		found := writesIn(planted.room, "planted.go", planted.sql)
		require.Len(t, found, 1, planted.sql)
		require.Contains(t, strings.Join(checkWrites(found, writers), "\n"), planted.says)
	}
	for room, sql := range map[string]string{
		"worker/claim":           `SELECT * FROM headgate.lanes FOR UPDATE`,
		"orchestrator/retention": `DELETE FROM headgate.workers`,
		"jobs/jobstest":          `INSERT INTO headgate.identity VALUES ('x')`,
	} {
		require.Empty(t, checkWrites(writesIn(room, "planted.go", sql), writers), sql)
	}
}

// TestEveryTableHasItsWriter holds the list against the tables that there are.
func TestEveryTableHasItsWriter(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	known := map[string]bool{}
	for _, pool := range []*pgxpool.Pool{env.Pool, env.Database("acme", jobstest.DatabaseOpts{}).Pool} {
		rows, err := pool.Query(context.Background(), `
SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition AND (relnamespace = 'headgate'::regnamespace OR relname ~ '^river_(job|leader)$')`)
		require.NoError(t, err)
		names, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		for _, name := range names {
			known[name] = true
		}
	}
	require.Equal(t, slices.Sorted(maps.Keys(known)), slices.Sorted(maps.Keys(writers)))
}

// writesOf finds the writes in the string literals of all rooms.
func writesOf(t *testing.T) (all []tableWrite) {
	t.Helper()
	for _, r := range listRooms(t) {
		files, err := filepath.Glob(filepath.Join("..", "..", r.path(), "*.go"))
		require.NoError(t, err)
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			source, err := os.ReadFile(file)
			require.NoError(t, err)
			tree, err := parser.ParseFile(token.NewFileSet(), file, source, 0)
			require.NoError(t, err)
			ast.Inspect(tree, func(node ast.Node) bool {
				if literal, ok := node.(*ast.BasicLit); ok && literal.Kind == token.STRING {
					text, err := strconv.Unquote(literal.Value)
					require.NoError(t, err)
					all = append(all, writesIn(r.path(), filepath.Base(file), text)...)
				}
				return true
			})
		}
	}
	require.NotEmpty(t, all)
	return all
}

func writesIn(room, file, sql string) (all []tableWrite) {
	for _, found := range writing.FindAllStringSubmatch(sql, -1) {
		table := found[3]
		if table == "" {
			table = found[4]
		}
		all = append(all, tableWrite{room, file, table, found[1] == "DELETE FROM"})
	}
	return all
}

// checkWrites returns a sentence for each write that is not its room's.
func checkWrites(all []tableWrite, writers map[string][]string) (wrong []string) {
	for _, w := range all {
		rooms, known := writers[strings.TrimSuffix(w.table, "_default")]
		switch {
		case slices.Contains(furnishers, w.room), slices.Contains(rooms, w.room), w.deletes && slices.Contains(cleaners, w.room):
		case !known:
			wrong = append(wrong, fmt.Sprintf("%s is new: write its room into the table of cmd/headgate/tables_test.go", w.table))
		case len(rooms) == 0:
			wrong = append(wrong, fmt.Sprintf("%s writes %s in %s, which only functions of migrations write", w.room, w.table, w.file))
		default:
			wrong = append(wrong, fmt.Sprintf("%s writes %s in %s, which is %s's", w.room, w.table, w.file, strings.Join(rooms, "'s and ")))
		}
	}
	return wrong
}
