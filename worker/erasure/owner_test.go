package erasure_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/jobstest/impostor"
	"github.com/headgate/headgate/worker/erasure"
	"github.com/headgate/headgate/worker/tenantdb/protection"
)

// swapped has an erasure of the first tenant meet a table that becomes a view under its eyes,
// and returns what the job says.
func (b *bundle) swapped(app *impostor.Impostor, enqueue func() string) string {
	b.t.Helper()
	app.Swap()
	uid := enqueue()
	app.Commit()
	return b.WaitFor(uid, func(o jobs.Outcome) bool { return o.State == jobs.Failed || o.State == jobs.Succeeded }).Message
}

// A view took a table's place between the look and the statement, and the view's function ran
// with the rights of the owner's login, which reads the key that signs jobs.
func TestAViewThatTakesATablesPlaceIsNotRead(t *testing.T) {
	t.Parallel()
	for table, who := range map[string]string{
		"public.orders":     "the table itself, and the parent of items",
		"public.item_notes": "the lowest table, which refers to others",
		"public.categories": "a table that refers to itself",
	} {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			b := setup(t, jobstest.DatabaseOpts{})
			b.fill(b.org[1], 5)
			app := impostor.New(t, b.db.Pool, b.db.Owner.User, table)
			// the control: the order of old, a look and then the name
			_, err := b.owner.Exec(b.ctx, `BEGIN; SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true); SELECT relkind FROM pg_catalog.pg_class WHERE oid = '`+table+`'::regclass`)
			require.NoError(t, err)
			app.Swap()
			ended := make(chan error, 1)
			go func() {
				_, err := b.owner.Exec(context.Background(), `SELECT pg_catalog.count(*) FROM ONLY `+table+` t; COMMIT`)
				ended <- err
			}()
			app.Commit()
			require.NoError(t, <-ended)
			require.Equal(t, []string{b.db.Owner.User}, app.Ran(), who)
			app.Back()

			b.work(erasure.Config{}, nil)
			b.remove(b.org[1])
			var uid string
			message := b.swapped(app, func() string {
				uid = b.erase(b.org[1]).JobUID
				return uid
			})
			require.Contains(t, message, table)
			require.Empty(t, app.Ran())
			b.Wait(uid)
			require.Empty(t, app.Ran(), "nor later")
			app.Back()
			require.NotEmpty(t, b.rowsOf(b.org[1]))
			require.Contains(t, b.erased(b.org[1]), "erased \"acme\"")
			require.Len(t, b.rowsOf(b.org[1]), 5, "those of the table that nobody has declared")
		})
	}
}

// The same while the rows are only counted.
func TestAViewThatTakesATablesPlaceIsNotCounted(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{})
	b.fill(b.org[1], 5)
	app := impostor.New(t, b.db.Pool, b.db.Owner.User, "public.orders")
	b.work(erasure.Config{}, nil)
	app.Swap()
	e, err := b.Client.Erase(b.ctx, b.org[1].ID, &jobs.EraseOpts{CountOnly: true})
	require.NoError(t, err)
	app.Commit()
	last := b.Wait(e.JobUID)
	require.Equal(t, jobs.Succeeded, last.State, last.Message)
	require.Contains(t, last.Result.Output, "would stay: public.orders: public.orders is not a table")
	require.Empty(t, app.Ran())
}

// The planner computes what an index has of an immutable function and constants.
func TestAnIndexOfTheApplicationIsNotPlannedWithTheOwnersRights(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{})
	b.fill(b.org[1], 5)
	app := impostor.New(t, b.db.Pool, b.db.Owner.User, "public.orders")
	app.Do(`ALTER FUNCTION spy(bigint) IMMUTABLE; CREATE INDEX odd ON orders ((public.spy(1) AND id > 0)); TRUNCATE spied`)
	b.work(erasure.Config{}, nil)
	b.remove(b.org[1])
	_, message := b.failed(b.org[1])
	require.Contains(t, message, "public.orders has code that would run with the owner login's rights, index public.odd (public.spy(pg_catalog.int8))")
	require.Empty(t, app.Ran())
	require.Zero(t, b.number(`SELECT count(*) FROM categories WHERE org_id = 1`), "all others are gone")
	_, err := b.owner.Exec(b.ctx, `SELECT count(*) FROM orders`)
	require.NoError(t, err)
	require.Equal(t, []string{b.db.Owner.User}, app.Ran(), "the control")
}

// A declared table was renamed, and the erasure said that the tenant was erased, with all rows
// of the table left.
func TestADeclaredTableOfAnotherNameKeepsTheErasureOpen(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"renamed":          `ALTER TABLE events RENAME TO happenings`,
		"a view in place":  `ALTER TABLE events RENAME TO happenings; CREATE VIEW events AS SELECT * FROM happenings`,
		"a table in place": `ALTER TABLE events RENAME TO happenings; CREATE TABLE events (org_id bigint NOT NULL); GRANT ALL ON events TO PUBLIC`,
		"another schema":   `CREATE SCHEMA archive; GRANT USAGE ON SCHEMA archive TO PUBLIC; ALTER TABLE events SET SCHEMA archive`,
		"less a part":      `ALTER TABLE events RENAME TO happenings; DROP TABLE events_2`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, jobstest.DatabaseOpts{})
			b.fill(b.org[1], 40)
			b.exec(sql)
			b.work(erasure.Config{}, nil)
			b.remove(b.org[1])
			uid, message := b.failed(b.org[1])
			if name != "a table in place" {
				require.Contains(t, message, "public.events: it is declared")
				require.Contains(t, message, "then run `headgate database protect shop --withdraw public.events`")
			}
			where := "public.happenings"
			if name == "another schema" {
				where = "archive.events"
			}
			require.Contains(t, message, where+": it has Headgate's policies, and is not declared under this name")
			require.Zero(t, b.number(`SELECT count(*) FROM orders WHERE org_id = 1`), "all others are gone")
			report, err := protection.Inspect(b.ctx, b.owner, protection.Options{Database: "shop", Login: b.db.Job.User})
			require.NoError(t, err)
			if name != "a table in place" {
				require.Contains(t, codes(report), "table_gone public.events")
			}
			require.Contains(t, codes(report), "table_renamed "+where)

			_, err = protection.Apply(b.ctx, b.owner, protection.Request{Database: "shop", Login: b.db.Job.User, Tables: []protection.Table{{Name: where}}})
			require.NoError(t, err)
			if name != "a table in place" {
				_, err = protection.Apply(b.ctx, b.owner, protection.Request{Database: "shop", Login: b.db.Job.User, Withdraw: []string{"public.events"}})
				require.NoError(t, err)
			}
			report, err = protection.Inspect(b.ctx, b.owner, protection.Options{Database: "shop", Login: b.db.Job.User})
			require.NoError(t, err)
			require.NotContains(t, strings.Join(codes(report), " "), "table_", "the advice is carried out")
			last := b.Wait(uid)
			require.Equal(t, jobs.Succeeded, last.State, last.Message)
			require.Zero(t, b.number(`SELECT count(*) FROM `+where+` WHERE org_id = 1`))
		})
	}
}

func codes(r protection.Report) (all []string) {
	for _, f := range r.Findings {
		all = append(all, f.Code+" "+f.Object)
	}
	return all
}

// A table that another session holds whole is looked at by its catalog rows only, so that the
// plan does not wait for the table.
func TestALockedTableStopsOnlyItself(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{})
	b.fill(b.org[1], 5)
	b.work(erasure.Config{LockTimeout: 50 * time.Millisecond}, nil)
	b.remove(b.org[1])
	tx, err := b.db.Pool.Begin(b.ctx)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	_, err = tx.Exec(b.ctx, `LOCK TABLE categories IN ACCESS EXCLUSIVE MODE`)
	require.NoError(t, err)
	uid, message := b.failed(b.org[1])
	require.Contains(t, message, "public.categories: another session has locked it (55P03)")
	require.Zero(t, b.number(`SELECT count(*) FROM orders WHERE org_id = 1`), "all others are gone")
	require.NoError(t, tx.Rollback(b.ctx))
	last := b.Wait(uid)
	require.Equal(t, jobs.Succeeded, last.State, last.Message)
}
