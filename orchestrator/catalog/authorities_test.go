package catalog_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest/tlstest"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// certificate is one in PEM form, of an authority unless it is a server's.
func certificate(t testing.TB, name string, ca bool, from, until time.Time) []byte {
	t.Helper()
	return []byte(tlstest.SelfSigned(t, name, ca, from, until).PEM)
}

var hour = time.Hour

func ours(t testing.TB, name string) []byte {
	return certificate(t, name, true, time.Now().Add(-hour), time.Now().Add(hour))
}

// An authority is kept, named by addresses, given to who connects, replaced for all, and
// forgotten when nobody names it.
func TestAuthorities(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	authorities := catalog.NewAuthorities(b.pool)
	first, second := ours(t, "first"), ours(t, "second")
	added, err := authorities.Add(ctx, catalog.AuthorityParams{Name: "our-ca.1", PEM: append([]byte("subject=first\n"), first...), Actor: "ada"})
	require.NoError(t, err)
	require.Len(t, added.Fingerprints, 1)
	_, err = authorities.Add(ctx, catalog.AuthorityParams{Name: "our-ca.1", PEM: second})
	require.ErrorIs(t, err, catalog.ErrExists)
	require.EqualError(t, err, `certificate authority "our-ca.1" exists already; with --replace this one takes its place`)

	b.addServer(t)
	params := databaseParams("acme", catalog.KindShared)
	params.Job.RootCert, params.Owner.RootCert = "our-ca.1", "nobody"
	_, err = b.AddDatabase(ctx, params)
	require.ErrorIs(t, err, catalog.ErrUnknownAuthority)
	require.EqualError(t, err, "add database: sslrootcert: unknown certificate authority \"nobody\": `headgate ca add nobody FILE` adds it")
	params.Owner.RootCert = ""
	_, err = b.AddDatabase(ctx, params)
	require.NoError(t, err)

	place, err := b.ResolveDatabase(ctx, "acme", jobs.LoginJob)
	require.NoError(t, err)
	a, err := place.Open(ctx)
	require.NoError(t, err)
	require.Equal(t, string(first), a.Roots, "the certificates alone")
	owner, err := b.ResolveDatabase(ctx, "acme", jobs.LoginOwner)
	require.NoError(t, err)
	a, err = owner.Open(ctx)
	require.NoError(t, err)
	require.Empty(t, a.Roots)

	err = authorities.Remove(ctx, "our-ca.1")
	require.ErrorIs(t, err, catalog.ErrAuthorityInUse)
	require.ErrorContains(t, err, `is named by the addresses of "acme"`)
	_, err = authorities.Add(ctx, catalog.AuthorityParams{Name: "our-ca.1", PEM: slicesJoin(first, second), Replace: true})
	require.NoError(t, err)
	all, next, err := authorities.List(ctx, jobs.Page{})
	require.NoError(t, err)
	require.Empty(t, next)
	require.Len(t, all, 1)
	require.Equal(t, []any{2, 1, added.Fingerprints[0]}, []any{len(all[0].Fingerprints), all[0].Databases, all[0].Fingerprints[0]})

	a, err = place.Open(ctx)
	require.NoError(t, err)
	require.Equal(t, string(first), a.Roots, "it is remembered")
	b.At(func() time.Time { return time.Now().Add(11 * time.Second) })
	a, err = place.Open(ctx)
	require.NoError(t, err)
	require.Equal(t, string(first)+string(second), a.Roots)

	// Every one of the four addresses keeps it.
	for _, set := range []func(name string) error{
		func(name string) error {
			l := login("acme_job", "acme")
			l.RootCert = name
			return b.Logins().Set(ctx, "acme", jobs.LoginJob, l)
		},
		func(name string) error {
			l := login("acme_owner", "acme")
			l.RootCert = name
			return b.Logins().Set(ctx, "acme", jobs.LoginOwner, l)
		},
		func(name string) error {
			l := login("acme_job", "acme")
			l.RootCert = name
			return b.Logins().SetDirect(ctx, "acme", jobs.LoginJob, l)
		},
		func(name string) error {
			l := login("acme_owner", "acme")
			l.RootCert = name
			return b.Logins().SetDirect(ctx, "acme", jobs.LoginOwner, l)
		},
	} {
		require.ErrorIs(t, set("nobody"), catalog.ErrUnknownAuthority)
		require.NoError(t, set("our-ca.1"))
		require.ErrorIs(t, authorities.Remove(ctx, "our-ca.1"), catalog.ErrAuthorityInUse)
		require.NoError(t, set(""))
	}
	require.NoError(t, authorities.Remove(ctx, "our-ca.1"))
	require.ErrorIs(t, authorities.Remove(ctx, "our-ca.1"), catalog.ErrUnknownAuthority)
}

func slicesJoin(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// What is remembered is given while the central database is away, for a while.
func TestAuthoritiesThroughAnOutage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	_, err := catalog.NewAuthorities(b.pool).Add(ctx, catalog.AuthorityParams{Name: "ours", PEM: ours(t, "ours")})
	require.NoError(t, err)
	b.addServer(t)
	params := databaseParams("acme", catalog.KindShared)
	params.Job.RootCert = "ours"
	_, err = b.AddDatabase(ctx, params)
	require.NoError(t, err)
	own, err := pgxpool.NewWithConfig(ctx, b.pool.Config())
	require.NoError(t, err)
	c := catalog.New(own, b.Ring())
	place, err := c.ResolveDatabase(ctx, "acme", jobs.LoginJob)
	require.NoError(t, err)
	before, err := place.Open(ctx)
	require.NoError(t, err)
	own.Close()
	c.At(func() time.Time { return time.Now().Add(4 * time.Minute) })
	after, err := place.Open(context.WithoutCancel(ctx))
	require.NoError(t, err)
	require.Equal(t, before, after)
	c.At(func() time.Time { return time.Now().Add(6 * time.Minute) })
	_, err = place.Open(ctx)
	require.ErrorContains(t, err, "reading certificate authority")
}

func TestAuthoritiesRefuse(t *testing.T) {
	t.Parallel()
	b := setup(t)
	now := time.Now()
	good := string(ours(t, "good"))
	private := "-----BEGIN " + "PRIVATE KEY-----\nUExBTlRFRA==\n-----END " + "PRIVATE KEY-----\n"
	for says, text := range map[string]string{
		"holds no certificate in PEM form":                    "hello PLANTED",
		"holds no certificate in PEM form ":                   "",
		"holds a private key":                                 good + private,
		"holds a private key, which no one":                   strings.ReplaceAll(private, "PRIVATE", "ENCRYPTED PRIVATE"),
		"holds something else than certificates":              strings.ReplaceAll(good, "CERTIFICATE", "CERTIFICATE REQUEST"),
		"certificate 2 cannot be read":                        good + "-----BEGIN CERTIFICATE-----\nUExBTlRFRA==\n-----END CERTIFICATE-----\n",
		`certificate 1 ("CN=server") is no authority's`:       string(certificate(t, "server", false, now.Add(-hour), now.Add(hour))),
		`certificate 1 ("CN=old") expired on `:                string(certificate(t, "old", true, now.Add(-2*hour), now.Add(-hour))),
		`certificate 1 ("CN=new") is valid from `:             string(certificate(t, "new", true, now.Add(48*hour), now.Add(96*hour))),
		"it holds more than 64 certificates":                  strings.Repeat(good, 65),
		"it is 262145 bytes long, at most 262144 are allowed": strings.Repeat("x", 256<<10+1),
	} {
		_, err := catalog.NewAuthorities(b.pool).Add(t.Context(), catalog.AuthorityParams{Name: "x", PEM: []byte(text)})
		require.ErrorContains(t, err, strings.TrimSpace(says))
		require.NotContains(t, fmt.Sprintf("%+v", err), "PLANTED")
		require.NotContains(t, err.Error(), "UExBTlRFRA")
		require.Equal(t, jobs.CodeInvalidInput, jobs.CodeOf(err))
	}
	for _, name := range []string{"", "a b", "a/b", "../x", "-x", "x-", strings.Repeat("x", 64)} {
		_, err := catalog.NewAuthorities(b.pool).Add(t.Context(), catalog.AuthorityParams{Name: name, PEM: []byte(good)})
		require.ErrorContains(t, err, "give up to 63 letters, digits, . _ and -, without a - at either end")
	}
	all, _, err := catalog.NewAuthorities(b.pool).List(t.Context(), jobs.Page{})
	require.NoError(t, err)
	require.Empty(t, all, "nothing was written")
	_, err = b.pool.Exec(t.Context(), `INSERT INTO headgate.certificate_authorities (name, pem, fingerprints, not_after) VALUES ('x', $1, '{x}', now())`, private)
	require.ErrorContains(t, err, "certificate_authorities_pem_check", "the database refuses a private key by itself")
}
