package worker_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/maintenance"
	"github.com/headgate/headgate/jobs/report"
	"github.com/headgate/headgate/jobs/sqlscript"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker"
)

// visits are rows of organisations 1 to 3, a year old.
const visits = `
CREATE TABLE visits (org_id bigint NOT NULL, at timestamptz NOT NULL);
ALTER TABLE visits ENABLE ROW LEVEL SECURITY;
CREATE POLICY headgate_others ON visits USING (true) WITH CHECK (true);
CREATE POLICY headgate_org ON visits AS RESTRICTIVE TO headgate_job USING (org_id = (SELECT headgate.current_org())) WITH CHECK (org_id = (SELECT headgate.current_org()));
GRANT SELECT, INSERT, DELETE ON visits TO headgate_job;
INSERT INTO visits SELECT o, now() - interval '1 year' FROM generate_series(1, 3) o;`

// Call is a kind of Go. Its handler waits, if it is to.
type Call struct {
	Waits bool `json:"waits"`
}

func (Call) Kind() string { return "call" }

// attempted is whether a worker has had a job in its hands.
func attempted(t *testing.T, env *jobstest.Env, uid string) bool {
	t.Helper()
	var began bool
	require.NoError(t, env.Pool.QueryRow(t.Context(), `SELECT attempted_at IS NOT NULL FROM river_job WHERE id = $1`, env.RowOf(uid)).Scan(&began))
	return began
}

// Jobs that wait when their tenant may no longer have them are held by the workers, whatever
// the kind is made of and wherever the tenant's rows are, beside another tenant's that run;
// and the same jobs run once the tenant may have them.
func TestWorkThatATenantMayNotHaveWaits(t *testing.T) {
	t.Parallel()
	kinds := []jobs.Args{Call{}, report.Args{Name: "x", Query: "SELECT count(*) FROM visits"}, maintenance.Purge{Table: "visits", Column: "at", OlderThan: "90d"},
		sqlscript.Args{SQL: "INSERT INTO visits VALUES (headgate.current_org(), now())"}}
	status := func(to catalog.Status) func(*jobstest.Env) error {
		return func(env *jobstest.Env) error {
			_, err := env.Catalog.Editor().SetStatus(context.Background(), []string{"acme", "big"}, catalog.StatusChange{To: to})
			return err
		}
	}
	exec := func(sql string) func(*jobstest.Env) error {
		return func(env *jobstest.Env) error {
			_, err := env.Pool.Exec(context.Background(), sql)
			return err
		}
	}
	for name, c := range map[string]struct{ on, off func(*jobstest.Env) error }{
		"feature": {exec(`WITH f AS (UPDATE headgate.tenants SET features = '{"extra": true}' WHERE slug = 'globex') INSERT INTO headgate.feature_gates (feature, kind) SELECT 'extra', unnest('{call,headgate.report,headgate.purge,headgate.sql}'::text[])`),
			exec(`UPDATE headgate.tenants SET features = '{"extra": true}'`)},
		"kinds":     {exec(`UPDATE headgate.tenants SET kinds = '{other.kind}' WHERE slug <> 'globex'`), exec(`UPDATE headgate.tenants SET kinds = NULL`)},
		"suspended": {status(catalog.Suspended), status(catalog.Active)},
		"archived":  {status(catalog.Archived), status(catalog.Active)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := jobstest.New(t)
			env.Database("shared", jobstest.DatabaseOpts{Schema: visits, Observed: "its policies are made by hand"})
			env.Database("own", jobstest.DatabaseOpts{Schema: visits, Kind: "dedicated"})
			for slug, database := range map[string]string{"acme": "shared", "globex": "shared", "big": "own"} {
				env.Tenant(slug, database)
			}
			require.NoError(t, exec(`INSERT INTO headgate.features (name, type) VALUES ('extra', 'boolean')`)(env))
			var held, run []string
			for _, args := range kinds {
				for _, tenant := range []string{"acme", "big", "globex"} {
					job, err := env.Client.Enqueue(t.Context(), tenant, args, nil)
					require.NoError(t, err)
					if tenant == "globex" {
						run = append(run, job.UID)
					} else {
						held = append(held, job.UID)
					}
				}
			}
			require.NoError(t, c.on(env))
			reports, err := report.OpenFolder(t.TempDir())
			require.NoError(t, err)
			t.Cleanup(func() { _ = reports.Close() })
			env.Work(nil, func(w *worker.Worker) {
				worker.InTx(w, func(ctx context.Context, tx pgx.Tx, _ *jobs.Job[Call]) error {
					_, err := tx.Exec(ctx, `INSERT INTO visits VALUES (headgate.current_org(), now())`)
					return err
				})
				worker.ReadOnly(w, report.New(reports))
				worker.InTx(w, maintenance.RunPurge)
				worker.InTx(w, sqlscript.Run)
			})
			for _, uid := range run {
				require.Equal(t, jobs.Succeeded, env.Wait(uid).State)
			}
			for _, uid := range held {
				require.False(t, attempted(t, env, uid))
			}
			require.NoError(t, c.off(env))
			for _, uid := range held {
				last := env.Wait(uid)
				require.Equal(t, jobs.Succeeded, last.State, last.Message)
				require.Equal(t, 1, last.Attempt)
			}
		})
	}
}

// A job that runs when its tenant leaves has its effect. Then nothing of the tenant starts,
// and the worker has no connection to the tenant's own database any more, seconds later.
func TestLeaversKeepNoConnections(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	ctx := t.Context()
	editor := env.Catalog.Editor()
	status := func(slug string, to catalog.Status) error {
		_, err := editor.SetStatus(ctx, []string{slug}, catalog.StatusChange{To: to, Waiting: catalog.HoldWaiting})
		return err
	}
	leave := map[string]func(slug string) error{
		"suspended": func(slug string) error { return status(slug, catalog.Suspended) },
		"archived":  func(slug string) error { return status(slug, catalog.Archived) },
		"removed":   func(slug string) error { _, err := editor.Remove(ctx, []string{slug}, nil); return err },
	}
	const schema = `CREATE TABLE visits (org_id bigint, at timestamptz); GRANT INSERT ON visits TO headgate_job`
	env.Database("other", jobstest.DatabaseOpts{Kind: "dedicated", Schema: schema})
	env.Tenant("other", "other")
	databases := map[string]*jobstest.Database{}
	for slug := range leave {
		databases[slug] = env.Database(slug, jobstest.DatabaseOpts{Kind: "dedicated", Schema: schema})
		env.Tenant(slug, slug)
	}
	began, goOn := make(chan struct{}), make(chan struct{})
	env.Work(nil, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Call]) error {
			if job.Args.Waits {
				began <- struct{}{}
				<-goOn
			}
			_, err := tx.Exec(ctx, `INSERT INTO visits VALUES (headgate.current_org(), now())`)
			return err
		})
	})
	sessions := func(slug string) (n int) {
		db := databases[slug]
		require.NoError(t, db.Pool.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity WHERE usename IN ($1, $2)`, db.Job.User, db.Owner.User).Scan(&n))
		return n
	}
	running, waiting := map[string]string{}, map[string]string{}
	enqueue := func(slug string, args Call) string {
		job, err := env.Client.Enqueue(ctx, slug, args, nil)
		require.NoError(t, err)
		return job.UID
	}
	for slug := range leave {
		running[slug] = enqueue(slug, Call{Waits: true})
		<-began
		require.Positive(t, sessions(slug), slug)
	}
	for slug, do := range leave {
		job, err := env.Client.Enqueue(ctx, slug, Call{}, &jobs.EnqueueOpts{RunAt: time.Now().Add(time.Hour)})
		require.NoError(t, err)
		waiting[slug] = job.UID
		require.NoError(t, do(slug))
		require.Positive(t, sessions(slug), "%s: what runs goes on", slug)
	}
	close(goOn)
	for slug, uid := range running {
		last := env.Wait(uid)
		require.Equal(t, jobs.Succeeded, last.State, "%s: %s", slug, last.Message)
		require.Eventually(t, func() bool { return sessions(slug) == 0 }, time.Minute, 20*time.Millisecond, slug)
	}
	_, err := env.Pool.Exec(ctx, `UPDATE river_job SET state = 'available', scheduled_at = now() WHERE state = 'scheduled'`)
	require.NoError(t, err)
	require.Equal(t, jobs.Succeeded, env.Wait(enqueue("other", Call{})).State, "the worker works")
	for slug, uid := range waiting {
		require.False(t, attempted(t, env, uid), slug)
		require.Zero(t, sessions(slug), slug)
		var rows int
		require.NoError(t, databases[slug].Pool.QueryRow(ctx, `SELECT count(*) FROM visits`).Scan(&rows))
		require.Equal(t, 1, rows, fmt.Sprint(slug, ": of the job that ran"))
	}
	for _, slug := range []string{"suspended", "archived"} {
		require.NoError(t, status(slug, catalog.Active))
		require.Equal(t, jobs.Succeeded, env.Wait(waiting[slug]).State, slug)
	}
}
