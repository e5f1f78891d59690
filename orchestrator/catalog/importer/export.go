package importer

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/report"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/internal/central"
)

// The formats of files.
const (
	CSV       = "csv"
	JSONLines = "jsonl"
)

// exported is a tenant in the columns that an import reads.
type exported struct {
	Slug         string                     `json:"slug"`
	OrgID        int64                      `json:"org_id"`
	OrgKey       string                     `json:"org_key"`
	Name         string                     `json:"name"`
	Plan         string                     `json:"plan"`
	Timezone     string                     `json:"timezone"`
	Database     string                     `json:"database"`
	Status       catalog.Status             `json:"status"`
	Labels       map[string]string          `json:"labels"`
	Features     map[string]json.RawMessage `json:"features"`
	Domains      []string                   `json:"domains"`
	Subdomains   []string                   `json:"subdomains"`
	EmailDomains []string                   `json:"email_domains"`
}

// Columns are those of an export, in their order.
var Columns = []string{
	"slug", "org_id", "org_key", "name", "plan", "timezone", "database", "status", "labels", "features", "domains", "subdomains", "email_domains",
}

// Export writes all tenants that were not removed, by slug, in CSV or JSON Lines, as of one
// moment, and returns their number. Import finds nothing to change in what Export has
// written. No address is in it.
func (im *Importer) Export(ctx context.Context, w io.Writer, format string) (n int, err error) {
	if format != CSV && format != JSONLines {
		return 0, jobs.Inputf("format", format, "give %s or %s", CSV, JSONLines)
	}
	var s *state
	if err := central.Read(ctx, im.pool, func(tx pgx.Tx) (err error) { s, err = read(ctx, tx); return err }); err != nil {
		return 0, fmt.Errorf("export tenants: %w", err)
	}
	out := bufio.NewWriter(w)
	lines := json.NewEncoder(out)
	lines.SetEscapeHTML(false)
	if format == CSV {
		_, err = out.Write(report.AppendCSV(nil, Columns))
	}
	for _, t := range s.tenants {
		if t.status == removed || err != nil {
			continue
		}
		n++
		if format == CSV {
			_, err = out.Write(report.AppendCSV(nil, s.exported(t).cells()))
		} else {
			err = lines.Encode(s.exported(t))
		}
	}
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		return 0, fmt.Errorf("export tenants: %w", err)
	}
	return n, nil
}

func (s *state) exported(t *tenant) exported {
	e := exported{
		Slug: t.slug, OrgID: t.orgID, OrgKey: t.orgKey, Name: t.name, Plan: t.plan, Timezone: t.timezone, Status: t.status,
		Domains:    append([]string{}, namesOf(t.domains, catalog.DomainCustom)...),
		Subdomains: append([]string{}, namesOf(t.domains, catalog.DomainSubdomain)...), EmailDomains: append([]string{}, namesOf(t.domains, catalog.DomainEmail)...),
	}
	if d := s.databases[t.databaseID]; d != nil {
		e.Database = d.name
	}
	e.Labels, e.Features = t.own()
	return e
}

func (e exported) cells() []string {
	labels, _ := json.Marshal(e.Labels)     // texts always have a form in JSON
	features, _ := json.Marshal(e.Features) // and so have values of a jsonb column
	cells := []string{
		e.Slug, strconv.FormatInt(e.OrgID, 10), e.OrgKey, e.Name, e.Plan, e.Timezone, e.Database, string(e.Status), string(labels), string(features),
		strings.Join(e.Domains, " "), strings.Join(e.Subdomains, " "), strings.Join(e.EmailDomains, " "),
	}
	for i := range cells {
		cells[i] = guard(cells[i])
	}
	return cells
}
