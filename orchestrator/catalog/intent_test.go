package catalog_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// session is a connection of its own to the central database.
func (b bundle) session(t *testing.T) *pgx.Conn {
	t.Helper()
	conn, err := pgx.ConnectConfig(t.Context(), b.pool.Config().ConnConfig.Copy())
	require.NoError(t, err)
	return conn
}

func (b bundle) hold(t *testing.T, name string) *catalog.IntentHold {
	t.Helper()
	h, err := catalog.HoldIntent(t.Context(), b.session(t), name, time.Minute, nil)
	require.NoError(t, err)
	t.Cleanup(func() { h.Close(context.Background()) })
	return h
}

func intended(name string) catalog.IntentParams {
	return catalog.IntentParams{Name: name, Server: "main", Kind: catalog.KindShared, Creates: true, Actor: "ana"}
}

// An intent is written, found, noted and ended by the run that holds it.
func TestIntent(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	b := setup(t)
	b.addServer(t)
	ring := ringOf(t, "k1")
	h := b.hold(t, "acme")
	_, err := h.Find(ctx)
	require.ErrorIs(t, err, catalog.ErrNoIntent)
	require.ErrorIs(t, h.Step(ctx, "roles"), catalog.ErrNoIntent, "nobody begins a step of what is gone")

	begun, passwords, err := h.Begin(ctx, ring, intended("acme"))
	require.NoError(t, err)
	require.Equal(t, []string{"acme_app", "acme_headgate", "acme_job"}, begun.Roles())
	found, err := h.Find(ctx)
	require.NoError(t, err)
	require.Equal(t, begun, found)
	opened, err := h.Passwords(ctx, ring)
	require.NoError(t, err)
	require.Equal(t, passwords, opened)
	require.NotEqual(t, passwords.Job, passwords.App)
	_, err = h.Passwords(ctx, ringOf(t, "k2"))
	require.ErrorIs(t, err, address.ErrUndecryptable)

	require.NoError(t, h.Failed(ctx, strings.Repeat("ä", 2000)+"\x00"))
	require.NoError(t, h.Step(ctx, "database"))
	all, next, err := catalog.Intents(ctx, b.pool, jobs.Page{})
	require.NoError(t, err)
	require.Empty(t, next)
	require.Equal(t, "database", all[0].Step)
	require.Empty(t, all[0].Error)
	keys, err := catalog.NewKeys(b.pool, ring).List(ctx)
	require.NoError(t, err)
	require.Equal(t, 3, keys[0].Seals, "the intent's passwords count")

	_, err = b.AddDatabase(ctx, databaseParams("acme", catalog.KindShared))
	require.ErrorIs(t, err, catalog.ErrExists)
	require.ErrorContains(t, err, "is being made, as acme: `headgate database create acme` goes on")
	other := b.hold(t, "other")
	params := intended("other")
	params.DBName = "acme"
	_, _, err = other.Begin(ctx, ring, params)
	require.ErrorIs(t, err, catalog.ErrExists)

	require.EqualError(t, h.End(ctx, func(pgx.Tx) error { return fmt.Errorf("no") }), `end the intent of database "acme": no`)
	_, err = h.Find(ctx)
	require.NoError(t, err, "the end and what it writes are one")
	require.NoError(t, h.End(ctx, func(tx pgx.Tx) error {
		_, err := b.AddDatabaseTx(ctx, tx, databaseParams("acme", catalog.KindShared))
		return err
	}))
	require.ErrorIs(t, h.Check(ctx, intended("acme")), catalog.ErrExists)
	require.ErrorIs(t, h.End(ctx, nil), catalog.ErrNoIntent)
	params.Server = "none"
	require.ErrorIs(t, other.Check(ctx, params), catalog.ErrUnknownServer)
}

// One run holds an intent. Another one waits, and hears of it; who has lost the session
// begins no further step.
func TestIntentIsHeldByOne(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	b := setup(t)
	b.addServer(t)
	first := b.session(t)
	h, err := catalog.HoldIntent(ctx, first, "acme", time.Minute, nil)
	require.NoError(t, err)
	_, _, err = h.Begin(ctx, ringOf(t, "k1"), intended("acme"))
	require.NoError(t, err)
	waited := 0
	_, err = catalog.HoldIntent(ctx, b.session(t), "acme", time.Millisecond, func() { waited++ })
	require.ErrorIs(t, err, catalog.ErrHeld)
	require.Equal(t, 1, waited)
	b.hold(t, "other")

	var bound string
	require.NoError(t, b.pool.QueryRow(ctx, `SELECT count(*)::text FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' AND a.datname = current_database()`).Scan(&bound))
	require.Equal(t, "2", bound)
	_, err = b.pool.Exec(ctx, `SELECT pg_terminate_backend($1)`, first.PgConn().PID()) // as when it is frozen
	require.NoError(t, err)
	b.hold(t, "acme")
	require.Error(t, h.Step(ctx, "roles"))
	require.NoError(t, h.Failed(ctx, "it cannot be noted"))
	h.Close(ctx)
}
