package worker_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/explain"
	"github.com/headgate/headgate/worker"
)

// heir is a worker of one of several central databases that know the same tenants. It
// asks a database that has refused it again at once.
func heir(env *jobstest.Env) *worker.Worker {
	cfg := env.Config()
	cfg.Tenants.AuthPause, cfg.Tenants.CentreFor = 10*time.Millisecond, time.Nanosecond
	cfg.BreakerPause = 10 * time.Millisecond
	return env.Work(&cfg, func(w *worker.Worker) { worker.InTx(w, end) })
}

// works sees that a central database's job is done in its tenant's database.
func works(t *testing.T, env *jobstest.Env) {
	t.Helper()
	got := env.Run("acme", Ending{})
	require.Equal(t, jobs.Succeeded, got.State, got.Message)
}

// waits sees that a central database's job waits as wrong_centre, has used no attempt and
// says what to do, and returns its UID.
func waits(t *testing.T, env *jobstest.Env) string {
	t.Helper()
	ctx := context.Background()
	result, err := env.Client.Enqueue(ctx, "acme", Ending{}, nil)
	require.NoError(t, err)
	o := env.WaitFor(result.UID, func(jobs.Outcome) bool { return true })
	require.Equal(t, jobs.Snoozed, o.State, o.Message)
	require.Equal(t, jobs.ClassWrongCentre, o.Class, o.Message)
	require.Contains(t, o.Message, "headgate central adopt --database acme")
	require.Eventually(t, func() bool { // not while it looks again
		said, err := env.Explain.Explain(ctx, result.UID)
		return err == nil && slices.ContainsFunc(said.Facts, func(f explain.Fact) bool {
			return f.Next == "see which central database is to work it, stop `headgate serve` and the workers of the other, then, on the right one: `headgate central adopt --database acme`, or --all after a restore or a move; once that is done the job goes on by itself"
		})
	}, 30*time.Second, time.Millisecond, "the next step")
	return result.UID
}

// goesOn sees that a job that has waited is done, in its first attempt. On a slow machine
// the kind's two seconds may have used some before.
func goesOn(t *testing.T, env *jobstest.Env, uid string) {
	t.Helper()
	got := env.Wait(uid)
	require.Equal(t, jobs.Succeeded, got.State, got.Message)
	attempts, err := env.Attempts(context.Background(), uid)
	require.NoError(t, err)
	first := 1
	for _, o := range attempts {
		if o.Class == jobs.ClassTimeout {
			first++
		}
	}
	require.Equal(t, first, got.Attempt, "waiting used no attempt")
}

func adopt(t *testing.T, env *jobstest.Env, params catalog.AdoptParams) {
	t.Helper()
	adopted, err := env.Catalog.Adopt(context.Background(), params)
	require.NoError(t, err)
	require.Equal(t, 1, adopted.Databases)
}

// markOf is what the tenant database bears: the centre's mark and token.
func markOf(t *testing.T, db *jobstest.Database) (mark [2]string) {
	t.Helper()
	require.NoError(t, db.Pool.QueryRow(context.Background(),
		`SELECT coalesce(centre, ''), coalesce(token, '') FROM headgate.identity`).Scan(&mark[0], &mark[1]))
	return mark
}

// A copy of the central database leaves the first one's tenants alone until somebody
// decides that it is to work them; then the first one does. A decision holds once.
func TestACopyOfTheCentreWaits(t *testing.T) {
	t.Parallel()
	env, db, _ := acme(t)
	copied := env.Copy()
	heir(env)
	works(t, env)
	first := markOf(t, db)
	require.NotEmpty(t, first[0])

	heir(copied)
	waiting := waits(t, copied)
	works(t, env)
	require.Equal(t, first, markOf(t, db))

	adopt(t, copied, catalog.AdoptParams{Database: "acme"})
	goesOn(t, copied, waiting)
	require.NotEqual(t, first, markOf(t, db))
	here := waits(t, env)
	adopt(t, env, catalog.AdoptParams{All: true})
	goesOn(t, env, here)
	waits(t, copied)
	works(t, env)
}

// age makes the tokens of a central database older, so that it makes another one.
func age(t *testing.T, env *jobstest.Env, w *worker.Worker) {
	t.Helper()
	for _, by := range []string{"100 years", "-100 years 1 hour"} { // no row may meet another's hour on the way
		_, err := env.Pool.Exec(context.Background(), `UPDATE headgate.centre_tokens SET hour = hour - $1::interval, written_at = written_at - $1::interval`, by)
		require.NoError(t, err)
	}
	require.NoError(t, w.RefreshCentre(context.Background()))
}

// A token is left when it is ten minutes old, by the first job after that, on a
// connection that was there before, and once.
func TestTheTokenIsLeftOnceAnHour(t *testing.T) {
	t.Parallel()
	env, db, _ := acme(t)
	ctx := context.Background()
	w := heir(env)
	works(t, env)
	require.Empty(t, markOf(t, db)[1], "a failover may lose what was written in the last minutes")
	token := func(sql string) (text string) {
		require.NoError(t, env.Pool.QueryRow(ctx, `SELECT token FROM headgate.centre_tokens WHERE `+sql).Scan(&text))
		return text
	}
	version := func() (xmin string) {
		require.NoError(t, db.Pool.QueryRow(ctx, `SELECT xmin::text FROM headgate.identity`).Scan(&xmin))
		return xmin
	}
	connects := w.Connects(jobstest.Server)
	for range 2 {
		age(t, env, w)
		works(t, env)
		require.Equal(t, token(`hour = (SELECT max(hour) FROM headgate.centre_tokens WHERE written_at < now() - interval '10 minutes')`), markOf(t, db)[1])
		before := version()
		for range 5 {
			works(t, env)
		}
		require.Equal(t, before, version(), "one write an hour")
	}
	require.LessOrEqual(t, w.Connects(jobstest.Server)-connects, int64(1))
	require.NotEqual(t, token(`hour = (SELECT max(hour) FROM headgate.centre_tokens)`), markOf(t, db)[1])
}

// A token that this central database has not made is another's, though the mark is the
// same: as of a base backup that works the tenants, or is beside one that does.
func TestAnUnknownTokenIsAnothersCentre(t *testing.T) {
	t.Parallel()
	env, db, _ := acme(t)
	ctx := context.Background()
	w := heir(env)
	works(t, env)
	age(t, env, w)
	works(t, env)
	ours := markOf(t, db)
	require.NotEmpty(t, ours[1])
	_, err := db.Pool.Exec(ctx, `UPDATE headgate.identity SET token = split_part(token, '.', 1) || '.' || gen_random_uuid()`)
	require.NoError(t, err)
	require.NoError(t, w.Stop(ctx))
	heir(env)
	waiting := waits(t, env)
	adopt(t, env, catalog.AdoptParams{All: true})
	goesOn(t, env, waiting)
	require.Equal(t, ours, markOf(t, db))
}

// Somebody who has locked the row that bears the mark, as a forgotten session does, keeps
// no job from its work. The mark is left when the lock is gone.
func TestALockedMarkKeepsNoJob(t *testing.T) {
	t.Parallel()
	env, db, _ := acme(t)
	ctx := context.Background()
	tx, err := db.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(ctx) }()
	_, err = tx.Exec(ctx, `SELECT FROM headgate.identity FOR UPDATE`)
	require.NoError(t, err)
	heir(env)
	works(t, env)
	works(t, env)
	require.Empty(t, markOf(t, db)[0])
	require.NoError(t, tx.Rollback(ctx))
	works(t, env)
	require.NotEmpty(t, markOf(t, db)[0])
}

// An adoption that there was no need for is forgotten, before a copy makes use of it.
func TestAnAdoptionWithoutNeedIsForgotten(t *testing.T) {
	t.Parallel()
	env, _, _ := acme(t)
	ctx := context.Background()
	adopt(t, env, catalog.AdoptParams{All: true})
	heir(env)
	works(t, env)
	var left int
	require.NoError(t, env.Pool.QueryRow(ctx, `SELECT count(*) FROM headgate.adoptions`).Scan(&left))
	require.Zero(t, left)
}

// A job cannot say which central database its database belongs to.
func TestAJobDoesNotNameTheCentre(t *testing.T) {
	t.Parallel()
	_, db, _ := acme(t)
	ctx := context.Background()
	tx, err := db.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(ctx) }()
	require.NoError(t, db.ActFor(ctx, tx, 1))
	_, err = tx.Exec(ctx, `SELECT headgate.leave_centre(current_setting('headgate.context'), '', NULL, NULL, 'mine', NULL)`)
	require.ErrorContains(t, err, "the ticket is not signed with this database's key")
}

// Letter is a kind without a connection.
type Letter struct{}

func (Letter) Kind() string { return "letter" }

// What meets no tenant database waits in a copy too: it would be sent twice.
func TestACopySendsNoMail(t *testing.T) {
	t.Parallel()
	env, _, _ := acme(t)
	post := func(env *jobstest.Env, sent chan string) *worker.Worker {
		return env.Work(nil, func(w *worker.Worker) {
			worker.NoConn(w, func(_ context.Context, job *jobs.Job[Letter]) error {
				sent <- job.UID
				return nil
			})
		})
	}
	ours, theirs := make(chan string, 9), make(chan string, 9)
	post(env, ours)
	require.Equal(t, jobs.Succeeded, env.Run("acme", Letter{}).State)
	copied := env.Copy()
	w := post(copied, theirs)
	result, err := copied.Client.Enqueue(context.Background(), "acme", Letter{}, nil)
	require.NoError(t, err)
	o := copied.WaitFor(result.UID, func(jobs.Outcome) bool { return true })
	require.Equal(t, jobs.Snoozed, o.State, o.Message)
	require.Equal(t, jobs.ClassWrongCentre, o.Class)
	require.Contains(t, o.Message, "headgate central adopt --all")
	require.Empty(t, theirs)

	adopt(t, copied, catalog.AdoptParams{All: true})
	require.NoError(t, w.RefreshCentre(context.Background()))
	goesOn(t, copied, result.UID)
	require.Equal(t, result.UID, <-theirs)
	require.Equal(t, jobs.Succeeded, env.Run("acme", Letter{}).State)
}
