// Package impostor is an application that puts a view in the place of one of its tables, in
// tests of what runs with the rights of a database's owner. It imports nothing of Headgate, so
// that every room may use it.
package impostor

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
)

// Impostor is a role of the application that owns one table. It is no superuser, and the owner
// of the database is a member.
type Impostor struct {
	Role string // quoted

	t     *testing.T
	pool  *pgxpool.Pool
	table string
	tx    pgx.Tx
}

// spied are the functions by which the application notes with whose rights its code runs. In a
// transaction that cannot write the function fails, and its message says so.
const spied = `
CREATE TABLE public.spied (who text);
GRANT INSERT ON public.spied TO PUBLIC;
CREATE FUNCTION public.note() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO public.spied VALUES (current_user);
EXCEPTION WHEN read_only_sql_transaction THEN RAISE EXCEPTION 'ran as %', current_user; END $$;
CREATE FUNCTION public.spy(any_value bigint) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$ BEGIN PERFORM public.note(); RETURN true; END $$;
CREATE FUNCTION public.spy_trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM public.spy(1); RETURN coalesce(NEW, OLD); END $$`

// New makes the application's role, and gives it a table, schema.name, whose first column may
// be of any type. pool is a superuser's.
func New(t *testing.T, pool *pgxpool.Pool, owner, table string) *Impostor {
	t.Helper()
	i := &Impostor{t: t, pool: pool, table: table, Role: pgx.Identifier{owner + "_app"}.Sanitize()}
	owner = pgx.Identifier{owner}.Sanitize()
	i.Admin(`CREATE ROLE ` + i.Role)
	t.Cleanup(func() {
		i.Admin(`REASSIGN OWNED BY ` + i.Role + ` TO ` + owner + `; DROP OWNED BY ` + i.Role + `; DROP ROLE ` + i.Role)
	})
	i.Admin(`GRANT ` + i.Role + ` TO ` + owner + `; GRANT ALL ON SCHEMA public TO ` + i.Role + `; ALTER TABLE ` + table + ` OWNER TO ` + i.Role)
	i.Do(spied)
	return i
}

// Admin runs SQL as the superuser.
func (i *Impostor) Admin(sql string) {
	i.t.Helper()
	_, err := i.pool.Exec(context.Background(), sql)
	require.NoError(i.t, err, sql)
}

// Do runs SQL as the application.
func (i *Impostor) Do(sql string) {
	i.t.Helper()
	i.Admin(`BEGIN; SET LOCAL ROLE ` + i.Role + `; ` + sql + `; COMMIT`)
}

// Swap puts a view in the table's place in a transaction that stays open: who names the table
// waits, and reads the view once Commit is called. The view has the table's rows, and calls the
// application's function.
func (i *Impostor) Swap() {
	i.t.Helper()
	var err error
	i.tx, err = i.pool.Begin(context.Background())
	require.NoError(i.t, err)
	i.t.Cleanup(func() { _ = i.tx.Rollback(context.Background()) })
	_, err = i.tx.Exec(context.Background(), `SET LOCAL ROLE `+i.Role+`; ALTER TABLE `+i.table+` RENAME TO hidden_away; CREATE VIEW `+i.table+` AS SELECT * FROM public.hidden_away WHERE public.spy(1); GRANT ALL ON `+i.table+` TO PUBLIC`)
	require.NoError(i.t, err)
}

// Commit waits until somebody waits for the table, and lets them have the view.
func (i *Impostor) Commit() {
	i.t.Helper()
	require.Eventually(i.t, func() bool {
		var waiting bool
		err := i.pool.QueryRow(context.Background(), `SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND locktype = 'relation' AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`).Scan(&waiting)
		return err == nil && waiting
	}, time.Minute, 5*time.Millisecond, "nobody waits for the table")
	require.NoError(i.t, i.tx.Commit(context.Background()))
}

// Back puts the table in its place again.
func (i *Impostor) Back() {
	i.t.Helper()
	i.Do(`DROP VIEW ` + i.table + `; ALTER TABLE public.hidden_away RENAME TO ` + pgx.Identifier{name(i.table)}.Sanitize() + `; TRUNCATE public.spied`)
}

func name(table string) string {
	for n := len(table) - 1; n >= 0; n-- {
		if table[n] == '.' {
			return table[n+1:]
		}
	}
	return table
}

// Ran are the roles with whose rights the application's code ran, by name.
func (i *Impostor) Ran() (who []string) {
	i.t.Helper()
	rows, err := i.pool.Query(context.Background(), `SELECT DISTINCT who FROM public.spied ORDER BY 1`)
	require.NoError(i.t, err)
	who, err = pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(i.t, err)
	return who
}
