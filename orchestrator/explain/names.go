package explain

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

// Noun is what a name is the name of.
type Noun string

// The nouns that NamesByPrefix knows.
const (
	NounTenant    Noun = "tenant"
	NounDatabase  Noun = "database"
	NounServer    Noun = "server"
	NounSchedule  Noun = "schedule"
	NounTemplate  Noun = "template"
	NounKind      Noun = "kind"
	NounQueue     Noun = "queue"
	NounPlan      Noun = "plan"
	NounFeature   Noun = "feature"
	NounRegion    Noun = "region"
	NounCalendar  Noun = "calendar"
	NounBlackout  Noun = "blackout"
	NounWindow    Noun = "maintenance-window"
	NounAuthority Noun = "ca"
)

// The names that are $1 or more and less than $2, byte by byte as text_pattern_ops compares
// them: so the indexes serve in every collation. No names of tenants that were removed.
const (
	namesOfTenantsSQL   = `SELECT slug FROM headgate.tenants WHERE slug ~>=~ $1 AND slug ~<~ $2 AND status <> 'removed' ORDER BY slug USING ~<~ LIMIT $3`
	namesOfDatabasesSQL = `SELECT name FROM headgate.databases WHERE name ~>=~ $1 AND name ~<~ $2 ORDER BY name USING ~<~ LIMIT $3`
	namesOfServersSQL   = `SELECT name FROM headgate.servers WHERE name ~>=~ $1 AND name ~<~ $2 ORDER BY name USING ~<~ LIMIT $3`
	namesOfTemplatesSQL = `SELECT name FROM headgate.fleets WHERE name ~>=~ $1 AND name ~<~ $2 ORDER BY name USING ~<~ LIMIT $3`
	namesOfPlansSQL     = `SELECT name FROM headgate.plans WHERE name ~>=~ $1 AND name ~<~ $2 AND name <> '' ORDER BY name USING ~<~ LIMIT $3`
	namesOfFeaturesSQL  = `SELECT name FROM headgate.features WHERE name ~>=~ $1 AND name ~<~ $2 ORDER BY name USING ~<~ LIMIT $3`
	namesOfRegionsSQL   = `SELECT name FROM headgate.regions WHERE name ~>=~ $1 AND name ~<~ $2 ORDER BY name USING ~<~ LIMIT $3`
	namesOfCalendarsSQL = `SELECT name FROM headgate.calendars WHERE name ~>=~ $1 AND name ~<~ $2 ORDER BY name USING ~<~ LIMIT $3`
	namesOfBlackoutsSQL = `SELECT name FROM headgate.closures WHERE name ~>=~ $1 AND name ~<~ $2 AND kind = 'blackout' ORDER BY name USING ~<~ LIMIT $3`
	namesOfWindowsSQL   = `SELECT name FROM headgate.closures WHERE name ~>=~ $1 AND name ~<~ $2 AND kind = 'maintenance' ORDER BY name USING ~<~ LIMIT $3`
	namesOfCAsSQL       = `SELECT name FROM headgate.certificate_authorities WHERE name ~>=~ $1 AND name ~<~ $2 ORDER BY name USING ~<~ LIMIT $3`

	// Kinds and queues as far as workers and work have made them known; these tables are
	// short.
	namesOfKindsSQL = `
SELECT name FROM (SELECT unnest(kinds) AS name FROM headgate.workers UNION SELECT kind FROM headgate.lane_groups UNION SELECT kind FROM headgate.kinds) k
WHERE name ~>=~ $1 AND name ~<~ $2 ORDER BY name USING ~<~ LIMIT $3`
	namesOfQueuesSQL = `
SELECT name FROM (SELECT unnest(queues) AS name FROM headgate.workers UNION SELECT queue FROM headgate.lane_clocks) q
WHERE name ~>=~ $1 AND name ~<~ $2 ORDER BY name USING ~<~ LIMIT $3`

	// Many tenants have a schedule of one name: each step goes by the index to the next name.
	namesOfSchedulesSQL = `
WITH RECURSIVE walk (name) AS (
    (SELECT name FROM headgate.schedules WHERE name ~>=~ $1 AND name ~<~ $2 ORDER BY name USING ~<~ LIMIT 1)
    UNION ALL
    SELECT (SELECT s.name FROM headgate.schedules s WHERE s.name ~>~ walk.name AND s.name ~<~ $2 ORDER BY s.name USING ~<~ LIMIT 1)
    FROM walk WHERE walk.name IS NOT NULL
)
SELECT name FROM walk WHERE name IS NOT NULL LIMIT $3`
)

var namesSQL = map[Noun]string{
	NounTenant: namesOfTenantsSQL, NounDatabase: namesOfDatabasesSQL, NounServer: namesOfServersSQL, NounSchedule: namesOfSchedulesSQL,
	NounTemplate: namesOfTemplatesSQL, NounKind: namesOfKindsSQL, NounQueue: namesOfQueuesSQL, NounPlan: namesOfPlansSQL,
	NounFeature: namesOfFeaturesSQL, NounRegion: namesOfRegionsSQL, NounCalendar: namesOfCalendarsSQL, NounBlackout: namesOfBlackoutsSQL,
	NounWindow: namesOfWindowsSQL, NounAuthority: namesOfCAsSQL,
}

// querier is a connection, a transaction or a pool.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// NamesByPrefix returns the names of a noun that begin with prefix, in the order of their
// bytes, at most so many. It walks an index, so that it costs what it returns. An unknown
// noun is a *jobs.InputError.
func NamesByPrefix(ctx context.Context, db querier, of Noun, prefix string, most int) ([]string, error) {
	sql, ok := namesSQL[of]
	if !ok {
		return nil, jobs.Inputf("noun", string(of), "give one of the constants of package explain")
	}
	if !utf8.ValidString(prefix) || strings.ContainsRune(prefix, 0) {
		return nil, nil // no name has that
	}
	rows, _ := db.Query(ctx, sql, prefix, prefix+string(utf8.MaxRune), most) // its error is CollectRows' too
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("listing the names of %ss: %w", of, err)
	}
	return names, nil
}
