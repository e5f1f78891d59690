package worker_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

func TestMain(m *testing.M) {
	if os.Getenv(envVictim) != "" {
		if err := victimMain(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if freezer() {
		return
	}
	if os.Getenv(envDeployed) != "" {
		if err := deployedWorker(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	jobstest.Main(m)
}

func ptr[T any](v T) *T { return &v }

func withQueue(cfg worker.Config, name string) worker.Config {
	cfg.Queues = map[string]int{name: 1}
	return cfg
}

func enqueueTo(queue string) *jobs.EnqueueOpts {
	return &jobs.EnqueueOpts{Queue: queue}
}

// schema is a bank in miniature, as a SaaS might have it in a shared database:
// rows of all organisations in one table, held apart by row-level security.
const schema = `
CREATE TABLE accounts (
    org_id  bigint NOT NULL,
    id      int NOT NULL,
    balance bigint NOT NULL,
    PRIMARY KEY (org_id, id)
);
CREATE TABLE transfers (
    org_id  bigint NOT NULL,
    job_uid uuid NOT NULL,
    source  int NOT NULL,
    target  int NOT NULL,
    amount  bigint NOT NULL,
    at      timestamptz NOT NULL DEFAULT clock_timestamp()
);
ALTER TABLE accounts ENABLE ROW LEVEL SECURITY;
ALTER TABLE transfers ENABLE ROW LEVEL SECURITY;
CREATE POLICY org ON accounts TO headgate_job
    USING (org_id = (SELECT headgate.current_org())) WITH CHECK (org_id = (SELECT headgate.current_org()));
CREATE POLICY org ON transfers TO headgate_job
    USING (org_id = (SELECT headgate.current_org())) WITH CHECK (org_id = (SELECT headgate.current_org()));
GRANT SELECT, INSERT, UPDATE, DELETE ON accounts, transfers TO headgate_job;
-- A job's context without a job, as the owner alone can make it.
CREATE FUNCTION pretend(org bigint) RETURNS text LANGUAGE sql SECURITY DEFINER AS $$
    SELECT set_config('headgate.context', headgate.hmac(k.inner_key, k.outer_key, concat_ws('|', pg_backend_pid(),
        encode(timestamptz_send(transaction_timestamp()), 'hex'), body)) || '|' || body, true)
    FROM headgate.signing_key k, concat('t|', org, '|', gen_random_uuid(), '||') AS body $$;
INSERT INTO headgate.protected (object, mode, reason) VALUES ('public.pretend(pg_catalog.int8)', 'function', 'the tests use it')`

// Transfer moves money between two accounts of one tenant, and leaves a line
// that names the job: what the tests count.
type Transfer struct {
	From   int   `json:"from"`
	To     int   `json:"to"`
	Amount int64 `json:"amount"`
}

func (Transfer) Kind() string { return "transfer" }

func transfer(ctx context.Context, tx pgx.Tx, job *jobs.Job[Transfer]) error {
	a := job.Args
	if _, err := tx.Exec(ctx, `UPDATE accounts SET balance = balance - $1 WHERE id = $2`, a.Amount, a.From); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `UPDATE accounts SET balance = balance + $1 WHERE id = $2`, a.Amount, a.To); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `INSERT INTO transfers (org_id, job_uid, source, target, amount) VALUES ($1, $2, $3, $4, $5)`,
		job.Tenant.OrgID, job.UID, a.From, a.To, a.Amount)
	job.Result.Rows = 3
	return err
}

// open fills a tenant's accounts 1 to n with 1,000 each.
func open(t *testing.T, db *jobstest.Database, orgID int64, n int) {
	t.Helper()
	_, err := db.Pool.Exec(context.Background(),
		`INSERT INTO accounts SELECT $1, i, 1000 FROM generate_series(1, $2) i`, orgID, n)
	if err != nil {
		t.Fatal(err)
	}
}

// lockedLogger writes debug lines to w, one at a time.
func lockedLogger(w io.Writer) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// quietLogger says nothing: for tests that make thousands of warnings.
func quietLogger() *slog.Logger { return slog.New(slog.DiscardHandler) }
