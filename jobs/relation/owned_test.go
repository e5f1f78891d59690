package relation_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/relation"
)

// A foreign key's action changes rows of a table of the owner's login with that login's rights,
// and so runs what the table's expressions call. A domain of that login is checked where rows are
// written. A whole row has the types of its columns.
func TestCodeBehindTablesOfTheLoginIsNamed(t *testing.T) {
	t.Parallel()
	const (
		still  = `ALTER FUNCTION spy(bigint) IMMUTABLE; `
		lines  = `CREATE TABLE lines (o bigint REFERENCES orders ON DELETE SET NULL, n int); INSERT INTO lines SELECT org_id FROM orders; `
		domain = `CREATE DOMAIN odd AS text CHECK (public.spy(1)); CREATE DOMAIN whole AS bigint CHECK (public.spy(1)); `
		row    = mood + `CREATE FUNCTION tell_json(mood) RETURNS json LANGUAGE sql AS 'SELECT public.tell($1)::json'; CREATE CAST (mood AS json) WITH FUNCTION tell_json(mood); ALTER TABLE orders ADD m mood DEFAULT 'fine'; `
	)
	for name, c := range map[string]struct {
		sql, given, attack, why string // given are what the owner's login gets
		use                     relation.Use
	}{
		"check":         {lines + `ALTER TABLE lines ADD CONSTRAINT odd CHECK (public.spy(n))`, "TABLE lines", remove, "constraint odd of public.lines (public.spy(", relation.Delete},
		"index":         {still + lines + `CREATE INDEX odd ON lines ((public.spy(o)))`, "TABLE lines", remove, "index public.odd (public.spy(", relation.Delete},
		"generated":     {still + lines + `ALTER TABLE lines ADD g boolean GENERATED ALWAYS AS (public.spy(o)) STORED`, "TABLE lines", remove, "the default of column g of public.lines (public.spy(", relation.Delete},
		"cascade":       {still + strings.Replace(lines, "SET NULL", "CASCADE", 1) + `CREATE INDEX odd ON lines (o) WHERE public.spy(1)`, "TABLE lines", remove, "index public.odd (public.spy(", relation.Delete},
		"row of a type": {row + `ALTER TABLE orders ADD CONSTRAINT odd CHECK (to_jsonb(orders.*) IS NOT NULL)`, "TABLE orders", update, "constraint odd of public.orders (pg_catalog.to_jsonb(", relation.Write},
		"domain":        {domain + `ALTER TABLE orders ADD d odd`, "DOMAIN odd", insert, "constraint odd_check of type public.odd (public.spy(", relation.Write},
		"domain within": {domain + `CREATE DOMAIN outside AS text CHECK (VALUE::odd IS DISTINCT FROM 'no'); ALTER TABLE orders ADD d outside DEFAULT 'x'`, "DOMAIN odd, DOMAIN outside", insert, "constraint odd_check of type public.odd (public.spy(", relation.Write},
		"domain set":    {domain + strings.Replace(lines, "o bigint", "o whole", 1), "DOMAIN whole, TABLE lines", remove, "constraint whole_check of type public.whole (public.spy(", relation.Delete},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.Do(c.sql)
			for _, given := range strings.Split(c.given, ", ") {
				b.Admin(`ALTER ` + given + ` OWNER TO ` + pgx.Identifier{b.db.Owner.User}.Sanitize())
			}
			b.Admin(`TRUNCATE spied`)
			tx, err := b.owner.Begin(t.Context())
			require.NoError(t, err)
			defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
			_, err = tx.Exec(t.Context(), c.attack)
			require.NoError(t, err)
			var ran bool
			require.NoError(t, tx.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM public.spied WHERE who = session_user)`).Scan(&ran))
			require.True(t, ran, "the control")
			require.NoError(t, tx.Rollback(t.Context()))
			b.refused(relation.Table{Name: orders, Use: c.use, Columns: []string{"org_id"}}, c.why)
		})
	}
}
