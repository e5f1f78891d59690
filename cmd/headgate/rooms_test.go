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

	// River itself is what `headgate bench` compares with: bench_river.go alone
	// may import it, see TestOnlyBenchKnowsRiver.
	rawRiver = []string{
		"github.com/riverqueue/river", "github.com/riverqueue/river/riverdriver/riverpgxv5", "github.com/riverqueue/river/rivermigrate",
	}
)

// doors says for each package what it may import besides the standard library:
// packages of this module by their path in it, others by their full path. Tests
// may import what they like.
var doors = map[string][]string{
	"cmd/headgate":       slices.Concat(tool, below, rawRiver),
	"cmd/demo":           slices.Concat(tool, below),
	"cmd/example-worker": slices.Concat(tool, below),

	"jobs/jobstest": {
		anyPgx, anyUUID, "github.com/stretchr/testify/...", "go.uber.org/goleak",
		"jobs", "jobs/report", "jobs/maintenance", "migrations",
		"orchestrator", "orchestrator/catalog", "orchestrator/calendar", "orchestrator/localpg",
		"worker", "worker/claim", "worker/tenantdb", "worker/tenantdb/address",
	},

	"orchestrator": {anyPgx, anyRiver, anyUUID, "orchestrator/calendar", "orchestrator/catalog", "orchestrator/internal/central", "orchestrator/internal/fault", "jobs", "jobs/session", "migrations"},
	"worker":       {anyPgx, anyRiver, anyUUID, "worker/claim", "worker/internal/fault", "worker/tenantdb", "worker/tenantdb/address", "jobs", "jobs/guard", "jobs/session", "migrations"},

	"orchestrator/catalog":            {anyPgx, anyUUID, "github.com/maypok86/otter/v2", "golang.org/x/net/idna", "orchestrator/calendar", "orchestrator/internal/central", "orchestrator/internal/fault", "worker/tenantdb/address", "jobs"},
	"orchestrator/catalog/tenanthttp": {"orchestrator/catalog", "jobs"},
	"worker/tenantdb":                 {anyPgx, "worker/tenantdb/address", "jobs", "jobs/session", "migrations"},
	"worker/claim":                    {anyPgx, anyRiver, anyUUID, "worker/internal/fault", "worker/tenantdb", "jobs", "jobs/session"},
	"jobs/report":                     {anyPgx, anyBlob, "jobs"},
	"jobs/sqlscript":                  {anyPgx, "jobs", "jobs/guard"},
	"jobs/guard":                      {anyPgx},
	"jobs/maintenance":                {anyPgx, "jobs"},

	"jobs/session":            {},
	"jobs":                    {"github.com/jackc/pgx/v5"}, // Tx and Conn in the types of handlers, no more
	"worker/tenantdb/address": {},
	"worker/internal/fault":   {},
	"orchestrator/calendar":   {"github.com/robfig/cron/v3"},
	"orchestrator/localpg":    {anyPgx},

	"orchestrator/internal/central": {anyPgx},
	"orchestrator/internal/fault":   {},
	"migrations":                    {anyPgx, anyRiver, "jobs/session"},
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
			if ours && strings.HasPrefix(name, "cmd/") {
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
