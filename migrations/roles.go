package migrations

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/jobs"
)

// DefaultPrefix begins the names of the roles of a central database, unless another one is
// given.
const DefaultPrefix = "headgate"

var prefixPattern = regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`)

// CheckPrefix says why a text cannot begin the names of roles.
func CheckPrefix(prefix string) error {
	if !prefixPattern.MatchString(prefix) {
		return jobs.Inputf("prefix", prefix, "give 1 to 40 lower-case letters, digits and underscores, a letter first")
	}
	if strings.HasPrefix(prefix, "pg_") {
		return jobs.Inputf("prefix", prefix, "Postgres keeps the names that begin with pg_ for itself: give another one")
	}
	return nil
}

// Roles says how the roles of a central database stand.
type Roles struct {
	Prefix  string   // before the names of all of them
	There   []string // the roles that the server has
	Missing []string // those that it lacks

	// Lacking are the statements that would give these roles what they should have, and
	// Surplus those that would take away what they, or everybody, should not have. Both
	// are for the owner of the objects.
	Lacking, Surplus []string
}

// selectRoles says which roles are there, of a prefix.
const selectRoles = `
SELECT n.name FROM unnest($1::text[]) WITH ORDINALITY AS n (name, i) JOIN pg_catalog.pg_roles r ON r.rolname = n.name ORDER BY n.i`

const selectPrefix = `SELECT prefix FROM headgate.roles`

// selectObjects are all things of ours that rights are granted on, with who has which
// right. The months of the history are reached through their parent.
const selectObjects = `
WITH objects AS (
    SELECT 'SCHEMA' AS kind, n.nspname AS schema, n.nspname AS name, pg_catalog.quote_ident(n.nspname) AS ident,
           coalesce(n.nspacl, pg_catalog.acldefault('n', n.nspowner)) AS acl, n.nspowner AS owner
    FROM pg_catalog.pg_namespace n WHERE n.nspname IN ('headgate', 'headgate_api') OR n.nspname = $1
    UNION ALL
    SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, n.nspname, c.relname, pg_catalog.format('%I.%I', n.nspname, c.relname),
           coalesce(c.relacl, pg_catalog.acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner)), c.relowner
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S')
      AND (n.nspname IN ('headgate', 'headgate_api') OR n.nspname = $1 AND c.relname ~ '^river_(job|leader|migration|notification|queue)(_id_seq)?$')
    UNION ALL
    SELECT 'FUNCTION', n.nspname, p.proname, pg_catalog.format('%I.%I(%s)', n.nspname, p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid)),
           coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner)), p.proowner
    FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname IN ('headgate', 'headgate_api')
)
SELECT o.kind, o.schema::text, o.name::text, o.ident, CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE coalesce(r.rolname::text, '') END, coalesce(a.privilege_type, '')
FROM objects o
LEFT JOIN LATERAL pg_catalog.aclexplode(o.acl) a ON a.grantee <> o.owner
LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
ORDER BY 1, 2, 3, 4`

// ReadRoles looks at the roles of a central database. The error is a *[VersionError]
// before there is a schema that knows of roles.
func ReadRoles(ctx context.Context, db interface {
	Querier
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}) (Roles, error) {
	var r Roles
	var queue string
	err := db.QueryRow(ctx, selectPrefix).Scan(&r.Prefix)
	if err == nil {
		err = db.QueryRow(ctx, selectQueueSchema).Scan(&queue)
	}
	if pgErr := (*pgconn.PgError)(nil); errors.As(err, &pgErr) && (pgErr.Code == "42P01" || pgErr.Code == "3F000") {
		return r, &VersionError{Where: "the central database", Program: len(central)}
	}
	if err != nil {
		return r, fmt.Errorf("asking for the names of the roles: %w", err)
	}
	rows, _ := db.Query(ctx, selectRoles, roleNames(r.Prefix)) // its error is CollectRows' too
	if r.There, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
		return r, fmt.Errorf("looking for the roles %s_…: %w", r.Prefix, err)
	}
	for _, name := range roleNames(r.Prefix) {
		if !slices.Contains(r.There, name) {
			r.Missing = append(r.Missing, name)
		}
	}
	objects, held, err := readObjects(ctx, db, queue)
	if err != nil {
		return r, err
	}
	r.compare(objects, held, queue)
	return r, nil
}

const selectQueueSchema = `SELECT schema FROM headgate.queue`

func roleNames(prefix string) []string {
	names := make([]string, len(RoleNames))
	for i, end := range RoleNames {
		names[i] = prefix + "_" + end
	}
	return names
}

// holding is one role and one object.
type holding struct{ role, ident string }

func readObjects(ctx context.Context, db interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}, queue string) (objects []object, held map[holding][]string, err error) {
	rows, _ := db.Query(ctx, selectObjects, queue) // its error is ForEachRow's too
	held = map[holding][]string{}
	var o object
	var role, privilege string
	_, err = pgx.ForEachRow(rows, []any{&o.kind, &o.schema, &o.name, &o.ident, &role, &privilege}, func() error {
		if len(objects) == 0 || objects[len(objects)-1] != o {
			objects = append(objects, o)
		}
		if role != "" {
			at := holding{role, o.kind + o.ident}
			held[at] = append(held[at], privilege)
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("reading who may do what: %w", err)
	}
	return objects, held, nil
}

// compare finds what is lacking, and what is too much.
func (r *Roles) compare(objects []object, held map[holding][]string, queue string) {
	for _, o := range objects {
		for _, end := range append([]string{rolePublic}, RoleNames...) {
			name := end
			if end == roleOwner {
				continue
			}
			if end != rolePublic {
				if name = r.Prefix + "_" + end; !slices.Contains(r.There, name) {
					continue
				}
			}
			if end == rolePublic && o.schema == queue { // River's and the application's own
				continue
			}
			var want []string
			for _, letter := range []byte(o.granted(end, queue)) {
				want = append(want, letters[letter])
			}
			has := held[holding{name, o.kind + o.ident}]
			if o.kind == onSchema && o.schema == queue && slices.Contains(held[holding{rolePublic, o.kind + o.ident}], "USAGE") {
				want = without(want, []string{"USAGE"}) // everybody has it, and a login that owns no schema cannot grant it
			}
			if lacks := without(want, has); len(lacks) > 0 {
				r.Lacking = append(r.Lacking, fmt.Sprintf("GRANT %s ON %s %s TO %s", strings.Join(lacks, ", "), o.kind, o.ident, name))
			}
			if extra := without(has, want); len(extra) > 0 {
				r.Surplus = append(r.Surplus, fmt.Sprintf("REVOKE %s ON %s %s FROM %s", strings.Join(extra, ", "), o.kind, o.ident, name))
			}
		}
	}
}

// without returns what of a list is not in another.
func without(list, other []string) (left []string) {
	for _, item := range list {
		if !slices.Contains(other, item) && !slices.Contains(left, item) {
			left = append(left, item)
		}
	}
	return left
}

// grantRoles gives the roles that are there what they should have, and takes away the rest.
// What this login may not grant is left: ReadRoles tells of it afterwards.
func (m *migrator) grantRoles(ctx context.Context) error {
	return m.inTx(ctx, "the rights of the roles", func(tx pgx.Tx) error {
		roles, err := ReadRoles(ctx, tx)
		if err != nil {
			return err
		}
		for _, statement := range slices.Concat(roles.Lacking, roles.Surplus) {
			err := pgx.BeginFunc(ctx, tx, func(inner pgx.Tx) error { // a savepoint
				_, err := inner.Exec(ctx, statement)
				return err
			})
			var pgErr *pgconn.PgError
			if mayNot := errors.As(err, &pgErr) && pgErr.Code == "42501"; err != nil && !mayNot {
				return fmt.Errorf("%s: %w", statement, err)
			}
		}
		return nil
	})
}

const updatePrefix = `UPDATE headgate.roles SET prefix = $1 WHERE prefix <> $1`

// rolesVersion is the central schema that knows of roles.
const rolesVersion = 47

// shareRights makes the rights of the roles as they should be.
func (m *migrator) shareRights(ctx context.Context) error {
	if err := m.setPrefix(ctx, m.opts.Prefix); err != nil {
		return err
	}
	return m.grantRoles(ctx)
}

// setPrefix notes what the roles' names begin with, and takes from the roles of the former
// prefix what they have here.
func (m *migrator) setPrefix(ctx context.Context, prefix string) error {
	if prefix == "" {
		return nil
	}
	return m.inTx(ctx, "the names of the roles", func(tx pgx.Tx) error {
		former, err := ReadRoles(ctx, tx)
		if err != nil || former.Prefix == prefix {
			return err
		}
		var queue string
		if err := tx.QueryRow(ctx, selectQueueSchema).Scan(&queue); err != nil {
			return fmt.Errorf("asking which schema holds the queue: %w", err)
		}
		objects, held, err := readObjects(ctx, tx, queue)
		if err != nil {
			return err
		}
		for _, role := range former.There {
			for _, o := range objects {
				if len(held[holding{role, o.kind + o.ident}]) == 0 {
					continue
				}
				if _, err := tx.Exec(ctx, fmt.Sprintf("REVOKE ALL ON %s %s FROM %s", o.kind, o.ident, role)); err != nil {
					return fmt.Errorf("taking away what role %s had: %w", role, err)
				}
			}
		}
		if _, err := tx.Exec(ctx, updatePrefix, prefix); err != nil {
			return fmt.Errorf("noting the prefix %s: %w", prefix, err)
		}
		return nil
	})
}
