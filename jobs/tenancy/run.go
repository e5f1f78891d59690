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
		d, err := p.differs(ctx, tx, source)
		if err != nil {
			return err
		}
		m, gone := mended{refused: d.refused}, removal{left: d.extra}
		if !p.reportOnly {
			if err := p.prepare(ctx, tx); err != nil {
				return err
			}
			if m, err = p.mend(ctx, tx, d); err != nil {
				return err
			}
		}
		if p.remove && len(d.extra) > 0 {
			if gone, err = p.removeRows(ctx, tx, d.extra, source); err != nil {
				return err
			}
		}
		if err := waitFor(ctx, tx, p.wait); err != nil {
			return err
		}
		job.Result.Rows = m.added + m.changed + gone.removed
		job.Result.Output = p.told(d, m, gone, job.Dedicated)
		return nil
	}
}

// differs holds the table against the catalog, and keeps other jobs about the table out until
// the transaction ends.
func (p *plan) differs(ctx context.Context, tx pgx.Tx, source Source) (d drift, err error) {
	if err := p.enter(ctx, tx); err != nil {
		return d, err
	}
	if err := p.look(ctx, tx); err != nil {
		return d, err
	}
	if err := p.lock(ctx, tx); err != nil {
		return d, err
	}
	rows, err := p.rows(ctx, tx)
	if err != nil {
		return d, err
	}
	tenants, err := placed(ctx, tx, source)
	if err != nil {
		return d, err
	}
	return p.compare(rows, tenants), nil
}

// Compare says how a table differs from the catalog, "" if it does not: what is missing, what
// is different, what is too many, with the first 20 of each. It writes nothing, so tx may be
// read only. The error of a table that a job is about at this moment is a [jobs.Snooze].
func Compare(ctx context.Context, tx pgx.Tx, args Organisations, source Source) (says string, err error) {
	p, err := args.plan()
	if err != nil {
		return "", fmt.Errorf("organisations: %w", err)
	}
	d, err := p.differs(ctx, tx, source)
	if err != nil {
		return "", err
	}
	var parts []string
	say := func(n int, what, names string) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d: %s", what, n, names))
		}
	}
	say(len(d.missing), "missing", tenantNames(d.missing))
	say(len(d.changed), "different", changeNames(d.changed))
	say(len(d.extra), "too many", rowNames(d.extra))
	say(len(d.refused), "refused", refusals(d.refused))
	return strings.Join(parts, "; "), nil
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
		say("different %d, changed %d: %s", n, m.changed, changeNames(d.changed))
	}
	if n := len(d.extra); n > 0 {
		say("too many %d, removed %d: %s", n, gone.removed, rowNames(d.extra))
	}
	if len(gone.left) > 0 && gone.why != "" {
		say("left %d of them: %s", len(gone.left), gone.why)
	}
	if n := len(m.locked); n > 0 {
		say("locked by other sessions %d, left for the next run: %s", n, tenantNames(m.locked))
	}
	if len(m.refused) > 0 {
		say("refused %d: %s", len(m.refused), refusals(m.refused))
	}
	if m.untried > 0 {
		say("not tried %d, because %d of a sort had failed before them", m.untried, mostAside)
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

func changeNames(changes []change) string {
	return list(changes, func(c change) string { return tenantNames([]Organisation{c.tenant}) })
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
