package admission

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/internal/fit"
)

// Subject is what a limit or a pause is about.
type Subject string

// Limits are of tenants, plans, kinds and queues; pauses of tenants, kinds, queues
// and servers. A server's limit is its budget in the catalog.
const (
	OfTenant Subject = "tenant"
	OfPlan   Subject = "plan"
	OfKind   Subject = "kind"
	OfQueue  Subject = "queue"
	OfServer Subject = "server"
)

// LimitSubjects and PauseSubjects are the words that each takes.
var (
	LimitSubjects = []Subject{OfTenant, OfPlan, OfKind, OfQueue}
	PauseSubjects = []Subject{OfTenant, OfKind, OfQueue, OfServer}
	nameSubjects  = []Subject{OfTenant, OfPlan, OfKind, OfQueue, OfServer}
)

// among refuses a word that is none of these.
func (s Subject) among(allowed []Subject) error {
	if slices.Contains(allowed, s) {
		return nil
	}
	return jobs.Inputf("scope", string(s), "give one of %s", listOf(allowed))
}

// target is what a scope's name stands for: key is what the rows have, name what
// people read.
type target struct{ key, name string }

const serverKeySQL = `SELECT id::text, name FROM headgate.servers WHERE name = $1 OR id::text = $1`

// find looks a name up where there is a list to look it up in, and else checks
// its form. Errors match jobs.ErrUnknownTenant or catalog.ErrUnknownServer.
func (c *Control) find(ctx context.Context, tx pgx.Tx, subject Subject, allowed []Subject, name string) (t target, err error) {
	if err := subject.among(allowed); err != nil {
		return t, err
	}
	if name == "" {
		return t, jobs.Inputf(string(subject), "", "the name is empty: give one")
	}
	switch subject {
	case OfTenant:
		found, err := c.catalog.TenantsByNameTx(ctx, tx, []string{name})
		return target{found[name].ID, found[name].Slug}, err
	case OfServer:
		err := tx.QueryRow(ctx, serverKeySQL, name).Scan(&t.key, &t.name)
		if errors.Is(err, pgx.ErrNoRows) {
			err = fmt.Errorf("%w %q", catalog.ErrUnknownServer, fit.Cut(name))
		}
		return t, err
	case OfKind:
		err = jobs.CheckKind(name)
	case OfQueue:
		err = jobs.CheckQueue(name)
	case OfPlan:
		err = catalog.CheckPlan(string(subject), name)
	}
	return target{name, name}, err
}

// findHeld is find for who writes: a tenant is not removed before tx ends.
func (c *Control) findHeld(ctx context.Context, tx pgx.Tx, subject Subject, allowed []Subject, name string) (target, error) {
	t, err := c.find(ctx, tx, subject, allowed, name)
	if err == nil && subject == OfTenant {
		err = c.catalog.HoldTenantsTx(ctx, tx, t.key)
	}
	return t, err
}

func listOf(subjects []Subject) (text string) {
	for i, s := range subjects {
		if i > 0 {
			text += ", "
		}
		text += string(s)
	}
	return text
}

// namesSQL are the names in use, of each scope: of kinds and queues those that a
// worker has had within the last days, or that have had work.
const namesSQL = `
SELECT name FROM (
    SELECT slug AS name FROM headgate.tenants WHERE $1 = 'tenant'
    UNION SELECT name FROM headgate.plans WHERE $1 = 'plan' AND name <> ''
    UNION SELECT unnest(kinds) FROM headgate.workers WHERE $1 = 'kind'
    UNION SELECT kind FROM headgate.lane_groups WHERE $1 = 'kind'
    UNION SELECT unnest(queues) FROM headgate.workers WHERE $1 = 'queue'
    UNION SELECT queue FROM headgate.lane_clocks WHERE $1 = 'queue'
    UNION SELECT name FROM headgate.servers WHERE $1 = 'server'
) n
WHERE name > $2
ORDER BY name
LIMIT $3`

// Names returns the names of a scope that are in use, for those who look for one:
// tenants, plans and servers by the catalog; kinds and queues as far as workers
// and work have made them known. A page has 1,000 unless it says otherwise, at most 10,000.
func (c *Control) Names(ctx context.Context, subject Subject, page jobs.Page) (names []string, next string, err error) {
	if err := subject.among(nameSubjects); err != nil {
		return nil, "", fmt.Errorf("listing names: %w", err)
	}
	limit, err := page.Size(1000, 10_000)
	if err != nil {
		return nil, "", fmt.Errorf("listing the names of %ss: %w", subject, err)
	}
	rows, _ := c.pool.Query(ctx, namesSQL, string(subject), page.After, limit+1) // its error is CollectRows' too
	if names, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
		return nil, "", fmt.Errorf("listing the names of %ss: %w", subject, err)
	}
	names, next = jobs.CutPage(names, limit, func(name string) string { return name })
	return names, next, nil
}
