package catalog

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/central"
	"github.com/headgate/headgate/orchestrator/selector"
)

// Selected says whom a selector selects now.
type Selected struct {
	Count int      // tenants that are selected
	First []Tenant // the first of them by slug, at most 20

	// Gone is how many tenants that are archived or removed the expression fits. Nothing
	// that is stored selects them.
	Gone int

	// Unknown are the names of the expression that no tenant has, in its order.
	Unknown []UnknownName
}

// UnknownName is a value that no tenant has, a label that no tenant has, a feature that
// there is not, or a value of another type than its feature's.
type UnknownName struct {
	selector.Name
	FeatureType string   // boolean, number or string, where the feature is there and the value is of another type
	Known       []string // names of that attribute, at most 1,000, from which the name that was meant can be guessed
}

// firstSelected is how many tenants Selected shows.
const firstSelected = 20

const selectedSQL = `
WITH given AS MATERIALIZED (SELECT jsonb_populate_record(NULL::headgate.selection, $1) AS selection)
SELECT count(*), coalesce((array_agg(x.slug ORDER BY x.slug))[1:$2], '{}') FROM given CROSS JOIN LATERAL headgate.selected(given.selection) x`

const goneSQL = `
SELECT count(*) FROM headgate.tenant_documents d WHERE d.status IN ('archived', 'removed') AND d.document @@ $1::jsonpath`

// unknownNamesSQL finds the names that no tenant has. A label's number may be written in
// many ways, so only its key is looked for.
const unknownNamesSQL = `
SELECT n.attribute, n.key, n.value, n.type, coalesce(f.type, ''),
    CASE n.attribute
        WHEN 'plan' THEN ARRAY(SELECT k.name FROM headgate.plans k WHERE k.name <> '' ORDER BY k.name LIMIT 1000)
        WHEN 'database' THEN ARRAY(SELECT k.name FROM headgate.databases k ORDER BY k.name LIMIT 1000)
        WHEN 'server' THEN ARRAY(SELECT k.name FROM headgate.servers k ORDER BY k.name LIMIT 1000)
        WHEN 'region' THEN ARRAY(SELECT k.name FROM headgate.regions k ORDER BY k.name LIMIT 1000)
        WHEN 'feature' THEN CASE WHEN f.name IS NULL THEN ARRAY(SELECT k.name FROM headgate.features k ORDER BY k.name LIMIT 1000) END
    END
FROM jsonb_array_elements($1) WITH ORDINALITY AS e (whole, place)
CROSS JOIN LATERAL jsonb_to_record(e.whole) AS n (attribute text, key text, value text, type text)
LEFT JOIN headgate.features f ON n.attribute = 'feature' AND f.name = n.key
WHERE CASE n.attribute
    WHEN 'tenant' THEN NOT EXISTS (SELECT FROM headgate.tenants t WHERE t.slug = n.value)
    WHEN 'plan' THEN NOT EXISTS (SELECT FROM headgate.tenants t WHERE t.plan = n.value)
    WHEN 'status' THEN NOT EXISTS (SELECT FROM headgate.tenants t WHERE t.status = n.value)
    WHEN 'timezone' THEN NOT EXISTS (SELECT FROM headgate.tenants t WHERE t.timezone = n.value)
    WHEN 'database' THEN NOT EXISTS (SELECT FROM headgate.databases d JOIN headgate.tenants t ON t.database_id = d.id WHERE d.name = n.value)
    WHEN 'server' THEN NOT EXISTS (SELECT FROM headgate.servers s JOIN headgate.databases d ON d.server_id = s.id JOIN headgate.tenants t ON t.database_id = d.id WHERE s.name = n.value)
    WHEN 'region' THEN n.type <> '' AND NOT EXISTS (SELECT FROM headgate.servers s JOIN headgate.databases d ON d.server_id = s.id JOIN headgate.tenants t ON t.database_id = d.id WHERE s.region = n.value)
    WHEN 'label' THEN NOT EXISTS (SELECT FROM headgate.tenants t WHERE t.labels ? n.key AND (n.type <> 'string' OR t.labels->>n.key = n.value))
    WHEN 'feature' THEN f.type IS DISTINCT FROM coalesce(nullif(n.type, ''), 'boolean')
END
ORDER BY e.place`

// Selected says whom a selector selects now, as everything that is stored would select:
// schedules and grants. It writes nothing.
func (c *Catalog) Selected(ctx context.Context, s selector.Selector) (found Selected, err error) {
	if err := s.Check(); err != nil {
		return found, fmt.Errorf("selecting tenants: %w", jobs.AsInputError("select", err))
	}
	err = central.Read(ctx, c.pool, func(tx pgx.Tx) error {
		found, err = readSelected(ctx, tx, s)
		return err
	})
	if err != nil {
		return Selected{}, fmt.Errorf("selecting tenants: %w", err)
	}
	return found, nil
}

func readSelected(ctx context.Context, tx pgx.Tx, s selector.Selector) (found Selected, err error) {
	var slugs []string
	selection := s.Selection()
	if err := tx.QueryRow(ctx, selectedSQL, selection, firstSelected).Scan(&found.Count, &slugs); err != nil {
		return found, err
	}
	if !s.IsAll() {
		if err := tx.QueryRow(ctx, goneSQL, selection.Path).Scan(&found.Gone); err != nil {
			return found, err
		}
	}
	first, err := tenantsByName(ctx, tx, slugs)
	if err != nil {
		return found, err
	}
	for _, slug := range slugs {
		if t, ok := first[slug]; ok {
			found.First = append(found.First, t)
		}
	}
	found.Unknown, err = unknownNames(ctx, tx, s)
	return found, err
}

func unknownNames(ctx context.Context, tx pgx.Tx, s selector.Selector) ([]UnknownName, error) {
	names := s.Names()
	if len(names) == 0 {
		return nil, nil
	}
	rows, err := tx.Query(ctx, unknownNamesSQL, names)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (n UnknownName, err error) {
		return n, row.Scan(&n.Attribute, &n.Key, &n.Value, &n.Type, &n.FeatureType, &n.Known)
	})
}
