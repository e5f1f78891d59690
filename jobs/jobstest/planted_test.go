package jobstest_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
)

// alarm is a test that notes that it has failed, and what it was to do at its end.
type alarm struct {
	testing.TB
	told string
	ends []func()
}

func (a *alarm) Errorf(format string, args ...any) { a.told += fmt.Sprintf(format, args...) }
func (a *alarm) Helper()                           {}
func (a *alarm) Cleanup(f func())                  { a.ends = append(a.ends, f) }

func (a *alarm) end() {
	for i := len(a.ends) - 1; i >= 0; i-- {
		a.ends[i]()
	}
}

// The control of what all tests rest on: a secret that is told in any of the places where
// the kit looks is found there, and a suite that tells none is left alone.
func TestAPlantedSecretIsFound(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	secret := jobstest.Planted + "-and-more"
	for where, c := range map[string]struct {
		leak func(*testing.T, *jobstest.Env, *jobstest.Database)
		says string
	}{
		"nowhere": {func(*testing.T, *jobstest.Env, *jobstest.Database) {}, ""},
		"a log": {func(_ *testing.T, env *jobstest.Env, _ *jobstest.Database) {
			env.Log.Debug("connecting", "error", errors.New(secret))
		}, "a log"},
		"an attribute": {func(_ *testing.T, env *jobstest.Env, _ *jobstest.Database) {
			env.Log.With("to", struct{ Password any }{secret}).WithGroup("g").Info("connecting")
		}, "a log"},
		"bytes in a log": {func(_ *testing.T, env *jobstest.Env, _ *jobstest.Database) {
			env.Log.Warn(fmt.Sprintf("%d", []byte(secret)))
		}, "a log"},
		"an address in a log": {func(_ *testing.T, env *jobstest.Env, _ *jobstest.Database) {
			env.Log.Warn("a person", "email", jobstest.PlantedEmail)
		}, "a log"},
		"the queue": {func(t *testing.T, env *jobstest.Env, _ *jobstest.Database) {
			_, err := env.Pool.Exec(ctx, `INSERT INTO river_job (kind, args, max_attempts, metadata) VALUES ('k', jsonb_build_object('p', $1::text), 1, '{}')`, secret)
			require.NoError(t, err)
		}, "a row of river_job"},
		"bytes of the catalog": {func(t *testing.T, env *jobstest.Env, _ *jobstest.Database) {
			_, err := env.Pool.Exec(ctx, `CREATE TABLE headgate.leaky AS SELECT convert_to($1, 'UTF8') AS sealed`, secret)
			require.NoError(t, err)
		}, "a row of headgate.leaky"},
		"the ledger": {func(t *testing.T, _ *jobstest.Env, db *jobstest.Database) {
			_, err := db.Pool.Exec(ctx, `INSERT INTO headgate.ledger (org_id, job_uid, state, result, done_at) VALUES (1, gen_random_uuid(), 'done', jsonb_build_object('output', $1::text), now())`, jobstest.PlantedEmail)
			require.NoError(t, err)
		}, "a row of headgate.ledger"},
		"a session": {func(t *testing.T, env *jobstest.Env, _ *jobstest.Database) {
			conn, err := pgx.Connect(ctx, env.URL)
			require.NoError(t, err)
			t.Cleanup(func() { _ = conn.Close(ctx) })
			_, err = conn.Exec(ctx, `SELECT '`+secret+`'`, pgx.QueryExecModeSimpleProtocol)
			require.NoError(t, err)
		}, "a row of pg_stat_activity"},
		"a job's session": {func(t *testing.T, env *jobstest.Env, db *jobstest.Database) {
			cfg, err := pgx.ParseConfig(jobstest.ServerURL(t, db.Job.Database))
			require.NoError(t, err)
			cfg.User, cfg.Password = db.Job.User, db.Job.Password.Reveal()
			conn, err := pgx.ConnectConfig(ctx, cfg)
			require.NoError(t, err)
			t.Cleanup(func() { _ = conn.Close(ctx) })
			_, err = conn.Exec(ctx, `SELECT '`+secret+`'`, pgx.QueryExecModeSimpleProtocol)
			require.NoError(t, err)
		}, "a row of pg_stat_activity"},
	} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			a := &alarm{TB: t}
			env := jobstest.NewOn(a, jobstest.Direct(t))
			db := env.Database("one", jobstest.DatabaseOpts{On: jobstest.Direct(t)})
			require.Contains(t, db.Job.Password.Reveal(), jobstest.Planted)
			env.Tenant("acme", "one")
			c.leak(t, env, db)
			a.end()
			if c.says == "" {
				require.Empty(t, a.told)
			} else {
				require.Contains(t, a.told, c.says+": a planted secret is told", a.told)
			}
		})
	}
}

// A secret that is written in two parts, or in another form, is found too.
func TestWhatIsWrittenInPartsIsSearched(t *testing.T) {
	t.Parallel()
	for _, form := range []string{jobstest.Planted, jobstest.PlantedEmail, hex.EncodeToString([]byte(jobstest.Planted)), fmt.Sprintf("%X", jobstest.Planted), fmt.Sprintf("%d", []byte(jobstest.PlantedEmail))} {
		for cut := range len(form) {
			a := &alarm{TB: t}
			w := jobstest.SearchedWriter(a, "here", io.Discard)
			for _, part := range []string{"before " + form[:cut], form[cut:], " after", " and later"} {
				_, err := io.WriteString(w, part)
				require.NoError(t, err)
			}
			require.Contains(t, a.told, "here: a planted secret is told", "%s at %d", form, cut)
		}
	}
	a := &alarm{TB: t}
	jobstest.SearchedLogger(a, slog.New(slog.DiscardHandler)).Info("nothing", "password", "[redacted]")
	require.Empty(t, a.told)
}
