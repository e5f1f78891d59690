package relation_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/relation"
)

const (
	insert = `INSERT INTO public.orders (org_id) VALUES (11)`
	update = `UPDATE public.orders SET note = 'o' WHERE org_id = 1`
	remove = `DELETE FROM public.orders WHERE org_id = 1`

	evil     = `CREATE DOMAIN evil AS text CHECK (public.spy(1)); `
	mood     = `CREATE TYPE mood AS ENUM ('fine'); CREATE FUNCTION tell(mood) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM public.spy(1); RETURN '1'; END $$; CREATE CAST (mood AS text) WITH FUNCTION tell(mood); `
	query    = `query_to_xml('SELECT public.spy(1)', true, false, '')`
	suppress = ` EXECUTE FUNCTION suppress_redundant_updates_trigger()`
)

// Each of these ran code of the application in a table that the look let pass, because the look
// read the owners of functions only: that of a trigger and those in pg_depend, which has no row
// for what is Postgres's own and none for what a type of another type calls.
func TestExpressionsThatLeadToCodeAreNamed(t *testing.T) {
	t.Parallel()
	check := func(expr string) string { return `ALTER TABLE orders ADD CONSTRAINT odd CHECK (` + expr + `)` }
	for name, c := range map[string]struct {
		sql, attack, why string
		from             relation.Use
	}{
		"when a row is deleted": {`CREATE TRIGGER odd BEFORE DELETE ON orders FOR EACH ROW WHEN (public.spy(OLD.org_id)) EXECUTE FUNCTION calm()`, remove, "trigger odd of public.orders (public.spy(pg_catalog.int8))", relation.Delete},
		"when a row is written": {`CREATE TRIGGER odd BEFORE INSERT OR UPDATE ON orders FOR EACH ROW WHEN (public.spy(NEW.org_id)) EXECUTE FUNCTION calm()`, insert, "trigger odd of public.orders (public.spy(pg_catalog.int8))", relation.Write},
		"when, by an operator": {`CREATE OPERATOR public.%% (RIGHTARG = bigint, FUNCTION = public.spy); CREATE TRIGGER odd BEFORE UPDATE ON orders FOR EACH ROW WHEN (%% NEW.org_id)` + suppress,
			update, "trigger odd of public.orders (public.spy(pg_catalog.int8))", relation.Write},
		"when, by a domain": {evil + `CREATE TRIGGER odd BEFORE DELETE ON orders FOR EACH ROW WHEN (OLD.note::evil IS NOT NULL) EXECUTE FUNCTION calm()`, remove, "trigger odd of public.orders (type public.evil)", relation.Delete},
		"when, by a text":   {`CREATE TRIGGER odd BEFORE DELETE ON orders FOR EACH STATEMENT WHEN (` + query + ` IS NOT NULL) EXECUTE FUNCTION calm()`, remove, "trigger odd of public.orders (pg_catalog.query_to_xml(", relation.Delete},
		"text":              {check(query + ` IS NOT NULL`), update, "constraint odd of public.orders (pg_catalog.query_to_xml(", relation.Write},
		"text in a default": {`ALTER TABLE orders ALTER note SET DEFAULT ` + query + `::text`, insert, "the default of column note of public.orders (pg_catalog.query_to_xml(", relation.Write},
		"view":              {`CREATE VIEW odd AS SELECT public.spy(1); ` + check(`table_to_xml('odd', true, false, '') IS NOT NULL`), update, "(pg_catalog.table_to_xml(", relation.Write},
		"rewrite":           {check(`ts_rewrite('a'::tsquery, 'SELECT ''a''::tsquery, ''b''::tsquery WHERE public.spy(1)') IS NOT NULL`), update, "(pg_catalog.ts_rewrite(pg_catalog.tsquery, pg_catalog.text))", relation.Write},
		"Headgate's own": {`ALTER TABLE orders ALTER note SET DEFAULT (headgate.delete_apart('SELECT public.spy(1) WHERE $1::text[] IS NOT NULL', '{x}')).code`, insert,
			"(headgate.delete_apart(pg_catalog.text, pg_catalog._text))", relation.Write},
		"input function":      {evil + check(`domain_in(note::cstring, 'public.evil'::regtype, -1) IS NOT NULL`), update, "(pg_catalog.domain_in(", relation.Write},
		"array of a domain":   {evil + check(`('{' || org_id || '}')::evil[] IS NOT NULL`), update, "constraint odd of public.orders (type public.evil)", relation.Write},
		"array of a domain 2": {evil + check(`ARRAY[note]::evil[] IS NOT NULL`), update, "constraint odd of public.orders (type public.evil)", relation.Write},
		"composite":           {evil + `CREATE TYPE pair AS (a evil, b int); ` + check(`('(' || org_id || ',1)')::pair IS NOT NULL`), update, "(type public.pair)", relation.Write},
		"row":                 {evil + `CREATE TYPE pair AS (a evil, b int); ` + check(`ROW(note, 1)::pair IS NOT NULL`), update, "(type public.pair)", relation.Write},
		"range":               {evil + `CREATE TYPE span AS RANGE (subtype = evil); ` + check(`('[' || org_id || ',]')::span IS NOT NULL`), update, "(type public.span)", relation.Write},
		"multirange":          {evil + `CREATE TYPE span AS RANGE (subtype = evil, multirange_type_name = spans); ` + check(`('{[' || org_id || ',]}')::spans IS NOT NULL`), update, "(type public.spans)", relation.Write},
		"cast at run time":    {mood + check(`note || 'fine'::mood <> ''`), update, "(pg_catalog.textanycat(pg_catalog.text, pg_catalog.anynonarray))", relation.Write},
		"cast of JSON":        {mood + `CREATE FUNCTION tell_json(mood) RETURNS json LANGUAGE sql AS 'SELECT public.tell($1)::json'; CREATE CAST (mood AS json) WITH FUNCTION tell_json(mood); ` + check(`to_jsonb('fine'::mood) IS NOT NULL`), update, "(pg_catalog.to_jsonb(pg_catalog.anyelement))", relation.Write},
		"key of the whole": {`ALTER FUNCTION spy(bigint) IMMUTABLE; DROP TABLE orders; CREATE TABLE whole (org_id bigint, note text) PARTITION BY LIST ((public.spy(org_id))); CREATE TABLE orders PARTITION OF whole FOR VALUES IN (true)`,
			insert, "the partition key of public.whole (public.spy(pg_catalog.int8))", relation.Write},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.Admin(`GRANT USAGE ON SCHEMA headgate TO ` + b.Role + `; INSERT INTO headgate.protected (object, mode, reason) VALUES ('public.calm()', 'function', 'read it')`)
			b.Do(`CREATE FUNCTION calm() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$`)
			b.Do(c.sql + `; TRUNCATE spied`)
			_, err := b.owner.Exec(t.Context(), c.attack)
			require.NoError(t, err)
			require.Equal(t, []string{b.db.Owner.User}, b.Ran(), "the control")
			b.Do(`TRUNCATE spied`)
			for _, use := range []relation.Use{relation.Read, relation.Delete, relation.Write} {
				if use < c.from {
					require.NoError(t, b.use(relation.Table{Name: orders, Use: use}, "SELECT"))
					continue
				}
				b.refused(relation.Table{Name: orders, Use: use}, c.why)
			}
		})
	}
}

// What tables have commonly is no code of anybody's.
func TestOrdinaryExpressionsPass(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Admin(`CREATE EXTENSION citext SCHEMA public; CREATE EXTENSION "uuid-ossp" SCHEMA public; CREATE EXTENSION pg_trgm SCHEMA public; CREATE EXTENSION btree_gist SCHEMA public; GRANT USAGE ON SCHEMA headgate TO ` + b.Role)
	b.Do(`CREATE TYPE mood AS ENUM ('fine', 'sad'); CREATE SEQUENCE numbers; DROP TABLE orders;
		CREATE TABLE orders (
			org_id bigint PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY, number bigint DEFAULT nextval('numbers'), old serial, key uuid DEFAULT gen_random_uuid(), other uuid DEFAULT uuid_generate_v4(),
			made timestamptz NOT NULL DEFAULT now(), changed timestamptz DEFAULT clock_timestamp(), until timestamptz DEFAULT now() + interval '1 day', day date DEFAULT CURRENT_DATE, span tstzrange,
			status text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'closed')), name text CHECK (length(name) < 10 AND name ~ '^[a-z]+$' AND name <> 'x' || 1),
			low text GENERATED ALWAYS AS (lower(name)) STORED, words tsvector GENERATED ALWAYS AS (to_tsvector('english', coalesce(name, ''))) STORED,
			email citext CHECK (email LIKE '%@%' AND email <> 'x'), feeling mood NOT NULL DEFAULT 'fine' CHECK (feeling = ANY (enum_range(NULL::mood)) AND feeling <> 'sad' OR feeling::text = 'sad' AND status::mood IS NULL),
			tags text[] NOT NULL DEFAULT '{}' CHECK (cardinality(tags) < 9 AND array_to_string(tags, ',') <> 'x' AND 'x' <> ALL (tags)), feelings mood[] DEFAULT ARRAY['fine'::mood],
			data jsonb NOT NULL DEFAULT jsonb_build_object('a', 1) CHECK (jsonb_typeof(data) = 'object' AND data ? 'a' AND data->>'a' <> 'x' AND (data->'a')::int > 0 AND data @> '{}'),
			amount numeric(9, 2) DEFAULT 0 CHECK (amount >= 0 AND round(amount, 1) < 1e9), org bigint DEFAULT headgate.current_org(), who text DEFAULT CURRENT_USER, setting text DEFAULT current_setting('app.x', true),
			CHECK (until > made AND made < until + interval '1 h' AND day <= made AND COALESCE(changed, made) IS NOT DISTINCT FROM GREATEST(changed, made)),
			CHECK ((made, org_id) <= (until, org_id + 1)), CHECK (CASE status WHEN 'open' THEN NULLIF(name, '') IS NULL OR true ELSE concat(name, 'x') <> '' END),
			CHECK (to_char(made, 'YYYY') > '1999' AND date_trunc('day', made) <= made AND extract(year FROM made) > 1999), EXCLUDE USING gist (org_id WITH =, tstzrange(made, until) WITH &&));
		CREATE INDEX ON orders (lower(name)) WHERE status = 'open' AND feeling = 'fine'; CREATE INDEX ON orders USING gin (name gin_trgm_ops); CREATE INDEX ON orders USING gin (data);
		CREATE STATISTICS more ON (lower(name)), (length(status)) FROM orders;
		CREATE TRIGGER same AFTER UPDATE ON orders FOR EACH ROW WHEN (OLD.* IS NOT DISTINCT FROM NEW.*) EXECUTE FUNCTION suppress_redundant_updates_trigger();
		CREATE TRIGGER words BEFORE UPDATE ON orders FOR EACH ROW WHEN (OLD.name <> NEW.name AND pg_trigger_depth() < 2) EXECUTE FUNCTION suppress_redundant_updates_trigger();
		ALTER TABLE orders ADD parent bigint REFERENCES orders ON DELETE CASCADE ON UPDATE CASCADE`)
	columns := []string{"org_id", "name", "status"}
	for _, use := range []relation.Use{relation.Read, relation.Delete, relation.Write} {
		require.NoError(t, b.use(relation.Table{Name: orders, Use: use, Columns: columns}, "SELECT"))
	}
	require.NoError(t, b.use(relation.Table{Name: orders, Use: relation.Write, Columns: columns}, `INSERT INTO public.orders (org_id, name, org) VALUES (1, 'abc', 1)`))
	b.Do(`CREATE FUNCTION safe(text) RETURNS boolean LANGUAGE sql AS 'SELECT true'; ALTER TABLE orders ADD CHECK (safe(name))`)
	b.refused(relation.Table{Name: orders, Use: relation.Write, Columns: columns}, "(public.safe(pg_catalog.text))")
	b.Admin(`ALTER FUNCTION safe(text) OWNER TO ` + pgx.Identifier{b.db.Owner.User}.Sanitize())
	require.NoError(t, b.use(relation.Table{Name: orders, Use: relation.Write, Columns: columns}, "SELECT"), "the login's own")
}

// Who writes a row computes the distances of ranges in an index, also of columns that nobody
// names.
func TestAnIndexOfARangeIsNotWritten(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Do(`CREATE FUNCTION diff(a int, b int) RETURNS float8 LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM public.spy(1); RETURN a - b; END $$;
		CREATE TYPE span AS RANGE (subtype = int, subtype_diff = diff); ALTER TABLE orders ADD COLUMN during span;
		INSERT INTO orders SELECT n, 'n', span(n, n + 100) FROM generate_series(11, 2000) n; UPDATE orders SET during = '[1,9)' WHERE during IS NULL OR org_id % 2 = 0; CREATE INDEX ON orders USING gist (during); TRUNCATE spied`)
	_, err := b.owner.Exec(t.Context(), `UPDATE public.orders SET org_id = -org_id WHERE org_id < 500`)
	require.NoError(t, err)
	require.Equal(t, []string{b.db.Owner.User}, b.Ran(), "the control")
	named := []string{"org_id"}
	require.NoError(t, b.use(relation.Table{Name: orders, Use: relation.Delete, Columns: named}, "SELECT"))
	err = b.use(relation.Table{Name: orders, Use: relation.Write, Columns: named}, "SELECT")
	require.ErrorContains(t, err, "column during of type public.span")
}
