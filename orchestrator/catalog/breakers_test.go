package catalog_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest/tlstest"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// A changed address is tried at once: the breakers of what was mended go with the change, and
// nobody else's do.
func TestAChangedAddressResetsItsBreakers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, h := t.Context(), b.Hosting()
	b.addServer(t)
	b.addTenant(t, "acme")
	b.addTenant(t, "brick")
	all := []string{"acme", "brick", "main"}
	breakAll := func() {
		t.Helper()
		b.sql(t, `DELETE FROM headgate.breakers`)
		b.sql(t, `INSERT INTO headgate.breakers (scope, id, until, class) SELECT 'server', id, now(), 'unreachable' FROM headgate.servers UNION ALL SELECT 'database', id, now(), 'wrong_database' FROM headgate.databases`)
	}
	broken := func() (names []string) {
		t.Helper()
		rows, err := b.pool.Query(ctx, `SELECT coalesce(s.name, d.name) FROM headgate.breakers b LEFT JOIN headgate.servers s ON s.id = b.id LEFT JOIN headgate.databases d ON d.id = b.id ORDER BY 1`)
		require.NoError(t, err)
		names, err = pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		return names
	}
	direct := login("acme_job", "acme")
	direct.Port = 6432
	attachment := catalog.Reattachment{Database: "acme", Job: login("acme_job", "acme"), Owner: login("acme_owner", "acme")}
	to := catalog.HostReplacement{Server: "main", Old: "db1.example.com", New: "db2.example.com"}
	dry := to
	dry.DryRun = true
	certificate := []byte(tlstest.NewAuthority(t, "ours").PEM)
	addCA := func(replace bool) error {
		_, err := catalog.NewAuthorities(b.pool).Add(ctx, catalog.AuthorityParams{Name: "ours", PEM: certificate, Replace: replace})
		return err
	}
	replaceCA := func() error { return addCA(true) }
	require.NoError(t, addCA(false))
	for _, c := range []struct {
		name   string
		change func() error
		left   []string
	}{
		{"nothing", func() error { return nil }, all},
		{"login", func() error { return b.Logins().Set(ctx, "acme", jobs.LoginJob, login("acme_job", "acme")) }, []string{"brick", "main"}},
		{"direct", func() error { return b.Logins().SetDirect(ctx, "acme", jobs.LoginJob, direct) }, []string{"brick", "main"}},
		{"reattach", func() error { _, err := h.Reattach(ctx, attachment); return err }, []string{"brick", "main"}},
		{"adopt, dry run", func() error {
			_, err := b.Adopt(ctx, catalog.AdoptParams{Database: "acme", DryRun: true})
			return err
		}, all},
		{"adopt of what is not another's", func() error { _, err := b.Adopt(ctx, catalog.AdoptParams{All: true}); return err }, all},
		{"adopt", func() error {
			b.sql(t, `UPDATE headgate.breakers SET class = 'wrong_centre' WHERE scope = 'database'`)
			_, err := b.Adopt(ctx, catalog.AdoptParams{Database: "acme"})
			return err
		}, []string{"brick", "main"}},
		{"adopt all", func() error {
			b.sql(t, `UPDATE headgate.breakers SET class = 'wrong_centre' WHERE scope = 'database'`)
			_, err := b.Adopt(ctx, catalog.AdoptParams{All: true})
			return err
		}, []string{"main"}},
		{"ca of nobody", replaceCA, all},
		{"ca", func() error {
			b.sql(t, `UPDATE headgate.databases SET job_ca = 'ours' WHERE name = 'acme'`)
			b.sql(t, `UPDATE headgate.breakers SET class = 'unreachable'`)
			return replaceCA()
		}, []string{"brick"}},
		{"install", func() error { return h.ResetBreaker(ctx, "acme") }, []string{"brick", "main"}},
		{"host, dry run", func() error { _, err := h.ReplaceHost(ctx, dry); return err }, all},
		{"host", func() error { _, err := h.ReplaceHost(ctx, to); return err }, nil},
	} {
		breakAll()
		require.NoError(t, c.change(), c.name)
		require.ElementsMatch(t, c.left, broken(), c.name)
	}
	breakAll()
	undone := errors.New("undone")
	err := pgx.BeginFunc(context.WithoutCancel(ctx), b.pool, func(tx pgx.Tx) error {
		attachment.Job, attachment.Owner = b.opened(t, "acme", jobs.LoginJob), b.opened(t, "acme", jobs.LoginOwner)
		if _, err := h.ReattachTx(ctx, tx, attachment); err != nil {
			return err
		}
		return undone
	})
	require.ErrorIs(t, err, undone)
	require.Equal(t, all, broken(), "a change that is taken back takes the reset back")
}
