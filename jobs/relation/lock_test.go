package relation_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/jobstest/impostor"
	"github.com/headgate/headgate/jobs/relation"
)

func TestMain(m *testing.M) { jobstest.Main(m) }

// bundle is an application's database with a table, and its owner's session.
type bundle struct {
	*impostor.Impostor
	t     *testing.T
	db    *jobstest.Database
	owner *pgx.Conn
}

const orders = "public.orders"

func setup(t *testing.T) *bundle {
	t.Helper()
	db := jobstest.New(t).Database("shop", jobstest.DatabaseOpts{Kind: "dedicated", Schema: `
		CREATE TABLE orders (org_id bigint PRIMARY KEY, note text); INSERT INTO orders SELECT n, 'n' FROM generate_series(1, 10) n`})
	cfg := db.Pool.Config().ConnConfig.Copy()
	cfg.User, cfg.Password, cfg.Fallbacks = db.Owner.User, db.Owner.Password.Reveal(), nil
	owner, err := pgx.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = owner.Close(context.Background()) })
	return &bundle{Impostor: impostor.New(t, db.Pool, db.Owner.User, orders), t: t, db: db, owner: owner}
}

func TestQueriesPrepare(t *testing.T) {
	t.Parallel()
	jobstest.PrepareQueries(t, ".", setup(t).db.Pool)
}

// use locks a table as the owner does, and runs a statement behind the lock.
func (b *bundle) use(table relation.Table, sql string) error {
	return pgx.BeginFunc(b.t.Context(), b.owner, func(tx pgx.Tx) error {
		if _, err := relation.Lock(b.t.Context(), tx, table); err != nil {
			return err
		}
		_, err := tx.Exec(b.t.Context(), sql)
		return err
	})
}

func (b *bundle) refused(table relation.Table, why string) {
	b.t.Helper()
	err := b.use(table, "SELECT")
	var refused *relation.RefusedError
	require.ErrorAs(b.t, err, &refused)
	require.ErrorContains(b.t, err, why)
	require.Empty(b.t, b.Ran())
}

const count = `SELECT pg_catalog.count(*) FROM ONLY public.orders`

// A view took the table's place between the look and the statement, and its function ran with
// the rights of the owner's login, which reads the key that signs jobs.
func TestAViewThatTakesTheTablesPlaceIsNotRead(t *testing.T) {
	t.Parallel()
	for name, use := range map[string]relation.Use{"read": relation.Read, "delete": relation.Delete} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			err := pgx.BeginFunc(t.Context(), b.owner, func(tx pgx.Tx) error {
				var kind string
				require.NoError(t, tx.QueryRow(t.Context(), `SELECT relkind::text FROM pg_catalog.pg_class WHERE oid = 'public.orders'::regclass`).Scan(&kind))
				require.Equal(t, "r", kind)
				b.Swap()
				ended := make(chan error, 1)
				go func() {
					_, err := tx.Exec(context.Background(), count)
					ended <- err
				}()
				b.Commit()
				return <-ended
			})
			require.NoError(t, err)
			require.Equal(t, []string{b.db.Owner.User}, b.Ran(), "the control: the order of old")
			b.Back()

			b.Swap()
			ended := make(chan error, 1)
			go func() { ended <- b.use(relation.Table{Name: orders, Use: use}, count) }()
			b.Commit()
			require.ErrorContains(t, <-ended, "public.orders is not a table")
			require.Empty(t, b.Ran())
			b.Back()
			require.NoError(t, b.use(relation.Table{Name: orders, Use: use}, count))
		})
	}
}

// Behind the lock nobody renames, drops or alters the table.
func TestALockedTableKeepsItsName(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, use := range []relation.Use{relation.Read, relation.Delete, relation.Write} {
		err := pgx.BeginFunc(t.Context(), b.owner, func(tx pgx.Tx) error {
			oids, err := relation.Lock(t.Context(), tx, relation.Table{Name: orders, Use: use})
			require.NoError(t, err)
			require.Len(t, oids, 1)
			for _, sql := range []string{
				`ALTER TABLE orders RENAME TO other`, `DROP TABLE orders`, `ALTER TABLE orders ADD COLUMN more int`, `ALTER TABLE orders ENABLE ROW LEVEL SECURITY`,
				`CREATE POLICY p ON orders USING (public.spy(1))`, `CREATE RULE r AS ON DELETE TO orders DO ALSO SELECT public.spy(1)`, `ALTER TABLE orders ADD CHECK (public.spy(org_id))`,
			} {
				_, err := b.db.Pool.Exec(t.Context(), `BEGIN; SET LOCAL lock_timeout = '50ms'; `+sql+`; ROLLBACK`)
				require.ErrorContains(t, err, "55P03", sql)
			}
			if use != relation.Read {
				for _, sql := range []string{`CREATE TRIGGER spy AFTER DELETE ON orders FOR EACH ROW EXECUTE FUNCTION spy_trigger()`, `CREATE INDEX ON orders (public.spy(org_id))`} {
					_, err := b.db.Pool.Exec(t.Context(), `BEGIN; SET LOCAL lock_timeout = '50ms'; `+sql+`; ROLLBACK`)
					require.ErrorContains(t, err, "55P03", sql)
				}
			}
			return nil
		})
		require.NoError(t, err)
	}
}

// A table that is locked by another session stops nobody for longer than lock_timeout.
func TestALockIsNotWaitedForForever(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Swap()
	_, err := b.owner.Exec(t.Context(), `SET lock_timeout = '50ms'`)
	require.NoError(t, err)
	for _, use := range []relation.Use{relation.Read, relation.Write} {
		require.ErrorContains(t, b.use(relation.Table{Name: orders, Use: use}, count), "55P03")
	}
}

// An immutable function of constants runs when the statement is planned.
func TestAnIndexOfTheApplicationIsNotPlannedWithTheOwnersRights(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Do(`ALTER FUNCTION spy(bigint) IMMUTABLE; CREATE INDEX odd ON orders ((public.spy(1) AND org_id > 0)); TRUNCATE spied`)
	_, err := b.owner.Exec(t.Context(), count)
	require.NoError(t, err)
	require.Equal(t, []string{b.db.Owner.User}, b.Ran(), "the control")
	b.Do(`TRUNCATE spied`)
	b.refused(relation.Table{Name: orders}, "code that would run with the owner login's rights, index public.odd (public.spy(pg_catalog.int8))")
	_, err = b.db.Pool.Exec(t.Context(), `INSERT INTO headgate.protected (object, mode, reason) VALUES ('public.spy(pg_catalog.int8)', 'function', 'read it')`)
	require.NoError(t, err)
	require.NoError(t, b.use(relation.Table{Name: orders}, "SELECT"), "somebody trusts it")
	_, err = b.db.Pool.Exec(t.Context(), `DELETE FROM headgate.protected; ALTER FUNCTION spy(bigint) OWNER TO `+pgx.Identifier{b.db.Owner.User}.Sanitize())
	require.NoError(t, err)
	require.NoError(t, b.use(relation.Table{Name: orders}, "SELECT"), "nobody else can change it")
}

func TestCodeThatAChangeWouldRunIsNamed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sql, why string
		from     relation.Use // the least use that meets it
	}{
		"trigger":          {`CREATE TRIGGER spy BEFORE DELETE ON orders FOR EACH STATEMENT EXECUTE FUNCTION spy_trigger()`, "trigger spy of public.orders (public.spy_trigger())", relation.Delete},
		"rule":             {`CREATE RULE spy AS ON DELETE TO orders DO ALSO SELECT public.spy(1)`, "rule spy of public.orders", relation.Delete},
		"insert":           {`CREATE TRIGGER spy BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION spy_trigger()`, "trigger spy of public.orders", relation.Write},
		"check":            {`ALTER TABLE orders ADD CONSTRAINT odd CHECK (public.spy(org_id))`, "constraint odd of public.orders (public.spy(pg_catalog.int8))", relation.Write},
		"default":          {`ALTER TABLE orders ADD COLUMN more boolean DEFAULT public.spy(1)`, "the default of column more", relation.Write},
		"generated":        {`ALTER FUNCTION spy(bigint) IMMUTABLE; ALTER TABLE orders ADD COLUMN more boolean GENERATED ALWAYS AS (public.spy(org_id)) STORED`, "the default of column more", relation.Write},
		"operator":         {`CREATE OPERATOR public.%% (RIGHTARG = bigint, FUNCTION = public.spy); ALTER TABLE orders ADD CONSTRAINT odd CHECK (%% org_id)`, "constraint odd of public.orders (public.spy(", relation.Write},
		"domain":           {`CREATE DOMAIN nice AS text CHECK (public.spy(1)); ALTER TABLE orders ALTER note TYPE nice`, "constraint nice_check of type public.nice (public.spy(", relation.Write},
		"domain of others": {`CREATE DOMAIN nice AS text CHECK (VALUE <> ''); ALTER TABLE orders ALTER note TYPE nice`, "column note of type public.nice", relation.Write},
		"statistics":       {`ALTER FUNCTION spy(bigint) IMMUTABLE; CREATE STATISTICS odd ON (public.spy(org_id)) FROM orders`, "statistics odd (public.spy(", relation.Read},
		"predicate":        {`ALTER FUNCTION spy(bigint) IMMUTABLE; CREATE INDEX odd ON orders (note) WHERE public.spy(org_id)`, "index public.odd (public.spy(", relation.Read},
		"enum":             {`CREATE TYPE mood AS ENUM ('fine'); ALTER TABLE orders ADD COLUMN more mood`, "column more of type public.mood", relation.Read},
		"array":            {`CREATE TYPE mood AS ENUM ('fine'); ALTER TABLE orders ADD COLUMN more mood[]`, "column more of type public.mood", relation.Read},
		"cascade": {`CREATE TABLE lines (org_id bigint REFERENCES orders ON DELETE CASCADE); CREATE TABLE parts (org_id bigint); CREATE TRIGGER spy BEFORE DELETE ON lines FOR EACH STATEMENT EXECUTE FUNCTION spy_trigger()`,
			"trigger spy of public.lines", relation.Delete},
		"partition": {`ALTER FUNCTION spy(bigint) IMMUTABLE; CREATE TABLE heir () INHERITS (orders); CREATE INDEX odd ON heir (public.spy(org_id))`, "index public.odd", relation.Read},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			require.NoError(t, b.use(relation.Table{Name: orders, Use: relation.Write}, "SELECT"), "the control")
			b.Do(c.sql + `; TRUNCATE spied`)
			for _, use := range []relation.Use{relation.Read, relation.Delete, relation.Write} {
				if use < c.from {
					require.NoError(t, b.use(relation.Table{Name: orders, Use: use}, "SELECT"))
					continue
				}
				b.refused(relation.Table{Name: orders, Use: use}, c.why)
			}
			if name == "enum" {
				require.NoError(t, b.use(relation.Table{Name: orders, Columns: []string{"org_id"}}, "SELECT"), "nobody names the column")
			}
			if name == "partition" {
				require.NoError(t, b.use(relation.Table{Name: orders, Only: true}, "SELECT"), "nobody names the heir")
			}
		})
	}
}

func TestNamesThatLeadElsewhereAreRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.refused(relation.Table{Name: "public.nothing"}, "there is no table public.nothing in this database")
	b.refused(relation.Table{Name: "nowhere.nothing", View: true}, "there is no table or view nowhere.nothing in this database")
	b.refused(relation.Table{Name: orders, OID: 1259}, "public.orders is another table since the look at the database")
	b.Do(`CREATE VIEW seen AS SELECT * FROM orders; CREATE MATERIALIZED VIEW kept AS SELECT * FROM orders`)
	for _, name := range []string{"public.seen", "public.kept"} {
		b.refused(relation.Table{Name: name}, "is not a table")
		b.refused(relation.Table{Name: name, View: true}, "is no table and belongs to role "+strings.Trim(b.Role, `"`))
		b.Admin(`ALTER TABLE ` + name + ` OWNER TO ` + pgx.Identifier{b.db.Owner.User}.Sanitize())
		require.NoError(t, b.use(relation.Table{Name: name, View: true}, "SELECT FROM "+name), "the login's own")
	}
}

// Where the server can, the transaction reads no view at all: schemas may change names behind
// the lock.
func TestNoViewIsReadBehindALock(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Do(`CREATE VIEW seen AS SELECT * FROM orders WHERE public.spy(1)`)
	var known bool
	require.NoError(t, b.db.Pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_settings WHERE name = 'restrict_nonsystem_relation_kind')`).Scan(&known))
	if known {
		require.ErrorContains(t, b.use(relation.Table{Name: orders}, `SELECT FROM public.seen`), "access to non-system view \"seen\" is restricted")
		require.Empty(t, b.Ran())
	}
	require.NoError(t, b.use(relation.Table{Name: orders, Use: relation.Delete}, `SELECT FROM public.seen`))
	require.Equal(t, []string{b.db.Owner.User}, b.Ran(), "the control")
}
