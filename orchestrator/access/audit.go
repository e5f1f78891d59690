package access

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/jobs"
)

// Entry is the record of one row that was added, changed or removed.
type Entry struct {
	ID        int64     `json:"id"`
	At        time.Time `json:"at"`
	Operation string    `json:"operation"`        // a UUID, the same in all entries of a transaction
	Object    string    `json:"object"`           // tenant, domain, schedule, …
	Action    string    `json:"action"`           // add, change or remove
	Key       string    `json:"key"`              // the row's primary key; the parts of a longer one with / between them
	Name      string    `json:"name"`             // as people know it
	Tenant    string    `json:"tenant,omitempty"` // the slug of whose it is
	TenantID  string    `json:"tenant_id,omitempty"`
	Login     string    `json:"login"`
	Actor     string    `json:"actor"`
	Surface   string    `json:"surface"`
	Reason    string    `json:"reason"`
	Changes   Changes   `json:"changes"`
}

// Change is a field that was added, changed or removed: nil is what is not there. Sealed
// values stand as a token that tells two of them apart.
type Change struct {
	Field  string          `json:"field"`
	Before json.RawMessage `json:"before"`
	After  json.RawMessage `json:"after"`
}

// Changes are those of one entry. What no program writes is one change, of field "unreadable",
// so that one bad row hides no other.
type Changes []Change

// UnmarshalJSON reads an array of changes, and does not fail.
func (c *Changes) UnmarshalJSON(text []byte) error {
	var read []Change
	if err := json.Unmarshal(text, &read); err != nil {
		read = []Change{{Field: "unreadable", Before: json.RawMessage("null"), After: bytes.Clone(text)}}
	}
	*c = read
	return nil
}

// Objects are what entries are about, in the order of the alphabet.
var Objects = []string{
	"adoption", "brand", "calendar", "certificate authority", "closure", "database", "database intent", "domain", "domain claim",
	"email domain", "enqueue grant", "erasure", "feature", "feature gate", "key", "kind limit", "pause", "plan", "plan limit",
	"queue limit", "region", "schedule", "server", "template", "template override", "tenant", "tenant limit",
}

// AuditFilter says which entries to list. The zero value lists the latest 50.
type AuditFilter struct {
	TenantID  string    // UUID; "" is any
	Object    string    // one of Objects; "" is any
	Key       string    // the row's; with Object
	Operation string    // UUID; "" is any
	Actor     string    // or login; "" is any
	Since     time.Time // zero is any
	Until     time.Time // exclusive, later than Since; zero is any

	jobs.Page // Limit is 50, at most 10,000
}

const (
	defaultEntries = 50
	mostEntries    = 10_000
)

// The index of an entry's row, tenant or operation is walked backwards; without one of the
// three, the primary key.
const auditSQL = `
SELECT a.id, a.at, a.operation::text, a.object, a.action, a.key, a.name, coalesce(t.slug, ''), coalesce(a.tenant_id::text, ''),
       a.login, a.actor, a.surface, a.reason, a.changes
FROM headgate.audit a
LEFT JOIN headgate.tenants t ON t.id = a.tenant_id
WHERE a.id < $1
  AND ($2::uuid IS NULL OR a.tenant_id = $2)
  AND ($3 = '' OR a.object = $3)
  AND ($4 = '' OR a.key = $4)
  AND ($5::uuid IS NULL OR a.operation = $5)
  AND ($6 = '' OR a.actor = $6 OR a.login = $6)
  AND ($7::timestamptz IS NULL OR a.at >= $7)
  AND ($8::timestamptz IS NULL OR a.at < $8)
ORDER BY a.id DESC
LIMIT $9`

// Audit returns entries, the latest first, and the After of the next page ("" if nothing
// follows). The error is a *jobs.InputError where the filter is wrong.
func Audit(ctx context.Context, pool *pgxpool.Pool, filter AuditFilter) (entries []Entry, next string, err error) {
	limit, err := filter.Size(defaultEntries, mostEntries)
	if err != nil {
		return nil, "", fmt.Errorf("list the audit: %w", err)
	}
	if err := filter.fits(); err != nil {
		return nil, "", fmt.Errorf("list the audit: %w", err)
	}
	behind := int64(math.MaxInt64)
	if filter.After != "" {
		if behind, err = strconv.ParseInt(filter.After, 36, 64); err != nil {
			return nil, "", fmt.Errorf("list the audit: %w", filter.Unknown())
		}
	}
	tenant, err := optionalUUID("tenant", filter.TenantID)
	if err != nil {
		return nil, "", fmt.Errorf("list the audit: %w", err)
	}
	operation, err := optionalUUID("operation", filter.Operation)
	if err != nil {
		return nil, "", fmt.Errorf("list the audit: %w", err)
	}
	// The planner sees which index serves, because the values stand in the statement's plan.
	rows, _ := pool.Query(ctx, auditSQL, pgx.QueryExecModeExec, behind, tenant, filter.Object, filter.Key, operation, filter.Actor,
		optionalTime(filter.Since), optionalTime(filter.Until), limit+1) // its error is CollectRows' too
	entries, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Entry])
	if err != nil {
		return nil, "", fmt.Errorf("list the audit: %w", err)
	}
	entries, next = jobs.CutPage(entries, limit, func(e Entry) string { return strconv.FormatInt(e.ID, 36) })
	return entries, next, nil
}

// fits refuses what no entry is like.
func (f AuditFilter) fits() error {
	switch {
	case f.Object != "" && !slices.Contains(Objects, f.Object):
		return jobs.Inputf("object", f.Object, "give one of %s", strings.Join(Objects, ", "))
	case !f.Since.IsZero() && !f.Until.IsZero() && !f.Since.Before(f.Until):
		return jobs.Inputf("until", f.Until.UTC().Format(time.RFC3339), "give a time later than since, which is %s", f.Since.UTC().Format(time.RFC3339))
	}
	return nil
}

func optionalUUID(field, text string) (*string, error) {
	if text == "" {
		return nil, nil
	}
	if err := uuid.Validate(text); err != nil {
		return nil, jobs.Inputf(field, text, "give a UUID")
	}
	return &text, nil
}

func optionalTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
