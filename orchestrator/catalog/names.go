package catalog

import (
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/calendar"
	"github.com/headgate/headgate/orchestrator/internal/fit"
)

const namePattern = `[a-z][a-z0-9-]{0,62}`

var namePatternWhole = regexp.MustCompile(`^` + namePattern + `$`)

// reserved slugs would take the place of a host of the SaaS itself, or of a
// word in a URL.
var reserved = []string{
	"admin", "api", "app", "assets", "auth", "billing", "cdn", "dashboard", "headgate", "help", "internal",
	"localhost", "login", "mail", "root", "static", "status", "support", "system", "www",
}

// checkName holds the names of servers and databases, and slugs, to one
// pattern. One that reads as a UUID is refused, since a UUID stands for a row
// wherever a name may stand.
func checkName(field, name string) error {
	if !namePatternWhole.MatchString(name) {
		return jobs.Inputf(field, name, "it must match %s", namePattern)
	}
	if _, ok := fit.UUID(name); ok {
		return jobs.Inputf(field, name, "it reads as a UUID; choose a name")
	}
	return nil
}

func checkSlug(slug string) error {
	if slices.Contains(reserved, slug) {
		return jobs.Inputf("slug", slug, "it is reserved (%s); choose another", strings.Join(reserved, ", "))
	}
	return checkName("slug", slug)
}

// CheckPlan says what is wrong with the name of a plan, nil for nothing. The empty name is
// that of the plan of tenants that have none.
func CheckPlan(field, name string) error { return jobs.CheckValue(field, name, maxPlan) }

// newID mints the id of a new row. Ids rise with time, so that an index grows
// at its right edge.
func newID() uuid.UUID { return uuid.Must(uuid.NewV7()) }

// goodZones are the names that were looked at, no more than there are zones: reading a
// zone's rules takes as long as the rest of a tenant's checks.
var goodZones sync.Map

func checkZone(zone string) error {
	if _, good := goodZones.Load(zone); good {
		return nil
	}
	if _, err := calendar.CheckZone(zone); err != nil {
		return jobs.Inputf("timezone", zone, "%v", err)
	}
	goodZones.Store(zone, true)
	return nil
}
