package protection

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Declaration is what somebody has declared about a table, a view or a function.
type Declaration struct {
	Object     string    `json:"object"` // schema.name; a function's with its argument types
	Mode       string    `json:"mode"`   // policy, through, view, public, copy, function
	OrgColumn  string    `json:"org_column,omitempty"`
	Through    string    `json:"through,omitempty"`
	Brand      string    `json:"brand_column,omitempty"`
	ShownBy    string    `json:"shown_by,omitempty"` // Headgate's view of it
	Actor      string    `json:"actor"`
	Reason     string    `json:"reason"`
	DeclaredAt time.Time `json:"declared_at"`
}

const selectWhoDeclared = `
SELECT object, mode, coalesce(org_column, ''), coalesce(through, ''), coalesce(brand_column, ''), coalesce(shown_by, ''), actor, reason, declared_at
  FROM headgate.protected ORDER BY object`

// Declarations returns what is declared in a database, by object. conn is the owner login's.
func Declarations(ctx context.Context, conn *pgx.Conn) ([]Declaration, error) {
	rows, _ := conn.Query(ctx, selectWhoDeclared) // its error is CollectRows' too
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Declaration])
	if err != nil {
		return nil, fmt.Errorf("reading what is declared: %w", err)
	}
	return all, nil
}

// withdrawn returns the objects whose declarations a request takes back, as they are declared,
// and the numbers of those that are relations. What is declared may be gone from the database.
func withdrawn(ctx context.Context, tx pgx.Tx, names []string) (objects []string, oids []uint32, err error) {
	declared, err := readDeclarations(ctx, tx)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		object, oid, err := objectOf(ctx, tx, name)
		if err != nil {
			return nil, nil, err
		}
		if _, ok := declared[name]; ok {
			object = name
		}
		_, ok := declared[object]
		if !ok && oid == 0 { // it may be gone, with the schema in which it was
			object, ok = declared.byShort(name)
		}
		if !ok {
			return nil, nil, refuse("nothing is declared of %s: --declared lists what is", name)
		}
		objects = append(objects, object)
		if oid != 0 {
			oids = append(oids, oid)
		}
	}
	return objects, oids, nil
}

// selectObject resolves one name of a relation as the login's search_path has it, and writes
// the name as declarations do.
const selectObject = `
SELECT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname)
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
 WHERE c.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass($1)::pg_catalog.oid`

func objectOf(ctx context.Context, tx pgx.Tx, name string) (object string, oid uint32, err error) {
	nested, err := tx.Begin(ctx) // a name that cannot be read is an error of Postgres
	if err != nil {
		return "", 0, fmt.Errorf("looking for %s: %w", name, err)
	}
	said := (*pgconn.PgError)(nil)
	switch err := tx.QueryRow(ctx, selectObject, name).Scan(&oid, &object); {
	case err == nil:
		return object, oid, nested.Commit(ctx)
	case errors.Is(err, pgx.ErrNoRows), errors.As(err, &said) && unreadable(said):
	default:
		return "", 0, fmt.Errorf("looking for %s: %w", name, err)
	}
	if err := nested.Rollback(ctx); err != nil {
		return "", 0, fmt.Errorf("looking for %s: %w", name, err)
	}
	functions, err := resolveFunctions(ctx, tx, []string{name})
	if err == nil {
		return functions[0], 0, nil
	}
	if IsRequestError(err) {
		return name, 0, nil
	}
	return "", 0, err
}

// withdraw plans that a declaration is taken back: jobs lose what it gave them, and the
// application's table is as it was before.
func (p *planner) withdraw(object string, all []string) error {
	d := p.declared[object]
	if r := p.relations[object]; r != nil {
		for _, child := range p.reachedThrough(r) {
			if !slices.Contains(all, child) {
				return refuse("%s is reached through %s, and would be open: withdraw %s too, or protect it in another way first", child, r.Name, child)
			}
		}
		as := p.as(r)
		for _, sequence := range p.tables[object].Drawn {
			p.do(as, "REVOKE ALL ON SEQUENCE %s FROM %s", sequence, jobGroup)
		}
		if slices.Contains(r.Holders, jobGroup) {
			p.do(as, "REVOKE ALL ON %s FROM %s", r.Name, jobGroup)
		}
		if d.Mode == modePolicy || d.Mode == modeThrough {
			p.dropPolicies(r, as)
		}
	}
	if d.ShownBy != "" {
		p.do("", "DROP VIEW IF EXISTS %s", d.ShownBy)
	}
	p.do("", "DELETE FROM headgate.protected WHERE object = %s", quoted(object))
	return nil
}

// dropPolicies takes Headgate's policies from a table. Row-level security goes with them where
// Headgate switched it on, which headgate_others tells. Where the application has policies
// beside that, both stay, because others would lose or gain rows.
func (p *planner) dropPolicies(r *relation, as string) {
	theirs := slices.ContainsFunc(r.policies, func(q policy) bool { return !q.ours() })
	for _, q := range r.policies {
		switch {
		case !q.ours():
		case q.Name == policyOthers && theirs:
			p.note("row-level security and policy %s stay on %s, because the table has policies of the application's", policyOthers, r.Name)
		default:
			p.do(as, "DROP POLICY %s ON %s", q.Name, r.Name)
			if q.Name == policyOthers {
				p.do(as, "ALTER TABLE %s DISABLE ROW LEVEL SECURITY", r.Name)
			}
		}
	}
}

// reachedThrough are the tables that are declared to be reached through one, by name.
func (p *planner) reachedThrough(parent *relation) (names []string) {
	for object, d := range p.declared {
		if d.Mode != modeThrough {
			continue
		}
		if r := p.relations[object]; r != nil && r != parent && slices.ContainsFunc(r.Parents, func(fk string) bool { return fk == d.Through+">"+parent.Name }) {
			names = append(names, object)
		}
	}
	slices.Sort(names)
	return names
}
