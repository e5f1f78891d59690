package admission

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/access"
	"github.com/headgate/headgate/orchestrator/internal/central"
	"github.com/headgate/headgate/orchestrator/internal/fit"
	"github.com/headgate/headgate/orchestrator/selector"
)

// EnqueueGrant lets a role of the central database enqueue kinds for tenants by the function
// headgate.enqueue, which refuses everything else. A login has the grants of all roles whose
// rights it inherits.
type EnqueueGrant struct {
	Role string `json:"role"`

	// Kind is a kind, or the beginning of kinds and a star: mail.*. A star covers neither the
	// built-in kinds, unless headgate. stands before it, nor kinds that work as a database's
	// owner: those are named in full.
	Kind string `json:"kind"`

	Tenants selector.Selector `json:"tenants"` // for whom; at most 2,000 bytes
	By      string            `json:"by"`      // who granted it, at most 200 characters
	At      time.Time         `json:"at"`
}

// ErrNoEnqueueGrant: there is no such grant to take away.
var ErrNoEnqueueGrant = jobs.Sentinel("no_enqueue_grant", "no such grant")

// mostGrants is how many grants a role may have, because each enqueueing reads them.
const mostGrants = 200

var grantKind = regexp.MustCompile(`^([a-zA-Z0-9_][a-zA-Z0-9_\-\[\]<>/.·:+]{0,125})?\*$`)

func (g *EnqueueGrant) check() error {
	if !isText(g.Role, 63) || g.Role == "" {
		return jobs.Inputf("role", g.Role, "give the name of a role of the central database's server")
	}
	if err := jobs.CheckText("by", g.By, maxActor); err != nil {
		return err
	}
	if strings.HasPrefix(g.Kind, "headgate.tombstone") {
		return jobs.Inputf("kind", g.Kind, "Headgate alone enqueues it")
	}
	if strings.HasSuffix(g.Kind, "*") {
		if !grantKind.MatchString(g.Kind) {
			return jobs.Inputf("kind", g.Kind, "give a kind, or the beginning of kinds and a star, as in mail.*")
		}
		return nil
	}
	return jobs.CheckKind(g.Kind)
}

// maxGrantSelector bounds the text of a grant's selector, in bytes: each enqueueing of the
// role evaluates it.
const maxGrantSelector = 2000

// checkTenants refuses a selector that a grant cannot have.
func checkTenants(tenants selector.Selector) error {
	if err := tenants.Check(); err != nil {
		return jobs.AsInputError("tenants", err)
	}
	if n := len(tenants.String()); n > maxGrantSelector {
		return jobs.Inputf("tenants", tenants.String(), "the selector has %d bytes: give at most %d; a label on the tenants makes it shorter", n, maxGrantSelector)
	}
	return nil
}

// roleFactsSQL says whether a role is there, and whether it may call headgate.enqueue.
const roleFactsSQL = `
SELECT has_schema_privilege(r.oid, 'headgate', 'USAGE') AND bool_and(has_function_privilege(r.oid, p.oid, 'EXECUTE')), (SELECT prefix FROM headgate.roles)
FROM pg_roles r, pg_proc p WHERE r.rolname = $1 AND p.proname = 'enqueue' AND p.pronamespace = 'headgate'::regnamespace
GROUP BY r.oid`

const addGrantSQL = `
INSERT INTO headgate.enqueue_grants AS g (role, kind, selector, selection, granted_by)
SELECT $1, $2, $3, jsonb_populate_record(NULL::headgate.selection, $4), $5 WHERE (SELECT count(*) FROM headgate.enqueue_grants WHERE role = $1) < $6
ON CONFLICT (role, kind, selector) DO UPDATE SET selection = excluded.selection, granted_by = excluded.granted_by, granted_at = now()
RETURNING granted_at`

// AddEnqueueGrant lets a role enqueue a kind. Doing it again changes who did it and when. Each
// slug that the selector names must be a tenant's, and stays that tenant's while the grant is
// there. The error matches jobs.ErrUnknownTenant if one is nobody's.
// callable is false while the role may not call the function at all: then hint says what to
// do. The error is a *jobs.InputError where a value is wrong.
func (c *Control) AddEnqueueGrant(ctx context.Context, g EnqueueGrant) (added EnqueueGrant, hint string, err error) {
	err = central.Write(ctx, c.pool, func(tx pgx.Tx) (err error) {
		added, hint, err = c.AddEnqueueGrantTx(ctx, tx, g)
		return err
	})
	return added, hint, err
}

// AddEnqueueGrantTx is AddEnqueueGrant in the caller's transaction. It counts with the commit.
func (c *Control) AddEnqueueGrantTx(ctx context.Context, tx pgx.Tx, g EnqueueGrant) (added EnqueueGrant, hint string, err error) {
	if err := g.check(); err != nil {
		return g, "", fmt.Errorf("grant: %w", err)
	}
	if err := checkTenants(g.Tenants); err != nil {
		return g, "", fmt.Errorf("grant: %w", err)
	}
	if hint, err = c.addGrant(ctx, tx, &g); err != nil {
		return g, "", fmt.Errorf("granting kind %s to role %s: %w", fit.Cut(g.Kind), fit.Cut(g.Role), err)
	}
	return g, hint, nil
}

func (c *Control) addGrant(ctx context.Context, tx pgx.Tx, g *EnqueueGrant) (hint string, err error) {
	var callable bool
	var prefix string
	err = tx.QueryRow(ctx, roleFactsSQL, g.Role).Scan(&callable, &prefix)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", jobs.Inputf("role", g.Role, "the server has no such role: have an administrator run CREATE ROLE … LOGIN PASSWORD … IN ROLE headgate_enqueue first")
	}
	if err != nil {
		return "", err
	}
	if !callable {
		hint = fmt.Sprintf("role %s may not call headgate.enqueue yet: have an administrator run GRANT %s_enqueue TO %s", fit.Cut(g.Role), prefix, pgx.Identifier{g.Role}.Sanitize())
	}
	if err := access.Say(ctx, tx, g.By, ""); err != nil {
		return "", err
	}
	// A slug that is nobody's would be granted to the next customer who has it. The slug of one
	// who gives it up meanwhile is looked for behind the lock.
	if err := c.catalog.HoldSlugsTx(ctx, tx, g.Tenants.Slugs()...); err != nil {
		return "", err
	}
	err = tx.QueryRow(ctx, addGrantSQL, g.Role, g.Kind, g.Tenants.String(), g.Tenants.Selection(), g.By, mostGrants).Scan(&g.At)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", jobs.Inputf("role", g.Role, "it has %d grants already, which is the most: give kinds with a star, or tenants by a selector such as label.KEY = VALUE", mostGrants)
	}
	return hint, err
}

const removeGrantsSQL = `
DELETE FROM headgate.enqueue_grants WHERE role = $1 AND kind = $2 AND ($3::text IS NULL OR selector = $3)`

// RemoveEnqueueGrant takes grants of a kind from a role: those for these tenants, or, if
// tenants is nil, all of them. It counts for the next call of headgate.enqueue; what was
// enqueued stays. The error matches ErrNoEnqueueGrant if there is none.
func (c *Control) RemoveEnqueueGrant(ctx context.Context, role, kind string, tenants *selector.Selector) (removed int, err error) {
	err = central.Write(ctx, c.pool, func(tx pgx.Tx) (err error) {
		removed, err = c.RemoveEnqueueGrantTx(ctx, tx, role, kind, tenants)
		return err
	})
	return removed, err
}

// RemoveEnqueueGrantTx is RemoveEnqueueGrant in the caller's transaction. It counts with the
// commit.
func (c *Control) RemoveEnqueueGrantTx(ctx context.Context, tx pgx.Tx, role, kind string, tenants *selector.Selector) (removed int, err error) {
	var text *string
	if tenants != nil {
		written := tenants.String()
		text = &written
	}
	for field, text := range map[string]string{"role": role, "kind": kind} {
		if !isText(text, maxActor) {
			return 0, fmt.Errorf("remove grant: %w", jobs.Inputf(field, text, "give at most %d characters of valid UTF-8", maxActor))
		}
	}
	tag, err := tx.Exec(ctx, removeGrantsSQL, role, kind, text)
	removed = int(tag.RowsAffected())
	switch {
	case err != nil:
		return 0, fmt.Errorf("taking kind %s from role %s: %w", fit.Cut(kind), fit.Cut(role), err)
	case removed == 0:
		return 0, fmt.Errorf("%w: role %s has none for kind %s", ErrNoEnqueueGrant, fit.Cut(role), fit.Cut(kind))
	}
	return removed, nil
}

const listGrantsSQL = `
SELECT role, kind, selector, granted_by, granted_at FROM headgate.enqueue_grants
WHERE ($1 = '' OR role = $1) AND (role, kind, selector) > ($2, $3, $4)
ORDER BY role, kind, selector LIMIT $5`

// EnqueueGrants returns the grants of a role, "" means of all. A page has 200, or up to
// 10,000; next is the After of the page behind it, or "".
func (c *Control) EnqueueGrants(ctx context.Context, role string, page jobs.Page) (list []EnqueueGrant, next string, err error) {
	size, err := page.Size(defaultPage, maxPage)
	if err != nil {
		return nil, "", fmt.Errorf("listing grants: %w", err)
	}
	var after [3]string
	if page.After != "" && json.Unmarshal([]byte(page.After), &after) != nil {
		return nil, "", fmt.Errorf("listing grants: %w", page.Unknown())
	}
	if !isText(role, maxActor) || !isText(after[0], 63) || !isText(after[1], maxActor) || !isText(after[2], maxGrantSelector) {
		return nil, "", fmt.Errorf("listing grants: %w", page.Unknown())
	}
	rows, _ := c.pool.Query(ctx, listGrantsSQL, role, after[0], after[1], after[2], size+1) // its error is CollectRows' too
	list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (g EnqueueGrant, err error) {
		return g, row.Scan(&g.Role, &g.Kind, &g.Tenants, &g.By, &g.At)
	})
	if err != nil {
		return nil, "", fmt.Errorf("listing grants: %w", err)
	}
	list, next = jobs.CutPage(list, size, placeOfGrant)
	return list, next, nil
}

func placeOfGrant(g EnqueueGrant) string {
	place, _ := json.Marshal([3]string{g.Role, g.Kind, g.Tenants.String()}) // texts only
	return string(place)
}
