package tenancy

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

const (
	again = 5 * time.Second // after which a job comes again that has met another one
	named = 20              // rows of a sort that are named in the output
)

// New returns the handler of [Organisations], a [jobs.TxHandler] that asks source for the
// tenants of the database that it works in.
//
// Arguments that can never work end the job for good ([jobs.Cancel]). A table or column that
// is not there, and a catalog that does not answer, are errors like any other. A row that
// is refused or locked is none: the output names it.
func New(source Source) jobs.TxHandler[Organisations] {
	return func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Organisations]) error {
		p, err := job.Args.plan()
		if err != nil {
			return jobs.Cancel(fmt.Errorf("organisations: %w", err))
		}
		if err := p.enter(ctx, tx); err != nil {
			return err
		}
		if err := p.look(ctx, tx); err != nil {
			return err
		}
		if err := p.lock(ctx, tx); err != nil {
			return err
		}
		rows, err := p.rows(ctx, tx)
		if err != nil {
			return err
		}
		tenants, err := placed(ctx, tx, source)
		if err != nil {
			return err
		}
		d := p.compare(rows, tenants)
		m, gone := mended{refused: d.refused}, removal{left: d.extra}
		if !p.reportOnly {
			if m, err = p.mend(ctx, tx, d); err != nil {
				return err
			}
		}
		if p.remove && len(d.extra) > 0 {
			if gone, err = p.removeRows(ctx, tx, d.extra, source); err != nil {
				return err
			}
		}
		job.Result.Rows = m.added + m.changed + gone.removed
		job.Result.Output = p.told(d, m, gone, job.Dedicated)
		return nil
	}
}

// told is the output: what was found, line by line, and what was done about it.
func (p *plan) told(d drift, m mended, gone removal, dedicated bool) string {
	table := strings.Join(p.table, ".")
	lines := []string{fmt.Sprintf("%s: the catalog has %s here, the table had %s", table, jobs.Count(d.tenants, "tenant"), jobs.Count(d.rows, "row"))}
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	if n := len(d.missing); n > 0 {
		say("missing %d, added %d: %s", n, m.added, tenantNames(d.missing))
	}
	if n := len(d.changed); n > 0 {
		say("different %d, changed %d: %s", n, m.changed, tenantNames(d.changed))
	}
	if n := len(d.extra); n > 0 {
		say("too many %d, removed %d: %s", n, gone.removed, rowNames(d.extra))
	}
	if len(gone.left) > 0 && gone.why != "" {
		say("left %d of them: %s", len(gone.left), gone.why)
	}
	if m.locked > 0 {
		say("locked by other sessions %d: the next run changes them", m.locked)
	}
	if len(m.refused)+m.untried > 0 {
		say("refused %d: %s", len(m.refused)+m.untried, refusals(m.refused))
	}
	if now := int64(d.rows) + m.added - gone.removed; dedicated && now != 1 {
		say("a dedicated database holds exactly one organisation, and %s has %s", table, jobs.Count(now, "row"))
	}
	if len(lines) == 1 {
		say("no drift")
	}
	return strings.Join(lines, "\n")
}

// list joins the first names of a list.
func list[T any](all []T, name func(T) string) string {
	names := make([]string, 0, named)
	for _, one := range all[:min(len(all), named)] {
		names = append(names, name(one))
	}
	if len(all) > named {
		names = append(names, fmt.Sprintf("and %d more", len(all)-named))
	}
	return strings.Join(names, ", ")
}

func tenantNames(tenants []Organisation) string {
	return list(tenants, func(t Organisation) string { return fmt.Sprintf("%s (org_id %d)", t.Slug, t.OrgID) })
}

func rowNames(rows []row) string {
	return list(rows, func(r row) string {
		if r.null {
			return fmt.Sprintf("a row without id (%.60q)", r.values[1])
		}
		return fmt.Sprintf("%.60s (%.60q)", r.values[0], r.values[1])
	})
}

func refusals(refused []refusal) string {
	return list(refused, func(r refusal) string {
		return fmt.Sprintf("%s (org_id %d): %.200s", r.tenant.Slug, r.tenant.OrgID, r.why)
	})
}
