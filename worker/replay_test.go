package worker_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
	"github.com/headgate/headgate/worker/tenantdb"
)

// The context that a job has read is worth nothing in the next job, of the same tenant or
// of another, on the same connection: in a transaction, and outside of one.
func TestAContextIsWorthNothingInTheNextJob(t *testing.T) {
	t.Parallel()
	p := newPrison(t)
	for _, door := range []string{byTx, byConn} {
		for _, next := range []string{"acme", "brick"} {
			_, err := p.db.Pool.Exec(context.Background(), `DELETE FROM notes WHERE body LIKE '%~%'`)
			require.NoError(t, err)
			require.Equal(t, "ok", p.try(door, `INSERT INTO notes (body) SELECT pg_backend_pid() || '~' || current_setting('headgate.context')`), door)
			var kept string
			require.NoError(t, p.db.Pool.QueryRow(context.Background(), `SELECT body FROM notes WHERE body LIKE '%~%'`).Scan(&kept))
			session, signed, _ := strings.Cut(kept, "~")
			require.Contains(t, signed, "|"+strconv.FormatInt(p.acme, 10)+"|")
			// The session is looked at first: what is refused in another proves less.
			again := fmt.Sprintf(`DO $$ BEGIN IF pg_backend_pid() <> %s THEN RAISE 'another session'; END IF; END $$;
SELECT set_config('headgate.context', '%s', false); SELECT count(*) FROM notes`, session, signed)
			got := p.end(next, through(door, again))
			require.Equal(t, "28000", got.state, "%s, then %s: %s", door, next, got.said)
		}
	}
}

// Searching looks wherever SQL can look for a ticket of its own job.
type Searching struct{}

func (Searching) Kind() string { return "searching" }

const searchSQL = `
SELECT concat_ws(E'\n', (SELECT string_agg(query, ',') FROM pg_stat_activity), (SELECT string_agg(statement, ',') FROM pg_prepared_statements),
    (SELECT string_agg(statement, ',') FROM pg_cursors), (SELECT string_agg(setting, ',') FROM pg_settings), current_setting('headgate.context', true), current_query())`

// No job can read the ticket that has opened it. A ticket that somebody has kept all the
// same opens no second run of its job, and takes no end of it back.
func TestATicketIsReplayed(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	env := jobstest.New(t)
	db := env.Database("shared", jobstest.DatabaseOpts{Schema: schema})
	acme := env.Tenant("acme", "shared")
	bearer := tenantdb.Bearer{Org: acme.OrgID, Key: strconv.FormatInt(acme.OrgID, 10)}
	began := time.Now()
	// holds says whether a text has a ticket of the job, of any second since the test began.
	holds := func(text, uid string) bool {
		b := bearer
		b.UID = uid
		for at := began.Add(-5 * time.Second); at.Before(time.Now().Add(5 * time.Second)); at = at.Add(time.Second) {
			if strings.Contains(text, tenantdb.SignTicket(db.SigningKey, at, b).MAC) {
				return true
			}
		}
		return false
	}
	env.Work(nil, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Searching]) error {
			look := func() (all string) {
				require.NoError(t, tx.QueryRow(ctx, searchSQL).Scan(&all))
				return all
			}
			job.Result.Output = fmt.Sprint(holds(look(), job.UID))
			b := bearer
			b.UID = job.UID
			_, err := tx.Exec(ctx, `PREPARE control AS SELECT '`+tenantdb.SignTicket(db.SigningKey, time.Now(), b).MAC+`'`)
			job.Result.Output += fmt.Sprint(" ", holds(look(), job.UID))
			return err
		})
	})
	got := env.Run("acme", Searching{})
	require.Equal(t, jobs.Succeeded, got.State, got.Message)
	require.Equal(t, "false true", got.Result.Output, "the second is the control")

	kept := db.Ticket(acme.OrgID, got.JobUID)
	for sql, want := range map[string]string{
		`SELECT state FROM headgate.begin_job($1, $2, '', 9, '', 0, 0, 0)`: "done",
		`SELECT state FROM headgate.peek_job($1, $2, '', 9, '', 0, 0, 0)`:  "done",
		`SELECT state FROM headgate.claim_job($1, $2, 9, '', 0, 0, 0)`:     "done",
		`SELECT state FROM headgate.probe($1, $2, 50)`:                     "done",
		`SELECT state FROM headgate.tombstone($1, $2, 50)`:                 "done",
		`SELECT headgate.finish_job($1, $2, '{}')::text`:                   "false",
		`SELECT headgate.release_job($1, $2)::text`:                        "",
	} {
		var answer string
		conn, err := db.Pool.Acquire(ctx)
		require.NoError(t, err)
		require.NoError(t, conn.QueryRow(ctx, sql, kept.Text, kept.MAC).Scan(&answer), sql)
		require.NoError(t, conn.Hijack().Close(ctx)) // with its session lock and settings
		require.Equal(t, want, answer, sql)
		var state string
		require.NoError(t, db.Pool.QueryRow(ctx, `SELECT state FROM headgate.ledger WHERE job_uid = $1`, got.JobUID).Scan(&state), sql)
		require.Equal(t, "done", state, sql)
	}
}
