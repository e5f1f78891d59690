package centre_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker/centre"
	"github.com/headgate/headgate/worker/tenantdb"
)

func TestMain(m *testing.M) { jobstest.Main(m) }

func TestQueriesPrepare(t *testing.T) {
	t.Parallel()
	jobstest.PrepareQueries(t, ".", jobstest.New(t).Pool)
}

func start(t *testing.T, env *jobstest.Env) *centre.Centre {
	t.Helper()
	c, err := centre.Start(context.Background(), env.Pool, slog.Default())
	require.NoError(t, err)
	t.Cleanup(c.Stop)
	return c
}

// older makes the newest token so old, in minutes, and returns it.
func older(t *testing.T, env *jobstest.Env, minutes int) (token string) {
	t.Helper()
	require.NoError(t, env.Pool.QueryRow(context.Background(), fmt.Sprintf(`
UPDATE headgate.centre_tokens SET hour = hour - interval '1 hour', written_at = clock_timestamp() - interval '%d minutes'
WHERE hour = (SELECT max(hour) FROM headgate.centre_tokens) RETURNING token`, minutes)).Scan(&token))
	return token
}

// made is a token of so many hours ago that nobody has made.
func made(hoursAgo int64) string {
	return fmt.Sprintf("%d.%s", time.Now().Unix()/3600-hoursAgo, uuid.NewString())
}

// One token an hour is made by however many ask, counts after ten minutes, and is
// forgotten after 90 days.
func TestTokens(t *testing.T) {
	t.Parallel()
	env, ctx := jobstest.New(t), context.Background()
	one, other := start(t, env), start(t, env)
	tokens := func() (n int) {
		require.NoError(t, env.Pool.QueryRow(ctx, `SELECT count(*) FROM headgate.centre_tokens`).Scan(&n))
		return n
	}
	require.Equal(t, 1, tokens())
	require.Equal(t, one.Now(), other.Now())
	require.Empty(t, one.Now().Token)

	token := older(t, env, 9)
	require.NoError(t, one.Refresh(ctx))
	require.Equal(t, 2, tokens())
	require.Empty(t, one.Now().Token)
	_, err := env.Pool.Exec(ctx, `UPDATE headgate.centre_tokens SET written_at = written_at - interval '1 minute' WHERE token = $1`, token)
	require.NoError(t, err)
	require.NoError(t, one.Refresh(ctx))
	require.Equal(t, token, one.Now().Token)

	_, err = env.Pool.Exec(ctx, `
INSERT INTO headgate.centre_tokens (hour, token) SELECT date_trunc('hour', now(), 'UTC') - make_interval(hours => n), 'x.' || n FROM generate_series(3, 3000) n`)
	require.NoError(t, err)
	require.NoError(t, one.Refresh(ctx))
	require.Equal(t, 90*24+24, tokens())
}

// A clock that is far ahead for a moment takes no token away, and what was made then
// stands in nobody's way.
func TestAClockThatWasAheadForgetsNoToken(t *testing.T) {
	t.Parallel()
	env, ctx := jobstest.New(t), context.Background()
	db := env.Database("acme", jobstest.DatabaseOpts{})
	c := start(t, env)
	older(t, env, 70)
	require.NoError(t, c.Refresh(ctx))
	mark := c.Now()
	require.NotEmpty(t, mark.Token)
	ahead := made(-100 * 24)
	_, err := env.Pool.Exec(ctx, `INSERT INTO headgate.centre_tokens VALUES (date_trunc('hour', now(), 'UTC') + interval '100 days', $1, now() + interval '100 days')`, ahead)
	require.NoError(t, err)
	require.NoError(t, c.Refresh(ctx))
	leave, err := c.Judge(ctx, db.ID, mark)
	require.NoError(t, err)
	require.Zero(t, leave)
	leave, err = c.Judge(ctx, db.ID, tenantdb.Mark{Centre: mark.Centre, Token: ahead})
	require.NoError(t, err)
	require.Equal(t, mark, leave, "a database that was met then has the present token again")
}

// What each mark that is found means.
func TestJudge(t *testing.T) {
	t.Parallel()
	env, ctx := jobstest.New(t), context.Background()
	db := env.Database("acme", jobstest.DatabaseOpts{})
	c := start(t, env)
	first := older(t, env, 70)
	require.NoError(t, c.Refresh(ctx))
	early := c.Now()
	_, err := env.Pool.Exec(ctx, `UPDATE headgate.centre_tokens SET hour = hour - interval '2 hours' WHERE token = $1`, first)
	require.NoError(t, err)
	second := older(t, env, 20)
	require.NoError(t, c.Refresh(ctx))
	var young string
	require.NoError(t, env.Pool.QueryRow(ctx, `SELECT token FROM headgate.centre_tokens ORDER BY hour DESC LIMIT 1`).Scan(&young))
	now, nothing := c.Now(), tenantdb.Mark{}
	require.Equal(t, second, now.Token)
	require.Equal(t, now.Centre, early.Centre)
	stranger := tenantdb.Mark{Centre: now.Centre, Token: made(0)}
	for _, j := range []struct {
		name         string
		found, leave tenantdb.Mark
		wrong        bool
	}{
		{"nobody has worked there", nothing, now, false},
		{"before the first token", tenantdb.Mark{Centre: now.Centre}, now, false},
		{"an old token", early, now, false},
		{"the newest that counts", now, nothing, false},
		{"one that another process takes to count already", tenantdb.Mark{Centre: now.Centre, Token: young}, nothing, false},
		{"a token of nobody's", stranger, nothing, true},
		{"a token that was forgotten", tenantdb.Mark{Centre: now.Centre, Token: made(90*24 + 2)}, now, false},
		{"a token of 90 days ago", tenantdb.Mark{Centre: now.Centre, Token: made(90 * 24)}, now, false},
		{"one that would not be", tenantdb.Mark{Centre: now.Centre, Token: made(90*24 - 2)}, nothing, true},
		{"no token at all", tenantdb.Mark{Centre: now.Centre, Token: "x"}, nothing, true},
		{"another centre", tenantdb.Mark{Centre: "1/2/3"}, nothing, true},
		{"another centre with a token that was forgotten", tenantdb.Mark{Centre: "1/2/3", Token: made(90*24 + 2)}, nothing, true},
		{"another centre with our token", tenantdb.Mark{Centre: "1/2/3", Token: second}, nothing, true},
	} {
		leave, err := c.Judge(ctx, db.ID, j.found)
		require.Equal(t, j.leave, leave, j.name)
		if j.wrong {
			require.ErrorIs(t, err, tenantdb.ErrWrongCentre, j.name)
			continue
		}
		require.NoError(t, err, j.name)
	}

	// A token that another process has made since is asked for.
	_, err = env.Pool.Exec(ctx, `INSERT INTO headgate.centre_tokens (hour, token) VALUES (now() + interval '1 hour', $1)`, stranger.Token)
	require.NoError(t, err)
	_, err = c.Judge(ctx, db.ID, stranger)
	require.NoError(t, err)
}

// Who only looks judges alike and writes nothing, an adoption included.
func TestLookWritesNothing(t *testing.T) {
	t.Parallel()
	env, ctx := jobstest.New(t), context.Background()
	db := env.Database("acme", jobstest.DatabaseOpts{})
	c, err := centre.Look(ctx, env.Pool)
	require.NoError(t, err)
	foreign := tenantdb.Mark{Centre: "1/2/3"}
	_, err = c.Judge(ctx, db.ID, foreign)
	require.ErrorIs(t, err, tenantdb.ErrWrongCentre)
	_, err = env.Pool.Exec(ctx, `INSERT INTO headgate.adoptions (database_id, centre) VALUES ($1, headgate.centre_mark())`, db.ID)
	require.NoError(t, err)
	for _, found := range []tenantdb.Mark{{}, c.Now(), foreign} {
		leave, err := c.Judge(ctx, db.ID, found)
		require.NoError(t, err)
		require.Zero(t, leave)
	}
	var tokens, untouched int
	require.NoError(t, env.Pool.QueryRow(ctx, `SELECT (SELECT count(*) FROM headgate.centre_tokens), (SELECT count(*) FROM headgate.adoptions WHERE found IS NULL)`).Scan(&tokens, &untouched))
	require.Zero(t, tokens)
	require.Equal(t, 1, untouched)
}

// An adoption holds for what is found first, and for nobody else.
func TestAnAdoptionHoldsForWhatIsFoundFirst(t *testing.T) {
	t.Parallel()
	env, ctx := jobstest.New(t), context.Background()
	db := env.Database("acme", jobstest.DatabaseOpts{})
	c := start(t, env)
	decide := func(mark string) {
		_, err := env.Pool.Exec(ctx, `INSERT INTO headgate.adoptions (database_id, centre) VALUES ($1, $2) ON CONFLICT (database_id) DO UPDATE SET centre = $2`, db.ID, mark)
		require.NoError(t, err)
	}
	decide("of a copy")
	first, then := tenantdb.Mark{Centre: "1/2/3"}, tenantdb.Mark{Centre: "1/2/3", Token: made(0)}
	_, err := c.Judge(ctx, db.ID, first)
	require.ErrorIs(t, err, tenantdb.ErrWrongCentre, "another centre's decision")
	decide(c.Now().Centre)
	for range 2 { // a worker died in between
		leave, err := c.Judge(ctx, db.ID, first)
		require.NoError(t, err)
		require.Equal(t, c.Now(), leave)
	}
	_, err = c.Judge(ctx, db.ID, then)
	require.ErrorIs(t, err, tenantdb.ErrWrongCentre, "it has changed hands again")
}

// An adoption that could not be forgotten when it was carried out is forgotten by the next
// who finds this centre's mark; the others' databases have nothing to ask meanwhile.
func TestAnAdoptionThatIsCarriedOutIsForgotten(t *testing.T) {
	t.Parallel()
	env, ctx := jobstest.New(t), context.Background()
	done, waits := env.Database("done", jobstest.DatabaseOpts{}), env.Database("waits", jobstest.DatabaseOpts{})
	c := start(t, env)
	_, err := env.Pool.Exec(ctx, `INSERT INTO headgate.adoptions (database_id, centre, found) SELECT id, headgate.centre_mark(), '1/2/3 ' FROM headgate.databases`)
	require.NoError(t, err)
	open := func() (ids []string) {
		require.NoError(t, env.Pool.QueryRow(ctx, `SELECT array_agg(database_id::text) FROM headgate.adoptions`).Scan(&ids))
		return ids
	}
	require.NoError(t, c.Refresh(ctx))
	for range 2 {
		leave, err := c.Judge(ctx, done.ID, c.Now())
		require.NoError(t, err)
		require.Zero(t, leave)
		require.Equal(t, []string{waits.ID}, open())
	}
	tx, err := env.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(ctx) }()
	_, err = tx.Exec(ctx, `LOCK TABLE headgate.adoptions IN ACCESS EXCLUSIVE MODE`)
	require.NoError(t, err)
	_, err = c.Judge(ctx, done.ID, c.Now())
	require.NoError(t, err, "nobody is asked")
}
