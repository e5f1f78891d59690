package worker_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// The four kinds of work outside a transaction; How says what the handler, or
// the verifier, does.
type (
	again    struct{ outside }
	checked  struct{ outside }
	inParts  struct{ outside }
	onlyOnce struct{ outside }
	outside  struct {
		How string `json:"how"`
	}
)

func (again) Kind() string    { return "again" }
func (checked) Kind() string  { return "checked" }
func (inParts) Kind() string  { return "in-parts" }
func (onlyOnce) Kind() string { return "only-once" }

func (again) KindOpts() jobs.KindOpts   { return jobs.KindOpts{Idempotence: jobs.Idempotent} }
func (checked) KindOpts() jobs.KindOpts { return jobs.KindOpts{Idempotence: jobs.Verifiable} }
func (inParts) KindOpts() jobs.KindOpts { return jobs.KindOpts{Idempotence: jobs.Chunked} }
func (onlyOnce) KindOpts() jobs.KindOpts {
	return jobs.KindOpts{Idempotence: jobs.Unsafe}
}

// diary notes which jobs ran, in order.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) note(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, line)
}

func (d *diary) count(line string) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range d.lines {
		if l == line {
			n++
		}
	}
	return n
}

func registerOutside(w *worker.Worker, d *diary) {
	insert := func(ctx context.Context, tx pgx.Tx, job jobs.Info, part int) error {
		_, err := tx.Exec(ctx, `INSERT INTO transfers (org_id, job_uid, source, target, amount) VALUES ($1, $2, $3, 0, 0)`, job.Tenant.OrgID, job.UID, part)
		return err
	}
	worker.OnConn(w, func(ctx context.Context, conn *pgx.Conn, job *jobs.Job[again]) error {
		d.note(job.UID)
		return nil
	})
	worker.OnConnVerified(w, func(ctx context.Context, conn *pgx.Conn, job *jobs.Job[checked]) error {
		d.note(job.UID)
		return nil
	}, func(ctx context.Context, conn *pgx.Conn, job *jobs.Job[checked]) (bool, error) {
		return job.Args.How == "done", nil
	})
	worker.OnConn(w, func(ctx context.Context, conn *pgx.Conn, job *jobs.Job[inParts]) error {
		for i, part := range []string{"one", "two", "three"} {
			err := job.Step(ctx, part, func(ctx context.Context, tx pgx.Tx) error {
				d.note(job.UID + part)
				if err := insert(ctx, tx, job.Info, i); err != nil {
					return err
				}
				if part == "two" && d.count(job.UID+part) == 1 {
					return errors.New("not at the first attempt")
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	worker.OnConn(w, func(ctx context.Context, conn *pgx.Conn, job *jobs.Job[onlyOnce]) error {
		d.note(job.UID)
		switch {
		case job.Args.How == "error":
			return errors.New("half of it is done")
		case job.Args.How == "snooze" && d.count(job.UID) == 1:
			return jobs.Snooze(time.Millisecond)
		}
		return nil
	})
}

// What an attempt does that finds an earlier one begun and not ended: as each
// kind has declared.
func TestTwoPhases(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	acme := env.Tenant("acme", "acme")
	ctx := context.Background()
	type want struct {
		args      jobs.Args
		begun     bool // by an attempt that told nothing of its end
		ran       int
		state     jobs.State
		class     jobs.Class
		recovered bool
		uid       string
	}
	list := []want{
		{args: again{}, ran: 1, state: jobs.Succeeded},
		{args: again{}, begun: true, ran: 1, state: jobs.Succeeded},
		{args: checked{}, ran: 1, state: jobs.Succeeded},
		{args: checked{outside{"done"}}, begun: true, ran: 0, state: jobs.Succeeded, recovered: true},
		{args: checked{outside{"not done"}}, begun: true, ran: 1, state: jobs.Succeeded},
		{args: onlyOnce{}, ran: 1, state: jobs.Succeeded},
		{args: onlyOnce{}, begun: true, ran: 0, state: jobs.Cancelled, class: jobs.ClassUnsafe},
		{args: onlyOnce{outside{"error"}}, ran: 1, state: jobs.Cancelled, class: jobs.ClassUnsafe},
		{args: onlyOnce{outside{"snooze"}}, ran: 2, state: jobs.Succeeded},
	}
	for i := range list {
		result, err := env.Client.Enqueue(ctx, "acme", list[i].args, nil)
		require.NoError(t, err)
		list[i].uid = result.UID
		if list[i].begun {
			_, err = db.Pool.Exec(ctx, `INSERT INTO headgate.ledger (org_id, job_uid, two_phase) VALUES ($1, $2, true)`, acme.OrgID, result.UID)
			require.NoError(t, err)
		}
	}
	d := &diary{}
	env.Work(nil, func(w *worker.Worker) { registerOutside(w, d) })
	for _, c := range list {
		got := env.Wait(c.uid)
		require.Equal(t, c.state, got.State, "%T%v: %s", c.args, c.args, got.Message)
		require.Equal(t, c.class, got.Class, "%T%v: %s", c.args, c.args, got.Message)
		require.Equal(t, c.ran, d.count(c.uid), "%T%v", c.args, c.args)
		require.Equal(t, c.recovered, got.Recovered, "%T%v", c.args, c.args)
	}
	var open int
	require.NoError(t, db.Pool.QueryRow(ctx, `SELECT count(*) FROM headgate.ledger WHERE state = 'claimed'`).Scan(&open))
	require.Equal(t, 2, open, "the two that wait for a person")
}

// A chunked job that fails half way goes on where it was.
func TestStepsAreDoneOnce(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "acme")
	d := &diary{}
	env.Work(nil, func(w *worker.Worker) { registerOutside(w, d) })
	got := env.Run("acme", inParts{})
	require.Equal(t, jobs.Succeeded, got.State, got.Message)
	require.Equal(t, 2, got.Attempt)
	require.Equal(t, []string{got.JobUID + "one", got.JobUID + "two", got.JobUID + "two", got.JobUID + "three"}, d.lines)
	rows, err := db.Pool.Query(context.Background(), `SELECT source FROM transfers ORDER BY source`)
	require.NoError(t, err)
	parts, err := pgx.CollectRows(rows, pgx.RowTo[int])
	require.NoError(t, err)
	require.Equal(t, []int{0, 1, 2}, parts, "each step's row once; the failed step left none")
}

// While a session holds the lock on a job's uid, be its worker declared dead or
// not, no other attempt begins; and it does as soon as the session is over.
func TestTheSessionLockExcludes(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	acme := env.Tenant("acme", "acme")
	ctx := context.Background()
	result, err := env.Client.Enqueue(ctx, "acme", again{}, nil)
	require.NoError(t, err)
	session, err := pgx.ConnectConfig(ctx, db.Pool.Config().ConnConfig)
	require.NoError(t, err)
	defer func() { _ = session.Close(ctx) }()
	var state string
	ticket := db.Ticket(acme.OrgID, result.UID)
	require.NoError(t, session.QueryRow(ctx, `SELECT state FROM headgate.claim_job($1, $2, 1, '', 0, 0, 0)`, ticket.Text, ticket.MAC).Scan(&state))
	require.Equal(t, "begun", state)
	d := &diary{}
	env.Work(nil, func(w *worker.Worker) { registerOutside(w, d) })
	held := env.WaitFor(result.UID, func(jobs.Outcome) bool { return true })
	require.Equal(t, jobs.Snoozed, held.State)
	require.Equal(t, jobs.ClassConflict, held.Class, held.Message)
	require.Zero(t, d.count(result.UID))
	require.NoError(t, session.Close(ctx))
	got := env.Wait(result.UID)
	require.Equal(t, jobs.Succeeded, got.State, got.Message)
	require.Equal(t, 1, got.Attempt)
}

// Kinds that say too little or too much of themselves do not start.
func TestWrongDeclarations(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	for _, c := range []struct {
		register func(w *worker.Worker)
		want     string
	}{
		{func(w *worker.Worker) {
			worker.OnConn(w, func(context.Context, *pgx.Conn, *jobs.Job[Transfer]) error { return nil })
		}, "declare KindOpts.Idempotence"},
		{func(w *worker.Worker) {
			worker.InTx(w, func(context.Context, pgx.Tx, *jobs.Job[again]) error { return nil })
		}, "leave KindOpts.Idempotence out"},
		{func(w *worker.Worker) {
			worker.OnConn(w, func(context.Context, *pgx.Conn, *jobs.Job[checked]) error { return nil })
		}, "registered with OnConnVerified"},
		{func(w *worker.Worker) {
			worker.ReadOnly(w, func(context.Context, pgx.Tx, *jobs.Job[Late]) error { return nil })
		}, "only a kind registered with InTx can be optimistic"},
	} {
		w, err := worker.New(env.Config())
		require.NoError(t, err)
		c.register(w)
		require.ErrorContains(t, w.Start(context.Background()), c.want)
	}
}

// The ledger forgets what is older than its retention, as jobs end, and nothing
// that is younger or still claimed.
func TestTheLedgerForgets(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	ctx := context.Background()
	_, err := db.Pool.Exec(ctx, `
INSERT INTO headgate.ledger (org_id, job_uid, state, two_phase, begun_at)
SELECT 1, gen_random_uuid(), CASE WHEN n > 300 THEN 'claimed' ELSE 'done' END, true, now() - $1::interval - '1 minute'::interval FROM generate_series(1, 310) n
UNION ALL
SELECT 1, gen_random_uuid(), 'done', true, now() - $1::interval + '1 minute'::interval FROM generate_series(1, 5000) n`, jobs.LedgerRetention)
	require.NoError(t, err)
	_, err = db.Pool.Exec(ctx, `ANALYZE headgate.ledger`)
	require.NoError(t, err)
	var left []int
	for _, uid := range []string{"0190aaaa-0000-7000-8000-000000000001", "0190aaaa-0000-7000-8000-000000000040", "0190aaaa-0000-7000-8000-000000000080"} {
		require.NoError(t, pgx.BeginFunc(ctx, db.Pool, func(tx pgx.Tx) error {
			ticket := db.Ticket(1, uid)
			if _, err := tx.Exec(ctx, `SELECT headgate.begin_job($1, $2, '', 1, '', 0, 0, 0)`, ticket.Text, ticket.MAC); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, `SELECT headgate.finish_job($1, $2, NULL)`, ticket.Text, ticket.MAC)
			return err
		}))
		var n int
		require.NoError(t, db.Pool.QueryRow(ctx, `SELECT count(*) FROM headgate.ledger WHERE begun_at < now() - $1::interval`, jobs.LedgerRetention).Scan(&n))
		left = append(left, n)
	}
	require.Equal(t, []int{310, 54, 10}, left, "one job of 64 deletes up to 256; what is claimed stays")
	var young int
	require.NoError(t, db.Pool.QueryRow(ctx, `SELECT count(*) FROM headgate.ledger`).Scan(&young))
	require.Equal(t, 10+5000+3, young)
	rows, err := db.Pool.Query(ctx, `EXPLAIN SELECT l.ctid FROM headgate.ledger l
WHERE l.begun_at < now() - interval '30 days' AND l.state <> 'claimed' ORDER BY l.begun_at LIMIT 256 FOR UPDATE SKIP LOCKED`)
	require.NoError(t, err)
	plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Contains(t, strings.Join(plan, "\n"), "ledger_age")
}

// Ping is a job whose work is not in the tenant's database.
type Ping struct{}

func (Ping) Kind() string { return "ping" }

// A kind without a connection knows its tenant and does not open the database,
// here one that nobody can connect to.
func TestNoConnOpensNothing(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	acme := env.Tenant("acme", "acme")
	ctx := context.Background()
	wrong := db.Job
	wrong.Password = address.NewSecret("planted-wrong")
	require.NoError(t, env.Catalog.Logins().Set(ctx, "acme", jobs.LoginJob, wrong))
	pinged := make(chan jobs.Tenant, 1)
	env.Work(nil, func(w *worker.Worker) {
		worker.NoConn(w, func(ctx context.Context, job *jobs.Job[Ping]) error {
			pinged <- job.Tenant
			job.Result.Rows = 1
			return job.Follow(Ping{}, &jobs.FollowUpOpts{RunAt: time.Now().Add(time.Hour)})
		})
	})
	got := env.Run("acme", Ping{})
	require.Equal(t, jobs.Succeeded, got.State, got.Message)
	require.Equal(t, acme.OrgID, (<-pinged).OrgID)
	require.EqualValues(t, 1, got.Result.Rows)
	var next int
	require.NoError(t, env.Pool.QueryRow(ctx, `SELECT count(*) FROM river_job WHERE state = 'scheduled'`).Scan(&next))
	require.Equal(t, 1, next)
}
