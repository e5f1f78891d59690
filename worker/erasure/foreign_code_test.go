package erasure_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/jobstest/impostor"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/erasure"
	"github.com/headgate/headgate/worker/tenantdb/protection"
)

// meanwhile runs f while an erasure of the first tenant stands still behind the deletion of
// rows of a table.
func (b *bundle) meanwhile(table string, f func()) (uid string) {
	b.t.Helper()
	b.exec(`CREATE FUNCTION stand() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END $$;
		CREATE TRIGGER stand AFTER DELETE ON ` + table + ` FOR EACH STATEMENT EXECUTE FUNCTION stand()`)
	b.trust("public.stand()")
	tx, err := b.db.Pool.Begin(b.ctx)
	require.NoError(b.t, err)
	defer func() { require.NoError(b.t, tx.Rollback(b.ctx)) }()
	_, err = tx.Exec(b.ctx, `SELECT pg_advisory_xact_lock(7)`)
	require.NoError(b.t, err)
	uid = b.erase(b.org[1]).JobUID
	require.Eventually(b.t, func() bool {
		return b.number(`SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`) > 0
	}, time.Minute, 10*time.Millisecond)
	f()
	return uid
}

// spied is a database whose application notes who runs its trigger function.
func spied(t *testing.T) (*bundle, catalog.Tenant) {
	t.Helper()
	b := setup(t, jobstest.DatabaseOpts{Schema: `
		CREATE TABLE aaa (org_id bigint NOT NULL);
		CREATE TABLE orders (id bigint PRIMARY KEY, org_id bigint NOT NULL);
		CREATE TABLE events (org_id bigint NOT NULL, at int NOT NULL) PARTITION BY RANGE (at);
		CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (10);
		CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (10) TO (20);
		CREATE TABLE seen (who text);
		GRANT INSERT ON seen TO PUBLIC;
		CREATE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.seen VALUES (current_user); RETURN coalesce(OLD, NEW); END $$`},
		protection.Table{Name: "aaa"}, protection.Table{Name: "orders"}, protection.Table{Name: "events"})
	b.exec(`INSERT INTO aaa VALUES (1), (2); INSERT INTO orders SELECT n, 1 + n % 2 FROM generate_series(1, 20) n; INSERT INTO events SELECT 1 + n % 2, n FROM generate_series(0, 19) n`)
	b.work(erasure.Config{}, nil)
	b.remove(b.org[1])
	return b, b.org[1]
}

const seen = `SELECT count(*) FROM seen`

// TestATriggerDoesNotRunWithTheOwnersRights: it read the key that signs jobs, and granted its
// role what it liked.
func TestATriggerDoesNotRunWithTheOwnersRights(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"row":       `CREATE TRIGGER spy BEFORE DELETE ON orders FOR EACH ROW EXECUTE FUNCTION spy()`,
		"statement": `CREATE TRIGGER spy AFTER DELETE OR UPDATE ON orders FOR EACH STATEMENT EXECUTE FUNCTION spy()`,
		"always":    `CREATE TRIGGER spy AFTER DELETE ON orders FOR EACH ROW EXECUTE FUNCTION spy(); ALTER TABLE orders ENABLE ALWAYS TRIGGER spy`,
		"deferred":  `CREATE CONSTRAINT TRIGGER spy AFTER DELETE ON orders DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION spy()`,
		"rule":      `CREATE RULE spy AS ON DELETE TO orders DO ALSO INSERT INTO seen VALUES (current_user)`,
		"action": `CREATE TABLE lines (order_id bigint REFERENCES orders ON DELETE CASCADE); ALTER TABLE lines OWNER TO OWNER;
			CREATE TRIGGER spy BEFORE DELETE ON lines FOR EACH STATEMENT EXECUTE FUNCTION spy()`,
		"action that updates": `CREATE TABLE lines (order_id bigint REFERENCES orders ON DELETE SET NULL); ALTER TABLE lines OWNER TO OWNER;
			CREATE TRIGGER spy BEFORE UPDATE ON lines FOR EACH STATEMENT EXECUTE FUNCTION spy()`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, tenant := spied(t)
			b.exec(strings.ReplaceAll(sql, "OWNER TO OWNER", "OWNER TO "+b.db.Owner.User))
			uid, message := b.failed(tenant)
			require.Contains(t, message, " spy of public.")
			require.Contains(t, message, "would run with the owner login's rights: delete the rows of org_id 1 in public.orders by the application")
			require.Zero(t, b.number(seen))
			require.Equal(t, 20, b.number(`SELECT count(*) FROM orders`))
			require.Equal(t, 10, b.number(`SELECT count(*) FROM events`), "all others are gone")
			b.exec(`DELETE FROM orders WHERE org_id = 1`)
			b.exec(`TRUNCATE seen`)
			last := b.Wait(uid)
			require.Equal(t, jobs.Succeeded, last.State, last.Message)
			require.Zero(t, b.number(seen))
		})
	}
}

// TestTheConditionOfATrustedTriggerIsNotTrusted: who trusts a function has read that function,
// and a trigger may call another one in its WHEN.
func TestTheConditionOfATrustedTriggerIsNotTrusted(t *testing.T) {
	t.Parallel()
	b, tenant := spied(t)
	app := impostor.New(t, b.db.Pool, b.db.Owner.User, "public.orders")
	app.Do(`CREATE FUNCTION calm() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN OLD; END $$;
		CREATE TRIGGER calm BEFORE DELETE ON orders FOR EACH ROW WHEN (public.spy(OLD.org_id)) EXECUTE FUNCTION calm()`)
	b.trust("public.calm()")
	uid, message := b.failed(tenant)
	require.Contains(t, message, "trigger calm of public.orders (public.spy(pg_catalog.int8))")
	require.Empty(t, app.Ran())
	require.Equal(t, 20, b.number(`SELECT count(*) FROM orders`))
	b.trust("public.spy(bigint)")
	last := b.Wait(uid)
	require.Equal(t, jobs.Succeeded, last.State, last.Message)
	require.Equal(t, []string{b.db.Owner.User}, app.Ran(), "the control: the condition runs")
	require.Zero(t, b.number(`SELECT count(*) FROM orders WHERE org_id = 1`))
}

// TestATriggerOfAPartitionKeepsThatPartition only. A trigger of the whole table is each
// partition's.
func TestATriggerOfAPartitionKeepsThatPartition(t *testing.T) {
	t.Parallel()
	b, tenant := spied(t)
	b.exec(`CREATE TRIGGER spy AFTER DELETE ON events_2 FOR EACH ROW EXECUTE FUNCTION spy()`)
	uid, message := b.failed(tenant)
	require.Contains(t, message, "trigger spy of public.events_2 would run")
	require.Equal(t, 5, b.number(`SELECT count(*) FROM events WHERE org_id = 1`))
	b.exec(`INSERT INTO events VALUES (1, 1); DROP TRIGGER spy ON events_2; CREATE TRIGGER spy_all AFTER DELETE ON events FOR EACH ROW EXECUTE FUNCTION spy()`)
	b.WaitFor(uid, func(o jobs.Outcome) bool { return o.State == jobs.Failed })
	require.Zero(t, b.number(seen))
	b.trust("public.spy()")
	last := b.Wait(uid)
	require.Equal(t, jobs.Succeeded, last.State, last.Message)
	require.NotZero(t, b.number(seen), "the control: it would have run")
}

// TestATriggerThatComesMeanwhileDoesNotRun: the plan knew none.
func TestATriggerThatComesMeanwhileDoesNotRun(t *testing.T) {
	t.Parallel()
	b, _ := spied(t)
	uid := b.meanwhile("aaa", func() { b.exec(`CREATE TRIGGER spy AFTER DELETE ON orders FOR EACH ROW EXECUTE FUNCTION spy()`) })
	failed := b.WaitFor(uid, func(o jobs.Outcome) bool { return o.State == jobs.Failed || o.State == jobs.Succeeded })
	require.Contains(t, failed.Message, "trigger spy of public.orders would run")
	require.Zero(t, b.number(seen))
	require.Equal(t, 20, b.number(`SELECT count(*) FROM orders`))
}

// TestAKeyThatComesMeanwhileReachesNobody: its CASCADE would delete another tenant's rows.
func TestAKeyThatComesMeanwhileReachesNobody(t *testing.T) {
	t.Parallel()
	b, _ := spied(t)
	uid := b.meanwhile("aaa", func() {
		b.exec(`CREATE TABLE refunds (org_id bigint, order_id bigint REFERENCES orders ON DELETE CASCADE);
			INSERT INTO refunds SELECT 2, id FROM orders WHERE org_id = 1; GRANT SELECT ON refunds TO ` + b.db.Owner.User)
	})
	failed := b.WaitFor(uid, func(o jobs.Outcome) bool { return o.State == jobs.Failed || o.State == jobs.Succeeded })
	require.Contains(t, failed.Message, "refunds_order_id_fkey of public.refunds")
	require.Equal(t, 10, b.number(`SELECT count(*) FROM refunds`))
}

// TestFunctionsOfTheApplicationAreNotCalled: a function in a schema of the search_path that
// fits better than Postgres's own ran as the owner.
func TestFunctionsOfTheApplicationAreNotCalled(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{})
	b.fill(b.org[1], 5)
	b.exec(`CREATE FUNCTION public.unnest(oid[]) RETURNS SETOF oid LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'called'; END $$;
		CREATE FUNCTION public.array_agg(text[]) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'called'; END $$;
		CREATE FUNCTION public.no(bigint, bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'called'; END $$;
		CREATE OPERATOR public.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = public.no)`)
	b.exec(`ALTER ROLE ` + b.db.Owner.User + ` SET search_path = public, pg_catalog`)
	_, err := b.login(b.db.Owner).Exec(b.ctx, `SELECT FROM unnest(ARRAY[1::oid])`)
	require.ErrorContains(t, err, "called", "the control")
	b.work(erasure.Config{}, nil)
	b.remove(b.org[1])
	require.Contains(t, b.erased(b.org[1]), "50 rows of 7 tables deleted")
}
