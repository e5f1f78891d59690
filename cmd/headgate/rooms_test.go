package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/headgate/headgate"

// What the doors of several packages have in common. PATH/... is a path and all
// below it; other entries are exact.
var (
	anyPgx   = "github.com/jackc/pgx/v5/..."
	anyRiver = "github.com/riverqueue/river/..."
	anyUUID  = "github.com/google/uuid"
	anyBlob  = "gocloud.dev/..."

	tool = []string{
		"go.yaml.in/yaml/v3",
		anyPgx, anyUUID, anyBlob, "github.com/spf13/cobra", "github.com/spf13/pflag", "github.com/jedib0t/go-pretty/v6/...", "golang.org/x/...",
	}
	below = []string{
		"jobs/...", "migrations", "orchestrator/...", "worker/...",
	}

	// River itself is what cmd/bench compares with: river.go alone may import it, see
	// TestOnlyBenchKnowsRiver.
	rawRiver = []string{
		"github.com/riverqueue/river", "github.com/riverqueue/river/riverdriver/riverpgxv5", "github.com/riverqueue/river/rivermigrate",
	}
)

// doors says for each package what it may import besides the standard library:
// packages of this module by their path in it, others by their full path. Tests
// may import what they like.
var doors = map[string][]string{
	"cmd/headgate": {
		anyPgx, anyBlob, "github.com/spf13/cobra", "golang.org/x/sys/unix",
		"github.com/coreos/go-systemd/v22/daemon", "golang.org/x/crypto/x509roots/fallback", "github.com/prometheus/client_golang/...", "github.com/go-logr/logr", "go.opentelemetry.io/otel/...", "go.opentelemetry.io/contrib/exporters/autoexport", // exporters are here only
		"orchestrator/explain",
		"cmd/internal/cli", "cmd/internal/pages", "cmd/headgate/internal/...", "jobs", "jobs/jobstest/testbed", "jobs/report", "jobs/telemetry", "migrations", "orchestrator", "orchestrator/catalog", "orchestrator/catalog/importer", "orchestrator/localpg", "orchestrator/retention", "orchestrator/schedule", "worker", "worker/health", "worker/tenantdb",
	},
	"cmd/headgate/internal/kinds": {
		anyBlob, "github.com/spf13/cobra",
		"cmd/internal/cli", "jobs", "jobs/wire", "jobs/maintenance", "jobs/report", "jobs/sqlscript", "jobs/tenancy", "jobs/tenantsync", "orchestrator", "orchestrator/access", "orchestrator/catalog", "orchestrator/catalog/importer", "worker", "worker/erasure",
	},
	"cmd/headgate/internal/catalogcmd": {
		anyPgx, anyUUID, "github.com/spf13/cobra",
		"cmd/headgate/internal/capacity", "cmd/headgate/internal/kinds", "cmd/headgate/internal/provision", "cmd/internal/cli", "orchestrator/access", "jobs", "jobs/session", "migrations", "orchestrator", "orchestrator/explain", "orchestrator/catalog", "orchestrator/selector", "orchestrator/catalog/importer", "worker/tenantdb", "worker/tenantdb/address", "worker/tenantdb/protection",
	},
	"cmd/headgate/internal/auditcmd": {"github.com/spf13/cobra", "github.com/spf13/pflag", "cmd/internal/cli", "orchestrator/access"},
	"cmd/headgate/internal/health":   {"cmd/internal/cli", "cmd/internal/conns", "worker/health"},
	"cmd/headgate/internal/keycmd": {
		"github.com/spf13/cobra", "cmd/internal/cli", "jobs", "orchestrator/catalog", "orchestrator/catalog/keyfile", "worker/tenantdb/address",
	},
	"cmd/headgate/internal/capacity": {
		anyPgx, anyUUID, anyBlob, "golang.org/x/sync/errgroup",
		"cmd/headgate/internal/kinds", "cmd/internal/cli", "jobs", "jobs/jobstest/testbed", "jobs/report", "jobs/sqlscript", "migrations", "orchestrator", "orchestrator/catalog", "orchestrator/catalog/importer", "worker", "worker/tenantdb/address",
	},
	"cmd/headgate/internal/provision": {anyPgx, "cmd/internal/cli", "jobs", "migrations", "orchestrator/catalog", "worker/tenantdb/address"},
	"cmd/headgate/internal/workcmd": {
		anyPgx, "github.com/spf13/cobra", "cmd/internal/cli", "cmd/headgate/internal/kinds", "jobs", "orchestrator", "orchestrator/admission", "orchestrator/catalog", "orchestrator/explain", "orchestrator/selector",
	},
	"cmd/headgate/internal/schedulecmd": {
		anyPgx, "go.yaml.in/yaml/v3", "github.com/spf13/cobra", "github.com/spf13/pflag",
		"cmd/internal/cli", "cmd/headgate/internal/kinds", "jobs", "jobs/wire", "orchestrator", "orchestrator/admission", "orchestrator/calendar", "orchestrator/catalog", "orchestrator/schedule", "orchestrator/selector",
	},
	"cmd/headgate/internal/doctor": {
		anyPgx, "github.com/spf13/cobra",
		"cmd/internal/cli", "cmd/headgate/internal/kinds", "jobs", "jobs/wire", "jobs/session", "jobs/tenancy", "migrations", "orchestrator", "orchestrator/explain", "orchestrator/catalog", "worker/centre", "worker/tenantdb", "worker/tenantdb/address", "worker/tenantdb/protection",
	},
	"cmd/bench":          slices.Concat(tool, below, rawRiver, []string{"cmd/internal/cli", "go.opentelemetry.io/otel/...", "go.opentelemetry.io/proto/otlp/...", "google.golang.org/grpc"}),
	"cmd/demo":           slices.Concat(tool, below, []string{"cmd/internal/cli", "cmd/internal/pages"}),
	"cmd/example-worker": slices.Concat(tool, below),
	"cmd/internal/pages": { // River's UI takes River's client: TestOnlyBenchKnowsRiver
		anyPgx, "github.com/riverqueue/river", "github.com/riverqueue/river/riverdriver/riverpgxv5", "riverqueue.com/riverui",
		"cmd/internal/cli", "cmd/internal/conns", "jobs", "jobs/telemetry", "jobs/wire", "migrations", "orchestrator/admission",
	},
	"cmd/internal/conns": {},
	"cmd/internal/cli": {
		"go.opentelemetry.io/otel/metric", "go.opentelemetry.io/otel/trace",
		anyPgx, "github.com/agnivade/levenshtein", "github.com/spf13/cobra", "github.com/spf13/pflag", "github.com/jedib0t/go-pretty/v6/...", "golang.org/x/term",
		"orchestrator/access", "jobs", "jobs/quote", "jobs/report", "jobs/session", "migrations", "orchestrator", "orchestrator/admission", "orchestrator/explain", "orchestrator/catalog", "orchestrator/catalog/importer", "orchestrator/selector", "orchestrator/schedule", "worker/tenantdb", "worker/tenantdb/address", "worker/tenantdb/protection",
	},

	"jobs/jobstest": {
		anyPgx, anyUUID, "github.com/stretchr/testify/...", "go.uber.org/goleak",
		"jobs", "jobs/jobstest/testbed", "jobs/report", "jobs/maintenance",
		"orchestrator", "orchestrator/admission", "orchestrator/catalog", "orchestrator/calendar", "orchestrator/explain", "orchestrator/localpg", "orchestrator/schedule",
		"worker", "worker/claim", "worker/tenantdb", "worker/tenantdb/address",
	},
	"jobs/jobstest/testbed": { // no door to testing: errors are returned
		anyPgx, anyUUID, "jobs", "migrations", "orchestrator/catalog", "orchestrator/localpg", "worker/tenantdb/address",
	},

	"orchestrator": {anyPgx, "go.opentelemetry.io/otel/trace", "jobs/telemetry", "orchestrator/internal/queue", "orchestrator/catalog", "orchestrator/internal/central", "jobs", "jobs/wire"},
	"worker":       {anyPgx, anyRiver, anyUUID, "go.opentelemetry.io/otel/metric", "go.opentelemetry.io/otel/trace", "jobs/lifecycle", "jobs/telemetry", "worker/centre", "worker/claim", "worker/kinds", "worker/internal/fault", "worker/internal/redact", "worker/tenantdb", "worker/tenantdb/address", "jobs", "jobs/wire", "jobs/guard", "jobs/session", "migrations"},

	"orchestrator/admission":          {anyPgx, "orchestrator/access", "orchestrator/catalog", "orchestrator/internal/central", "orchestrator/internal/fit", "orchestrator/selector", "jobs"},
	"orchestrator/explain":            {anyPgx, "orchestrator/admission", "orchestrator/catalog", "orchestrator/internal/central", "orchestrator/internal/queue", "jobs"},
	"orchestrator/retention":          {anyPgx, "orchestrator/access", "jobs", "jobs/lifecycle", "orchestrator/internal/central", "orchestrator/internal/fault", "orchestrator/internal/queue"},
	"orchestrator/schedule":           {anyPgx, "orchestrator/access", anyUUID, "go.opentelemetry.io/otel/metric", "go.opentelemetry.io/otel/trace", "jobs/telemetry", "jobs/lifecycle", "orchestrator/calendar", "orchestrator/catalog", "orchestrator/internal/central", "orchestrator/internal/fault", "orchestrator/internal/fit", "orchestrator/internal/queue", "orchestrator/selector", "jobs", "jobs/wire"},
	"orchestrator/internal/queue":     {anyPgx, anyRiver, anyUUID, "jobs/telemetry", "orchestrator/access", "orchestrator/catalog", "orchestrator/internal/central", "orchestrator/internal/fault", "orchestrator/internal/fit", "orchestrator/selector", "jobs", "jobs/wire", "migrations"},
	"orchestrator/catalog":            {anyPgx, "orchestrator/access", anyUUID, "github.com/maypok86/otter/v2", "golang.org/x/net/idna", "golang.org/x/net/publicsuffix", "go.opentelemetry.io/otel/metric", "jobs/lifecycle", "jobs/telemetry", "orchestrator/calendar", "orchestrator/catalog/keyfile", "orchestrator/internal/fit", "orchestrator/internal/central", "orchestrator/internal/fault", "worker/tenantdb/address", "orchestrator/selector", "jobs", "jobs/quote"},
	"orchestrator/catalog/importer":   {anyPgx, anyUUID, "github.com/agnivade/levenshtein", "jobs", "jobs/quote", "jobs/report", "jobs/wire", "orchestrator/catalog", "orchestrator/internal/central", "orchestrator/internal/fit", "worker/tenantdb/address"},
	"orchestrator/catalog/keyfile":    {"worker/tenantdb/address"},
	"orchestrator/catalog/tenanthttp": {"orchestrator/catalog", "jobs"},
	"worker/tenantdb":                 {anyPgx, "github.com/exaring/otelpgx", "go.opentelemetry.io/otel/...", "jobs/telemetry", "worker/tenantdb/address", "worker/tenantdb/protection", "jobs", "jobs/session", "migrations"},
	"worker/tenantdb/protection":      {anyPgx, "jobs", "jobs/session", "migrations"}, // no pools: it is handed a connection
	"worker/erasure":                  {anyPgx, anyUUID, "jobs", "jobs/relation", "jobs/wire", "jobs/session", "worker/tenantdb/protection"},
	"worker/health":                   {"migrations", "worker"},
	"worker/kinds":                    {anyPgx, "jobs", "jobs/wire"},
	"worker/centre":                   {anyPgx, "jobs/lifecycle", "worker/tenantdb"},
	"worker/claim":                    {anyPgx, anyRiver, anyUUID, "jobs/lifecycle", "worker/internal/fault", "worker/tenantdb", "jobs", "jobs/wire", "jobs/session"},
	"jobs/report":                     {anyPgx, anyBlob, "jobs", "jobs/internal/sqltext", "jobs/telemetry"},
	"jobs/sqlscript":                  {anyPgx, "jobs", "jobs/guard", "jobs/internal/sqltext", "jobs/telemetry"},
	"jobs/guard":                      {anyPgx},
	"jobs/relation":                   {anyPgx},
	"jobs/maintenance":                {anyPgx, "jobs", "jobs/telemetry", "jobs/session"},
	"jobs/tenancy":                    {anyPgx, anyUUID, "jobs", "jobs/relation", "jobs/session"},
	"jobs/tenantsync":                 {anyPgx, "jobs", "jobs/relation", "jobs/wire"},

	"jobs/telemetry":          {"go.opentelemetry.io/otel", "go.opentelemetry.io/otel/attribute", "go.opentelemetry.io/otel/codes", "go.opentelemetry.io/otel/metric", "go.opentelemetry.io/otel/propagation", "go.opentelemetry.io/otel/trace"}, // its API only
	"jobs/internal/sqltext":   {"github.com/jackc/pgx/v5/pgconn"},
	"jobs/session":            {},
	"jobs/wire":               {"jobs"},
	"jobs/quote":              {},                                        // of both halves: what a message repeats
	"jobs":                    {"github.com/jackc/pgx/v5", "jobs/quote"}, // Tx and Conn in the types of handlers, no more
	"worker/tenantdb/address": {},
	"worker/internal/redact":  {"github.com/jackc/pgx/v5/pgconn"},
	"worker/internal/fault":   {"jobs/jobstest/suspend"}, // with the tag faults only
	"orchestrator/calendar":   {"github.com/agnivade/levenshtein", "jobs/quote", "github.com/robfig/cron/v3"},
	"orchestrator/localpg":    {anyPgx},
	"orchestrator/selector":   {"github.com/agnivade/levenshtein", "jobs/quote"}, // pure: no driver

	"jobs/jobstest/suspend":         {},
	"jobs/jobstest/dnstest":         {"golang.org/x/net/dns/dnsmessage"},
	"jobs/jobstest/impostor":        {anyPgx, "github.com/stretchr/testify/require"},
	"jobs/jobstest/tlstest":         {anyPgx, "github.com/stretchr/testify/require"},
	"jobs/lifecycle":                {}, // of both halves, which meet in nothing else than leaves
	"orchestrator/access":           {anyPgx, anyUUID, "jobs"},
	"orchestrator/internal/central": {anyPgx, "jobs", "jobs/wire", "orchestrator/access"},
	"orchestrator/internal/fault":   {"jobs/jobstest/suspend"},
	"orchestrator/internal/fit":     {anyUUID, "jobs/quote"},
	"orchestrator/internal/roomtest": {
		anyPgx, anyUUID, "github.com/stretchr/testify/require", "orchestrator", "orchestrator/retention", "orchestrator/schedule", "jobs", "jobs/jobstest",
	},
	"migrations": {anyPgx, anyRiver, "jobs", "jobs/session", "worker/tenantdb/address"},
}

// apart are packages that may not reach each other by any way.
var apart = [][2]string{{"worker", "orchestrator"}, {"orchestrator", "worker"}}

// room is a package as `go list` knows it.
type room struct {
	ImportPath string
	Imports    []string // of its non-test files
}

func (r room) path() string { return strings.TrimPrefix(r.ImportPath, module+"/") }

// TestRooms keeps the walls of the house: who may import whom.
func TestRooms(t *testing.T) {
	t.Parallel()
	for _, wrong := range checkRooms(listRooms(t), doors) {
		t.Error(wrong)
	}
}

func listRooms(t *testing.T) (rooms []room) {
	t.Helper()
	var stderr bytes.Buffer
	list := exec.Command("go", "list", "-e", "-json=ImportPath,Imports", module+"/...")
	list.Stderr = &stderr
	out, err := list.Output()
	require.NoError(t, err, stderr.String())
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var r room
		if err := decoder.Decode(&r); errors.Is(err, io.EOF) {
			break
		} else {
			require.NoError(t, err)
		}
		rooms = append(rooms, r)
	}
	require.NotEmpty(t, rooms)
	return rooms
}

// checkRooms returns a sentence for each import that no door allows.
func checkRooms(rooms []room, doors map[string][]string) (wrong []string) {
	imports := map[string][]string{} // within the module, by path in it
	for _, r := range rooms {
		allowed, known := doors[r.path()]
		if !known {
			wrong = append(wrong, fmt.Sprintf("%s is new: write its doors, what it may import, into the table of cmd/headgate/rooms_test.go", r.path()))
			continue
		}
		for _, imported := range r.Imports {
			name, ours := strings.CutPrefix(imported, module+"/")
			if ours {
				imports[r.path()] = append(imports[r.path()], name)
			}
			if !isStandard(imported) && !slices.ContainsFunc(allowed, func(door string) bool { return fits(name, door) }) {
				wrong = append(wrong, fmt.Sprintf("%s imports %s, and has no door there", r.path(), name))
			}
			if ours && strings.HasPrefix(name, "cmd/") && !strings.Contains(name, "/internal/") {
				wrong = append(wrong, fmt.Sprintf("%s imports %s: nobody imports a command", r.path(), name))
			}
		}
	}
	for _, pair := range apart {
		if way := reach(imports, pair[0], pair[1], nil); way != nil {
			wrong = append(wrong, fmt.Sprintf("the two halves touch: %s", strings.Join(way, " imports ")))
		}
	}
	return wrong
}

func isStandard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

func fits(path, door string) bool {
	prefix, tree := strings.CutSuffix(door, "/...")
	return path == prefix || tree && strings.HasPrefix(path, prefix+"/")
}

// reach returns the way from one package to another, or nil.
func reach(imports map[string][]string, from, to string, way []string) []string {
	if slices.Contains(way, from) {
		return nil
	}
	way = append(slices.Clone(way), from)
	if from == to {
		return way
	}
	for _, next := range imports[from] {
		if found := reach(imports, next, to, way); found != nil {
			return found
		}
	}
	return nil
}

// TestRoomsControl plants wrong imports: a check that passes everything would be
// worth nothing.
func TestRoomsControl(t *testing.T) {
	t.Parallel()
	house := listRooms(t)
	for _, planted := range []struct{ in, imported, says string }{
		{"jobs", "github.com/riverqueue/river", "jobs imports github.com/riverqueue/river, and has no door there"},
		{"jobs", "github.com/jackc/pgx/v5/pgxpool", "jobs imports github.com/jackc/pgx/v5/pgxpool, and has no door there"},
		{"worker", module + "/orchestrator", "the two halves touch: worker imports orchestrator"},
		{"worker/claim", module + "/orchestrator", "the two halves touch: worker imports worker/claim imports orchestrator"},
		{"jobs", module + "/worker", "the two halves touch: orchestrator imports jobs imports worker"},
		{"orchestrator", module + "/cmd/headgate", "nobody imports a command"},
		{"orchestrator", module + "/cmd/internal/cli", "orchestrator imports cmd/internal/cli, and has no door there"},
		{"cmd/headgate", "github.com/riverqueue/river", "has no door there"},
		{"cmd/headgate/internal/workcmd", module + "/cmd/headgate/internal/schedulecmd", "has no door there"},
		{"orchestrator/admission", module + "/orchestrator", "orchestrator/admission imports orchestrator, and has no door there"},
		{"orchestrator/schedule", module + "/orchestrator", "orchestrator/schedule imports orchestrator, and has no door there"},
		{"orchestrator/schedule", module + "/orchestrator/explain", "orchestrator/schedule imports orchestrator/explain, and has no door there"},
		{"worker/tenantdb/address", "golang.org/x/net/idna", "has no door there"},
		{"jobs/brandnew", "strings", "jobs/brandnew is new: write its doors"},
	} {
		t.Run(planted.in+" "+planted.imported, func(t *testing.T) {
			t.Parallel()
			rooms := slices.Clone(house)
			require.Empty(t, checkRooms(rooms, doors))
			there := slices.IndexFunc(rooms, func(r room) bool { return r.path() == planted.in })
			if there < 0 {
				rooms = append(rooms, room{ImportPath: module + "/" + planted.in})
				there = len(rooms) - 1
			}
			rooms[there].Imports = append(slices.Clone(rooms[there].Imports), planted.imported)
			require.Contains(t, strings.Join(checkRooms(rooms, doors), "\n"), planted.says)
		})
	}
}
