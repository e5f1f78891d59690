package worker_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// Careless switches off, for its own transaction, the wait for the disk. Lately is
// the same in the optimistic form, Stepwise in steps outside a transaction.
type (
	Careless struct{}
	Lately   struct{}
	Stepwise struct{}
)

func (Careless) Kind() string { return "careless" }
func (Lately) Kind() string   { return "lately" }
func (Stepwise) Kind() string { return "stepwise" }

func (Lately) KindOpts() jobs.KindOpts   { return jobs.KindOpts{Optimistic: true} }
func (Stepwise) KindOpts() jobs.KindOpts { return jobs.KindOpts{Idempotence: jobs.Chunked} }

func off(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `SET LOCAL synchronous_commit = off`)
	return err
}

// What stands in the seen table was written by a deferred trigger, so at COMMIT.
var seenSQL = []string{`CREATE TABLE seen (step text, state text, setting text)`, `
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
	INSERT INTO public.seen SELECT NEW.step, l.state, current_setting('synchronous_commit')
	FROM headgate.ledger l WHERE l.job_uid = NEW.job_uid AND l.step = NEW.step;
	RETURN NULL;
END $$`, `
CREATE CONSTRAINT TRIGGER see AFTER INSERT OR UPDATE ON headgate.ledger DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION see()`}

// A crash of the tenant's server takes nothing back that the history tells of:
// each COMMIT of an end waits for the disk, whoever has said that it need not. What
// an operator has chosen of the other values stays.
func TestNoSettingMakesACommitForgetful(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	ctx := context.Background()
	env.Work(nil, func(w *worker.Worker) {
		worker.InTx(w, transfer)
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, _ *jobs.Job[Careless]) error { return off(ctx, tx) })
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, _ *jobs.Job[Lately]) error { return off(ctx, tx) })
		worker.OnConn(w, func(ctx context.Context, conn *pgx.Conn, job *jobs.Job[Stepwise]) error {
			if _, err := conn.Exec(ctx, `SET synchronous_commit = off`); err != nil {
				return err
			}
			return job.Step(ctx, "one", off)
		})
	})
	for _, value := range []string{"off", "on", "local", "remote_apply"} {
		db := env.Database(strings.ReplaceAll("with-"+value, "_", "-"), jobstest.DatabaseOpts{Kind: "dedicated", Schema: schema})
		slug := env.Tenant(strings.ReplaceAll("t-"+value, "_", "-"), db.Name).Slug
		for _, sql := range append(seenSQL, `ALTER DATABASE `+db.Job.Database+` SET synchronous_commit = `+value) {
			_, err := db.Pool.Exec(ctx, sql)
			require.NoError(t, err)
		}
		commits := func(args ...jobs.Args) []string {
			_, err := db.Pool.Exec(ctx, `TRUNCATE seen`)
			require.NoError(t, err)
			for _, a := range args {
				o := env.Run(slug, a)
				require.Equal(t, jobs.Succeeded, o.State, o.Message)
			}
			rows, err := db.Pool.Query(ctx, `SELECT DISTINCT concat_ws(' ', step, state, setting) FROM seen ORDER BY 1`)
			require.NoError(t, err)
			seen, err := pgx.CollectRows(rows, pgx.RowTo[string])
			require.NoError(t, err)
			return seen
		}
		usual := value
		if value == "off" {
			usual = "on"
		}
		require.Equal(t, []string{" done " + usual}, commits(Transfer{From: 1, To: 2}), value)
		require.Equal(t, []string{" done on"}, commits(Careless{}, Lately{}), value)
		require.Equal(t, []string{" claimed " + usual, " done on", "one done on"}, commits(Stepwise{}), value)
	}
}

// Openly leaves what it has asked for half read.
type Openly struct{ How string }

func (Openly) Kind() string { return "openly" }

// Rows that a handler has not closed are its own fault, and are told so.
func TestRowsThatAHandlerLeavesOpenAreNamed(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", db.Name)
	env.Work(nil, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Openly]) error {
			if job.Args.How == "batch" {
				b := &pgx.Batch{}
				b.Queue(`SELECT 1`)
				tx.SendBatch(ctx, b)
				return nil
			}
			rows, err := tx.Query(ctx, `SELECT generate_series(1, 1000)`)
			if err != nil || !rows.Next() {
				return errors.Join(err, rows.Err())
			}
			if job.Args.How == "closed" {
				rows.Close()
			}
			return nil
		})
	})
	for _, how := range []string{"rows", "batch"} {
		r, err := env.Client.Enqueue(context.Background(), "acme", Openly{how}, &jobs.EnqueueOpts{MaxAttempts: 1})
		require.NoError(t, err)
		o := env.Wait(r.UID)
		require.Equal(t, jobs.Discarded, o.State)
		require.Equal(t, jobs.ClassJobError, o.Class)
		require.Contains(t, o.Message, "the handler left rows or results of a batch open: close them before it returns", how)
	}
	require.Equal(t, jobs.Succeeded, env.Run("acme", Openly{"closed"}).State)
}
